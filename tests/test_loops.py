"""Loops beside collections, and what is told of their stamps."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gcheap
from gcheap.compare.measure import minimum_utilisation, rate_within, worst_window
from gcheap.heap import Heap
from gcheap.loops import Cache, Loop, Walk, zipf_ranks
from gcheap.runner import GAP_DTYPE

LIVE = 8 << 20


@pytest.fixture(params=["thread", "signal"])
def heap(request: pytest.FixtureRequest) -> Heap:
    try:
        return Heap(4 * LIVE, fault=request.param, growth=float("inf"))
    except gcheap.Unsupported as error:
        pytest.skip(str(error))


def collect_beside(heap: Heap, loop: Loop) -> None:
    with loop:
        for policy in ("needed", "all", "needed"):
            before = loop.ops
            heap.collect(concurrent=True, policy=policy)  # type: ignore[arg-type]
            deadline = time.monotonic() + 30
            while loop.ops < before + 1000 and time.monotonic() < deadline:
                time.sleep(0.001)
    result = loop.result
    assert result is not None
    assert result.ops >= 3000
    assert result.failed_allocs == 0
    assert int(result.ops_by_ms.sum()) == result.ops
    assert rate_within(result, (result.start_ns, result.end_ns)) > 0
    heap.verify()


@pytest.mark.parametrize("across", [0.0, 0.25, 1.0])
def test_a_walk_keeps_its_graph(heap: Heap, across: float) -> None:
    with heap:
        walk = Walk(heap, LIVE, cluster=1000, thin_every=4, keep_every=7, across=across)
        assert walk.live * 64 == pytest.approx(LIVE, rel=0.01)
        walk.check()
        collect_beside(heap, walk)
        walk.check()
        event = heap.collect()
        assert event.live_objects >= walk.live
        assert event.live_bytes == pytest.approx(LIVE, rel=0.02)
        assert walk.result is not None
        assert walk.result.stores > 0
        assert walk.result.allocs > 0


def test_what_is_thinned_out_is_garbage() -> None:
    with Heap(4 * LIVE) as heap:
        walk = Walk(heap, LIVE, cluster=4096, thin_every=2, keep_every=64)
        assert walk.nodes > 1.9 * walk.live
        event = heap.collect(concurrent=True)
        assert event.blocks_evacuated > 0
        assert event.live_objects == pytest.approx(walk.live, abs=100)
        walk.check()


def test_a_cache_keeps_its_entries(heap: Heap) -> None:
    with heap:
        cache = Cache(heap, LIVE)
        cache.check()
        collect_beside(heap, cache)
        cache.check()
        assert cache.result is not None
        assert 0 < cache.result.misses < cache.result.ops
        before = heap.stats.allocated_bytes
        cache.churn(cache.entries)
        cache.check()
        assert heap.stats.allocated_bytes - before > LIVE // 2
        assert heap.collect().live_bytes == pytest.approx(LIVE, rel=0.1)


def test_the_control_needs_no_heap() -> None:
    with Loop(seconds=1) as loop:
        with pytest.raises(gcheap.InvalidOperation, match="runs already"):
            loop.start()
        time.sleep(0.02)
    assert loop.result is not None
    assert loop.result.ops > 0
    with pytest.raises(gcheap.InvalidOperation, match="does not run"):
        loop.finish()


def test_loops_refuse_what_they_cannot_do() -> None:
    with Heap("16MiB") as heap:
        with pytest.raises(ValueError, match="a graph of 18460 nodes in clusters of 0"):
            Walk(heap, 1 << 20, cluster=0)
        with pytest.raises(ValueError, match="65 steps"):
            Walk(heap, 1 << 20, steps=65).start()
    with pytest.raises(ValueError, match="exponent"):
        zipf_ranks(10, 1.0)


def test_ranks_are_a_distribution() -> None:
    ranks = zipf_ranks(1 << 20, 0.8)
    assert (np.diff(ranks.astype(np.int64)) >= 0).all()
    assert int(ranks[0]) == 0
    assert int(ranks[-1]) == 1 << 20
    half = np.searchsorted(ranks, (1 << 20) / 2) / (len(ranks) - 1)
    assert half == pytest.approx(0.5**0.2, abs=0.001)  # half of the keys get so many look-ups


# --- utilisation ----------------------------------------------------------------------------------

Pieces = list[tuple[int, int]]


def gaps_of(pieces: Pieces) -> np.ndarray:
    """Return gaps from times of progress and of none, in turns."""
    found, at = [], 0
    for runs, stands in pieces:
        at += runs
        if stands:
            found.append((at, stands))
        at += stands
    return np.array(found, dtype=GAP_DTYPE)


def brute_force(pieces: Pieces, low: int, high: int, width: int) -> float:
    """Try every window, of a program that runs in whole nanoseconds."""
    lost = np.concatenate([np.repeat([0, 1], piece) for piece in pieces] or [np.zeros(0, int)])
    lost = np.pad(lost, (0, max(0, high - len(lost))))[low:high]
    width = min(width, high - low)
    if width <= 0:
        return 1.0
    sums = np.concatenate([[0], np.cumsum(lost)])
    return 1 - float((sums[width:] - sums[:-width]).max()) / width


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12),
    st.integers(0, 300),
    st.integers(0, 300),
    st.integers(1, 120),
)
def test_utilisation_is_the_least_of_every_window(
    pieces: Pieces, low: int, length: int, width: int
) -> None:
    expected = brute_force(pieces, low, low + length, width)
    found = minimum_utilisation(gaps_of(pieces), (low, low + length), width * 1e-9)
    assert found == pytest.approx(expected, abs=1e-12)
    share, (begin, end) = worst_window(gaps_of(pieces), (low, low + length), width * 1e-9)
    assert low <= begin <= end <= low + length
    assert share == found
    assert share == pytest.approx(brute_force(pieces, begin, end, end - begin), abs=1e-12)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12),
    st.integers(1, 300),
    st.integers(1, 100),
)
def test_more_time_without_progress_is_no_better(pieces: Pieces, length: int, width: int) -> None:
    whole = minimum_utilisation(gaps_of(pieces), (0, length), width * 1e-9)
    some = [(runs, stands if i % 2 else 0) for i, (runs, stands) in enumerate(pieces)]
    shifted = [(runs + (0 if i % 2 else pieces[i][1]), s) for i, (runs, s) in enumerate(some)]
    assert whole <= minimum_utilisation(gaps_of(shifted), (0, length), width * 1e-9) + 1e-12
