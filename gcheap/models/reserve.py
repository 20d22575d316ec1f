"""The reserve: free blocks are given memory beside minors, and nobody sees them half way.

A filler (the controller here) looks for a block that lacks memory, and says so, under the lock of
the space; gives it memory, or is refused, without; and takes the word back under the lock. Minors
take blocks under the lock, those with memory first, and give one memory themselves if they must. A
major in its pause moves pages into blocks that have none by the tables, so it closes the claims
and waits until the filler, who counts itself as one who may hold something, has left.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import Actor, Answer, Model, Step, check, jump, replaced
from gcheap.models import Case
from gcheap.models._claims import gate
from gcheap.models._memory import Memory, cpu

BLOCKS = 3
MINORS = 2
FILLER, COLLECTOR = range(2)
NONE = -1

MUTANTS = {
    "takes_what_is_filled": "a minor takes a block that is being given memory",
    "finds_without_lock": "the filler looks for a block, and says which it is, without the lock",
    "ends_before_drop": "a block counts as nobody's again before what was refused is dropped",
    "does_not_count": "the filler does not count itself as inside",
    "leaves_early": "the filler leaves before it has told the tables",
    "looks_before_it_counts": "the filler looks whether claims are closed, then counts itself",
    "close_relaxed": "closing and the load of the count have no order",
    "clears_low_after": "that there is too little is forgotten after filling, not before",
    "sleeps_without_lock": "the controller looks whether there is work, then sleeps",
    "no_nudge": "a minor that has taken blocks does not wake the controller",
}


class State(NamedTuple):
    memory: Memory = Memory.of(2, closed=0)
    inside: int = 0
    page: tuple[bool, ...] = (False,) * BLOCKS
    populated: tuple[bool, ...] = (False,) * BLOCKS
    """By the tables."""
    used: tuple[bool, ...] = (False,) * BLOCKS
    filling: int = NONE
    found: int = NONE
    """The filler's own."""
    lock: int = NONE
    """Of the space; whose it is."""
    low: bool = False
    asleep: bool = False
    refused: bool = False
    """The kernel has had no memory once."""
    minors: int = 0


def _lacking(s: State) -> int:
    """A free block that lacks memory, if no free block has any."""
    free = [b for b in range(BLOCKS) if not s.used[b]]
    if any(s.populated[b] for b in free):
        return NONE
    return free[0] if free else NONE


def _lock(who: int) -> Step[State]:
    return lambda s: s._replace(lock=who) if s.lock == NONE else None


def _unlock(s: State) -> State:
    return s._replace(lock=NONE)


def _rest(mutant: str | None) -> list[Step[State]]:
    """The controller has nothing else to do: it sleeps until it is nudged."""

    def reserve_is_low(s: State) -> Answer[State]:
        if s.low:
            return jump("reserve_fill", s)
        return s if mutant == "sleeps_without_lock" else jump("asleep", s._replace(asleep=True))

    def cond_wait(s: State) -> State:
        return s._replace(asleep=True)

    def asleep(s: State) -> Answer[State]:
        return None if s.asleep else jump("reserve_is_low", s)

    if mutant == "sleeps_without_lock":
        return [reserve_is_low, cond_wait, asleep]
    return [reserve_is_low, asleep]


def _filler(mutant: str | None) -> Actor[State]:
    after = mutant == "clears_low_after"

    def reserve_fill(s: State) -> State:
        return s if after else s._replace(low=False)

    def find_lack(s: State) -> State:
        return s._replace(found=_lacking(s))

    def begin_filling(s: State) -> Answer[State]:
        if s.found == NONE:
            return jump("unlock_none", s)
        return s._replace(filling=s.found)

    def reserve_filling(s: State) -> Answer[State] | list[Answer[State]]:
        """The kernel gives memory, or half of it and no more."""
        check(not s.page[s.found], "memory is given once")
        given = s._replace(page=replaced(s.page, s.found, True))
        if s.refused:
            return given
        return [given, jump("refused", given._replace(refused=True))]

    def given(s: State) -> Answer[State]:
        return jump("claims_leave" if mutant == "leaves_early" else "lock_end", s)

    def refused(s: State) -> Answer[State]:
        return jump("free", s) if mutant == "ends_before_drop" else jump("drop", s)

    def free(s: State) -> State:
        return s._replace(filling=NONE)

    def drop(s: State) -> State:
        check(not s.used[s.found], "what is dropped is nobody's")
        return s._replace(page=replaced(s.page, s.found, False))

    def end_filling(s: State) -> State:
        told = replaced(s.populated, s.found, s.page[s.found])
        return s._replace(filling=NONE, populated=told)

    def claims_leave(s: State) -> State:
        return s._replace(inside=s.inside - (mutant != "does_not_count"))

    def over(s: State) -> Answer[State]:
        if mutant == "leaves_early" and s.filling != NONE:
            return jump("lock_end", s)
        s = s._replace(found=NONE, low=s.low and not after)
        return jump("reserve_is_low", s)

    def leave_at_the_end(s: State) -> Answer[State]:
        return jump("over" if mutant == "leaves_early" else "claims_leave", s)

    find: list[Step[State] | tuple[str, Step[State]]] = [
        ("lock", _lock(FILLER)),
        find_lack,
        begin_filling,
        ("unlock", _unlock),
    ]
    if mutant == "finds_without_lock":
        find = [("lock", lambda s: s), find_lack, begin_filling]
    return Actor(
        "filler",
        [
            *_rest(mutant),
            reserve_fill,
            *([] if mutant == "does_not_count" else gate(FILLER, "lock", mutant)),
            *find,
            reserve_filling,
            given,
            refused,
            free,
            drop,
            ("lock_end", _lock(FILLER)),
            end_filling,
            ("unlock_end", _unlock),
            leave_at_the_end,
            ("unlock_none", lambda s: s._replace(lock=NONE) if s.lock == FILLER else s),
            claims_leave,
            over,
        ],
        daemon=True,
    )


