"""A pin against the flip: before it the pin un-plans the block, after it units are made first.

An object lies in a block that the plan evacuates. A mutator pins it at some time between plan and
end, lends its address to a native thread for a while (leaf memory; of an object with references the
pin fixes the address and lends nothing, I6), and unpins it in native state. The flip's pause reads
the pins; leaf regions are not flipped, old ones are.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import Actor, Answer, Model, Step, check, jump
from gcheap.models import Case

SOURCE, DEST = "source", "dest"
NONE, ARMED, BUSY, MAPPED = "NONE", "ARMED", "BUSY", "MAPPED"

MUTANTS = {
    "flip_ignores_pins": "the flip does not look at the pins made since the plan",
    "pins_read_before_stop": "pins are read before the world has stopped",
    "native_pins": "a thread that counts as stopped may pin",
    "no_ensure": "a pin after the flip does not have the object's unit made first",
    "unplanned_not_armed": "an un-planned block of a flipped region is no unit",
    "dest_stays_planned": "the destination of an un-planned block is filled all the same",
    "root_forwarded": "roots are forwarded by the plan, though the block was un-planned",
}


class State(NamedTuple):
    leaf: bool = False
    phase: str = "PLAN"
    stop: bool = False
    managed: bool = True
    root: str = SOURCE
    """What the pause forwards."""
    ref: str = ""
    """The address that is being pinned: a local variable."""
    pins: bool = False
    planned: bool = True
    """The block's objects forward."""
    source_unit: str = NONE
    dest_unit: str = ARMED
    source_page: bool = True
    dest_page: bool = False
    """Present; those of sources of a flipped region are in the shadow."""
    holds: str = SOURCE
    """Where the object's bytes are."""
    lent: str = ""
    """The address that native code has."""


def _page(s: State, at: str) -> bool:
    return s.source_page if at == SOURCE else s.dest_page


def _made(s: State, at: str) -> State:
    """The unit is made and published; what is evacuated consumes its source."""
    if at == SOURCE:
        return s._replace(source_unit=MAPPED, source_page=True)
    return s._replace(dest_unit=MAPPED, dest_page=True, holds=DEST, source_page=False)


def _unit(s: State, at: str) -> str:
    return s.source_unit if at == SOURCE else s.dest_unit


def _with_unit(s: State, at: str, unit: str) -> State:
    return s._replace(source_unit=unit) if at == SOURCE else s._replace(dest_unit=unit)


def _pinner(mutant: str | None) -> Actor[State]:
    def begin(s: State) -> list[Answer[State]]:
        """The mutator pins now, or answers safepoints first."""
        pins = jump("gch_pin", s)
        if mutant == "native_pins":
            return [pins, jump("gch_pin", s._replace(managed=False))]
        return [pins, jump("mutator_native", s)]

    def mutator_native(s: State) -> State:
        return s._replace(managed=False)

    def mutator_managed(s: State) -> Answer[State]:
        return jump("begin", s._replace(managed=True)) if not s.stop else None

    def gch_pin(s: State) -> State:
        return s._replace(ref=s.root)

    def faults_ensure(s: State) -> Answer[State]:
        """Makes the unit of the object, or waits for its owner."""
        if s.phase != "MOVE" or mutant == "no_ensure":
            return s
        unit = _unit(s, s.ref)
        if unit == ARMED:
            return jump("make", _with_unit(s, s.ref, BUSY))
        return None if unit == BUSY else s

    def pinned(s: State) -> State:
        return s._replace(pins=True)

    def make(s: State) -> Answer[State]:
        return jump("faults_ensure", _made(s, s.ref))

    def lend(s: State) -> State:
        """From here on native code uses it; the mutator is in native state itself."""
        return s._replace(lent=s.ref if s.leaf else "nothing", managed=False)

    def unpinned(s: State) -> Answer[State]:
        return jump("(end)", s._replace(lent="", pins=False))

    return Actor(
        "pinner",
        [begin, gch_pin, faults_ensure, pinned, lend, unpinned, make, mutator_native,
         mutator_managed],
    )  # fmt: skip


