"""R-MAT (Chakrabarti, Zhan, Faloutsos 2004): edges drawn by choosing a quadrant of the matrix per
level.

Deviation: several levels are drawn at once, from Walker's alias table over all combinations of
their quadrants, so an edge of 24 levels costs three random words instead of 24.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from gcheap.graph import HEADER_BYTES, SLOT_BYTES, ObjectGraph

Int64Array = npt.NDArray[np.int64]
Uint32Array = npt.NDArray[np.uint32]

QUADRANTS = (0.57, 0.19, 0.19, 0.05)
EDGES_A_VERTEX = 8
_MAX_LEVELS = 8
_CHUNK_EDGES = 1 << 15
_BLOCK_EDGES = 1 << 21
_THREADS = 2
_VERTEX_BITS = 32
_VERTEX_MASK = (1 << _VERTEX_BITS) - 1


class _LevelTable:
    """Draw ``levels`` levels at once: a row bit and a column bit each."""

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.bits = 2 * levels
        chances = np.ones(1)
        for _ in range(levels):
            chances = np.multiply.outer(chances, np.asarray(QUADRANTS)).reshape(-1)
        self.threshold, self.alias = _alias_table(chances)
        outcome = np.arange(len(chances), dtype=np.int64)
        rows, columns = _every_second_bit(outcome >> 1, levels), _every_second_bit(outcome, levels)
        self.packed = rows << _VERTEX_BITS | columns

    def draw(self, count: int, rng: np.random.Generator) -> Int64Array:
        """Draw ``count`` edges as row << 32 | column of ``levels`` bits each."""
        word = rng.integers(0, 1 << 32, count, dtype=np.uint32)
        column = word >> np.uint32(32 - self.bits)
        rest = word & np.uint32((1 << (32 - self.bits)) - 1)
        outcome = np.where(rest < self.threshold[column], column, self.alias[column])
        return self.packed[outcome]


def _every_second_bit(values: Int64Array, count: int) -> Int64Array:
    """Gather bits 0, 2, 4, ... of each value."""
    gathered = np.zeros_like(values)
    for bit in range(count):
        gathered |= (values >> (2 * bit) & 1) << bit
    return gathered


def _alias_table(
    chances: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Return Walker's table: keep column i below threshold[i], else take alias[i].

    Thresholds are scaled to the bits of a 32-bit word that the column number leaves.
    """
    n = len(chances)
    share = (chances / chances.sum() * n).tolist()
    alias = list(range(n))
    poor = [i for i in range(n) if share[i] < 1]
    rich = [i for i in range(n) if share[i] >= 1]
    keep = [1.0] * n
    while poor and rich:
        low, high = poor.pop(), rich[-1]
        keep[low], alias[low] = share[low], high
        share[high] -= 1 - share[low]
        if share[high] < 1:
            poor.append(rich.pop())
    scale = float(1 << (32 - (n - 1).bit_length()))
    return np.rint(np.asarray(keep) * scale).astype(np.uint32), np.asarray(alias, dtype=np.uint32)


def rmat_graph(nbytes: int, rng: np.random.Generator) -> ObjectGraph:
    """Generate the graph ``gcheap.sources.generators.rmat`` describes."""
    if nbytes < 1:
        raise ValueError(f"nbytes is {nbytes}, expected a positive number of bytes")
    scale, edges = _scale_for(nbytes)
    keys = _draw_edges(scale, edges, rng)
    keys.sort()
    n = 1 << scale
    indptr = np.searchsorted(keys, np.arange(n + 1, dtype=np.int64) << _VERTEX_BITS).astype(
        np.int64
    )
    keys &= _VERTEX_MASK
    sizes = np.maximum(HEADER_BYTES + SLOT_BYTES * np.diff(indptr), 16).astype(np.uint32)
    roots = np.arange(n, dtype=np.int64)
    return ObjectGraph(sizes, np.zeros(n, dtype=np.uint16), indptr, keys, roots, ("Vertex",))


def _scale_for(nbytes: int) -> tuple[int, int]:
    """Return the scale and the number of edges that make up ``nbytes`` bytes.

    A vertex costs about 14 bytes beside its references: the header, and the rounding to 16 (an
    average of 4 where sizes are multiples of 8; more for the many vertices without references).
    """
    overhead = 14
    ideal = nbytes / (overhead + SLOT_BYTES * EDGES_A_VERTEX)
    scale = max(0, round(np.log2(max(ideal, 1))))
    return scale, max(1, (nbytes - overhead * (1 << scale)) // SLOT_BYTES)


def _draw_edges(scale: int, edges: int, rng: np.random.Generator) -> Int64Array:
    """Draw edges as from << 32 | to, vertices renumbered at random, int64 (edges,).

    Each block of edges has a generator of its own, so the result does not depend on the threads.
    """
    renumber = _Renumbering(scale, rng)
    rounds = [_LevelTable(levels) for levels in _split_levels(scale)]
    keys = np.empty(edges, dtype=np.int64)
    blocks = [keys[begin : begin + _BLOCK_EDGES] for begin in range(0, edges, _BLOCK_EDGES)]

    def fill(block: Int64Array, block_rng: np.random.Generator) -> None:
        for begin in range(0, len(block), _CHUNK_EDGES):
            _fill_chunk(block[begin : begin + _CHUNK_EDGES], rounds, renumber, block_rng)

    with ThreadPoolExecutor(max_workers=_THREADS) as threads:
        list(threads.map(fill, blocks, rng.spawn(len(blocks))))
    return keys


def _fill_chunk(
    chunk: Int64Array, rounds: list[_LevelTable], renumber: _Renumbering, rng: np.random.Generator
) -> None:
    chunk[:] = 0
    for table in rounds:
        chunk <<= table.levels
        chunk |= table.draw(len(chunk), rng)
    targets = renumber(chunk.astype(np.uint32))
    chunk >>= _VERTEX_BITS
    chunk[:] = renumber(chunk.astype(np.uint32))
    chunk <<= _VERTEX_BITS
    chunk |= targets


class _Renumbering:
    """A random bijection on ``scale``-bit numbers by arithmetic: a table lookup would miss the
    cache.

    Odd multiples modulo 2^scale and folding the upper half onto the lower are each one to one.
    """

    def __init__(self, scale: int, rng: np.random.Generator) -> None:
        self.mask = np.uint32((1 << scale) - 1)
        self.fold = np.uint32(max(1, (scale + 1) // 2))
        words = rng.integers(0, 1 << 32, 3, dtype=np.uint32)
        self.shift, *self.multipliers = words | np.uint32(1)

    def __call__(self, vertices: Uint32Array) -> Uint32Array:
        """Renumber in place and return ``vertices``."""
        vertices += self.shift
        for multiplier in self.multipliers:
            vertices *= multiplier
            vertices &= self.mask
            vertices ^= vertices >> self.fold
        return vertices


def _split_levels(scale: int) -> list[int]:
    """Split ``scale`` into near equal parts of at most 8 levels."""
    parts = -(-scale // _MAX_LEVELS)
    return [scale // parts + (i < scale % parts) for i in range(parts)]
