"""Events -> slices, counters and instants: what a trace shows, whatever its format.

Tracks. A collection is a slice on the thread that drove it, its phases inside; a fault one on the
thread that waited. Pauses have a track of their own, ``mutators stopped``, with the time until all
had stopped inside. Counters belong to the process.

Names are those that Perfetto's module ``android.garbage_collection`` looks for, where it looks for
one (docs/traces.md): slices of depth 0 that match ``*concurrent*GC``, told apart by the words
``Alloc``, ``young`` and ``Explicit``, and the counter ``Heap size (KB)``. ``CompactionPhase`` is
the phase in which memory moves.

What was overwritten before it was read is missing: a collection without its begin is drawn from the
first event on, one without its end to the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gcheap._ffi import lib, text
from gcheap.stall_report import WINDOWS, unpack_utilisation
from gcheap.stats import EVENT_KINDS, REFUSALS, EventArray

__all__ = [
    "HEAP_SIZE",
    "STOPPED",
    "Clock",
    "Instant",
    "Process",
    "Slice",
    "Timeline",
    "build",
    "gc_name",
]

STOPPED = "mutators stopped"
HEAP_SIZE = "Heap size (KB)"
LIVE = "Live (KB)"
NURSERY = "Nursery (KB)"
ALLOCATED = "Allocated (KB)"
UTILISATION = "Least utilisation, 10 ms (%)"
COMPACTION = "CompactionPhase"
KB = 1024
CLOCKS = (time.CLOCK_MONOTONIC, time.CLOCK_REALTIME, time.CLOCK_BOOTTIME)

Args = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Clock:
    """One moment on three clocks, ns; ``boottime_ns`` 0: not known."""

    monotonic_ns: int
    realtime_ns: int
    boottime_ns: int = 0

    @classmethod
    def now(cls) -> Clock:
        """Look at the clocks."""
        return cls(*map(time.clock_gettime_ns, CLOCKS))


@dataclass(slots=True)
class Process:
    """Whose trace it is; threads that are not known by name are called after their number."""

    pid: int
    name: str
    threads: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Slice:
    """``track`` is the number of a thread, or ``STOPPED``; times are ns, CLOCK_MONOTONIC."""

    track: int | str
    name: str
    start: int
    end: int
    args: Args


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment on a thread."""

    track: int
    name: str
    time: int
    args: Args


@dataclass(slots=True)
class Timeline:
    """What a trace shows; slices of a track are nested, parents first."""

    process: Process
    clock: Clock | None
    slices: list[Slice] = field(default_factory=list)
    counters: list[tuple[str, int, int]] = field(default_factory=list)
    instants: list[Instant] = field(default_factory=list)
    lost: int = 0

    def count(self, name: str, time: int, value: int) -> None:
        """Note the value of a counter."""
        self.counters.append((name, time, value))

    def finish(self) -> Timeline:
        """Order everything by time, and make slices of each track nested."""
        self.slices = _nested(self.slices)
        self.counters.sort(key=lambda counter: counter[1])
        self.instants.sort(key=lambda instant: instant.time)
        return self


def gc_name(cause: str, minor: bool) -> str:
    """Return the name of a collection's slice."""
    said = {"asked": "Explicit ", "limit": "Alloc ", "due": "Background "}.get(cause, "")
    return f"{said}{'young ' if minor else ''}concurrent mark compact GC"


def _nested(slices: list[Slice]) -> list[Slice]:
    """Cut what sticks out of the slice that it began in: clocks were read one after the other."""
    inside: dict[int | str, list[Slice]] = {}
    slices.sort(key=lambda s: (s.start, -s.end))
    for s in slices:
        open_ones = inside.setdefault(s.track, [])
        while open_ones and open_ones[-1].end <= s.start:
            open_ones.pop()
        if open_ones:
            s.end = min(s.end, open_ones[-1].end)
        open_ones.append(s)
    return slices


