"""ObjectGraph against a naive Python reference."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gcheap._bfs as bfs
from gcheap.graph import GraphFormatError, ObjectGraph, rounded

NAMES = ("a", "b", "c")


@st.composite
def graphs(draw: st.DrawFn, max_nodes: int = 12) -> ObjectGraph:
    n = draw(st.integers(0, max_nodes))
    targets = st.integers(-1, n - 1)
    rows = draw(st.lists(st.lists(targets, max_size=4), min_size=n, max_size=n))
    extra = draw(st.lists(st.integers(0, 40), min_size=n, max_size=n))
    return ObjectGraph(
        sizes=np.array(
            [max(16, 8 + 8 * len(row)) + more for row, more in zip(rows, extra, strict=True)],
            dtype=np.uint32,
        ),
        types=np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), dtype=np.uint16),
        indptr=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        indices=np.array([node for row in rows for node in row], dtype=np.int64),
        roots=np.array(draw(st.lists(targets, max_size=5)), dtype=np.int64),
        type_names=NAMES,
    )


def slots(graph: ObjectGraph, node: int) -> list[int]:
    return [int(t) for t in graph.indices[graph.indptr[node] : graph.indptr[node + 1]]]


def naive_order(graph: ObjectGraph) -> list[int]:
    queue: deque[int] = deque()
    order: list[int] = []

    def see(node: int) -> None:
        if node >= 0 and node not in order:
            order.append(node)
            queue.append(node)

    for root in graph.roots.tolist():
        see(root)
    while queue:
        for target in slots(graph, queue.popleft()):
            see(target)
    return order


def naive_form(graph: ObjectGraph) -> Any:
    order = naive_order(graph)
    place = {node: at for at, node in enumerate(order)} | {-1: -1}
    objects = [
        (
            graph.type_names[graph.types[node]],
            (int(graph.sizes[node]) + 15) // 16 * 16,
            [place[target] for target in slots(graph, node)],
        )
        for node in order
    ]
    return [place[root] for root in graph.roots.tolist()], objects


def shuffled(graph: ObjectGraph, seed: int) -> ObjectGraph:
    return graph.renumbered(np.random.default_rng(seed).permutation(graph.n_nodes))


def assert_identical(a: ObjectGraph, b: ObjectGraph) -> None:
    for name in ("sizes", "types", "indptr", "indices", "roots"):
        here, there = getattr(a, name), getattr(b, name)
        assert here.dtype == there.dtype, name
        np.testing.assert_array_equal(here, there, err_msg=name)
    assert a.type_names == b.type_names


@pytest.fixture(params=["default", "numpy only", "scalar only", "tiny chunks"])
def search_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Force each way through the search."""
    if request.param == "scalar only":
        monkeypatch.setattr(bfs, "SCALAR_BELOW", 1 << 40)
        monkeypatch.setattr(bfs, "VECTOR_ABOVE", 1 << 40)
    elif request.param != "default":
        monkeypatch.setattr(bfs, "SCALAR_BELOW", 0)
    if request.param == "tiny chunks":
        monkeypatch.setattr(bfs.slot_chunks, "__defaults__", (3,))


