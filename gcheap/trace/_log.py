"""Lines of a JSON log (GCHEAP_LOG=json:FILE) -> timelines, one a heap.

A line has the lengths of a collection's phases, not when each began: they are drawn one after the
other, in their order, which is right but for what lies between two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from gcheap.trace._timeline import (
    COMPACTION,
    HEAP_SIZE,
    KB,
    LIVE,
    STOPPED,
    Clock,
    Process,
    Slice,
    Timeline,
    gc_name,
)

__all__ = ["timelines_of_log"]

SCHEMA = 1
PHASES = ("mark", "plan", "prepare", "flip", "move")
NEEDED = (
    *("pid", "heap", "time", "end_ns", "number", "kind", "cause", "concurrent"),
    *("live_bytes", "heap_bytes_before", "heap_bytes_after", "cycle_ns", "pause_ns", "flip_ns"),
)
SECOND_HEAP = 1 << 29
"""Tracks of further heaps of a process: more than any thread's number."""


def _records(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the collections; the last line may be cut off."""
    broken = 0
    for number, line in enumerate(lines, 1):
        if broken:
            raise ValueError(f"line {broken} is no JSON object of a collection")
        try:
            record = json.loads(line)
        except ValueError:
            broken = number
            continue
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise ValueError(f"line {number} is of no log with schema {SCHEMA}")
        if any(name not in record for name in NEEDED):
            missing = ", ".join(name for name in NEEDED if name not in record)
            raise ValueError(f"line {number} lacks {missing}")
        yield record


def timelines_of_log(lines: Iterable[str]) -> list[Timeline]:
    """Return a timeline for each heap that the log tells of.

    Raises:
        ValueError: a line, but for the last, is none of such a log.
    """
    heaps: dict[tuple[int, int], Timeline] = {}
    for record in _records(lines):
        key = (int(record["pid"]), int(record["heap"]))
        if key not in heaps:
            clock = Clock(int(record["end_ns"]), int(record["time"] * 1e9))
            heaps[key] = Timeline(Process(key[0], f"process {key[0]}"), clock)
        _add(heaps[key], key, record)
    return [timeline.finish() for timeline in heaps.values()]


def _add(timeline: Timeline, key: tuple[int, int], record: dict[str, Any]) -> None:
    pid, heap = key
    track = pid if heap == 0 else SECOND_HEAP + heap
    timeline.process.threads[track] = f"gcheap heap {heap}"
    end = int(record["end_ns"])
    start = end - int(record["cycle_ns"])
    minor = record["kind"] == "minor"
    kept = ("number", "cause", "mover", "policy", "concurrent", "degraded", "reason", "live_bytes")
    args = {name: record[name] for name in kept if record.get(name) not in (None, "")}
    timeline.slices.append(Slice(track, gc_name(record["cause"], minor), start, end, args))
    _add_phases(timeline, track, (start, end), record)
    _add_pauses(timeline, (start, end), record)
    timeline.count(HEAP_SIZE, start, int(record["heap_bytes_before"]) // KB)
    timeline.count(HEAP_SIZE, end + 1, int(record["heap_bytes_after"]) // KB)
    if not minor:
        timeline.count(LIVE, end + 1, int(record["live_bytes"]) // KB)


def _ns(record: dict[str, Any], name: str) -> int:
    return int(record.get(f"{name}_ns", 0))


def _add_phases(
    timeline: Timeline, track: int, window: tuple[int, int], record: dict[str, Any]
) -> None:
    """Add the phases, one after the other; with those that have one, the pause."""
    at, end = window[0] + _ns(record, "mark_pause"), window[1]
    for phase in PHASES:
        begin, at = at, min(at + _ns(record, phase), end)
        if begin >= at:
            continue
        shown = COMPACTION if phase == "move" else phase
        timeline.slices.append(Slice(track, shown, begin, at, {"phase": phase}))
        if phase == "mark" and _ns(record, "remark"):
            last = Slice(STOPPED, "remark pause", at - _ns(record, "remark"), at, {})
            timeline.slices.append(last)
        if phase == "flip":
            timeline.slices.append(Slice(STOPPED, "flip pause", begin, at, {}))


def _add_pauses(timeline: Timeline, window: tuple[int, int], record: dict[str, Any]) -> None:
    """Add the first pause of what marked beside the program, and that of what did not move so."""
    start, end = window
    first = min(_ns(record, "mark_pause"), end - start)
    if first:
        timeline.slices.append(Slice(STOPPED, "mark pause", start, start + first, {}))
    if record["concurrent"]:
        return
    kind = "minor pause" if record["kind"] == "minor" else "whole pause"
    length = max(0, _ns(record, "pause") - first - _ns(record, "remark"))
    begin = max(start, end - length) if first else start
    timeline.slices.append(Slice(STOPPED, kind, begin, min(begin + length, end), {}))
