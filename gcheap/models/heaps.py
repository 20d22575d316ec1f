"""Two heaps, two threads that are mutators of both: no pause waits for who waits for a pause.

Each thread collects one of the heaps: all its mutators become native, it takes the heap's cycle
lock, stops that heap's world, and lets it run again. Then its mutators become managed again, all
together, or none while one of the heaps is stopped; they attached in different orders. Each heap
has a controller that collects it, too.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import END, Actor, Answer, Model, Step, check, jump, replaced
from gcheap.models import Case

HEAPS = 2
NATIVE, MANAGED = "NATIVE", "MANAGED"

MUTANTS = {
    "one_becomes_native": "only the mutator of the heap that is waited for becomes native",
    "leaves_one_by_one": "who is managed again in one heap waits for the other as it is",
    "managed_without_look": "mutators become managed without a look at the pauses of all heaps",
}


class State(NamedTuple):
    mutator: tuple[tuple[str, ...], ...] = ((MANAGED,) * HEAPS,) * HEAPS
    """By thread, by heap."""
    lock: tuple[int, ...] = (-1,) * HEAPS
    """Cycle locks."""
    stop: tuple[bool, ...] = (False,) * HEAPS
    pause: tuple[bool, ...] = (False,) * HEAPS


def _becomes(s: State, me: int, heap: int, state: str) -> State:
    mine = replaced(s.mutator[me], heap, state)
    return s._replace(mutator=replaced(s.mutator, me, mine))


def _collection(heap: int, who: int) -> list[Step[State]]:
    def cycle_lock(s: State) -> State | None:
        return s._replace(lock=replaced(s.lock, heap, who)) if s.lock[heap] < 0 else None

    def world_stopping(s: State) -> State:
        return s._replace(stop=replaced(s.stop, heap, True))

    def world_stopped(s: State) -> State | None:
        if any(thread[heap] == MANAGED for thread in s.mutator):
            return None
        return s._replace(pause=replaced(s.pause, heap, True))

    def world_resumed(s: State) -> State:
        pause, stop = replaced(s.pause, heap, False), replaced(s.stop, heap, False)
        return s._replace(pause=pause, stop=stop, lock=replaced(s.lock, heap, -1))

    return [cycle_lock, world_stopping, world_stopped, world_resumed]


def _leaving(me: int, order: tuple[int, ...], mutant: str | None) -> list[tuple[str, Step[State]]]:
    """mutators_leave_native: a try for each heap, then a wait for each."""

    def try_leave(heap: int) -> Step[State]:
        def become(s: State) -> Answer[State]:
            managed = _becomes(s, me, heap, MANAGED)
            if not s.stop[heap] or mutant == "managed_without_look":
                return managed
            if mutant == "leaves_one_by_one":
                return None
            for other in range(HEAPS):
                s = _becomes(s, me, other, NATIVE)
            return jump(f"wait_resumed {heap}", s)

        return become

    def wait_resumed(heap: int) -> Step[State]:
        return lambda s: None if s.stop[heap] else jump(f"try_leave {order[0]}", s)

    tries = [(f"try_leave {heap}", try_leave(heap)) for heap in order]
    return [*tries, *((f"wait_resumed {heap}", wait_resumed(heap)) for heap in order)]


def _thread(me: int, mutant: str | None) -> Actor[State]:
    """Collects the heap of its own number."""
    order = (me, 1 - me)

    def work(s: State) -> State:
        for heap in range(HEAPS):
            check(not s.pause[heap], "nobody touches a heap in its pause")
        return s

    def enter(heap: int) -> Step[State]:
        def mutators_enter_native(s: State) -> State:
            if mutant == "one_becomes_native" and heap != me:
                return s
            return _becomes(s, me, heap, NATIVE)

        return mutators_enter_native

    def works_again(s: State) -> State:
        return work(s)

    def gch_detach(s: State) -> Answer[State]:
        for heap in range(HEAPS):
            s = _becomes(s, me, heap, NATIVE)
        return jump(END, s)

    leaving = _leaving(me, order, mutant)
    return Actor(
        f"thread {me}",
        [
            work,
            *((f"mutators_enter_native {heap}", enter(heap)) for heap in order),
            *_collection(me, me),
            *leaving[:HEAPS],
            works_again,
            gch_detach,
            *leaving[HEAPS:],
        ],
    )


def build(mutant: str | None) -> Model[State]:
    return Model(
        "heaps",
        State(),
        [
            *(_thread(me, mutant) for me in range(HEAPS)),
            *(Actor(f"control {h}", _collection(h, HEAPS + h)) for h in range(HEAPS)),
        ],
        final={"no world is stopped": lambda s: not any(s.stop)},
    )


CASE = Case(
    "heaps",
    "two threads are mutators of two heaps, and all collect",
    ("src/gc/safepoint.c",),
    ("mutators_enter_native", "try_leave", "wait_resumed", "world_stopping", "world_stopped",
     "world_resumed", "cycle_lock"),
    build,
    MUTANTS,
)  # fmt: skip
