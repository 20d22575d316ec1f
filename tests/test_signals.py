"""Python signal handlers, KeyboardInterrupt, faulthandler: a signal comes at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import pytest

from gcheap import Heap, HeapClosedError, InvalidOperation, Ref

N = 2000


@contextmanager
def alarms(handler: Callable[[int, Any], Any], seconds: float) -> Iterator[None]:
    """The handler runs in this thread again and again."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("fault", ["thread", "signal"])
def test_a_handler_uses_the_heap_that_it_interrupts(mover: str, fault: str) -> None:
    if mover.startswith("memcpy") and fault == "signal":
        pytest.skip("this mover works in the pause")
    with Heap("64MiB", mover=mover, fault=fault, nursery="512KiB") as heap:
        node = heap.struct("Node", next=Ref, tag="i8")
        nodes = heap.new(node, N)
        nodes.tag = np.arange(N)
        seen = []

        def handler(number: int, frame: object) -> None:
            heap.new(node, 100).tag = len(seen)
            if len(seen) % 8 == 0:
                heap.collect(minor=len(seen) % 16 == 0)
            seen.append(int(nodes[7].tag))

        with alarms(handler, 0.003):
            for _ in range(400):
                if len(seen) > 40:
                    break
                nodes.next = nodes[np.roll(np.arange(N), 1)]
                heap.collect(concurrent=not mover.startswith("memcpy"), policy="all")
                assert np.array_equal(nodes.next.tag, np.roll(np.arange(N), 1))
        assert len(seen) > 40
        assert set(seen) == {7}
        heap.verify()


class _StopError(Exception):
    pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", ["load", "collect", "fields", "attach"])
def test_a_handler_that_raises_leaves_the_heap_usable(work: str) -> None:
    """As KeyboardInterrupt does, between any two steps of Python code."""
    interrupts = 0
    with Heap("64MiB", nursery="512KiB") as heap:
        node = heap.struct("Node", next=Ref, tag="i8")
        nodes = heap.new(node, N)
        nodes.tag = np.arange(N)

        def step() -> None:
            if work == "load":
                heap.new(node, 500).tag = np.arange(500)
            elif work == "collect":
                heap.collect(concurrent=True, policy="all")
            elif work == "fields":
                for _ in range(50):
                    assert nodes[5].tag == 5
                with heap.array("f8", 10).view() as view:
                    view[:] = 1
            else:
                with Heap("4MiB") as other:
                    other.array("f8", 10)

        def stop(number: int, frame: object) -> None:
            raise _StopError

        before = signal.signal(signal.SIGALRM, stop)
        try:
            for i in range(200):
                try:
                    until = time.monotonic() + 0.02  # one that is raised in a __del__ is lost
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + i * 7 % 97))
                    while time.monotonic() < until:
                        step()
                except _StopError:
                    interrupts += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert interrupts > 100
        assert all(mutator.depth == 0 for mutator in heap._core._mutators.values())
        heap.collect()
        assert np.array_equal(nodes.tag, np.arange(N))
        heap.verify()
        done = []  # another thread's close() waits for whoever is inside of a call
        heap._core.views.clear()  # (of a view that was not entered when the handler raised)
        thread = threading.Thread(target=lambda: done.append(heap.close()))
        thread.start()
        thread.join(20)
        assert done == [None]


def raise_at(number: int, work: Callable[[], object]) -> bool:
    """Raise where a signal handler could, the number-th time: as a function is entered, and as a
    call of one in C returns. False: there are not so many."""
    places = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal places
        inside = frame.f_code.co_filename.endswith(("_core.py", "array.py"))
        places += inside and event in ("call", "c_return")
        if places == number and inside:
            places += 1
            raise _StopError

    sys.setprofile(profile)
    try:
        work()
    except _StopError:
        pass
    finally:
        sys.setprofile(None)
    return places > number


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", ["first call", "call", "dropped handles", "view", "callbacks"])
def test_a_handler_that_raises_leaves_nobody_inside(work: str) -> None:
    number, more = 1, True
    while more:
        heap = Heap("4MiB")
        blob = heap.array("f8", 10) if work != "first call" else None
        refs = [heap.array("u1", 10) for _ in range(400 if work == "dropped handles" else 0)]
        ran: list[int] = []
        if work == "callbacks":
            node = heap.struct("Node", tag="i8")
            heap.finalize(heap.new(node, 1)[0], ran.append, 1)
            heap.collect(minor=True)

        def step(heap: Heap = heap, blob: Any = blob, refs: list[Any] = refs) -> None:
            refs.clear()
            if work == "view":
                with blob.view() as view:
                    view[:] = 1
            else:
                heap.array("f8", 10).read()

        more = raise_at(number, step)
        core = heap._core
        assert all(mutator.depth == 0 for mutator in core._mutators.values()), number
        assert core._turn == [True], number
        heap.collect()
        heap.array("f8", 10).read()
        if work == "callbacks":
            heap.run_finalizers()
            assert len(ran) <= 1
        core.views.clear()  # (of a view that was not entered when the handler raised)
        blob = None
        thread = threading.Thread(target=heap.close, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive(), number
        assert heap.closed
        number += 1 if number < 40 else 17
    assert number > 5


def test_a_handler_does_not_close_the_heap_under_a_call() -> None:
    """Whatever it interrupts, it closes the heap, or is told that it cannot; nothing else."""
    answers: set[str] = set()
    for i in range(200):
        heap = Heap("4MiB")
        blob = heap.array("u1", 100)

        def close(number: int, frame: object, heap: Heap = heap) -> None:
            try:
                heap.close()
                answers.add("closed")
            except InvalidOperation:
                answers.add("inside")

        before = signal.signal(signal.SIGALRM, close)
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + i % 50))
            for _ in range(1000):
                if heap.closed:
                    break
                assert blob.nbytes == 100
        except HeapClosedError:
            assert heap.closed
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        heap.close()
    assert "closed" in answers


