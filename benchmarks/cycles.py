"""What runs apart: a heap, a loop beside it, collections; figures as JSON. See apart.py.

The loop stays on one CPU (``pin``): ``loop``: everything else may run on all of them, and in a
pause it does; ``apart``: on the others only, so that what the loop loses outside of pauses it loses
to the collector and not to the scheduler. All times are seconds on the loop's own clock, unless
they are of a ``GCEvent``.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._ffi import lib, text
from gcheap.compare.measure import (
    STALL_NS,
    Windows,
    find_windows,
    in_pause,
    minimum_utilisation,
    overlapping,
    rate_within,
    utilisations,
    worst_window,
)
from gcheap.compare.memory import MoveWatch, physical_bytes
from gcheap.heap import Heap
from gcheap.loops import Cache, Loop, LoopResult, Walk
from gcheap.stats import EVENT_KINDS, GCEvent

NS = 1e-9
PAUSE, PHASE = (
    next(kind for kind, name in EVENT_KINDS.items() if name == one) for one in ("pause", "phase")
)
EVENTS_KEPT = 1 << 20
GAPS_KEPT = 1 << 22
SECONDS_KEPT = 600.0
WIDTHS_MS = (1, 10, 100)
SHARES_WIDTH_S, SHARES_PERCENT = 0.01, (0.1, 1, 10, 50)
CONTROL_LEAST_S, CONTROL_MOST_S = 0.5, 10.0
LOOP_NAME = "gcheap-loop"
CHURN_SHORT_SHARE, CHURN_SHORT_MOST = 0.3, 128 << 20
"""Before the loop of a cache begins, so much of what starts a collection is left to it: a share of
what lives, a second or two of allocation at most."""
CHURNS_A_CACHE, CHURNS_MOST = 500, 2000
CYCLE_COMES_S = 60.0
CLUSTER_BYTES = 16 << 20
MIXED_ACROSS = 1 / 16
STAGING_LEAST, STAGING_MOST, STAGING_SHARE = 512 << 10, 32 << 20, 32


def distribution(seconds: npt.ArrayLike) -> dict[str, float]:
    """Describe durations."""
    values = np.asarray(seconds, dtype=np.float64)
    if not len(values):
        return {"count": 0, "p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {
        "count": len(values),
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "max": float(values.max()),
    }


def staging_for(live: int) -> int:
    """Return a budget in proportion: that of a large heap would hide what a small one takes."""
    return min(STAGING_MOST, max(STAGING_LEAST, live // STAGING_SHARE))


# --- the machine ----------------------------------------------------------------------------------


def cpus(pin: str) -> tuple[int | None, set[int]]:
    """Return the CPU of the loop and those of the rest; one CPU is not divided."""
    here = sorted(os.sched_getaffinity(0))
    if pin == "none" or len(here) < 2:
        return None, set(here)
    return here[0], set(here[1:] if pin == "apart" else here)


def keep_to(rest: set[int]) -> None:
    """Let every thread but a loop run on ``rest`` only; threads that they start do, too."""
    for task in Path("/proc/self/task").iterdir():
        try:
            if (task / "comm").read_text(encoding="ascii").strip() != LOOP_NAME:
                os.sched_setaffinity(int(task.name), rest)
        except (OSError, ProcessLookupError):
            continue  # it has ended


def control(seconds: float, pin: str = "loop") -> dict[str, float]:
    """Describe the gaps above 20 us of a loop without a heap."""
    cpu, _ = cpus(pin)
    with Loop(cpu=cpu, seconds=seconds + 1, gap_ns=STALL_NS) as loop:
        time.sleep(seconds)
    assert loop.result is not None
    return distribution(loop.result.gaps["length_ns"] * NS)


# --- a cycle beside a loop ------------------------------------------------------------------------


def walk(live: int, **options: Any) -> dict[str, Any]:
    """A random walk over all that lives; a full collection that is asked for. See ``_beside``."""
    limit = 2 * live + live // 2 + (256 << 20)
    return _beside("walk", live, limit, math.inf, **options)


def lru(live: int, **options: Any) -> dict[str, Any]:
    """A cache in a heap of three times what lives; a full collection that begins by itself."""
    return _beside("lru", live, 3 * live, 1.0, **options)


def steady(live: int, **options: Any) -> dict[str, Any]:
    """The same when one has gone before: it begins by what that has found, in a heap half of which
    is garbage, and has much to move."""
    return _beside("steady", live, 3 * live, 1.0, **options)


def _beside(
    workload: str,
    live: int,
    limit: int,
    growth: float,
    *,
    pages: str = "4k",
    faults: str = "thread",
    quiet_s: float = 1.0,
    pin: str = "loop",
    memory: bool = False,
) -> dict[str, Any]:
    """Run a loop for ``quiet_s``, through a cycle, and a little longer.

    Args:
        workload: walk, lru, steady.
        live: bytes that live.
        limit: of the heap: what the nursery, staging and side tables take is counted in it.
        growth: of the heap.
        pages: 4k, huge.
        faults: thread, signal.
        quiet_s: how long before.
        pin: loop, apart, none.
        memory: what memory the move phase takes is watched, which costs the collector some time.
    """
    cpu, rest = cpus(pin)
    baseline = physical_bytes()
    with Heap(
        _within(limit),
        mover="move",
        fault=faults,
        huge=pages == "huge",
        growth=growth,
        event_capacity=EVENTS_KEPT,
        **({"staging": staging_for(live)} if memory else {}),
    ) as heap:
        options = {"cpu": cpu, "seconds": SECONDS_KEPT, "gap_capacity": GAPS_KEPT}
        loop = (Walk if workload == "walk" else Cache)(heap, live, **options)
        if workload == "steady":
            heap.collect(concurrent=True)
        _prime(heap, loop, live)
        keep_to(rest)
        watch = MoveWatch(heap)
        with ExitStack() as stack:
            if memory:
                stack.enter_context(watch)
            stack.enter_context(loop)
            time.sleep(quiet_s)
            event, called, asked = _cycle(heap, workload)
            time.sleep(0.1)
        loop.check()
        windows = _windows(heap, event, called)
        assert loop.result is not None
        assert event.concurrent, event.reason
        figures = _figures(loop.result, windows, event, quiet_s)
        figures["bounds"] = _bounds(heap, loop.result, windows)
        figures |= watch.figures(event, windows, baseline) if memory else {}
        figures |= {
            "staging_bytes": heap.stats.staging_bytes,
            "table_bytes": heap.stats.table_bytes,
            "asked": asked,
            "huge": pages == "huge",
        }
        del loop, watch
    seconds = min(max(event.cycle_s, CONTROL_LEAST_S), CONTROL_MOST_S)
    return {**figures, "control": control(seconds, pin)}


def _within(limit: int) -> int:
    """Return the maximum of a heap that, with all that belongs to it, takes ``limit`` bytes."""
    with Heap(limit, mover="move") as heap:
        stats = heap.stats
    return max(limit // 2, limit - stats.staging_bytes - limit // 32)


def _prime(heap: Heap, loop: Loop, live: int) -> None:
    """Let a cache age until a collection is near; let cards and young objects be few."""
    heap.wait()
    if isinstance(loop, Cache):
        left = min(CHURN_SHORT_SHARE * live, CHURN_SHORT_MOST)
        for _ in range(CHURNS_MOST):
            stats = heap.stats
            if stats.heap_bytes >= stats.trigger_bytes - left:
                break
            loop.churn(max(1, loop.entries // CHURNS_A_CACHE))
    else:
        for _ in range(3):
            heap.collect(minor=True)
    heap.wait()


def _cycle(heap: Heap, workload: str) -> tuple[GCEvent, tuple[int, int], bool]:
    """Return a collection, when it ran at most, and whether it had to be asked for."""
    began, before = time.monotonic_ns(), heap.stats.major_count
    if workload != "walk":
        while time.monotonic_ns() - began < CYCLE_COMES_S / NS:
            stats = heap.stats
            if stats.major_count > before and stats.last_major is not None:
                return stats.last_major, (began, time.monotonic_ns()), False
            time.sleep(0.02)
    event = heap.collect(concurrent=True)
    return event, (began, time.monotonic_ns()), True


def _windows(heap: Heap, event: GCEvent, called: tuple[int, int]) -> Windows:
    """Return the cycle's windows; it begins with its first pause."""
    events = heap.events()
    windows = find_windows(events, event, called)
    first = events[(events["kind"] == PAUSE) & (events["d"] == event.number)][:1]
    begin = min([windows.cycle[0], *(int(one["time"]) - int(one["a"]) for one in first)])
    return replace(windows, cycle=(begin, windows.cycle[1]))


