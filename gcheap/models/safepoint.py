"""Stopping the world against mutators that come and go: Dekker, and waits that miss no wake-up.

A mutator leaves native state and touches the heap; where the world is stopped it goes back to
native state and waits; at the end it enters native state for good. The stopper stops the world
once. Stores that are not sequentially consistent reach memory late.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import Actor, Answer, Model, jump, replaced
from gcheap.models import Case
from gcheap.models._memory import Memory, cpu
from gcheap.models._world import Labelled, World, leave_world, lifted, stopper, wait_for_world

MUTATORS = 2
NATIVE, MANAGED = range(2)

MUTANTS = {
    "managed_relaxed": "MANAGED is stored without an order towards the load of stop",
    "native_relaxed": "NATIVE is stored without an order towards the load of stop",
    "stop_relaxed": "stop is stored without an order towards the loads of the states",
    "looks_before_managed": "the mutator looks at stop first, then stores MANAGED",
    "no_look_after_managed": "the mutator goes on without looking at stop",
    "no_wake": "who becomes native does not wake the stopper",
    "wake_without_lock": "the stopper is signalled without its lock",
    "resume_without_lock": "stop is cleared and waiters are woken without the lock",
    "waits_managed": "who waits for the world to run stays MANAGED",
}


class State(NamedTuple):
    world: World
    in_heap: tuple[bool, ...] = (False,) * MUTATORS


def _world(s: State) -> World:
    return s.world


def _put(s: State, world: World) -> State:
    return s._replace(world=world)


def _put_memory(s: State, memory: Memory) -> State:
    return s._replace(world=s.world._replace(memory=memory))


def _becoming(me: int, mutant: str | None) -> Labelled[World]:
    """mutator_leave_native, up to where it is decided whether the world runs."""
    name = f"state{me}"

    def mutator_managed(w: World) -> World | None:
        return w.stored(me, name, MANAGED, relaxed=mutant == "managed_relaxed")

    def look(w: World) -> Answer[World]:
        if not w.stop(me) or mutant == "no_look_after_managed":
            return jump("work", w)
        return jump("wait_resumed", w) if mutant == "waits_managed" else w

    def look_first(w: World) -> Answer[World]:
        return jump("wait_resumed", w) if w.stop(me) else w

    def back_to_native(w: World) -> World | None:
        return w.stored(me, name, NATIVE, relaxed=mutant == "native_relaxed")

    if mutant == "looks_before_managed":
        first: Labelled[World] = [
            ("look", look_first),
            ("mutator_managed", mutator_managed),
            ("go_on", lambda w: jump("work", w)),
        ]
    else:
        first = [("mutator_managed", mutator_managed), ("look", look)]
    again = first[0][0]
    return [*first, ("back_to_native", back_to_native), *wait_for_world(me, again, mutant)]


def _mutator(me: int, mutant: str | None) -> Actor[State]:
    def work(s: State) -> State:
        return s._replace(in_heap=replaced(s.in_heap, me, True))

    def worked(s: State) -> State:
        return s._replace(in_heap=replaced(s.in_heap, me, False))

    def mutator_native(w: World) -> World | None:
        return w.stored(me, f"state{me}", NATIVE, relaxed=mutant == "native_relaxed")

    ends: Labelled[World] = [("mutator_native", mutator_native), *leave_world(me, mutant)]
    return Actor(
        f"mutator {me}",
        [*lifted(_world, _put, _becoming(me, mutant)), work, worked, *lifted(_world, _put, ends)],
    )


def _all_stopped(w: World) -> bool:
    return all(w.memory.load(w.stopper, f"state{m}") == NATIVE for m in range(MUTATORS))


def build(mutant: str | None) -> Model[State]:
    states = {f"state{m}": NATIVE for m in range(MUTATORS)}
    return Model(
        "safepoint",
        State(World(Memory.of(MUTATORS + 1, stop=0, **states))),
        [
            *(_mutator(m, mutant) for m in range(MUTATORS)),
            Actor("stopper", lifted(_world, _put, stopper(_all_stopped, mutant))),
            *(cpu(n, lambda s: s.world.memory, _put_memory) for n in range(MUTATORS + 1)),
        ],
        invariants={
            "nobody touches the heap in a pause": lambda s: not s.world.pause or not any(s.in_heap)
        },
        final={"the lock is free": lambda s: s.world.lock < 0},
    )


CASE = Case(
    "safepoint",
    "the world stops and runs again, mutators come and go (Dekker, condition variables)",
    ("src/gc/safepoint.c",),
    ("world_stopping", "world_stopped", "world_run", "world_resumed", "all_stopped", "wake_stopper",
     "mutator_native", "mutator_managed", "wait_resumed", "cond_wait", "cond_signal", "lock_lock"),
    build,
    MUTANTS,
)  # fmt: skip
