"""How long are the pauses of a full collection that marks and moves beside the program?

Twenty collections of a heap of nodes that refer to each other at random, with a program thread that
walks, stores and allocates. Minor collections have their own rows: this is what the first pause and
the flip do besides.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import gcheap.heap
from benchmarks.kit import CLOCK, LIVE, measure
from gcheap.sources import generators
from gcheap.stats import GCEvent
from gcheap.workloads import Beside, Schedule

CYCLES = 20
PARTS = ("mark", "remark", "flip", "longest")


@functools.cache
def cycles(huge: str) -> list[GCEvent]:
    """Collect again and again beside a thread."""
    rng = np.random.default_rng(1)
    graph = generators.structs(LIVE, 64, 4, rng)
    limit = 2 * LIVE + LIVE // 2 + (256 << 20)
    with gcheap.heap.Heap(limit, mover="move", huge=huge, growth=float("inf")) as heap:
        table = heap.load(graph)
        schedule = Schedule.random(len(table), rng)
        with Beside(heap, table, schedule):
            events = [heap.collect(concurrent=True) for _ in range(CYCLES)]
        del table
    for event in events:
        assert event.concurrent, event.reason
    return events


def seconds(event: GCEvent, part: str) -> float:
    """Return the length of a pause without its minor collection; ``longest``: of the three."""
    parts = {
        "mark": event.mark_pause_s - event.mark_minor_s,
        "remark": event.remark_s,
        "flip": event.flip_s - event.flip_minor_s,
    }
    return parts[part] if part in parts else max(parts.values())


@pytest.mark.benchmark(group="pauses of a concurrent collection", timer=CLOCK)
@pytest.mark.parametrize("huge", ["off", "on"])
@pytest.mark.parametrize("part", PARTS)
def test_pause(benchmark: Any, part: str, huge: str) -> None:
    events = iter(cycles(huge))
    measure(benchmark, lambda: seconds(next(events), part), CYCLES)
