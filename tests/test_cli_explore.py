"""``gcheap explore``: tables, traces, exit status."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from gcheap import models
from gcheap.cli import main
from gcheap.explore import Actor, Model
from gcheap.models import Case


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explore", *arguments], catch_exceptions=False)


def test_one_model_holds_and_its_mutants_are_caught() -> None:
    result = run("drain")
    assert result.exit_code == 0, result.output
    header, row = result.stdout.splitlines()
    assert header.split()[:4] == ["model", "states", "transitions", "verdict"]
    assert row.split()[:-1] == ["drain", "43", "68", "holds", "5", "of", "5"]
    assert result.stderr == "gcheap explore: drain\n"


def test_a_mutant_is_told_with_its_trace() -> None:
    result = run("safepoint", "--mutant", "no_look_after_managed")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "safepoint, mutant no_look_after_managed: the mutator goes on without looking at stop"
    )
    assert lines[1] == "broken: nobody touches the heap in a pause, after 6 steps"
    assert len(lines) == 8
    assert any("mutator 0  work " in line and "in_heap[0]: False -> True" in line for line in lines)


def test_lists() -> None:
    listed = run("--list")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == list(models.MODULES)
    mutants = run("--list", "stack").stdout
    assert "no_count " in mutants
    assert "ABA" in mutants


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Case:
    """A case that does not hold, and whose mutant does."""

    def build(mutant: str | None) -> Model[int]:
        limit = 2 if mutant is None else 9
        ticks = Actor("clock", [("tick", lambda s: s + 1), ("tock", lambda s: s + 1)])
        return Model("counter", 0, [ticks], {"it stays low": lambda s: s < limit})

    case = Case("counter", "counts", (), (), build, {"harmless": "nothing is wrong with it"})
    monkeypatch.setattr(models, "cases", lambda: [case])
    monkeypatch.setattr(models, "case", lambda name: case)
    monkeypatch.setattr(models, "MODULES", ("counter",))
    return case


def test_what_does_not_hold_and_mutants_that_are_not_caught_are_told(counter: Case) -> None:
    result = run()
    assert result.exit_code == 1
    assert "broken" in result.stdout.splitlines()[1]
    assert "0 of 1" in result.stdout.splitlines()[1]
    assert (
        "counter: broken: it stays low, after 2 steps\n"
        "  1  clock  tick  state: 0 -> 1\n"
        "  2  clock  tock  state: 1 -> 2\n"
    ) in result.stdout
    assert "counter: mutants not caught: harmless\n" in result.stdout


def test_a_mutant_that_holds_is_said_to(counter: Case) -> None:
    result = run("counter", "--mutant", "harmless")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1] == "not caught in 3 states"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "'nothing' is none of units, arenas,"),
        (["stack", "--mutant", "nothing"], "'nothing' is no mutant of stack: no_count,"),
        (["--mutant", "no_count"], "--mutant needs a MODEL"),
        (["stack", "--list", "--mutant", "no_count"], "--mutant needs a MODEL"),
    ],
)
def test_wrong_usage_names_the_value(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_no_native_module_is_needed() -> None:
    lines = [
        "import sys",
        "sys.modules['gcheap._native'] = sys.modules['numpy'] = None",
        "from gcheap.cli import main",
        "main(['explore', 'drain'])",
    ]
    done = subprocess.run(
        [sys.executable, "-P", "-c", "\n".join(lines)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "holds" in done.stdout
