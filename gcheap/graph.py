"""Object graphs: the shape of a heap (sizes, types, references, roots) as CSR numpy arrays.

A graph says what a heap holds without holding it: it is captured from a program, generated or read
from a file, loaded into a heap, extracted again and compared. No object contents, ever.

Layout of an object: an 8-byte header, then its references (8 bytes each), then bytes that hold no
references. So out-degree 0 is a byte array, ``size == 8 + 8 * degree`` an array of references or a
struct, anything else references with a tail of bytes.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap import _graphdiff, _npz
from gcheap._bfs import breadth_first, gather_slots, slot_chunks
from gcheap._graphcheck import (
    DTYPES,
    HEADER_BYTES,
    MIN_OBJECT_BYTES,
    SLOT_BYTES,
    GraphFormatError,
    check_graph,
)
from gcheap._units import parse_size
from gcheap._victims import DropMode, choose_victims

__all__ = [
    "GRANULE_BYTES",
    "HEADER_BYTES",
    "MIN_OBJECT_BYTES",
    "SLOT_BYTES",
    "GraphFormatError",
    "ObjectGraph",
    "rounded",
]

GRANULE_BYTES = 16
"""Object alignment: every size is rounded up to a multiple of it."""
MAX_NODES = 1 << 48
"""More than any memory holds."""
MAX_FILE_BYTES = 16 << 30
"""What ``ObjectGraph.load`` accepts, in bytes of arrays, unless told otherwise."""

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
SizeArray = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
TypeArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def rounded(sizes: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Round sizes in bytes up to whole granules of 16 bytes, uint64."""
    mask = np.uint64(GRANULE_BYTES - 1)
    return (sizes.astype(np.uint64) + mask) & ~mask