def _figures(seen: LoopResult, windows: Windows, event: GCEvent, quiet_s: float) -> dict[str, Any]:
    begin = windows.cycle[0]
    quiet = (max(seen.start_ns, begin - int(quiet_s / NS)), begin)
    stalls = seen.gaps[seen.gaps["length_ns"] > STALL_NS]
    figures: dict[str, Any] = {"stalls": {"cycle": _lengths(overlapping(stalls, windows.cycle))}}
    spans = {"cycle": windows.cycle}
    if windows.move is not None:
        within = overlapping(stalls, windows.move)
        figures["stalls"]["move"] = _lengths(within[~in_pause(within, windows.pauses)])
        spans["move"] = windows.move
    assert quiet[1] > quiet[0], "the collection began before the loop"
    spans["quiet"] = quiet
    figures["stalls"]["pauses"] = distribution(
        [(end - at) * NS for at, end in windows.pauses if windows.cycle[0] <= at < windows.cycle[1]]
    )
    figures["mmu"] = {
        name: {str(ms): minimum_utilisation(seen.gaps, span, ms * 1e-3) for ms in WIDTHS_MS}
        for name, span in spans.items()
    }
    figures["shares"] = {
        name: _quantiles(utilisations(seen.gaps, span, SHARES_WIDTH_S))
        for name, span in spans.items()
    }
    figures["rates"] = {name: rate_within(seen, span) for name, span in spans.items()}
    figures["lost_gaps"] = seen.gap_count - len(seen.gaps)
    figures["misses"] = seen.misses
    names = ("live_bytes", "mark_s", "plan_s", "move_s", "cycle_s", "faults_served", "flip_s")
    pauses = ("mark_pause_s", "mark_minor_s", "remark_s", "flip_minor_s", "safepoint_longest_s")
    more = (
        *pauses,
        "blocks_evacuated",
        "pages_moved",
        "collector_cpu_s",
        "move_cpu_s",
        "units_unread",
    )
    return {**figures, **{name: getattr(event, name) for name in (*names, *more)}}


