"""An arena that a selective flip leaves at home refers to nothing that moves (summary_anywhere).

While it is marked, the arena referred to nothing that moves. Whatever comes to refer to it since
sets the arena's ``anywhere``: a minor, which cleans the card of a store, or a birth in the arena.
The driver first asks that this be noted, then looks at the flag, and leaves the arena at home;
the flip's pause, after its minor, recalls what has been noted.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import END, Actor, Answer, Model, Step, check, jump
from gcheap.models import Case

MUTANTS = {
    "notes_late": "the driver asks for notes when it has looked at the arena",
    "looks_at_nothing": "the driver does not look at the flag",
    "no_note": "who sets the flag does not note it",
    "asks_before_flag": "whether to note is asked before the flag is set, and no lock waited for",
    "recalls_before_minor": "the pause recalls what is noted, and then its minor cleans cards",
    "not_armed": "what is recalled is not armed",
}


class State(NamedTuple):
    refers: bool = False
    """An object of the arena refers to what moves."""
    dirty: bool = False
    """Its card."""
    born: bool = False
    """A block of the arena was born since the mark; it refers to what moves."""
    anywhere: bool = False
    notes: bool = False
    noted: bool = False
    arming: bool = False
    home: bool = False
    goes: bool = False
    """The arena is one of those that the pause takes."""
    armed: bool = False
    """The units of what was there when it was marked."""
    born_armed: bool = False
    busy: frozenset[str] = frozenset()
    """Mutators in a store or a birth: not at a safepoint."""
    space: str = ""
    """Who has the lock of the space."""
    cycle: str = ""
    """Who has the cycle lock; the world is stopped while a minor or the pause has it."""
    stopped: bool = False


def _told(mutant: str | None) -> list[Step[State]]:
    """summary_anywhere. Who finds the flag set has nothing to note."""

    def summary_anywhere(s: State) -> Answer[State]:
        return jump("told", s) if s.anywhere else s

    def flag(s: State) -> State:
        return s._replace(anywhere=True)

    def note(s: State) -> State:
        return s._replace(noted=s.noted or s.notes)

    def asked(s: State) -> Answer[State]:
        """In the wrong order."""
        return s if s.notes else jump("flag_only", s)

    def flag_and_note(s: State) -> Answer[State]:
        return jump("told", s._replace(anywhere=True, noted=True))

    def flag_only(s: State) -> State:
        return s._replace(anywhere=True)

    if mutant == "no_note":
        return [summary_anywhere, flag]
    if mutant == "asks_before_flag":
        return [summary_anywhere, asked, flag_and_note, flag_only]
    return [summary_anywhere, flag, note]


def _storer() -> Actor[State]:
    def gch_store(s: State) -> Answer[State]:
        return None if s.stopped else s._replace(busy=s.busy | {"storer"}, refers=True)

    def gch_mark_card(s: State) -> State:
        return s._replace(busy=s.busy - {"storer"}, dirty=True)

    return Actor("storer", [gch_store, gch_mark_card])


def _birth(mutant: str | None) -> Actor[State]:
    """A mutator, or the promotion of somebody's minor."""

    def small_take(s: State) -> Answer[State]:
        if s.stopped or s.space:
            return None
        return s._replace(busy=s.busy | {"birth"}, space="birth")

    def block_assign(s: State) -> State:
        return s._replace(born=True)

    def told(s: State) -> State:
        return s._replace(born_armed=s.born_armed or s.arming)

    def leave(s: State) -> State:
        return s._replace(space="", busy=s.busy - {"birth"})

    return Actor("birth", [small_take, block_assign, *_told(mutant), told, leave])


def _minor(mutant: str | None) -> Actor[State]:
    """One beside the driver, at any time before the flip, or never."""

    def world_stop(s: State) -> Answer[State]:
        return None if s.cycle else s._replace(cycle="minor", stopped=True)

    def cards_visit(s: State) -> Answer[State]:
        if s.busy:
            return None
        return s._replace(dirty=False) if s.dirty else jump("told", s)

    def told(s: State) -> State:
        return s._replace(cycle="", stopped=False)

    return Actor("minor", [world_stop, cards_visit, *_told(mutant), told])


def _driver(mutant: str | None) -> Actor[State]:
    def begin_selecting(s: State) -> State:
        return s._replace(notes=mutant != "notes_late")

    def begin_arming(s: State) -> Answer[State]:
        """And once through the lock of the space: births that have not seen it are over."""
        waits = s.space and mutant != "asks_before_flag"
        return None if waits else s._replace(arming=True)

    def select_arena(s: State) -> Answer[State]:
        if s.cycle:
            return None
        if s.anywhere and mutant != "looks_at_nothing":
            return s._replace(goes=True)
        return s._replace(home=True)

    def asks_late(s: State) -> State:
        return s._replace(notes=True)

    def arm_small(s: State) -> Answer[State]:
        if s.cycle or s.space:
            return None
        return s if s.home else s._replace(armed=True, born_armed=s.born_armed or s.born)

    def flip_pause(s: State) -> Answer[State]:
        return None if s.cycle or s.space else s._replace(cycle="driver", stopped=True)

    def minor_collect(s: State) -> Answer[State]:
        if s.busy:
            return None
        return s._replace(dirty=False) if s.dirty else jump("told", s)

    def told(s: State) -> State:
        return s

    def arm_recalled(s: State) -> State:
        s = s._replace(notes=False)
        if not s.noted:
            return s
        s = s._replace(home=False, goes=True)
        if mutant == "not_armed":
            return s
        return s._replace(armed=True, born_armed=s.born_armed or s.born)

    def flip_regions(s: State) -> Answer[State]:
        check(
            not s.home or not (s.refers or s.born), "what is at home refers to nothing that moves"
        )
        check(s.home or s.goes, "the arena stays, or goes")
        check(s.home or s.armed, "what goes is armed")
        check(not s.born or s.born_armed, "what was born is armed")
        return jump(END, s._replace(cycle="", stopped=False))

    late = [asks_late] if mutant == "notes_late" else []
    pause: list[Step[State]] = [minor_collect, *_told(mutant), told, arm_recalled]
    if mutant == "recalls_before_minor":
        pause = [arm_recalled, minor_collect, *_told(mutant), told]
    steps: list[Step[State]] = [begin_selecting, begin_arming, select_arena, *late, arm_small]
    return Actor("driver", [*steps, flip_pause, *pause, flip_regions])


def build(mutant: str | None) -> Model[State]:
    return Model(
        "select",
        State(),
        [_storer(), _birth(mutant), _minor(mutant), _driver(mutant)],
    )


CASE = Case(
    "select",
    "arenas are left at home by a flip, and recalled if something in them refers to what moves",
    ("src/gc/arm.c", "src/gc/flip.c", "src/gc/cards.c", "src/heap/summary.h", "src/heap/small.c",
     "src/gc/cycle.c"),
    ("summary_anywhere", "notes", "noted", "begin_selecting", "begin_arming", "select_arena",
     "arm_small", "arm_recalled", "flip_regions", "flip_pause", "minor_collect", "block_assign",
     "small_take", "cards_visit"),
    build,
    MUTANTS,
)  # fmt: skip
