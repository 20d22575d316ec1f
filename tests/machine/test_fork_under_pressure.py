"""Children made by fork() while pages move and the machine swaps them out or migrates them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from swapping import swapped_out

pytestmark = [pytest.mark.machine, pytest.mark.timeout(120)]

SECONDS = 5


def run(pressure: Path, mover: str, faults: str, *pressures: str) -> dict[str, Any]:
    command = [pressure, mover, faults, "32", str(SECONDS), "fork", *pressures]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if result["failed"]:
        pytest.skip(result["failed"])
    assert result["mover"] == mover
    assert result["forks"] > 2
    assert result["majors"] > 3
    assert result["squeezes"] > 0
    return result


@pytest.mark.move
@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_children_of_a_heap_that_is_swapped_out(pressure: Path, swap: None, faults: str) -> None:
    before = swapped_out()
    run(pressure, "move", faults, "pageout")
    assert swapped_out() > before + 1000, "nothing was swapped out"


def test_children_of_a_copying_heap_that_is_swapped_out(pressure: Path, swap: None) -> None:
    run(pressure, "copy", "thread", "pageout")


@pytest.mark.move
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_children_while_the_kernel_migrates_pages(pressure: Path) -> None:
    run(pressure, "move", "thread", "compact")
