"""What processes of tests/test_processes.py do, in a module that a new interpreter finds too: it
gets the parent's ``sys.path``, which has this folder in it, and not the root of the project where
the installed package is to be tested."""

from __future__ import annotations

from typing import Any

import numpy as np

import gcheap
from gcheap import Heap, Ref, RefArray

N = 60_000
ORDER = np.random.default_rng(5).permutation(N)


def graph(heap: Heap) -> tuple[gcheap.StructType, RefArray]:
    """Objects that refer to one another in a random order, tagged by number."""
    node = heap.struct("Node", next=Ref, tag="i8")
    nodes = heap.new(node, N)
    nodes.tag = np.arange(N)
    nodes.next = nodes[ORDER]
    return node, nodes


def check(nodes: RefArray, shift: int = 0) -> None:
    assert np.array_equal(nodes.tag, np.arange(N) + shift)
    assert np.array_equal(nodes.next.tag, ORDER + shift)


def use(heap: Heap, node: gcheap.StructType, nodes: RefArray, shift: int) -> None:
    """Change, allocate, collect in every way."""
    check(nodes)
    nodes.tag = np.arange(N) + shift
    for concurrent in (True, False):
        heap.new(node, 20_000).tag = shift
        heap.collect(concurrent=concurrent, policy="all")
        check(nodes, shift)
    heap.wait()
    heap.verify()


def in_child(number: int, results: Any) -> None:
    """A heap of the child's own, in any child: the parent's cannot be sent."""
    with Heap("64MiB", nursery="512KiB") as heap:
        node, nodes = graph(heap)
        use(heap, node, nodes, number)
        results.put((number, int(nodes.tag.sum())))


def square(number: int) -> int:
    with Heap("16MiB") as heap:
        node = heap.struct("Node", tag="i8")
        nodes = heap.new(node, 1000)
        nodes.tag = number
        heap.collect(concurrent=True)
        return int(nodes.tag.sum()) * number