class TestCanonical:
    @pytest.mark.usefixtures("search_path")
    def test_against_naive_reference(self) -> None:
        @given(graphs())
        @settings(deadline=None)
        def check(graph: ObjectGraph) -> None:
            graph.validate()
            form, order = graph.canonical()
            form.validate()
            expected = naive_order(graph)
            assert order.tolist() == expected
            assert graph.reachable().tolist() == [i in expected for i in range(graph.n_nodes)]
            assert naive_form(form) == naive_form(graph)
            np.testing.assert_array_equal(form.sizes, graph.sizes[order])

        check()

    @given(graphs(), st.integers(0, 2**32))
    @settings(deadline=None)
    def test_does_not_depend_on_numbering(self, graph: ObjectGraph, seed: int) -> None:
        other = shuffled(graph, seed)
        assert graph.diff(other) is None
        assert graph.isomorphic(other)
        assert_identical(graph.canonical()[0], other.canonical()[0])

    @given(graphs())
    @settings(deadline=None)
    def test_is_a_fixed_point(self, graph: ObjectGraph) -> None:
        form, _ = graph.canonical()
        again, order = form.canonical()
        assert order.tolist() == list(range(form.n_nodes))
        assert_identical(form, again)

    def test_types_compare_by_name_not_number(self) -> None:
        graph = ObjectGraph.from_lists([16, 16], [[], []], [0, 1], ["x", "y"])
        other = dataclasses.replace(
            graph, types=np.array([2, 0], dtype=np.uint16), type_names=("y", "unused", "x")
        )
        assert graph.isomorphic(other)

    def test_long_list_and_wide_level_meet(self) -> None:
        n, wide = 20_000, 2_000
        rows = [[i + 1] for i in range(n - 1)] + [list(range(n, n + wide))] + [[0]] * wide
        sizes = [8 + 8 * max(1, len(row)) for row in rows]
        graph = shuffled(ObjectGraph.from_lists(sizes, rows, [0]), 1)
        form, order = graph.canonical()
        assert len(order) == n + wide
        assert form.indices[: n - 1].tolist() == list(range(1, n))
        assert form.indices[n - 1 : n - 1 + wide].tolist() == list(range(n, n + wide))


class TestDiff:
    @given(graphs(), graphs())
    @settings(deadline=None)
    def test_agrees_with_naive_reference(self, a: ObjectGraph, b: ObjectGraph) -> None:
        assert a.isomorphic(b) == (naive_form(a) == naive_form(b))

    @given(graphs(), st.data())
    @settings(deadline=None)
    def test_finds_any_single_mutation(self, graph: ObjectGraph, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(["sizes", "types", "indices", "roots"]))
        array = getattr(graph, name).copy()
        if not len(array):
            return
        at = data.draw(st.integers(0, len(array) - 1))
        step = {"sizes": 16, "types": 1, "indices": 1, "roots": 1}[name]
        modulus = {"types": len(NAMES)}.get(name, 2**31)
        array[at] = (int(array[at]) + step) % modulus
        if name in ("indices", "roots"):
            array[at] = -1 if array[at] >= graph.n_nodes else array[at]
        mutant = shuffled(dataclasses.replace(graph, **{name: array}), 5)
        mutant.validate()
        assert graph.isomorphic(mutant) == (naive_form(graph) == naive_form(mutant))
        reached = graph.reachable()
        owner = at if name != "indices" else int(np.searchsorted(graph.indptr, at, "right")) - 1
        if name in ("sizes", "types") or len(graph.roots) == 0:
            assert graph.isomorphic(mutant) == (not reached[owner])

    BASE = ObjectGraph.from_lists([32, 24, 16], [[1, 2], [2, None], []], [0], ["p", "q", "q"])

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            (
                ObjectGraph.from_lists(
                    [32, 24, 16], [[1, 2], [2, None], []], [0, 0], ["p", "q", "q"]
                ),
                "1 root entries here, 2 there",
            ),
            (
                ObjectGraph.from_lists(
                    [32, 24, 16], [[1, 2], [2, None], []], [None], ["p", "q", "q"]
                ),
                "root 0: refers to object 0 (place 0) here, to null there",
            ),
            (
                ObjectGraph.from_lists([32, 24, 99], [[1, 2], [2, None], []], [0], ["p", "q", "q"]),
                "object 2 there (2 in breadth-first order): 16 bytes here, 112 there",
            ),
            (
                ObjectGraph.from_lists([32, 24, 16], [[1, 2], [2, None], []], [0], ["p", "q", "r"]),
                "type 'q' here, 'r' there",
            ),
            (
                ObjectGraph.from_lists([32, 24, 16], [[1, 2], [2], []], [0], ["p", "q", "q"]),
                "2 reference slots here, 1 there",
            ),
            (
                ObjectGraph.from_lists([32, 24, 16], [[1, 2], [2, 0], []], [0], ["p", "q", "q"]),
                "slot 1: refers to null here, to object 0 (place 0) there",
            ),
        ],
    )
    def test_words(self, other: ObjectGraph, words: str) -> None:
        found = self.BASE.diff(other)
        assert found is not None
        assert words in found

    def test_sizes_within_a_granule_are_equal(self) -> None:
        other = ObjectGraph.from_lists([30, 25, 16], [[1, 2], [2, None], []], [0], ["p", "q", "q"])
        assert self.BASE.isomorphic(other)


