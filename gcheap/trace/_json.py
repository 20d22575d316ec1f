"""A timeline as JSON trace events: what chrome://tracing defined, and ui.perfetto.dev reads.

Times are microseconds with three decimals. A counter's track is called after the event *and* the
key of its value, with a space between, so the key is the last word of the name.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

from gcheap.trace._timeline import STOPPED, Timeline

__all__ = ["trace_events", "write_json_trace"]

STOPPED_TID = 1 << 30
"""More than any thread's number."""


def _us(ns: int) -> float:
    return ns / 1000


def _tid(track: int | str) -> int:
    return STOPPED_TID if track == STOPPED else int(track)


def _names(timeline: Timeline) -> Iterator[dict[str, Any]]:
    process = timeline.process
    tracks = {s.track for s in timeline.slices} | {i.track for i in timeline.instants}
    yield {"ph": "M", "name": "process_name", "pid": process.pid, "args": {"name": process.name}}
    for track in sorted(tracks, key=_tid):
        name = STOPPED if track == STOPPED else process.threads.get(int(track), f"thread {track}")
        meta = {"ph": "M", "name": "thread_name", "pid": process.pid, "tid": _tid(track)}
        yield meta | {"args": {"name": name}}


def trace_events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """Yield the trace events, names first, each kind by time."""
    pid = timeline.process.pid
    yield from _names(timeline)
    for s in timeline.slices:
        event = {"ph": "X", "cat": "gc", "name": s.name, "pid": pid, "tid": _tid(s.track)}
        yield event | {"ts": _us(s.start), "dur": _us(s.end - s.start), "args": s.args}
    for name, time, value in timeline.counters:
        prefix, _, key = name.rpartition(" ")
        yield {"ph": "C", "name": prefix, "pid": pid, "ts": _us(time), "args": {key: value}}
    for i in timeline.instants:
        event = {"ph": "i", "s": "t", "cat": "gc", "name": i.name, "pid": pid, "tid": i.track}
        yield event | {"ts": _us(i.time), "args": i.args}


def write_json_trace(
    timelines: Sequence[Timeline], file: IO[bytes], *, compressed: bool = False
) -> None:
    """Write the trace, an event a line."""
    out = gzip.GzipFile(fileobj=file, mode="wb", mtime=0) if compressed else file
    other: dict[str, Any] = {"clock": "CLOCK_MONOTONIC"}
    other["events_lost"] = sum(timeline.lost for timeline in timelines)
    for clock in (timeline.clock for timeline in timelines if timeline.clock is not None):
        other |= {"monotonic_ns": clock.monotonic_ns, "realtime_ns": clock.realtime_ns}
        break
    head = {"displayTimeUnit": "ns", "otherData": other}
    out.write((json.dumps(head)[:-1] + ', "traceEvents": [').encode())
    separator = "\n"
    for timeline in timelines:
        for event in trace_events(timeline):
            out.write((separator + json.dumps(event, allow_nan=False)).encode())
            separator = ",\n"
    out.write(b"\n]}\n")
    if compressed:
        out.close()
