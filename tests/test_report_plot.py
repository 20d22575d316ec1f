"""The picture of a comparison: what it says, and what it draws from incomplete results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gcheap.report.plot import headline, plot_comparison, timelines

Document = Callable[[list[dict[str, Any]], list[dict[str, Any]]], dict[str, Any]]


def _named(mover: str, mode: str) -> dict[str, Any]:
    return {"mover": mover, "mode": mode, "faults": "thread", "policy": "all", "huge": False}


def row(mover: str, mode: str, **measures: float) -> dict[str, Any]:
    found = {
        name.replace("__", "."): {"median": x, "spread": 0.0, "min": x / 2, "max": x * 2}
        for name, x in measures.items()
    }
    return {**_named(mover, mode), "measures": found}


def a_run(mover: str, mode: str, cycle_s: float, **changed: Any) -> dict[str, Any]:
    line = {
        "begin_s": -0.01,
        "step_s": 0.001,
        "rates": [100] * 30,
        "cycle": [0.0, cycle_s],
        "move": [0.002, 0.004] if mode == "concurrent" else None,
        "pauses": [[0.0, 0.001]],
    }
    figures = {"cycle_s": cycle_s, "mutator_rate_quiet": 100.0, "timeline": line}
    return {**_named(mover, mode), **figures, **changed}


@pytest.fixture
def document() -> Document:
    """Makes the result of a comparison of rows and runs."""

    def made(rows: list[dict[str, Any]], runs: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "machine": {"cpu": "a CPU", "cpus": 2, "kernel": "6.8", "load": 0.5},
            "input": {"source": "synthetic:tree", "objects": 10, "bytes": 1 << 20, "drop": 0.6},
            "runs": runs,
            "summary": {"repeats": 3, "rows": rows, "noise": []},
        }

    return made


@pytest.fixture
def whole(document: Document) -> dict[str, Any]:
    """The result of a comparison of two movers of each kind."""
    rows = [
        row("move", "pause", move_s=0.00998),
        row("memcpy", "pause", move_s=0.04),
        row("move", "concurrent", move_s=0.02, stalls__moving__longest_s=0.001),
        row("copy", "concurrent", move_s=0.03, stalls__moving__longest_s=0.002),
    ]
    runs = [a_run("move", "concurrent", seconds) for seconds in (0.03, 0.01, 0.02)]
    runs += [a_run("slide", "pause", 0.01), a_run("memcpy", "pause", 0.05)]
    runs += [a_run("move", "pause", 0.01, policy="release"), {"mover": "move", "verified": False}]
    return document(rows, runs)


def test_the_headline_compares_move_with_the_others(whole: dict[str, Any]) -> None:
    assert headline(whole) == [
        "Move phase in the pause: move 10 ms (memcpy 40).",
        "Move phase beside the program: move 20 ms (copy 30)."
        " The program's longest stall in it: 1.0 ms (copy 2.0).",
    ]


def test_a_comparison_without_move_has_no_headline(document: Document) -> None:
    assert headline(document([row("copy", "pause", move_s=0.01)], [])) == []


def test_strips_show_the_median_run_of_a_mover_of_each_kind(whole: dict[str, Any]) -> None:
    chosen = [(run["mover"], run["mode"], run["cycle_s"]) for run in timelines(whole)]
    assert chosen == [("memcpy", "pause", 0.05), ("move", "concurrent", 0.02)]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_pictures_of_whole_and_failed_comparisons(
    tmp_path: Path, ending: str, whole: dict[str, Any], document: Document
) -> None:
    path = tmp_path / f"a.{ending}"
    without_measures = document([row("copy", "concurrent")], [])
    for result in (whole, without_measures, document([], [])):
        plot_comparison(result, path)
        assert path.stat().st_size > 1000
        path.unlink()


@pytest.mark.parametrize(
    ("repeats", "said"),
    [(1, "One run each."), (3, "Medians of 3 runs; thin lines: least to most.")],
)
def test_the_picture_says_how_often_it_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any], repeats: int, said: str
) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # text stays text
    path = tmp_path / "a.svg"
    whole["summary"]["repeats"] = repeats
    plot_comparison(whole, path)
    text = path.read_text(encoding="utf-8")
    assert said in text
    assert ">10<" in text  # of 9.98 ms
    assert "10.0" not in text
