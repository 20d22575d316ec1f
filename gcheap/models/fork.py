"""fork() during a move: it waits only until no unit is BUSY, and the child goes on with the cycle.

The forking thread stops the world while faults are still answered (a thread that sleeps in one is
MANAGED), then closes the claims and waits until everybody who may hold a unit has left: who wants
to claim counts itself first and then looks whether claims are closed (Dekker). So workers are
parked between two units, nowhere else. The child has the memory and the states of that moment and
no thread but one: it registers its regions before anything reads them, and makes what is left.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import Actor, Answer, Model, Step, check, jump, replaced
from gcheap.models import Case
from gcheap.models._claims import gate
from gcheap.models._memory import Memory, cpu

ARMED, BUSY, MAPPED = "ARMED", "BUSY", "MAPPED"
UNITS = 2
WORKER, HANDLER, FORKER = range(3)

MUTANTS = {
    "does_not_wait": "fork() closes the claims and does not wait for who has claimed",
    "looks_for_busy_only": "fork() waits for units that are BUSY, not for who is about to claim",
    "looks_before_it_counts": "who claims looks whether claims are closed, then counts itself",
    "close_relaxed": "closing and the load of the count have no order",
    "closes_before_stop": "claims are closed before the world has stopped",
    "leaves_with_busy": "who claims is counted until the unit is claimed, not until it is MAPPED",
    "world_runs": "the world is not stopped for fork()",
    "child_reads_first": "the child reads the heap before it has registered its regions",
    "child_stays_closed": "the child does not open the claims",
    "child_keeps_count": "the child counts threads that it does not have, and waits for them",
    "waits_for_the_end": "fork() waits for the end of the cycle, with the claims closed",
}


class Child(NamedTuple):
    """The other process."""

    unit: tuple[str, ...]
    page: tuple[bool, ...]
    closed: bool
    inside: int
    registered: bool = False


class State(NamedTuple):
    memory: Memory = Memory.of(3, closed=0)
    inside: int = 0
    """Threads that may hold a unit."""
    unit: tuple[str, ...] = (ARMED,) * UNITS
    page: tuple[bool, ...] = (False,) * UNITS
    stop: bool = False
    managed: bool = True
    writes: bool = False
    """The mutator is in the middle of changing an object."""
    message: bool = False
    next: int = 0
    child: Child | None = None


def _producer(who: int, mutant: str | None, *, done: str) -> list[Step[State]]:
    """A unit behind the gate: claim, make, publish, leave. ``done``: where it goes on."""

    def at(s: State) -> int:
        return s.next if who == WORKER else 0

    def claim(s: State) -> Answer[State]:
        if s.unit[at(s)] != ARMED:
            return jump("claims_leave", s)
        inside = s.inside - (mutant == "leaves_with_busy")
        return s._replace(unit=replaced(s.unit, at(s), BUSY), inside=inside)

    def publish(s: State) -> State:
        return s._replace(page=replaced(s.page, at(s), True))

    def unit_published(s: State) -> Answer[State]:
        s = s._replace(unit=replaced(s.unit, at(s), MAPPED))
        return jump(done, s) if mutant == "leaves_with_busy" else s

    def claims_leave(s: State) -> Answer[State]:
        return jump(done, s._replace(inside=s.inside - 1))

    return [*gate(who, "claim", mutant), claim, publish, unit_published, claims_leave]


def _worker(mutant: str | None) -> Actor[State]:
    def take(s: State) -> Answer[State]:
        return jump("(end)", s) if s.next == UNITS else s

    def taken(s: State) -> Answer[State]:
        return jump("take", s._replace(next=s.next + 1))

    def busy_elsewhere(s: State) -> Answer[State]:
        """wait_mapped: another owner publishes it."""
        return jump("taken", s) if s.unit[s.next] == MAPPED else None

    steps = _producer(WORKER, mutant, done="busy_elsewhere")
    return Actor("worker", [take, *steps, busy_elsewhere, taken])


def _handler(mutant: str | None) -> Actor[State]:
    def fault_read(s: State) -> Answer[State]:
        if not s.message:
            return None
        return s._replace(message=False)

    def answered(s: State) -> Answer[State]:
        return jump("fault_read", s)

    steps = _producer(HANDLER, mutant, done="answered")
    return Actor("handler", [fault_read, *steps, answered], daemon=True)


def _mutator() -> Actor[State]:
    """Touches unit 0 and changes two words of an object that belong together; then a safepoint."""

    def touch(s: State) -> State:
        return s._replace(message=not s.page[0])

    def fault(s: State) -> State | None:
        """Asleep and MANAGED until the page is there."""
        return s if s.page[0] else None

    def write(s: State) -> State:
        return s._replace(writes=True)

    def written(s: State) -> State:
        return s._replace(writes=False)

    def mutator_native(s: State) -> State:
        return s._replace(managed=False)

    return Actor("mutator", [touch, fault, write, written, mutator_native])


def _forker(mutant: str | None) -> Actor[State]:
    def world_stopping(s: State) -> State:
        return s._replace(stop=True)

    def world_stopped(s: State) -> State | None:
        return s if not s.managed else None

    def claims_closed(s: State) -> State | None:
        if mutant == "close_relaxed":
            return s._replace(memory=s.memory.store(FORKER, "closed", 1))
        memory = s.memory.store_seq(FORKER, "closed", 1)
        return None if memory is None else s._replace(memory=memory)

    def wait_left(s: State) -> State | None:
        if mutant == "does_not_wait":
            return s
        if mutant == "waits_for_the_end":
            return s if s.unit == (MAPPED,) * UNITS else None
        if mutant == "looks_for_busy_only":
            return s if BUSY not in s.unit else None
        return s if s.inside == 0 else None

    def fork(s: State) -> State:
        check(BUSY not in s.unit, "no unit is BUSY when the process forks")
        check(not s.writes, "no object is half changed when the process forks")
        return s._replace(child=Child(s.unit, s.page, closed=True, inside=s.inside))

    def parent(s: State) -> State | None:
        memory = s.memory.store_seq(FORKER, "closed", 0)
        return None if memory is None else s._replace(memory=memory, stop=False)

    order: list[Step[State]] = [world_stopping, world_stopped, claims_closed, wait_left]
    if mutant == "closes_before_stop":
        order = [world_stopping, claims_closed, wait_left, world_stopped]
    if mutant == "world_runs":
        order = [claims_closed, wait_left]
    return Actor("fork", [*order, fork, parent])


def _child(mutant: str | None) -> Actor[State]:
    """Its one thread; then its worker, which makes what is left."""

    def born(s: State) -> State | None:
        return None if s.child is None else s

    def change(**values: object) -> Step[State]:
        def changed(s: State) -> State:
            assert s.child is not None
            return s._replace(child=s.child._replace(**values))  # type: ignore[arg-type]

        return changed

    def read(s: State) -> Answer[State]:
        """A touch of a page: present, or missing and answered; unregistered, it is zeros."""
        assert s.child is not None
        known = s.child.page[-1] or s.child.registered
        check(known, "the child reads what the parent had, not zeros")
        return s

    def make(s: State) -> Answer[State]:
        assert s.child is not None
        if ARMED not in s.child.unit:
            return jump("faults_drain", s)
        if s.child.closed:
            return None
        at = s.child.unit.index(ARMED)
        unit, page = replaced(s.child.unit, at, MAPPED), replaced(s.child.page, at, True)
        return jump("make", s._replace(child=s.child._replace(unit=unit, page=page)))

    def faults_drain(s: State) -> State | None:
        return s if s.child is not None and s.child.inside == 0 else None

    def claims_forget(s: State) -> State:
        assert s.child is not None
        inside = s.child.inside if mutant == "child_keeps_count" else 0
        return s._replace(child=s.child._replace(inside=inside))

    register = ("register", change(registered=True))
    opens = ("open", change(closed=mutant == "child_stays_closed"))
    ends: list[Step[State] | tuple[str, Step[State]]] = [claims_forget, opens, make, faults_drain]
    if mutant == "child_reads_first":
        return Actor("child", [born, read, register, *ends])
    return Actor("child", [born, register, read, *ends])


def _put(s: State, memory: Memory) -> State:
    return s._replace(memory=memory)


def build(mutant: str | None) -> Model[State]:
    return Model(
        "fork",
        State(),
        [
            _worker(mutant),
            _handler(mutant),
            _mutator(),
            _forker(mutant),
            _child(mutant),
            cpu(FORKER, lambda s: s.memory, _put),
        ],
        invariants={
            "the pages of a unit that is MAPPED are there": lambda s: all(
                page or unit != MAPPED for unit, page in zip(s.unit, s.page, strict=True)
            ),
        },
        final={
            "every unit is MAPPED": lambda s: s.unit == (MAPPED,) * UNITS,
            "every unit of the child is MAPPED": lambda s: (
                s.child is not None and s.child.unit == (MAPPED,) * UNITS
            ),
        },
    )


CASE = Case(
    "fork",
    "fork() during a move: claims are closed, nobody holds a unit, the child goes on",
    ("src/gc/fork.c", "src/gc/claims.h", "src/gc/faults.c", "src/gc/safepoint.c",
     "src/heap/unit.h"),
    ("prepare", "parent", "child", "fault_read", "world_stopping", "world_stopped",
     "claims_closed", "claims_enter", "claims_leave", "unit_published", "faults_drain",
     "claims_forget"),
    build,
    MUTANTS,
)  # fmt: skip
