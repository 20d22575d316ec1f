"""Python threads are mutators: attached when they first use a heap, detached when they end."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from offered import not_here

import gcheap
from gcheap import Heap, Ref
from gcheap._ffi import ffi, lib
from gcheap._vector import address


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work`` in so many threads at a time and raise what it raised."""
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(work, number) for number in range(count)]:
            future.result()


def test_threads_come_and_go() -> None:
    with Heap("64MiB") as heap:
        node = heap.struct("Node", tag="i8")
        assert heap.stats.mutators == 1
        for _ in range(5):
            seen: list[int] = []

            def work(node: gcheap.StructType = node, seen: list[int] = seen) -> None:
                heap.new(node, 10).tag = 1
                seen.append(heap.stats.mutators)

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            assert seen == [2]
        assert heap.stats.mutators == 1


def test_more_than_64_mutators() -> None:
    count = 80
    barrier = threading.Barrier(count)
    with Heap("64MiB") as heap:
        node = heap.struct("Node", next=Ref, tag="i8")

        def work(number: int) -> None:
            nodes = heap.new(node, 100)
            nodes.tag = number
            barrier.wait(30)
            if number == 0:
                assert heap.stats.mutators >= count
                heap.collect(policy="all")
            barrier.wait(30)
            assert (nodes.tag == number).all()

        in_threads(count, work)
        heap.verify()


@pytest.mark.parametrize("concurrent", [False, True])
def test_threads_share_a_heap(mover: str, concurrent: bool) -> None:
    n, rounds = 2000, 30
    with Heap("96MiB", mover=mover, nursery="512KiB") as heap:
        node = heap.struct("Node", next=Ref, tag="i8", owner="u4")
        shared = heap.refs(4)
        stop = threading.Event()

        def work(number: int) -> None:
            rng = np.random.default_rng(number)
            nodes = heap.new(node, n)
            nodes.tag = np.arange(n)
            nodes.owner = number
            order = np.arange(n)
            for _ in range(rounds):
                order = order[rng.permutation(n)]
                nodes = nodes[np.argsort(np.argsort(rng.random(n)))]
                tags = nodes.tag
                shift = int(rng.integers(1, n))
                nodes.next = nodes[np.roll(np.arange(n), -shift)]
                assert np.array_equal(nodes.next.tag, np.roll(tags, -shift))
                assert (nodes.owner == number).all()
                heap.array("u1", int(rng.integers(0, 20_000)))
                shared[number] = nodes[int(rng.integers(0, n))]
                assert shared[number].owner == number

        def collect() -> None:
            while not stop.is_set():
                heap.collect(concurrent=concurrent, policy="all")
                heap.collect(minor=True)
                heap.verify()

        with ThreadPoolExecutor(1) as pool:
            collector = pool.submit(collect)
            try:
                in_threads(4, work)
            finally:
                stop.set()
            collector.result()
        heap.verify()


@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize("name", ["move", "copy"])
def test_stalls_of_a_thread(name: str, faults: str) -> None:
    n = 50_000
    try:
        heap = Heap("128MiB", mover=name, fault=faults)
    except gcheap.Unsupported as error:
        pytest.skip(str(error))
    with heap:
        node = heap.struct("Node", next=Ref, tag="i8")
        nodes = heap.new(node, n)
        nodes.tag = np.arange(n)
        order = np.random.default_rng(1).permutation(n)
        assert heap.thread_stalls().count["fault"] == 0

        def touch(_number: int) -> None:
            before = heap.thread_stalls()
            assert sum(before.count.values()) == 0
            for _ in range(20):
                heap.collect(policy="all", concurrent=True, wait=False)
                assert np.array_equal(nodes[order].tag, order)
                if heap.thread_stalls().count["fault"]:
                    break
            stalls = heap.thread_stalls()
            assert 0 < stalls.count["fault"] <= heap.stats.stall_count["fault"]
            assert 0 < stalls.seconds["fault"] <= heap.stats.stall_s["fault"]

        in_threads(1, touch)
        assert heap.thread_stalls().count["fault"] == 0  # another thread's


def test_close_waits_for_calls_and_ends_the_rest() -> None:
    heap = Heap("64MiB")
    node = heap.struct("Node", tag="i8")
    ended: list[str] = []

    def work(_number: int) -> None:
        try:
            while True:
                nodes = heap.new(node, 1000)
                nodes.tag = 1
                assert nodes.tag.sum() == 1000
        except gcheap.HeapClosedError:
            ended.append("closed")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    heap.close()
    for thread in threads:
        thread.join(30)
    assert ended == ["closed"] * 3


def test_idle_threads_outlive_a_heap() -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            heap = Heap("16MiB")
            node = heap.struct("Node", tag="i8")
            barrier = threading.Barrier(4)

            def work(heap: Heap = heap, node: gcheap.StructType = node) -> int:
                nodes = heap.new(node, 5000)
                nodes.tag = 2
                barrier.wait(30)  # noqa: B023
                return int(nodes.tag.sum())

            assert [f.result() for f in [pool.submit(work) for _ in range(4)]] == [10_000] * 4
            assert heap.stats.mutators == 5
            heap.close()
            assert not heap._core._alive
            with pytest.raises(gcheap.HeapClosedError):
                pool.submit(heap.collect).result()