@dataclass(frozen=True, slots=True, eq=False)
class ObjectGraph:
    """The shape of a heap of n objects with e reference slots.

    Attributes:
        sizes: uint32 or uint64 (n,), bytes of each object with its 8-byte header; at least 16 and
            at least 8 + 8 * out-degree; need not be a multiple of 16.
        types: uint16 or uint32 (n,), index into ``type_names``.
        indptr: int64 (n + 1,), the slots of object i are ``indices[indptr[i]:indptr[i + 1]]``.
        indices: int64 (e,), the object each slot refers to, -1 = null.
        roots: int64 (r,), the objects that the program holds, in order; may repeat; -1 = null.
        type_names: tuple of unique str.

    Nothing is checked on construction; call ``validate()``. Arrays may be shared between graphs:
    treat them as read-only.

    Example:
        >>> graph = ObjectGraph.from_lists([24, 16], [[1, None], []], roots=[0])
        >>> graph.n_nodes, graph.n_edges, graph.nbytes
        (2, 1, 48)
        >>> graph.reachable().tolist()
        [True, True]
    """

    sizes: SizeArray
    types: TypeArray
    indptr: Int64Array
    indices: Int64Array
    roots: Int64Array
    type_names: tuple[str, ...]

    @classmethod
    def from_lists(
        cls,
        sizes: Iterable[int],
        references: Iterable[Iterable[int | None]],
        roots: Iterable[int | None],
        types: Iterable[str] | None = None,
    ) -> ObjectGraph:
        """Build a small graph from Python lists (for tests and examples); None is null.

        Raises:
            GraphFormatError: the lists do not make a valid graph.
        """
        size_array = _integers("sizes", list(sizes), np.uint64)
        rows = [[-1 if node is None else node for node in row] for row in references]
        labels = ["object"] * len(size_array) if types is None else list(types)
        names = tuple(dict.fromkeys(labels))
        index = {name: at for at, name in enumerate(names)}
        graph = cls(
            sizes=size_array,
            types=np.array([index[label] for label in labels], dtype=np.uint32),
            indptr=np.cumsum([0, *map(len, rows)], dtype=np.int64),
            indices=_integers("indices", [node for row in rows for node in row], np.int64),
            roots=_integers("roots", [-1 if node is None else node for node in roots], np.int64),
            type_names=names,
        )
        graph.validate()
        return graph

    @classmethod
    def capture(cls, modules: Sequence[str] | None = ()) -> ObjectGraph:
        """Capture the objects of this interpreter: types, sizes, references, no contents.

        See ``gcheap.sources.interpreter.capture_interpreter``.

        Args:
            modules: imported first; None for a few large libraries, those that are installed.
        """
        from gcheap.sources.interpreter import capture_interpreter

        return capture_interpreter(modules)

    @classmethod
    def generate(cls, name: str, nbytes: int | str, seed: int = 0) -> ObjectGraph:
        """Generate a graph.

        Args:
            name: mixed, clustered, rmat, tree, list.
            nbytes: of all objects, about; an integer or text such as "64MiB".
            seed: the same name, nbytes and seed give the same graph.

        Raises:
            ValueError: the name is not known, or nbytes is not positive.
        """
        from gcheap.sources.generators import generate

        return generate(name, parse_size(nbytes, "nbytes"), seed)

    @classmethod
    def from_hprof(
        cls,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | str = MAX_FILE_BYTES,
        log: Callable[[str], None] | None = None,
    ) -> ObjectGraph:
        """Read the objects of a Java heap dump, ``.hprof`` or ``.hprof.gz``: shape, no contents.

        See ``gcheap.sources.hprof.read_hprof``, which also counts what the graph does not show.

        Args:
            path: the file; whether it is compressed is seen by its first bytes.
            max_bytes: refuse a dump of more bytes, uncompressed; an integer or text such as "1GiB".
            log: called about once a second with a line that says how far it is, and with a last
                one.

        Raises:
            GraphFormatError: names the file, the offset, what is there and what was expected.
            OSError: the file cannot be opened.
        """
        from gcheap.sources.hprof import read_hprof

        return read_hprof(path, max_bytes=max_bytes, log=log)[0]

    @property
    def n_nodes(self) -> int:
        """Number of objects."""
        return len(self.indptr) - 1

    @property
    def n_slots(self) -> int:
        """Number of reference slots, null ones included."""
        return len(self.indices)

    @property
    def n_edges(self) -> int:
        """Number of references that are not null."""
        return int(np.count_nonzero(self.indices >= 0))

    @property
    def nbytes(self) -> int:
        """Bytes of all objects, headers included, each rounded up to 16."""
        return int(rounded(self.sizes).sum())

    @property
    def degrees(self) -> Int64Array:
        """Reference slots of each object, null ones included, int64 (n,)."""
        return np.diff(self.indptr)

    @property
    def hold(self) -> Int64Array:
        """The objects that the program's root table lists: another name for ``roots``."""
        return self.roots

    def validate(self) -> None:
        """Check every rule of the class.

        Raises:
            GraphFormatError: names the array, the first index and value at fault, what was
                expected.
        """
        check_graph(self)

    def with_roots(self, roots: Int64Array) -> ObjectGraph:
        """Return the same objects with other roots: integers, not checked to be objects.

        Raises:
            TypeError: they are no integers in one dimension.
        """
        return self._with_roots(_integer_array("roots", roots))

    def _with_roots(self, roots: Int64Array) -> ObjectGraph:
        return ObjectGraph(
            self.sizes, self.types, self.indptr, self.indices, roots, self.type_names
        )

    def holding_all(self) -> ObjectGraph:
        """Return the graph with a root table that lists every object once, in order."""
        return self._with_roots(np.arange(self.n_nodes, dtype=np.int64))

    def reachable(self) -> BoolArray:
        """Return the mask of objects reachable from the roots, bool (n,)."""
        return breadth_first(self.indptr, self.indices, self.roots)[1]

    def renumbered(self, order: Int64Array) -> ObjectGraph:
        """Return the graph of the objects ``order`` (int64, distinct ids), numbered by their place
        in it.

        References and root entries that refer to an object left out become null (-1); no slot and
        no root entry disappears.

        Raises:
            TypeError, ValueError: names the id that is none, or is there twice.
        """
        ids = _integer_array("order", order)
        _check_order(ids, self.n_nodes)
        return self._renumbered(ids)

    def _renumbered(self, order: Int64Array) -> ObjectGraph:
        place = np.full(self.n_nodes + 1, -1, dtype=np.int64)  # the last entry answers for -1
        place[order] = np.arange(len(order), dtype=np.int64)
        counts = self.indptr[order + 1] - self.indptr[order]
        indptr = np.zeros(len(order) + 1, dtype=np.int64)
        np.cumsum(counts, out=indptr[1:])
        indices = np.empty(int(indptr[-1]), dtype=np.int64)
        for low, high in slot_chunks(counts):
            slots = gather_slots(self.indptr, self.indices, order[low:high])
            indices[indptr[low] : indptr[high]] = place[slots]
        return ObjectGraph(
            self.sizes[order],
            self.types[order],
            indptr,
            indices,
            place[self.roots],
            self.type_names,
        )

    def subgraph(self, mask: BoolArray) -> ObjectGraph:
        """Return the graph of the objects in ``mask`` (bool (n,)), in their order.

        References and root entries that refer to an object left out become null (-1).

        Raises:
            ValueError: ``mask`` is not a bool array of one entry an object.
        """
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (self.n_nodes,):
            raise ValueError(f"mask is {mask.dtype}{mask.shape}, expected bool({self.n_nodes},)")
        return self._renumbered(np.flatnonzero(mask))

    def drop(
        self, fraction: float, rng: np.random.Generator, mode: DropMode = "mixed", run: int = 100
    ) -> ObjectGraph:
        """Return the graph without ``fraction`` of its objects, references to them cleared.

        Args:
            fraction: share of the objects to drop, 0 to 1; the count is rounded.
            rng: the source of chance.
            mode: "uniform" one by one, "runs" in runs of consecutive objects, "mixed" half of each.
            run: objects in a run.

        What the remaining roots no longer reach stays in the graph: ask ``reachable()``. When the
        roots hold every object (``holding_all()``), nothing more becomes unreachable.
        """
        return self.subgraph(~choose_victims(self.n_nodes, fraction, rng, mode, run))

    def canonical(self) -> tuple[ObjectGraph, Int64Array]:
        """Return the graph in its canonical numbering, and the permutation.

        Objects are numbered in breadth-first order from the roots, roots and slots in order;
        unreachable ones are left out; types are numbered by first use. Two graphs are isomorphic
        (same roots in the same order, same slots in the same order) exactly if their canonical
        forms agree.

        Returns:
            The graph; and ``order``, int64: canonical object i is this graph's object ``order[i]``.
        """
        order, _ = breadth_first(self.indptr, self.indices, self.roots)
        return self._renumbered(order)._with_canonical_types(), order

    def _with_canonical_types(self) -> ObjectGraph:
        used, first = np.unique(self.types, return_index=True)
        by_first_use = used[np.argsort(first)]
        place = np.zeros(len(self.type_names), dtype=self.types.dtype)
        place[by_first_use] = np.arange(len(used), dtype=self.types.dtype)
        names = tuple(self.type_names[index] for index in by_first_use)
        return ObjectGraph(
            self.sizes, place[self.types], self.indptr, self.indices, self.roots, names
        )

    def isomorphic(self, other: ObjectGraph) -> bool:
        """Say whether what the roots reach is the same here and there: see ``diff``."""
        return self.diff(other) is None

    def diff(self, other: ObjectGraph) -> str | None:
        """Say in words how ``other`` differs first in breadth-first order, or None if it does not.

        Compared are the roots in order and, of each object reached, type name, size rounded to 16
        bytes and slots in order. Numbering and unreachable objects do not count.
        """
        if not isinstance(other, ObjectGraph):
            raise TypeError(f"the other is {other!r:.80}, expected an ObjectGraph")
        return _graphdiff.first_difference(self, other)

    def repeat(self, copies: int) -> ObjectGraph:
        """Return ``copies`` disjoint copies one after the other under one list of all their roots.

        Raises:
            ValueError: ``copies`` is negative, or more than any memory holds.
        """
        if isinstance(copies, bool) or not isinstance(copies, (int, np.integer)):
            raise TypeError(f"copies is {copies!r}, expected an integer")
        most = MAX_NODES // max(1, self.n_nodes)
        if not 0 <= copies <= most:
            raise ValueError(f"copies is {copies}, expected 0 to {most}")
        indptr = np.zeros(copies * self.n_nodes + 1, dtype=np.int64)
        np.cumsum(np.tile(self.degrees, copies), out=indptr[1:])
        everyone = np.tile(np.arange(self.n_nodes, dtype=np.int64), copies)
        return ObjectGraph(
            self.sizes[everyone],
            self.types[everyone],
            indptr,
            _tile_shifted(self.indices, copies, self.n_nodes),
            _tile_shifted(self.roots, copies, self.n_nodes),
            self.type_names,
        )

    def save(self, path: str | os.PathLike[str], *, compress: bool = False) -> None:
        """Write the graph to ``path`` as ``.npz`` (the name is taken as it is).

        The file is there when all of it is: what was there before stays until then, and if this
        fails.

        Raises:
            GraphFormatError: the graph is not valid; nothing is written.
            OSError: the file cannot be written; nothing is left of it.
        """
        self.validate()
        arrays = {name: getattr(self, name) for name in _npz.ARRAYS}
        _npz.write_npz(path, arrays, self.type_names, compress=compress)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, max_bytes: int | str = MAX_FILE_BYTES
    ) -> ObjectGraph:
        """Read a graph that ``save`` wrote, and validate it. Nothing in the file is trusted.

        Args:
            path: the file.
            max_bytes: refuse a file that claims more bytes of arrays; an integer or text such as
                "1GiB".

        Raises:
            GraphFormatError: names the file, the array and what was expected.
            OSError: the file cannot be opened.
        """
        limit = parse_size(max_bytes, "max_bytes")
        arrays, type_names = _npz.read_npz(path, max_bytes=limit)
        try:
            graph = cls(
                type_names=type_names, **{name: _widen(name, arrays[name]) for name in arrays}
            )
            graph.validate()
        except GraphFormatError as error:
            raise error.in_file(os.fsdecode(path)) from None
        return graph

    def summary(self) -> dict[str, Any]:
        """Describe the graph in numbers that JSON can hold.

        Returns:
            objects, slots, edges (not null), roots, types, bytes (each object rounded to 16),
            mean_degree (edges an object), leaf_share (share of the bytes in objects without slots)
            and
            size_histogram: {upper bound in bytes, a power of two: objects}.
        """
        n = self.n_nodes
        bytes_each = rounded(self.sizes)
        total = int(bytes_each.sum())
        leaf_bytes = int(bytes_each[self.degrees == 0].sum())
        exponents, counts = np.unique(
            np.ceil(np.log2(bytes_each)).astype(np.int64), return_counts=True
        )
        return {
            "objects": n,
            "slots": self.n_slots,
            "edges": self.n_edges,
            "roots": len(self.roots),
            "types": len(self.type_names),
            "bytes": total,
            "mean_degree": self.n_edges / n if n else 0.0,
            "leaf_share": leaf_bytes / total if total else 0.0,
            "size_histogram": {
                str(1 << int(e)): int(c) for e, c in zip(exponents, counts, strict=True)
            },
        }


