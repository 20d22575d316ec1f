"""Between object graphs (CSR arrays) and heaps: load, extract, age.

A loaded object has the size, the type name and the references of its node; its other bytes follow
from its label (the node's number), which extraction verifies. See native/python/graph.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._core import KIND_SHIFT, HeapCore
from gcheap._errors import HeapExhausted
from gcheap._ffi import ffi, lib
from gcheap._vector import address
from gcheap.graph import ObjectGraph
from gcheap.heap import Heap
from gcheap.refs import INDEX_MASK, RefArray, _make_array
from gcheap.sources.ageing import Ageing
from gcheap.struct import refs_type

__all__ = ["clear_slots", "drop", "extract", "extract_labelled", "load", "refill"]

Int64Array = npt.NDArray[np.int64]


def load(heap: Heap, graph: ObjectGraph) -> RefArray:
    """Build the objects of ``graph`` in ``heap`` and return the table of its roots.

    Objects are laid out in the order of their numbers and live as old objects at once. What the
    roots do not reach is garbage.

    Raises:
        GraphFormatError: the graph is not valid.
        HeapExhausted: it does not fit.
    """
    if not isinstance(graph, ObjectGraph):
        raise TypeError(f"the graph is {graph!r:.80}, expected a gcheap.ObjectGraph")
    if not isinstance(heap, Heap):
        raise TypeError(f"the heap is {heap!r:.80}, expected a gcheap.Heap")
    graph.validate()
    nodes = _load_nodes(heap._core, graph, None, graph.indices)
    roots = graph.roots
    if len(roots) == graph.n_nodes and np.array_equal(roots, np.arange(len(roots))):
        return nodes
    return _take(nodes, roots)


def extract(table: RefArray) -> ObjectGraph:
    """Return the graph of what the elements of ``table`` reach, numbered breadth first.

    The elements are its roots. The world is stopped meanwhile.

    Raises:
        Corruption: the bytes of a loaded object are not those that its label demands.
    """
    return extract_labelled(table)[0]


def extract_labelled(table: RefArray) -> tuple[ObjectGraph, Int64Array]:
    """Return the graph and the label of each object, int64 (n,); -1: it has none."""
    if not isinstance(table, RefArray):
        raise TypeError(f"the table is {table!r:.80}, expected a gcheap.RefArray")
    out = ffi.new("graph_extracted **")
    core = table._core
    core.call(lib.graph_extract, table._handle, out)
    native = ffi.gc(out[0], lib.graph_extracted_free)
    n = int(native.nodes)
    ids = _adopt(native, native.types, n, np.uint32)
    types, names = _name_types(
        core, ids, _adopt(native, native.users, native.type_count, np.uint64)
    )
    graph = ObjectGraph(
        sizes=_adopt(native, native.sizes, n, np.uint64),
        types=types,
        indptr=_adopt(native, native.indptr, n + 1, np.int64),
        indices=_adopt(native, native.indices, native.slots, np.int64),
        roots=_adopt(native, native.root_ids, native.roots, np.int64),
        type_names=names,
    )
    return graph, _adopt(native, native.labels, n, np.int64)


def clear_slots(table: RefArray, elements: Int64Array, slots: Int64Array) -> None:
    """Store null into reference ``slots[i]`` of the object ``table[elements[i]]``, for each i."""
    elements = np.ascontiguousarray(elements, dtype=np.int64)
    slots = np.ascontiguousarray(slots, dtype=np.int64)
    if elements.shape != slots.shape or elements.ndim != 1:
        raise ValueError(f"{elements.shape} elements and {slots.shape} slots do not pair")
    table._core.call(
        lib.graph_store,
        table._handle,
        address(elements, "const int64_t *"),
        address(slots, "const int64_t *"),
        ffi.NULL,
        len(elements),
    )


def drop(table: RefArray, schedule: Ageing) -> None:
    """Let go of what an ageing schedule drops; ``table`` is that of ``load(schedule.graph)``."""
    clear_slots(table, _entry_of(schedule)[schedule.clear_nodes], schedule.clear_slots)
    table[schedule.drop_entries] = None


def refill(heap: Heap, table: RefArray, schedule: Ageing) -> None:
    """Make the new objects of an ageing schedule, after ``drop``.

    New object j has label ``schedule.graph.n_nodes + j``.
    """
    graph, chosen = schedule.graph, schedule.refill_nodes
    indptr, survivors = schedule.refill_references()
    entry_of = np.append(_entry_of(schedule), -1)  # the last one answers for null
    part = ObjectGraph(
        graph.sizes[chosen],
        graph.types[chosen],
        indptr,
        entry_of[survivors],
        chosen[:0],
        graph.type_names,
    )
    labels = graph.n_nodes + np.arange(len(chosen), dtype=np.int64)
    table[schedule.refill_entries] = _load_nodes(heap._core, part, table, part.indices, labels)


def _entry_of(schedule: Ageing) -> Int64Array:
    """Return, for each node, an element of the root table that lists it."""
    graph = schedule.graph
    entries = np.full(graph.n_nodes, -1, dtype=np.int64)
    held = np.flatnonzero(graph.roots >= 0)
    entries[graph.roots[held]] = held
    return entries


def _load_nodes(
    core: HeapCore,
    graph: ObjectGraph,
    table: RefArray | None,
    indices: Int64Array,
    labels: Int64Array | None = None,
) -> RefArray:
    keep: list[Any] = []

    def native(array: npt.NDArray[Any], dtype: npt.DTypeLike, ctype: str) -> Any:
        keep.append(np.ascontiguousarray(array, dtype=dtype))
        return address(keep[-1], ctype)

    encoded = [ffi.new("char[]", name.encode()) for name in graph.type_names]
    names = ffi.new("char *[]", encoded)
    nodes = ffi.new("graph_nodes *")
    nodes.count = graph.n_nodes
    nodes.sizes = native(graph.sizes, np.uint64, "const uint64_t *")
    nodes.types = native(graph.types, np.uint32, "const uint32_t *")
    nodes.indptr = native(graph.indptr, np.int64, "const int64_t *")
    nodes.indices = native(indices, np.int64, "const int64_t *")
    nodes.labels = ffi.NULL if labels is None else native(labels, np.int64, "const int64_t *")
    nodes.names = ffi.cast("const char *const *", names)
    out = ffi.new("gch_handle *")
    beside = 0 if table is None else table._handle
    with core.type_lock:
        numbers = np.array([_name_number(core, name) for name in graph.type_names], dtype=np.uint32)
        nodes.name_ids = native(numbers, np.uint32, "const uint32_t *")
        types = _native_types(core)
        core.allocate(lib.graph_load, types, nodes, beside, refs_type(core, None), out)
    return _make_array(core, out[0], None)


def _take(nodes: RefArray, roots: Int64Array) -> RefArray:
    table: RefArray = nodes[np.maximum(roots, 0)] if len(nodes) else nodes[:0]
    nulls = np.flatnonzero(roots < 0)
    if len(nodes) == 0 and len(roots):
        from gcheap.refs import new_refs

        return new_refs(nodes._core, len(roots), None)
    if nulls.size:
        table[nulls] = None
    return table


def _native_types(core: HeapCore) -> Any:
    types = core.interned.get("graph_types")
    if types is None:
        raw = lib.graph_types_new()
        if raw == ffi.NULL:
            raise HeapExhausted("no memory for a table of types")
        types = core.interned["graph_types"] = ffi.gc(raw, lib.graph_types_free)
    return types


def _name_number(core: HeapCore, name: str) -> int:
    """Return the number of a type name in this heap."""
    key = ("graph name", name)
    number = core.interned.get(key)
    if number is None:
        number = core.interned[key] = len(core.graph_names)
        core.graph_names.append(name)
    assert isinstance(number, int)
    return number


def _name_types(
    core: HeapCore, ids: npt.NDArray[np.uint32], users: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint32], tuple[str, ...]]:
    """Return types numbered by name, and the names, of objects with these native types."""
    used = np.flatnonzero(np.bincount(ids, minlength=1))
    numbers: dict[str, int] = {}
    place = np.zeros(len(users) + 1, dtype=np.uint32)
    for native in used:
        name = _type_name(core, int(users[native]))
        place[native] = numbers.setdefault(name, len(numbers))
    return place[ids], tuple(numbers)


def _type_name(core: HeapCore, user: int) -> str:
    kind, number = user >> KIND_SHIFT, user & INDEX_MASK
    if kind == lib.BULK_KIND_STRUCT:
        return core.types[number - 1].name
    if kind == lib.BULK_KIND_REFS:
        return f"{core.types[number - 1].name}[]" if number else "Ref[]"
    if kind == lib.BULK_KIND_LEAF:
        return f"{core.leaf_types[number - 1][0].str}[]"
    if kind in (lib.BULK_KIND_WEAK, lib.BULK_KIND_EPHEMERON):
        return "WeakRef" if kind == lib.BULK_KIND_WEAK else "Ephemeron"
    return core.graph_names[number]


class _Owned:
    """Memory of a native result as numpy's array interface has it."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, owner: Any, address: int, count: int, dtype: npt.DTypeLike) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "shape": (count,),
            "typestr": np.dtype(dtype).str,
        }


def _adopt(owner: Any, pointer: Any, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array over native memory that keeps its owner."""
    if count == 0 or pointer == ffi.NULL:
        return np.empty(0 if count == 0 else count, dtype=dtype)
    address = int(ffi.cast("uintptr_t", pointer))
    return np.asarray(_Owned(owner, address, int(count), dtype))