def test_closing_inside_of_a_call_is_refused() -> None:
    with Heap("4MiB") as heap:
        blob = heap.array("u1", 100)
        mutator = heap._core._enter()
        try:
            with pytest.raises(InvalidOperation, match="inside"):
                heap.close()
        finally:
            mutator.depth -= 1
        assert not heap.closed
        assert blob.nbytes == 100


def test_keyboard_interrupt_in_a_long_load() -> None:
    program = """
        import _thread, threading, numpy as np, gcheap
        heap = gcheap.Heap("512MiB")
        node = heap.struct("Node", next=gcheap.Ref, tag="i8")
        kept = heap.new(node, 1000)
        kept.tag = np.arange(1000)
        threading.Timer(0.05, _thread.interrupt_main).start()
        try:
            while True:
                heap.new(node, 300_000).tag = 1
                heap.collect(concurrent=True, policy="all")
        except KeyboardInterrupt:
            pass
        heap.collect()
        heap.verify()
        assert np.array_equal(kept.tag, np.arange(1000))
        heap.close()
        print("usable")
    """
    assert run(program) == (0, "usable\n", "")


def _without_handlers() -> str:
    """Let the address sanitizer, where there is one, leave signals to the process."""
    asked = os.environ.get("ASAN_OPTIONS", "")
    return ":".join(filter(None, [asked, "handle_segv=0", "handle_sigbus=0"]))


def run(program: str, *options: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-P", *options, "-c", textwrap.dedent(program)],
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": _without_handlers()},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("error", ["bus", "segv"])
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("kind", ["move", "copy", "simulated"])
def test_faulthandler(kind: str, order: str, error: str) -> None:
    """It reports what is not ours, whichever of the two handlers was installed first. On top of
    ours it hands on to nobody, so cycles work in the pause and say why."""
    program = f"""
        import ctypes, faulthandler, mmap, tempfile, numpy as np, gcheap
        if {order!r} == "before":
            faulthandler.enable()
        try:
            heap = gcheap.Heap("64MiB", mover={kind!r}, fault="signal")
        except gcheap.Unsupported:
            print("unsupported", flush=True)
            raise SystemExit
        if {order!r} == "after":
            faulthandler.enable()
        node = heap.struct("Node", next=gcheap.Ref, tag="i8")
        nodes = heap.new(node, 20_000)
        nodes.tag = np.arange(20_000)
        event = heap.collect(concurrent=True, policy="all", wait=False)
        assert np.array_equal(nodes.tag, np.arange(20_000))
        heap.wait()
        print(event.concurrent, event.reason, flush=True)
        if {error!r} == "bus":
            file = tempfile.TemporaryFile()
            file.truncate(4096)
            mapped = mmap.mmap(file.fileno(), 4096)
            file.truncate(0)
            mapped[0]
        ctypes.string_at(8)
    """
    code, out, err = run(program)
    if out == "unsupported\n":
        pytest.skip(f"{kind}: not available here")
    number = signal.SIGBUS if error == "bus" else signal.SIGSEGV
    title = "Bus error" if error == "bus" else "Segmentation fault"
    assert code == -number
    assert f"Fatal Python error: {title}" in err
    assert 'File "<string>"' in err
    replaced = "our signal handler has been replaced"
    assert out == ("True \n" if order == "before" else f"False {replaced}\n")
