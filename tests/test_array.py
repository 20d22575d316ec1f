"""Arrays of numbers in the heap, and the numpy views that pin them."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import gcheap
from gcheap import Heap
from gcheap.array import new_leaf


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f4", "c16", "g", "S3", "U5", "M8[ns]"])
@pytest.mark.parametrize("shape", [(), 0, 5, (3, 7), (2, 3, 4), 5000, (100, 0, 2), (300, 400)])
def test_contents_and_shape(dtype: str, shape: Any) -> None:
    with Heap("64MiB") as heap:
        array = heap.array(dtype, shape)
        like = np.zeros(shape, dtype=dtype)
        assert array.shape == like.shape
        assert array.dtype == like.dtype
        assert (array.size, array.nbytes) == (like.size, like.nbytes)
        assert np.array_equal(array.read(), like)
        like[...] = np.arange(like.size).reshape(like.shape).astype(like.dtype)
        array.write(like)
        heap.collect(policy="all")
        heap.verify()
        assert np.array_equal(array.read(), like)
        table = heap.refs([array])
        again = table[0]
        assert again.shape == like.shape
        assert again.dtype == like.dtype
        assert again == array
        assert np.array_equal(again.read(), like)
        with array.view() as view:
            assert view.ctypes.data % min(16, view.dtype.alignment) == 0


def test_a_view_pins(mover: str) -> None:
    with Heap("64MiB", mover=mover) as heap:
        blobs = [heap.array("i8", 200 * (1 + i % 20)) for i in range(300)]
        for i, blob in enumerate(blobs):
            blob.write(i)
        held = blobs[150]
        del blobs[::2]
        with held.view() as view:
            assert heap.stats.pins == 1
            address = view.ctypes.data
            for policy in ("needed", "all", "release"):
                heap.collect(minor=True)
                heap.collect(policy=policy)  # type: ignore[arg-type]
                heap.verify()
                assert (view == 150).all()
                with held.view() as again:
                    assert again.ctypes.data == address
                    assert heap.stats.pins == 2
                del again
            view[:] = -1
        del view
        assert heap.stats.pins == 0
        heap.collect(policy="all")
        assert (held.read() == -1).all()
        for i, blob in enumerate(blobs):
            assert (blob.read() == 2 * i + 1).all()


def test_large_views_are_pinned_too(mover: str) -> None:
    with Heap("128MiB", mover=mover) as heap:
        blobs = [heap.array("f4", (256, 1024)) for _ in range(8)]
        with blobs[3].view() as view:
            view[:] = 5
            del blobs[:3]
            heap.collect(policy="all")
            view[7] += 1
            heap.verify()
            assert view.sum() == 5 * 256 * 1024 + 1024
        assert blobs[0].read()[7, 0] == 6


def test_an_open_view_keeps_the_heap_open() -> None:
    heap = Heap("8MiB")
    blob = heap.array("f8", 100)
    with blob.view() as view:
        with pytest.raises(BufferError, match="open: 1"):
            heap.close()
        view[:] = 1
        assert not heap.closed
        assert blob.read().sum() == 100
    heap.close()


def test_arrays_outlive_the_heap() -> None:
    heap = Heap("8MiB")
    blob = heap.array("f8", 1000)
    with blob.view() as view:
        view[:] = np.arange(1000)
        part = view[10:20]
    del view
    heap.close()
    assert heap.closed
    assert part.tolist() == list(range(10, 20))
    core = heap._core
    assert core._alive
    del part
    gc.collect()
    assert not core._alive


def test_the_last_array_goes_while_the_heap_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", wrong.append)
    core = Heap("8MiB")._core
    with new_leaf(core, "f8", 10).view() as array:
        arrays = [array]
    del array
    detach_all = core._detach_all

    def gone_then_detached() -> None:  # as another thread may, meanwhile
        arrays.clear()
        detach_all()

    monkeypatch.setattr(core, "_detach_all", gone_then_detached)
    core.close()
    assert not core._alive
    assert wrong == []


def test_the_heap_is_closed_while_an_array_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Heap("8MiB")._core
    view = new_leaf(core, "f8", 10).view()
    call = core.call

    def pinned_then_closed(*args: Any) -> None:
        monkeypatch.setattr(core, "call", call)
        call(*args)
        core.close()

    monkeypatch.setattr(core, "call", pinned_then_closed)
    with view as array:
        assert core.closed
        assert core._alive  # what is written to is still there
        array[:] = 3
        assert array.sum() == 30
    del array
    assert not core._alive


def test_the_heap_is_closed_before_an_array_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Heap("8MiB")._core
    view = new_leaf(core, "f8", 10).view()
    call = core.call

    def closed_then_pinned(*args: Any) -> None:
        monkeypatch.setattr(core, "call", call)
        core.close()
        call(*args)

    monkeypatch.setattr(core, "call", closed_then_pinned)
    with pytest.raises(gcheap.HeapClosedError):
        view.__enter__()
    assert not core._alive


def test_a_heap_with_a_view_is_never_found_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Heap("8MiB")._core
    seen = []
    wait = core._wait_for_calls
    monkeypatch.setattr(core, "_wait_for_calls", lambda: (seen.append(core.closed), wait()))
    with new_leaf(core, "f8", 10).view(), pytest.raises(BufferError, match="open: 1"):
        core.close()
    assert seen == []
    core.close()
    assert core.closed


def test_a_view_is_opened_once() -> None:
    with Heap("8MiB") as heap:
        view = heap.array("f8", 10).view()
        with view, pytest.raises(gcheap.InvalidOperation, match="open already"):
            view.__enter__()
        with view as array:
            assert array.shape == (10,)


def test_a_forgotten_view_does_not_keep_the_heap() -> None:
    heap = Heap("8MiB")
    heap.array("f8", 10).view().__enter__()
    gc.collect()
    heap.close()


@pytest.mark.parametrize(
    ("dtype", "shape", "error", "match"),
    [
        (object, 3, TypeError, "object"),
        (">i4", 3, TypeError, ">i4"),
        ("V5", 3, TypeError, "V5"),
        ("3f4", 3, TypeError, "sub-array"),
        ("f4", -1, ValueError, "-1"),
        ("f4", (2, -3), ValueError, "-3"),
        ("f4", 1.5, TypeError, "1.5|iterable"),
        ("f4", (1,) * 40, ValueError, "40 dimensions"),
        ("f4", (1 << 40, 1 << 40), ValueError, "more than any heap"),
        ("f4", (0, 1 << 70), ValueError, "1180591620717411303424"),
        ("nope", 3, TypeError, "the dtype of the array is 'nope', expected a numpy dtype"),
        ("f4", 1 << 40, gcheap.HeapExhausted, "1099511627776 elements"),
    ],
)
def test_bad_arrays_are_named(dtype: Any, shape: Any, error: type[Exception], match: str) -> None:
    with Heap("8MiB") as heap:
        with pytest.raises(error, match=match):
            heap.array(dtype, shape)
        heap.verify()


def test_identity() -> None:
    with Heap("8MiB") as heap:
        one, two = heap.array("f8", 3), heap.array("f8", 3)
        assert one == one
        assert one != two
        assert one != None  # noqa: E711
        assert not one.is_null
        assert hash(one) == hash(one)
        assert "float64 (3,)" in repr(one)
