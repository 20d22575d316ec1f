"""What does an object of 32 bytes cost that dies young, collections included?"""

from __future__ import annotations

from typing import Any

import pytest

import gcheap.refs
from benchmarks.kit import CLOCK, measure
from gcheap._ffi import ffi, lib
from gcheap.heap import Heap

OBJECTS = 50_000_000


@pytest.mark.benchmark(group="allocation of an object", timer=CLOCK)
def test_inline_allocation(benchmark: Any) -> None:
    with Heap("256MiB") as heap:
        node = heap.struct("Node", a=gcheap.refs.Ref, b=gcheap.refs.Ref, tag="u8")
        assert node.nbytes == 32

        def once() -> float:
            spent = ffi.new("uint64_t *")
            heap._core.call(lib.allocate_run, node._pointer, OBJECTS, 0, spent)
            return float(spent[0]) * 1e-9 / OBJECTS

        measure(benchmark, once, 5)
