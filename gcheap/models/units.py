"""Who makes a unit: a worker with a batch, the handler thread, a faulting thread, a pin.

Two units are ARMED, and one frame is all there is. The worker makes both and publishes them
together or apart; a thread touches unit 0 and sleeps until its fault is answered; another touches
unit 1 in `signal` mode and makes it itself; a pin wants unit 0. The kernel may answer a publishing
call short, and then has woken nobody (docs/uffd-move.md).
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import Actor, Answer, Model, Step, check, jump, replaced
from gcheap.models import Case

ARMED, BUSY, MAPPED = "ARMED", "BUSY", "MAPPED"
WORKER, HANDLER, SIGNAL, PIN = range(4)

MUTANTS = {
    "frame_after_claim": "the frame is taken when the unit is BUSY already (I3)",
    "need_frame_with_batch": "a frame is waited for with finished units unpublished (I3)",
    "claim_by_store": "the state is read, then written, instead of compare-and-swap",
    "publish_unfinished": "pages appear before all of the unit is finished (I2)",
    "mapped_before_pages": "MAPPED is written before the pages are there",
    "short_answer_wakes_nobody": "a short answer of the kernel is taken for a whole one",
    "wait_with_batch": "who waits for MAPPED has finished units that it has not published",
}


class State(NamedTuple):
    unit: tuple[str, ...] = (ARMED, ARMED)
    filled: tuple[int, ...] = (0, 0)
    """Halves of the unit that are finished."""
    page: tuple[bool, ...] = (False, False)
    made: tuple[int, ...] = (0, 0)
    """Times that somebody began to make it."""
    pool: int = 1
    frame: tuple[int, ...] = (0, 0, 0, 0)
    """In hand, by maker."""
    batch: tuple[int, ...] = ()
    """Units that the worker has finished and not published."""
    next: int = 0
    """The worker's."""
    serves: int = -1
    """The handler's unit."""
    message: tuple[int, ...] = ()
    fault: str = "no"
    """Of the thread that touches unit 0: no, queued, asleep, woken."""


def _woken(s: State, units: tuple[int, ...]) -> State:
    return s._replace(fault="woken") if 0 in units and s.fault == "asleep" else s


def _claimed(s: State, unit: int, mutant: str | None) -> State | None:
    """ARMED -> BUSY; None: somebody was quicker."""
    if s.unit[unit] != ARMED and mutant != "claim_by_store":
        return None
    return s._replace(unit=replaced(s.unit, unit, BUSY))


def _with_frame(s: State, who: int) -> State | None:
    if s.frame[who]:
        return s
    if s.pool == 0:
        return None
    return s._replace(pool=s.pool - 1, frame=replaced(s.frame, who, 1))


def _without_frame(s: State, who: int) -> State:
    return s._replace(pool=s.pool + s.frame[who], frame=replaced(s.frame, who, 0))


def _fill(s: State, who: int, unit: int, *, rest: bool = False) -> State:
    check(s.frame[who] == 1, "a unit is filled in a frame")
    return s._replace(
        filled=replaced(s.filled, unit, s.filled[unit] + 1),
        made=replaced(s.made, unit, s.made[unit] + (not rest)),
    )


def _published(s: State, units: tuple[int, ...]) -> State:
    for unit in units:
        s = s._replace(page=replaced(s.page, unit, True))
    return s


def _done(s: State, units: tuple[int, ...]) -> State:
    for unit in units:
        check(s.unit[unit] == BUSY, "a unit that is done was BUSY")
        s = s._replace(unit=replaced(s.unit, unit, MAPPED))
    return s


ORDER = "batch_need_frame unit_claimed fill fill_rest publish uffd_wake unit_published"
ORDERS = {
    "frame_after_claim": (
        "unit_claimed batch_need_frame fill fill_rest publish uffd_wake unit_published"
    ),
    "publish_unfinished": (
        "batch_need_frame unit_claimed fill publish uffd_wake fill_rest unit_published"
    ),
    "mapped_before_pages": (
        "batch_need_frame unit_claimed fill fill_rest mapped publish uffd_wake frames_done"
    ),
}


