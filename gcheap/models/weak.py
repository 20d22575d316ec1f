"""Weak references are read while a major marks, judges and clears; what is finalized is handed out.

A weak reference is all that leads to R, which refers to C and has a finalizer. One mutator reads
it, and uses what it gets; another one takes R out of the queue. A read asks whether it is judged,
then reads the cell, then looks at the mark of what it has found, and no pause comes in between.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import END, Actor, Answer, Model, Step, check, jump
from gcheap.models import Case

MUTANTS = {
    "no_log": "a read logs nothing",
    "not_judged": "a read gives what is dead as long as the cell has it",
    "asks_late": "a read looks at the cell before it asks whether it is judged",
    "looks_once": "a read trusts a mark without looking at the cell again",
    "judges_late": "it is judged only after the pause in which the mark is found complete",
    "reopens_early": "judging ends before cells are cleared",
    "queue_first": "what has a finalizer is marked before cells are cleared",
    "publishes_early": "the queue hands out what is not marked to its end",
}


class State(NamedTuple):
    marking: bool = True
    """Stores and reads log."""
    judging: bool = False
    cell: bool = True
    """It has R's address."""
    marked: frozenset[str] = frozenset()
    freed: frozenset[str] = frozenset()
    log: frozenset[str] = frozenset()
    queue: str = "empty"
    reading: bool = False
    """Inside of a read: not at a safepoint."""
    asked: bool = False
    """What the read was told of judging."""
    found: bool = False
    has: bool = False
    """The reader has R."""
    over: bool = False


def _reader(mutant: str | None) -> Actor[State]:
    def gch_weak_get(s: State) -> Answer[State]:
        if s.over:
            return jump(END, s)
        return s._replace(reading=True, asked=s.judging, found=False)

    def weak_read(s: State) -> State:
        return s._replace(found=s.cell)

    def ask(s: State) -> State:
        return s._replace(asked=s.judging)

    def weak_is_unmarked(s: State) -> Answer[State]:
        dead = s.asked and "R" not in s.marked and mutant != "not_judged"
        if dead or not s.found:
            return jump("gch_weak_get", s._replace(reading=False))
        return s

    def look_again(s: State) -> Answer[State]:
        """What had died has been marked since, for the queue: but the cell was cleared before."""
        if s.asked and not s.cell and mutant not in ("looks_once", "not_judged"):
            return jump("gch_weak_get", s._replace(reading=False))
        return s

    def gch_log(s: State) -> State:
        logs = s.marking and mutant != "no_log"
        log = s.log | {"R"} if logs else s.log
        return s._replace(log=log, reading=False, has=True)

    def use(s: State) -> State:
        check(not s.freed, "what a read gives is not freed")
        return s

    def use_later(s: State) -> Answer[State]:
        return use(s) if s.over else None

    late: list[Step[State]] = [ask] if mutant == "asks_late" else []
    steps = [gch_weak_get, weak_read, *late, weak_is_unmarked, look_again]
    return Actor("reader", [*steps, gch_log, use, use_later])


def _taker() -> Actor[State]:
    def gch_finalizer_next(s: State) -> Answer[State]:
        if s.queue != "handed out":
            return jump(END, s) if s.over else None
        check(not s.has, "what is finalized nobody has")
        return s

    def use_child(s: State) -> Answer[State]:
        if not s.over:
            return None
        check("C" not in s.freed, "what the queue gives is whole")
        return s

    return Actor("taker", [gch_finalizer_next, use_child])


def _marker(mutant: str | None) -> Actor[State]:
    def mark_remark(s: State) -> Answer[State]:
        """World stopped."""
        if s.reading:
            return None
        marked = frozenset({"R", "C"}) if s.log else s.marked
        return s._replace(marked=marked, marking=False, judging=mutant != "judges_late")

    def judging(s: State) -> State:
        return s._replace(judging=True)

    def clear_cells(s: State) -> State:
        return s._replace(cell=s.cell and "R" in s.marked)

    def cells_cleared(s: State) -> State:
        return s._replace(judging=False)

    def finalizers_judge(s: State) -> State:
        return s if "R" in s.marked else s._replace(queue="judged")

    def finalizers_judged(s: State) -> State:
        return s._replace(marked=s.marked | {"R"}) if s.queue != "empty" else s

    def mark_judged(s: State) -> State:
        return s._replace(marked=s.marked | {"C"}) if s.queue != "empty" else s

    def finalizers_publish(s: State) -> State:
        return s._replace(queue="handed out") if s.queue == "judged" else s

    def sweep_dead(s: State) -> State:
        return s._replace(freed=frozenset({"R", "C"}) - s.marked, over=True)

    cells: list[Step[State]] = [clear_cells, cells_cleared]
    queue: list[Step[State]] = [
        finalizers_judge,
        finalizers_judged,
        mark_judged,
        finalizers_publish,
    ]
    if mutant == "reopens_early":
        cells.reverse()
    if mutant == "publishes_early":
        queue = [finalizers_judge, finalizers_publish, finalizers_judged]
    order = [*queue, *cells] if mutant == "queue_first" else [*cells, *queue]
    return Actor("marker", [mark_remark, judging, *order, sweep_dead])


def build(mutant: str | None) -> Model[State]:
    return Model("weak", State(), [_reader(mutant), _taker(), _marker(mutant)])


CASE = Case(
    "weak",
    "weak references are read while a major judges and clears them; finalizers take the dead",
    ("src/gc/weak.c", "src/gc/mark.c", "src/gc/marker.c", "src/gc/mark_cells.c",
     "src/gc/finalize.c", "src/gc/sweep.c"),
    ("gch_weak_get", "weak_read", "weak_is_unmarked", "gch_log",
     "gch_finalizer_next", "mark_remark", "judging", "clear_cells", "cells_cleared",
     "finalizers_judge", "finalizers_judged", "mark_judged", "finalizers_publish", "sweep_dead"),
    build,
    MUTANTS,
)  # fmt: skip
