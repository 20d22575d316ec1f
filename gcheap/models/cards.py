"""Minors while units are made: the card of a unit that is still BUSY waits.

A mutator touches an object of an ARMED unit, which its owner makes; as soon as the pages are there,
before the unit is MAPPED, it may store a young reference (dirtying a card) and stop for a minor.
What makes an object visible to a card, its bit in `live`, may be set before or after the pages.
The first minor lets the young object survive young, the second promotes it.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import END, Actor, Answer, Model, Step, check, jump
from gcheap.models import Case

ARMED, BUSY, MAPPED = "ARMED", "BUSY", "MAPPED"
MINORS = 2
ADDRESS = ("young", "survivor", "old")
"""Of the young object: born, after one minor, after two."""

MUTANTS = {
    "skips_busy": "a dirty card of a BUSY unit is cleaned and not looked at",
    "reads_busy": "a dirty card is looked at without waiting for the unit's owner",
    "owner_waits_for_pause": "the owner of a BUSY unit stands still while the world is stopped",
    "claims_wait_for_pause": "nobody claims a unit while the world is being stopped",
    "cleans_after_visit": "a card is cleaned after its slots were looked at, not before",
    "clean_before_stop": "cards are cleaned while mutators still run",
}


class State(NamedTuple):
    unit: str = ARMED
    filled: bool = False
    live: bool = False
    page: bool = False
    managed: bool = True
    stop: bool = False
    slot: str = "null"
    """In the unit's object."""
    card: bool = False
    young: int = 0
    """Minors that the young object has survived."""
    visits: bool = False
    """The minor is to look at the card."""
    minors: int = 0


def _owner(mutant: str | None) -> Actor[State]:
    def unit_claimed(s: State) -> State | None:
        if mutant == "claims_wait_for_pause" and s.stop:
            return None
        return s._replace(unit=BUSY)

    def fill(s: State) -> list[Answer[State]]:
        s = s._replace(filled=True)
        return [s, s._replace(live=True)]

    def publish(s: State) -> State:
        return s._replace(page=True)

    def live_set(s: State) -> State:
        return s._replace(live=True)

    def unit_published(s: State) -> State | None:
        if mutant == "owner_waits_for_pause" and s.stop:
            return None
        return s._replace(unit=MAPPED)

    return Actor("owner", [unit_claimed, fill, publish, live_set, unit_published])


def _mutator() -> Actor[State]:
    def touch(s: State) -> State | None:
        """Asleep in the kernel, and MANAGED, until the page is there."""
        return s if s.page else None

    def gch_store(s: State) -> State:
        return s._replace(slot=ADDRESS[s.young])

    def card_mark(s: State) -> State:
        return s._replace(card=True)

    def mutator_native(s: State) -> State | None:
        """A safepoint, at which it waits for a stop."""
        return s._replace(managed=False) if s.stop else None

    def wait_resumed(s: State) -> State | None:
        return s._replace(managed=True) if not s.stop else None

    def load(s: State) -> Answer[State]:
        check(s.slot == ADDRESS[s.young], "a slot holds the address that the object has now (I1)")
        return jump("mutator_native", s) if s.minors < MINORS else s

    return Actor("mutator", [touch, gch_store, card_mark, mutator_native, wait_resumed, load])


def _collector(mutant: str | None) -> Actor[State]:
    def world_stopping(s: State) -> State:
        return s._replace(stop=True)

    def clean_early(s: State) -> State:
        return s._replace(visits=s.card, card=False)

    def world_stopped(s: State) -> State | None:
        return s if not s.managed else None

    def clean_card(s: State) -> Answer[State]:
        if mutant == "clean_before_stop":
            return s
        if mutant == "cleans_after_visit":
            return s._replace(visits=s.card)
        return s._replace(visits=s.card, card=False)

    def wait_produced(s: State) -> Answer[State]:
        if not s.visits:
            return jump("forwarded", s)
        check(s.unit != ARMED, "a card of an ARMED unit is clean")
        if mutant == "skips_busy" and s.unit == BUSY:
            return jump("forwarded", s)
        return s if s.unit != BUSY or mutant == "reads_busy" else None

    def visit_card(s: State) -> State:
        """The first minor leaves it young: the card is marked again."""
        after = ADDRESS[s.young + 1]
        if not s.live or s.slot != ADDRESS[s.young]:
            return s
        return s._replace(slot=after, card=s.card or after != ADDRESS[-1])

    def forwarded(s: State) -> State:
        card = False if mutant == "cleans_after_visit" and s.visits else s.card
        return s._replace(young=s.young + 1, visits=False, card=card, minors=s.minors + 1)

    def world_resumed(s: State) -> Answer[State]:
        s = s._replace(stop=False)
        return jump(END, s) if s.minors == MINORS else s

    def again(s: State) -> Answer[State]:
        """The mutator has run meanwhile."""
        return jump("world_stopping", s) if s.managed else None

    early = [clean_early] if mutant == "clean_before_stop" else []
    pause: list[Step[State]] = [world_stopped, clean_card, wait_produced, visit_card, forwarded]
    return Actor("minor", [world_stopping, *early, *pause, world_resumed, again])


def build(mutant: str | None) -> Model[State]:
    return Model(
        "cards",
        State(),
        [_owner(mutant), _mutator(), _collector(mutant)],
        invariants={
            "nothing appears before all of it is finished (I2)": lambda s: s.filled or not s.page,
        },
        final={
            "the object is old": lambda s: s.slot == ADDRESS[MINORS],
            "the unit is MAPPED": lambda s: s.unit == MAPPED,
        },
    )


CASE = Case(
    "cards",
    "minors meet dirty cards of units that are being made",
    ("src/gc/cards.c", "src/gc/minor.c", "src/heap/unit.h", "include/gcheap/barrier_inline.h",
     "src/gc/safepoint.c"),
    ("wait_produced", "visit_card", "UNIT_ARMED", "UNIT_BUSY", "unit_claimed", "unit_published",
     "gch_store", "card_mark", "world_stopping", "world_stopped", "world_resumed"),
    build,
    MUTANTS,
)  # fmt: skip
