"""How long does one thread take to mark an object, found in random or in allocation order?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gcheap.refs
from benchmarks.kit import CLOCK, LIVE, measure
from gcheap.heap import Heap


@pytest.mark.benchmark(group="marking an object of 32 bytes", timer=CLOCK)
@pytest.mark.parametrize("case", ["4k-random", "4k-in order", "huge-random", "huge-in order"])
def test_mark(benchmark: Any, case: str) -> None:
    pages, order = case.split("-")
    count = LIVE // 32
    with Heap(2 * LIVE + (128 << 20), gc_threads=1, huge=pages == "huge") as heap:
        node = heap.struct("Node", a=gcheap.refs.Ref, b=gcheap.refs.Ref, tag="u8")
        nodes = heap.new(node, count)
        if order == "random":
            nodes = nodes[np.random.default_rng(1).permutation(count)]
        following = np.arange(1, count + 1) % count
        nodes.a = nodes[following]
        nodes.b = nodes[(following + 1) % count]

        def once() -> float:
            event = heap.collect(policy="release")
            return event.mark_s / event.live_objects

        measure(benchmark, once, 5)
        del nodes
