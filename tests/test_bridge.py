"""Graphs into heaps and out again; the mutator beside a compaction and its numpy shadow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offered import not_here

import gcheap
from gcheap import Heap, ObjectGraph, Ref, bridge
from gcheap.sources import generators
from gcheap.sources.ageing import ageing
from gcheap.workloads import Beside, Schedule, replay


@st.composite
def graphs(draw: st.DrawFn) -> ObjectGraph:
    """Small graphs with every layout: leaf, fixed, wide, large; exact and padded sizes."""
    n = draw(st.integers(0, 12))
    node = st.one_of(st.none(), st.integers(0, n - 1)) if n else st.none()
    degree = st.sampled_from([0, 0, 1, 2, 3, 61, 62, 63, 64, 65, 130, 1100])
    references = [[draw(node)] * draw(degree) for _ in range(n)]
    spare = st.sampled_from([0, 1, 7, 8, 9, 15, 16, 40, 2000, 9000])
    sizes = [max(16, 8 + 8 * len(row) + draw(spare)) for row in references]
    roots = draw(st.lists(node, max_size=8))
    types = [draw(st.sampled_from(["A", "B", "C" * 60, "C" * 60 + "D"])) for _ in range(n)]
    return ObjectGraph.from_lists(sizes, references, roots, types)


@given(graphs())
@settings(max_examples=150)
def test_what_is_loaded_is_extracted(graph: ObjectGraph) -> None:
    with Heap("8MiB") as heap:
        table = heap.load(graph)
        heap.verify()
        assert len(table) == len(graph.roots)
        assert graph.diff(heap.extract(table)) is None
        heap.collect(policy="all")
        heap.verify()
        assert graph.diff(heap.extract(table)) is None


@pytest.mark.parametrize("name", sorted(generators.GENERATORS))
def test_generated_graphs(name: str, mover: str) -> None:
    graph = generators.GENERATORS[name](4 << 20, np.random.default_rng(2))
    with Heap("64MiB", mover=mover) as heap:
        table = heap.load(graph)
        heap.verify()
        for policy in ("needed", "all", "release"):
            heap.collect(policy=policy)  # type: ignore[arg-type]
            heap.verify()
            assert graph.diff(heap.extract(table)) is None


@pytest.mark.parametrize("concurrent", [False, True])
def test_ageing_on_a_heap_is_ageing_on_arrays(mover: str, concurrent: bool) -> None:
    rng = np.random.default_rng(4)
    schedule = ageing(generators.mixed(8 << 20, rng), rng)
    with Heap("64MiB", mover=mover) as heap:
        table = heap.load(schedule.graph)
        bridge.drop(table, schedule)
        event = heap.collect(concurrent=concurrent)
        heap.verify()
        after = schedule.after_drop()
        assert event.live_objects == after.n_nodes + 1
        assert after.diff(heap.extract(table)) is None
        bridge.refill(heap, table, schedule)
        heap.verify()
        heap.collect(concurrent=concurrent, policy="all")
        heap.verify()
        graph, labels = bridge.extract_labelled(table)
        assert schedule.expected().diff(graph) is None
        assert labels.max() == schedule.graph.n_nodes + len(schedule.refill_nodes) - 1


def test_a_load_larger_than_the_heap_fails_cleanly() -> None:
    graph = generators.mixed(16 << 20, np.random.default_rng(3))
    with Heap("8MiB") as heap:
        for _ in range(3):
            with pytest.raises(gcheap.HeapExhausted, match=r"no room for (node|more|an object)"):
                heap.load(graph)
        heap.verify()
        heap.collect()
        assert heap.stats.live_bytes == 0
        small = generators.mixed(2 << 20, np.random.default_rng(3))
        assert small.diff(heap.extract(heap.load(small))) is None


def test_loads_share_types() -> None:
    graph = generators.mixed(1 << 20, np.random.default_rng(3))
    with Heap("64MiB") as heap:
        tables = [heap.load(graph) for _ in range(8)]
        for table in tables:
            assert graph.diff(heap.extract(table)) is None


def test_extraction_finds_damaged_bytes() -> None:
    graph = ObjectGraph.from_lists([4096, 64], [[], [0]], [0, 1])
    with Heap("8MiB") as heap:
        table = heap.load(graph)
        out = gcheap.refs.ffi.new("bulk_object *")
        heap._core.call(gcheap.refs.lib.bulk_get, table._handle, 0, out)
        byte = gcheap.refs.ffi.cast("uint8_t *", out.address)
        byte[1000] ^= 1
        with pytest.raises(gcheap.Corruption, match="label 0"):
            heap.extract(table)
        byte[1000] ^= 1
        assert graph.diff(heap.extract(table)) is None


def test_structs_are_extracted_too() -> None:
    with Heap("8MiB") as heap:
        node = heap.struct("Node", next=Ref, tag="i8", other=Ref("Node"))
        nodes = heap.new(node, 3)
        nodes[0].next = nodes[1]
        nodes[1].other = nodes[2]
        nodes[2].next = heap.array("u1", 100)
        graph = heap.extract(nodes[:2])
        assert graph.type_names == ("Node", "|u1[]") or set(graph.type_names) == {"Node", "|u1[]"}
        assert graph.roots.tolist() == [0, 1]
        assert graph.indptr.tolist() == [0, 2, 4, 6, 6]
        assert graph.indices.tolist() == [1, -1, -1, 2, 3, -1]


def test_clear_slots_checks_its_arguments() -> None:
    graph = ObjectGraph.from_lists([24, 24], [[1, None], [0, 1]], [0, 1, None])
    with Heap("8MiB") as heap:
        table = heap.load(graph)
        with pytest.raises(IndexError, match="slot 2 of element 1"):
            bridge.clear_slots(table, np.array([1]), np.array([2]))
        with pytest.raises(IndexError, match="element 3"):
            bridge.clear_slots(table, np.array([3]), np.array([0]))
        with pytest.raises(gcheap.NullReferenceError, match="element 2"):
            bridge.clear_slots(table, np.array([2]), np.array([0]))
        with pytest.raises(ValueError, match="do not pair"):
            bridge.clear_slots(table, np.array([1, 2]), np.array([0]))
        bridge.clear_slots(table, np.array([1]), np.array([1]))
        expected = ObjectGraph.from_lists([24, 24], [[1, None], [0, None]], [0, 1, None])
        assert expected.diff(heap.extract(table)) is None


@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("fault", ["thread", "signal"])
def test_a_mutator_beside_compactions(mover: str, fault: str, concurrent: bool) -> None:
    rng = np.random.default_rng(8)
    graph = generators.mixed(16 << 20, rng).holding_all()
    schedule = Schedule.random(len(graph.roots), rng, 1 << 16)
    try:
        heap = Heap("96MiB", mover=mover, fault=fault)
    except gcheap.Unsupported as error:
        not_here(mover, error)
    with heap:
        table = heap.load(graph)
        with Beside(heap, table, schedule, seconds=60) as beside:
            for policy in ("all", "needed", "all", "release", "all"):
                heap.collect(policy=policy, concurrent=concurrent)  # type: ignore[arg-type]
                heap.collect(minor=True)
                before = beside.ops
                while beside.ops < before + 1000:
                    pass
        result = beside.result
        assert result is not None
        assert result.ops >= 5000
        assert result.failed_allocs == 0
        assert int(result.ops_by_ms.sum()) == result.ops
        assert result.gap_count == 0 or result.gap_max_s >= 20e-6
        heap.verify()
        expected, checksum = replay(graph, schedule, result.ops)
        assert result.checksum == checksum
        assert expected.diff(heap.extract(table)) is None


def test_a_workload_stops_by_itself() -> None:
    rng = np.random.default_rng(8)
    graph = generators.mixed(1 << 20, rng)
    schedule = Schedule.random(len(graph.roots), rng, 1000, store_every=2, alloc_every=3)
    with Heap("16MiB") as heap:
        table = heap.load(graph)
        beside = Beside(heap, table, schedule, max_ops=12_345).start()
        with pytest.raises(gcheap.InvalidOperation, match="runs already"):
            beside.start()
        result = beside.finish(now=False)
        assert result.ops == 12_345
        assert result.allocs == 12_345 // 3
        assert result.rate > 0
        assert replay(graph, schedule, 12_345)[1] == result.checksum
        with pytest.raises(gcheap.InvalidOperation, match="does not run"):
            beside.finish()


def test_a_running_workload_keeps_the_heap_open() -> None:
    rng = np.random.default_rng(8)
    graph = generators.mixed(1 << 20, rng)
    heap = Heap("16MiB")
    table = heap.load(graph)
    with Beside(heap, table, Schedule.random(len(table), rng, 1000)):
        with pytest.raises(gcheap.InvalidOperation, match="1 mutators are attached"):
            heap.close()
        assert not heap.closed
        heap.verify()
    heap.close()


def test_schedules_are_checked() -> None:
    rng = np.random.default_rng(8)
    schedule = Schedule.random(10, rng, 100)
    schedule.check(10)
    with pytest.raises(ValueError, match="beyond a table of 5"):
        schedule.check(5)
    with pytest.raises(ValueError, match="0 elements"):
        Schedule.random(0, rng)
    with pytest.raises(ValueError, match="steps is 9"):
        Schedule.random(10, rng, steps=9).check(10)
    with pytest.raises(ValueError, match="do not pair"):
        Schedule(schedule.starts[:5], schedule.turns).check(10)
    with pytest.raises(TypeError, match="not u4 and u8"):
        Schedule(schedule.starts.astype(np.int64), schedule.turns).check(10)