def _quantiles(shares: npt.NDArray[np.float64]) -> dict[str, float]:
    if not len(shares):
        return {}
    found = np.percentile(shares, SHARES_PERCENT)
    return {f"p{at:g}": float(value) for at, value in zip(SHARES_PERCENT, found, strict=True)}


def _bounds(heap: Heap, seen: LoopResult, windows: Windows) -> dict[str, Any]:
    """Say what the cycle cost the loop, and what the 10 ms with the least utilisation lie in."""
    events, report = heap.events(), heap.stall_report
    pauses = events[events["kind"] == PAUSE]
    share, worst = worst_window(seen.gaps, windows.cycle, 0.010)
    outside = seen.gaps[~in_pause(seen.gaps, windows.pauses)]
    phases = events[events["kind"] == PHASE]
    edges = [*((int(one["time"]), int(one["a"])) for one in phases), (windows.cycle[1], 0)]
    gaps_s: dict[str, float] = {}
    for (begin, phase), (end, _) in pairwise(edges):
        span = (max(begin, windows.cycle[0]), min(end, windows.cycle[1]))
        within = overlapping(outside, span)["length_ns"] if span[0] < span[1] else outside[:0]
        _add(
            gaps_s, text(lib.gch_phase_name(phase)), float(within.sum()) * NS if len(within) else 0
        )
    return {
        "utilisation": share,
        "after_s": (worst[0] - windows.cycle[0]) * NS,
        "worst_pauses_s": _pauses_within(pauses, worst),
        "lost_s": report.cycle["10ms"].lost_s if report is not None else {},
        "worst_gaps": _lengths(overlapping(seen.gaps, worst)),
        "cycle_s": (windows.cycle[1] - windows.cycle[0]) * NS,
        "pauses_s": _pauses_within(pauses, windows.cycle),
        "gaps_s": gaps_s,
    }


