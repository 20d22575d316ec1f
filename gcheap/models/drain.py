"""The end of a move against threads that answer faults: faults_drain, and who enters too late.

A thread in its signal handler counts itself, then looks whether a move is going on; the end writes
the phase, then waits for the count (Dekker). Only when everybody has left are the units reset. Who
comes later finds END, and touches again.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import Actor, Answer, Model, Step, check, jump
from gcheap.models import Case
from gcheap.models._memory import Memory, cpu

THREAD, ENDER = range(2)
MOVE, END = range(2)

MUTANTS = {
    "enter_relaxed": "the count is stored without an order towards the load of the phase",
    "phase_relaxed": "the phase is stored without an order towards the load of the count",
    "looks_before_it_counts": "the phase is read first, then the thread counts itself",
    "reset_before_drain": "units are reset while threads may be inside",
    "late_fault_is_an_error": "a fault that comes after END is taken for a broken invariant",
}


class State(NamedTuple):
    memory: Memory = Memory.of(2, inside=0, phase=MOVE)
    unit: str = "BUSY"
    page: bool = False
    moving: bool = False
    """What the thread has seen."""


def _thread(mutant: str | None) -> Actor[State]:
    def touch(s: State) -> Answer[State]:
        return jump("(end)", s) if s.page else s

    def count(s: State) -> State | None:
        if mutant == "enter_relaxed":
            return s._replace(memory=s.memory.store(THREAD, "inside", 1))
        memory = s.memory.store_seq(THREAD, "inside", 1)
        return None if memory is None else s._replace(memory=memory)

    def enter(s: State) -> State:
        return s._replace(moving=s.memory.load(THREAD, "phase") == MOVE)

    def produce_ensure(s: State) -> Answer[State]:
        if not s.moving:
            check(mutant != "late_fault_is_an_error", "nobody touches what is missing in no move")
            return jump("leave", s)
        check(s.unit != "NONE", "a touch in a move lies in a unit of it")
        return jump("leave", s) if s.unit == "MAPPED" else None

    def leave(s: State) -> Answer[State]:
        memory = s.memory.store(THREAD, "inside", 0)
        return jump("touch", s._replace(memory=memory, moving=False))

    order: list[Step[State]] = [count, enter]
    if mutant == "looks_before_it_counts":
        order = [enter, count]
    return Actor("thread", [touch, *order, produce_ensure, leave])


def _ender(mutant: str | None) -> Actor[State]:
    """The last unit's owner, and end_phase of gc/cycle.c."""

    def publish(s: State) -> State:
        return s._replace(page=True)

    def unit_published(s: State) -> State:
        return s._replace(unit="MAPPED")

    def phase_entered(s: State) -> State | None:
        if mutant == "phase_relaxed":
            return s._replace(memory=s.memory.store(ENDER, "phase", END))
        memory = s.memory.store_seq(ENDER, "phase", END)
        return None if memory is None else s._replace(memory=memory)

    def faults_drain(s: State) -> State | None:
        return s if s.memory.load(ENDER, "inside") == 0 else None

    def unit_reset(s: State) -> State:
        return s._replace(unit="NONE")

    drained: list[Step[State]] = [faults_drain, unit_reset]
    if mutant == "reset_before_drain":
        drained = [unit_reset, faults_drain]
    return Actor("cycle", [publish, unit_published, phase_entered, *drained])


def _put(s: State, memory: Memory) -> State:
    return s._replace(memory=memory)


def build(mutant: str | None) -> Model[State]:
    cpus = [cpu(number, lambda s: s.memory, _put) for number in (THREAD, ENDER)]
    return Model(
        "drain",
        State(),
        [_thread(mutant), _ender(mutant), *cpus],
        final={"the units are reset": lambda s: s.unit == "NONE"},
    )


CASE = Case(
    "drain",
    "the end of a move waits for threads that answer faults",
    ("src/gc/faults.c", "src/gc/cycle.c", "src/gc/phase.c", "src/heap/unit.h"),
    ("faults_drain", "enter", "leave", "inside", "phase_entered", "unit_reset", "produce_ensure"),
    build,
    MUTANTS,
)
