"""Say in words where two object graphs differ first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from gcheap.graph import ObjectGraph

Int64Array = npt.NDArray[np.int64]


class _Side:
    """One graph in canonical form, with the way back to its own numbering."""

    def __init__(self, graph: ObjectGraph) -> None:
        from gcheap.graph import rounded

        self.graph, self.order = graph.canonical()
        self.sizes = rounded(self.graph.sizes)

    def name(self, node: int) -> str:
        """Name canonical object ``node`` by its original number."""
        return "null" if node < 0 else f"object {self.order[node]}"

    def type_of(self, node: int) -> str:
        return self.graph.type_names[int(self.graph.types[node])]

    def slots(self, node: int) -> Int64Array:
        return self.graph.indices[self.graph.indptr[node] : self.graph.indptr[node + 1]]


def first_difference(left: ObjectGraph, right: ObjectGraph) -> str | None:
    """Return a sentence on the first difference in breadth-first order, None if isomorphic."""
    here, there = _Side(left), _Side(right)
    return (
        _roots_difference(here, there)
        or _object_difference(here, there)
        or _count_difference(here, there)
    )


def _first_unequal(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> int:
    """Return the first index where the common prefix differs, or its length."""
    common = min(len(a), len(b))
    unequal = a[:common] != b[:common]
    return int(unequal.argmax()) if unequal.any() else common


def _roots_difference(here: _Side, there: _Side) -> str | None:
    a, b = here.graph.roots, there.graph.roots
    if len(a) != len(b):
        return f"{len(a)} root entries here, {len(b)} there"
    at = _first_unequal(a, b)
    if at == len(a):
        return None
    return f"root {at}: {_reference(here, there, int(a[at]), int(b[at]))}"


def _object_difference(here: _Side, there: _Side) -> str | None:
    common = min(here.graph.n_nodes, there.graph.n_nodes)
    firsts = [
        _first_type_difference(here, there),
        _first_unequal(here.sizes, there.sizes),
        _first_unequal(here.graph.degrees, there.graph.degrees),
    ]
    same_layout = min(firsts)
    slots = int(here.graph.indptr[same_layout])
    slot = _first_unequal(here.graph.indices[:slots], there.graph.indices[:slots])
    if slot < slots:
        return _slot_difference(here, there, slot)
    return None if same_layout == common else _layout_difference(here, there, same_layout)


def _first_type_difference(here: _Side, there: _Side) -> int:
    """Return the first object of another type; types are numbered by first use on both sides."""
    at = _first_unequal(here.graph.types, there.graph.types)
    for number, names in enumerate(
        zip(here.graph.type_names, there.graph.type_names, strict=False)
    ):
        if names[0] != names[1]:
            return min(at, int((here.graph.types == number).argmax()))
    return at


def _layout_difference(here: _Side, there: _Side, node: int) -> str:
    subject = f"{_subject(here, there, node)}: "
    if here.type_of(node) != there.type_of(node):
        return f"{subject}type {here.type_of(node)!r} here, {there.type_of(node)!r} there"
    if here.sizes[node] != there.sizes[node]:
        return f"{subject}{here.sizes[node]} bytes here, {there.sizes[node]} there"
    return f"{subject}{len(here.slots(node))} reference slots here, {len(there.slots(node))} there"


def _slot_difference(here: _Side, there: _Side, slot: int) -> str:
    node = int(np.searchsorted(here.graph.indptr, slot, side="right")) - 1
    at = slot - int(here.graph.indptr[node])
    targets = int(here.slots(node)[at]), int(there.slots(node)[at])
    return f"{_subject(here, there, node)}: slot {at}: {_reference(here, there, *targets)}"


def _subject(here: _Side, there: _Side, node: int) -> str:
    return f"{here.name(node)} here, {there.name(node)} there ({node} in breadth-first order)"


def _reference(here: _Side, there: _Side, a: int, b: int) -> str:
    """Describe two targets that should have been the same; place is their breadth-first number."""
    places = ["" if node < 0 else f" (place {node})" for node in (a, b)]
    return f"refers to {here.name(a)}{places[0]} here, to {there.name(b)}{places[1]} there"


def _count_difference(here: _Side, there: _Side) -> str | None:
    a, b = here.graph.n_nodes, there.graph.n_nodes
    return None if a == b else f"{a} objects reachable here, {b} there"
