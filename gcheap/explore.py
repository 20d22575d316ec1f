"""An exhaustive explorer of interleavings: every order of the steps of a few actors.

A *model* is a state and some *actors*. The state is one hashable value (a ``NamedTuple`` reads
best); an actor is a list of steps, each of them a function of the state that happens at once:

>>> from typing import NamedTuple
>>> class Counter(NamedTuple):
...     value: int = 0
...     seen: tuple[int, ...] = (-1, -1)
>>> def adder(me: int) -> Actor[Counter]:
...     def load(s: Counter) -> Counter:
...         return s._replace(seen=replaced(s.seen, me, s.value))
...     def store(s: Counter) -> Counter:
...         return s._replace(value=s.seen[me] + 1)
...     return Actor(f"adder {me}", [load, store])
>>> model = Model("a counter without a lock", Counter(), [adder(0), adder(1)],
...               final={"nothing is lost": lambda s: s.value == 2})
>>> print(explore(model).violation)
not at the end: nothing is lost, after 4 steps
  1  adder 0  load   seen[0]: -1 -> 0
  2  adder 1  load   seen[1]: -1 -> 0
  3  adder 0  store  value: 0 -> 1
  4  adder 1  store  (nothing changes)
<BLANKLINE>

A step answers with

* the state after it: the actor goes on to its next step, and has ended after its last;
* ``None``: it cannot happen now, the actor waits (a lock, a condition, a spinning loop);
* ``jump(label, state)``: the actor goes on at the step of that label (the function's name, unless
  the step is given as a pair of label and function); ``END`` ends it;
* a list of such answers: any of them, chosen by chance.

Steps leave the state they are given as it is. ``check`` inside a step is what an assertion is in
the program. Every state is visited once; the first rule found broken is told with the shortest
sequence of steps that leads there. A model is finite, or ``limit`` ends it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

__all__ = [
    "END",
    "Actor",
    "Event",
    "Jump",
    "Model",
    "ModelError",
    "Result",
    "Step",
    "Violation",
    "check",
    "explore",
    "jump",
    "replaced",
]

S = TypeVar("S", bound=Hashable)
T = TypeVar("T")

END = "(end)"
"""The label after an actor's last step."""


class ModelError(Exception):
    """The model itself is wrong, not what it models."""


class CheckFailed(Exception):  # noqa: N818 (caught here, and becomes a violation)
    """What ``check`` found wrong in a step."""


def check(condition: bool, message: str) -> None:
    """Say in a step what holds whenever it happens. Otherwise the message is the broken rule."""
    if not condition:
        raise CheckFailed(message)


class Jump(NamedTuple, Generic[S]):
    """An answer of a step: the actor goes on elsewhere than at its next step."""

    label: str
    state: S


def jump(label: str, state: S) -> Jump[S]:
    """Return the answer of a step after which the actor goes on at the step ``label``."""
    return Jump(label, state)


