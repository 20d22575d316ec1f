"""Stopping the world and waiting for it to run: what mutators and markers have in common.

The stopper's steps, and those of a thread that has stopped: it wakes the stopper, then waits. The
lock and the condition variables are those of pthreads: who waits gives the lock back at once with
falling asleep, and a signal that finds nobody asleep is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeVar

from gcheap.explore import END, Answer, Jump, Step, jump
from gcheap.models._memory import Memory

__all__ = ["Labelled", "World", "leave_world", "lifted", "stopper", "wait_for_world"]

S = TypeVar("S", bound=Hashable)
Labelled = list[tuple[str, Step[S]]]


class World(NamedTuple):
    """h->world; part of a state. The last CPU of the memory is the stopper's."""

    memory: Memory
    markers: int = 0
    lock: int = -1
    """Its holder."""
    asleep: frozenset[int] = frozenset()
    """In cond_wait."""
    pause: bool = False

    @property
    def stopper(self) -> int:
        """The stopper's number."""
        return len(self.memory.buffers) - 1

    def stop(self, me: int) -> bool:
        """Whether this thread sees `stop`."""
        return self.memory.load(me, "stop") != 0

    def stored(self, me: int, name: str, value: int, *, relaxed: bool = False) -> World | None:
        """Sequentially consistent unless relaxed; None: not yet."""
        if relaxed:
            return self._replace(memory=self.memory.store(me, name, value))
        memory = self.memory.store_seq(me, name, value)
        return None if memory is None else self._replace(memory=memory)

    def taken(self, me: int) -> World | None:
        """Lock the lock; None: somebody has it."""
        return self._replace(lock=me) if self.lock < 0 else None

    def slept(self, me: int) -> World:
        """Give the lock back and fall asleep."""
        return self._replace(lock=-1, asleep=self.asleep | {me})

    def signalled(self) -> World:
        """Wake the stopper."""
        return self._replace(asleep=self.asleep - {self.stopper})


def lifted(
    get: Callable[[S], World], put: Callable[[S, World], S], steps: Labelled[World]
) -> Labelled[S]:
    """Return steps of the world as steps of a state of which it is a part."""

    def lift(step: Step[World]) -> Step[S]:
        def of_state(s: S) -> Answer[S]:
            answer = step(get(s))
            if answer is None:
                return None
            assert not isinstance(answer, list)
            if isinstance(answer, Jump):
                return jump(answer.label, put(s, answer.state))
            return put(s, answer)

        return of_state

    return [(label, lift(step)) for label, step in steps]


def _woken(me: int, again: str) -> Step[World]:
    """The end of cond_wait: signalled, and the lock is to be had."""

    def woken(w: World) -> Answer[World]:
        return None if me in w.asleep or w.lock >= 0 else jump(again, w._replace(lock=me))

    return woken


def stopper(all_stopped: Callable[[World], bool], mutant: str | None) -> Labelled[World]:
    """Return world_stop and world_resume, with a pause between."""

    def world_stopping(w: World) -> World | None:
        return w.stored(w.stopper, "stop", 1, relaxed=mutant == "stop_relaxed")

    def spin(w: World) -> Answer[World]:
        return jump("world_stopped", w) if all_stopped(w) else w

    def look(w: World) -> Answer[World]:
        return jump("world_stopped", w._replace(lock=-1)) if all_stopped(w) else w

    def take(w: World) -> World | None:
        return w.taken(w.stopper)

    def run(w: World) -> World | None:
        return w if mutant == "resume_without_lock" else w.taken(w.stopper)

    def woken(w: World) -> Answer[World]:
        return _woken(w.stopper, "all_stopped")(w)  # type: ignore[return-value]

    def world_resumed(w: World) -> World:
        lock = w.lock if mutant == "resume_without_lock" else -1
        return w._replace(lock=lock, asleep=frozenset())

    return [
        ("world_stopping", world_stopping),
        ("spin", spin),
        ("lock_lock", take),
        ("all_stopped", look),
        ("cond_wait", lambda w: w.slept(w.stopper)),
        ("woken", woken),
        ("world_stopped", lambda w: w._replace(pause=True)),
        ("collected", lambda w: w._replace(pause=False)),
        ("world_run", run),
        ("clear_stop", lambda w: w.stored(w.stopper, "stop", 0)),
        ("world_resumed", world_resumed),
    ]


def wait_for_world(me: int, again: str, mutant: str | None) -> Labelled[World]:
    """Return what a thread does that has stopped: it wakes the stopper, waits, and goes on at
    ``again``."""

    def wake_stopper(w: World) -> Answer[World]:
        if mutant == "no_wake" or not w.stop(me):
            return jump("wait_resumed", w)
        if mutant == "wake_without_lock":
            return jump("wait_resumed", w.signalled())
        return w.taken(me)

    def stop_is_set(w: World) -> Answer[World]:
        return w if w.stop(me) else jump(again, w._replace(lock=-1))

    return [
        ("wake_stopper", wake_stopper),
        ("cond_signal", lambda w: w.signalled()._replace(lock=-1)),
        ("wait_resumed", lambda w: w.taken(me)),
        ("stop_is_set", stop_is_set),
        ("cond_wait", lambda w: w.slept(me)),
        ("woken", _woken(me, "stop_is_set")),
    ]


def leave_world(me: int, mutant: str | None) -> Labelled[World]:
    """Return what a thread does that has stopped for good, and is waited for no more."""

    def wake_last(w: World) -> Answer[World]:
        if mutant in ("no_wake", "end_does_not_wake") or not w.stop(me):
            return jump(END, w)
        return jump(END, w.signalled()) if mutant == "wake_without_lock" else w.taken(me)

    return [
        ("wake_last", wake_last),
        ("signal_last", lambda w: w.signalled()._replace(lock=-1)),
    ]
