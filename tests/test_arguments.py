"""Wrong arguments: each error names the value and what was expected, and the heap stays intact."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gcheap
from gcheap import Heap, ObjectGraph
from gcheap._units import parse_size


@pytest.fixture
def heap() -> Iterator[Heap]:
    with Heap("16MiB") as made:
        yield made
        made.verify()


def nodes_of(heap: Heap, count: int = 10) -> Any:
    return heap.new(heap.struct("Node", next=gcheap.Ref, tag="u4"), count)


def test_sizes_are_integers_of_any_kind_and_bounded() -> None:
    assert parse_size(np.int64(4096)) == 4096
    assert parse_size("1PiB") == 1 << 50
    for size in (1 << 63, 10**30, "9999999TiB", -1):
        with pytest.raises(ValueError, match=r"max_size is .*, expected 0 to 9223372036854775807"):
            Heap(size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nursery": "10TiB"}, "nursery is 10995116277760, expected at most"),
        ({"nursery": "8MiB"}, "nursery is 8388608, expected at most 4194304 .a quarter"),
        ({"nursery": 1}, "nursery is 1, expected at least 262144"),
        ({"staging": "9TiB"}, "staging is .*, expected at most"),
        ({"growth": 0.001}, "growth is 0.001, expected 0.01 to 100"),
        ({"growth": 1000}, "growth is 1000, expected 0.01 to 100"),
        ({"soft_max_size": "2TiB"}, "soft_max_bytes is .*, expected at most max_bytes"),
        ({"budget": 0}, "budget is 0, expected at least 1 MiB"),
        ({"budget": 5}, "budget is 5, expected at least 1048576"),
        ({"budget": "1GiB", "growth": 2}, "growth is 2 with a budget, expected one of them"),
        ({"decay": -1}, "decay is -1, expected 0.001 to 3600 seconds"),
        ({"decay": 1e6}, "decay is 1000000.0, expected 0.001 to 3600 seconds"),
        ({"pause_target": 11}, "pause_target is 11, expected 5e-05 to 10 seconds"),
        ({"pause_target": float("nan")}, "pause_target is nan, expected 5e-05 to 10 seconds"),
        ({"staging": 1}, "staging is 1, expected at least 524288"),
        ({"event_capacity": 1 << 31}, "event_capacity is 2147483648, expected"),
        ({"page_size": 3}, "page_size is 3, expected a power of two"),
        ({"inject": "a\0b"}, "inject is .*, expected text without NUL"),
        ({"inject": "\ud800"}, "inject is .*, expected text without NUL characters and lone"),
        ({"mover": "move\0s"}, "mover is 'move.x00s', expected one of auto, move"),
        ({"mover": "\ud800"}, "mover is .*, expected one of auto, move"),
        ({"staging": "9" * 5000}, "staging is '9999.*, expected 0 to 9223372036854775807 bytes"),
        ({"staging": "9" * 400 + ".0GiB"}, "staging is '9999.*, expected 0 to 9223372036854775807"),
    ],
)
def test_errors_name_the_argument_of_python(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Heap("16MiB", **arguments)
    assert len(str(caught.value)) < 200


def test_yes_and_no_are_not_said_in_words(heap: Heap) -> None:
    for argument in ("minor", "concurrent", "promote", "wait", "background"):
        with pytest.raises(TypeError, match=f"{argument} is 'no', expected True or False"):
            heap.collect(**{argument: "no"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pause_target is 'short', expected seconds"):
        Heap("16MiB", pause_target="short")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="full_moves is None, expected True or False"):
        Heap("16MiB", full_moves=None)  # type: ignore[arg-type]
    assert heap.collect(minor=np.bool_(True)).minor  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda h: h.inject(4), TypeError, "is 4, expected text"),
        (lambda h: h.struct("A", x=None), TypeError, "field 'x' of A is None"),
        (lambda h: h.array(None, 3), TypeError, "the dtype of the array is None, expected a numpy"),
        (lambda h: h.struct("A\0B", x="i4"), ValueError, "name of a struct is 'A.x00B'"),
        (lambda h: h.struct("\ud800"), ValueError, "name of a struct is"),
        (lambda h: h.refs(1.5), TypeError, "items is 1.5, expected"),
        (lambda h: h.refs(True), TypeError, "items is True, expected"),
        (lambda h: h.refs(10**30), ValueError, "is 1000000000000000000000000000000, expected 0"),
        (lambda h: h.refs([7]), TypeError, "item 0 is 7, expected a reference or None"),
        (lambda h: h.refs(3, "Node"), TypeError, "the type is 'Node', expected one that"),
        (lambda h: h.array("f4", 1.5), TypeError, "shape is 1.5, expected"),
        (lambda h: h.array("f4", None), TypeError, "shape is None, expected"),
        (lambda h: h.events(-1), ValueError, "since is -1, expected 0"),
        (lambda h: h.events("a"), TypeError, "since is 'a', expected an integer"),
        (lambda h: h.load(3), TypeError, "the graph is 3, expected a gcheap.ObjectGraph"),
        (lambda h: h.extract(3), TypeError, "the table is 3, expected a gcheap.RefArray"),
    ],
)
def test_arguments_of_a_heap(
    heap: Heap, use: Callable[[Heap], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        use(heap)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"minor": True, "concurrent": True}, "concurrent is True with minor=True"),
        ({"minor": True, "policy": "all"}, "policy is 'all' with minor=True, expected none"),
        ({"promote": True}, "promote is True without minor=True"),
        ({"background": True}, "background is True without concurrent=True"),
        ({"promote": True, "concurrent": True}, "promote is True without minor=True"),
    ],
)
def test_what_a_collection_would_ignore_is_refused(
    heap: Heap, arguments: dict[str, Any], message: str
) -> None:
    before = heap.stats.minor_count, heap.stats.major_count
    with pytest.raises(ValueError, match=message):
        heap.collect(**arguments)
    assert (heap.stats.minor_count, heap.stats.major_count) == before


def test_a_table_of_another_heap_is_not_extracted(heap: Heap) -> None:
    with Heap("8MiB") as other, pytest.raises(ValueError, match="belongs to another heap"):
        heap.extract(nodes_of(other))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (1 << 70, "index 1180591620717411303424 is out of range for 10"),
        (np.uint64(2**64 - 1), "index 18446744073709551615 is out of range for 10"),
        (np.array([2**64 - 1], dtype=np.uint64), "index 18446744073709551615 is out of range"),
        (1.5, "the index is 1.5, expected an integer"),
        (True, "the index is True, expected an integer"),
        (None, "the index is None, expected"),
        ((1, 2), r"the index is \(1, 2\), expected"),
    ],
)
def test_indices_that_are_none(heap: Heap, index: Any, message: str) -> None:
    nodes = nodes_of(heap)
    with pytest.raises(IndexError, match=message):
        nodes[index]
    with pytest.raises(IndexError, match=message):
        nodes[index] = None
    assert not nodes.is_null.any()


def test_an_integer_array_without_dimensions_is_an_index(heap: Heap) -> None:
    nodes = nodes_of(heap)
    assert nodes[np.array(3)] == nodes[3]


def test_values_that_a_field_cannot_hold(heap: Heap) -> None:
    nodes = nodes_of(heap)
    for value, error in ((2**40, OverflowError), (None, TypeError), ("abc", ValueError)):
        for target in (nodes, nodes[0]):
            with pytest.raises(error, match=rf"field 'tag' \(uint32.*{value!r}"):
                target.tag = value
    with pytest.raises(TypeError, match="field 'next' is 7, expected a reference or None"):
        nodes.next = 7
    with pytest.raises(AttributeError, match="no setter"):
        nodes.is_null = True


def test_a_copy_is_another_name_and_frees_nothing_twice(heap: Heap) -> None:
    nodes = nodes_of(heap)
    one = nodes[0]
    assert copy.copy(one) == one
    copied = copy.copy(nodes)
    copied[0] = None
    del copied
    heap.collect()
    assert nodes[0] == one
    assert not nodes.is_null.any()


def test_a_copied_array_has_contents_of_its_own(heap: Heap) -> None:
    array = heap.array("f4", (2, 3))
    array.write(7)
    copied = copy.copy(array)
    assert copied != array
    array.write(1)
    assert copied.shape == (2, 3)
    assert (copied.read() == 7).all()


def test_nothing_of_a_heap_is_pickled(heap: Heap) -> None:
    nodes = nodes_of(heap)
    for item in (heap, nodes, nodes[0], heap.array("f4", 3)):
        for attempt in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled or copied"):
                attempt(item)


def test_arrays_of_references_are_made_by_heaps() -> None:
    with pytest.raises(TypeError, match=r"made by Heap\.new and Heap\.refs"):
        gcheap.RefArray()


def test_objects_of_two_heaps_are_different(heap: Heap) -> None:
    with Heap("8MiB") as other:
        mine, theirs = nodes_of(heap)[0], nodes_of(other)[0]
        assert mine != theirs
        assert heap.array("f4", 1) != other.array("f4", 1)
        assert len({mine, theirs}) == 2
        assert mine.next == theirs.next  # null is null everywhere


def test_the_shape_of_an_array_is_its_own(heap: Heap) -> None:
    array = heap.array("i4", (2, 3))
    for name, value in (("shape", (1 << 40,)), ("dtype", np.dtype("f8"))):
        with pytest.raises(AttributeError):
            setattr(array, name, value)
    assert (len(array), array.ndim) == (2, 2)


def test_numpy_copies_an_array_of_the_heap(heap: Heap) -> None:
    array = heap.array("i4", (2, 3))
    array.write(np.arange(6).reshape(2, 3))
    assert np.asarray(array).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.asarray(array, dtype="f8").dtype == np.float64
    with pytest.raises(ValueError, match=r"HeapArray.view"):
        array.__array__(copy=False)


def test_a_closed_heap_is_not_entered() -> None:
    heap = Heap("8MiB")
    heap.close()
    with pytest.raises(gcheap.HeapClosedError):
        heap.__enter__()


@pytest.mark.parametrize(
    ("sizes", "references", "roots", "message"),
    [
        ([-8], [[]], [0], r"sizes: \[0\] is -8, expected 0 to"),
        (["a"], [[]], [0], r"sizes: \[0\] is 'a', expected an integer"),
        ([24], [[0.5]], [0], r"indices: \[0\] is 0.5, expected an integer"),
        ([24], [[]], [1 << 70], r"roots: \[0\] is 1180591620717411303424, expected"),
    ],
)
def test_lists_that_are_no_graph(sizes: Any, references: Any, roots: Any, message: str) -> None:
    with pytest.raises(gcheap.GraphFormatError, match=message):
        ObjectGraph.from_lists(sizes, references, roots)


def test_graphs_are_compared_with_graphs() -> None:
    graph = ObjectGraph.from_lists([24], [[None]], [0])
    with pytest.raises(TypeError, match="the other is 3, expected an ObjectGraph"):
        graph.diff(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"copies is 1.5, expected an integer"):
        graph.repeat(1.5)  # type: ignore[arg-type]


def test_graphs_are_captured_and_generated_by_name() -> None:
    graph = ObjectGraph.generate("tree", 1 << 20, seed=3)
    assert graph.isomorphic(ObjectGraph.generate("tree", 1 << 20, seed=3))
    with pytest.raises(ValueError, match="bush"):
        ObjectGraph.generate("bush", 1 << 20)
    captured = ObjectGraph.capture(modules=["json"])
    captured.validate()
    assert captured.n_nodes > 1000


def test_an_array_of_references_is_not_read_by_numpy(
    heap: Heap, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, pixels = nodes_of(heap), heap.array("f4", 10)

    def untouched(*_args: object) -> Any:
        raise AssertionError("numpy went through the elements")

    with monkeypatch.context() as patched:
        patched.setattr(gcheap.RefArray, "__getitem__", untouched)
        patched.setattr(gcheap.RefArray, "__iter__", untouched)
        with pytest.raises(TypeError, match="field 'tag' holds uint32, not references"):
            nodes.tag = nodes
        with pytest.raises(TypeError, match=r"<HeapArray .*> holds float32, not refer"):
            pixels.write(nodes)
    with pytest.raises(IndexError, match=r"the index is <RefArray of .*>, expected an int"):
        nodes[nodes]


@pytest.mark.parametrize("index", [[[1, 2], [3]], [None, 1], [2**70]])
def test_indices_that_numpy_makes_objects_of_are_named(heap: Heap, index: Any) -> None:
    nodes = nodes_of(heap)
    for use in (lambda: nodes[index], lambda: nodes.__setitem__(index, None)):
        with pytest.raises(IndexError, match=r"the index is \[.*\], expected an integer, integers"):
            use()


def test_an_array_says_how_its_contents_are_reached(heap: Heap) -> None:
    pixels = heap.array("f4", (3, 4))
    view = pixels.view()
    uses: list[Callable[[], Any]] = [
        lambda: pixels[0],
        lambda: pixels.__setitem__(0, 1),
        lambda: list(pixels),
        lambda: view[0],
        lambda: view.__setitem__(0, 1),
        lambda: np.asarray(view),
        lambda: pixels.write(view),
    ]
    for use in uses:
        with pytest.raises(TypeError, match=r"with array\.view"):
            use()
    assert repr(view) == "<View of <HeapArray float32 (3, 4)>, closed>"
    with view as array:
        array[1] = 2
        assert repr(view).endswith("open>")
    assert np.asarray(pixels).sum() == 8
    with pytest.raises(TypeError, match="View objects cannot be pickled or copied"):
        copy.copy(view)


def test_values_that_an_array_cannot_hold_are_named(heap: Heap) -> None:
    pixels = heap.array("f4", (3, 4))
    with pytest.raises(ValueError, match=r"array \(float32, shape \(3, 4\)\), 'x': could not"):
        pixels.write("x")
    with pytest.raises(ValueError, match=r"shape \(3, 4\)\), array.*from shape \(2,\)"):
        pixels.write(np.zeros(2))


def test_errors_call_arrays_by_dtype_and_dimensions(heap: Heap) -> None:
    node = heap.struct("Node")
    with pytest.raises(TypeError, match=r"of type float32\[:,:\], expected Node"):
        heap.refs([heap.array("f4", (2, 2))], node)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda g, _: g.renumbered([0, 3]), ValueError, r"order\[1\] is 3, expected .* below 3"),
        (lambda g, _: g.renumbered([-1]), ValueError, r"order\[0\] is -1, expected"),
        (lambda g, _: g.renumbered([2, 0, 2]), ValueError, r"order\[2\] is 2, as order\[0\] is"),
        (lambda g, _: g.renumbered([0.5]), TypeError, r"order is \[0.5\], expected integers"),
        (lambda g, _: g.renumbered(None), TypeError, "order is None, expected integers"),
        (lambda g, _: g.with_roots("x"), TypeError, "roots is 'x', expected integers"),
        (lambda g, _: g.repeat(10**30), ValueError, "copies is 1000.*, expected 0 to"),
        (lambda g, rng: g.drop("x", rng), TypeError, "fraction is 'x', expected a number"),
        (lambda g, rng: g.drop(1, rng, "runs", 2.5), TypeError, "run is 2.5, expected an integer"),
        (lambda g, _: g.capture(3), TypeError, "modules is 3, expected a sequence"),
        (lambda g, _: g.capture([3]), TypeError, "modules holds 3, expected names"),
        (lambda g, _: gcheap.bridge.load(3, g), TypeError, "the heap is 3, expected a gcheap.Heap"),
        (lambda g, _: g.generate("mixed", "7000000TiB"), ValueError, r"nbytes is \d+, expected at"),
        (lambda g, _: g.save(None), TypeError, "expected str, bytes or os.PathLike"),
    ],
)
def test_arguments_of_a_graph(use: Any, error: type[Exception], message: str) -> None:
    graph = ObjectGraph.from_lists([16] * 3, [[], [], []], [0])
    with pytest.raises(error, match=message):
        use(graph, np.random.default_rng(1))


def test_lists_of_ids_are_as_good_as_arrays() -> None:
    graph = ObjectGraph.from_lists([16, 32, 48], [[1], [2], [0]], [0])
    assert graph.renumbered([2, 0]).sizes.tolist() == [48, 16]
    assert graph.renumbered([]).n_nodes == 0
    assert graph.with_roots([1]).reachable().all()


def test_a_graph_that_cannot_be_written_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = ObjectGraph.from_lists([16] * 3, [[], [], []], [0])
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        graph.save("/dev/full")
    assert Path("/dev/full").exists()

    def interrupt(*_args: object, **_named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        graph.save(tmp_path / "half.npz")
    assert list(tmp_path.iterdir()) == []
