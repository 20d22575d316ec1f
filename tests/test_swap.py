"""References written otherwise than one by one: swaps, exchanges, copies that overlap, fills."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gcheap
from gcheap import Heap, Ref


@pytest.fixture
def heap() -> Iterator[Heap]:
    with Heap("128MiB") as heap:
        yield heap
        heap.verify()


def _tags(refs: gcheap.RefArray) -> list[int]:
    """Return the tags of the elements, -1 for null."""
    live = ~refs.is_null
    tags = np.full(len(refs), -1)
    if live.any():
        tags[live] = refs[live].tag
    return tags.tolist()


def _numbered(heap: Heap, n: int) -> tuple[Any, gcheap.RefArray]:
    node = heap.struct("Node", next=Ref, other=Ref("Node"), tag="i8")
    nodes = heap.new(node, n)
    nodes.tag = np.arange(n)
    return node, nodes


@pytest.mark.parametrize(
    ("to", "start", "stop"),
    [(0, 3, 9), (3, 0, 7), (2, 2, 8), (-4, 0, 4), (10, 3, 3), (0, -3, None), (4, 9, 2)],
)
def test_copy_within_is_as_numpy_does_it(heap: Heap, to: int, start: int, stop: int | None) -> None:
    _, nodes = _numbered(heap, 10)
    shadow = np.arange(10)
    piece = shadow[start:stop].copy()
    at = to % 10 if to < 0 else to
    shadow[at : at + len(piece)] = piece
    nodes.copy_within(to, start, stop)
    assert _tags(nodes) == shadow.tolist()


def test_large_copies_survive_collections(heap: Heap) -> None:
    rng = np.random.default_rng(5)
    node, nodes = _numbered(heap, 50_000)
    table, shadow = heap.refs(50_000), np.full(50_000, -1)
    for round_ in range(20):
        count = int(rng.integers(0, 30_000))
        a, b = (int(x) for x in rng.integers(0, 50_000 - count, 2))
        if round_ % 3 == 0:
            table[a : a + count] = nodes[b : b + count]
            shadow[a : a + count] = np.arange(b, b + count)
        elif round_ % 3 == 1:
            table.copy_within(a, b, b + count)
            shadow[a : a + count] = shadow[b : b + count].copy()
        else:
            young = heap.new(node, 1)
            young.tag = 100_000 + round_
            table[a : a + count] = young[0]
            shadow[a : a + count] = 100_000 + round_
            del young
        heap.collect(minor=True, promote=round_ % 2 == 0)
        if round_ % 5 == 0:
            heap.collect(policy="all", concurrent=True)
        assert _tags(table) == shadow.tolist()


def test_an_array_is_stored_into_itself_by_another_name(heap: Heap) -> None:
    node, nodes = _numbered(heap, 3000)
    holder = heap.new(node, 1)[0]
    holder.next = nodes
    same = holder.next
    nodes[::-1] = same
    assert _tags(nodes) == list(range(2999, -1, -1))
    nodes[:] = same
    assert _tags(nodes) == list(range(2999, -1, -1))
    order = np.random.default_rng(1).permutation(3000)
    nodes[order] = nodes
    assert [_tags(nodes)[i] for i in order] == list(range(2999, -1, -1))


def test_fill(heap: Heap) -> None:
    node, nodes = _numbered(heap, 20)
    nodes.fill(nodes[7])
    assert _tags(nodes) == [7] * 20
    nodes[3:6] = None
    assert _tags(nodes)[2:7] == [7, -1, -1, -1, 7]
    nodes[::2] = nodes[7]
    nodes.fill(None)
    assert nodes.is_null.all()
    with pytest.raises(TypeError, match=r"the value is \[1\], expected a reference or None"):
        nodes.fill([1])
    with pytest.raises(TypeError, match=r"is an object of type .*, expected Node"):
        nodes.fill(heap.array("f8", 3))
    blobs = heap.refs(4)
    blobs.fill(blobs)
    assert (blobs[3] == blobs).all()
    assert len(heap.new(node, 0)) == 0
    heap.new(node, 0).fill(None)


def test_copies_check_types(heap: Heap) -> None:
    node, nodes = _numbered(heap, 10)
    other = heap.struct("Other", tag="i8")
    mixed = heap.refs([*heap.new(other, 2), *nodes[:8]])
    mixed.copy_within(1, 0, 9)
    with pytest.raises(TypeError, match="value 0 is an object of type Other, expected Node"):
        nodes[0:4] = mixed[0:4]
    with pytest.raises(TypeError, match="value 0 is an object of type Other, expected Node"):
        nodes[:] = mixed
    mixed[:] = nodes
    assert _tags(mixed) == list(range(10))
    nodes[2:] = mixed[:8]
    assert _tags(nodes) == [0, 1, *range(8)]
    with pytest.raises(IndexError, match="6 elements do not fit from 5 on, there are 10"):
        nodes.copy_within(5, 0, 6)
    with pytest.raises(IndexError, match="0 elements do not fit from 11 on"):
        nodes.copy_within(11, 0, 0)
    assert node.name == "Node"


def test_swaps_of_fields(heap: Heap) -> None:
    _, nodes = _numbered(heap, 4)
    a, b, c, _d = nodes
    assert not a.compare_and_swap("next", b, c)
    assert a.next.is_null
    assert a.compare_and_swap("next", None, b)
    assert a.compare_and_swap("next", b, c)
    assert not a.compare_and_swap("next", b, None)
    assert a.next == c
    assert a.exchange("next", nodes) == c
    assert len(a.exchange("next", None)) == 4
    assert a.exchange("next", b).is_null
    assert a.exchange("other", a).is_null
    assert a.other == a
    with pytest.raises(TypeError, match=r"the value is an object of type .*, expected Node"):
        a.exchange("other", nodes)
    with pytest.raises(TypeError, match=r"the value is an object of type .*, expected Node"):
        a.compare_and_swap("other", None, nodes)
    with pytest.raises(TypeError, match="field 'tag' holds int64, not references"):
        a.exchange("tag", b)
    with pytest.raises(TypeError, match="expected is 3, expected a reference or None"):
        a.compare_and_swap("next", 3, b)
    with pytest.raises(AttributeError, match="nothing"):
        a.exchange("nothing", b)
    null = nodes[3].next
    with pytest.raises(gcheap.NullReferenceError):
        null.exchange("next", a)


def test_swaps_of_elements(heap: Heap) -> None:
    _, nodes = _numbered(heap, 4)
    table = heap.refs(3)
    assert table.compare_and_swap(1, None, nodes[1])
    assert not table.compare_and_swap(1, None, nodes[2])
    assert table.exchange(-2, nodes) == nodes[1]
    assert len(table.exchange(1, None)) == 4
    assert table.is_null.all()
    assert nodes.exchange(0, None) is not None
    with pytest.raises(IndexError, match="index 3 is out of range for 3 elements"):
        table.exchange(3, None)
    with pytest.raises(IndexError, match="expected an integer"):
        table.exchange(slice(0, 1), None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected Node or null"):
        nodes.exchange(0, table)


@pytest.mark.parametrize("name", ["exchange", "fill", "copy_within", "compare_and_swap", "resize"])
def test_methods_are_no_fields(heap: Heap, name: str) -> None:
    with pytest.raises(ValueError, match="reserved"):
        heap.struct("Taken", **{name: "i8"})


def test_threads_swap_and_lose_nothing(heap: Heap) -> None:
    node, nodes = _numbered(heap, 1)
    box, each = nodes[0], 400

    def push(first: int) -> None:
        for tag in range(first, first + each):
            new = heap.new(node, 1)[0]
            new.tag = tag
            while True:
                head = box.next
                new.next = head
                if box.compare_and_swap("next", head, new):
                    break

    threads = [threading.Thread(target=push, args=(i * each,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        heap.collect(policy="all", concurrent=True)
    for thread in threads:
        thread.join()
    tags, ref = [], box.next
    while ref:
        tags.append(int(ref.tag))
        ref = ref.next
    assert sorted(tags) == list(range(3 * each))
