"""The explorer on puzzles whose answers are known, and on models that are wrong themselves."""

from __future__ import annotations

import doctest
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gcheap import explore as module
from gcheap.explore import (
    END,
    Actor,
    Answer,
    Model,
    ModelError,
    Result,
    Step,
    check,
    differences,
    explore,
    jump,
    replaced,
)


def test_the_example_of_the_module() -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


# --- Peterson's lock ------------------------------------------------------------------------------


class Peterson(NamedTuple):
    wants: tuple[bool, ...] = (False, False)
    turn: int = 0
    inside: tuple[bool, ...] = (False, False)
    rounds: tuple[int, ...] = (0, 0)


def peterson(me: int, order: str) -> Actor[Peterson]:
    def want(s: Peterson) -> Peterson:
        return s._replace(wants=replaced(s.wants, me, True))

    def give_way(s: Peterson) -> Peterson:
        return s._replace(turn=1 - me)

    def wait(s: Peterson) -> Peterson | None:
        return None if s.wants[1 - me] and s.turn != me else s

    def wait_long(s: Peterson) -> Peterson | None:
        return None if s.wants[1 - me] else s

    def enter(s: Peterson) -> Peterson:
        return s._replace(inside=replaced(s.inside, me, True))

    def leave(s: Peterson) -> Answer[Peterson]:
        s = s._replace(
            inside=replaced(s.inside, me, False),
            wants=replaced(s.wants, me, False),
            rounds=replaced(s.rounds, me, s.rounds[me] + 1),
        )
        return jump(END if s.rounds[me] == 2 else first[0].__name__, s)

    orders: dict[str, list[Step[Peterson]]] = {
        "right": [want, give_way, wait],
        "turn first": [give_way, want, wait],
        "waits first": [wait, want, give_way],
        "no turn": [want, wait_long],
    }
    first = orders[order]
    return Actor(f"thread {me}", [*first, enter, leave])


def run_peterson(order: str) -> Result[Peterson]:
    rules = {"one is inside": lambda s: s.inside != (True, True)}
    return explore(Model("Peterson", Peterson(), [peterson(me, order) for me in range(2)], rules))


def test_petersons_lock_excludes() -> None:
    result = run_peterson("right")
    assert result.ok, result.violation
    assert result.states > 20


@pytest.mark.parametrize("order", ["turn first", "waits first"])
def test_a_lock_whose_steps_are_in_another_order_is_caught(order: str) -> None:
    found = run_peterson(order).violation
    assert found is not None
    assert (found.kind, found.rule) == ("invariant", "one is inside")
    assert found.state.inside == (True, True)
    assert len(found.trace) == 8
    assert [e.step for e in found.trace].count("enter") == 2


def test_a_lock_without_turns_is_a_deadlock() -> None:
    found = run_peterson("no turn").violation
    assert found is not None
    assert (found.kind, len(found.trace)) == ("deadlock", 2)


# --- deadlock, livelock, checks, ends -------------------------------------------------------------


class Locks(NamedTuple):
    a: str = ""
    b: str = ""


def taker(name: str, *order: str) -> Actor[Locks]:
    def take(lock: str) -> tuple[str, Step[Locks]]:
        def taken(s: Locks) -> Locks | None:
            return s._replace(**{lock: name}) if getattr(s, lock) == "" else None

        return f"take {lock}", taken

    def release(s: Locks) -> Locks:
        return Locks(*("" if held == name else held for held in s))

    return Actor(name, [*map(take, order), release])


def test_locks_in_one_order_end() -> None:
    result = explore(Model("locks", Locks(), [taker("x", "a", "b"), taker("y", "a", "b")]))
    assert result.ok
    assert result.endings == 1


def test_locks_in_two_orders_are_a_deadlock_after_two_steps() -> None:
    result = explore(Model("locks", Locks(), [taker("x", "a", "b"), taker("y", "b", "a")]))
    found = result.violation
    assert found is not None
    assert not result.ok
    assert (found.kind, found.state) == ("deadlock", Locks("x", "y"))
    assert found.rule == "waiting: x at take b; y at take a"
    assert len(found.trace) == 2


