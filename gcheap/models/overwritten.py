"""A store that finds no buffer for its log marks what it overwrites itself (mark_overwritten).

It sets the mark, then flags the object's block, then says that some block is flagged: the marker
asks for the last, clears a block's flag, and scans every marked object of the block again. Two
mutators do so at once, with objects of one block, B and D.

A root refers to D, D to A, A to B, and B to C. One mutator overwrites the root, and keeps D; the
other one the slot of A, and keeps B. So A may be found when D's block is scanned again.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import END, Actor, Answer, Model, Step, check, jump, replaced
from gcheap.models import Case

MUTATORS = 2
BLOCK = frozenset({"B", "D"})
"""The objects of the block in which the mutators mark; the others' blocks are never flagged."""

MUTANTS = {
    "flags_before_mark": "the block is flagged before the object is marked",
    "says_before_flag": "it is said that a block is flagged before it is",
    "no_flag": "the object is marked, and its block not flagged",
    "clears_after_scan": "the block's flag is cleared after its objects were scanned",
    "asks_after_scan": "whether a block is flagged is asked, and forgotten after the scans",
    "remark_without_flags": "remark does not look whether a block is flagged",
}


class State(NamedTuple):
    root: str = "D"
    a: str = "B"
    """A's slot."""
    kept: frozenset[str] = frozenset()
    """By mutators, in frames."""
    marked: frozenset[str] = frozenset({"root"})
    stack: frozenset[str] = frozenset({"root"})
    storing: tuple[bool, ...] = (False,) * MUTATORS
    """In a store: not at a safepoint."""
    flagged: bool = False
    overflowed: bool = False


def _refers(s: State, name: str) -> str:
    return {"root": s.root, "A": s.a, "B": "C", "C": "null", "D": "A"}[name]


def _found(s: State, name: str) -> State:
    if name == "null" or name in s.marked:
        return s
    return s._replace(marked=s.marked | {name}, stack=s.stack | {name})


def _mutator(me: int, mutant: str | None) -> Actor[State]:
    mine = "BD"[me]

    def load(s: State) -> Answer[State]:
        """By way of the root: once that is overwritten, there is no way."""
        if s.root == "null":
            return jump(END, s)
        return s._replace(kept=s.kept | {mine})

    def gch_store(s: State) -> State:
        return s._replace(storing=replaced(s.storing, me, True))

    def mark(s: State) -> Answer[State]:
        """mark_wanted, then the bit: who finds it set has nothing to do."""
        if mine in s.marked:
            return jump("store", s)
        return s._replace(marked=s.marked | {mine})

    def flag(s: State) -> State:
        return s._replace(flagged=True)

    def say(s: State) -> State:
        return s._replace(overflowed=True)

    def store(s: State) -> State:
        s = s._replace(storing=replaced(s.storing, me, False))
        return s._replace(a="null") if mine == "B" else s._replace(root="null")

    orders: dict[str, list[Step[State]]] = {
        "flags_before_mark": [flag, say, mark],
        "says_before_flag": [mark, say, flag],
        "no_flag": [mark],
    }
    order = orders.get(mutant or "", [mark, flag, say])
    return Actor(f"mutator {me}", [load, gch_store, *order, store])


def _rescans(mutant: str | None) -> list[Step[State]]:
    """Blocks that are flagged, until none is."""

    def mark_overflowed(s: State) -> Answer[State]:
        if not s.overflowed:
            return jump("mark_remark", s)
        return s if mutant == "asks_after_scan" else s._replace(overflowed=False)

    def clear(s: State) -> Answer[State]:
        return s._replace(flagged=False) if s.flagged else jump("asked", s)

    def rescan_block(s: State) -> State:
        for name in sorted(BLOCK & s.marked):
            s = _found(s, _refers(s, name))
        return s

    def drain_block(s: State) -> Answer[State]:
        if not s.stack:
            return s
        name = min(s.stack)
        return jump("drain_block", _found(s._replace(stack=s.stack - {name}), _refers(s, name)))

    def asked(s: State) -> Answer[State]:
        forgets = mutant == "asks_after_scan"
        return jump("drain", s._replace(overflowed=s.overflowed and not forgets))

    block: list[Step[State]] = [clear, rescan_block]
    if mutant == "clears_after_scan":

        def look(s: State) -> Answer[State]:
            return s if s.flagged else jump("asked", s)

        def clear_late(s: State) -> State:
            return s._replace(flagged=False)

        block = [look, rescan_block, clear_late]
    return [mark_overflowed, *block, drain_block, asked]


def _marker(mutant: str | None) -> Actor[State]:
    def drain(s: State) -> Answer[State]:
        """One object of the stack."""
        if not s.stack:
            return s
        name = min(s.stack)
        return jump("drain", _found(s._replace(stack=s.stack - {name}), _refers(s, name)))

    def mark_remark(s: State) -> Answer[State]:
        """World stopped: all is marked, or it goes on."""
        if any(s.storing):
            return None
        complete = not s.overflowed or mutant == "remark_without_flags"
        return jump("drain" if s.stack or not complete else "decided", s)

    def decided(s: State) -> Answer[State]:
        reached, todo = {"null"}, [s.root, *s.kept]
        while todo:
            name = todo.pop()
            if name not in reached:
                reached.add(name)
                todo.append(_refers(s, name))
        check(reached <= s.marked | {"null"}, "everything reachable is marked")
        return jump(END, s)

    return Actor("marker", [drain, *_rescans(mutant), mark_remark, decided])


def build(mutant: str | None) -> Model[State]:
    return Model(
        "overwritten",
        State(),
        [*(_mutator(me, mutant) for me in range(MUTATORS)), _marker(mutant)],
        final={"nothing is left on the stack": lambda s: not s.stack},
    )


CASE = Case(
    "overwritten",
    "stores that find no buffer mark what they overwrite, and flag its block",
    ("src/gc/mark.c", "src/gc/marker.c", "src/gc/snapshot.c", "include/gcheap/barrier_inline.h"),
    ("mark_overwritten", "mark_wanted", "mark_overflowed", "marker_rescan", "overflowed", "drain",
     "mark_remark", "gch_store"),
    build,
    MUTANTS,
)  # fmt: skip