def _minor(mutant: str | None) -> list[Step[State] | tuple[str, Step[State]]]:
    """Takes a block in its pause, and looks what is left afterwards."""

    def find_block(s: State) -> State:
        free = [b for b in range(BLOCKS) if not s.used[b]]
        if mutant != "takes_what_is_filled":
            free = [b for b in free if b != s.filling]
        ready = [b for b in free if s.populated[b]]
        block = (ready or free)[0]
        check(s.filling != block, "nobody takes what is being given memory")
        check(s.populated[block] or not s.page[block], "memory is there that the tables know of")
        return s._replace(
            used=replaced(s.used, block, True),
            page=replaced(s.page, block, True),
            populated=replaced(s.populated, block, True),
        )

    def reserve_note(s: State) -> State:
        return s._replace(low=s.low or _lacking(s) != NONE)

    def controller_nudge(s: State) -> State:
        wakes = s.low and mutant != "no_nudge"
        return s._replace(asleep=s.asleep and not wakes)

    def again(s: State) -> Answer[State]:
        s = s._replace(minors=s.minors + 1)
        return jump("lock", s) if s.minors < MINORS else s

    return [
        ("lock", _lock(COLLECTOR)),
        find_block,
        ("unlock", _unlock),
        ("lock_note", _lock(COLLECTOR)),
        reserve_note,
        ("unlock_note", _unlock),
        controller_nudge,
        again,
    ]


def _major(mutant: str | None) -> list[Step[State]]:
    """A major in its pause, after the minors."""

    def claims_close(s: State) -> State | None:
        if mutant == "close_relaxed":
            return s._replace(memory=s.memory.store(COLLECTOR, "closed", 1))
        memory = s.memory.store_seq(COLLECTOR, "closed", 1)
        return None if memory is None else s._replace(memory=memory)

    def claims_closed(s: State) -> State | None:
        return s if s.inside == 0 else None

    def major_in_pause(s: State) -> State:
        check(s.filling == NONE, "nothing is being given memory in a major's pause")
        return s

    def move_in_pause(s: State) -> State:
        check(s.page == s.populated, "pages come where none are")
        return s

    def claims_open(s: State) -> State | None:
        memory = s.memory.store_seq(COLLECTOR, "closed", 0)
        return None if memory is None else s._replace(memory=memory)

    return [claims_close, claims_closed, major_in_pause, move_in_pause, claims_open]


def build(mutant: str | None) -> Model[State]:
    return Model(
        "reserve",
        State(),
        [
            _filler(mutant),
            Actor("collector", [*_minor(mutant), *_major(mutant)]),
            cpu(COLLECTOR, lambda s: s.memory, lambda s, memory: s._replace(memory=memory)),
        ],
        invariants={
            "a block in use has memory": lambda s: all(
                s.page[b] for b in range(BLOCKS) if s.used[b]
            ),
            "what is being given memory is nobody's": lambda s: (
                s.filling == NONE or not s.used[s.filling]
            ),
        },
        final={
            "the reserve is full, or memory was refused": lambda s: (
                s.refused or _lacking(s) == NONE
            ),
        },
    )


CASE = Case(
    "reserve",
    "free blocks are given memory beside minors, and nobody sees them half way",
    ("src/gc/reserve.c", "src/gc/reserve.h", "src/gc/claims.h", "src/gc/controller.c",
     "src/gc/cycle.c", "src/heap/small.c"),
    ("reserve_is_low", "reserve_fill", "reserve_note", "find_lack", "begin_filling",
     "end_filling", "reserve_filling", "filling", "low", "inside", "closed", "claims_enter",
     "claims_leave", "claims_close", "claims_closed", "claims_open", "controller_nudge",
     "cond_wait", "find_block", "populated", "used", "major_in_pause", "move_in_pause"),
    build,
    MUTANTS,
)  # fmt: skip