def _pauses_within(pauses: npt.NDArray[np.void], window: tuple[int, int]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in pauses:
        begin = max(window[0], int(one["time"]) - int(one["a"]))
        length = min(window[1], int(one["time"])) - begin
        _add(found, text(lib.gch_pause_name(int(one["b"]))), length * NS)
    return found


def _add(sums: dict[str, float], name: str, seconds: float) -> None:
    if seconds > 0:
        sums[name] = sums.get(name, 0.0) + seconds


def _lengths(gaps: npt.NDArray[np.void]) -> dict[str, float]:
    return distribution(gaps["length_ns"] * NS)


# --- pauses ---------------------------------------------------------------------------------------


def pauses(live: int, pages: str, cycles: int) -> dict[str, Any]:
    """Collect again and again beside a walk; the pauses without their minor collections."""
    limit = 2 * live + live // 2 + (256 << 20)
    with Heap(limit, mover="move", huge=pages == "huge", growth=math.inf) as heap:
        loop = Walk(heap, live)
        with loop:
            began = time.monotonic()
            events = [heap.collect(concurrent=True) for _ in range(cycles)]
            seconds = (time.monotonic() - began) / cycles
        loop.check()
        del loop
    for event in events:
        assert event.concurrent, event.reason
    parts = {
        "mark": [event.mark_pause_s - event.mark_minor_s for event in events],
        "remark": [event.remark_s for event in events],
        "flip": [event.flip_s - event.flip_minor_s for event in events],
    }
    quiet = min(max(seconds, CONTROL_LEAST_S), CONTROL_MOST_S)
    return {**parts, "control": control(quiet, pin="none")}


# --- summaries ------------------------------------------------------------------------------------


def summaries(live: int, kind: str, pages: str, which: str) -> dict[str, Any]:
    """Collect a heap of clusters, a tenth of which is thinned out; nothing runs beside.

    Args:
        live: bytes that live.
        kind: clustered: references stay in their cluster; mixed: one of 16 leads anywhere.
        pages: 4k, huge.
        which: on, off.
    """
    limit = 2 * live + live // 2 + (256 << 20)
    nodes = min(CLUSTER_BYTES, live // 40) // 64
    across = 0.0 if kind == "clustered" else MIXED_ACROSS
    with Heap(limit, mover="move", huge=pages == "huge", growth=math.inf, summaries=which) as heap:
        graph = Walk(heap, live, cluster=nodes, thin_every=10, keep_every=10, across=across)
        for _ in range(3):
            heap.collect(minor=True)
        event = heap.collect(concurrent=True)
        graph.check()
        del graph
    assert event.concurrent, event.reason
    names = ("move_cpu_s", "collector_cpu_s", "mark_s", "move_s", "units", "units_unread")
    return {name: getattr(event, name) for name in (*names, "blocks_evacuated")}


FUNCTIONS = {
    function.__name__: function for function in (walk, lru, steady, control, pauses, summaries)
}


def main() -> None:
    """Call the function that is named, with the arguments on standard input."""
    arguments: Mapping[str, Any] = json.load(sys.stdin)
    json.dump(FUNCTIONS[sys.argv[1]](**arguments), sys.stdout, allow_nan=False)


if __name__ == "__main__":
    main()
