"""How long does a minor take that promotes a dense young space: by moving pages, by copying?"""

from __future__ import annotations

from typing import Any

import pytest

import gcheap.refs
from benchmarks.kit import CLOCK, measure
from gcheap._ffi import ffi, lib
from gcheap.heap import Heap
from gcheap.struct import StructType

YOUNG_BYTES = 64 << 20
OBJECT_BYTES = 512


def young_type(heap: Heap, case: str) -> StructType:
    if case == "leaf":
        return heap.struct("Leaf", data=("u8", 63))
    return heap.struct("Node", a=gcheap.refs.Ref, b=gcheap.refs.Ref, data=("u8", 61))


@pytest.mark.benchmark(group="minor promotion of 64 MiB, dense, huge pages", timer=CLOCK)
@pytest.mark.parametrize("case", ["refs-move", "refs-memcpy", "leaf-move", "leaf-memcpy"])
def test_promotion(benchmark: Any, case: str) -> None:
    kind, mover = case.split("-")
    count = YOUNG_BYTES // OBJECT_BYTES
    with Heap("1GiB", mover=mover, huge=True, nursery=2 * YOUNG_BYTES) as heap:
        struct = young_type(heap, kind)

        def once() -> float:
            keep = heap.refs(count)
            spent = ffi.new("uint64_t *")
            heap._core.call(lib.allocate_run, struct._pointer, count, keep._handle, spent)
            event = heap.collect(minor=True, promote=True)
            benchmark.extra_info.update(pages=event.pages_moved, copied=event.bytes_copied)
            del keep
            heap.collect(policy="release")
            return event.pause_s

        measure(benchmark, once, 5)
