"""Generated object graphs: seeded, vectorised, by the bytes of live objects wanted.

Every generator takes ``nbytes`` (target for ``graph.nbytes``; the result is at most that and short
of it by less than one object, but at least one object; ``rmat`` within 1 %) and a
``numpy.random.Generator``. Objects are numbered in allocation order. Unless said otherwise the
roots are one table of all objects, so that a program can let go of any object by clearing its entry
(and the references to it: ``gcheap.sources.ageing``).

The laws of ``mixed`` (sizes in bytes with the 8-byte header; one object in 2,000 is large):

====== ===========================================================================================
60 %   ``Struct``: 2 to 4 references and up to 96 bytes in all, at least 32, steps of 8
25 %   ``Bytes``: 16 to 2,048 bytes without references, log-uniform
10 %   ``Refs``: arrays of 4 to 64 references
5 %    ``Tail``: 2 references and a tail of 16 to 512 bytes
large  64 KiB to 1 MiB log-uniform (at most nbytes/16, at least 64 KiB), half ``Bytes``, half
       ``Refs`` of which at most 64 references are not null
====== ===========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcheap._bfs import slot_chunks, slot_positions
from gcheap._memory import available_bytes
from gcheap.graph import HEADER_BYTES, SLOT_BYTES, ObjectGraph, rounded
from gcheap.sources._rmat import rmat_graph

__all__ = [
    "GENERATORS",
    "clustered",
    "generate",
    "leaf",
    "linked_list",
    "mixed",
    "rmat",
    "structs",
    "tree",
]

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Picker = Callable[[Int64Array], Int64Array]
"""From the referring object of each slot (int64) to its target (int64, -1 = null)."""

TYPE_NAMES = ("Struct", "Bytes", "Refs", "Tail")
STRUCT, BYTES, REFS, TAIL = range(4)
SHARES = (0.60, 0.25, 0.10, 0.05)
LARGE_ONE_IN = 2_000
LARGE_BYTES = (64 << 10, 1 << 20)
LARGE_REFERENCES = 64
RECENT_OBJECTS = 1_000
RECENT_SHARE = 0.7
CLUSTER_BYTES = 8 * (2 << 20)
STRAY_ONE_IN = 100_000
NODE_BYTES = 32
_DRAW_OBJECTS = 1 << 16
BYTES_AN_ARRAY_BYTE = 4
"""More bytes of objects than this are in no graph for each byte of its arrays."""


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Objects before their references: type, bytes with header, reference slots; large or not."""

    types: npt.NDArray[np.uint16]
    sizes: npt.NDArray[np.uint32]
    degrees: Int64Array
    large: BoolArray

    @property
    def indptr(self) -> Int64Array:
        indptr = np.zeros(len(self.degrees) + 1, dtype=np.int64)
        np.cumsum(self.degrees, out=indptr[1:])
        return indptr


def mixed(nbytes: int, rng: np.random.Generator) -> ObjectGraph:
    """Generate a heap of many kinds of objects.

    References go to one of the last 1,000 objects (70 %) or anywhere (30 %).
    """
    shapes = _draw_shapes(nbytes, rng)
    return _assemble(shapes, _recent_or(_anywhere(len(shapes.sizes), rng), rng), rng)


def clustered(nbytes: int, rng: np.random.Generator) -> ObjectGraph:
    """Generate ``mixed`` whose references stay within 8 arenas (16 MiB of allocation) around the
    object.

    70 % go to one of the last 1,000 objects, 30 % anywhere within 8 MiB of allocation on either
    side (a recent one further away is replaced by such); but one reference in 100,000 is uniform
    over all.
    """
    shapes = _draw_shapes(nbytes, rng)
    return _assemble(shapes, _clustered_picker(shapes, rng), rng)


def rmat(nbytes: int, rng: np.random.Generator) -> ObjectGraph:
    """Generate an R-MAT graph: each vertex an object, its adjacency its references, about 8 each.

    Parameters a, b, c, d = .57, .19, .19, .05; vertices are numbered at random; repeated edges and
    loops stay. The number of vertices is the power of two that fits ``nbytes`` best.
    """
    return rmat_graph(nbytes, rng)


