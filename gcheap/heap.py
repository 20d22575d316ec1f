"""``Heap``: the object that owns everything else."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from gcheap._core import HeapCore, Unpicklable
from gcheap._errors import HeapClosedError, exception_for
from gcheap._ffi import ffi, lib, text
from gcheap._units import parse_size
from gcheap.array import HeapArray, new_leaf
from gcheap.refs import Ref, RefArray, _make_array, new_refs
from gcheap.stall_report import StallReport, read_report
from gcheap.stats import EventArray, GCEvent, HeapStats, ThreadStalls, read_events
from gcheap.struct import StructType, define_struct
from gcheap.weak import Finalizer, WeakRefArray, finalize, new_weakrefs

if TYPE_CHECKING:
    from gcheap.graph import ObjectGraph
    from gcheap.trace import Recorder

__all__ = ["Heap"]

Policy = Literal["needed", "all", "release"]

_FAULTS = {"thread": lib.GCH_FAULT_THREAD, "signal": lib.GCH_FAULT_SIGNAL}
_SUMMARIES = {
    "auto": lib.GCH_SUMMARIES_AUTO,
    "on": lib.GCH_SUMMARIES_ON,
    "off": lib.GCH_SUMMARIES_OFF,
}
_HUGE = {
    "auto": lib.GCH_HUGE_AUTO,
    "on": lib.GCH_HUGE_ON,
    "off": lib.GCH_HUGE_OFF,
    True: lib.GCH_HUGE_ON,
    False: lib.GCH_HUGE_OFF,
}
_HUGE_FAULTS = {"latency": lib.GCH_HUGE_LATENCY, "throughput": lib.GCH_HUGE_THROUGHPUT}
_POLICIES = {
    "needed": lib.GCH_POLICY_NEEDED,
    "all": lib.GCH_POLICY_ALL,
    "release": lib.GCH_POLICY_RELEASE,
}
BLOCK_DTYPE = np.dtype(
    [
        ("address", "u8"),
        ("live_bytes", "u4"),
        ("used_bytes", "u4"),
        ("space", "u1"),
        ("free", "u1"),
        ("pinned", "u1"),
        ("populated", "u1"),
    ],
    align=True,
)
"""A block as ``Heap.map`` lists it; space: 0 old, 1 large, 2 leaf, 3 large leaf, 4 young."""


def _choice(table: dict[Any, int], value: object, name: str) -> int:
    try:
        return table[value]
    except (KeyError, TypeError):
        allowed = ", ".join(repr(key) for key in table)
        raise ValueError(f"{name} is {value!r}, expected one of {allowed}") from None


def _size(value: int | str, name: str) -> int:
    return 0 if value == "auto" else parse_size(value, name)


def _count(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{name} is {value}, expected 0 to {(1 << 32) - 1}")
    return int(value)


def _nanoseconds(value: float, name: str, least: float, most: float) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}, expected seconds")
    if not least <= value <= most:
        raise ValueError(f"{name} is {value!r}, expected {least:g} to {most:g} seconds")
    return round(value * 1e9)


def _decay(value: float) -> int:
    if value == 0:
        return int(lib.GCH_DECAY_NOW)
    if value == float("inf"):
        return int(lib.GCH_DECAY_NEVER)
    return _nanoseconds(value, "decay", 0.001, 3600) // 10**6


def _text(value: str, name: str) -> Any:
    """Return a C string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, expected text")
    if not _is_c_text(value):
        raise ValueError(
            f"{name} is {value!r}, expected text without NUL characters and lone surrogates"
        )
    return ffi.new("char[]", value.encode())


def _set_pacing(
    config: Any, soft_max_size: int | str | None, growth: float | None, budget: int | str | None
) -> None:
    if soft_max_size is not None:
        config.soft_max_bytes = parse_size(soft_max_size, "soft_max_size")
    if budget is not None:
        config.budget_bytes = parse_size(budget, "budget")
        if config.budget_bytes == 0:
            raise ValueError("budget is 0, expected at least 1 MiB")
        if growth is not None:
            raise ValueError(f"growth is {growth!r} with a budget, expected one of them")
    if growth is None:
        return
    if growth == float("inf"):
        config.growth_percent = lib.GCH_GROWTH_NEVER
        return
    if not 0.01 <= growth <= 100:
        raise ValueError(f"growth is {growth!r}, expected 0.01 to 100, or infinity")
    config.growth_percent = round(growth * 100)


