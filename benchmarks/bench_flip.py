"""How long is the flip's pause, with and without its minor collection?"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import gcheap.heap
from benchmarks.kit import CLOCK, LIVE, measure
from gcheap.sources import generators
from gcheap.stats import GCEvent

FLIPS = 7


@functools.cache
def flips() -> list[GCEvent]:
    """Flip a heap of ``LIVE`` bytes with ten roots, again and again."""
    graph = generators.structs(LIVE, 512, 4, np.random.default_rng(1))
    with gcheap.heap.Heap(2 * LIVE + (128 << 20), mover="move") as heap:
        table = heap.load(graph)
        roots = [table[i] for i in range(9)]
        events = [heap.collect(concurrent=True, policy="all") for _ in range(FLIPS)]
        del table, roots
    return events


@pytest.mark.benchmark(group="flip", timer=CLOCK)
@pytest.mark.parametrize("case", ["flip", "with minor"])
def test_flip_pause(benchmark: Any, case: str) -> None:
    events = iter(flips())

    def once() -> float:
        event = next(events)
        assert event.concurrent, event.reason
        return event.flip_s if case == "with minor" else event.flip_s - event.flip_minor_s

    measure(benchmark, once, FLIPS)