# --- from events ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Collection:
    number: int
    thread: int
    start: int
    minor: bool
    cause: str
    phase: str = ""
    phase_start: int = 0
    prepared: int = 0  # when the minor before the flip had ended
    paused: tuple[int, int] = (0, 0)  # the last pause: begin, stopped
    args: Args = field(default_factory=dict)


class _Builder:
    def __init__(self, timeline: Timeline, first: int, last: int) -> None:
        self.timeline = timeline
        self.first = first
        self.last = last
        self.running: dict[int, _Collection] = {}
        self.major: _Collection | None = None

    def slice(self, track: int | str, name: str, start: int, end: int, args: Args) -> None:
        start = max(start, self.first)
        self.timeline.slices.append(Slice(track, name, start, max(start, end), args))

    # --- collections -----------------------------------------------------------------------------

    def _make(self, e: Any, start: int) -> _Collection:
        bits = int(e["d"])
        cause = text(lib.gch_cause_name(bits & lib.GCH_COLLECTION_CAUSE))
        minor = bool(bits & lib.GCH_COLLECTION_MINOR)
        return _Collection(int(e["a"]), int(e["thread"]), start, minor, cause)

    def begin(self, e: Any) -> None:
        c = self._make(e, int(e["time"]))
        self.running[c.number] = c
        if not c.minor:
            self.major = c
        self.timeline.count(HEAP_SIZE, c.start, int(e["b"]) // KB)
        self.timeline.count(ALLOCATED, c.start, int(e["c"]) // KB)

    def end(self, e: Any) -> None:
        time, bits = int(e["time"]), int(e["d"])
        said = self._make(e, self.first)
        c = self.running.pop(said.number, said)
        c.cause, c.minor = said.cause, said.minor  # its begin may have been overwritten
        c.args |= {"concurrent": bool(bits & lib.GCH_COLLECTION_CONCURRENT)}
        c.args |= {"live_bytes": int(e["c"])}
        self._close(c, time)
        # behind the slice: the module takes the next value for that after the collection
        self.timeline.count(HEAP_SIZE, time + 1, int(e["b"]) // KB)
        if not c.minor:
            self.timeline.count(LIVE, time + 1, int(e["c"]) // KB)
        elif c.cause == "major" and self.major is not None and self.major.thread == c.thread:
            self.major.prepared = time

    def _close(self, c: _Collection, time: int) -> None:
        args = {"cycle": c.number, "cause": c.cause} | c.args
        self.slice(c.thread, gc_name(c.cause, c.minor), c.start, time, args)
        if c is self.major:
            self._leave_phase(c, time)
            self.major = None

    def unfinished(self) -> None:
        for c in list(self.running.values()):
            c.args["unfinished"] = True
            self._close(c, self.last)

    # --- phases, pauses --------------------------------------------------------------------------

    def _leave_phase(self, c: _Collection, time: int) -> None:
        if c.phase not in ("", "idle"):
            name = COMPACTION if c.phase == "move" else c.phase
            self.slice(c.thread, name, c.phase_start, time, {"cycle": c.number, "phase": c.phase})
        c.phase = ""

    def phase(self, e: Any) -> None:
        c, time = self.major, int(e["time"])
        entered = text(lib.gch_phase_name(int(e["a"])))
        if c is None or c.number != int(e["c"]):
            if entered == "idle":
                return
            c = self.running.get(int(e["c"]))
            if c is None:  # its begin was overwritten
                c = _Collection(int(e["c"]), int(e["thread"]), self.first, False, "lost")
                c.phase = text(lib.gch_phase_name(int(e["b"])))
                self.running[c.number] = c
            self.major = c
        self._leave_phase(c, time)
        c.phase, c.phase_start = entered, time

    def pause(self, e: Any) -> None:
        end, length, reach = int(e["time"]), int(e["a"]), int(e["c"])
        kind = text(lib.gch_pause_name(int(e["b"])))
        args = {"cycle": int(e["d"]), "safepoint_us": reach / 1000}
        self.slice(STOPPED, f"{kind} pause", end - length, end, args)
        self.slice(STOPPED, "reaching safepoints", end - length, end - length + reach, {})
        c = self.running.get(int(e["d"]))
        if c is None or c.minor:
            return
        c.paused = (end - length, end - length + reach)
        if c.prepared:
            self.slice(c.thread, "prepare", c.prepared, end - length, {"cycle": c.number})
            c.prepared = 0

    def minor(self, e: Any) -> None:
        """Work of a minor collection: one of its own has a slice already, one that is part of a
        major's pause gets it here."""
        time, ns = int(e["time"]), int(e["d"])
        args = {"young_bytes": int(e["a"]), "survived_bytes": int(e["b"])}
        args |= {"promoted_bytes": int(e["c"])}
        own = [c for c in self.running.values() if c.minor and c.thread == int(e["thread"])]
        start, end = time - ns, time
        if not own and self.major is not None:
            stopped = self.major.paused[1]
            if stopped:  # the event follows the pause
                start, end = stopped, stopped + ns
            self.slice(self.major.thread, "minor", start, end, args)
        self.timeline.count(NURSERY, start, int(e["a"]) // KB)
        self.timeline.count(NURSERY, end, int(e["b"]) // KB)
        for c in own:
            c.args |= args

    # --- the rest --------------------------------------------------------------------------------

    def fault(self, e: Any) -> None:
        end, ns = int(e["time"]), int(e["b"])
        args = {"address": hex(int(e["a"])), "unit": int(e["d"]), "in_thread": bool(e["c"])}
        self.slice(int(e["thread"]), "fault", end - ns, end, args)

    def utilisation(self, e: Any) -> None:
        shares = unpack_utilisation(int(e["b"]))
        moving = unpack_utilisation(int(e["c"]))
        if shares is None:
            return
        self.timeline.count(UTILISATION, int(e["time"]), round(shares[1] * 100))
        c = self.running.get(int(e["a"]))
        if c is not None:
            for name, found in (("utilisation", shares), ("utilisation_moving", moving)):
                c.args |= {f"{name}_{w}": s for w, s in zip(WINDOWS, found or (), strict=False)}

    def moved(self, e: Any) -> None:
        c = self.running.get(int(e["d"]))
        if c is not None:
            names = ("pages_moved", "arenas_moved", "bytes_copied")
            c.args |= dict(zip(names, (int(e["a"]), int(e["b"]), int(e["c"])), strict=True))

    def degraded(self, e: Any) -> None:
        c = self.running.get(int(e["a"]))
        if c is not None:
            c.args["degraded"] = text(lib.gch_degraded_name(int(e["b"])))

    def refusal(self, e: Any) -> None:
        number = int(e["a"])
        name = REFUSALS[number] if number < len(REFUSALS) else "?"
        args = {"address": hex(int(e["b"])), "bytes": int(e["c"])}
        self._instant(e, f"kernel refusal: {name}", args)

    def watchdog(self, e: Any) -> None:
        call = text(lib.gch_kernel_call_name(int(e["a"]) & 0xFFFFFFFF))
        args = {"address": hex(int(e["b"])), "seconds": int(e["c"]) / 1e9}
        self._instant(e, f"call does not return: {call}", args)

    def _instant(self, e: Any, name: str, args: Args) -> None:
        self.timeline.instants.append(Instant(int(e["thread"]), name, int(e["time"]), args))


def build(events: EventArray, process: Process, clock: Clock | None, lost: int = 0) -> Timeline:
    """Return what the events of a heap show.

    Args:
        events: in the order of their numbers.
        process: whose they are.
        clock: places their clock on others; None: not known.
        lost: events that were overwritten before they could be read.
    """
    timeline = Timeline(process, clock, lost=lost)
    if len(events) == 0:
        return timeline
    first, last = int(events["time"].min()), int(events["time"].max())
    builder = _Builder(timeline, first, last)
    handlers: dict[int, Callable[[Any], None]] = {
        kind: getattr(builder, name) for kind, name in EVENT_KINDS.items() if hasattr(builder, name)
    }
    for event in events:
        handler = handlers.get(int(event["kind"]))
        if handler is not None:
            handler(event)
    builder.unfinished()
    return timeline.finish()
