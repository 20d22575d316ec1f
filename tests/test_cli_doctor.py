"""``gcheap doctor``: what it finds, says and advises."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import jsonschema
import pytest
from click.testing import CliRunner, Result

from gcheap import _result
from gcheap.cli import main
from gcheap.doctor import COSTS, Diagnosis, Item, advice, examine


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments], catch_exceptions=False)


def test_tables_name_everything() -> None:
    result = run()
    assert result.exit_code in (0, 1)
    for said in ("Ways to open userfaultfd", "Calls", "Movers", "Default:", "To get more"):
        assert said in result.output
    for name in ("move", "copy", "simulated", "memcpy", "/dev/userfaultfd", "userfaultfd(2)"):
        assert name in result.output
    assert os.uname().release in result.output


def test_json_follows_its_schema() -> None:
    result = run("--json")
    document = json.loads(result.stdout)
    jsonschema.validate(document, _result.load_schema("doctor"))
    assert document["summary"]["chosen"] in result.output
    assert document["machine"]["page_bytes"] == os.sysconf("SC_PAGE_SIZE")
    assert document["summary"]["chosen"] == document["machine"]["mover"]


def test_a_failure_is_explained() -> None:
    for item in (*examine(calibrate=False).openings, *examine(calibrate=False).calls):
        assert item.text.endswith(".")
        assert item.works or " fails: " in item.text


def test_the_chosen_mover_works() -> None:
    found = examine(calibrate=False)
    assert found.chosen in {mover.name for mover in found.movers if mover.works}
    assert found.costs_ns == {}


def test_costs_are_plausible_and_handlers_stay() -> None:
    before = signal.getsignal(signal.SIGBUS)
    found = examine(install_sigbus=True)
    assert signal.getsignal(signal.SIGBUS) is before
    assert set(found.costs_ns) <= set(COSTS)
    assert 1 < found.costs_ns["syscall"] < 100_000
    assert 0 < found.calibration_s < 5


def failed(name: str, error: str) -> Item:
    return Item(name, False, error, f"{name} fails: {error}.")


@pytest.fixture
def ordinary() -> Diagnosis:
    """What an ordinary user finds where only user mode may be had."""
    found = examine(calibrate=False)
    return dataclasses.replace(
        found,
        user_mode_only=True,
        openings=(failed("/dev/userfaultfd", "EACCES"), failed("userfaultfd(2)", "EPERM")),
        features=("MOVE",),
        moves_by_auto=True,
        huge_policy="madvise",
        address_limit=-1,
        overcommit=0,
    )


def test_advice_for_an_ordinary_user(ordinary: Diagnosis) -> None:
    said = "\n".join(advice(ordinary))
    assert "setfacl" in said
    assert "vm.unprivileged_userfaultfd=1" in said


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"features": ("SIGBUS",)}, "Linux 6.8"),
        ({"moves_by_auto": False}, "6.12.20"),
        ({"huge_policy": "never"}, "transparent_hugepage"),
        ({"address_limit": 1 << 30}, "1024 MiB"),
        ({"overcommit": 2}, "overcommit_memory"),
        ({"openings": (failed("device", "ENOENT"), failed("call", "ENOSYS"))}, "seccomp"),
        ({"openings": (failed("device", "ENOENT"), failed("call", "EIO"))}, "CONFIG_USERFAULTFD"),
    ],
)
def test_advice(ordinary: Diagnosis, change: dict[str, object], word: str) -> None:
    assert word in "\n".join(advice(dataclasses.replace(ordinary, **change)))  # type: ignore[arg-type]


def test_no_advice_where_all_is_there(ordinary: Diagnosis) -> None:
    works = Item("device", True, "", "device works.")
    assert advice(dataclasses.replace(ordinary, openings=(works, works))) == []