def tree(nbytes: int, rng: np.random.Generator) -> ObjectGraph:
    """Generate a complete binary tree of 32-byte nodes in breadth-first order, held by its root."""
    n = _count(nbytes, NODE_BYTES)
    indices = np.arange(1, 2 * n + 1, dtype=np.int64)
    indices[indices >= n] = -1
    return _uniform_graph("TreeNode", NODE_BYTES, 2, indices, n).with_roots(_first(n))


def linked_list(nbytes: int, rng: np.random.Generator, *, shuffle: bool = False) -> ObjectGraph:
    """Generate a list of 32-byte nodes, one reference each, held by its head alone.

    Args:
        nbytes: target bytes.
        rng: the source of chance, for ``shuffle``.
        shuffle: link the nodes in random order instead of allocation order.
    """
    n = _count(nbytes, NODE_BYTES)
    order = rng.permutation(n) if shuffle else np.arange(n, dtype=np.int64)
    indices = np.full(n, -1, dtype=np.int64)
    indices[order[:-1]] = order[1:]
    return _uniform_graph("ListNode", NODE_BYTES, 1, indices, n).with_roots(order[:1].copy())


def leaf(nbytes: int, size: int) -> ObjectGraph:
    """Generate byte arrays of ``size`` bytes each (header included, at least 16), held by the root
    table.

    Raises:
        ValueError: ``size`` is too small.
    """
    if size < 16:
        raise ValueError(f"size is {size} bytes, expected at least 16")
    n = _count(nbytes, size)
    return _uniform_graph("Bytes", size, 0, np.empty(0, dtype=np.int64), n)


def structs(nbytes: int, size: int, refs: int, rng: np.random.Generator) -> ObjectGraph:
    """Generate objects of ``size`` bytes with ``refs`` references each, drawn as in ``mixed``.

    Raises:
        ValueError: ``size`` does not hold the header and ``refs`` references.
    """
    least = max(16, HEADER_BYTES + SLOT_BYTES * refs)
    if refs < 0 or size < least:
        raise ValueError(
            f"size is {size} bytes with {refs} references, expected at least {least} bytes"
        )
    n = _count(nbytes, size)
    indices = np.full(n * refs, -1, dtype=np.int64)
    pick = _recent_or(_anywhere(n, rng), rng)
    for low, high in slot_chunks(np.full(n, refs, dtype=np.int64)):
        sources = np.repeat(np.arange(low, high, dtype=np.int64), refs)
        indices[low * refs : high * refs] = pick(sources)
    return _uniform_graph("Struct", size, refs, indices, n)


GENERATORS: dict[str, Callable[[int, np.random.Generator], ObjectGraph]] = {
    "mixed": mixed,
    "clustered": clustered,
    "rmat": rmat,
    "tree": tree,
    "list": linked_list,
}
"""The generators by name."""


def generate(name: str, nbytes: int, seed: int | None = 0) -> ObjectGraph:
    """Generate the graph ``name`` of about ``nbytes`` bytes of live objects.

    Args:
        name: a key of ``GENERATORS``.
        nbytes: target bytes, headers and rounding to 16 included.
        seed: seed of the generator; the same name, nbytes and seed give the same graph.

    Raises:
        ValueError: the name is not known, nbytes is not positive or more than the machine holds the
            graph of, or seed is negative.
    """
    if name not in GENERATORS:
        raise ValueError(
            f"no generator is called {name!r}, expected one of {', '.join(GENERATORS)}"
        )
    available = available_bytes()
    if available and nbytes > BYTES_AN_ARRAY_BYTE * available:
        raise ValueError(
            f"nbytes is {nbytes}, expected at most {BYTES_AN_ARRAY_BYTE * available}: the graph's "
            f"own arrays would not fit the {available >> 20} MiB that are available"
        )
    return GENERATORS[name](nbytes, np.random.default_rng(_checked_seed(seed)))