def _production(
    who: int, mutant: str | None, *, lost: str, first: int = -1
) -> list[tuple[str, Step[State]]]:
    """Claim and make one unit, and publish it alone. ``first`` -1: the one that the handler serves.

    ``lost``: the step that goes on when somebody was quicker.
    """

    def unit(s: State) -> int:
        return s.serves if first < 0 else first

    def publish(s: State) -> list[Answer[State]]:
        s = _published(s, (unit(s),))
        return [_woken(s, (unit(s),)), s]  # whole, or short

    def uffd_wake(s: State) -> State:
        return s if mutant == "short_answer_wakes_nobody" else _woken(s, (unit(s),))

    steps: dict[str, Step[State]] = {
        "batch_need_frame": lambda s: _with_frame(s, who),
        "unit_claimed": lambda s: _claimed(s, unit(s), mutant) or jump(lost, s),
        "fill": lambda s: _fill(s, who, unit(s)),
        "fill_rest": lambda s: _fill(s, who, unit(s), rest=True),
        "publish": publish,
        "uffd_wake": uffd_wake,
        "unit_published": lambda s: _done(_without_frame(s, who), (unit(s),)),
        "mapped": lambda s: _done(s, (unit(s),)),
        "frames_done": lambda s: _without_frame(s, who),
    }
    return [(label, steps[label]) for label in ORDERS.get(mutant or "", ORDER).split()]


def _ensure(name: str, who: int, unit: int, mutant: str | None) -> Actor[State]:
    """What produce_ensure does, for a pin or in a signal handler."""

    def touch(s: State) -> Answer[State]:
        return jump("go_on", s) if s.page[unit] else s

    def produce_ensure(s: State) -> Answer[State]:
        if s.unit[unit] == MAPPED:
            return jump("batch_end", s)
        return s if s.unit[unit] == ARMED else None

    def made(s: State) -> Answer[State]:
        return jump("produce_ensure", s)

    def batch_end(s: State) -> State:
        check(s.page[unit], "the pages of a unit that is MAPPED are there")
        return _without_frame(s, who)

    def go_on(s: State) -> State:
        check(s.filled[unit] == 2, "who gets there sees a finished unit")
        return s

    steps = _production(who, mutant, lost="produce_ensure", first=unit)
    first: list[Step[State]] = [touch] if who == SIGNAL else []
    return Actor(name, [*first, produce_ensure, *steps, made, batch_end, go_on])


def _batch(mutant: str | None) -> list[Step[State]]:
    """What the worker does with units that it has finished; it ends by waiting for all others."""

    def batch_end(s: State) -> Answer[State]:
        if s.batch and mutant != "wait_with_batch":
            return jump("publish", s)
        return jump("wait_mapped", _without_frame(s, WORKER))

    def publish(s: State) -> list[Answer[State]]:
        s = _published(s, s.batch)
        return [_woken(s, s.batch), s]  # whole, or short

    def uffd_wake(s: State) -> State:
        return s if mutant == "short_answer_wakes_nobody" else _woken(s, s.batch)

    def unit_published(s: State) -> Answer[State]:
        s = _done(s._replace(pool=s.pool + len(s.batch)), s.batch)
        return jump("produce_block", s._replace(batch=()))

    def wait_mapped(s: State) -> State | None:
        return s if all(unit == MAPPED for unit in s.unit) else None

    return [batch_end, publish, uffd_wake, unit_published, wait_mapped]