def replaced(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    """Return the tuple with another item at an index."""
    return (*items[:index], item, *items[index + 1 :])


Answer: TypeAlias = S | Jump[S] | None
Step: TypeAlias = Callable[[S], Answer[S] | list[Answer[S]]]


class Actor(Generic[S]):
    """A sequence of steps that other actors' steps may come between.

    A ``daemon`` serves others: that it waits for ever, once they have ended, is no deadlock.
    """

    def __init__(
        self, name: str, steps: Sequence[Step[S] | tuple[str, Step[S]]], *, daemon: bool = False
    ) -> None:
        self.name = name
        self.daemon = daemon
        self.labels: list[str] = []
        self.steps: list[Step[S]] = []
        for step in steps:
            label, function = step if isinstance(step, tuple) else (step.__name__, step)
            if label in self.labels or label == END:
                raise ModelError(f"actor {name!r} has two steps {label!r}")
            self.labels.append(label)
            self.steps.append(function)
        self.index = {label: at for at, label in enumerate([*self.labels, END])}

    def __repr__(self) -> str:
        return f"Actor({self.name!r}, {self.labels})"


@dataclass(frozen=True)
class Model(Generic[S]):
    """What is explored. Rules are predicates of the state, by the sentence that they assert."""

    name: str
    initial: S
    actors: Sequence[Actor[S]]
    invariants: Mapping[str, Callable[[S], bool]] = field(default_factory=dict)
    """Hold at the beginning and after every step."""
    final: Mapping[str, Callable[[S], bool]] = field(default_factory=dict)
    """Hold when every actor has ended (daemons: wait)."""


class Event(NamedTuple, Generic[S]):
    """One step of a trace."""

    actor: str
    step: str
    before: S
    after: S


@dataclass(frozen=True)
class Violation(Generic[S]):
    """A broken rule and the shortest way there."""

    kind: str
    """``invariant``; ``check``: in the last step; ``final``: not true at the end; ``deadlock``: an
    actor waits and nobody can do anything; ``livelock``: from here the end is out of reach."""
    rule: str
    trace: tuple[Event[S], ...]
    state: S

    def __str__(self) -> str:
        said = {"invariant": "broken", "check": "broken", "final": "not at the end"}
        count = f"{len(self.trace)} step{'' if len(self.trace) == 1 else 's'}"
        lines = [f"{said.get(self.kind, self.kind)}: {self.rule}, after {count}"]
        actors = max((len(e.actor) for e in self.trace), default=0)
        steps = max((len(e.step) for e in self.trace), default=0)
        for number, event in enumerate(self.trace, 1):
            changed = ", ".join(differences(event.before, event.after)) or "(nothing changes)"
            lines.append(f"{number:3}  {event.actor:{actors}}  {event.step:{steps}}  {changed}")
        if not self.trace:
            lines.append(f"  {said_of(self.state)}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Result(Generic[S]):
    """What an exploration found."""

    model: str
    states: int
    """Different ones, each with where every actor stands. (Not ``memoise``: in all orders.)"""
    transitions: int
    endings: int
    """Different states in which nothing can happen. (Not ``memoise``: ways to get to one.)"""
    violation: Violation[S] | None

    @property
    def ok(self) -> bool:
        """Whether every rule held everywhere."""
        return self.violation is None


# --- telling what changed -------------------------------------------------------------------------


def said_of(value: object) -> str:
    """Return a value as traces show it."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str):
        return value or "''"
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(map(said_of, value))) + "}"
    if type(value) is tuple:
        return "(" + ", ".join(map(said_of, value)) + ")"
    return repr(value)


def _parts(value: object) -> dict[str, object] | None:
    """Return the parts of a value by the way to them; None: it has none."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {f".{name}": getattr(value, name) for name in value._fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f".{f.name}": getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return {f"[{at}]": item for at, item in enumerate(value)}
    return None


def differences(before: object, after: object, path: str = "") -> Iterator[str]:
    """Yield ``path: before -> after`` of each part that differs."""
    if before == after:
        return
    old, new = _parts(before), _parts(after)
    if old is not None and new is not None and old.keys() == new.keys() and old:
        for name in old:
            yield from differences(old[name], new[name], path + name)
    elif isinstance(before, frozenset) and isinstance(after, frozenset):
        signed = [f"+{said_of(i)}" for i in after - before] + [
            f"-{said_of(i)}" for i in before - after
        ]
        yield f"{path.lstrip('.')}: {' '.join(sorted(signed))}"
    else:
        yield f"{path.lstrip('.') or 'state'}: {said_of(before)} -> {said_of(after)}"


# --- exploring ------------------------------------------------------------------------------------


class _Config(NamedTuple, Generic[S]):
    """A state, and the step at which each actor stands."""

    state: S
    at: tuple[int, ...]


class _Move(NamedTuple, Generic[S]):
    actor: int
    step: int
    to: _Config[S]


class _Failed(Exception):  # noqa: N818
    """A check failed in a step."""

    def __init__(self, actor: int, step: int, message: str) -> None:
        self.actor, self.step, self.message = actor, step, message


class _Explorer(Generic[S]):
    def __init__(self, model: Model[S], limit: int) -> None:
        self.model = model
        self.limit = limit
        self.kind: type[Any] = type(model.initial)
        names = [actor.name for actor in model.actors]
        if len(set(names)) != len(names):
            raise ModelError(f"model {model.name!r} has actors of one name: {names}")
        try:
            hash(model.initial)
        except TypeError as error:
            raise ModelError(f"the initial state of {model.name!r}: {error}") from None
        if self.kind.__eq__ is object.__eq__:
            raise ModelError(
                f"states of {model.name!r} are compared by identity ({self.kind.__name__}): "
                "use a NamedTuple, or a frozen dataclass"
            )

    def start(self) -> _Config[S]:
        return _Config(self.model.initial, (0,) * len(self.model.actors))

    def moves(self, config: _Config[S]) -> list[_Move[S]]:
        """Everything that can happen next."""
        found: list[_Move[S]] = []
        before = hash(config.state)
        for number, actor in enumerate(self.model.actors):
            at = config.at[number]
            if at == len(actor.steps):
                continue
            for answer in self._answers(number, at, config.state, before):
                if answer is None:
                    continue
                to = at + 1
                if isinstance(answer, Jump):
                    if answer.label not in actor.index:
                        raise self._wrong(number, at, f"jumps to {answer.label!r}, which is none")
                    to, answer = actor.index[answer.label], answer.state
                if type(answer) is not self.kind:
                    raise self._wrong(number, at, f"answers with {answer!r}, no state")
                found.append(_Move(number, at, _Config(answer, replaced(config.at, number, to))))
        return found

    def _answers(self, number: int, at: int, state: S, before: int) -> list[Answer[S]]:
        step = self.model.actors[number].steps[at]
        try:
            answer = step(state)
        except CheckFailed as error:
            raise _Failed(number, at, str(error)) from None
        except Exception as error:
            raise self._wrong(number, at, f"fails with {error!r} in {said_of(state)}") from error
        if hash(state) != before:
            raise self._wrong(number, at, "changes the state that it is given; return another one")
        return answer if isinstance(answer, list) else [answer]

    def unhashable(self, move: _Move[S], error: TypeError) -> ModelError:
        return self._wrong(move.actor, move.step, f"answers with a state of {error}")

    def _wrong(self, number: int, at: int, what: str) -> ModelError:
        actor = self.model.actors[number]
        return ModelError(f"{self.model.name}: step {actor.labels[at]!r} of {actor.name!r} {what}")

    def broken(self, config: _Config[S]) -> str | None:
        for rule, holds in self.model.invariants.items():
            if not holds(config.state):
                return rule
        return None

    def at_end(self, config: _Config[S]) -> tuple[str, str] | None:
        """Nothing can happen: whether that is a proper end; else what is wrong with it."""
        waits = [
            f"{actor.name} at {actor.labels[at]}"
            for actor, at in zip(self.model.actors, config.at, strict=True)
            if at < len(actor.steps) and not actor.daemon
        ]
        if waits:
            return "deadlock", "waiting: " + "; ".join(waits)
        for rule, holds in self.model.final.items():
            if not holds(config.state):
                return "final", rule
        return None

    def event(self, before: _Config[S], move: _Move[S]) -> Event[S]:
        actor = self.model.actors[move.actor]
        return Event(actor.name, actor.labels[move.step], before.state, move.to.state)

    def too_many(self) -> ModelError:
        return ModelError(f"model {self.model.name!r} has more than {self.limit} states")


class _Graph(_Explorer[S]):
    """Breadth first, each configuration once; the way to each is a shortest one."""

    def run(self) -> Result[S]:
        self.number = {self.start(): 0}
        self.configs = [self.start()]
        self.came: list[tuple[int, _Move[S]] | None] = [None]
        self.depth = [0]
        self.edges: list[list[int]] = []
        self.transitions = 0
        self.ends: list[int] = []
        found = self._visit_all()
        return Result(self.model.name, len(self.configs), self.transitions, len(self.ends), found)

    def _visit_all(self) -> Violation[S] | None:
        failed: Violation[S] | None = None
        at = 0
        while at < len(self.configs):
            if failed is not None and self.depth[at] == len(failed.trace):
                return failed
            found = self._visit(at)
            if found is not None and found.kind != "check":
                return found
            failed = failed or found  # a step longer than what may yet be found at this depth
            at += 1
        return failed or self._without_end()

    def _visit(self, at: int) -> Violation[S] | None:
        config = self.configs[at]
        rule = self.broken(config)
        if rule is not None:
            return self._violation("invariant", rule, at)
        try:
            moves = self.moves(config)
        except _Failed as failed:
            self.edges.append([])
            last = _Move(failed.actor, failed.step, config)
            trace = (*self._trace(at), self.event(config, last))
            return Violation("check", failed.message, trace, config.state)
        self.transitions += len(moves)
        self.edges.append([self._reached(at, move) for move in moves])
        if not moves:
            self.ends.append(at)
            wrong = self.at_end(config)
            if wrong is not None:
                return self._violation(*wrong, at)
        return None

    def _reached(self, at: int, move: _Move[S]) -> int:
        """Return the number of the configuration after a step, a new one if it is."""
        try:
            number = self.number.setdefault(move.to, len(self.configs))
        except TypeError as error:
            raise self.unhashable(move, error) from None
        if number == len(self.configs):
            if number >= self.limit:
                raise self.too_many()
            self.configs.append(move.to)
            self.came.append((at, move))
            self.depth.append(self.depth[at] + 1)
        return number

    def _without_end(self) -> Violation[S] | None:
        """The first configuration from which no end can be reached."""
        before: list[list[int]] = [[] for _ in self.configs]
        for at, after in enumerate(self.edges):
            for number in after:
                before[number].append(at)
        reaches = [False] * len(self.configs)
        todo = list(self.ends)
        for at in todo:
            reaches[at] = True
        while todo:
            for at in before[todo.pop()]:
                if not reaches[at]:
                    reaches[at] = True
                    todo.append(at)
        if all(reaches):
            return None
        return self._violation("livelock", "the end cannot be reached", reaches.index(False))

    def _trace(self, at: int) -> tuple[Event[S], ...]:
        events: list[Event[S]] = []
        came = self.came[at]
        while came is not None:
            events.append(self.event(self.configs[came[0]], came[1]))
            came = self.came[came[0]]
        return tuple(reversed(events))

    def _violation(self, kind: str, rule: str, at: int) -> Violation[S]:
        return Violation(kind, rule, self._trace(at), self.configs[at].state)


class _Tree(_Explorer[S]):
    """Every sequence of steps, though they lead to the same states. Never ends if one may."""

    def run(self) -> Result[S]:
        self.nodes, self.endings = 1, 0
        self.todo: deque[tuple[_Config[S], tuple[Event[S], ...]]] = deque([(self.start(), ())])
        found = self._visit_all()
        return Result(self.model.name, self.nodes, self.nodes - 1, self.endings, found)

    def _visit_all(self) -> Violation[S] | None:
        failed: Violation[S] | None = None
        while self.todo:
            config, trace = self.todo.popleft()
            if failed is not None and len(trace) == len(failed.trace):
                return failed
            found = self._visit(config, trace)
            if found is not None and found.kind != "check":
                return found
            failed = failed or found
        return failed

    def _visit(self, config: _Config[S], trace: tuple[Event[S], ...]) -> Violation[S] | None:
        rule = self.broken(config)
        if rule is not None:
            return Violation("invariant", rule, trace, config.state)
        try:
            moves = self.moves(config)
        except _Failed as failed:
            last = self.event(config, _Move(failed.actor, failed.step, config))
            return Violation("check", failed.message, (*trace, last), config.state)
        self.nodes += len(moves)
        if self.nodes > self.limit:
            raise self.too_many()
        for move in moves:
            try:
                hash(move.to)
            except TypeError as error:
                raise self.unhashable(move, error) from None
            self.todo.append((move.to, (*trace, self.event(config, move))))
        if not moves:
            self.endings += 1
            wrong = self.at_end(config)
            if wrong is not None:
                return Violation(*wrong, trace, config.state)
        return None


def explore(model: Model[S], *, memoise: bool = True, limit: int = 2_000_000) -> Result[S]:
    """Try every order of the model's steps and return what was found.

    ``memoise`` off: states that were met before are met again, so ``endings`` counts orders;
    livelocks are not looked for. ``limit``: ModelError with more states than this.
    """
    explorer = _Graph(model, limit) if memoise else _Tree(model, limit)
    return explorer.run()
