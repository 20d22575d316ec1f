"""References and arrays of references: gather, scatter, indices, types, identity."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gcheap
import gcheap.heap
import gcheap.refs
from gcheap import Heap, Ref


@pytest.fixture
def heap() -> Iterator[Heap]:
    with Heap("128MiB") as heap:
        yield heap
        if not heap.closed:
            heap.verify()


@pytest.mark.parametrize("module", [gcheap.heap, gcheap.refs])
def test_examples(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", "c8", "c16"]
DTYPES += ["S5", "U3", "M8[us]", "m8[s]", "3f4", "(2,3)i2", "2U2"]


def _values(dtype: np.dtype[Any], n: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    base, shape = dtype.base, (n, *dtype.shape)
    if base.kind in "SU":
        return rng.integers(0, 100, shape).astype(base)
    if base.kind == "c":
        return (rng.random(shape) + 1j * rng.random(shape)).astype(base)
    if base.kind == "f":
        return rng.random(shape).astype(base)
    return rng.integers(0, 2 if base.kind == "b" else 100, shape).astype(base)


@pytest.mark.parametrize("spec", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 3, 5000, 20_000])
def test_gather_returns_what_scatter_stored(heap: Heap, spec: str, n: int) -> None:
    rng = np.random.default_rng(n)
    dtype = np.dtype(spec)
    pair = heap.struct("Pair", guard="u1", value=dtype, next=Ref, after="u4")
    objects = heap.new(pair, n)
    values = _values(dtype, n, rng)
    objects.guard, objects.after = 7, 9
    assert np.array_equal(objects.value, np.zeros((n, *dtype.shape), dtype.base))
    objects.value = values
    order = rng.permutation(n)
    shuffled = objects[order]
    heap.collect(policy="all")
    assert objects.value.dtype == dtype.base
    assert np.array_equal(objects.value, values)
    assert np.array_equal(shuffled.value, values[order])
    assert (objects.guard == 7).all()
    assert (objects.after == 9).all()
    if n:
        one = objects[n // 2]
        assert np.array_equal(one.value, values[n // 2])
        one.value = values[0]
        assert np.array_equal(objects.value[n // 2], values[0])


def test_scatter_broadcasts_and_converts(heap: Heap) -> None:
    node = heap.struct("Node", weight="f8", tag="u4", point=("f4", 3))
    nodes = heap.new(node, 4)
    nodes.weight = 3
    nodes.tag = [1, 2, 3, 4]
    nodes.point = [1, 2, 3]
    assert nodes.weight.tolist() == [3.0] * 4
    assert nodes.tag.tolist() == [1, 2, 3, 4]
    assert nodes.point.tolist() == [[1, 2, 3]] * 4
    nodes.point = np.arange(12).reshape(4, 3)
    assert nodes.point[2].tolist() == [6, 7, 8]
    nodes.weight += 1
    assert nodes.weight.tolist() == [4.0] * 4
    nodes.weight = np.arange(8.0)[::2]
    assert nodes.weight.tolist() == [0, 2, 4, 6]
    nodes[[False, True, True, False]].weight = -1
    assert nodes.weight.tolist() == [0, -1, -1, 6]
    with pytest.raises(ValueError, match="field 'tag'"):
        nodes.tag = [1, 2]
    with pytest.raises(ValueError, match="field 'weight'"):
        nodes.weight = "heavy"
    with pytest.raises(OverflowError):
        nodes.tag = -1
    with pytest.raises(TypeError, match="not references"):
        nodes.tag = nodes
    with pytest.raises(AttributeError, match="has no field 'height'; its fields: weight, tag"):
        nodes.height  # noqa: B018
    with pytest.raises(AttributeError, match="has no field 'height'"):
        nodes.height = 1


def test_indexing_follows_numpy(heap: Heap) -> None:
    node = heap.struct("Node", tag="i8")
    nodes = heap.new(node, 1000)
    tags = np.arange(1000)
    nodes.tag = tags
    rng = np.random.default_rng(5)
    for key in (
        slice(None),
        slice(10, 20),
        slice(None, None, -1),
        slice(-5, None),
        slice(900, 100, -7),
        slice(5, 5),
        rng.integers(-1000, 1000, 300),
        rng.random(1000) < 0.5,
        [3, 1, 4, 1, 5],
        np.array([2, 7], dtype=np.uint8),
        [],
        ...,
    ):
        assert nodes[key].tag.tolist() == tags[key].tolist()
    assert nodes[-1].tag == 999
    assert [ref.tag for ref in nodes[:3]] == [0, 1, 2]
    assert nodes[np.int32(7)] in nodes[:10]
    assert nodes[70] not in nodes[:10]
    for bad in (1000, -1001, [0, 1000], [-1001]):
        with pytest.raises(IndexError, match=r"out of range for 1000"):
            nodes[bad]
        with pytest.raises(IndexError, match=r"out of range for 1000"):
            nodes[bad] = None
    for bad in ([True, False], [[1]], [1.5], "tag"):
        with pytest.raises(IndexError):
            nodes[bad]


def test_storing_references_into_arrays(heap: Heap) -> None:
    node = heap.struct("Node", tag="i8")
    nodes = heap.new(node, 10)
    nodes.tag = np.arange(10)
    table = nodes[:]
    table[3] = None
    table[-1] = nodes[0]
    table[[0, 1]] = nodes[[8, 9]]
    table[4:6] = nodes[7]
    assert table.is_null.tolist() == [i == 3 for i in range(10)]
    rest = table[~table.is_null]
    assert rest.tag.tolist() == [8, 9, 2, 7, 7, 6, 7, 8, 0]
    table[:] = table[::-1]
    assert table[0].tag == 0
    table[::-1] = table
    assert table[9].tag == 0
    table[:] = nodes[:1]
    assert set(table.tag.tolist()) == {0}
    table[1:3] = [nodes[5], None]
    assert table[1].tag == 5
    assert table[2].is_null
    with pytest.raises(ValueError, match="3 references for 2 elements"):
        table[:2] = nodes[:3]
    with pytest.raises(TypeError, match="is 3, expected a reference"):
        table[0] = 3
    with pytest.raises(gcheap.NullReferenceError, match="element 2 is null, expected an object"):
        table.tag  # noqa: B018
    assert nodes.tag.tolist() == list(range(10))


def test_reference_fields_gather_and_scatter(heap: Heap) -> None:
    rng = np.random.default_rng(7)
    n = 30_000
    node = heap.struct("Node", next=Ref, tag="i8", other=Ref("Node"))
    nodes = heap.new(node, n)
    nodes.tag = np.arange(n)
    order = rng.permutation(n)
    nodes.next = nodes[order]
    nodes.other = nodes.next
    heap.collect(minor=True)
    assert np.array_equal(nodes.next.tag, order)
    assert np.array_equal(nodes.next.next.tag, order[order])
    assert nodes.other._type is node
    assert nodes.next._type is None
    assert (nodes.other == nodes.next).all()
    assert not (nodes.other != nodes.next).any()
    nodes[:10].next = None
    assert nodes.next.is_null.sum() == 10
    nodes.next = nodes[3]
    assert (nodes.next == nodes[3]).all()
    nodes[5].next = nodes[6]
    assert nodes[5].next == nodes[6]
    with pytest.raises(ValueError, match="references for"):
        nodes.next = nodes[:7]
    assert (nodes[:3] == [nodes[0], None, nodes[2]]).tolist() == [True, False, True]


def test_typed_references_are_checked(heap: Heap) -> None:
    leaf = heap.struct("Leaf", value="f8")
    node = heap.struct("Node", leaf=Ref(leaf), next=Ref("Node"), any=Ref)
    nodes, leaves = heap.new(node, 10), heap.new(leaf, 10)
    nodes.leaf = leaves
    nodes.any = leaves
    nodes.any = nodes
    untyped = heap.refs(list(leaves))
    nodes.leaf = untyped
    untyped[4] = nodes[0]
    for store in (
        lambda: setattr(nodes, "leaf", nodes),
        lambda: setattr(nodes, "leaf", nodes[0]),
        lambda: setattr(nodes[0], "leaf", nodes[0]),
        lambda: setattr(nodes, "next", leaves),
        lambda: nodes.__setitem__(0, leaves[0]),
        lambda: nodes.__setitem__(slice(None), leaves),
        lambda: heap.refs([leaves[0]], node),
    ):
        with pytest.raises(TypeError, match=r"(value|element|the value).*(Leaf|Node)"):
            store()
    with pytest.raises(TypeError, match="value 4 is an object of type Node, expected Leaf"):
        nodes.leaf = untyped
    nodes.leaf = None
    assert nodes.leaf.is_null.all()
    with pytest.raises(TypeError, match="element 4 is an object of type Node"):
        untyped.value  # noqa: B018


def test_null_references(heap: Heap) -> None:
    node = heap.struct("Node", next=Ref, tag="i8")
    nodes = heap.new(node, 2)
    null = nodes[0].next
    assert isinstance(null, Ref)
    assert null.is_null
    assert not null
    assert null == None  # noqa: E711
    assert null == nodes[1].next
    assert null != nodes[0]
    assert hash(null) == 0
    assert "null" in repr(null)
    with pytest.raises(gcheap.NullReferenceError, match="null"):
        null.tag  # noqa: B018
    with pytest.raises(gcheap.NullReferenceError, match="null"):
        null.tag = 1
    nodes[0].next = null
    nothing = heap.refs(3)
    assert nothing.is_null.all()
    with pytest.raises(AttributeError, match="no element is an object"):
        nothing.tag  # noqa: B018


def test_identity_survives_collections(heap: Heap) -> None:
    node = heap.struct("Node", tag="i8")
    nodes = heap.new(node, 3000)
    refs = [nodes[i] for i in range(0, 3000, 100)]
    hashes = [hash(ref) for ref in refs]
    assert len(set(hashes)) > 20
    for policy in ("needed", "all"):
        heap.collect(policy=policy)  # type: ignore[arg-type]
        assert [hash(nodes[i]) for i in range(0, 3000, 100)] == hashes
        assert all(ref == nodes[i * 100] for i, ref in enumerate(refs))
    assert len({nodes[0], nodes[0], nodes[1]}) == 2
    assert (nodes == refs[1]).sum() == 1


def test_arrays_are_objects_like_others(heap: Heap) -> None:
    node = heap.struct("Node", children=Ref, data=Ref, tag="i8")
    nodes = heap.new(node, 10)
    nodes.tag = np.arange(10)
    nodes[0].children = nodes[5:]
    nodes[1].data = heap.array("f8", (3, 4))
    nodes[1].data.write(np.arange(12).reshape(3, 4))
    heap.collect(policy="all")
    children = nodes[0].children
    assert children.tag.tolist() == [5, 6, 7, 8, 9]
    assert children._type is node
    data = nodes[1].data
    assert data.shape == (3, 4)
    assert data.read().sum() == 66
    assert nodes[1].data == data
    assert hash(nodes[1].data) == hash(data)
    both = heap.refs([children, data, None, nodes[3]])
    assert both[1] == data
    assert len(both[0]) == 5
    with pytest.raises(TypeError, match="element 1 is an object of type"):
        both.tag  # noqa: B018
    with pytest.raises(AttributeError, match="no struct type"):
        heap.refs([data]).tag  # noqa: B018


def test_a_long_list_is_walked_and_dropped(heap: Heap) -> None:
    node = heap.struct("Node", next=Ref, tag="i8")
    nodes = heap.new(node, 200_000)
    nodes[:-1].next = nodes[1:]
    nodes.tag = np.arange(200_000)
    head = nodes[0]
    last = nodes[-1]
    del nodes
    heap.collect()
    assert heap.stats.last_major is not None
    assert heap.stats.last_major.live_objects == 200_000
    head.next = None
    assert heap.collect().live_objects == 2
    assert last.tag == 199_999


def test_gathered_values_are_copies(heap: Heap) -> None:
    node = heap.struct("Node", tag="i8")
    nodes = heap.new(node, 5)
    tags = nodes.tag
    tags[:] = 7
    assert nodes.tag.tolist() == [0] * 5
    assert nodes.__array_ufunc__ is None
    assert dir(nodes) == [
        "compare_and_swap",
        "copy_within",
        "exchange",
        "fill",
        "is_null",
        "resize",
        "tag",
    ]
