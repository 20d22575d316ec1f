"""How long does promoting a dense young space take: by moving its pages, by copying its objects?

Marking is left out: it is the same. What is left is the minor collection's plan (in which copying
gets its fresh memory) and move.
"""

from __future__ import annotations

from typing import Any

import pytest

import gcheap.refs
from benchmarks.kit import CLOCK, measure
from gcheap._ffi import ffi, lib
from gcheap.heap import Heap
from gcheap.struct import StructType

YOUNG_BYTES = 64 << 20
OBJECT_BYTES = {"refs": 512, "leaf": 4096}


def young_type(heap: Heap, case: str) -> StructType:
    if case == "leaf":
        return heap.struct("Leaf", data=("u8", OBJECT_BYTES["leaf"] // 8 - 1))
    return heap.struct(
        "Node", a=gcheap.refs.Ref, b=gcheap.refs.Ref, data=("u8", OBJECT_BYTES["refs"] // 8 - 3)
    )


@pytest.mark.benchmark(group="minor promotion of 64 MiB, dense, huge pages", timer=CLOCK)
@pytest.mark.parametrize("case", ["refs-move", "refs-memcpy", "leaf-move", "leaf-memcpy"])
def test_promotion(benchmark: Any, case: str) -> None:
    kind, mover = case.split("-")
    count = YOUNG_BYTES // OBJECT_BYTES[kind]
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
            return event.plan_s + event.move_s

        measure(benchmark, once, 5)