def _integers(name: str, values: list[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    info = np.iinfo(np.dtype(dtype))
    for at, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise GraphFormatError(name, f"[{at}] is {value!r:.80}, expected an integer")
        if not info.min <= value <= info.max:
            raise GraphFormatError(name, f"[{at}] is {value}, expected {info.min} to {info.max}")
    return np.array(values, dtype=dtype)


def _integer_array(name: str, nodes: npt.ArrayLike) -> Int64Array:
    array = np.asarray(nodes)
    if array.size == 0 and not isinstance(nodes, np.ndarray):
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            f"{name} is {reprlib.repr(nodes)}, expected integers in one dimension, not "
            f"{array.dtype}{array.shape}"
        )
    return array.astype(np.int64, copy=False)


def _check_order(order: Int64Array, n: int) -> None:
    wrong = (order < 0) | (order >= n)
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(f"order[{at}] is {order[at]}, expected a node id below {n}")
    last = np.full(n, -1, dtype=np.int64)
    last[order] = np.arange(len(order), dtype=np.int64)
    again = last[order] != np.arange(len(order))
    if again.any():
        at = int(again.argmax())
        where = int(last[order[at]])
        raise ValueError(f"order[{where}] is {order[at]}, as order[{at}] is; expected distinct ids")


def _tile_shifted(nodes: Int64Array, copies: int, shift: int) -> Int64Array:
    tiled = np.tile(nodes, (copies, 1))
    tiled += np.arange(copies, dtype=np.int64)[:, None] * shift
    tiled[:, nodes < 0] = -1
    return tiled.reshape(-1)


def _widen(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert a stored array to the narrowest dtype that the graph allows and that holds it."""
    if array.dtype.name in DTYPES[name]:
        return array
    for dtype in map(np.dtype, DTYPES[name]):
        info = np.iinfo(dtype)
        if not array.size or (int(array.min()) >= info.min and int(array.max()) <= info.max):
            return array.astype(dtype)
    found = f"{array.dtype.name} values from {array.min()} to {array.max()}"
    raise GraphFormatError(name, f"holds {found}, expected {' or '.join(DTYPES[name])}")
