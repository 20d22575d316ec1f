"""A huge arena: made whole, or opened by a fault and made by pieces; its memory goes once.

`made` of the arena decides by one compare-and-swap. Two faults (of units 0 and 1) are answered by
two threads, which open the arena if a place is free; a worker makes it whole if nobody reads its
shadow as a source any more, else opens it, too, and finishes what is open. Meanwhile another unit's
maker reads that shadow. What an open arena is copied from is given back by its closer or by the
last reader, whoever is last. A fault is dropped only if its unit has another owner.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import END, Actor, Answer, Model, Step, check, jump, replaced
from gcheap.models import Case

UNMADE, MAKING, WHOLE = "UNMADE", "MAKING", "WHOLE"
OPEN, CLOSED, GIVEN = "OPEN", "CLOSED", "GIVEN"
ARMED, BUSY, MAPPED = "ARMED", "BUSY", "MAPPED"
UNITS = 2
WORKER = UNITS
FREE, TAKEN, NAMED = "free", "taken", "named"

MUTANTS = {
    "making_by_store": "who opens or makes the arena stores `made`, instead of compare-and-swap",
    "whole_though_read": "the arena is made whole in its shadow while a source is read there",
    "no_wait_for_itself": "an open arena does not count as a reader of its own memory",
    "open_before_counts": "the arena is OPEN before its units and its memory are counted",
    "closed_after_count": "the arena is CLOSED only after it has been counted as read",
    "given_by_every_last": "who is the last reader gives memory back without asking `made`",
    "place_named_early": "the place names the arena before its opener has won",
    "fault_left_to_others": "a fault is dropped while another opens the arena, its unit nobody's",
}


class State(NamedTuple):
    made: str = UNMADE
    unit: tuple[str, ...] = (ARMED,) * UNITS
    places: tuple[str, ...] = (FREE,) * 2
    mine: tuple[int, ...] = (-1,) * (UNITS + 1)
    """By thread: the place in hand."""
    left: int = 0
    pending: int = 1
    shadow: bool = True
    """The memory is there."""
    gone: int = 0
    """Times that it was given back, or moved away."""
    opens: bool = False
    """Who has MAKING opens the arena: units stay ARMED."""


def _gone(s: State) -> State:
    check(s.shadow, "memory is given back once")
    return s._replace(shadow=False, gone=s.gone + 1)


def _reads(s: State) -> State:
    check(s.shadow, "what is read is there")
    return s


def _consume_one(mutant: str | None, then: str) -> list[tuple[str, Step[State]]]:
    """One reader less; the last one gives the memory back, if the arena is CLOSED."""

    def count(s: State) -> Answer[State]:
        after = s._replace(pending=s.pending - 1)
        return after if s.pending == 1 else jump(then, after)

    def arena_consumed(s: State) -> Answer[State]:
        if s.made == CLOSED or (mutant == "given_by_every_last" and s.made != WHOLE):
            return jump(then, _gone(s._replace(made=GIVEN)))
        return jump(then, s)

    return [("consume_one", count), ("arena_consumed", arena_consumed)]


def _opening(me: int, mutant: str | None, lost: str) -> list[tuple[str, Step[State]]]:
    """take_place and open_arena."""

    def take_place(s: State) -> Answer[State]:
        if FREE not in s.places:
            return jump("no_place", s)
        at = s.places.index(FREE)
        place = NAMED if mutant == "place_named_early" else TAKEN
        return s._replace(places=replaced(s.places, at, place), mine=replaced(s.mine, me, at))

    def take_making(s: State) -> Answer[State]:
        if s.made != UNMADE and mutant != "making_by_store":
            places = replaced(s.places, s.mine[me], FREE)
            return jump(lost, s._replace(places=places))
        return s._replace(made=MAKING, opens=True)

    def count_units(s: State) -> State:
        """And the place names the arena: nobody looks at either before it is OPEN."""
        return s._replace(places=replaced(s.places, s.mine[me], NAMED), left=UNITS)

    def count_itself(s: State) -> State:
        return s._replace(pending=s.pending + (mutant != "no_wait_for_itself"))

    def opened(s: State) -> State:
        return s._replace(made=OPEN)

    first = [("take_place", take_place), ("place_taken", take_making)]
    counts = [("arena_opening", count_units), ("count_itself", count_itself)]
    if mutant == "open_before_counts":
        return [*first, ("opened", opened), *counts]
    return [*first, *counts, ("opened", opened)]


def _piece(unit: int, mutant: str | None, then: str) -> list[tuple[str, Step[State]]]:
    """produce_block of one unit of an open arena, then consume_opened."""

    def unit_claimed(s: State) -> Answer[State]:
        if s.made != OPEN or s.unit[unit] != ARMED:
            return jump(then, s)
        return _reads(s)._replace(unit=replaced(s.unit, unit, BUSY))

    def unit_published(s: State) -> State:
        return _reads(s)._replace(unit=replaced(s.unit, unit, MAPPED))

    def consume_opened(s: State) -> Answer[State]:
        if s.made != OPEN:
            return jump(then, s)
        after = s._replace(left=s.left - 1)
        return after if s.left == 1 else jump(then, after)

    def close(s: State) -> State:
        return s._replace(made=CLOSED)

    def free_place(s: State) -> Answer[State]:
        if NAMED in s.places:
            s = s._replace(places=replaced(s.places, s.places.index(NAMED), FREE))
        return jump(then, s)

    closing = [("close_arena", close), *_consume_one(mutant, "free_place")]
    if mutant == "closed_after_count":
        late: tuple[str, Step[State]] = ("close_arena", close)
        count, given = _consume_one(mutant, "close_arena")
        closing = [count, given, late]
    steps: list[tuple[str, Step[State]]] = [
        ("unit_claimed", unit_claimed),
        ("unit_published", unit_published),
        ("consume_opened", consume_opened),
        *closing,
        ("free_place", free_place),
    ]
    return steps


def _answer(unit: int, mutant: str | None) -> Actor[State]:
    """A thread that has read the message of a fault in a unit (answer, produce_unit)."""

    def answer(s: State) -> Answer[State]:
        """With settle_how's look at `made`."""
        if s.unit[unit] != ARMED:
            return jump(END, s)
        return s if s.made == UNMADE else jump("make_touched", s)

    def no_place(s: State) -> Answer[State]:
        return jump("fault_read", s) if FREE in s.places or s.made != UNMADE else None

    def settled(s: State) -> Answer[State]:
        if s.made == OPEN or s.unit[unit] != ARMED:
            return jump("unit_claimed", s)
        if mutant == "fault_left_to_others":
            check(not s.opens, "a fault is dropped only if its unit has an owner")
            return jump(END, s)
        return None

    def dropped(s: State) -> Answer[State]:
        return jump(END, s)

    opening = _opening(unit, mutant, "make_touched")
    pieces = _piece(unit, mutant, "dropped")
    return Actor(
        f"fault {unit}",
        [("fault_read", answer), *opening, ("make_touched", settled), *pieces, ("dropped", dropped),
         ("no_place", no_place)],
    )  # fmt: skip


