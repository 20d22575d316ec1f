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

from gcheap._errors import InvalidOperation
from gcheap._ffi import ffi, lib
from gcheap.heap import Heap
from gcheap.refs import RefArray, _make_array
from gcheap.runner import Runner, Stamps
from gcheap.struct import refs_type

__all__ = ["Cache", "Loop", "LoopResult", "Walk", "cache_entries", "zipf_ranks"]

NODE_BYTES = 64
ENTRY_BYTES = 432
"""About: entry, record, three texts and their places in the arrays."""
ANYWHERE = 65536
GAP_NS = 5_000
KEYS_AN_ENTRY = 2
EXPONENT = 0.8


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoopResult(Stamps):
    """What a loop did and saw.

    Attributes:
        stores: in the operations, as ``allocs`` (``failed_allocs`` of these) and ``misses``.
        checksum: of what was read.
    """

    stores: int
    allocs: int
    misses: int
    failed_allocs: int
    checksum: int


class Loop(Runner[LoopResult]):
    """A native thread that stamps its progress; the class itself is the control, without a heap.

    Args:
        heap: what it works on; None: the control.
        seconds: how long ``ops_by_ms`` goes on counting.
        cpu: the only CPU that the thread runs on; None: any.
        gap_ns: note gaps between operations longer than this.
        steps: steps or look-ups an operation.
        seed: of its random numbers.
    """

    def __init__(
        self,
        heap: Heap | None = None,
        *,
        seconds: float = 60.0,
        cpu: int | None = None,
        gap_ns: int = GAP_NS,
        gap_capacity: int = 1 << 20,
        steps: int = 1,
        seed: int = 1,
    ) -> None:
        config = ffi.new("loop_config *")
        config.kind = lib.LOOP_CONTROL
        config.cpu = -1 if cpu is None else cpu
        config.steps = steps
        config.seed = seed
        super().__init__(
            "loop",
            LoopResult,
            config,
            heap,
            gap_ns=gap_ns,
            gap_capacity=gap_capacity,
            seconds=seconds,
        )


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
        super().__init__(heap, steps=steps, **options)
        share = 1.0 if thin_every == 0 else 1 - (1 - 1 / keep_every) / thin_every
        self.nodes = max(1, int(live_bytes / NODE_BYTES / share))
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
        super().__init__(heap, **options)
        self.entries = cache_entries(live_bytes)
        keys = KEYS_AN_ENTRY * self.entries
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
