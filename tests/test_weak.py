"""Weak references, ephemerons and finalizers, against the reference implementation in numpy."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from weak_world import EPHEMERON, NODE, WEAK, World

import gcheap
from gcheap._ffi import ffi, lib

# --- random programs -----------------------------------------------------------------------------

OPERATIONS = (
    "node",
    "weak",
    "ephemeron",
    "link",
    "unlink",
    "set",
    "drop",
    "read",
    "finalize",
    "take",
)
COLLECTIONS = ("minor", "major", "concurrent")
Steps = list[tuple[str, int, int, int]]
NUMBERS = st.integers(0, 999)
STEPS = st.lists(
    st.tuples(st.sampled_from(OPERATIONS + OPERATIONS + COLLECTIONS), NUMBERS, NUMBERS, NUMBERS),
    max_size=60,
)


class Program:
    """A heap and its reference, to which the same is done. Roots are wrappers by number."""

    def __init__(self, mover: str) -> None:
        self.heap = gcheap.Heap(max_size="16MiB", mover=mover)
        self.core = self.heap._core
        self.node = self.heap.struct("Node", left=gcheap.Ref, right=gcheap.Ref, tag="i8")
        self.world = World()
        self.roots: dict[int, Any] = {}

    def pick(self, number: int, *kinds: int) -> int:
        """Return the number of a root of one of the kinds, -1 if there is none."""
        found = [i for i in self.roots if self.world.kind[i] in kinds]
        return found[number % len(found)] if found else -1

    def any(self, number: int) -> int:
        return self.pick(number, NODE, WEAK, EPHEMERON)

    def add(self, made: Any, kind: int, first: int = -1, second: int = -1) -> None:
        self.roots[self.world.new(kind, first, second)] = made

    # --- operations ------------------------------------------------------------------------------

    def do_node(self, _a: int, _b: int, _c: int) -> None:
        made = self.heap.new(self.node, 1)[0]
        made.tag = len(self.world.kind)
        self.add(made, NODE)

    def do_weak(self, a: int, _b: int, _c: int) -> None:
        of = self.any(a)
        if of >= 0:
            self.add(gcheap.WeakRef(self.roots[of]), WEAK, of)

    def do_ephemeron(self, a: int, b: int, _c: int) -> None:
        key, value = self.any(a), self.any(b)
        if key >= 0:
            self.add(gcheap.Ephemeron(self.roots[key], self.roots[value]), EPHEMERON, key, value)

    def do_link(self, a: int, b: int, c: int) -> None:
        node, target = self.pick(a, NODE), self.any(b)
        if node >= 0:
            setattr(self.roots[node], ("left", "right")[c % 2], self.roots[target])
            self.world.slots[node, c % 2] = target

    def do_unlink(self, a: int, _b: int, c: int) -> None:
        node = self.pick(a, NODE)
        if node >= 0:
            setattr(self.roots[node], ("left", "right")[c % 2], None)
            self.world.slots[node, c % 2] = -1

    def do_set(self, a: int, b: int, _c: int) -> None:
        ephemeron, value = self.pick(a, EPHEMERON), self.any(b)
        if ephemeron >= 0:
            self.roots[ephemeron].value = self.roots[value]
            if self.world.slots[ephemeron, 0] >= 0:
                self.world.slots[ephemeron, 1] = value

    def do_drop(self, a: int, _b: int, _c: int) -> None:
        gone = self.any(a)
        if gone >= 0:
            del self.roots[gone]
            self.world.rooted[gone] = False

    def do_read(self, a: int, _b: int, c: int) -> None:
        """What a cell gives is a root from then on."""
        cell = self.pick(a, WEAK, EPHEMERON)
        if cell < 0:
            return
        column = c % 2 if self.world.kind[cell] == EPHEMERON else 0
        given_ = self.roots[cell]
        found = (
            given_() if isinstance(given_, gcheap.WeakRef) else (given_.key, given_.value)[column]
        )
        target = int(self.world.slots[cell, column])
        assert (found is None) == (target < 0)
        if target >= 0:
            self.roots[target] = found
            self.world.rooted[target] = True

    def do_finalize(self, a: int, _b: int, c: int) -> None:
        of = self.any(a)
        if of >= 0:
            self.core.call(lib.bulk_finalize, self.roots[of]._handle, c)
            self.world.registered.append((of, c))

    def do_take(self, _a: int, _b: int, c: int) -> None:
        """Take up to three objects out of the queue: they live again."""
        tokens, handles = ffi.new("uint64_t[3]"), ffi.new("gch_handle[3]")
        count = ffi.new("uint64_t *")
        self.core.call(lib.bulk_finalized, tokens, handles, 1 + c % 3, count)
        taken, self.world.queue = self.world.queue[: count[0]], self.world.queue[count[0] :]
        assert count[0] == min(1 + c % 3, len(taken) + len(self.world.queue))
        assert [token for _, token in taken] == list(tokens)[: count[0]]
        for (number, _), handle in zip(taken, handles, strict=False):
            self.roots[number] = self.wrap(handle)
            self.world.rooted[number] = True

    def wrap(self, handle: int) -> Any:
        from gcheap.refs import wrap

        found = ffi.new("bulk_object *")
        self.core.call(lib.bulk_describe, handle, found)
        self.core.drop(handle)
        return wrap(self.core, found)

    # --- comparison ------------------------------------------------------------------------------

    def collect(self, kind: str) -> None:
        if kind == "minor":
            event = self.heap.collect(minor=True, promote=True)
            expected = self.world.minor()
        else:
            event = self.heap.collect(concurrent=kind == "concurrent", policy="all")
            expected = self.world.major()
        assert (event.weak_cleared, event.finalizers_queued) == expected
        if kind != "minor":
            assert event.live_objects == int(self.world.exists.sum())
        self.compare()

    def compare(self) -> None:
        self.heap.verify()
        assert lib.gch_finalizers_pending(self.core.pointer) == len(self.world.queue)
        seen = set(self.roots)
        todo = list(self.roots.items())
        while todo:
            number, found = todo.pop()
            first, second = (int(slot) for slot in self.world.slots[number])
            if self.world.kind[number] == NODE:
                assert isinstance(found, gcheap.Ref)
                assert found.tag == number
                pairs = [(first, found.left), (second, found.right)]
            elif self.world.kind[number] == WEAK:
                assert isinstance(found, gcheap.WeakRef)
                pairs = [(first, found())]
            else:
                assert isinstance(found, gcheap.Ephemeron)
                pairs = [(first, found.key), (second, found.value)]
            for target, there in pairs:
                gone = there is None or (isinstance(there, gcheap.Ref) and there.is_null)
                assert gone == (target < 0), f"slot of {number}: {there!r}, expected {target}"
                if target >= 0 and target not in seen:
                    seen.add(target)
                    todo.append((target, there))


def play(mover: str, steps: Steps) -> None:
    program = Program(mover)
    try:
        for name, a, b, c in steps:
            if name in COLLECTIONS:
                program.collect(name)
            else:
                getattr(program, f"do_{name}")(a, b, c)
        for name in ("concurrent", "minor", "major"):
            program.collect(name)
    finally:
        program.roots.clear()
        program.heap.close()


CHAIN: Steps = [
    ("node", 0, 0, 0),
    ("node", 0, 0, 0),
    ("node", 0, 0, 0),
    ("ephemeron", 0, 1, 0),
    ("ephemeron", 1, 2, 0),
    ("ephemeron", 2, 2, 0),
    ("finalize", 0, 0, 7),
    ("weak", 2, 0, 0),
    ("drop", 1, 0, 0),
    ("drop", 1, 0, 0),
    ("major", 0, 0, 0),
    ("drop", 0, 0, 0),
    ("concurrent", 0, 0, 0),
    ("take", 0, 0, 0),
]


@given(STEPS)
@example(CHAIN)
@settings(max_examples=60)
def test_programs_end_as_the_reference_does(steps: Steps) -> None:
    play("auto", steps)


@pytest.mark.parametrize("seed", range(6))
def test_long_programs_under_every_mover(mover: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = OPERATIONS * 6 + COLLECTIONS
    steps: Steps = [
        (names[name], int(a), int(b), int(c))
        for name, a, b, c in zip(
            rng.integers(0, len(names), 400), *rng.integers(0, 1000, (3, 400)), strict=True
        )
    ]
    play(mover, steps)


# --- weak references -----------------------------------------------------------------------------


@pytest.fixture
def heap() -> Any:
    with gcheap.Heap(max_size="64MiB") as made:
        yield made


def test_referents_of_every_kind(heap: gcheap.Heap) -> None:
    node = heap.struct("Node", next=gcheap.Ref)
    objects = [heap.new(node, 3), heap.array("f4", (10, 2)), heap.refs(5), heap.new(node, 1)[0]]
    objects += [gcheap.WeakRef(objects[0]), gcheap.Ephemeron(objects[0])]
    for made in objects:
        weak = gcheap.WeakRef(made)
        heap.collect(policy="all")
        back = weak()
        assert type(back) is type(made)
        assert gcheap.WeakRef(back) == weak
        assert hash(gcheap.WeakRef(back)) == hash(weak)
    weak = [gcheap.WeakRef(made) for made in objects[:4]]
    del objects, made, back
    gc.collect()
    heap.collect()
    assert [w() for w in weak] == [None] * 4
    assert "dead" in repr(weak[0])


def test_equality_and_hash(heap: gcheap.Heap) -> None:
    node = heap.struct("Node", next=gcheap.Ref)
    a, b = heap.new(node, 2)
    one, two, other = gcheap.WeakRef(a), gcheap.WeakRef(a), gcheap.WeakRef(b)
    late = gcheap.WeakRef(a)
    assert one == two
    assert one != other
    assert one != a
    assert one is not None
    assert hash(one) == hash(two) == hash(a)
    assert len({one, two, other}) == 2
    b.next = one
    stored = b.next
    assert stored == one
    assert stored is not one
    del a
    heap.collect()
    assert one() is None
    assert one == one
    assert one == stored
    assert one != two
    assert hash(one) == hash(two)
    with pytest.raises(TypeError, match="hash"):
        hash(late)
    with gcheap.Heap(max_size="8MiB") as elsewhere:
        foreign = elsewhere.refs(1)
        assert gcheap.WeakRef(foreign) != one
        with pytest.raises(ValueError, match="another heap"):
            b.next = gcheap.WeakRef(foreign)
        with pytest.raises(ValueError, match="another heap"):
            gcheap.Ephemeron(b, foreign)
        with pytest.raises(ValueError, match="another heap"):
            heap.weakrefs(foreign)


def test_wrong_arguments(heap: gcheap.Heap) -> None:
    node = heap.struct("Node", next=gcheap.Ref)
    a = heap.new(node, 1)[0]
    for wrong in (3, None, "a"):
        with pytest.raises(TypeError, match="expected a reference"):
            gcheap.WeakRef(wrong)
        with pytest.raises(TypeError, match="expected a reference"):
            gcheap.Ephemeron(wrong)
    with pytest.raises(gcheap.NullReferenceError):
        gcheap.WeakRef(a.next)
    with pytest.raises(gcheap.NullReferenceError):
        gcheap.Ephemeron(a.next, a)
    with pytest.raises(TypeError, match="value"):
        gcheap.Ephemeron(a, 3)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(gcheap.WeakRef(a))
    weak = gcheap.WeakRef(a)
    assert copy.copy(weak) is weak


def test_closed_heap() -> None:
    heap = gcheap.Heap(max_size="8MiB")
    made = heap.refs(2)
    weak, ephemeron, array = gcheap.WeakRef(made), gcheap.Ephemeron(made), heap.weakrefs(made)
    finalizer = heap.finalize(made, print)
    heap.close()
    for call in (weak, lambda: ephemeron.key, array.refs, lambda: array[0], heap.run_finalizers):
        with pytest.raises(gcheap.HeapClosedError):
            call()
    assert "closed" in repr(weak)
    assert "closed" in repr(ephemeron)
    assert finalizer.alive


def test_arrays(heap: gcheap.Heap) -> None:
    node = heap.struct("Node", weight="i8")
    nodes = heap.new(node, 100_000)
    nodes.weight = np.arange(100_000)
    nodes[5] = None
    weak = heap.weakrefs(nodes)
    assert len(weak) == 100_000
    assert np.flatnonzero(weak.is_null).tolist() == [5]
    kept = nodes[::3]
    assert weak[7].weight == 7
    assert weak[-1].weight == 99_999
    assert weak[5].is_null
    del nodes
    event = heap.collect(concurrent=True, policy="all")
    expected = np.arange(100_000) % 3 == 0
    assert event.weak_cleared == 99_999 - int(expected.sum())
    np.testing.assert_array_equal(weak.is_null, ~expected)
    found = weak.refs()
    np.testing.assert_array_equal(found.is_null, ~expected)
    np.testing.assert_array_equal(found[expected].weight, np.flatnonzero(expected))
    assert bool(np.all(found[expected] == kept))
    assert weak[1].is_null
    assert weak[3].weight == 3
    for wrong in (slice(0, 2), "a", True):
        with pytest.raises(TypeError, match="integer"):
            weak[wrong]
    for beyond in (100_000, -100_001, 2**70):
        with pytest.raises(IndexError, match=f"index {beyond} is out of range"):
            weak[beyond]
    with pytest.raises(IndexError):
        heap.weakrefs([])[0]
    few = heap.weakrefs([kept[0], None, heap.array("u1", 3)])
    heap.collect()
    assert few.is_null.tolist() == [False, True, True]


def test_extraction_does_not_follow_them(heap: gcheap.Heap) -> None:
    node = heap.struct("Node", next=gcheap.Ref)
    a, b = heap.new(node, 2)
    a.next = gcheap.WeakRef(b)
    graph = heap.extract(heap.refs([a]))
    assert len(graph.sizes) == 2
    assert "WeakRef" in str(graph.type_names)


# --- finalizers ----------------------------------------------------------------------------------


def test_callbacks_run_in_order_and_once(heap: gcheap.Heap) -> None:
    node = heap.struct("Node", next=gcheap.Ref)
    nodes, ran = heap.new(node, 6), []
    finalizers = [heap.finalize(nodes[i], ran.append, i) for i in (3, 1, 5, 0, 1)]
    kept = heap.finalize(nodes, lambda **named: ran.append(named), why="array")
    heap.collect()
    assert ran == []
    assert all(f.alive for f in finalizers)
    nodes[1] = nodes[5] = nodes[3] = None
    assert finalizers[2].detach()
    assert not finalizers[2].detach()
    assert not finalizers[2].alive
    heap.collect(concurrent=True)
    assert ran == [3, 1, 1]
    assert [f.alive for f in finalizers] == [False, False, False, True, False]
    assert finalizers[0]() is None
    assert ran == [3, 1, 1]
    finalizers[3]()
    assert ran == [3, 1, 1, 0]
    assert not finalizers[3].alive
    del nodes
    heap.collect()
    assert ran == [3, 1, 1, 0, {"why": "array"}]
    assert not kept.alive
    assert heap.run_finalizers() == 0


def test_points_at_which_they_run(heap: gcheap.Heap) -> None:
    node = heap.struct("Node", next=gcheap.Ref)
    ran: list[str] = []

    def due(name: str) -> None:
        heap.finalize(heap.new(node, 1), ran.append, name)
        core = heap._core
        options, report = ffi.new("gch_collect_options *"), ffi.new("gch_cycle *")
        lib.gch_collect_options_init_sized(options, ffi.sizeof("gch_collect_options"))
        core.settle()
        core.call(lib.bulk_collect, options, report)  # as an allocation in C would
        assert ran == []

    for name, point in {
        "run": heap.run_finalizers,
        "new": lambda: heap.new(node, 1),
        "refs": lambda: heap.refs(3),
        "array": lambda: heap.array("u1", 3),
        "collect": lambda: heap.collect(minor=True),
        "wait": heap.wait,
    }.items():
        due(name)
        point()
        assert ran == [name]
        ran.clear()


def test_exceptions_are_unraisable(heap: gcheap.Heap, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda args: seen.append((args.exc_value, repr(args.object)))
    )
    ran: list[int] = []

    def fail() -> None:
        raise KeyError("lost")

    heap.finalize(heap.refs(1), fail)
    heap.finalize(heap.refs(1), ran.append, 1)
    heap.collect()
    assert ran == [1]
    assert [repr(error) for error, _ in seen] == ["KeyError('lost')"]
    assert "fail" in seen[0][1]


def test_interrupts_get_through(heap: gcheap.Heap) -> None:
    ran: list[int] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    heap.finalize(heap.refs(1), interrupt)
    heap.finalize(heap.refs(1), ran.append, 1)
    with pytest.raises(KeyboardInterrupt):
        heap.collect()
    assert ran == []
    assert heap.run_finalizers() == 1
    assert ran == [1]


def test_callbacks_use_the_heap(heap: gcheap.Heap) -> None:
    """They may allocate, collect and register; not one inside another."""
    depth, most, ran = 0, 0, 0

    def again(left: int) -> None:
        nonlocal depth, most, ran
        depth, ran = depth + 1, ran + 1
        most = max(most, depth)
        if left:
            heap.finalize(heap.refs(2), again, left - 1)
            heap.collect()
        assert heap.run_finalizers() == 0
        depth -= 1

    heap.finalize(heap.refs(2), again, 5)
    heap.collect()
    assert (ran, most) == (6, 1)


def test_a_callback_closes_the_heap() -> None:
    heap = gcheap.Heap(max_size="8MiB")
    ran: list[int] = []
    heap.finalize(heap.refs(1), heap.close)
    heap.finalize(heap.refs(1), ran.append, 1)
    heap.collect()
    with pytest.raises(gcheap.HeapClosedError):
        heap.run_finalizers()


def test_wrong_finalizers(heap: gcheap.Heap) -> None:
    node = heap.struct("Node", next=gcheap.Ref)
    a = heap.new(node, 1)[0]
    with pytest.raises(TypeError, match="reference"):
        heap.finalize(3, print)
    with pytest.raises(TypeError, match="callback"):
        heap.finalize(a, 3)  # type: ignore[arg-type]
    with pytest.raises(gcheap.NullReferenceError):
        heap.finalize(a.next, print)
    with pytest.raises(gcheap.NullReferenceError):
        heap.finalize(None, print)
    assert not heap._core.callbacks


def test_many_threads(heap: gcheap.Heap) -> None:
    """Each callback runs once, whoever collects."""
    ran: list[int] = []

    def work(first: int) -> None:
        for i in range(first, first + 200):
            heap.finalize(heap.refs(2), ran.append, i)
            if i % 50 == 0:
                heap.collect(concurrent=i % 100 == 0)

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heap.collect()
    heap.run_finalizers()
    assert sorted(ran) == [1000 * n + i for n in range(3) for i in range(200)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork: not on this system")
def test_fork(heap: gcheap.Heap) -> None:
    """A child has tables of its own: what is due in both runs in both."""
    kept = heap.refs(3)
    weak, ran = gcheap.WeakRef(kept), []
    heap.finalize(heap.refs(1), ran.append, 1)
    heap.finalize(kept, ran.append, 2)
    pid = os.fork()
    if pid == 0:
        try:
            heap.collect()
            alive = weak() is not None
            del kept
            heap.collect()
            os._exit(0 if alive and ran == [1, 2] and weak() is None else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    heap.collect()
    assert ran == [1]
    assert weak() is not None