class TestValidate:
    GOOD = ObjectGraph.from_lists([24, 16], [[1, None], []], [0, 1, None])

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("sizes", [1], "is a list, expected a numpy array"),
            ("sizes", np.array([24.0, 16.0]), "has dtype <f8, expected native uint32 or uint64"),
            ("sizes", np.array([24], dtype=np.uint32), "has 1 entries, expected 2"),
            ("sizes", np.array([16, 16], dtype=np.uint32), "[0] is 16 bytes, expected at least 24"),
            ("sizes", np.array([24, 8], dtype=np.uint64), "[1] is 8 bytes, expected at least 16"),
            ("types", np.array([0, 1], dtype=np.uint16), "[1] is 1, expected an index below 1"),
            (
                "types",
                np.zeros((2, 1), dtype=np.uint16),
                "has shape (2, 1), expected one dimension",
            ),
            ("indptr", np.array([], dtype=np.int64), "is empty"),
            ("indptr", np.array([1, 2, 2]), "[0] is 1, expected 0"),
            ("indptr", np.array([0, 2, 1]), "[2] is 1, expected at least 2"),
            ("indptr", np.array([0, 1, 1]), "[2] is 1, expected 2, the length of indices"),
            ("indices", np.array([1, 2]), "[1] is 2, expected a node id below 2"),
            ("indices", np.array([-2, 0]), "[0] is -2, expected a node id below 2"),
            ("indices", np.array([0, 1], dtype=">i8"), "has dtype >i8, expected native int64"),
            ("roots", np.array([0, 7]), "[1] is 7, expected a node id below 2, or -1 for null"),
            ("type_names", ["object"], "is a list, expected a tuple of str"),
            ("type_names", ("object", 3), "[1] is 3, expected a str"),
            ("type_names", ("object", "object"), "already at [0]; expected unique names"),
        ],
    )
    def test_names_array_index_and_value(self, name: str, value: Any, words: str) -> None:
        with pytest.raises(GraphFormatError) as caught:
            dataclasses.replace(self.GOOD, **{name: value}).validate()
        assert caught.value.array == name
        assert words in str(caught.value)
        assert isinstance(caught.value, ValueError)

    def test_empty_graph(self) -> None:
        empty = ObjectGraph.from_lists([], [], [])
        assert empty.nbytes == 0
        assert empty.canonical()[0].n_nodes == 0
        assert empty.summary()["objects"] == 0
        assert empty.repeat(3).n_nodes == 0


