"""Marking beside mutators that come and go: the flag of who attaches, the log of who detaches.

The same marking as in the model `snapshot`, with two mutators of few operations that may store into
the same slots at once. One is there at the beginning and may detach; the other attaches while
marking goes on.
"""

from __future__ import annotations

from gcheap.explore import Actor, Model, Step, replaced
from gcheap.models import Case
from gcheap.models.snapshot import (
    NULL,
    State,
    begun,
    marker,
    mutator,
    remark,
    snapshot_taken,
    start,
)

FIRST, SECOND = range(2)
OPERATIONS = frozenset({"load", "clear", "store", "cut", "follow"})

MUTANTS = {
    "attach_without_flag": "a mutator that attaches while marking does not log",
    "detach_drops_log": "the log of a mutator that detaches is dropped",
    "marking_ends_unseen": "remark does not look at the log of a mutator that has just attached",
}


def build(mutant: str | None) -> Model[State]:
    def attach(s: State) -> State:
        flag = not s.over and mutant != "attach_without_flag"
        flags, attached = replaced(s.flag, SECOND, flag), replaced(s.attached, SECOND, True)
        return s._replace(flag=flags, attached=attached)

    def detach(me: int) -> Step[State]:
        def detached(s: State) -> State:
            full = s.full if mutant == "detach_drops_log" else s.full | s.log[me]
            return s._replace(
                full=full,
                log=replaced(s.log, me, frozenset()),
                refs=replaced(s.refs, me, NULL),
                attached=replaced(s.attached, me, False),
            )

        return detached

    first = Actor("first", [*mutator(FIRST, OPERATIONS, None), detach(FIRST)])
    second = Actor("second", [attach, *mutator(SECOND, OPERATIONS, None)])
    ends = remark(None, blind=SECOND if mutant == "marking_ends_unseen" else -1)
    return Model(
        "attach",
        start((1, 2), (True, False)),
        [Actor("pause", [snapshot_taken(None)]), *map(begun, (first, second, marker(None), ends))],
    )


CASE = Case(
    "attach",
    "marking beside mutators that attach and detach, and store into the same slots",
    ("src/gc/snapshot.h", "src/gc/snapshot.c", "src/api.c"),
    ("snapshot_attach", "snapshot_detach", "snapshot_flush", "hand_over"),
    build,
    MUTANTS,
)