def _cycle(mutant: str | None) -> Actor[State]:
    def kind(s: State) -> list[Answer[State]]:
        return [s, s._replace(leaf=True)]

    def read_pins(s: State) -> State:
        """Mutant: too early."""
        return _unplanned(s) if s.pins else s

    def world_stopping(s: State) -> State:
        return s._replace(stop=True)

    def world_stopped(s: State) -> State | None:
        return s._replace(phase="FLIP") if not s.managed else None

    def unplan_pinned(s: State) -> State:
        reads = mutant not in ("flip_ignores_pins", "pins_read_before_stop")
        return _unplanned(s) if s.pins and reads else s

    def _unplanned(s: State) -> State:
        arms = not s.leaf and mutant != "unplanned_not_armed"
        dest = s.dest_unit if mutant == "dest_stays_planned" else NONE
        unit = ARMED if arms else s.source_unit
        return s._replace(planned=False, dest_unit=dest, source_unit=unit)

    def region_flipped(s: State) -> State:
        """An old region goes to the shadow; of a leaf region only destinations are missing."""
        return s if s.leaf else s._replace(source_page=False)

    def forward_roots(s: State) -> State:
        moves = s.planned or mutant == "root_forwarded"
        return s._replace(root=DEST if moves else SOURCE)

    def world_resumed(s: State) -> State:
        return s._replace(stop=False, phase="MOVE")

    steps: list[Step[State]] = [world_stopping, world_stopped, unplan_pinned, region_flipped]
    if mutant == "pins_read_before_stop":
        steps.insert(0, read_pins)
    return Actor("cycle", [kind, *steps, forward_roots, world_resumed])


def _worker() -> Actor[State]:
    """Makes both units; the last one MAPPED ends the move."""

    def move_begins(s: State) -> State | None:
        return s if s.phase == "MOVE" else None

    def claim(at: str) -> Step[State]:
        def unit_claimed(s: State) -> Answer[State]:
            unit = _unit(s, at)
            if unit == ARMED:
                return _with_unit(s, at, BUSY)
            return None if unit == BUSY else jump(f"next_{at}", s)

        return unit_claimed

    def publish(at: str) -> Step[State]:
        return lambda s: _made(s, at)

    def go_on(s: State) -> State:
        return s

    def use_at_end(s: State) -> State:
        check(_page(s, s.root), "a root leads to a page, or to a unit that is made when touched")
        check(s.holds == s.root, "a root holds the address that the object has now (I1)")
        return s

    return Actor(
        "worker",
        [
            move_begins,
            ("unit_claimed dest", claim(DEST)),
            ("unit_published dest", publish(DEST)),
            (f"next_{DEST}", go_on),
            ("unit_claimed source", claim(SOURCE)),
            ("unit_published source", publish(SOURCE)),
            (f"next_{SOURCE}", go_on),
            use_at_end,
        ],
    )


def _lent_is_there(s: State) -> bool:
    return s.lent not in (SOURCE, DEST) or (_page(s, s.lent) and s.holds == s.lent)


def build(mutant: str | None) -> Model[State]:
    return Model(
        "pin",
        State(),
        [_pinner(mutant), _cycle(mutant), _worker()],
        invariants={
            "a pinned object keeps its address": lambda s: not s.pins or s.root == s.ref,
            "what native code has been lent is there, and is the object (I6)": _lent_is_there,
        },
    )


CASE = Case(
    "pin",
    "a pin between plan and flip un-plans the block; one during the move has its unit made",
    ("src/gc/flip.c", "src/gc/roots.c", "src/gc/faults.c", "src/api.c", "src/gc/cycle.c",
     "src/gc/safepoint.c", "src/heap/unit.h", "src/gc/concurrent.c"),
    ("unplan_pinned", "region_flipped", "faults_ensure", "pinned", "unpinned", "gch_pin",
     "move_begins", "unit_claimed", "unit_published", "world_stopping", "world_stopped",
     "world_resumed"),
    build,
    MUTANTS,
)  # fmt: skip