def test_heaps_end_while_threads_do() -> None:
    for _ in range(50):
        heap = Heap("4MiB")
        node = heap.struct("Node", tag="i8")

        def work(heap: Heap = heap, node: gcheap.StructType = node) -> None:
            with contextlib.suppress(gcheap.HeapClosedError):
                heap.new(node, 100)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads[:2]:
            thread.join()
        try:
            heap.close()
        finally:
            for thread in threads:
                thread.join()


def test_wrappers_may_die_in_any_thread() -> None:
    with Heap("64MiB") as heap:
        node = heap.struct("Node", tag="i8")
        nodes = heap.new(node, 100)
        boxes = [[nodes[i] for i in range(100)] for _ in range(20)]

        def work(number: int) -> None:
            boxes[number].clear()
            gc.collect()

        in_threads(20, work)
        assert heap.stats.handles == 1
        heap.verify()


def test_a_pinned_view_is_read_while_everything_moves() -> None:
    """The reader holds the GIL when it touches the view; the collection needs no GIL."""
    with Heap("128MiB") as heap:
        node = heap.struct("Node", next=Ref, tag="i8")
        nodes = heap.new(node, 200_000)
        nodes.tag = np.arange(200_000)
        nodes.next = nodes[::-1]
        blobs = [heap.array("i8", 500) for _ in range(500)]
        for number, blob in enumerate(blobs):
            blob.write(number)

        def collect() -> None:
            for _ in range(10):
                heap.collect(concurrent=True, policy="all")

        with ThreadPoolExecutor(1) as pool:
            collector = pool.submit(collect)
            rounds = 0
            while not collector.done() or rounds == 0:
                for number in range(0, 500, 50):
                    with blobs[number].view() as view:
                        assert sum(view.tolist()) == 500 * number
                assert nodes[rounds % 1000].next.tag == 199_999 - rounds % 1000
                rounds += 1
            collector.result()
        heap.verify()
        assert np.array_equal(nodes.next.tag, np.arange(200_000)[::-1])


@pytest.mark.parametrize(
    ("mover", "fault"),
    [
        pytest.param("move", "thread", marks=pytest.mark.move),
        pytest.param("move", "signal", marks=pytest.mark.move),
        ("copy", "thread"),
        ("simulated", "thread"),
    ],
)
def test_a_missing_page_is_touched_while_the_gil_is_held(mover: str, fault: str) -> None:
    """Whoever answers the fault needs no GIL. gcheap's own calls drop it: this one does not."""
    try:
        heap = Heap("128MiB", mover=mover, fault=fault)
    except gcheap.Unsupported as error:
        not_here(mover, error)
    with heap:
        node = heap.struct("Node", next=Ref, tag="i8")
        nodes = heap.new(node, 300_000)
        nodes.tag = np.arange(300_000)
        order = np.random.default_rng(1).permutation(300_000)
        shuffled = nodes[order]  # one touch after the other lies where nobody has been
        gather = holding_the_gil("bulk_gather")
        heap.collect()
        heap.inject(f"{'mprotect' if mover == 'simulated' else mover}:delay=1ms")
        began = heap.collect(concurrent=True, policy="all", wait=False)
        assert began.concurrent, began.reason
        out = np.zeros(300_000, dtype=np.int64)

        def touch(mutator: object) -> int:
            field = node.field("tag")._native
            return gather(mutator, shuffled._handle, 300_000, field, address(out))

        heap._core.call(touch)
        heap.inject("")
        done = heap.wait()
        assert done is not None
        assert done.number == began.number
        assert done.faults_served > 0
        assert np.array_equal(out, order)
        heap.verify()


def holding_the_gil(name: str) -> Callable[..., int]:
    """Return a function of the native module that is called without dropping the GIL."""
    pointer = int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))
    function = ctypes.PYFUNCTYPE(ctypes.c_int, *[ctypes.c_uint64] * 5)(pointer)

    def call(*arguments: object) -> int:
        return int(function(*(int(ffi.cast("uintptr_t", argument)) for argument in arguments)))

    return call


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "sys.exit(0)",
        "threading.Thread(target=lambda: nodes.tag).start()",
        "threading.Thread(target=spin, daemon=True).start(); time.sleep(0.05)",
        "heap.close()",
        "view = blob.view(); a = view.__enter__()",
    ],
)
def test_interpreter_exit(ending: str) -> None:
    program = f"""
import sys, threading, time, gcheap
heap = gcheap.Heap("16MiB")
node = heap.struct("Node", next=gcheap.Ref, tag="i8")
nodes = heap.new(node, 10_000)
blob = heap.array("f8", 100)
one = nodes[4]
def spin():
    while True:
        heap.new(node, 1000).tag = 3
{ending}
"""
    done = subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", "-c", program],
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