def _checked_seed(seed: int | None) -> int | None:
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed is {seed!r}, expected an integer")
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more")
    return int(seed)


def _count(nbytes: int, size: int) -> int:
    """Return how many objects of ``size`` bytes fit into ``nbytes``, at least one."""
    _check_bytes(nbytes)
    return max(1, nbytes // ((size + 15) // 16 * 16))


def _check_bytes(nbytes: int) -> None:
    if nbytes < 1:
        raise ValueError(f"nbytes is {nbytes}, expected a positive number of bytes")


def _first(n: int) -> Int64Array:
    return np.zeros(min(n, 1), dtype=np.int64)


def _uniform_graph(name: str, size: int, degree: int, indices: Int64Array, n: int) -> ObjectGraph:
    """Return n objects of one type, size and degree, all held."""
    return ObjectGraph(
        sizes=np.full(n, size, dtype=np.uint32),
        types=np.zeros(n, dtype=np.uint16),
        indptr=np.arange(n + 1, dtype=np.int64) * degree,
        indices=indices,
        roots=np.arange(n, dtype=np.int64),
        type_names=(name,),
    )


def _log_uniform(rng: np.random.Generator, low: int, high: int, count: int) -> Int64Array:
    """Draw integers of [low, high] whose logarithm is uniform."""
    drawn = np.exp(rng.uniform(np.log(low), np.log(high + 1), count)).astype(np.int64)
    return np.clip(drawn, low, high)


def _draw_shapes(nbytes: int, rng: np.random.Generator) -> _Shapes:
    """Draw objects by the laws of ``mixed`` until the next one would exceed ``nbytes``."""
    _check_bytes(nbytes)
    largest = max(LARGE_BYTES[0], min(LARGE_BYTES[1], nbytes // 16))
    parts: list[_Shapes] = []
    total = 0
    while total <= nbytes:
        parts.append(_draw_some(largest, rng))
        total += int(rounded(parts[-1].sizes).sum())
    sizes = np.concatenate([part.sizes for part in parts])
    fit = max(1, int(np.searchsorted(np.cumsum(rounded(sizes)), nbytes, side="right")))
    return _Shapes(
        types=np.concatenate([part.types for part in parts])[:fit],
        sizes=sizes[:fit],
        degrees=np.concatenate([part.degrees for part in parts])[:fit],
        large=np.concatenate([part.large for part in parts])[:fit],
    )


def _draw_some(largest: int, rng: np.random.Generator) -> _Shapes:
    n = _DRAW_OBJECTS
    types = np.searchsorted(np.cumsum(SHARES[:-1]), rng.random(n), side="right").astype(np.uint16)
    large = rng.random(n) < 1 / LARGE_ONE_IN
    types[large] = np.where(rng.random(int(large.sum())) < 0.5, BYTES, REFS)
    degrees = np.zeros(n, dtype=np.int64)
    sizes = np.zeros(n, dtype=np.int64)
    for kind, draw in enumerate((_draw_structs, _draw_bytes, _draw_refs, _draw_tails)):
        at = np.flatnonzero((types == kind) & ~large)
        degrees[at], sizes[at] = draw(rng, len(at))
    at = np.flatnonzero(large)
    sizes[at] = _log_uniform(rng, LARGE_BYTES[0], largest, len(at)) // SLOT_BYTES * SLOT_BYTES
    degrees[at] = np.where(types[at] == REFS, (sizes[at] - HEADER_BYTES) // SLOT_BYTES, 0)
    return _Shapes(types, sizes.astype(np.uint32), degrees, large)


def _draw_structs(rng: np.random.Generator, n: int) -> tuple[Int64Array, Int64Array]:
    degrees = rng.integers(2, 5, n)
    least = np.maximum(NODE_BYTES, HEADER_BYTES + SLOT_BYTES * degrees) // SLOT_BYTES
    return degrees, rng.integers(least, 96 // SLOT_BYTES + 1) * SLOT_BYTES


def _draw_bytes(rng: np.random.Generator, n: int) -> tuple[Int64Array, Int64Array]:
    return np.zeros(n, dtype=np.int64), _log_uniform(rng, 16, 2048, n)


def _draw_refs(rng: np.random.Generator, n: int) -> tuple[Int64Array, Int64Array]:
    degrees = rng.integers(4, 65, n)
    return degrees, HEADER_BYTES + SLOT_BYTES * degrees


def _draw_tails(rng: np.random.Generator, n: int) -> tuple[Int64Array, Int64Array]:
    degrees = np.full(n, 2, dtype=np.int64)
    return degrees, HEADER_BYTES + SLOT_BYTES * degrees + rng.integers(16, 513, n)


def _anywhere(n: int, rng: np.random.Generator) -> Picker:
    return lambda sources: rng.integers(0, n, len(sources))


def _recent(sources: Int64Array, rng: np.random.Generator) -> Int64Array:
    """Draw one of the 1,000 objects before each source; null for object 0, which has none."""
    span = np.minimum(sources, RECENT_OBJECTS)
    return sources - 1 - (rng.random(len(sources)) * span).astype(np.int64)


def _recent_or(other: Picker, rng: np.random.Generator) -> Picker:
    """Pick a recent object with a chance of 70 %, else as ``other`` does."""

    def pick(sources: Int64Array) -> Int64Array:
        return np.where(
            rng.random(len(sources)) < RECENT_SHARE, _recent(sources, rng), other(sources)
        )

    return pick


def _clustered_picker(shapes: _Shapes, rng: np.random.Generator) -> Picker:
    ends = np.cumsum(rounded(shapes.sizes)).astype(np.int64)
    starts = ends - rounded(shapes.sizes).astype(np.int64)
    low = np.searchsorted(starts, starts - CLUSTER_BYTES // 2)
    high = np.searchsorted(starts, starts + CLUSTER_BYTES // 2, side="right")
    anywhere = _anywhere(len(starts), rng)

    def pick(sources: Int64Array) -> Int64Array:
        first = low[sources]
        near = first + (rng.random(len(sources)) * (high[sources] - first)).astype(np.int64)
        recent = _recent(sources, rng)
        use_recent = (rng.random(len(sources)) < RECENT_SHARE) & ((recent >= first) | (recent < 0))
        targets = np.where(use_recent, recent, near)
        stray = np.flatnonzero(rng.random(len(sources)) < 1 / STRAY_ONE_IN)
        targets[stray] = anywhere(stray)
        return targets

    return pick


def _assemble(shapes: _Shapes, pick: Picker, rng: np.random.Generator) -> ObjectGraph:
    """Fill the slots by ``pick`` (in large arrays: at most 64 of them), hold every object."""
    indptr = shapes.indptr
    indices = np.full(int(indptr[-1]), -1, dtype=np.int64)
    small = np.where(shapes.large, 0, shapes.degrees)
    for low, high in slot_chunks(small):
        counts = small[low:high]
        sources = np.repeat(np.arange(low, high, dtype=np.int64), counts)
        indices[slot_positions(indptr[low:high], counts)] = pick(sources)
    _fill_large(indices, indptr, np.flatnonzero(shapes.large & (shapes.degrees > 0)), pick, rng)
    roots = np.arange(len(shapes.sizes), dtype=np.int64)
    return ObjectGraph(shapes.sizes, shapes.types, indptr, indices, roots, TYPE_NAMES)


def _fill_large(
    indices: Int64Array,
    indptr: Int64Array,
    large: Int64Array,
    pick: Picker,
    rng: np.random.Generator,
) -> None:
    sources = np.repeat(large, rng.integers(1, LARGE_REFERENCES + 1, len(large)))
    degrees = indptr[sources + 1] - indptr[sources]
    slots = indptr[sources] + (rng.random(len(sources)) * degrees).astype(np.int64)
    indices[slots] = pick(sources)
