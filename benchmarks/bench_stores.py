"""What does a reference store cost more than a plain one, with and without marking beside it?

The elements of an array that fits the second-level cache are rotated, so each store overwrites an
old reference. What a plain store of the same loop takes is subtracted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gcheap.refs
from benchmarks.kit import CLOCK, LIVE, measure
from gcheap._ffi import ffi, lib
from gcheap.heap import Heap

ELEMENTS = 4096
ROUNDS = 2000
REPEATS = 7
MOST = 1 << 30
"""Marking that many bytes lasts long enough."""


def _store_ns(heap: Heap, array: gcheap.refs.RefArray, barrier: bool) -> tuple[float, float]:
    """Return ns a store, and the share of the rounds during which stores were logged."""
    spent, marking = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    handle = array._handle
    heap._core.call(lib.stores_run, handle, ELEMENTS, ROUNDS, barrier, spent, marking)
    return float(spent[0]) / (ELEMENTS * ROUNDS), float(marking[0]) / ROUNDS


@pytest.mark.benchmark(group="a reference store beyond a plain one", timer=CLOCK)
@pytest.mark.parametrize("case", ["marking off", "marking on"])
def test_store(benchmark: Any, case: str) -> None:
    count = min(max(LIVE, 256 << 20), MOST) // 32
    with Heap(count * 64 + (256 << 20), growth=float("inf")) as heap:
        node = heap.struct("Node", a=gcheap.refs.Ref, b=gcheap.refs.Ref, tag="u8")
        nodes = heap.new(node, count)
        order = np.random.default_rng(1).permutation(count)
        nodes.a = nodes[order]
        array = heap.refs(list(heap.new(node, ELEMENTS)))
        heap.collect(policy="all")

        def once() -> float:
            plain, _ = _store_ns(heap, array, barrier=False)
            if case == "marking on":
                heap.collect(concurrent=True, background=True)
            cost, marking = _store_ns(heap, array, barrier=True)
            heap.wait()
            assert marking > 0.9 if case == "marking on" else marking == 0
            return (cost - plain) * 1e-9

        measure(benchmark, once, REPEATS)
        del nodes
