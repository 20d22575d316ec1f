"""fork(): a child has a copy of each heap, with which it allocates and collects like its parent."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.context import ForkContext
from typing import Any

import numpy as np
import pytest

import gcheap
from gcheap import Heap, Ref, RefArray

# Python 3.12 and later warn of any fork() with threads, the collector's included.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

N = 3000
SECONDS = 20
FORK: ForkContext = multiprocessing.get_context("fork")


def ring(heap: Heap) -> tuple[gcheap.StructType, RefArray]:
    """Objects in a ring, tagged by number."""
    node = heap.struct("Node", next=Ref, tag="i8")
    nodes = heap.new(node, N)
    nodes.tag = np.arange(N)
    nodes.next = nodes[np.roll(np.arange(N), -1)]
    return node, nodes


def check(heap: Heap, nodes: RefArray, shift: int) -> None:
    assert np.array_equal(nodes.tag, np.arange(N) + shift)
    assert np.array_equal(nodes.next.tag, np.roll(np.arange(N), -1) + shift)
    heap.verify()


def use(heap: Heap, node: gcheap.StructType, nodes: RefArray, shift: int) -> None:
    """Change, allocate and collect in every way, and check after each."""
    nodes.tag = np.arange(N) + shift
    for concurrent in (False, True):
        for policy in ("all", "needed", "release"):
            garbage = heap.new(node, 2000)
            blob = heap.array("u4", 50_000)
            del garbage
            heap.collect(policy=policy, concurrent=concurrent)  # type: ignore[arg-type]
            heap.collect(minor=True)
            assert blob.nbytes == 200_000
            check(heap, nodes, shift)


def started(work: Callable[[int], None], count: int) -> list[Any]:
    children = [FORK.Process(target=work, args=(number,)) for number in range(1, count + 1)]
    for child in children:
        child.start()
    return children


def ended(children: list[Any]) -> None:
    for child in children:
        child.join(SECONDS)
        alive = child.is_alive()
        if alive:
            child.kill()
        assert not alive, "a child hangs"
        assert child.exitcode == 0


def test_children_of_a_quiet_parent(mover: str) -> None:
    with Heap("64MiB", mover=mover, nursery="512KiB") as heap:
        node, nodes = ring(heap)

        def work(number: int) -> None:
            check(heap, nodes, 0)
            use(heap, node, nodes, number * 1000)
            heap.close()

        children = started(work, 3)
        use(heap, node, nodes, 7)
        ended(children)
        check(heap, nodes, 7)


@pytest.mark.parametrize("fault", ["thread", "signal"])
def test_children_made_while_the_parent_moves(mover: str, fault: str) -> None:
    if mover.startswith("memcpy") and fault == "signal":
        pytest.skip("this mover works in the pause")
    with Heap("64MiB", mover=mover, fault=fault, nursery="512KiB") as heap:
        node, nodes = ring(heap)
        stop = threading.Event()

        def collect() -> None:
            while not stop.is_set():
                heap.collect(policy="all", concurrent=True)

        def work(number: int) -> None:
            check(heap, nodes, 0)
            use(heap, node, nodes, number * 1000)
            heap.close()

        thread = threading.Thread(target=collect)
        thread.start()
        try:
            for _ in range(4):
                ended(started(work, 2))
                check(heap, nodes, 0)
        finally:
            stop.set()
            thread.join()
        check(heap, nodes, 0)


_pool: list[Any] = []  # what workers inherit


def _in_pool(number: int) -> int:
    heap, node, nodes = _pool
    use(heap, node, nodes, number)
    return int(nodes.tag.sum())


def test_a_pool() -> None:
    with Heap("64MiB") as heap:
        node, nodes = ring(heap)
        _pool[:] = [heap, node, nodes]
        try:
            with FORK.Pool(3) as pool:
                result = pool.map_async(_in_pool, range(9), chunksize=1)
                use(heap, node, nodes, 5)
                sums = result.get(SECONDS)
        finally:
            _pool.clear()
        assert sums == [N * (N - 1) // 2 + N * number for number in range(9)]
        check(heap, nodes, 5)


def test_a_lock_of_another_thread_does_not_stay_locked() -> None:
    with Heap("16MiB") as heap:
        held, let = threading.Event(), threading.Event()

        def hold() -> None:
            with heap._core.type_lock:
                held.set()
                let.wait(SECONDS)

        def work(number: int) -> None:
            heap.new(heap.struct("Node", tag="i8"), 10).tag = number
            heap.array("f4", 10)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(SECONDS)
        children = started(work, 1)
        let.set()
        thread.join()
        children[0].join(5)
        ended(children)
