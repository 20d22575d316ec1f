"""multiprocessing beside a live heap whose collection runs: fork, forkserver, spawn."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gcheap import Heap

sys.path.append(str(Path(__file__).parent / "support"))

from children import N, check, graph, in_child, square, use

# Python 3.12 and later warn of any fork() with threads, the collector's included.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

SECONDS = 60
METHODS = ["fork", "forkserver", "spawn"]


@contextmanager
def major(heap: Heap, still: str) -> Iterator[None]:
    """A collection beside the program that has only begun, or one after the other."""
    if still == "marks":
        heap.collect(concurrent=True, background=True, policy="all")
        yield
        heap.wait()
        return
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            heap.collect(concurrent=True, policy="all")

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def joined(children: list[Any]) -> None:
    for child in children:
        child.join(SECONDS)
        if child.is_alive():
            child.kill()
            pytest.fail("a child hangs")
        assert child.exitcode == 0


@pytest.mark.parametrize("fault", ["thread", "signal"])
@pytest.mark.parametrize("method", METHODS)
def test_children_with_heaps_of_their_own(method: str, fault: str) -> None:
    context = multiprocessing.get_context(method)
    with Heap("64MiB", fault=fault, nursery="512KiB") as heap:
        _, nodes = graph(heap)
        results = context.Queue()
        with major(heap, "again"):
            children = [context.Process(target=in_child, args=(i, results)) for i in (1, 2)]
            for child in children:
                child.start()
            got = sorted(results.get(timeout=SECONDS) for _ in children)
            check(nodes)
            joined(children)
        assert got == [(i, N * (N - 1) // 2 + N * i) for i in (1, 2)]
        check(nodes)
        heap.verify()


@pytest.mark.parametrize("still", ["marks", "again"])
@pytest.mark.parametrize("fault", ["thread", "signal"])
def test_the_parents_heap_in_a_child(mover: str, fault: str, still: str) -> None:
    if mover.startswith("memcpy"):
        pytest.skip("this mover works in the pause")
    context = multiprocessing.get_context("fork")
    with Heap("64MiB", mover=mover, fault=fault, nursery="512KiB") as heap:
        node, nodes = graph(heap)

        def work(number: int) -> None:
            use(heap, node, nodes, number)
            heap.close()

        for round in range(3):
            with major(heap, still):
                children = [context.Process(target=work, args=(round * 2 + i,)) for i in (1, 2)]
                for child in children:
                    child.start()
                    check(nodes)
                joined(children)
            check(nodes)
            heap.verify()


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_beside_a_collection(method: str) -> None:
    with Heap("64MiB", nursery="512KiB") as heap, major(heap, "again"):
        _, nodes = graph(heap)
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(square, range(8)) == [1000 * i * i for i in range(8)]
        check(nodes)


def test_what_names_a_heap_is_not_sent_to_another_process() -> None:
    with Heap("16MiB") as heap:
        nodes = heap.new(heap.struct("Node", tag="i8"), 1)
        child = multiprocessing.get_context("spawn").Process(target=print, args=(nodes,))
        with pytest.raises(TypeError, match="cannot be pickled"):
            child.start()


def test_a_child_that_leaves_at_once() -> None:
    with Heap("64MiB", nursery="512KiB") as heap:
        _, nodes = graph(heap)
        for _ in range(10):
            heap.collect(concurrent=True, background=True)
            pid = os.fork()
            if pid == 0:
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            check(nodes)
        heap.verify()