def _set_texts(
    config: Any, inject: str | None, ring: str | os.PathLike[str] | None, log: str | None
) -> list[Any]:
    """Set the texts of a configuration; return what holds them."""
    texts = {"inject": inject, "ring": None if ring is None else os.fspath(ring), "log": log}
    held = [ffi.NULL if value is None else _text(value, name) for name, value in texts.items()]
    config.inject, config.ring_path, config.log = held
    return held


def _is_c_text(value: str) -> bool:
    """Say whether text has neither NUL characters nor halves of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _flag(value: object, name: str) -> bool:
    """Return what says yes or no; of any other object it would say little that it is not empty."""
    if isinstance(value, (bool, int, np.bool_)) and value in (0, 1):
        return bool(value)
    raise TypeError(f"{name} is {value!r}, expected True or False")


def _check_collection(
    minor: bool, concurrent: bool, policy: str, promote: bool, background: bool
) -> None:
    """Refuse what a collection of this kind would not look at."""
    if minor and concurrent:
        raise ValueError("concurrent is True with minor=True, expected one of them")
    if minor and policy != "needed":
        raise ValueError(
            f"policy is {policy!r} with minor=True, expected none: major collections have one"
        )
    if promote and not minor:
        raise ValueError("promote is True without minor=True, expected both or neither")
    if background and not concurrent:
        raise ValueError("background is True without concurrent=True, expected both or neither")


class Heap(Unpicklable):
    """A garbage-collected heap of its own: objects, collector threads, address space.

    Any number may exist; objects of one never refer to objects of another. Every Python thread may
    use it. Close it, or use it in ``with``.

    Args:
        max_size: limit of the heap, young space included: bytes or text such as "2GiB", or "auto":
            1 GiB, or half of the memory that the machine and control groups leave the process, if
            that is less; ``stats.limit_reason`` says why it is what it is.
        mover: "auto", "move" (also "remap"), "copy", "simulated", "memcpy", "slide": what puts live
            pages at their new address.
        fault: "thread" or "signal": who answers a touch of a missing page.
        nursery: bytes allocated between minor collections, 256 KiB to max_size / 4, or "auto": half
            of the process's share of the last-level cache, at most 4 MiB, and less where minor
            pauses would be longer than ``pause_target``.
        huge: True (also "on"), False ("off") or "auto": huge pages. "auto" is off: they buy speed
            with stalls (a thread may wait for 2 MiB, not for a page) and memory (an arena holds 2
            MiB until the last thing in it dies). ``stats.huge`` says what is.
        huge_faults: "latency" or "throughput".
        gc_threads: threads that mark and move, the caller included; 0: the CPUs, at most 8.
        staging: bytes of frames that hold what is being moved, at least 512 KiB, or "auto".
        promote_age: minor collections an object survives young, 1 to 7; 0: choose.
        event_capacity: events kept, a power of two up to 2**24; 0: 16384.
        stress: collect at every n-th slow-path allocation; 0: off.
        full_moves: with stress: what it starts moves every live page, concurrently where possible.
        page_size: for tests: pretend pages of so many bytes; 0: the machine's.
        inject: fault injection, grammar in native/src/os/kernel_inject.c.
        soft_max_size: full collections begin so early that the heap stays below, where what lives
            allows it; None: max_size, or three quarters of the memory that the machine and control
            groups leave the process, if that is less.
        growth: a full collection is to have ended when the heap has grown by so much of what lived
            after the last: 0.01 to 100; infinity: only when asked for, or out of memory; None: 1,
            or by ``budget``.
        summaries: "auto", "on", "off": full collections note which arenas refer to which, so that
            those that refer to nothing that moves are not read.
        ring: a file with events and figures for other processes (``gcheap top``): "auto", a
            folder, or a path at which there is nothing; "": none; None: what the environment
            variable GCHEAP_RING says.
        log: where a line a collection goes (docs/traces.md): "stderr", "stdout" or a path with a
            slash, "json:" before it for lines of JSON, two of these with a comma between; "":
            nowhere; None: what the environment variable GCHEAP_LOG says.
        pause_target: seconds that minor pauses are to stay below, 0.00005 to 10, if ``nursery`` is
            "auto"; and a full collection that began by itself moves in a pause what fits into so
            much. None: 0.002.
        budget: bytes that what lives in all heaps of the process with a budget, and what they may
            grow by before they are collected, are to be together (the least that one of them has
            named). It is shared by the square-root rule: more for those that grow fast, hold much,
            and take long to collect. Instead of ``growth``.
        decay: seconds after which memory that a full collection leaves populated for allocation
            (no more than ``staging``) goes back to the system, gradually, if it was not used:
            0.001 to 3600; 0: none is left; infinity: never; None: 1.

    Raises:
        ValueError, TypeError: an argument is out of range.
        HeapExhausted: addresses or memory cannot be had.
        Unsupported: the mover or fault mode does not work here; the message says why.

    Example:
        >>> import gcheap
        >>> with gcheap.Heap(max_size="16MiB") as heap:
        ...     Node = heap.struct("Node", next=gcheap.Ref, weight="f8", tag="u4")
        ...     nodes = heap.new(Node, 1000)
        ...     nodes.tag = range(1000)
        ...     nodes.next = nodes[::-1]
        ...     event = heap.collect()
        ...     int(nodes.next.tag[0]), event.live_objects
        (999, 1001)
    """

    __slots__ = ("__weakref__", "_core")

    def __init__(
        self,
        max_size: int | str = "auto",
        *,
        mover: str = "auto",
        fault: str = "thread",
        nursery: int | str = "auto",
        huge: bool | str = "auto",
        huge_faults: str = "latency",
        gc_threads: int = 0,
        staging: int | str = "auto",
        promote_age: int = 0,
        event_capacity: int = 0,
        stress: int = 0,
        full_moves: bool = False,
        page_size: int = 0,
        inject: str | None = None,
        soft_max_size: int | str | None = None,
        growth: float | None = None,
        summaries: str = "auto",
        ring: str | os.PathLike[str] | None = None,
        log: str | None = None,
        pause_target: float | None = None,
        budget: int | str | None = None,
        decay: float | None = None,
    ) -> None:
        config = ffi.new("gch_config *")
        lib.gch_config_init_sized(config, ffi.sizeof("gch_config"))
        config.max_bytes = _size(max_size, "max_size")
        if config.max_bytes == 0 and max_size != "auto":
            raise ValueError("max_size is 0, expected at least 1 MiB")
        chosen = ffi.new("gch_mover *")
        named = isinstance(mover, str) and _is_c_text(mover)
        if not named or not lib.gch_mover_parse(mover.encode(), chosen):
            known = ", ".join(
                text(lib.gch_mover_name(number)) for number in range(lib.GCH_MOVER_COUNT)
            )
            raise ValueError(f"mover is {mover!r}, expected one of {known}, remap")
        config.mover = chosen[0]
        config.fault_mode = _choice(_FAULTS, fault, "fault")
        config.nursery_bytes = _size(nursery, "nursery")
        config.huge = _choice(_HUGE, huge, "huge")
        config.huge_faults = _choice(_HUGE_FAULTS, huge_faults, "huge_faults")
        config.gc_threads = _count(gc_threads, "gc_threads")
        config.staging_bytes = _size(staging, "staging")
        config.promote_age = _count(promote_age, "promote_age")
        config.event_capacity = _count(event_capacity, "event_capacity")
        config.stress_interval = _count(stress, "stress")
        config.full_moves = _flag(full_moves, "full_moves")
        config.geometry_page = _count(page_size, "page_size")
        config.summaries = _choice(_SUMMARIES, summaries, "summaries")
        kept = _set_texts(config, inject, ring, log)
        _set_pacing(config, soft_max_size, growth, budget)
        if decay is not None:
            config.decay_ms = _decay(decay)
        if pause_target is not None:
            config.pause_target_ns = _nanoseconds(pause_target, "pause_target", 50e-6, 10)
        self._core = HeapCore(config)
        del kept  # the texts: they are read until now

    # --- objects ---------------------------------------------------------------------------------

    def struct(self, name: str, /, **fields: Any) -> StructType:
        """Define a type of objects with named fields.

        Args:
            name: of the type.
            fields: a numpy dtype (sub-arrays such as ``("f4", 3)`` too), ``gcheap.Ref`` for a
                reference to anything, ``gcheap.Ref(Type)`` for one that takes such objects only.

        Raises:
            TypeError: a dtype that objects cannot hold.
            ValueError: a name that cannot be an attribute, or more than 8 KiB.
        """
        return define_struct(self._core, name, fields, Ref)

    def new(self, struct: StructType, count: int) -> RefArray:
        """Allocate ``count`` objects, zero (references null), and return the array of them.

        Raises:
            HeapExhausted: there is no room, even after a collection.
        """
        self._check_struct(struct)
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
            raise TypeError(f"the number of objects is {count!r}, expected an integer")
        if not 0 <= count < 1 << 48:
            raise ValueError(f"the number of objects is {count}, expected 0 to {(1 << 48) - 1}")
        handle = ffi.new("gch_handle *")
        self._core.allocate(lib.bulk_new, struct._pointer, int(count), 0, struct._refs, handle)
        return _make_array(self._core, handle[0], struct)

    def refs(self, items: int | Sequence[Any], struct: StructType | None = None) -> RefArray:
        """Return a new array of references: so many null ones, or the ones given.

        Args:
            items: a count, or references (Ref, RefArray, HeapArray, None).
            struct: the only type that elements may have, or None for any.
        """
        if struct is not None:
            self._check_struct(struct)
        return new_refs(self._core, items, struct)

    def array(self, dtype: npt.DTypeLike, shape: int | tuple[int, ...] | list[int]) -> HeapArray:
        """Allocate an array of numbers, zeros: payload without references.

        Raises:
            TypeError: a dtype that objects cannot hold.
            HeapExhausted: there is no room, even after a collection.
        """
        return new_leaf(self._core, dtype, shape)

    # --- weak references, finalizers -------------------------------------------------------------

    def weakrefs(self, refs: RefArray | Sequence[Any]) -> WeakRefArray:
        """Return an array of weak references to the elements of ``refs``."""
        referents = refs if isinstance(refs, RefArray) else self.refs(refs)
        if referents._core is not self._core:
            raise ValueError(f"{referents!r} belongs to another heap")
        return new_weakrefs(self._core, referents)

    def finalize(
        self, ref: Any, callback: Callable[..., Any], /, *args: Any, **named: Any
    ) -> Finalizer:
        """Let ``callback(*args, **named)`` be called when the object has been collected.

        As ``weakref.finalize`` does it: the callback does not get the object, and what it or its
        arguments refer to is kept until then, so the object must not be among it. Callbacks that
        are due run in the order in which they were registered, as far as one collection finds
        them: from ``run_finalizers``, and by themselves before anything is allocated in the heap
        (``new``, ``refs``, indexing by a slice, ...) and at the end of ``collect`` and ``wait``, on
        the thread that does that; never inside a collection or with the world stopped, one at a
        time, not in another callback. An exception goes to ``sys.unraisablehook``. When the heap is
        closed, callbacks that have not run never do.

        Raises:
            NullReferenceError: the reference is null.
            HeapExhausted: there is no memory to remember it.
        """
        return finalize(self._core, ref, callback, args, named)

    def run_finalizers(self) -> int:
        """Run the callbacks whose objects have been collected; return how many have run."""
        self._core.settle()  # or says that the heap is closed
        return self._core.run_callbacks()

    def _check_struct(self, struct: StructType) -> None:
        if not isinstance(struct, StructType):
            raise TypeError(f"the type is {struct!r}, expected one that Heap.struct returned")
        if struct._token is not self._core.token:
            raise ValueError(f"{struct.name} is a struct of another heap")

    # --- graphs ----------------------------------------------------------------------------------

    def load(self, graph: ObjectGraph) -> RefArray:
        """Build the objects of a graph; return the table of its roots: ``gcheap.bridge.load``."""
        from gcheap import bridge

        return bridge.load(self, graph)

    def extract(self, table: RefArray) -> ObjectGraph:
        """Return what the elements of ``table`` reach: ``gcheap.bridge.extract``."""
        from gcheap import bridge

        if isinstance(table, RefArray) and table._core is not self._core:
            raise ValueError(f"{table!r} belongs to another heap")
        return bridge.extract(table)

    # --- collecting ------------------------------------------------------------------------------

    def collect(
        self,
        *,
        minor: bool = False,
        concurrent: bool = False,
        policy: Policy = "needed",
        promote: bool = False,
        wait: bool = True,
        background: bool = False,
    ) -> GCEvent:
        """Collect garbage, and return what that was like.

        Args:
            minor: the young space only, in a pause.
            concurrent: mark and move while other threads run.
            policy: which live pages move: "needed", "all", "release".
            promote: minor: promote every survivor, whatever its age.
            wait: return when the cycle has ended, not when its flip is done (with figures so far).
            background: concurrent: return when it has begun to mark, whatever ``wait`` says.

        Raises:
            ValueError: arguments of different kinds of collections together.
        """
        minor, concurrent = _flag(minor, "minor"), _flag(concurrent, "concurrent")
        promote, wait = _flag(promote, "promote"), _flag(wait, "wait")
        background = _flag(background, "background")
        _check_collection(minor, concurrent, policy, promote, background)
        options, report = ffi.new("gch_collect_options *"), ffi.new("gch_cycle *")
        lib.gch_collect_options_init_sized(options, ffi.sizeof("gch_collect_options"))
        options.policy = _choice(_POLICIES, policy, "policy")
        options.minor, options.concurrent = minor, concurrent
        options.promote, options.wait = promote, wait
        options.background = background
        self._core.settle()
        self._core.call(lib.bulk_collect, options, report)
        self._core.run_callbacks()
        return GCEvent.from_native(report)

    def wait(self) -> GCEvent | None:
        """Wait until no collection is running; return the last major one."""
        report = ffi.new("gch_cycle *")
        self._core.call(lib.bulk_collect_wait, report)
        self._core.run_callbacks()
        return GCEvent.from_native(report) if report.number else None

    def verify(self) -> None:
        """Check every invariant of the heap, with the world stopped.

        Raises:
            Corruption: names the first breach.
        """
        error = ffi.new("gch_error *")
        mutator_status: list[int] = []

        def checked(mutator: Any) -> int:
            mutator_status.append(lib.bulk_verify(mutator, error))
            return 0

        self._core.call(checked)
        if mutator_status[0] != lib.GCH_OK:
            raise exception_for(mutator_status[0], text(error.message))

    def inject(self, spec: str) -> None:
        """Add fault-injection rules (grammar in native/src/os/kernel_inject.c); "" clears them."""
        error = ffi.new("gch_error *")
        status = self._core.call_heap(lib.gch_inject, _text(spec, "spec"), error)
        if status != lib.GCH_OK:
            raise exception_for(status, text(error.message))

    # --- looking at it ---------------------------------------------------------------------------

    @property
    def stats(self) -> HeapStats:
        """Figures since the heap was created."""
        self._core.settle()
        native = ffi.new("gch_stats *")
        self._core.call_heap(lib.gch_stats_get, native, ffi.sizeof("gch_stats"))
        return HeapStats.from_native(native)

    @property
    def stall_report(self) -> StallReport | None:
        """What threads waited for in the last full collection; None before the first has ended.

        Example:
            >>> import gcheap
            >>> with gcheap.Heap("16MiB") as heap:
            ...     event = heap.collect(concurrent=True)
            ...     heap.stall_report.number == event.number
            True
        """
        report: StallReport | None = self._core.call_heap(read_report)
        return report

    def thread_stalls(self) -> ThreadStalls:
        """Stalls of the calling thread in this heap, since it first used it."""
        native = ffi.new("gch_stalls *")

        def read(mutator: Any) -> int:
            lib.gch_stalls_get(mutator, native, ffi.sizeof("gch_stalls"))
            return int(lib.GCH_OK)

        self._core.call(read)
        return ThreadStalls.from_native(native)

    def events(self, since: int = 0) -> EventArray:
        """Return the events kept, from sequence number ``since`` on: array of ``EVENT_DTYPE``."""
        if isinstance(since, bool) or not isinstance(since, (int, np.integer)):
            raise TypeError(f"since is {since!r}, expected an integer")
        if not 0 <= since < 1 << 64:
            raise ValueError(f"since is {since}, expected 0 to {(1 << 64) - 1}")
        events: EventArray = self._core.call_heap(read_events, int(since))
        return events

    def trace(self, path: str | os.PathLike[str]) -> Recorder:
        """Return a recorder of what the collector does, for ``with``; afterwards it is in a file.

        Args:
            path: of a trace that ui.perfetto.dev and chrome://tracing open: .json or .json.gz;
                .pftrace (or .perfetto-trace) for one in Perfetto's own format.

        Raises:
            Unsupported: Perfetto's format, without the ``perfetto`` package.
        """
        from gcheap.trace import Recorder

        return Recorder(self, path)

    def map(self) -> npt.NDArray[np.void]:
        """Return the blocks of the arenas in use: array of ``BLOCK_DTYPE``, by address."""
        found: list[npt.NDArray[np.void]] = []

        def read(mutator: Any) -> int:
            capacity = lib.bulk_map(mutator, ffi.NULL, 0)
            while True:
                blocks = np.zeros(capacity, dtype=BLOCK_DTYPE)
                into = ffi.cast("gch_block_info *", blocks.ctypes.data)
                count = lib.bulk_map(mutator, into, capacity)
                if count <= capacity:
                    found.append(blocks[:count])
                    return 0
                capacity = count

        self._core.call(read)
        return found[0]

    # --- end -------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the heap is closed."""
        return self._core.closed

    def close(self) -> None:
        """Give everything back. Everything made from the heap is unusable afterwards, but numpy
        arrays over pinned memory stay valid. Closing twice does nothing.

        Raises:
            BufferError: a view is open; the heap stays open.
            InvalidOperation: a native thread uses the heap; the heap stays open.
        """
        self._core.close()

    def __enter__(self) -> Heap:
        if self._core.closed:
            raise HeapClosedError("the heap is closed")
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._core.closed:
            return "<Heap closed>"
        return f"<Heap {self.stats.mover}, {self.stats.heap_bytes} of {self.stats.max_bytes} bytes>"