def test_daemons_may_wait_for_ever() -> None:
    def never(s: Locks) -> None:
        return None

    for daemon, kind in ((True, None), (False, "deadlock")):
        actors = [taker("x", "a"), Actor("server", [never], daemon=daemon)]
        found = explore(Model("server", Locks(), actors)).violation
        assert (found and found.kind) == kind


def test_a_loop_that_cannot_end_is_a_livelock_from_where_it_cannot() -> None:
    def choose(s: int) -> list[Answer[int]]:
        return [jump(END, s), s + 1]

    def spin(s: int) -> Answer[int]:
        return jump("spin", 3 - s)

    found = explore(Model("spinner", 1, [Actor("one", [choose, spin])])).violation
    assert found is not None
    assert found.kind == "livelock"
    assert len(found.trace) == 1
    ends = Model("spinner", 1, [Actor("one", [choose, lambda s: jump("choose", 1)])])
    assert explore(ends).ok


def test_what_must_hold_at_the_end_may_be_broken_before() -> None:
    up: Step[int] = lambda s: s + 1  # noqa: E731
    actor = Actor("one", [("up", up), ("again", up)])
    assert explore(Model("two", 0, [actor], final={"two": lambda s: s == 2})).ok
    found = explore(Model("three", 0, [actor], final={"three": lambda s: s == 3})).violation
    assert found is not None
    assert (found.kind, found.rule, found.state) == ("final", "three", 2)


def test_a_check_that_fails_is_the_last_step_of_its_trace() -> None:
    def up(s: int) -> Answer[int]:
        check(s < 2, "it stays below 3")
        return jump("up", s + 1)

    for memoise in (True, False):
        found = explore(Model("check", 0, [Actor("one", [up])]), memoise=memoise).violation
        assert found is not None
        assert (found.kind, found.rule) == ("check", "it stays below 3")
        assert [e.before for e in found.trace] == [0, 1, 2]


def test_the_first_state_is_looked_at() -> None:
    for memoise in (True, False):
        model = Model("wrong", 1, [], {"nought": lambda s: s == 0})
        found = explore(model, memoise=memoise).violation
        assert found is not None
        assert found.trace == ()
        assert str(found) == "broken: nought, after 0 steps\n  1\n"


def test_a_model_without_actors_ends_at_once() -> None:
    assert explore(Model("nothing", 0, [])) == Result("nothing", 1, 0, 1, None)


# --- traces ---------------------------------------------------------------------------------------


class Inner(NamedTuple):
    x: int
    y: frozenset[str]


@dataclass(frozen=True)
class Outer:
    inner: Inner
    pair: tuple[str, ...] = ("a", "b")
    left: int = field(default=0)


def test_traces_tell_what_changed_and_where() -> None:
    before = Outer(Inner(1, frozenset({"p", "q"})))
    after = Outer(Inner(2, frozenset({"q", "r"})), ("a", "c"))
    assert list(differences(before, after)) == [
        "inner.x: 1 -> 2",
        "inner.y: +r -p",
        "pair[1]: b -> c",
    ]
    assert list(differences(Outer(before.inner, ("a",)), before)) == ["pair: (a) -> (a, b)"]
    assert list(differences(1, 2)) == ["state: 1 -> 2"]


def test_a_trace_is_printed_in_columns() -> None:
    found = explore(Model("locks", Locks(), [taker("x", "a", "b"), taker("why", "b", "a")]))
    assert str(found.violation) == (
        "deadlock: waiting: x at take b; why at take a, after 2 steps\n"
        "  1  x    take a  a: '' -> x\n"
        "  2  why  take b  b: '' -> why\n"
    )


# --- models that are wrong ------------------------------------------------------------------------


