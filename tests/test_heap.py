"""The heap as a whole: options, exhaustion, collecting, figures, closing."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from offered import not_here

import gcheap
from gcheap import Heap
from gcheap._units import parse_size
from gcheap.compare.measure import find_windows

KIND = {name: kind for kind, name in gcheap.EVENT_KINDS.items()}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("2GiB", 2 << 30), ("1.5 MiB", 3 << 19), ("64KB", 64000), (4096, 4096), ("17", 17)],
)
def test_parse_size(value: int | str, expected: int) -> None:
    assert parse_size(value) == expected


@pytest.mark.parametrize("value", ["2 GiBi", "x", "-1", "GiB", -5])
def test_parse_size_names_the_value(value: int | str) -> None:
    with pytest.raises(ValueError, match=str(value)):
        parse_size(value, "max_size")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mover": "teleport"}, "mover is 'teleport', expected one of auto, move"),
        ({"fault": "maybe"}, "fault is 'maybe', expected one of 'thread', 'signal'"),
        ({"huge": "huge"}, "huge is 'huge'"),
        ({"max_size": 4096}, "max_size is 4096, expected at least"),
        ({"max_size": 0}, "max_size is 0"),
        ({"promote_age": 9}, "promote_age is 9"),
        ({"event_capacity": 100}, "event_capacity is 100, expected a power of two"),
        ({"gc_threads": 1000}, "gc_threads is 1000"),
        ({"gc_threads": -1}, "gc_threads is -1"),
        ({"inject": "no such rule"}, "inject"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Heap(**{"max_size": "4MiB", **options})  # type: ignore[arg-type]


def test_options_of_the_wrong_type() -> None:
    with pytest.raises(TypeError, match=r"max_size is 1\.5"):
        Heap(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="gc_threads is '2'"):
        Heap(gc_threads="2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("alias", "name"), [("remap", "move"), ("memcpy-fresh", "memcpy"), ("memcpy-sliding", "slide")]
)
def test_movers_have_other_names(alias: str, name: str) -> None:
    try:
        heap = Heap("4MiB", mover=alias)
    except gcheap.Unsupported as error:
        not_here(alias, error)
    with heap:
        assert heap.stats.mover == name


@pytest.mark.parametrize("huge", ["auto", "off", False])
def test_huge_pages_are_not_taken_unasked(huge: str | bool) -> None:
    """What the documentation of ``huge`` and of GCH_HUGE_AUTO says."""
    with Heap("8MiB", mover="memcpy", huge=huge) as heap:
        assert heap.stats.huge is False
    policy = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    there = policy.exists() and "[never]" not in policy.read_text(encoding="ascii")
    with Heap("8MiB", mover="memcpy", huge=True) as heap:
        assert heap.stats.huge == there


def test_collections_keep_what_is_reachable(mover: str) -> None:
    with Heap("64MiB", mover=mover) as heap:
        node = heap.struct("Node", next=gcheap.Ref, weight="f8", tag="u4")
        rng = np.random.default_rng(1)
        nodes = heap.new(node, 50_000)
        order = rng.permutation(50_000)
        nodes.tag = np.arange(50_000)
        nodes.next = nodes[order]
        for policy in ("needed", "all", "release"):
            nodes[rng.random(50_000) < 0.3] = None  # lives on through the others' references
            event = heap.collect(policy=policy)  # type: ignore[arg-type]
            heap.verify()
            assert event.policy == policy
            live = nodes[~nodes.is_null]
            assert np.array_equal(live.next.tag, order[live.tag])
            event = heap.collect(minor=True)
            assert event.minor


def test_a_major_collection_reports_what_it_did() -> None:
    with Heap("64MiB") as heap:
        node = heap.struct("Node", a="i8", b="i8", c="i8")
        keep = heap.new(node, 10_000)
        heap.new(node, 10_000)
        event = heap.collect()
        assert not event.minor
        assert event.live_objects == 10_001
        assert event.live_bytes == 10_000 * 32 + -(-(8 + 8 * 10_000) // 16) * 16
        assert event.heap_bytes_after < event.heap_bytes_before
        assert 0 < event.mark_s < event.cycle_s < 60
        assert heap.stats.last_major == event
        assert heap.collect().number > event.number
        assert len(keep) == 10_000


def test_dropped_arrays_are_collected() -> None:
    with Heap("64MiB") as heap:
        node = heap.struct("Node", a="i8")
        for _ in range(20):
            heap.new(node, 100_000)
        heap.collect()
        assert heap.stats.handles == 0
        assert heap.stats.live_bytes == 0


def test_the_limit_is_kept_and_survived() -> None:
    with Heap("8MiB") as heap:
        node = heap.struct("Node", next=gcheap.Ref, weight="f8")
        kept = [heap.new(node, 1000)]
        with pytest.raises(gcheap.HeapExhausted, match="8388608 bytes are in use") as caught:
            kept.extend(heap.new(node, 20_000) for _ in range(100))
        assert isinstance(caught.value, MemoryError)
        with pytest.raises(gcheap.HeapExhausted, match="bytes"):
            heap.array("f8", 1 << 40)
        kept[0].weight = 3.0
        heap.verify()
        assert heap.stats.heap_bytes <= 8 << 20
        del kept[1:]
        heap.new(node, 20_000).weight = 1.0
        assert (kept[0].weight == 3.0).all()
        heap.verify()


def test_allocating_collects_by_itself() -> None:
    with Heap("16MiB") as heap:
        node = heap.struct("Node", next=gcheap.Ref, weight="f8")
        for _ in range(100):
            heap.new(node, 20_000)
        for _ in range(3000):
            heap.new(node, 40)
        assert heap.stats.major_count > 0
        assert heap.stats.minor_count > 0
        heap.verify()


def test_stress_collects_at_allocations() -> None:
    with Heap("8MiB", stress=2, promote_age=2) as heap:
        node = heap.struct("Node", next=gcheap.Ref, tag="u4")
        nodes = heap.new(node, 300)
        nodes.tag = np.arange(300)
        for _ in range(20):
            nodes.next = nodes[::-1]
            heap.array("u1", 50_000)
        assert np.array_equal(nodes.next.tag, np.arange(300)[::-1])
        assert heap.stats.major_count > 0
        heap.verify()


def test_events_are_a_structured_array() -> None:
    with Heap("8MiB", event_capacity=1024) as heap:
        assert heap.events().dtype == gcheap.EVENT_DTYPE
        heap.collect()
        events = heap.events()
        assert len(events) > 0
        assert np.all(np.diff(events["sequence"].astype(np.int64)) == 1)
        kinds = {gcheap.EVENT_KINDS[int(kind)] for kind in events["kind"]}
        assert {"phase", "pause", "moved"} <= kinds
        last = int(events["sequence"][-1])
        assert len(heap.events(since=last + 1)) == 0
        for _ in range(800):
            heap.collect(minor=True)
        assert heap.events()["sequence"][0] > 0
        assert len(heap.events()) <= 1024


def test_a_major_keeps_its_number_beside_minors(mover: str) -> None:
    with Heap("64MiB", mover=mover, nursery="512KiB") as heap:
        node = heap.struct("Node", next=gcheap.Ref, tag="i8")
        nodes = heap.new(node, 100_000)
        nodes.next = nodes[::-1]
        heap.collect(minor=True)
        for _ in range(5):
            since = int(heap.events()["sequence"][-1]) + 1
            asked = heap.collect(policy="all", concurrent=True, wait=False)
            minors = [heap.collect(minor=True) for _ in range(3)]
            done = heap.wait()
            assert done is not None
            assert done.number == asked.number
            assert len({done.number, *(minor.number for minor in minors)}) == 4
            events = heap.events(since=since)
            phases = events[events["kind"] == KIND["phase"]]
            assert set(phases["c"].tolist()) == {done.number}
            windows = find_windows(events, done, (0, 0))
            assert windows.cycle == (int(phases["time"][0]), int(phases["time"][-1]))
            assert (windows.move is not None) == done.concurrent


def test_a_major_tells_the_memory_of_the_process(mover: str) -> None:
    with Heap("64MiB", mover=mover) as heap:
        blob = heap.array("u1", 10_000_000)
        event = heap.collect(policy="all", concurrent=True)
        assert event.physical_after > blob.nbytes
        assert (event.physical_at_flip > blob.nbytes) == event.concurrent
        assert heap.collect(policy="all").physical_at_flip == 0
        assert heap.collect(minor=True).physical_after == 0


def test_stress_with_full_moves(mover: str) -> None:
    with Heap("64MiB", mover=mover, stress=3, full_moves=True, nursery="512KiB") as heap:
        concurrent = heap.collect(policy="all", concurrent=True).concurrent
        node = heap.struct("Node", next=gcheap.Ref, tag="i8")
        nodes = heap.new(node, 2000)
        nodes.tag = np.arange(2000)
        for _ in range(20):
            nodes.next = nodes[::-1]
            heap.new(node, 5000)
        event = heap.wait()
        assert event is not None
        assert event.number > 3
        assert (event.policy, event.concurrent) == ("all", concurrent)
        assert np.array_equal(nodes.next.tag, np.arange(2000)[::-1])
        heap.verify()


def test_a_call_that_does_not_return_is_reported() -> None:
    with Heap("16MiB", mover="memcpy-fresh") as heap:
        heap.array("u1", 1_000_000)
        assert heap.stats.overdue_calls == 0
        heap.inject("drop:delay=4s@times=1")
        heap.collect(policy="all")
        assert heap.stats.overdue_calls == 1
        events = heap.events()
        (report,) = events[events["kind"] == KIND["watchdog"]]
        assert report["c"] >= 2e9


def test_stats_know_the_configuration() -> None:
    with Heap("32MiB", gc_threads=1, fault="thread", mover="memcpy-fresh") as heap:
        stats = heap.stats
        assert stats.max_bytes == 32 << 20
        assert 512 << 10 <= stats.nursery_bytes <= 4 << 20  # by the cache
        assert stats.pause_target_s == pytest.approx(0.002)
        assert stats.staging_bytes == 2 << 20
        assert 0 < stats.table_bytes < stats.max_bytes
        assert stats.events_lost == 0
        assert stats.gc_threads == 1
        assert stats.fault_mode == "thread"
        assert stats.mover.startswith("memcpy")
        assert stats.mover_reason
        assert stats.mutators == 1
        assert stats.page_bytes in (4096, 16384, 65536)
        assert stats.last_major is None
        assert set(stats.stall_s) == set(stats.stall_count)


def test_the_limit_is_chosen_and_explained() -> None:
    with Heap() as chosen, Heap("32MiB", soft_max_size="24MiB") as asked:
        assert 1 << 20 <= chosen.stats.max_bytes <= 1 << 30
        assert chosen.stats.memory_bytes > 0
        assert chosen.stats.limit_reason
        assert asked.stats.limit_reason == "asked for"
        assert asked.stats.soft_max_bytes == 24 << 20


@pytest.mark.parametrize("decay", [0, 0.001, 2.5, float("inf"), None])
def test_memory_goes_back_when_told(decay: float | None) -> None:
    with Heap("32MiB", decay=decay) as heap:
        node = heap.struct("Node", next=gcheap.Ref)
        for _ in range(3):
            nodes = heap.new(node, 20_000)
            heap.collect(concurrent=True)
        assert len(nodes) == 20_000
        heap.verify()


def test_heaps_share_a_budget() -> None:
    with (
        Heap("64MiB", budget="48MiB", mover="memcpy") as one,
        Heap("64MiB", budget="48MiB", mover="memcpy") as other,
    ):
        kept = [heap.array("u1", 8 << 20) for heap in (one, other)]
        for _ in range(100):
            one.array("u1", 1 << 20)
            other.array("u1", 1 << 16)
        one.collect()
        other.collect()
        one.collect(minor=True)
        assert one.stats.budget_bytes == 48 << 20
        assert one.stats.major_count > 2  # of its own accord
        assert one.stats.goal_bytes < 48 << 20
        assert other.stats.goal_bytes >= 12 << 20
        assert len(kept) == 2


def test_map_lists_the_blocks() -> None:
    with Heap("32MiB") as heap:
        node = heap.struct("Node", next=gcheap.Ref, weight="f8")
        nodes = heap.new(node, 10_000)
        heap.collect()
        blocks = heap.map()
        used = blocks[blocks["free"] == 0]
        assert len(used) >= 10_000 * 32 // 65536
        assert int(used["used_bytes"].sum()) >= 10_000 * 32
        assert len(nodes) == 10_000


def test_everything_after_close_is_an_error() -> None:
    heap = Heap("8MiB")
    node = heap.struct("Node", next=gcheap.Ref, weight="f8")
    nodes, blob = heap.new(node, 10), heap.array("f4", 10)
    one = nodes[0]
    heap.close()
    heap.close()
    assert heap.closed
    for use in (
        lambda: heap.new(node, 1),
        lambda: heap.collect(),
        lambda: heap.stats,
        lambda: heap.events(),
        lambda: heap.verify(),
        lambda: nodes.weight,
        lambda: nodes[0],
        lambda: nodes[:5],
        lambda: one.weight,
        lambda: hash(one),
        lambda: blob.read(),
        lambda: heap.struct("Other", a="f8"),
    ):
        with pytest.raises(gcheap.HeapClosedError, match="closed"):
            use()
    assert repr(heap) == "<Heap closed>"


def test_a_forgotten_heap_goes_with_its_last_object() -> None:
    heap = Heap("8MiB")
    node = heap.struct("Node", weight="f8")
    nodes = heap.new(node, 10)
    core = weakref.ref(heap._core)
    del heap
    nodes.weight = 2.0
    assert nodes.weight.sum() == 20
    del nodes, node
    gc.collect()
    assert core() is None


def test_two_heaps_do_not_mix() -> None:
    with Heap("8MiB") as one, Heap("8MiB", mover="memcpy-fresh") as two:
        node_one = one.struct("Node", next=gcheap.Ref)
        node_two = two.struct("Node", next=gcheap.Ref)
        here, there = one.new(node_one, 3), two.new(node_two, 3)
        for use in (
            lambda: setattr(here, "next", there),
            lambda: setattr(here[0], "next", there[0]),
            lambda: here.__setitem__(slice(None), there),
            lambda: one.new(node_two, 1),
            lambda: one.struct("Bad", a=gcheap.Ref(node_two)),
            lambda: one.refs([there[0]]),
            lambda: here == there,
        ):
            with pytest.raises(ValueError, match="another heap"):
                use()


def test_struct_definitions_are_checked() -> None:
    with Heap("4MiB") as heap:
        for dtype in (object, ">f8", "V8", "S0", [("a", "f4")], "no dtype"):
            with pytest.raises(TypeError, match="field 'bad' of T"):
                heap.struct("T", bad=dtype)
        for name in ("is_null", "_hidden", "class", "a b"):
            with pytest.raises(ValueError, match="field"):
                heap.struct("T", **{name: "f8"})
        with pytest.raises(ValueError, match="8192"):
            heap.struct("T", big=("f8", 2000))
        with pytest.raises(ValueError, match="refers to 'Nowhere'"):
            heap.struct("T", next=gcheap.Ref("Nowhere"))
        with pytest.raises(TypeError, match="expected a struct type"):
            gcheap.Ref(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="the type is 'f8'"):
            heap.new("f8", 3)  # type: ignore[arg-type]
        node = heap.struct("T", a="u1", b="f8", c="u2", next=gcheap.Ref("T"))
        assert [field.offset for field in node.fields.values()] == [8, 16, 24, 32]
        assert node.nbytes == 48
        assert node.fields["next"].target is node
        assert "next=Ref(T)" in repr(node)
        with pytest.raises(ValueError, match="number of objects is -1"):
            heap.new(node, -1)
        with pytest.raises(TypeError, match=r"number of objects is 1\.5"):
            heap.new(node, 1.5)  # type: ignore[arg-type]
        assert len(heap.new(node, 0)) == 0


def test_verify_finds_damage() -> None:
    with Heap("8MiB") as heap:
        node = heap.struct("Node", next=gcheap.Ref)
        nodes = heap.new(node, 5000)
        nodes.next = nodes[::-1]
        heap.collect()
        heap.verify()
        found = gcheap.refs.ffi.new("bulk_object *")
        heap._core.call(gcheap.refs.lib.bulk_describe, nodes[7]._handle, found)
        slot = gcheap.refs.ffi.cast("uint64_t *", found.address)
        before, slot[1] = slot[1], slot[1] + 8
        with pytest.raises(gcheap.Corruption, match="refers to"):
            heap.verify()
        slot[1] = before
        heap.verify()


def test_the_last_minor_is_none_until_one_ran_by_itself() -> None:
    with Heap("8MiB") as heap:
        heap.new(heap.struct("Node", tag="u4"), 1000)
        heap.collect()
        assert heap.stats.minor_count == 1  # the major began with it
        assert heap.stats.last_minor is None
        event = heap.collect(minor=True)
        assert heap.stats.last_minor == event
        assert heap.stats.last_major is not None