def _worker(mutant: str | None) -> Actor[State]:
    """move_blocks over both units, then wait_mapped."""

    def produce_block(s: State) -> Answer[State]:
        if s.next == len(s.unit):
            return jump("batch_end", s)
        if s.unit[s.next] != ARMED:
            return jump("produce_block", s._replace(next=s.next + 1))
        return s

    def batch_need_frame(s: State) -> Answer[State]:
        if mutant == "frame_after_claim":
            return s
        if not s.frame[WORKER] and s.batch and mutant != "need_frame_with_batch":
            return jump("publish", s)
        return _with_frame(s, WORKER)

    def unit_claimed(s: State) -> Answer[State]:
        lost = jump("produce_block", s._replace(next=s.next + 1))
        return _claimed(s, s.next, mutant) or lost

    def late_frame(s: State) -> Answer[State]:
        return _with_frame(s, WORKER)

    def fill(s: State) -> State:
        return _fill(s, WORKER, s.next)

    def batch_add(s: State) -> list[Answer[State]]:
        """The frame goes with the unit. Publish now (somebody waits), or later with the next."""
        s = _fill(s, WORKER, s.next, rest=True)
        frame = replaced(s.frame, WORKER, 0)
        s = s._replace(batch=(*s.batch, s.next), next=s.next + 1, frame=frame)
        return [jump("publish", s), jump("produce_block", s)]

    late: list[Step[State]] = [late_frame] if mutant == "frame_after_claim" else []
    steps: list[Step[State]] = [produce_block, batch_need_frame, unit_claimed, *late, fill]
    return Actor("worker", [*steps, batch_add, *_batch(mutant)])


def _handler(mutant: str | None) -> Actor[State]:
    """serve() and answer() of gc/faults.c: it reads a message and decides by the unit's state."""

    def fault_read(s: State) -> State | None:
        if not s.message:
            return None
        return s._replace(message=s.message[1:], serves=s.message[0])

    def answer(s: State) -> Answer[State]:
        state = s.unit[s.serves]
        if state == MAPPED:
            return jump("fault_read", _woken(s, (s.serves,))._replace(serves=-1))
        return jump("lost", s) if state == BUSY else s

    def lost(s: State) -> Answer[State]:
        """Somebody was quicker, and wakes when it publishes."""
        return jump("fault_read", _without_frame(s, HANDLER)._replace(serves=-1))

    steps = _production(HANDLER, mutant, lost="lost")
    return Actor("handler", [fault_read, answer, *steps, lost], daemon=True)


def _toucher() -> Actor[State]:
    """A thread that touches unit 0, and the kernel's half of it (fs/userfaultfd.c)."""

    def touch(s: State) -> Answer[State]:
        if s.page[0]:
            return jump("go_on", s)
        return s._replace(fault="queued", message=(*s.message, 0))

    def must_wait(s: State) -> State:
        """Queued, the kernel looks again before it lets the thread sleep."""
        return s._replace(fault="woken" if s.page[0] else "asleep")

    def sleep(s: State) -> Answer[State]:
        if s.fault != "woken":
            return None
        return jump("touch", s._replace(fault="no", message=()))

    def go_on(s: State) -> State:
        check(s.filled[0] == 2, "who gets there sees a finished unit")
        return s

    return Actor("toucher", [touch, must_wait, sleep, go_on])


def build(mutant: str | None) -> Model[State]:
    return Model(
        "units",
        State(),
        [
            _worker(mutant),
            _handler(mutant),
            _toucher(),
            _ensure("signal", SIGNAL, 1, mutant),
            _ensure("gch_pin", PIN, 0, mutant),
        ],
        invariants={
            "a unit is made once": lambda s: max(s.made) <= 1,
            "nothing appears before all of it is finished (I2)": lambda s: all(
                filled == 2 or not page for filled, page in zip(s.filled, s.page, strict=True)
            ),
            "the pages of a unit that is MAPPED are there": lambda s: all(
                page or unit != MAPPED for unit, page in zip(s.unit, s.page, strict=True)
            ),
        },
        final={
            "every unit is MAPPED": lambda s: s.unit == (MAPPED, MAPPED),
            "the frame is back": lambda s: s.pool == 1 and not any(s.frame),
        },
    )


CASE = Case(
    "units",
    "two units, one frame: a worker, the handler, faulting threads and a pin make them",
    ("src/heap/unit.h", "src/gc/produce.c", "src/gc/batch.c", "src/gc/faults.c",
     "src/gc/concurrent.c", "src/gc/produce_arena.c", "src/api.c"),
    ("UNIT_ARMED", "UNIT_BUSY", "UNIT_MAPPED", "unit_claimed", "unit_published", "fault_read",
     "batch_need_frame", "batch_end", "produce_block", "produce_ensure", "wait_mapped", "gch_pin"),
    build,
    MUTANTS,
)  # fmt: skip
