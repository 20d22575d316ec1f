"""What CI makes of a test of `move` that was not run: .ci/skips, and the tests' own trials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from offered import load_skips, offers_move

ROOT = Path(__file__).parents[2]
REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_x" name="{name}"><properties>{properties}</properties>{inside}
</testcase></testsuite></testsuites>"""
MARKED = '<property name="marker" value="move"/>'
NO_MOVER = "uffd_open:EMFILE"


def verdict(monkeypatch: pytest.MonkeyPatch, offered: bool, path: Path) -> int:
    module: Any = load_skips()
    monkeypatch.setattr(module, "kernel_offers_move", lambda: offered)
    return int(module.main([str(path)]))


@pytest.mark.parametrize(
    ("name", "properties", "inside", "wrong"),
    [
        ("a", MARKED, '<skipped message="no reason"/>', True),
        ("a", "", '<skipped message="move: the kernel is too old"/>', True),
        ("a[move-thread]", "", '<skipped message="not here"/>', True),
        ("test_moves_of_pages", "", "<system-out>  SKIP a: move: not here</system-out>", True),
        ("a", "", "<system-out>ok b\n  SKIP test_c: UFFDIO_MOVE: none</system-out>", True),
        ("a", "", '<skipped message="needs root"/>', False),
        ("removed", "", '<skipped message="removable"/>', False),
        ("a", "", "<system-out>  SKIP a: simulated: not here</system-out>", False),
        ("a", MARKED, "", False),
    ],
)
def test_skipped_tests_of_move_are_found(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    properties: str,
    inside: str,
    wrong: bool,
) -> None:
    path = tmp_path / "report.xml"
    path.write_text(REPORT.format(name=name, properties=properties, inside=inside))
    assert verdict(monkeypatch, True, path) == int(wrong)
    assert verdict(monkeypatch, False, path) == 0


@pytest.mark.parametrize(("mover", "wrong"), [("move", True), ("copy", False)])
def test_rows_of_a_comparison_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mover: str, wrong: bool
) -> None:
    row = {"mover": mover, "mode": "concurrent", "faults": "thread", "policy": "all", "huge": "off"}
    path = tmp_path / "compare.json"
    path.write_text(json.dumps({"summary": {"unavailable": [{**row, "why": "no userfaultfd"}]}}))
    assert verdict(monkeypatch, True, path) == int(wrong)
    assert verdict(monkeypatch, False, path) == 0


def test_no_report_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert verdict(monkeypatch, False, tmp_path / "nothing.xml") == 1


@pytest.mark.move
@pytest.mark.parametrize("test", ["tests/test_heap.py::test_collections_keep_what_is_reachable"])
def test_a_library_that_finds_no_move_fails(test: str, tmp_path: Path) -> None:
    """A probe that is wrong must not turn all tests of `move` into skips."""
    if not offers_move():
        pytest.skip("move: this kernel does not offer it")
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"{test}[move]",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "GCH_TEST_UNAVAILABLE": NO_MOVER},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "this kernel offers UFFDIO_MOVE, but there is no heap with it" in done.stdout