class Holder:
    """Compared by value, hashable, and not frozen."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Holder) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


class Lists(NamedTuple):
    items: list[int]


class Anything(NamedTuple):
    item: object = 0


class ByIdentity:
    pass


def in_place(s: Holder) -> Holder:
    s.value += 1
    return s


def one(step: Step[Anything]) -> Model[Anything]:
    return Model("wrong", Anything(), [Actor("one", [("step", step)])])


WRONG: dict[str, Model[Any]] = {
    "changes the state that it is given": Model("m", Holder(0), [Actor("one", [in_place])]),
    "compared by identity": Model("m", ByIdentity(), []),
    "unhashable type: 'list'": Model("m", Lists([]), []),
    "jumps to 'nowhere', which is none": one(lambda s: jump("nowhere", s)),
    "answers with True, no state": one(lambda s: True),  # type: ignore[arg-type,return-value]
    "step 'step' of 'one' answers with a state of unhashable type: 'set'": one(
        lambda s: s._replace(item=set())
    ),
    r"fails with KeyError\('x'\) in Anything\(item=0\)": one(
        lambda s: s._replace(item=dict[str, int]()["x"])
    ),
    r"actors of one name: \['one', 'one'\]": Model(
        "m", Anything(), [Actor("one", []), Actor("one", [])]
    ),
    "more than 50 states": one(lambda s: jump("step", s._replace(item=(s.item,)))),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_wrong_model_is_told_what_is_wrong(said: str) -> None:
    for memoise in (True, False):
        with pytest.raises(ModelError, match=said):
            explore(WRONG[said], memoise=memoise, limit=50)


def test_labels_of_an_actor_differ() -> None:
    with pytest.raises(ModelError, match="two steps 'in_place'"):
        Actor("one", [in_place, in_place])
    with pytest.raises(ModelError, match="two steps"):
        Actor("one", [(END, in_place)])


def test_not_memoised_there_is_a_limit_too() -> None:
    with pytest.raises(ModelError, match="more than 50 states"):
        explore(one(lambda s: jump("step", s)), memoise=False, limit=50)


# --- counts ---------------------------------------------------------------------------------------


def ticker(me: int, steps: int) -> Actor[tuple[int, ...]]:
    def tick(s: tuple[int, ...]) -> tuple[int, ...]:
        return replaced(s, me, s[me] + 1)

    return Actor(f"{me}", [(f"tick {at}", tick) for at in range(steps)])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(lambda n: sum(n) <= 8))
@settings(max_examples=40)
def test_orders_of_independent_actors_are_a_multinomial(steps: list[int]) -> None:
    model = Model("clocks", (0,) * len(steps), [ticker(*item) for item in enumerate(steps)])
    orders = math.factorial(sum(steps)) // math.prod(map(math.factorial, steps))
    assert explore(model, memoise=False).endings == orders
    result = explore(model)
    assert (result.states, result.endings) == (math.prod(n + 1 for n in steps), 1)


def table_actor(name: str, table: list[list[int]]) -> Actor[int]:
    """Steps that map a state to another; -1 blocks, -2 fails."""

    def step(row: list[int]) -> Step[int]:
        def stepped(s: int) -> int | None:
            check(row[s] != -2, "row")
            return row[s] if row[s] >= 0 else None

        return stepped

    return Actor(name, [(f"{at}", step(row)) for at, row in enumerate(table)])


tables = st.lists(st.lists(st.integers(-2, 3), min_size=4, max_size=4), max_size=3)


@given(st.lists(tables, min_size=1, max_size=3), st.sets(st.integers(1, 3)))
@example([[[2, 0, -1, 0], [0, 0, 1, 0]], [[2, 0, 0, 0]]], {1})  # a deadlock before a bad state
@example([[[1, -2, 0, 0]], [[2, -2, -1, -1]]], {2})  # a bad state before a failed check
@settings(max_examples=300)
def test_visiting_states_once_finds_what_trying_every_order_finds(
    actors: list[list[list[int]]], bad: set[int]
) -> None:
    model = Model(
        "random",
        0,
        [table_actor(f"{at}", table) for at, table in enumerate(actors)],
        {"good": lambda s: s not in bad},
    )
    once, every = explore(model).violation, explore(model, memoise=False).violation
    assert (once is None) == (every is None)
    if once is not None and every is not None:
        assert len(once.trace) == len(every.trace)
        assert (once.kind, once.rule) == (every.kind, every.rule)
        state = 0
        for event in once.trace:
            assert event.before == state
            state = event.after
        assert state == once.state