class TestTransformations:
    @given(graphs(), st.integers(0, 2**32))
    @settings(deadline=None)
    def test_subgraph(self, graph: ObjectGraph, seed: int) -> None:
        mask = np.random.default_rng(seed).random(graph.n_nodes) < 0.5
        part = graph.subgraph(mask)
        part.validate()
        kept = np.flatnonzero(mask).tolist()
        place = {node: at for at, node in enumerate(kept)}
        assert part.roots.tolist() == [place.get(root, -1) for root in graph.roots.tolist()]
        for at, node in enumerate(kept):
            assert slots(part, at) == [place.get(target, -1) for target in slots(graph, node)]
            assert part.sizes[at] == graph.sizes[node]

    def test_subgraph_checks_its_mask(self) -> None:
        graph = ObjectGraph.from_lists([16], [[]], [0])
        with pytest.raises(ValueError, match=r"mask is int64\(1,\), expected bool\(1,\)"):
            graph.subgraph(np.array([0]))

    @given(graphs(), st.integers(0, 4))
    @settings(deadline=None)
    def test_repeat(self, graph: ObjectGraph, copies: int) -> None:
        many = graph.repeat(copies)
        many.validate()
        assert many.nbytes == copies * graph.nbytes
        assert many.n_edges == copies * graph.n_edges
        n = graph.n_nodes
        for copy in range(copies):
            mask = np.zeros(many.n_nodes, dtype=np.bool_)
            mask[copy * n : (copy + 1) * n] = True
            roots = many.roots.reshape(copies, -1)[copy]
            assert_identical(many.with_roots(roots).subgraph(mask), graph)

    def test_repeat_refuses_negative(self) -> None:
        with pytest.raises(ValueError, match="copies is -1"):
            ObjectGraph.from_lists([16], [[]], [0]).repeat(-1)

    @pytest.mark.parametrize("mode", ["mixed", "uniform", "runs"])
    def test_drop(self, mode: Any) -> None:
        graph = ObjectGraph.from_lists([24] * 5000, [[i - 1] for i in range(5000)], [])
        graph = graph.holding_all()
        left = graph.drop(0.6, np.random.default_rng(3), mode)
        left.validate()
        assert left.n_nodes == 2000
        assert left.reachable().all()
        assert len(left.roots) == 5000

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"fraction": 1.5}, "fraction is 1.5, expected 0 to 1"),
            ({"fraction": 0.5, "mode": "odd"}, "mode is 'odd', expected one of mixed"),
            ({"fraction": 0.5, "run": 0}, "run is 0"),
        ],
    )
    def test_drop_refuses(self, arguments: dict[str, Any], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            ObjectGraph.from_lists([16], [[]], [0]).drop(rng=np.random.default_rng(), **arguments)

    def test_drop_needs_a_generator(self) -> None:
        with pytest.raises(TypeError, match="rng is 7, expected a numpy"):
            ObjectGraph.from_lists([16], [[]], [0]).drop(0.5, 7)  # type: ignore[arg-type]

    @given(st.integers(0, 700), st.floats(0, 1), st.integers(1, 120))
    @settings(deadline=None)
    def test_drop_counts_exactly(self, n: int, fraction: float, run: int) -> None:
        graph = ObjectGraph.from_lists([16] * n, [[]] * n, [])
        left = graph.drop(fraction, np.random.default_rng(0), run=run)
        assert left.n_nodes == n - round(fraction * n)

    def test_summary(self) -> None:
        graph = ObjectGraph.from_lists([40, 24, 17], [[1, None], [2, 2], []], [0])
        assert graph.summary() == {
            "objects": 3,
            "slots": 4,
            "edges": 3,
            "roots": 1,
            "types": 1,
            "bytes": 48 + 32 + 32,
            "mean_degree": 1.0,
            "leaf_share": 32 / 112,
            "size_histogram": {"32": 2, "64": 1},
        }

    def test_rounded(self) -> None:
        assert rounded(np.array([16, 17, 32], dtype=np.uint32)).tolist() == [16, 32, 32]


def rewritten(path: Path, **changes: Any) -> Path:
    """Copy the archive with members replaced: an array, bytes, or None to leave it out."""
    with zipfile.ZipFile(path) as source:
        members: dict[str, Any] = {name: source.read(name) for name in source.namelist()}
    for name, value in changes.items():
        if isinstance(value, np.ndarray):
            stream = io.BytesIO()
            np.lib.format.write_array(stream, value, allow_pickle=True)
            value = stream.getvalue()
        members[f"{name}.npy"] = value
    target = path.with_name("changed.npz")
    with zipfile.ZipFile(target, "w") as archive:
        for name, value in members.items():
            if value is not None:
                archive.writestr(name, value)
    return target


class TestFiles:
    GRAPH = ObjectGraph.from_lists(
        [32, 24, 16], [[1, 2], [2, None], []], [0, None], ["é", "q\x00", "\ud800"]
    )

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "graph.npz"
        self.GRAPH.save(path)
        return path

    @given(graph=graphs(), compress=st.booleans())
    @settings(deadline=None)
    def test_round_trip(
        self, tmp_path_factory: pytest.TempPathFactory, graph: ObjectGraph, compress: bool
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "round-trip.npz"
        graph.save(path, compress=compress)
        assert_identical(ObjectGraph.load(path), graph)

    def test_odd_names_survive(self, path: Path) -> None:
        assert_identical(ObjectGraph.load(path), self.GRAPH)

    def test_numpy_reads_it(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            assert file["indptr"].tolist() == [0, 2, 4, 4]

    def test_save_refuses_an_invalid_graph(self, tmp_path: Path) -> None:
        with pytest.raises(GraphFormatError, match="roots"):
            self.GRAPH.with_roots(np.array([9])).save(tmp_path / "bad.npz")
        assert not (tmp_path / "bad.npz").exists()

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            ObjectGraph.load(tmp_path / "none.npz")

    HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (%s,), }"

    @pytest.mark.parametrize(
        ("array", "value", "words"),
        [
            ("sizes", None, "is missing, expected the members format_version"),
            ("format_version", np.array([2]), r"is \[2\], expected \[1\]"),
            ("format_version", np.array([1, 1]), r"is \[1, 1\], expected \[1\]"),
            (
                "format_version",
                np.ones(10_000, dtype=np.int64),
                "holds 80128 bytes, expected at most",
            ),
            ("sizes", np.array([32.0, 24.0, 16.0]), "has dtype <f8, expected integers"),
            ("sizes", np.array([-1, 24, 16]), "holds int64 values from -1 to 24, expected uint32"),
            ("sizes", np.array([8, 24, 16]), r"\[0\] is 8 bytes, expected at least 24"),
            ("types", np.zeros((3, 1), dtype=np.uint16), "has shape"),
            ("types", np.array([None, "x"], dtype=object), r"has dtype \|O, expected integers"),
            ("indices", np.array([1, 2, 3, -1]), r"\[2\] is 3, expected a node id below 3"),
            ("indices", b"not an array", "cannot be read, expected an .npy array"),
            ("indices", b"", "cannot be read, expected an .npy array"),
            (
                "indptr",
                (HEADER % b"100000000000000").ljust(127) + b"\n",
                "claims 800000000000128",
            ),
            ("indptr", (HEADER % b"-3").ljust(127) + b"\n", "has shape"),
            ("type_names", np.frombuffer(b"{}", dtype=np.uint8), "is not a list of strings"),
            ("type_names", np.frombuffer(b"[1]", dtype=np.uint8), "is not a list of strings"),
            ("type_names", np.frombuffer(b"[" * 99999, dtype=np.uint8), "is not JSON"),
            ("type_names", np.frombuffer(b'["x"]', dtype=np.uint8), "below 1"),
        ],
    )
    def test_hostile_member(self, path: Path, array: str, value: Any, words: str) -> None:
        changed = rewritten(path, **{array: value})
        with pytest.raises(GraphFormatError, match=words) as caught:
            ObjectGraph.load(changed)
        assert caught.value.file == str(changed)
        assert caught.value.array in (array, "types")

    def test_claims_more_than_allowed(self, path: Path) -> None:
        with pytest.raises(GraphFormatError, match="expected at most 100"):
            ObjectGraph.load(path, max_bytes=100)
        with pytest.raises(GraphFormatError, match="bytes of arrays, expected at most 300"):
            ObjectGraph.load(path, max_bytes=300)
        assert ObjectGraph.load(path, max_bytes="1MiB").n_nodes == 3
        with pytest.raises(ValueError, match="max_bytes is 'much', expected a size"):
            ObjectGraph.load(path, max_bytes="much")

    def test_every_truncation_is_refused(self, path: Path) -> None:
        whole = path.read_bytes()
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            with pytest.raises(GraphFormatError):
                ObjectGraph.load(path)

    @given(data=st.data(), compress=st.booleans())
    @settings(deadline=None, max_examples=300)
    def test_flipped_bytes_never_escape(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, compress: bool
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "flipped.npz"
        self.GRAPH.save(path, compress=compress)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        try:
            ObjectGraph.load(path).validate()
        except GraphFormatError as error:
            if error.file != str(path):
                raise
