"""Arrays that become longer and shorter, against numpy."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gcheap
from gcheap import Heap, Ref

MOVERS = ["auto", "copy", "simulated", "memcpy", "slide"]
SIZES = [0, 3, 900, 1200, 40, 5000, 5001, 200_000, 260_000, 70, 300_000, 300_010, 0, 180_000]


@pytest.fixture(params=MOVERS)
def heap(request: pytest.FixtureRequest) -> Iterator[Heap]:
    with Heap("128MiB", mover=request.param) as heap:
        yield heap
        heap.verify()


def _collect(heap: Heap, turn: int) -> None:
    if turn % 4 == 1:
        heap.collect(minor=True)
    elif turn % 4 == 2:
        heap.collect(policy="all", concurrent=True)
    elif turn % 4 == 3:
        heap.collect()


def test_references_are_those_of_numpy(heap: Heap) -> None:
    node = heap.struct("Node", tag="i8")
    nodes = heap.new(node, 5000)
    nodes.tag = np.arange(5000)
    rng = np.random.default_rng(3)
    table, shadow = heap.refs(0, node), np.empty(0, dtype=np.int64)
    for turn, size in enumerate(SIZES):
        table.resize(size)
        shadow = np.append(shadow[:size], np.full(max(0, size - len(shadow)), -1))
        assert len(table) == size
        places = np.flatnonzero(rng.random(size) < 0.5)
        ids = rng.integers(0, 5000, len(places))
        table[places] = nodes[ids]
        shadow[places] = ids
        _collect(heap, turn)
        live = shadow >= 0
        assert np.array_equal(table.is_null, ~live)
        if live.any():
            assert np.array_equal(table[live].tag, shadow[live])


@pytest.mark.parametrize("rest", [(), (7,), (2, 3)])
def test_values_are_those_of_numpy(heap: Heap, rest: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    blob, shadow = heap.array("i4", (5, *rest)), np.zeros((5, *rest), dtype=np.int32)
    for turn, size in enumerate(SIZES):
        blob.resize(size)
        longer = np.zeros((max(0, size - len(shadow)), *rest), dtype=np.int32)
        shadow = np.concatenate([shadow[:size], longer])
        assert blob.shape == shadow.shape
        assert len(blob) == size
        assert blob.nbytes == shadow.nbytes
        assert np.array_equal(blob.read(), shadow)
        with blob.view() as view:
            view[...] = rng.integers(0, 1 << 30, shadow.shape)
            shadow[...] = view
        del view
        _collect(heap, turn)
    assert np.array_equal(blob.read(), shadow)


def test_appending_doubles_no_memory(heap: Heap) -> None:
    blob = heap.array("u1", 4 << 20)
    other = heap.array("u1", 20_000)
    blob.resize(5 << 20)
    before = heap.stats.heap_bytes
    for size in range((5 << 20) + 4096, (6 << 20) + 1, 4096):
        blob.resize(size)
    assert heap.stats.heap_bytes - before <= (1 << 20) + 8192
    blob.resize(100)
    assert before - heap.stats.heap_bytes >= 4 << 20
    assert other.shape == (20_000,)


def test_the_hash_stays(heap: Heap) -> None:
    blobs = [heap.array("u1", n) for n in (10, 3 << 20, 20_000)]
    known = {blob: at for at, blob in enumerate(blobs)}
    for size in (5000, 4 << 20, 60, 5 << 20):
        for at, blob in enumerate(blobs):
            blob.resize(size + at)
            assert known[blob] == at
        heap.collect(policy="all")
    holder = heap.new(heap.struct("Node", data=Ref), 1)[0]
    for at, blob in enumerate(blobs):
        holder.data = blob
        assert holder.data == blob
        assert hash(holder.data) == hash(blob)
        assert known[holder.data] == at


def test_other_names_see_what_there_is(heap: Heap) -> None:
    """An array that was resized by another name is no memory that is not there."""
    node = heap.struct("Node", array=Ref, tag="i8")
    holder = heap.new(node, 1)[0]
    holder.array = heap.array("i8", 10_000)
    one, two = holder.array, holder.array
    one.resize(3000)  # in place
    assert two.shape == (3000,)
    with two.view() as view:
        assert view.shape == (3000,)
        with pytest.raises(BufferError, match="a view of it is open"):
            one.resize(5)
        with pytest.raises(BufferError, match="pinned"):
            one.resize(50_000)
    del view
    one.resize(0)
    assert two.read().shape == (0,)
    holder.array = heap.refs(10_000)
    one, two = holder.array, holder.array
    one.resize(20)
    assert len(two) == len(two.is_null) == 20
    with pytest.raises(IndexError, match="index 20 is out of range for 20 elements"):
        two[20]
    with pytest.raises(IndexError, match="index -21 is out of range for 20 elements"):
        two[-21] = None
    assert (two == None).all()  # noqa: E711
    assert repr(two) == "<RefArray of 20 references to any type>"


def test_arguments(heap: Heap) -> None:
    refs, blob = heap.refs(3), heap.array("f8", (2, 3))
    for wrong in ("3", 1.5, None, True):
        with pytest.raises(TypeError, match="expected an integer"):
            refs.resize(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected an integer"):
            blob.resize(wrong)  # type: ignore[arg-type]
    for wrong in (-1, 1 << 70):
        with pytest.raises(ValueError, match="expected 0"):
            refs.resize(wrong)
        with pytest.raises(ValueError, match="expected 0"):
            blob.resize(wrong)
    with pytest.raises(TypeError, match="without dimensions"):
        heap.array("f8", ()).resize(3)
    with pytest.raises(gcheap.HeapExhausted):
        refs.resize(1 << 40)
    with pytest.raises(gcheap.HeapExhausted):
        blob.resize(1 << 30)
    assert len(refs) == 3
    assert blob.shape == (2, 3)
    blob.resize(np.int64(4))
    assert blob.shape == (4, 3)
    empty = heap.array("f8", (2, 0))
    empty.resize(9)
    assert empty.shape == (9, 0)


def test_threads_that_use_an_array_while_it_is_resized(heap: Heap) -> None:
    """They get an error, or what was there; never memory of somebody else."""
    node = heap.struct("Node", tag="i8", next=Ref)
    nodes = heap.new(node, 100)
    nodes.tag = np.arange(100)
    table = heap.refs(60_000, node)
    blob = heap.array("u1", 500_000)
    end = threading.Event()
    wrong: list[BaseException] = []

    def use(which: int) -> None:
        rng = np.random.default_rng(which)
        while not end.is_set():
            try:
                at = int(rng.integers(0, 30_000))
                if which == 0:
                    table[at : at + 9000] = nodes[int(rng.integers(100))]
                elif which == 1:
                    live = table[~table.is_null]
                    assert not len(live) or int(live.tag.max()) < 100
                elif which == 2:
                    table.copy_within(0, at, at + 9000)
                else:
                    with blob.view() as view:
                        view[...] = which
                    del view
            except (ValueError, IndexError, gcheap.InvalidOperation, BufferError):
                pass
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=use, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    rng = np.random.default_rng(9)
    for turn in range(60):
        table.resize(int(rng.integers(0, 200_000)))
        with contextlib.suppress(BufferError, gcheap.InvalidOperation):  # a view is open
            blob.resize(int(rng.integers(0, 3_000_000)))
        if turn % 5 == 0:
            _collect(heap, turn // 5)
    end.set()
    for thread in threads:
        thread.join()
    assert not wrong
    kept: Any = table.is_null
    assert len(kept) == len(table)
