"""The runs of benchmarks/cycles.py, in small: what they tell can be, and is of their collection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LIVE = 16 << 20

pytestmark = pytest.mark.move


# The folder of the project comes last: the gcheap to be tested is the installed one.
START = f"""
import runpy, sys
sys.path.append({str(ROOT)!r})
runpy.run_module("benchmarks.cycles", run_name="__main__", alter_sys=True)
"""


def run(function: str, **arguments: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", START, function],
        input=json.dumps({"live": LIVE} | arguments),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("workload", ["walk", "lru", "steady"])
@pytest.mark.parametrize("pin", ["loop", "apart"])
def test_a_program_beside_a_collection(workload: str, pin: str) -> None:
    found = run(workload, quiet_s=0.2, pin=pin, memory=True)
    assert found["live_bytes"] == pytest.approx(LIVE, rel=0.1)
    assert found["lost_gaps"] == 0
    for part in ("cycle", "move", "quiet"):
        assert all(0 <= share <= 1 for share in found["mmu"][part].values())
        assert found["rates"][part] >= 0
        shares = list(found["shares"][part].values())
        assert shares == sorted(shares)
        assert not shares or found["mmu"][part]["10"] <= shares[0] + 1e-9
    assert found["rates"]["quiet"] > 0
    assert found["stalls"]["move"]["p50"] <= found["stalls"]["move"]["max"]
    assert found["physical_peak_moving"] is None or (
        found["physical_peak_moving"] >= found["physical_at_flip"] > LIVE
    )
    if found["cycle_s"] > 0.1:  # a window of 100 ms is ten of 10 ms
        assert found["mmu"]["cycle"]["10"] <= found["mmu"]["cycle"]["100"] + 1e-9
    bounds = found["bounds"]
    assert bounds["utilisation"] == found["mmu"]["cycle"]["10"]
    assert "mark" in bounds["pauses_s"]
    lost = sum(bounds["pauses_s"].values()) + sum(bounds["gaps_s"].values())
    assert lost <= 1.2 * bounds["cycle_s"] + 0.1
    assert 0 <= bounds["after_s"] <= bounds["cycle_s"]


def test_pauses_of_collections() -> None:
    found = run("pauses", pages="4k", cycles=3)
    for part in ("mark", "remark", "flip"):
        assert len(found[part]) == 3
        assert all(seconds > 0 for seconds in found[part])


def test_summaries_save_what_they_can() -> None:
    live = 64 << 20  # so that a cluster is nearly an arena
    units = {
        kind: run("summaries", live=live, kind=kind, pages="4k", which="on")
        for kind in ("clustered", "mixed")
    }
    without = run("summaries", live=live, kind="clustered", pages="4k", which="off")
    assert units["clustered"]["units_unread"] > units["clustered"]["units"] / 2
    assert units["mixed"]["units_unread"] == without["units_unread"] == 0
    assert without["units"] == units["clustered"]["units"]
