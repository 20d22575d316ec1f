"""The rules an object graph obeys, and the exception that says which one was broken and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from gcheap.graph import ObjectGraph

MIN_OBJECT_BYTES = 16
"""The smallest object: a granule."""
HEADER_BYTES = 8
SLOT_BYTES = 8

DTYPES: dict[str, tuple[str, ...]] = {
    "sizes": ("uint32", "uint64"),
    "types": ("uint16", "uint32"),
    "indptr": ("int64",),
    "indices": ("int64",),
    "roots": ("int64",),
}
"""The dtypes each array may have."""


class GraphFormatError(ValueError):
    """An object graph, or a file that should hold one, breaks a rule.

    Attributes:
        array: the array at fault, or "" when it is the file as a whole.
        problem: what is wrong and what was expected.
        file: the path, or "" for a graph in memory.
    """

    def __init__(self, array: str, problem: str, file: str = "") -> None:
        self.array = array
        self.problem = problem
        self.file = file
        super().__init__(": ".join(part for part in (file, array, problem) if part))

    def in_file(self, file: str) -> GraphFormatError:
        """Return the same error with the file named."""
        return GraphFormatError(self.array, self.problem, file)


def check_graph(graph: ObjectGraph) -> None:
    """Raise GraphFormatError for the first rule that ``graph`` breaks."""
    for name in DTYPES:
        _check_array(name, getattr(graph, name))
    _check_type_names(graph.type_names)
    n = _check_indptr(graph.indptr, len(graph.indices))
    for name in ("sizes", "types"):
        _check_length(name, getattr(graph, name), n)
    _check_range("indices", graph.indices, n)
    _check_range("roots", graph.roots, n)
    _check_types(graph.types, len(graph.type_names))
    _check_sizes(graph.sizes, graph.indptr)


def _check_array(name: str, array: Any) -> None:
    if not isinstance(array, np.ndarray):
        raise GraphFormatError(name, f"is a {type(array).__name__}, expected a numpy array")
    if array.ndim != 1:
        raise GraphFormatError(name, f"has shape {array.shape}, expected one dimension")
    if array.dtype.name not in DTYPES[name] or not array.dtype.isnative:
        expected = " or ".join(DTYPES[name])
        raise GraphFormatError(name, f"has dtype {array.dtype.str}, expected native {expected}")


def _check_type_names(names: Any) -> None:
    if not isinstance(names, tuple):
        raise GraphFormatError(
            "type_names", f"is a {type(names).__name__}, expected a tuple of str"
        )
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise GraphFormatError("type_names", f"[{index}] is {name!r}, expected a str")
        if first.setdefault(name, index) != index:
            raise GraphFormatError(
                "type_names",
                f"[{index}] is {name!r}, already at [{first[name]}]; expected unique names",
            )


def _check_length(name: str, array: npt.NDArray[Any], expected: int) -> None:
    if len(array) != expected:
        raise GraphFormatError(
            name, f"has {len(array)} entries, expected {expected} (indptr's minus one)"
        )


def _check_indptr(indptr: npt.NDArray[np.int64], slots: int) -> int:
    if len(indptr) == 0:
        raise GraphFormatError("indptr", "is empty, expected one entry a node and one more")
    if indptr[0] != 0:
        raise GraphFormatError("indptr", f"[0] is {indptr[0]}, expected 0")
    falling = indptr[1:] < indptr[:-1]
    if falling.any():
        at = int(falling.argmax()) + 1
        raise GraphFormatError(
            "indptr", f"[{at}] is {indptr[at]}, expected at least {indptr[at - 1]}"
        )
    if indptr[-1] != slots:
        last = len(indptr) - 1
        raise GraphFormatError(
            "indptr", f"[{last}] is {indptr[-1]}, expected {slots}, the length of indices"
        )
    return len(indptr) - 1


def _check_range(name: str, nodes: npt.NDArray[np.int64], n: int) -> None:
    if not len(nodes) or (nodes.min() >= -1 and nodes.max() < n):
        return
    at = int(((nodes < -1) | (nodes >= n)).argmax())
    expected = f"a node id below {n}, or -1 for null" if n else "-1 (the graph has no nodes)"
    raise GraphFormatError(name, f"[{at}] is {nodes[at]}, expected {expected}")


def _check_types(types: npt.NDArray[Any], known: int) -> None:
    if len(types) and types.max() >= known:
        at = int((types >= known).argmax())
        raise GraphFormatError(
            "types",
            f"[{at}] is {types[at]}, expected an index below {known}, the length of type_names",
        )


def _check_sizes(sizes: npt.NDArray[Any], indptr: npt.NDArray[np.int64]) -> None:
    least = np.maximum(HEADER_BYTES + SLOT_BYTES * np.diff(indptr), MIN_OBJECT_BYTES).view(
        np.uint64
    )
    small = sizes < least
    if small.any():
        at = int(small.argmax())
        degree = int(indptr[at + 1] - indptr[at])
        raise GraphFormatError(
            "sizes",
            f"[{at}] is {sizes[at]} bytes, expected at least {least[at]} for {degree} references",
        )
