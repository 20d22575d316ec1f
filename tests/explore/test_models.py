"""The models of the cycle hold, each of their mutants is caught, and the C code has their words."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gcheap import models
from gcheap.explore import Actor, Answer, Model, Result, Step, explore, jump, replaced
from gcheap.models import Case, case, cases
from gcheap.models._memory import Memory, cpu

NATIVE = Path(__file__).parents[2] / "native"
CASES = cases()
MUTANTS = [(one, mutant) for one in CASES for mutant in one.mutants]

NOT_MODELLED = {
    "arena_collapsed": "nobody else looks at an arena between its last unit and the end",
    "block_unplanned": "in the pause; `pin` has unplan_pinned",
    "cycle_asked": "under the controller's lock",
    "ending": "before faults_drain of `drain`",
    "ended": "after the end of `drain`: all units are made and reset",
    "marking_beside": "before the marker_enters of `markers`",
    "dest_filled": "in the pause",
    "driver_rests": "the cycle lock is held, or waited with",
    "extents_wanted": "nothing has moved yet; the driver is busy, or at rest",
    "flip_prepared": "nothing is flipped yet",
    "handle_freed": "before push_free of `stack`",
    "large_given_up": "a birth that a flip came upon is begun again, by the thread itself",
    "large_step": "a safepoint of the thread itself",
    "object_unplanned": "in the pause; `pin` has unplan_pinned",
    "pages_given_back": "of an object whose length says so since a pause",
    "pages_taken": "majors are held off: `transfers` of heap/large.h",
    "piece_copied": "in the pause",
    "region_registered": "no mutator reaches the region then",
    "room_taken": "a count of bytes",
    "sweep_begins": "the mark is over, nothing is planned; the cycle lock is free",
    "unit_armed": "before the flip, or at birth",
    "worker_rests": "between `claims_leave` and `claims_enter` of `fork`",
}
"""GCH_POINTs that no model has a step for, and why."""


@cache
def explored(name: str, mutant: str | None = None) -> Result[Any]:
    return explore(case(name).model(mutant))


@pytest.mark.parametrize("one", CASES, ids=[one.name for one in CASES])
def test_the_model_holds(one: Case) -> None:
    result = explored(one.name)
    assert result.ok, result.violation
    assert result.model == one.name
    assert result.endings > 0
    assert result.transitions > result.states > 40


@pytest.mark.parametrize(("one", "mutant"), MUTANTS, ids=[f"{o.name}-{m}" for o, m in MUTANTS])
def test_the_mutant_is_caught(one: Case, mutant: str) -> None:
    found = explored(one.name, mutant).violation
    assert found is not None
    state = one.model(mutant).initial
    assert found.trace
    for event in found.trace:
        assert event.before == state
        state = event.after
    assert found.rule in str(found).splitlines()[0]
    assert len(str(found).splitlines()) == len(found.trace) + 1


@pytest.mark.parametrize("one", CASES, ids=[one.name for one in CASES])
def test_no_rule_of_a_model_is_idle(one: Case) -> None:
    """Each invariant, each rule for the end and each check is what catches some mutant, or could:
    a rule that no mutant breaks is in `NEVER_BROKEN`, by its sentence."""
    model = one.model()
    caught = {
        found.rule for mutant in one.mutants if (found := explored(one.name, mutant).violation)
    }
    idle = {*model.invariants, *model.final} - caught
    assert idle == NEVER_BROKEN.get(one.name, set())


NEVER_BROKEN = {
    "units": {"every unit is MAPPED", "the frame is back"},
    "drain": {"the units are reset"},
    "arenas": {"every unit is MAPPED"},
    "safepoint": {"the lock is free"},
    "heaps": {"no world is stopped"},
    "registry": {"the heap is gone"},
    "markers": {"everything grey was scanned", "nobody is counted"},
    "cards": {
        "nothing appears before all of it is finished (I2)",
        "the object is old",
        "the unit is MAPPED",
    },
    "overwritten": {"nothing is left on the stack"},
    "fork": {
        "the pages of a unit that is MAPPED are there",
        "every unit is MAPPED",
        "every unit of the child is MAPPED",
    },
    "reserve": {"a block in use has memory"},
    "stack": {"no entry is lost"},
}
"""Asserted beside what their mutants break first: a shortest trace ends at another rule."""


@pytest.mark.parametrize("one", CASES, ids=[one.name for one in CASES])
def test_the_code_has_the_words_of_the_model(one: Case) -> None:
    text = "".join((NATIVE / source).read_text() for source in one.sources)
    words = set(re.findall(r"\w+", text))
    assert set(one.mirrors) <= words, sorted(set(one.mirrors) - words)


def test_every_hook_point_is_a_step_of_a_model_or_has_a_reason_not_to_be() -> None:
    sources = [*NATIVE.glob("src/**/*.c"), *NATIVE.glob("src/**/*.h")]
    points = {
        name
        for source in sources
        for name in re.findall(r"GCH_POINT\((\w+)\);", source.read_text())
    }
    steps = {
        label.split()[0] for one in CASES for actor in one.model().actors for label in actor.labels
    }
    assert points - steps == set(NOT_MODELLED)


def test_every_module_is_listed() -> None:
    folder = Path(models.__file__).parent
    names = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert names == set(models.MODULES)
    assert [one.name for one in CASES] == list(models.MODULES)


def test_names_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="'unit' is no model: units, arenas"):
        case("unit")
    with pytest.raises(ValueError, match="'nothing' is no mutant of drain: enter_relaxed, "):
        case("drain").model("nothing")


# --- memory without order -------------------------------------------------------------------------


def both_see_nought(*, ordered: bool) -> bool:
    """Store buffering: each of two CPUs stores, then loads what the other stores."""

    def put(s: tuple[Memory, tuple[int, ...]], memory: Memory) -> tuple[Memory, tuple[int, ...]]:
        return memory, s[1]

    def program(me: int) -> Actor[tuple[Memory, tuple[int, ...]]]:
        def store(s: tuple[Memory, tuple[int, ...]]) -> tuple[Memory, tuple[int, ...]] | None:
            name = "xy"[me]
            memory = s[0].store_seq(me, name, 1) if ordered else s[0].store(me, name, 1)
            return None if memory is None else (memory, s[1])

        def load(s: tuple[Memory, tuple[int, ...]]) -> tuple[Memory, tuple[int, ...]]:
            return s[0], replaced(s[1], me, s[0].load(me, "yx"[me]))

        return Actor(f"{me}", [store, load])

    model = Model(
        "store buffering",
        (Memory.of(2, x=0, y=0), (-1, -1)),
        [program(0), program(1), *(cpu(n, lambda s: s[0], put) for n in range(2))],
        {"one sees the other": lambda s: s[1] != (0, 0)},
    )
    return not explore(model).ok


def test_relaxed_stores_pass_loads_and_ordered_ones_do_not() -> None:
    assert both_see_nought(ordered=False)
    assert not both_see_nought(ordered=True)


def test_a_cpu_sees_its_own_stores_and_the_last_of_one_variable_stays_last() -> None:
    memory = Memory.of(2, x=0, y=0).store(0, "x", 1).store(0, "y", 2).store(0, "x", 3)
    assert (memory.load(0, "x"), memory.load(1, "x"), memory.seen("x")) == (3, 0, 0)
    assert memory.store_seq(0, "y", 9) is None
    assert memory.store_seq(1, "y", 9) is not None
    after = memory.flushed(0)
    assert sorted((m.seen("x"), m.seen("y")) for m in after) == [(0, 2), (1, 0)]
    ends = {memory}
    while any(m.buffers[0] for m in ends):
        ends = {f for m in ends for f in (m.flushed(0) if m.buffers[0] else [m])}
    assert {(m.seen("x"), m.seen("y")) for m in ends} == {(3, 2)}


def test_messages_may_overtake_each_other() -> None:
    """Two relaxed stores of one CPU to two variables: another may see the second one first."""

    def put(s: tuple[Memory, bool], memory: Memory) -> tuple[Memory, bool]:
        return memory, s[1]

    def write(name: str) -> Step[tuple[Memory, bool]]:
        return lambda s: (s[0].store(0, name, 1), s[1])

    def wait(s: tuple[Memory, bool]) -> Answer[tuple[Memory, bool]]:
        return s if s[0].load(1, "flag") else None

    def read(s: tuple[Memory, bool]) -> Answer[tuple[Memory, bool]]:
        return jump("(end)", (s[0], s[0].load(1, "data") == 1))

    model = Model(
        "message passing",
        (Memory.of(2, data=0, flag=0), True),
        [
            Actor("writer", [("data", write("data")), ("flag", write("flag"))]),
            Actor("reader", [wait, read]),
            cpu(0, lambda s: s[0], put),
        ],
        {"the reader sees the data": lambda s: s[1]},
    )
    assert not explore(model).ok
