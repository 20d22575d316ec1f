"""One run, in a process of its own: ``python -m gcheap.compare.worker FOLDER`` with a job on
standard input, its result on standard output; both JSON.

A result is {"run": {...}} (see gcheap/schema/compare-1.json), {"unavailable": why} or
{"failed": why}; what is foreseen by nobody ends the process.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gcheap import bridge
from gcheap._errors import GcheapError, Unsupported
from gcheap._memory import meminfo
from gcheap.compare.check import problem_of
from gcheap.compare.inputs import Prepared, read_prepared
from gcheap.compare.measure import (
    GAP_NS,
    Windows,
    find_windows,
    minimum_utilisation,
    rate_within,
    stall_figures,
    timeline,
)
from gcheap.compare.memory import MoveWatch, PeakMeter, physical_bytes
from gcheap.compare.rows import CONTROL, Row
from gcheap.heap import Heap
from gcheap.refs import RefArray
from gcheap.stats import GCEvent, HeapStats
from gcheap.workloads import Beside, BesideResult

__all__ = ["heap_limit", "main", "run_row"]

EVENTS_KEPT = 1 << 16
MINORS_BETWEEN = 2
"""Minor collections after each step of ageing."""


class NotHereError(Exception):
    """The row cannot be had: the mover, or the mode with it, does something else here."""


def heap_limit(graph_bytes: int) -> int:
    """Return the maximum of the heap for a graph.

    None begins by itself (``growth``): with all of it in use one would in the pause.
    """
    return 3 * graph_bytes + (128 << 20)


def main() -> None:
    """Do the job on standard input."""
    job = json.load(sys.stdin)
    row = Row(**job["row"])
    prepared = read_prepared(Path(sys.argv[1]))
    result: dict[str, Any]
    try:
        repeat, quiet_s = int(job["repeat"]), float(job["quiet_s"])
        options = job.get("heap_options", {})
        result = {"run": run_row(prepared, row, repeat, quiet_s, options)}
    except (Unsupported, NotHereError) as error:
        result = {"unavailable": str(error)}
    except (GcheapError, MemoryError) as error:
        result = {"failed": str(error) or type(error).__name__}
    json.dump(result, sys.stdout, allow_nan=False)


def run_row(
    prepared: Prepared,
    row: Row,
    repeat: int,
    quiet_s: float,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Load, age, compact beside the mutator, verify; return the run's figures.

    Args:
        prepared: the input.
        row: what to do.
        repeat: number of this run of the row, from 0.
        quiet_s: how long the mutator runs before and after.
        options: further arguments of ``Heap``.

    Raises:
        Unsupported, NotHereError: not here.
    """
    baseline = physical_bytes()
    limit = heap_limit(prepared.ageing.graph.nbytes)
    with Heap(
        limit,
        mover=row.mover,
        fault=row.faults,
        huge=row.huge,
        event_capacity=EVENTS_KEPT,
        growth=math.inf,
        **(options or {}),
    ) as heap:
        _check_mover(heap, row)
        table = _aged(heap, prepared)
        aged_by = heap.stats.major_count
        beside = Beside(heap, table, prepared.schedule, gap_ns=GAP_NS)
        before, allocated = physical_bytes() - baseline, heap.stats.allocated_bytes
        free = meminfo().get("MemFree", 0)
        watch = MoveWatch(heap)
        with PeakMeter() as meter, beside:
            time.sleep(quiet_s)
            cycle, called = _collect(heap, row, quiet_s, watch)
            time.sleep(quiet_s)
        seen = beside.result
        assert seen is not None  # the with above ended
        stats = heap.stats
        windows = find_windows(heap.events(), cycle, called)
        moving = watch.figures(cycle, windows, baseline)
        peak = max(meter.peak, watch.peak_before) - baseline
        memory = {
            "physical_before": before,
            "physical_after": physical_bytes() - baseline,
            "physical_peak": max(peak, moving["physical_peak_moving"] or 0),
            **moving,
            "allocated_bytes": stats.allocated_bytes - allocated,
            "staging_bytes": stats.staging_bytes,
            "mem_free_before": free,
        }
        figures = _figures(cycle, windows, seen, called, stats)
        problem = problem_of(heap, table, prepared.shadow, prepared.schedule, seen)
        del table, beside
    return {
        **row.as_json(),
        "repeat": repeat,
        **memory,
        **figures,
        "note": _note(cycle, row, aged_by),
        "verified": not problem,
        "problem": problem,
    }


