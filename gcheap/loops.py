"""Mutators for measuring collections: a walk, a cache, a loop without a heap, each with stamps.

They are C threads with random numbers of their own (native/workloads/loops.h). What they were made
of can be checked afterwards: ``Walk.check``, ``Cache.check``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._errors import InvalidOperation, exception_for
from gcheap._ffi import ffi, lib, text
from gcheap.heap import Heap
from gcheap.refs import RefArray, _make_array
from gcheap.struct import refs_type
from gcheap.workloads import GAP_DTYPE

__all__ = ["Cache", "Loop", "LoopResult", "Walk", "cache_entries", "zipf_ranks"]

NODE_BYTES = 64
ENTRY_BYTES = 432
"""About: entry, record, three texts and their places in the arrays."""
ANYWHERE = 65536
GAP_NS = 5_000
KEYS_AN_ENTRY = 2
EXPONENT = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class LoopResult:
    """What a loop did and saw.

    Attributes:
        ops: operations; in them ``stores``, ``allocs`` (``failed_allocs`` of these), ``misses``.
        checksum: of what was read.
        start_ns: CLOCK_MONOTONIC of the first operation; ``end_ns`` of the end of the last.
        gaps: GAP_DTYPE, times without progress longer than the limit; ``gap_count`` in all.
        ops_by_ms: uint32, operations finished in each millisecond since the start.
    """

    ops: int
    stores: int
    allocs: int
    misses: int
    failed_allocs: int
    checksum: int
    start_ns: int
    end_ns: int
    gaps: npt.NDArray[np.void]
    gap_count: int
    gap_max_s: float
    ops_by_ms: npt.NDArray[np.uint32]


class Loop:
    """A native thread that stamps its progress; the class itself is the control, without a heap.

    Args:
        seconds: how long ``ops_by_ms`` goes on counting.
        cpu: the only CPU that the thread runs on; None: any.
        gap_ns: note gaps between operations longer than this.
        steps: steps or look-ups an operation.
        seed: of its random numbers.

    ``with`` starts it, and at the end stops it; ``result`` is there then.
    """

    def __init__(
        self,
        *,
        seconds: float = 60.0,
        cpu: int | None = None,
        gap_ns: int = GAP_NS,
        gap_capacity: int = 1 << 20,
        steps: int = 1,
        seed: int = 1,
    ) -> None:
        self.result: LoopResult | None = None
        self._heap: Heap | None = None
        self._run: Any = None
        self._gaps = np.zeros(gap_capacity, dtype=GAP_DTYPE)
        self._ops_by_ms = np.zeros(int(seconds * 1000), dtype=np.uint32)
        self._config = ffi.new("loop_config *")
        self._config.kind = lib.LOOP_CONTROL
        self._config.cpu = -1 if cpu is None else cpu
        self._config.steps = steps
        self._config.seed = seed
        self._config.gap_ns = gap_ns
        self._config.gaps = ffi.cast("beside_gap *", self._gaps.ctypes.data)
        self._config.gap_capacity = gap_capacity
        self._config.ops_by_ms = ffi.cast("uint32_t *", self._ops_by_ms.ctypes.data)
        self._config.ms_capacity = len(self._ops_by_ms)

    @property
    def ops(self) -> int:
        """Operations done so far."""
        if self._run is None:
            return self.result.ops if self.result is not None else 0
        return int(lib.loop_ops(self._run))

    def start(self) -> Loop:
        """Start the thread; return when it is attached."""
        if self._run is not None:
            raise InvalidOperation("the loop runs already")
        out, error = ffi.new("loop **"), ffi.new("gch_error *")
        if self._heap is None:
            status = lib.loop_start(ffi.NULL, self._config, out, error)
        else:
            status = self._heap._core.call_heap(lib.loop_start, self._config, out, error)
        if status != lib.GCH_OK:
            raise exception_for(status, text(error.message))
        self._run = out[0]
        return self

    def finish(self) -> LoopResult:
        """Stop the thread and return what it did."""
        if self._run is None:
            raise InvalidOperation("the loop does not run")
        run, self._run = self._run, None
        raw = ffi.new("loop_result *")
        lib.loop_finish(run, raw)
        kept = min(int(raw.gap_count), len(self._gaps))
        ms = (int(raw.end_ns) - int(raw.start_ns)) // 1_000_000 + 1
        self.result = LoopResult(
            ops=int(raw.ops),
            stores=int(raw.stores),
            allocs=int(raw.allocs),
            misses=int(raw.misses),
            failed_allocs=int(raw.failed_allocs),
            checksum=int(raw.checksum),
            start_ns=int(raw.start_ns),
            end_ns=int(raw.end_ns),
            gaps=self._gaps[:kept].copy(),
            gap_count=int(raw.gap_count),
            gap_max_s=raw.gap_max_ns * 1e-9,
            ops_by_ms=self._ops_by_ms[:ms].copy(),
        )
        return self.result

    def __enter__(self) -> Loop:
        return self.start()

    def __exit__(self, *raised: object) -> None:
        if self._run is not None:
            self.finish()

    def __del__(self) -> None:
        if getattr(self, "_run", None) is not None:
            self.finish()


class Walk(Loop):
    """A random walk through a graph of its own: nodes of 64 bytes, two random references each.

    Args:
        heap: where the graph is made.
        live_bytes: of the nodes that stay.
        cluster: nodes that are neighbours in memory and belong together.
        thin_every: of so many clusters the last is thinned out; 0: none is.
        keep_every: there one of so many nodes stays.
        across: share of the random references that lead anywhere; the others stay in the cluster.
        store_every: every so many operations two references change places; 0: never.
        alloc_every: every so many operations an object is allocated and dropped; 0: never.
        options: of ``Loop``.

    Attributes:
        live: nodes that stay; ``nodes``: that there were at first.
    """

    def __init__(
        self,
        heap: Heap,
        live_bytes: int,
        *,
        cluster: int = 4096,
        thin_every: int = 8,
        keep_every: int = 10,
        across: float = 1.0,
        store_every: int = 32,
        alloc_every: int = 32,
        steps: int = 4,
        **options: Any,
    ) -> None:
        super().__init__(steps=steps, **options)
        share = 1.0 if thin_every == 0 else 1 - (1 - 1 / keep_every) / thin_every
        self.nodes = max(1, int(live_bytes / NODE_BYTES / share))
        self._heap = heap
        self._shape = ffi.new("walk_shape *")
        self._shape.nodes = self.nodes
        self._shape.cluster = cluster
        self._shape.thin_every = thin_every
        self._shape.keep_every = keep_every
        self._shape.across = round(across * ANYWHERE)
        self._shape.seed = self._config.seed
        handle, live = ffi.new("gch_handle *"), ffi.new("uint64_t *")
        refs = refs_type(heap._core, None)
        heap._core.allocate(lib.walk_build, self._shape, refs, handle, live)
        self.live = int(live[0])
        self._heads = _make_array(heap._core, handle[0], None)
        self._config.kind = lib.LOOP_WALK
        self._config.first = handle[0]
        self._config.store_every = store_every
        self._config.alloc_every = alloc_every

    def check(self) -> None:
        """Raise Corruption unless all that should live does, and is what it was."""
        assert self._heap is not None
        nodes = ffi.new("uint64_t *")
        self._heap._core.call(lib.walk_check, self._heads._handle, self._shape, nodes)
        if int(nodes[0]) != self.live:
            raise AssertionError(f"{nodes[0]} nodes are there, {self.live} were made")


class Cache(Loop):
    """A cache with popular and less popular keys: hits read, misses allocate and evict.

    Args:
        heap: where it is made.
        live_bytes: of all its objects, about.
        exponent: of the popularity of keys, 0 (all the same) to less than 1.
        options: of ``Loop``.

    Attributes:
        entries: how many it has.
    """

    def __init__(
        self,
        heap: Heap,
        live_bytes: int,
        *,
        exponent: float = EXPONENT,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.entries = cache_entries(live_bytes)
        keys = KEYS_AN_ENTRY * self.entries
        self._heap = heap
        self._ranks = zipf_ranks(keys, exponent)
        arrays = ffi.new("gch_handle[2]")
        refs = refs_type(heap._core, None)
        build = (self.entries, keys, refs, arrays, arrays + 1)
        heap._core.allocate(lib.cache_build, *build)
        self._arrays: list[RefArray] = [_make_array(heap._core, one, None) for one in arrays]
        self._config.kind = lib.LOOP_CACHE
        self._config.first, self._config.second = arrays[0], arrays[1]
        self._config.keys = keys
        self._seeds = itertools.count(self._config.seed)
        self._config.ranks = ffi.cast("const uint64_t *", self._ranks.ctypes.data)

    def churn(self, misses: int) -> None:
        """Let so many entries be evicted, as quickly as it can be done; the loop does not run."""
        assert self._heap is not None
        if self._run is not None:
            raise InvalidOperation("the loop runs")
        handles = [array._handle for array in self._arrays]
        rest = (int(self._config.keys), misses, next(self._seeds))
        self._heap._core.allocate(lib.cache_churn, *handles, *rest)

    def check(self) -> None:
        """Raise Corruption unless every entry is listed by its key, and holds what is its own."""
        assert self._heap is not None
        entries = ffi.new("uint64_t *")
        handles = [array._handle for array in self._arrays]
        self._heap._core.call(lib.cache_check, *handles, entries)
        if int(entries[0]) != self.entries:
            raise AssertionError(f"{entries[0]} entries are there, {self.entries} were made")


def cache_entries(live_bytes: int) -> int:
    """Return how many entries a cache of so many bytes has."""
    return max(1, live_bytes // ENTRY_BYTES)


def zipf_ranks(keys: int, exponent: float) -> npt.NDArray[np.uint64]:
    """Return ranks below which shares 0, 1/65536, ..., 1 of the look-ups fall.

    Rank r is looked up in proportion to about (r + 1) ** -exponent.
    """
    if not 0 <= exponent < 1:
        raise ValueError(f"exponent is {exponent!r}, expected 0 to less than 1")
    shares = np.arange(lib.LOOP_QUANTILES + 1) / lib.LOOP_QUANTILES
    ranks: npt.NDArray[np.uint64] = np.floor(keys * shares ** (1 / (1 - exponent))).astype(
        np.uint64
    )
    return np.minimum(ranks, np.uint64(keys))
