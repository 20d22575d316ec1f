"""A timeline in Perfetto's own format (needs the ``perfetto`` package).

Threads are thread tracks and counters counter tracks of the process, as the SQL modules of the
trace processor expect. Times are CLOCK_MONOTONIC; a snapshot of clocks places them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, Any

from gcheap._errors import Unsupported
from gcheap.trace._timeline import STOPPED, Args, Timeline

__all__ = ["check_perfetto", "write_perfetto_trace"]

MONOTONIC, REALTIME, BOOTTIME = 3, 1, 6
"""Numbers of the clocks in ClockSnapshot."""
PROCESS, PAUSES, FIRST_COUNTER, FIRST_THREAD = 1, 2, 16, 1 << 32
"""Identities of tracks of one timeline; a thread's is FIRST_THREAD + its number."""
TIMELINE_SHIFT = 40
STATE_CLEARED = 1


def check_perfetto() -> Any:
    """Return the module of Perfetto's messages.

    Raises:
        Unsupported: the package is not there.
    """
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2
    except ImportError as error:
        raise Unsupported(
            f"Perfetto's format needs the perfetto package ({error}): pip install 'gcheap[trace]',"
            " or write JSON (.json), which ui.perfetto.dev opens too"
        ) from None
    return perfetto_trace_pb2


class _Writer:
    def __init__(self, timeline: Timeline, messages: Any, trace: Any, number: int) -> None:
        self.timeline = timeline
        self.messages = messages
        self.trace = trace
        self.number = number  # of the timeline, from 1: its sequence, and part of identities
        self.base = (number - 1) << TIMELINE_SHIFT

    def write(self) -> None:
        self.head()
        ids, counters = self.tracks(), self.counters()
        self.slices(ids)
        for name, time, value in self.timeline.counters:
            self.event("COUNTER", time, counters[name]).counter_value = value
        for i in self.timeline.instants:
            self.annotate(self.event("INSTANT", i.time, ids[i.track]), i.name, i.args)

    def packet(self, time: int | None = None) -> Any:
        packet = self.trace.packet.add()
        packet.trusted_packet_sequence_id = self.number
        if time is not None:
            packet.timestamp = time
            packet.timestamp_clock_id = MONOTONIC
        return packet

    def head(self) -> None:
        first = self.packet()
        first.sequence_flags = STATE_CLEARED
        clock = self.timeline.clock
        if clock is not None:
            for number, ns in (
                (MONOTONIC, clock.monotonic_ns),
                (REALTIME, clock.realtime_ns),
                (BOOTTIME, clock.boottime_ns or clock.monotonic_ns),
            ):
                one = first.clock_snapshot.clocks.add()
                one.clock_id, one.timestamp = number, ns
            first.clock_snapshot.primary_trace_clock = BOOTTIME
        process = self.timeline.process
        track = self.packet().track_descriptor
        track.uuid, track.process.pid = self.base + PROCESS, process.pid
        track.process.process_name = process.name

    def tracks(self) -> dict[int | str, int]:
        """Describe the tracks of slices and instants; return their identities."""
        process, ids = self.timeline.process, {}
        used = {s.track for s in self.timeline.slices}
        for track in sorted(used | {i.track for i in self.timeline.instants}, key=str):
            described = self.packet().track_descriptor
            if track == STOPPED:
                described.uuid, described.name = self.base + PAUSES, STOPPED
            else:
                number = int(track)
                described.uuid = self.base + FIRST_THREAD + number
                described.thread.pid, described.thread.tid = process.pid, number
                name = process.threads.get(number, f"thread {number}")
                described.thread.thread_name = name
            described.parent_uuid = self.base + PROCESS
            ids[track] = described.uuid
        return ids

    def counters(self) -> dict[str, int]:
        ids: dict[str, int] = {}
        for name, _, _ in self.timeline.counters:
            if name in ids:
                continue
            ids[name] = self.base + FIRST_COUNTER + len(ids)
            described = self.packet().track_descriptor
            described.uuid, described.parent_uuid = ids[name], self.base + PROCESS
            described.name = name
            described.counter.SetInParent()
        return ids

    def event(self, kind: str, time: int, track: int) -> Any:
        event = self.packet(time).track_event
        event.type = self.messages.TrackEvent.Type.Value(f"TYPE_{kind}")
        event.track_uuid = track
        return event

    def annotate(self, event: Any, name: str, args: Args) -> None:
        event.name = name
        event.categories.append("gc")
        for key, value in args.items():
            annotation = event.debug_annotations.add()
            annotation.name = key
            if isinstance(value, bool):
                annotation.bool_value = value
            elif isinstance(value, int):
                annotation.uint_value = value
            elif isinstance(value, float):
                annotation.double_value = value
            else:
                annotation.string_value = str(value)

    def slices(self, ids: dict[int | str, int]) -> None:
        """Begins and ends, a track after the other: in each, ends come before what follows."""
        for kind, time, s in _edges(self.timeline):
            event = self.event(kind, time, ids[s.track])
            if kind == "SLICE_BEGIN":
                self.annotate(event, s.name, s.args)


def _edges(timeline: Timeline) -> Iterator[tuple[str, int, Any]]:
    tracks: dict[int | str, list[Any]] = {}
    for s in timeline.slices:  # nested, parents first
        tracks.setdefault(s.track, []).append(s)
    for slices in tracks.values():
        inside: list[Any] = []
        for s in slices:
            while inside and inside[-1].end <= s.start:
                done = inside.pop()
                yield "SLICE_END", done.end, done
            yield "SLICE_BEGIN", s.start, s
            inside.append(s)
        while inside:
            done = inside.pop()
            yield "SLICE_END", done.end, done


def write_perfetto_trace(timelines: Sequence[Timeline], file: IO[bytes]) -> None:
    """Write the trace."""
    messages = check_perfetto()
    trace = messages.Trace()
    for number, timeline in enumerate(timelines, 1):
        _Writer(timeline, messages, trace, number).write()
    file.write(trace.SerializeToString())
