"""A stack without a lock whose head counts pushes: free handles, and full logs of the snapshot.

A pop reads the head, then the link of that entry, then swaps the head for the link if the head is
as it was. Between, others may pop that entry and the next and push the first again (ABA): the count
makes the head another one. Two threads pop an entry each and push it again, twice.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import Actor, Answer, Model, Step, check, jump, replaced
from gcheap.models import Case

THREADS = 2
ENTRIES = 3
NONE = -1

MUTANTS = {
    "no_count": "the head does not count pushes (ABA)",
    "link_after_push": "the link is written after the entry is on the stack",
    "push_by_store": "the head is stored, not compared and swapped",
}


class Head(NamedTuple):
    entry: int
    pushes: int


class State(NamedTuple):
    head: Head = Head(0, 0)
    link: tuple[int, ...] = (*range(1, ENTRIES), NONE)
    held: tuple[frozenset[int], ...] = (frozenset(),) * THREADS
    seen: tuple[Head, ...] = (Head(NONE, 0),) * THREADS
    next: tuple[int, ...] = (NONE,) * THREADS
    todo: tuple[str, ...] = ("pop pop push push", "pop push pop push")


def _listed(s: State) -> list[int]:
    found: list[int] = []
    at = s.head.entry
    while at != NONE and len(found) <= ENTRIES:
        found.append(at)
        at = s.link[at]
    return found


def _is_whole(s: State) -> bool:
    """Every entry is in one place, but one that is being pushed may be nowhere for a moment."""
    places = _listed(s) + [entry for held in s.held for entry in held]
    return len(places) == len(set(places))


def _thread(me: int, mutant: str | None) -> Actor[State]:
    def choose(s: State) -> Answer[State]:
        word, _, rest = s.todo[me].partition(" ")
        s = s._replace(todo=replaced(s.todo, me, rest))
        if word == "push" and s.held[me]:
            return jump("push_free", s)
        return jump("pop_free", s) if word == "pop" else jump("(end)" if not word else "choose", s)

    def pop_free(s: State) -> Answer[State]:
        if s.head.entry == NONE:
            return jump("choose", s)
        return s._replace(seen=replaced(s.seen, me, s.head))

    def buffer_popped(s: State) -> State:
        return s._replace(next=replaced(s.next, me, s.link[s.seen[me].entry]))

    def pop_cas(s: State) -> Answer[State]:
        if s.head != s.seen[me]:
            return jump("pop_free", s)
        entry = s.head.entry
        check(not any(entry in held for held in s.held), "an entry is handed out once")
        held = replaced(s.held, me, s.held[me] | {entry})
        return jump("choose", s._replace(head=Head(s.next[me], s.head.pushes), held=held))

    def push_free(s: State) -> State:
        return s._replace(seen=replaced(s.seen, me, s.head))

    def write_link(s: State) -> State:
        return s._replace(link=replaced(s.link, min(s.held[me]), s.seen[me].entry))

    def push_cas(s: State) -> Answer[State]:
        if s.head != s.seen[me] and mutant != "push_by_store":
            return jump("push_free", s)
        entry = min(s.held[me])
        head = Head(entry, s.head.pushes + (mutant != "no_count"))
        s = s._replace(head=head, held=replaced(s.held, me, s.held[me] - {entry}))
        return s if mutant == "link_after_push" else jump("choose", s)

    def link_late(s: State) -> Answer[State]:
        link = replaced(s.link, s.head.entry, s.seen[me].entry)
        return jump("choose", s._replace(link=link))

    push: list[Step[State]] = [push_free, write_link, push_cas]
    if mutant == "link_after_push":
        push = [push_free, push_cas, link_late]
    return Actor(f"thread {me}", [choose, pop_free, buffer_popped, pop_cas, *push])


def build(mutant: str | None) -> Model[State]:
    return Model(
        "stack",
        State(),
        [_thread(me, mutant) for me in range(THREADS)],
        invariants={"an entry is in one place": _is_whole},
        final={"no entry is lost": lambda s: len(_listed(s)) + sum(map(len, s.held)) == ENTRIES},
    )


CASE = Case(
    "stack",
    "lists that threads push and pop without a lock (free handles, full logs)",
    ("src/gc/roots.c", "src/gc/snapshot.c"),
    ("pop_free", "push_free", "next_free", "at_cas", "buffer_popped"),
    build,
    MUTANTS,
)