def _check_mover(heap: Heap, row: Row) -> None:
    stats = heap.stats
    if stats.mover != row.mover:
        raise NotHereError(f"{stats.mover} was used instead: {stats.mover_reason}")
    if stats.fault_mode != row.faults:
        raise NotHereError(f"faults are answered by {stats.fault_mode} instead")
    if stats.huge != row.huge:
        raise NotHereError(f"with this mover huge pages are {'on' if stats.huge else 'off'}")


def _aged(heap: Heap, prepared: Prepared) -> RefArray:
    table = bridge.load(heap, prepared.ageing.graph)
    _minors(heap)
    bridge.drop(table, prepared.ageing)
    _minors(heap)
    bridge.refill(heap, table, prepared.ageing)
    _minors(heap)
    return table


def _minors(heap: Heap) -> None:
    for _ in range(MINORS_BETWEEN):
        heap.collect(minor=True)


def _collect(
    heap: Heap, row: Row, quiet_s: float, watch: MoveWatch
) -> tuple[GCEvent | None, tuple[int, int]]:
    if row.mode == CONTROL:
        began = time.monotonic_ns()
        time.sleep(quiet_s)
        return None, (began, time.monotonic_ns())
    concurrent = row.mode == "concurrent"
    with watch:
        began = time.monotonic_ns()
        cycle = heap.collect(concurrent=concurrent, policy=row.policy)  # type: ignore[arg-type]
        ended = time.monotonic_ns()
    return cycle, (began, ended)


def _figures(
    cycle: GCEvent | None,
    windows: Windows,
    seen: BesideResult,
    called: tuple[int, int],
    stats: HeapStats,
) -> dict[str, Any]:
    quiet = (seen.start_ns, called[0])
    return {
        **_cycle_figures(cycle),
        "stalls": {**stall_figures(seen.gaps, windows), "attributed": _attributed(stats)},
        "mmu_1ms": minimum_utilisation(seen.gaps, windows.cycle, 0.001),
        "mmu_10ms": minimum_utilisation(seen.gaps, windows.cycle, 0.010),
        "mmu_100ms": minimum_utilisation(seen.gaps, windows.cycle, 0.100),
        "mmu_10ms_moving": (
            None if windows.move is None else minimum_utilisation(seen.gaps, windows.move, 0.010)
        ),
        "mutator_rate": rate_within(seen, windows.cycle),
        "mutator_rate_moving": None if windows.move is None else rate_within(seen, windows.move),
        "mutator_rate_quiet": rate_within(seen, quiet),
        "timeline": timeline(seen, windows, called),
        "mem_free": meminfo().get("MemFree", 0),
    }


def _note(cycle: GCEvent | None, row: Row, aged_by: int) -> str:
    """Say what was other than asked for."""
    if aged_by:
        return f"{aged_by} major collections ran while the heap aged: it was compact before"
    if cycle is None or cycle.reason:
        return "" if cycle is None else cycle.reason
    return "done in the pause" if row.mode == "concurrent" and not cycle.concurrent else ""


def _attributed(stats: HeapStats) -> dict[str, Any] | None:
    """Return the stalls that were counted in the move phase, of any length."""
    stalls = stats.stall_move
    if not stalls.count:
        return None
    return {
        "count": stalls.count,
        "total_s": stalls.total,
        "p50_s": stalls.p50,
        "p99_s": stalls.p99,
        "longest_s": stalls.max,
    }


def _cycle_figures(cycle: GCEvent | None) -> dict[str, Any]:
    """Return a cycle's own figures, zeros for the control row."""
    zero = cycle is None

    def of(name: str) -> Any:
        return 0 if zero else getattr(cycle, name)

    return {
        "live_bytes": of("live_bytes"),
        "heap_bytes_before": of("heap_bytes_before"),
        "heap_bytes_after": of("heap_bytes_after"),
        "mark_s": of("mark_s"),
        "plan_s": of("plan_s"),
        "pause_flip_s": of("flip_s"),
        "move_s": of("move_s"),
        "cycle_s": of("cycle_s"),
        "pauses": {
            "count": of("pauses"),
            "total_s": of("pause_s"),
            "longest_s": of("pause_longest_s"),
            "safepoint_longest_s": of("safepoint_longest_s"),
        },
        "collector_cpu_s": of("collector_cpu_s"),
        "units": of("units"),
        "pages_moved": of("pages_moved"),
        "arenas_moved": of("arenas_moved"),
        "blocks_evacuated": of("blocks_evacuated"),
        "bytes_copied": of("bytes_copied"),
        "bytes_released": of("bytes_released"),
        "faults_served": of("faults_served"),
        "refusals": {} if cycle is None else cycle.refusals,
    }


if __name__ == "__main__":
    main()
