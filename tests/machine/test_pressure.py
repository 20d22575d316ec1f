"""Moves while the machine swaps, migrates pages, or has no memory left."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from groups import Group
from swapping import swapped_out

pytestmark = [pytest.mark.machine, pytest.mark.timeout(120)]

MIB = 1 << 20
EXIST_MOVED, EXIST, BUSY, COPIED, AGAIN, NO_MEMORY, OTHER = range(7)
FAULTS = ["thread", "signal"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def run(pressure: Path, *arguments: object, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run the program and return its last line."""
    done = subprocess.run(
        [*prefix, pressure, *map(str, arguments)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_forced(pressure: Path, *arguments: object) -> dict[str, Any]:
    """Run it under pressure; skip if the machine does not put it on."""
    result = run(pressure, *arguments)
    if result["failed"]:
        pytest.skip(result["failed"])
    assert result["majors"] > 3
    assert result["squeezes"] > 0
    return result


# --- swap --------------------------------------------------------------------------------------


@pytest.mark.move
@pytest.mark.parametrize("faults", FAULTS)
def test_moves_while_pages_are_swapped_out(pressure: Path, swap: None, faults: str) -> None:
    before = swapped_out()
    result = run_forced(pressure, "move", faults, 48, 5, "pageout")
    assert result["mover"] == "move"
    assert swapped_out() > before + 1000, "nothing was swapped out"


@pytest.mark.move
def test_moves_while_pages_are_swapped_out_and_migrated(pressure: Path, swap: None) -> None:
    run_forced(pressure, "move", "thread", 48, 5, "pageout", "compact")


def test_copies_while_pages_are_swapped_out(pressure: Path, swap: None) -> None:
    run_forced(pressure, "copy", "thread", 48, 4, "pageout")


# --- compaction --------------------------------------------------------------------------------


@as_root
@pytest.mark.move
@pytest.mark.parametrize("faults", FAULTS)
def test_moves_while_the_kernel_migrates_pages(pressure: Path, faults: str) -> None:
    run_forced(pressure, "move", faults, 128, 5, "compact")


# --- a memory limit ----------------------------------------------------------------------------


@pytest.mark.move
@pytest.mark.parametrize("faults", FAULTS)
def test_compacts_within_16_mib_more_than_lives(pressure: Path, group: Group, faults: str) -> None:
    """The limit: what lives, what the process held before there was a heap, and 16 MiB.

    Young space, side tables, staging, page tables and what no object fills are within the 16 MiB.
    Side tables, of both ends of a move, grow with what lives: with twice as much (128 MiB) there is
    not enough for them, and the kernel kills: in a memory cgroup no call fails before that.
    """
    command = [str(pressure), "move", faults, "64", "5", "wait"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: group.add(os.getpid()),
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "base\n"
        base = group.usage()
        process.stdin.write("go\n")
        process.stdin.flush()
        word, live = process.stdout.readline().split()
        assert word == "ready"
        assert int(live) >= 64 * MIB
        limit = base + int(live) + 16 * MIB
        group.limit(limit)
        output, _ = process.communicate("go\n", timeout=60)
    assert process.returncode == 0, f"{process.returncode}: {output}"
    result = json.loads(output.splitlines()[-1])
    assert result["majors"] > 3
    assert result["mover"] == "move"
