"""The picture of a comparison: what it says, and what it draws from incomplete results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gcheap.report.plot import headline, plot_comparison, timelines


def figure(median: float) -> dict[str, float]:
    return {"median": median, "spread": 0.0, "min": median / 2, "max": median * 2}


def row(mover: str, mode: str, **measures: float) -> dict[str, Any]:
    found = {name.replace("__", "."): figure(value) for name, value in measures.items()}
    return {
        "mover": mover,
        "mode": mode,
        "faults": "thread",
        "policy": "all",
        "huge": False,
        "measures": found,
    }


def a_run(mover: str, mode: str, cycle_s: float, **changed: Any) -> dict[str, Any]:
    line = {
        "begin_s": -0.01,
        "step_s": 0.001,
        "rates": [100] * 30,
        "cycle": [0.0, cycle_s],
        "move": [0.002, 0.004] if mode == "concurrent" else None,
        "pauses": [[0.0, 0.001]],
    }
    return {
        "mover": mover,
        "mode": mode,
        "faults": "thread",
        "policy": "all",
        "huge": False,
        "cycle_s": cycle_s,
        "mutator_rate_quiet": 100.0,
        "timeline": line,
        **changed,
    }


def document(rows: list[dict[str, Any]], runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "machine": {"cpu": "a CPU", "cpus": 2, "kernel": "6.8", "load": 0.5},
        "input": {"source": "synthetic:tree", "objects": 10, "bytes": 1 << 20, "drop": 0.6},
        "runs": runs,
        "summary": {"repeats": 1, "rows": rows, "noise": []},
    }


def test_the_headline_compares_move_with_the_others() -> None:
    rows = [
        row("move", "pause", move_s=0.01),
        row("memcpy", "pause", move_s=0.04),
        row("move", "concurrent", move_s=0.02, stalls__moving__longest_s=0.001),
        row("copy", "concurrent", move_s=0.03, stalls__moving__longest_s=0.002),
    ]
    assert headline(document(rows, [])) == [
        "Move phase in the pause: move 10 ms (memcpy 40).",
        "Move phase beside the program: move 20 ms (copy 30)."
        " The program's longest stall in it: 1.0 ms (copy 2.0).",
    ]


def test_a_comparison_without_move_has_no_headline() -> None:
    assert headline(document([row("copy", "pause", move_s=0.01)], [])) == []


def test_strips_show_the_median_run_of_a_mover_of_each_kind() -> None:
    runs = [a_run("move", "concurrent", seconds) for seconds in (0.03, 0.01, 0.02)]
    runs += [a_run("slide", "pause", 0.01), a_run("memcpy", "pause", 0.05)]
    runs += [a_run("move", "pause", 0.01, policy="release"), {"mover": "move", "verified": False}]
    chosen = [(run["mover"], run["mode"], run["cycle_s"]) for run in timelines(document([], runs))]
    assert chosen == [("memcpy", "pause", 0.05), ("move", "concurrent", 0.02)]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.parametrize("with_runs", [True, False])
def test_pictures_of_whole_and_failed_comparisons(
    tmp_path: Path, ending: str, with_runs: bool
) -> None:
    path = tmp_path / f"a.{ending}"
    rows = [row("move", "pause", move_s=0.01), row("copy", "concurrent")] if with_runs else []
    runs = [a_run("move", "pause", 0.01)] if with_runs else []
    plot_comparison(document(rows, runs), path)
    assert path.stat().st_size > 1000
