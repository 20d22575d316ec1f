"""The world's stop while markers run: a count that the stopper waits for.

A marker counts itself in `world.markers`, then looks at `world.stop`; it looks again between two
objects and while it has nothing to do. If the world stops it takes itself off the count, wakes the
stopper and waits. The stopper stores `stop`, then waits for the count (Dekker). What a marker finds
is its own (queues of referents that are being fetched), so nobody else can take it while it waits;
marking ends when nothing is grey anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import Actor, Answer, Model, Step, check, jump, replaced
from gcheap.models import Case
from gcheap.models._memory import Memory, cpu
from gcheap.models._world import Labelled, World, leave_world, lifted, stopper, wait_for_world

MARKERS = 2
CHILDREN = (1, 1, 0, 0)
"""Objects that the n-th object to be scanned makes grey; the first two are there at first."""

MUTANTS = {
    "looks_before_it_counts": "the marker looks at stop first, then counts itself",
    "no_look_after_counting": "the marker scans an object before it looks at stop",
    "stop_relaxed": "stop and the load of the count have no order",
    "never_polls": "the marker looks at stop only when it begins and ends: pauses are long",
    "idle_does_not_poll": "a marker without work waits for others and does not look at stop",
    "waits_counted": "a marker that waits for the world to run is still counted",
    "no_wake": "a marker that stops does not wake the stopper",
    "end_does_not_wake": "a marker that has finished does not wake the stopper",
    "wake_without_lock": "the stopper is signalled without its lock",
    "resume_without_lock": "stop is cleared and waiters are woken without the lock",
    "pause_takes_for_finished": "who is off the count for a pause is taken for one without work",
}


class State(NamedTuple):
    world: World
    grey: int = 2
    """That anybody may take."""
    own: tuple[int, ...] = (0,) * MARKERS
    """Grey, and only the marker's own."""
    scanned: int = 0
    scanning: tuple[bool, ...] = (False,) * MARKERS
    since_stop: int = 0
    """Objects begun since the stopper asked."""


def _world(s: State) -> World:
    return s.world


def _put(s: State, world: World) -> State:
    return s._replace(world=world)


def _put_memory(s: State, memory: Memory) -> State:
    return s._replace(world=s.world._replace(memory=memory))


def _coming(me: int, mutant: str | None) -> Labelled[World]:
    """A marker begins, or begins again after a pause."""

    def count(w: World) -> World:
        return w._replace(markers=w.markers + 1)

    def look(w: World) -> Answer[World]:
        stops = w.stop(me) and mutant != "no_look_after_counting"
        return jump("marker_left" if stops else "take", w)

    def look_first(w: World) -> Answer[World]:
        return jump("wait_resumed", w) if w.stop(me) else w

    if mutant == "looks_before_it_counts":
        return [("look", look_first), ("marker_enters", count)]
    return [("marker_enters", count), ("look", look)]


def _marking(me: int, mutant: str | None) -> list[Step[State]]:
    """The loop over grey objects."""

    def take(s: State) -> Answer[State]:
        if s.grey == 0 and s.own[me] == 0:
            return jump("idle", s)
        asked = s.since_stop + s.world.memory.seen("stop")
        s = s._replace(since_stop=asked, scanning=replaced(s.scanning, me, True))
        if s.own[me] > 0:
            return s._replace(own=replaced(s.own, me, s.own[me] - 1))
        return s._replace(grey=s.grey - 1)

    def scan(s: State) -> State:
        own = replaced(s.own, me, s.own[me] + CHILDREN[s.scanned])
        return s._replace(own=own, scanned=s.scanned + 1)

    def scanned(s: State) -> State:
        return s._replace(scanning=replaced(s.scanning, me, False))

    def stand_still(s: State) -> Answer[State]:
        stops = s.world.stop(me) and mutant != "never_polls"
        return jump("marker_left" if stops else "take", s)

    def idle(s: State) -> Answer[State]:
        if s.world.stop(me) and mutant != "idle_does_not_poll":
            return jump("marker_left", s)
        if s.grey > 0:
            return jump("take", s)
        if mutant == "pause_takes_for_finished":
            return jump("run_to_end", s) if s.world.markers == 1 else None
        return None if any(s.own) or any(s.scanning) else jump("run_to_end", s)

    return [take, scan, scanned, stand_still, idle]


def _marker(me: int, mutant: str | None) -> Actor[State]:
    def marker_left(s: State) -> State:
        off = mutant != "waits_counted"
        return s._replace(world=s.world._replace(markers=s.world.markers - off))

    def run_to_end(s: State) -> State:
        check(s.grey == 0 and not any(s.own), "nothing is grey when marking ends")
        return s._replace(world=s.world._replace(markers=s.world.markers - 1))

    begin = _coming(me, mutant)
    again = "look" if mutant == "waits_counted" else begin[0][0]
    return Actor(
        f"marker {me}",
        [
            *lifted(_world, _put, begin),
            *_marking(me, mutant),
            marker_left,
            *lifted(_world, _put, wait_for_world(me, again, mutant)),
            run_to_end,
            *lifted(_world, _put, leave_world(me, mutant)),
        ],
    )


def build(mutant: str | None) -> Model[State]:
    stop = stopper(lambda w: w.markers == 0, mutant)
    return Model(
        "markers",
        State(World(Memory.of(MARKERS + 1, stop=0))),
        [
            *(_marker(m, mutant) for m in range(MARKERS)),
            Actor("stopper", lifted(_world, _put, stop)),
            cpu(MARKERS, lambda s: s.world.memory, _put_memory),
        ],
        invariants={
            "nobody scans in a pause": lambda s: not s.world.pause or not any(s.scanning),
            "each marker begins at most one object while it is waited for": lambda s: (
                s.since_stop <= MARKERS
            ),
        },
        final={
            "everything grey was scanned": lambda s: s.scanned == len(CHILDREN),
            "nobody is counted": lambda s: s.world.markers == 0,
        },
    )


CASE = Case(
    "markers",
    "the world stops while markers run, and they find out when they are done",
    ("src/gc/safepoint.c", "src/gc/mark.c", "src/gc/marker.c"),
    ("world_stopping", "world_stopped", "world_run", "world_resumed", "wait_resumed",
     "wake_stopper", "cond_wait", "cond_signal", "marker_enter", "marker_leave", "marker_enters",
     "marker_left", "markers", "stand_still", "run_to_end", "idle"),
    build,
    MUTANTS,
)  # fmt: skip
