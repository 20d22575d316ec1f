"""What do a million objects cost from Python: to make, to read a field of, to write one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gcheap.refs
from gcheap.heap import Heap
from gcheap.refs import RefArray
from gcheap.struct import StructType

MILLION = 1_000_000


@pytest.fixture
def heap() -> Iterator[Heap]:
    with Heap("512MiB") as heap:
        yield heap


def node_type(heap: Heap) -> StructType:
    return heap.struct("Node", next=gcheap.refs.Ref, weight="f8", tag="u4")


def nodes_in(heap: Heap, order: str) -> RefArray:
    nodes = heap.new(node_type(heap), MILLION)
    heap.collect(policy="release")
    if order == "in order":
        return nodes
    return nodes[np.random.default_rng(1).permutation(MILLION)]


@pytest.mark.benchmark(group="a million objects")
@pytest.mark.parametrize("pages", ["4k", "huge"])
@pytest.mark.parametrize("memory", ["populated", "fresh"])
def test_new_million(benchmark: Any, pages: str, memory: str) -> None:
    """Populated: what a collection frees stays with the heap, because the kernel's taking it back
    is refused by injection. Fresh: it is given back, so the kernel makes 10,000 pages, or 20 huge
    ones."""
    inject = "drop:ENOMEM" if memory == "populated" else ""
    with Heap("512MiB", huge=pages == "huge", inject=inject) as heap:
        node = node_type(heap)
        made: list[RefArray] = []

        def setup() -> None:
            made.clear()
            heap.collect(policy="release")

        benchmark.pedantic(
            lambda: made.append(heap.new(node, MILLION)), setup=setup, rounds=7, warmup_rounds=1
        )
        made.clear()


@pytest.mark.benchmark(group="a million objects")
@pytest.mark.parametrize("order", ["random", "in order"])
def test_gather_million(benchmark: Any, heap: Heap, order: str) -> None:
    nodes = nodes_in(heap, order)
    benchmark.pedantic(lambda: nodes.weight, rounds=9, warmup_rounds=1)


@pytest.mark.benchmark(group="a million objects")
@pytest.mark.parametrize("order", ["random", "in order"])
def test_scatter_million(benchmark: Any, heap: Heap, order: str) -> None:
    nodes = nodes_in(heap, order)
    values = np.linspace(0.0, 1.0, MILLION)

    def scatter() -> None:
        nodes.weight = values

    benchmark.pedantic(scatter, rounds=9, warmup_rounds=1)
