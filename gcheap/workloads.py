"""Workloads in C, driven by numpy index arrays: no interpreter sits in a measured loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._ffi import ffi, lib
from gcheap._vector import address
from gcheap.graph import ObjectGraph
from gcheap.heap import Heap
from gcheap.refs import RefArray
from gcheap.runner import Runner, Stamps
from gcheap.struct import new_type

__all__ = ["Beside", "BesideResult", "Schedule", "replay"]

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


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BesideResult(Stamps):
    """What the mutator did and saw.

    Attributes:
        steps: in the operations, as ``stores`` and ``allocs``; ``failed_allocs`` of these.
        checksum: of the labels visited, in order.
    """

    steps: int
    stores: int
    allocs: int
    failed_allocs: int
    checksum: int


class Beside(Runner[BesideResult]):
    """A native thread that uses a loaded graph while something else happens to the heap.

    Args:
        heap: the heap.
        table: a table of objects loaded by ``Heap.load``.
        schedule: what to do.
        max_ops: stop by itself after so many operations; 0: run until ``finish``.
        gap_ns: note gaps between operations longer than this.
        seconds: how long ``ops_by_ms`` goes on counting.
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
        self._table = table
        self._schedule = schedule
        config = _config(schedule)
        config.table = table._handle
        config.garbage = _garbage_type(heap)
        config.garbage_bytes = GARBAGE_BYTES
        config.max_ops = max_ops
        super().__init__(
            "beside",
            BesideResult,
            config,
            heap,
            gap_ns=gap_ns,
            gap_capacity=gap_capacity,
            seconds=seconds,
        )


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