def _worker(mutant: str | None) -> Actor[State]:
    """produce_arena, then produce_opened until all is MAPPED."""

    def settle_how(s: State) -> Answer[State]:
        return s if s.made == UNMADE else jump("next", s)

    def arena_judged(s: State) -> Answer[State]:
        """decide: whole in the shadow, or by pieces."""
        whole = s.pending == 0 or mutant == "whole_though_read"
        return s if whole else jump("take_place", s)

    def take_making(s: State) -> Answer[State]:
        if s.made != UNMADE and mutant != "making_by_store":
            return jump("next", s)
        return s._replace(made=MAKING)

    def make_whole(s: State) -> State:
        check(s.unit == (ARMED,) * UNITS, "no unit of an arena that is made whole is another's")
        return s._replace(unit=(BUSY,) * UNITS)

    def publish(s: State) -> State:
        return _gone(s)._replace(made=WHOLE)

    def mapped(s: State) -> Answer[State]:
        return jump("next", s._replace(unit=(MAPPED,) * UNITS))

    def take_next(s: State) -> Answer[State]:
        if s.unit == (MAPPED,) * UNITS:
            return jump(END, s)
        if s.made == OPEN and ARMED in s.unit:
            return jump(f"unit_claimed {s.unit.index(ARMED)}", s)
        return None

    def no_place(s: State) -> Answer[State]:
        return jump("settle_how", s)

    whole: list[Step[State]] = [settle_how, arena_judged, take_making, make_whole, publish, mapped]
    pieces = [
        (f"{label} {unit}", _relabelled(step, unit))
        for unit in range(UNITS)
        for label, step in _piece(unit, mutant, "next")
    ]
    opening = _opening(WORKER, mutant, "next")
    return Actor("worker", [*whole, *opening, ("next", take_next), *pieces, ("no_place", no_place)])


def _relabelled(step: Step[State], unit: int) -> Step[State]:
    """The worker has the steps of a piece once a unit: their jumps are to those of the unit."""

    def relabelled(s: State) -> Answer[State]:
        answer = step(s)
        assert not isinstance(answer, list)
        if answer is None or isinstance(answer, State) or answer.label == "next":
            return answer
        return jump(f"{answer.label} {unit}", answer.state)

    return relabelled


def _reader(mutant: str | None) -> Actor[State]:
    """The maker of a unit elsewhere, filled from this arena's shadow."""

    def read(s: State) -> State:
        return _reads(s)

    def over(s: State) -> Answer[State]:
        return jump(END, s)

    consumes = _consume_one(mutant, "over")
    return Actor("reader", [("gather", read), ("gathered", read), *consumes, ("over", over)])


def build(mutant: str | None) -> Model[State]:
    return Model(
        "arenas",
        State(),
        [*(_answer(unit, mutant) for unit in range(UNITS)), _worker(mutant), _reader(mutant)],
        final={
            "every unit is MAPPED": lambda s: s.unit == (MAPPED,) * UNITS,
            "the memory is gone, once": lambda s: s.gone == 1,
            "every place is free": lambda s: s.places == (FREE, FREE),
        },
    )


CASE = Case(
    "arenas",
    "a huge arena is made whole or by pieces, and its old memory goes once",
    ("src/gc/produce_arena.c", "src/gc/consume.c", "src/gc/faults.c", "src/heap/unit.h"),
    ("take_place", "open_arena", "place_taken", "take_making", "make_whole", "settle_how",
     "arena_judged", "arena_opening", "make_touched", "consume_one", "consume_opened",
     "close_arena", "arena_consumed",
     "ARENA_UNMADE", "ARENA_MAKING", "ARENA_WHOLE", "ARENA_OPEN", "ARENA_CLOSED", "ARENA_GIVEN"),
    build,
    MUTANTS,
)  # fmt: skip
