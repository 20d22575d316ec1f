"""Workloads in C, driven by numpy index arrays: no interpreter sits in a measured loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._errors import InvalidOperation, exception_for
from gcheap._ffi import ffi, lib, text
from gcheap._vector import address
from gcheap.graph import ObjectGraph
from gcheap.heap import Heap
from gcheap.refs import RefArray
from gcheap.struct import new_type

__all__ = ["GAP_DTYPE", "Beside", "BesideResult", "Schedule", "replay"]

GAP_DTYPE = np.dtype([("start_ns", "u8"), ("length_ns", "u8")])
GARBAGE_BYTES = 48
MAX_STEPS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """What a mutator does, operation by operation, over and over.

    Attributes:
        starts: uint32 (n,), the table element at which operation i starts.
        turns: uint64 (n,), which references it follows, a byte a step.
        steps: references to follow, at most 8.
        store_every: every so many operations two references of the last object change places; 0:
            never.
        alloc_every: every so many operations an object is allocated and dropped; 0: never.
    """

    starts: npt.NDArray[np.uint32]
    turns: npt.NDArray[np.uint64]
    steps: int = MAX_STEPS
    store_every: int = 10
    alloc_every: int = 20

    @classmethod
    def random(
        cls, elements: int, rng: np.random.Generator, entries: int = 1 << 20, **rates: int
    ) -> Schedule:
        """Draw a schedule that starts anywhere in a table of ``elements``."""
        if elements <= 0:
            raise ValueError(f"the table has {elements} elements, expected at least one")
        starts = rng.integers(0, elements, entries, dtype=np.uint32)
        turns = rng.integers(0, 1 << 64, entries, dtype=np.uint64)
        return cls(starts, turns, **rates)

    def check(self, elements: int) -> None:
        """Raise ValueError if an operation would start beyond a table of ``elements``."""
        if self.starts.shape != self.turns.shape or self.starts.ndim != 1 or not self.starts.size:
            raise ValueError(f"{self.starts.shape} starts and {self.turns.shape} turns do not pair")
        if self.starts.dtype != np.uint32 or self.turns.dtype != np.uint64:
            raise TypeError(f"starts {self.starts.dtype}, turns {self.turns.dtype}: not u4 and u8")
        if int(self.starts.max()) >= elements:
            raise ValueError(f"start {self.starts.max()} is beyond a table of {elements}")
        if not 0 <= self.steps <= MAX_STEPS:
            raise ValueError(f"steps is {self.steps}, expected 0 to {MAX_STEPS}")


@dataclass(frozen=True, slots=True, eq=False)
class BesideResult:
    """What the mutator did and saw.

    Attributes:
        ops: operations, and in them ``steps``, ``stores``, ``allocs``; ``failed_allocs`` of these.
        checksum: of the labels visited, in order.
        start_ns: CLOCK_MONOTONIC of the first operation; ``end_ns`` of the end of the last.
        gaps: GAP_DTYPE, times without progress longer than the limit; ``gap_count`` in all.
        ops_by_ms: uint32, operations finished in each millisecond since the start.
    """

    ops: int
    steps: int
    stores: int
    allocs: int
    failed_allocs: int
    checksum: int
    start_ns: int
    end_ns: int
    gaps: npt.NDArray[np.void]
    gap_count: int
    gap_sum_s: float
    gap_max_s: float
    ops_by_ms: npt.NDArray[np.uint32]

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.ops / ((self.end_ns - self.start_ns) * 1e-9) if self.ops else 0.0


class Beside:
    """A native thread that uses a loaded graph while something else happens to the heap.

    Args:
        heap: the heap.
        table: a table of objects loaded by ``Heap.load``.
        schedule: what to do.
        max_ops: stop by itself after so many operations; 0: run until ``finish``.
        gap_ns: note gaps between operations longer than this.
        seconds: how long ``ops_by_ms`` goes on counting.

    ``with`` starts it, and at the end stops it; ``result`` is there then.
    """

    def __init__(
        self,
        heap: Heap,
        table: RefArray,
        schedule: Schedule,
        *,
        max_ops: int = 0,
        gap_ns: int = 20_000,
        seconds: float = 60.0,
        gap_capacity: int = 1 << 20,
    ) -> None:
        schedule.check(len(table))
        self.result: BesideResult | None = None
        self._heap = heap
        self._table = table
        self._schedule = schedule
        self._gaps = np.zeros(gap_capacity, dtype=GAP_DTYPE)
        self._ops_by_ms = np.zeros(int(seconds * 1000), dtype=np.uint32)
        self._run: Any = None
        config = _config(schedule)
        config.table = table._handle
        config.garbage = _garbage_type(heap)
        config.garbage_bytes = GARBAGE_BYTES
        config.max_ops = max_ops
        config.gap_ns = gap_ns
        config.gaps = ffi.cast("beside_gap *", self._gaps.ctypes.data)
        config.gap_capacity = gap_capacity
        config.ops_by_ms = ffi.cast("uint32_t *", self._ops_by_ms.ctypes.data)
        config.ms_capacity = len(self._ops_by_ms)
        self._config = config

    def start(self) -> Beside:
        """Start the thread; return when it is attached."""
        if self._run is not None:
            raise InvalidOperation("the workload runs already")
        out, error = ffi.new("beside **"), ffi.new("gch_error *")
        status = self._heap._core.call_heap(lib.beside_start, self._config, out, error)
        if status != lib.GCH_OK:
            raise exception_for(status, text(error.message))
        self._run = out[0]
        return self

    @property
    def ops(self) -> int:
        """Operations done so far."""
        if self._run is None:
            return self.result.ops if self.result is not None else 0
        return int(lib.beside_ops(self._run))

    def finish(self, *, now: bool = True) -> BesideResult:
        """Stop the thread (``now``), or wait until it has done ``max_ops`` operations."""
        if self._run is None:
            raise InvalidOperation("the workload does not run")
        run, self._run = self._run, None
        raw = ffi.new("beside_result *")
        lib.beside_finish(run, now, raw)
        self.result = self._convert(raw)
        return self.result

    def _convert(self, raw: Any) -> BesideResult:
        kept = min(int(raw.gap_count), len(self._gaps))
        ms = (int(raw.end_ns) - int(raw.start_ns)) // 1_000_000 + 1
        return BesideResult(
            ops=int(raw.ops),
            steps=int(raw.steps),
            stores=int(raw.stores),
            allocs=int(raw.allocs),
            failed_allocs=int(raw.failed_allocs),
            checksum=int(raw.checksum),
            start_ns=int(raw.start_ns),
            end_ns=int(raw.end_ns),
            gaps=self._gaps[:kept].copy(),
            gap_count=int(raw.gap_count),
            gap_sum_s=raw.gap_sum_ns * 1e-9,
            gap_max_s=raw.gap_max_ns * 1e-9,
            ops_by_ms=self._ops_by_ms[:ms].copy(),
        )

    def __enter__(self) -> Beside:
        return self.start()

    def __exit__(self, *raised: object) -> None:
        if self._run is not None:
            self.finish()

    def __del__(self) -> None:
        if getattr(self, "_run", None) is not None:
            self.finish()


def replay(graph: ObjectGraph, schedule: Schedule, ops: int) -> tuple[ObjectGraph, int]:
    """Do the first ``ops`` operations to the arrays of the graph that was loaded.

    Returns:
        The graph as the heap must hold it then, and the checksum that the workload must have.
    """
    schedule.check(len(graph.roots))
    indices = np.array(graph.indices, dtype=np.int64)
    sizes = np.ascontiguousarray(graph.sizes, dtype=np.uint64)
    roots = np.ascontiguousarray(graph.roots)
    indptr = np.ascontiguousarray(graph.indptr)
    shadow = ffi.new("beside_shadow *")
    shadow.table = address(roots, "const int64_t *")
    shadow.sizes = address(sizes, "const uint64_t *")
    shadow.indptr = address(indptr, "const int64_t *")
    shadow.indices = address(indices, "int64_t *")
    raw = ffi.new("beside_result *")
    lib.beside_replay(_config(schedule), shadow, ops, raw)
    after = ObjectGraph(
        graph.sizes, graph.types, graph.indptr, indices, graph.roots, graph.type_names
    )
    return after, int(raw.checksum)


def _config(schedule: Schedule) -> Any:
    config = ffi.new("beside_config *")
    config.starts = address(schedule.starts, "const uint32_t *")
    config.turns = address(schedule.turns, "const uint64_t *")
    config.schedule = len(schedule.starts)
    config.steps = schedule.steps
    config.store_every = schedule.store_every
    config.alloc_every = schedule.alloc_every
    return config


def _garbage_type(heap: Heap) -> Any:
    core = heap._core
    with core.type_lock:
        native = core.interned.get("garbage")
        if native is None:
            native = core.interned["garbage"] = new_type(
                core, "garbage", 0, tail=lib.GCH_TAIL_BYTES, tail_bytes=1
            )
    return native
