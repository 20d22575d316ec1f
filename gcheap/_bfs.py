"""Breadth-first order over CSR arrays, vectorised by level.

One routine serves reachability and the canonical numbering. A level is worked off in chunks of a
bounded number of slots, so temporaries stay small on graphs of 10^8 slots; a level of a few nodes
(a list, the spine of a tree) is walked by a scalar loop, because a numpy call costs more than it
saves.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CHUNK_SLOTS = 1 << 21
"""Slots handled by one round of numpy calls (16 MiB a temporary)."""
SCALAR_BELOW = 48
"""A level of fewer nodes is walked by the scalar loop..."""
VECTOR_ABOVE = 384
"""... which hands back to numpy when this many nodes wait in its queue."""


def slot_positions(starts: Int64Array, counts: Int64Array) -> Int64Array:
    """Return all ``arange(starts[i], starts[i] + counts[i])`` in a row, int64 (sum(counts),)."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if ends.size else 0
    return np.repeat(starts - (ends - counts), counts) + np.arange(total, dtype=np.int64)


def slot_chunks(counts: Int64Array, limit: int = CHUNK_SLOTS) -> Iterator[tuple[int, int]]:
    """Cut the nodes into half-open ranges of about ``limit`` slots, at least one node each."""
    ends = np.cumsum(counts)
    begin, done = 0, 0
    while begin < len(counts):
        end = int(np.searchsorted(ends, done + limit, side="right"))
        end = min(max(end, begin + 1), begin + limit, len(counts))
        yield begin, end
        begin, done = end, int(ends[end - 1])


def gather_slots(indptr: Int64Array, indices: Int64Array, nodes: Int64Array) -> Int64Array:
    """Return the slots of ``nodes`` one node after the other, int64 (total outdegree,)."""
    starts = indptr[nodes]
    return indices[slot_positions(starts, indptr[nodes + 1] - starts)]


class _Search:
    """The state of one search: who was seen, in which order, and a scratch word a node."""

    def __init__(self, indptr: Int64Array, indices: Int64Array) -> None:
        n = len(indptr) - 1
        self.indptr = indptr
        self.indices = indices
        self.seen: BoolArray = np.zeros(n, dtype=np.bool_)
        self.order: Int64Array = np.empty(n, dtype=np.int64)
        self.count = 0
        self._scratch: Int64Array = np.empty(n, dtype=np.int64)

    def visit(self, targets: Int64Array) -> None:
        """Append the unseen nodes of ``targets`` (-1 = null) in order of first occurrence."""
        fresh = targets[targets >= 0]
        fresh = fresh[~self.seen[fresh]]
        if not fresh.size:
            return
        place = np.arange(fresh.size, dtype=np.int64)
        self._scratch[fresh[::-1]] = place[::-1]  # the last assignment stands: the first occurrence
        fresh = fresh[self._scratch[fresh] == place]
        self.seen[fresh] = True
        self.order[self.count : self.count + fresh.size] = fresh
        self.count += fresh.size

    def expand(self, begin: int, end: int) -> None:
        """Visit the targets of the nodes ``order[begin:end]``."""
        level = self.order[begin:end].copy()
        counts = self.indptr[level + 1] - self.indptr[level]
        for low, high in slot_chunks(counts):
            if self.count == len(self.seen):
                return
            self.visit(gather_slots(self.indptr, self.indices, level[low:high]))

    def walk(self, begin: int) -> int:
        """Search from ``order[begin]`` on until the queue is empty or wide; return its head."""
        indptr, indices = self.indptr.data, self.indices.data
        seen, order = self.seen.data, self.order.data
        count = self.count
        while begin < count < begin + VECTOR_ABOVE:
            node = order[begin]
            begin += 1
            for target in indices[indptr[node] : indptr[node + 1]]:
                if target >= 0 and not seen[target]:
                    seen[target] = True
                    order[count] = target
                    count += 1
        self.count = count
        return begin

    def run(self) -> None:
        """Search until nothing new is found."""
        head = 0
        while head < self.count < len(self.seen):
            if self.count - head < SCALAR_BELOW:
                head = self.walk(head)
            else:
                level_end = self.count
                self.expand(head, level_end)
                head = level_end


def breadth_first(
    indptr: Int64Array, indices: Int64Array, roots: Int64Array
) -> tuple[Int64Array, BoolArray]:
    """Search from ``roots``, slots in order.

    Args:
        indptr: int64 (n + 1,), the first slot of each node.
        indices: int64 (slots,), the target of each slot, -1 = null.
        roots: int64, node ids in order; repeats and -1 are skipped.

    Returns:
        The reached nodes in order of first discovery, int64; and the mask of reached nodes, bool
        (n,).
    """
    search = _Search(np.ascontiguousarray(indptr), np.ascontiguousarray(indices))
    search.visit(roots)
    search.run()
    return search.order[: search.count], search.seen
