"""The registry of heaps, which signal handlers read without a lock, against the end of a heap.

A handler counts itself as a user of the slot, then reads which heap is there; who destroys the heap
clears the slot, then waits for the users (Dekker), then frees.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import END, Actor, Answer, Model, Step, check, jump
from gcheap.models import Case
from gcheap.models._memory import Memory, cpu

HANDLER, DESTROYER = range(2)

MUTANTS = {
    "users_relaxed": "the count is stored without an order towards the load of the slot",
    "slot_relaxed": "the slot is cleared without an order towards the load of the count",
    "reads_before_it_counts": "the slot is read first, then the handler counts itself",
    "frees_at_once": "the heap is freed without waiting for users",
    "leaves_before_use": "the handler leaves before it has done with the heap",
}


class State(NamedTuple):
    memory: Memory = Memory.of(2, users=0, slot=1)
    heap: bool = True
    has: bool = False
    """The handler has read the heap's address."""


def _handler(mutant: str | None) -> Actor[State]:
    def count(s: State) -> State | None:
        if mutant == "users_relaxed":
            return s._replace(memory=s.memory.store(HANDLER, "users", 1))
        memory = s.memory.store_seq(HANDLER, "users", 1)
        return None if memory is None else s._replace(memory=memory)

    def heap_entered(s: State) -> State:
        return s._replace(has=s.memory.load(HANDLER, "slot") == 1)

    def use(s: State) -> State:
        check(s.heap or not s.has, "a heap that a handler has entered is there")
        return s

    def registry_leave(s: State) -> State:
        return s._replace(memory=s.memory.store(HANDLER, "users", 0))

    def over(s: State) -> Answer[State]:
        return jump(END, s)

    enter: list[Step[State]] = [count, heap_entered]
    if mutant == "reads_before_it_counts":
        enter.reverse()
    uses: list[Step[State]] = [use, registry_leave]
    if mutant == "leaves_before_use":
        uses.reverse()
    return Actor("handler", [*enter, *uses, over])


def _destroyer(mutant: str | None) -> Actor[State]:
    def registry_remove(s: State) -> State | None:
        if mutant == "slot_relaxed":
            return s._replace(memory=s.memory.store(DESTROYER, "slot", 0))
        memory = s.memory.store_seq(DESTROYER, "slot", 0)
        return None if memory is None else s._replace(memory=memory)

    def wait_users(s: State) -> State | None:
        waits = s.memory.load(DESTROYER, "users") != 0 and mutant != "frees_at_once"
        return None if waits else s

    def free(s: State) -> State:
        return s._replace(heap=False)

    return Actor("destroyer", [registry_remove, wait_users, free])


def _put(s: State, memory: Memory) -> State:
    return s._replace(memory=memory)


def build(mutant: str | None) -> Model[State]:
    cpus = [cpu(number, lambda s: s.memory, _put) for number in (HANDLER, DESTROYER)]
    return Model(
        "registry",
        State(),
        [_handler(mutant), _destroyer(mutant), *cpus],
        final={"the heap is gone": lambda s: not s.heap},
    )


CASE = Case(
    "registry",
    "a heap ends while signal handlers look for it",
    ("src/gc/registry.c", "src/gc/registry.h"),
    ("heap_entered", "registry_enter", "registry_leave", "registry_remove", "users"),
    build,
    MUTANTS,
)
