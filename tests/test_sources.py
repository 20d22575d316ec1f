"""Where graphs come from: generators, ageing, the running interpreter."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcheap.graph import ObjectGraph, rounded
from gcheap.sources import generators
from gcheap.sources._rmat import QUADRANTS, _LevelTable, _Renumbering
from gcheap.sources.ageing import ageing
from gcheap.sources.generators import GENERATORS, generate
from gcheap.sources.interpreter import capture_in_subprocess, capture_interpreter

MIB = 1 << 20


@pytest.fixture(scope="module")
def mixed() -> ObjectGraph:
    return generate("mixed", 64 * MIB, seed=11)


@pytest.fixture(scope="module")
def clustered() -> ObjectGraph:
    return generate("clustered", 64 * MIB, seed=11)


def edges(graph: ObjectGraph) -> tuple[Any, Any]:
    """Sources and targets of the references that are not null."""
    sources = np.repeat(np.arange(graph.n_nodes), graph.degrees)
    used = graph.indices >= 0
    return sources[used], graph.indices[used]


class TestEveryGenerator:
    @pytest.mark.parametrize("name", sorted(GENERATORS))
    @pytest.mark.parametrize("nbytes", [1, 100, 5_000, MIB, 8 * MIB])
    def test_valid_reachable_and_near_the_target(self, name: str, nbytes: int) -> None:
        graph = generate(name, nbytes, seed=3)
        graph.validate()
        assert graph.n_nodes >= 1
        assert graph.reachable().all()
        if nbytes >= MIB:
            least = 0.99 if name in ("rmat", "tree", "list") else 0.90
            assert least * nbytes <= graph.nbytes <= 1.01 * nbytes

    @pytest.mark.parametrize("name", sorted(GENERATORS))
    def test_seeds_decide(self, name: str) -> None:
        first, again, other = (generate(name, MIB, seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.indices, again.indices)
        np.testing.assert_array_equal(first.sizes, again.sizes)
        if name not in ("tree", "list"):
            assert not first.isomorphic(other)

    def test_unknown_name(self) -> None:
        with pytest.raises(
            ValueError, match="'ring', expected one of mixed, clustered, rmat, tree, list"
        ):
            generate("ring", MIB)

    def test_seeds_are_checked(self) -> None:
        with pytest.raises(ValueError, match="seed is -1, expected 0 or more"):
            generate("tree", MIB, -1)
        for seed in ("a", 1.5, True):
            with pytest.raises(TypeError, match=f"seed is {seed!r}, expected an integer"):
                generate("tree", MIB, seed)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", sorted(GENERATORS))
    def test_no_bytes(self, name: str) -> None:
        with pytest.raises(ValueError, match="nbytes is 0"):
            generate(name, 0)


class TestMixed:
    def test_shares(self, mixed: ObjectGraph) -> None:
        small = mixed.sizes < 64 << 10
        counts = np.bincount(mixed.types[small], minlength=4) / small.sum()
        np.testing.assert_allclose(counts, [0.60, 0.25, 0.10, 0.05], atol=0.005)
        assert 1 / (~small).mean() == pytest.approx(2000, rel=0.35)

    def test_structs(self, mixed: ObjectGraph) -> None:
        at = mixed.types == generators.STRUCT
        assert (mixed.sizes[at].min(), mixed.sizes[at].max()) == (32, 96)
        assert set(mixed.degrees[at]) == {2, 3, 4}

    def test_byte_arrays_are_log_uniform(self, mixed: ObjectGraph) -> None:
        sizes = mixed.sizes[(mixed.types == generators.BYTES) & (mixed.sizes <= 2048)]
        assert sizes.min() == 16
        per_octave = np.histogram(sizes, 16 * 2.0 ** np.arange(8))[0] / len(sizes)
        np.testing.assert_allclose(per_octave, 1 / 7, atol=0.02)
        assert not mixed.degrees[mixed.types == generators.BYTES].any()

    def test_reference_arrays(self, mixed: ObjectGraph) -> None:
        at = (mixed.types == generators.REFS) & (mixed.sizes < 64 << 10)
        degrees = mixed.degrees[at]
        assert (degrees.min(), degrees.max()) == (4, 64)
        np.testing.assert_array_equal(mixed.sizes[at], 8 + 8 * degrees)

    def test_tails(self, mixed: ObjectGraph) -> None:
        at = mixed.types == generators.TAIL
        assert set(mixed.degrees[at]) == {2}
        tails = mixed.sizes[at] - 24
        assert (tails.min(), tails.max()) == (16, 512)

    def test_large_objects(self, mixed: ObjectGraph) -> None:
        large = np.flatnonzero(mixed.sizes >= 64 << 10)
        assert mixed.sizes[large].max() <= MIB
        arrays = large[mixed.degrees[large] > 0]
        assert 0.25 < len(arrays) / len(large) < 0.75
        np.testing.assert_array_equal(mixed.sizes[arrays], 8 + 8 * mixed.degrees[arrays])
        for node in arrays:
            slots = mixed.indices[mixed.indptr[node] : mixed.indptr[node + 1]]
            assert 1 <= np.count_nonzero(slots >= 0) <= 64

    def test_references(self, mixed: ObjectGraph) -> None:
        sources, targets = edges(mixed)
        back = sources - targets
        recent = (back > 0) & (back <= 1000)
        chance = 0.7 + 0.3 * 1000 / mixed.n_nodes
        assert recent.mean() == pytest.approx(chance, abs=0.005)
        far = targets[~recent] / mixed.n_nodes
        np.testing.assert_allclose(np.histogram(far, 10, (0, 1))[0] / len(far), 0.1, atol=0.01)

    def test_only_large_arrays_hold_nulls(self, mixed: ObjectGraph) -> None:
        sources = np.repeat(np.arange(mixed.n_nodes), mixed.degrees)
        null = sources[mixed.indices < 0]
        assert (mixed.sizes[null[null > 0]] >= 64 << 10).all()

    def test_everything_is_held(self, mixed: ObjectGraph) -> None:
        np.testing.assert_array_equal(mixed.hold, np.arange(mixed.n_nodes))


class TestClustered:
    def test_references_stay_close(self, clustered: ObjectGraph) -> None:
        starts = np.cumsum(rounded(clustered.sizes)).astype(np.int64) - rounded(
            clustered.sizes
        ).astype(np.int64)
        sources, targets = edges(clustered)
        distance = np.abs(starts[sources] - starts[targets])
        strays = distance > 8 * MIB
        # one in 10^5 is uniform over 64 MiB, of which about three quarters lie outside the window
        assert 0 < strays.sum() < 3e-5 * len(sources)
        back = sources - targets
        assert ((back > 0) & (back <= 1000)).mean() == pytest.approx(0.71, abs=0.03)

    def test_uses_the_window(self, clustered: ObjectGraph) -> None:
        starts = np.cumsum(rounded(clustered.sizes)).astype(np.int64)
        sources, targets = edges(clustered)
        distance = starts[targets] - starts[sources]
        assert np.quantile(distance, 0.99) > 7 * MIB
        assert np.quantile(distance, 0.01) < -7 * MIB


class TestRmat:
    def test_degrees(self) -> None:
        graph = generate("rmat", 16 * MIB, seed=2)
        assert graph.n_nodes & (graph.n_nodes - 1) == 0
        assert 4 < graph.n_edges / graph.n_nodes < 14
        assert graph.degrees.max() > 50 * graph.degrees.mean()
        in_degrees = np.bincount(graph.indices, minlength=graph.n_nodes)
        assert in_degrees.max() > 50 * in_degrees.mean()
        np.testing.assert_array_equal(graph.sizes, np.maximum(16, 8 + 8 * graph.degrees))

    @pytest.mark.parametrize("levels", [1, 3, 5])
    def test_level_table_draws_the_quadrants(self, levels: int) -> None:
        drawn = _LevelTable(levels).draw(200_000, np.random.default_rng(1))
        row, column = drawn >> 32, drawn & 0xFFFFFFFF
        for level in range(levels):
            quadrant = (row >> level & 1) * 2 + (column >> level & 1)
            np.testing.assert_allclose(
                np.bincount(quadrant, minlength=4) / len(drawn), QUADRANTS, atol=0.005
            )

    @pytest.mark.parametrize("scale", [0, 1, 2, 7, 12])
    def test_renumbering_is_one_to_one(self, scale: int) -> None:
        renumber = _Renumbering(scale, np.random.default_rng(scale))
        vertices = renumber(np.arange(1 << scale, dtype=np.uint32))
        assert sorted(vertices.tolist()) == list(range(1 << scale))


class TestRegularShapes:
    def test_tree(self) -> None:
        graph = generate("tree", 7 * 32)
        assert graph.indices.reshape(-1, 2).tolist() == [
            [1, 2], [3, 4], [5, 6], [-1, -1], [-1, -1], [-1, -1], [-1, -1],
        ]  # fmt: skip
        assert graph.roots.tolist() == [0]
        assert set(graph.sizes) == {32}

    def test_list(self) -> None:
        graph = generate("list", 4 * 32)
        assert graph.indices.tolist() == [1, 2, 3, -1]
        assert graph.roots.tolist() == [0]

    def test_shuffled_list_is_the_same_list(self) -> None:
        rng = np.random.default_rng(1)
        graph = generators.linked_list(MIB, rng, shuffle=True)
        graph.validate()
        assert graph.isomorphic(generate("list", MIB))
        assert np.abs(np.diff(graph.indices)).mean() > 1000

    def test_leaf(self) -> None:
        graph = generators.leaf(MIB, 512)
        graph.validate()
        assert (graph.n_nodes, graph.n_slots, graph.nbytes) == (2048, 0, MIB)
        assert graph.reachable().all()
        with pytest.raises(ValueError, match=r"size is 15 bytes, expected at least 16"):
            generators.leaf(MIB, 15)

    def test_structs(self) -> None:
        graph = generators.structs(MIB, 32, 3, np.random.default_rng(1))
        graph.validate()
        assert (graph.n_nodes, set(graph.degrees), graph.nbytes) == (32768, {3}, MIB)
        sources, targets = edges(graph)
        back = sources - targets
        assert ((back > 0) & (back <= 1000)).mean() == pytest.approx(0.71, abs=0.02)
        with pytest.raises(ValueError, match=r"size is 32 bytes with 4 references, expected .* 40"):
            generators.structs(MIB, 32, 4, np.random.default_rng(1))


class TestAgeing:
    def test_counts(self, mixed: ObjectGraph) -> None:
        plan = ageing(mixed, np.random.default_rng(5))
        n = mixed.n_nodes
        assert plan.dropped.sum() == round(0.6 * n) == len(plan.drop_entries)
        assert len(plan.refill_nodes) == round(0.1 * n)
        assert plan.dropped[plan.refill_nodes].all()
        assert len(np.unique(plan.refill_entries)) == len(plan.refill_entries)

    def test_half_of_the_drops_lie_in_runs(self, mixed: ObjectGraph) -> None:
        dropped = ageing(mixed, np.random.default_rng(5)).dropped
        change = np.flatnonzero(np.diff(np.concatenate([[0], dropped.astype(np.int8), [0]])))
        lengths = change[1::2] - change[::2]
        assert lengths[lengths >= 100].sum() == pytest.approx(mixed.n_nodes * 0.3, rel=0.1)
        assert lengths[lengths < 100].sum() == pytest.approx(mixed.n_nodes * 0.3, rel=0.1)

    def test_live_share(self, mixed: ObjectGraph) -> None:
        left = ageing(mixed, np.random.default_rng(5)).after_drop()
        assert left.reachable().all()
        assert left.nbytes / mixed.nbytes == pytest.approx(0.4, abs=0.05)

    def test_only_clearing_both_makes_garbage(self, mixed: ObjectGraph) -> None:
        plan = ageing(mixed, np.random.default_rng(5))
        roots = mixed.roots.copy()
        roots[plan.drop_entries] = -1
        assert mixed.with_roots(roots).reachable().mean() > 0.6

    @given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), st.booleans())
    @settings(deadline=None, max_examples=60)
    def test_executing_the_schedule_gives_the_expected_graph(
        self, seed: int, drop: float, share: float, held: bool
    ) -> None:
        """Execute it object by object in Python, as a program would."""
        rng = np.random.default_rng(seed)
        graph = generators.structs(40 * 32, 32, 3, rng)
        if not held:
            graph = graph.with_roots(np.array([0, 3, 3, -1]))
        plan = ageing(graph, rng, drop=drop, refill=share * drop, run=4)
        start = plan.graph
        table = start.roots.tolist()
        rows = start.indices.reshape(-1, 3).tolist()
        for entry in plan.drop_entries.tolist():
            table[entry] = -1
        for node, slot in zip(plan.clear_nodes.tolist(), plan.clear_slots.tolist(), strict=True):
            assert rows[node][slot] >= 0
            rows[node][slot] = -1
        aged = ObjectGraph.from_lists([32] * len(rows), rows, table, ["Struct"] * len(rows))
        np.testing.assert_array_equal(aged.reachable(), ~plan.dropped)
        assert aged.isomorphic(plan.after_drop())

        indptr, references = plan.refill_references()
        for at, entry in enumerate(plan.refill_entries.tolist()):
            assert table[entry] == -1
            table[entry] = len(rows)
            rows.append(references[indptr[at] : indptr[at + 1]].tolist())
        refilled = ObjectGraph.from_lists([32] * len(rows), rows, table, ["Struct"] * len(rows))
        expected = plan.expected()
        expected.validate()
        assert refilled.diff(expected) is None
        assert expected.n_nodes == refilled.reachable().sum() == len(plan.order)

    def test_a_list_is_aged_with_a_table(self) -> None:
        plan = ageing(generate("list", MIB), np.random.default_rng(1))
        assert len(plan.graph.roots) == plan.graph.n_nodes
        assert plan.after_drop().reachable().all()

    def test_refuses(self) -> None:
        graph = generate("list", 1000)
        with pytest.raises(ValueError, match=r"refill is 0.7, expected 0 to drop"):
            ageing(graph, np.random.default_rng(1), refill=0.7)
        with pytest.raises(ValueError, match=r"fraction is 1.1"):
            ageing(graph, np.random.default_rng(1), drop=1.1)


class Node:
    """Something to be found."""

    def __init__(self, payload: Any) -> None:
        self.payload = payload
        self.me = self


class BadSize:
    def __sizeof__(self) -> int:
        raise RuntimeError("no size")


@pytest.fixture(scope="module")
def live() -> ObjectGraph:
    keep = [Node(("a tuple", i)) for i in range(500)]
    graph = capture_interpreter(())
    assert len(keep) == 500
    return graph


class TestInterpreter:
    def test_valid_and_reachable(self, live: ObjectGraph) -> None:
        live.validate()
        assert live.reachable().all()
        assert live.n_nodes > 10_000
        assert live.nbytes > 2_000_000

    def test_types(self, live: ObjectGraph) -> None:
        counts = np.bincount(live.types, minlength=len(live.type_names))
        count = dict(zip(live.type_names, counts.tolist(), strict=True))
        assert count[f"{__name__}.Node"] == 500
        for name in ("dict", "str", "int", "tuple", "function", "type", "module", "code"):
            assert count[name] > 10, name
        assert count["module"] >= len({id(module) for module in sys.modules.values()}) - 5

    def test_objects_refer_as_they_do(self, live: ObjectGraph) -> None:
        kind = live.type_names.index(f"{__name__}.Node")
        tuples = live.type_names.index("tuple")
        for node in np.flatnonzero(live.types == kind)[:5]:
            targets = live.indices[live.indptr[node] : live.indptr[node + 1]]
            below = np.concatenate(
                [live.indices[live.indptr[t] : live.indptr[t + 1]] for t in targets] + [targets]
            )
            assert node in below
            assert (live.types[below] == tuples).any()

    def test_modules_come_first_among_roots(self, live: ObjectGraph) -> None:
        modules = live.type_names.index("module")
        assert (live.types[live.roots[:50]] == modules).all()

    def test_own_structures_are_left_out(self, live: ObjectGraph) -> None:
        """A list, dict or set of the capture would refer to a good part of all objects."""
        own = [name for name in live.type_names if name.endswith("interpreter._Capture")]
        assert own == []
        assert live.n_slots - live.n_edges < 10
        assert live.degrees.max() < live.n_nodes / 4

    def test_collector_is_left_as_it_was(self) -> None:
        assert gc.isenabled()
        gc.disable()
        try:
            capture_interpreter(())
            assert not gc.isenabled()
        finally:
            gc.enable()

    def test_sizes_that_cannot_be_asked_for(self) -> None:
        keep = BadSize()
        graph = capture_interpreter(())
        graph.validate()
        kind = graph.type_names.index(f"{__name__}.BadSize")
        assert (graph.types == kind).sum() == 1
        assert type(keep) is BadSize

    def test_unknown_module(self) -> None:
        with pytest.raises(ImportError, match="no_such_module"):
            capture_interpreter(["no_such_module"])
        with pytest.raises(TypeError, match="expected a sequence of names"):
            capture_interpreter("json")

    def test_subprocess(self) -> None:
        graph = capture_in_subprocess(["json", "xml.dom.minidom"])
        graph.validate()
        assert graph.reachable().all()
        assert graph.n_nodes > 5_000
        assert f"{__name__}.Node" not in graph.type_names

    def test_subprocess_says_what_failed(self) -> None:
        with pytest.raises(RuntimeError, match=r"status 1:(.|\n)*no_such_module"):
            capture_in_subprocess(["no_such_module"])
