"""What a heap tells of itself: one collection, figures so far, events. Seconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._ffi import ffi, lib, text

__all__ = ["EVENT_DTYPE", "EVENT_KINDS", "Distribution", "GCEvent", "HeapStats", "read_events"]

EventArray = npt.NDArray[np.void]

EVENT_DTYPE = np.dtype(
    [
        ("sequence", "u8"),
        ("time", "u8"),
        ("kind", "u4"),
        ("thread", "u4"),
        ("a", "u8"),
        ("b", "u8"),
        ("c", "u8"),
        ("d", "u8"),
    ]
)
"""An event: ``time`` is CLOCK_MONOTONIC in ns, ``kind`` a key of ``EVENT_KINDS``; what a to d mean
is said in gcheap/events.h."""

EVENT_KINDS: dict[int, str] = {
    kind: text(lib.gch_event_kind_name(kind)) for kind in range(1, lib.GCH_EVENT_KIND_COUNT)
}
"""Kind -> its name: phase, pause, fault, moved, refusal, degraded, minor, watchdog, begin, end,
utilisation."""

REFUSALS = ("exist_moved", "exist", "busy", "copied", "again", "no_memory", "other")
STALLS = ("pause", "fault", "unit", "alloc", "barrier", "fork", "pace", "limit")
POLICIES = ("needed", "all", "release")
NS = 1e-9
_READ_EVENTS = 4096


@dataclass(frozen=True, slots=True)
class GCEvent:
    """One collection. Times in seconds, sizes in bytes; what does not apply is 0.

    Attributes:
        number: of the cycle, minor and major ones counted together.
        minor: the young space only.
        concurrent: it moved while mutators ran.
        mover: which mover did it.
        policy: which live pages moved: needed, all, release.
        degraded: it did less than was asked for; ``reason`` says why.
        pauses: how often the world was stopped.
        live_bytes: reachable at the end of marking, headers and rounding included.
        heap_bytes_before: blocks and large pages in use; ``heap_bytes_after`` likewise.
        mark_s: marking; concurrent: from the end of the first pause to the end of the last remark.
        mark_pause_s: concurrent: the first pause, its minor collection (``mark_minor_s``) included.
        remark_s: concurrent: the longest of the pauses in which marking might have been complete.
        units_unread: units published without reading their references: reference summaries say
            that they lead to nothing that moves.
        move_cpu_s: concurrent: ``collector_cpu_s`` of the move, from the flip on.
        overwritten: references overwritten while it marked, as far as markers had to look at them.
        plan_s: planning.
        flip_s: the pause that ends old addresses, its minor collection (``flip_minor_s``) included.
        move_s: from the end of the plan to the last unit published and the last source given back.
        cycle_s: all of it.
        pause_s: sum of its pauses; ``pause_longest_s`` the longest.
        safepoint_longest_s: from a request to stop until every mutator had stopped.
        collector_cpu_s: CPU time of the collector's threads, of who drove it, and of mutators while
            they made units.
        units: destination units produced.
        physical_at_flip: resident bytes of the process when the flip's pause had ended;
            ``physical_after`` at the end of a major collection.
        weak_cleared: weak references and ephemerons that were cleared.
        finalizers_queued: finalizers that became due.
        arenas_home: huge arenas that stayed mapped in the flip, as nothing in them had to be made
            (selective flips).
        refusals: answers of the kernel to page moves and the calls around them that were not plain
            success, by name.
    """

    number: int
    minor: bool
    concurrent: bool
    mover: str
    policy: str
    degraded: bool
    reason: str
    pauses: int
    live_bytes: int
    live_objects: int
    heap_bytes_before: int
    heap_bytes_after: int
    mark_s: float
    mark_pause_s: float
    mark_minor_s: float
    remark_s: float
    overwritten: int
    units_unread: int
    move_cpu_s: float
    plan_s: float
    flip_s: float
    flip_minor_s: float
    move_s: float
    cycle_s: float
    pause_s: float
    pause_longest_s: float
    safepoint_longest_s: float
    collector_cpu_s: float
    units: int
    pages_moved: int
    arenas_moved: int
    blocks_evacuated: int
    bytes_copied: int
    bytes_released: int
    faults_served: int
    physical_at_flip: int
    physical_after: int
    weak_cleared: int
    finalizers_queued: int
    arenas_home: int
    refusals: dict[str, int]

    @classmethod
    def from_native(cls, cycle: Any) -> GCEvent:
        """Convert a ``gch_cycle``."""
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = item.name
            if name.endswith("_s"):
                values[name] = getattr(cycle, name[:-2] + "_ns") * NS
            elif name in ("minor", "concurrent", "degraded"):
                values[name] = bool(getattr(cycle, name))
            elif name not in ("mover", "policy", "reason", "refusals"):
                values[name] = int(getattr(cycle, name))
        return cls(
            mover=text(lib.gch_mover_name(cycle.mover)),
            policy=POLICIES[cycle.policy],
            reason=text(cycle.reason),
            refusals=dict(zip(REFUSALS, map(int, cycle.refusals), strict=False)),
            **values,
        )


@dataclass(frozen=True, slots=True)
class Distribution:
    """Durations in seconds; percentiles within 6 %."""

    count: int
    total: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float

    @classmethod
    def from_native(cls, d: Any) -> Distribution:
        """Convert a ``gch_distribution``."""
        return cls(
            int(d.count), d.sum * NS, d.p50 * NS, d.p90 * NS, d.p99 * NS, d.p999 * NS, d.max * NS
        )


@dataclass(frozen=True, slots=True)
class ThreadStalls:
    """Times in which a thread made no progress because of the collector, by cause.

    Attributes:
        count: how many, by cause: pause, fault, unit, alloc, barrier, fork, pace, limit.
        seconds: their sum. In fault mode ``thread``, faults and units without the time that their
            delivery and the wake-up take.
    """

    count: dict[str, int]
    seconds: dict[str, float]

    @classmethod
    def from_native(cls, s: Any) -> ThreadStalls:
        """Convert a ``gch_stalls``."""
        return cls(
            dict(zip(STALLS, map(int, s.count), strict=False)),
            {name: ns * NS for name, ns in zip(STALLS, s.ns, strict=False)},
        )


@dataclass(frozen=True, slots=True)
class HeapStats:
    """Figures of a heap since its creation. Times in seconds, sizes in bytes.

    Attributes:
        mover: which one is used; ``mover_reason`` says why.
        fault_mode: thread or signal.
        page_bytes: the kernel's base page; ``huge``: huge pages are asked for.
        mutators: threads attached.
        heap_bytes: blocks and large pages in use, young space included.
        populated_bytes: memory the heap holds, staging and free populated blocks included.
        table_bytes: side tables, an upper bound of what is in memory.
        live_bytes: by the last major collection.
        allocated_bytes: since creation, in whole allocation buffers and large objects.
        stall_count: stalls of mutators by cause; ``stall_s`` their sum.
        pause: every pause; ``minor_pause``, ``flip_pause`` those kinds; ``safepoint`` the time to
            stop; ``fault`` from a fault until it is answered; ``stall_move`` stalls while moving,
            pauses excluded.
        events_lost: overwritten, no longer among ``Heap.events``.
        nursery_bytes, staging_bytes: in force now, as they were asked for or chosen;
            ``pause_target_s`` likewise.
        trigger_bytes: a full collection is due when so many bytes are in use; it is to have
            ended at ``goal_bytes``.
        soft_max_bytes: full collections begin so early that the heap stays below, if that can be.
        memory_bytes: what the machine and control groups leave the process; 0: not known.
        budget_bytes: that it shares with other heaps of the process; 0: none.
        limit_reason: why ``max_bytes`` and ``soft_max_bytes`` are what they are.
        finalizers: registered with ``Heap.finalize``; ``finalizers_pending`` those that are due.
        overdue_calls: virtual-memory calls that did not return for 2 s; each is an event
            (watchdog), too.
        minor_count: minor collections, those that a major begins with included.
        last_minor: the last minor collection that was one of its own, None before the first;
            ``last_major`` the last major one.
    """

    mover: str
    mover_reason: str
    fault_mode: str
    gc_threads: int
    page_bytes: int
    huge: bool
    mutators: int
    max_bytes: int
    heap_bytes: int
    populated_bytes: int
    table_bytes: int
    live_bytes: int
    allocated_bytes: int
    promoted_bytes: int
    minor_count: int
    major_count: int
    handles: int
    pins: int
    faults: int
    stall_count: dict[str, int]
    stall_s: dict[str, float]
    refusals: dict[str, int]
    events_lost: int
    pause: Distribution
    minor_pause: Distribution
    flip_pause: Distribution
    safepoint: Distribution
    fault: Distribution
    stall_move: Distribution
    overdue_calls: int
    nursery_bytes: int
    staging_bytes: int
    trigger_bytes: int
    goal_bytes: int
    finalizers: int
    finalizers_pending: int
    memory_bytes: int
    soft_max_bytes: int
    pause_target_s: float
    budget_bytes: int
    limit_reason: str
    last_minor: GCEvent | None
    last_major: GCEvent | None

    @classmethod
    def from_native(cls, s: Any) -> HeapStats:
        """Convert a ``gch_stats``."""
        values: dict[str, Any] = {
            item.name: int(getattr(s, item.name)) for item in fields(cls) if item.type == "int"
        }
        for item in fields(cls):
            if item.type == "Distribution":
                values[item.name] = Distribution.from_native(getattr(s, item.name))
        return cls(
            mover=text(lib.gch_mover_name(s.mover)),
            mover_reason=text(s.mover_reason),
            limit_reason=text(s.limit_reason),
            pause_target_s=s.pause_target_ns * NS,
            fault_mode="signal" if s.fault_mode == lib.GCH_FAULT_SIGNAL else "thread",
            huge=bool(s.huge),
            stall_count=dict(zip(STALLS, map(int, s.stall_count), strict=False)),
            stall_s={name: ns * NS for name, ns in zip(STALLS, s.stall_ns, strict=False)},
            refusals=dict(zip(REFUSALS, map(int, s.refusals), strict=False)),
            last_minor=GCEvent.from_native(s.last_minor) if s.last_minor.number else None,
            last_major=GCEvent.from_native(s.last_major) if s.last_major.number else None,
            **values,
        )


def read_events(heap: Any, since: int) -> EventArray:
    """Read the events kept in a native heap's ring, from sequence number ``since`` on."""
    sequence, lost = ffi.new("uint64_t *", since), ffi.new("uint64_t *")
    parts: list[EventArray] = []
    while True:
        part = np.empty(_READ_EVENTS, dtype=EVENT_DTYPE)
        into = ffi.cast("gch_event *", part.ctypes.data)
        count = lib.gch_events_read(heap, sequence, into, len(part), lost)
        parts.append(part[:count])
        if count < _READ_EVENTS:
            return np.concatenate(parts)
