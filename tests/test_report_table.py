"""Tables of a comparison on terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gcheap.compare.rows import Row
from gcheap.compare.summary import MEASURES, Figure, RowSummary
from gcheap.report.table import print_comparison


def printed(width: int, runs: int = 3, encoding: str = "utf-8") -> str:
    figures = {name: Figure(1234.5, 67.8, 1000.0, 2000.0) for name in MEASURES}
    rows = [
        Row("simulated", "concurrent", "signal", "all", True),
        Row("move", "pause", "thread", "all", False),
    ]
    out = io.BytesIO()
    with io.TextIOWrapper(out, encoding=encoding) as stream:
        console = Console(file=stream, width=width)
        print_comparison(console, [RowSummary(row, runs, runs, figures, ()) for row in rows], {})
        stream.flush()
        return out.getvalue().decode(encoding)


def test_what_is_compared_has_a_spread_and_medians_end_at_one_place() -> None:
    base = {name: Figure(0.04, 0.003, 0.03, 0.05) for name in MEASURES}
    base["mutator_rate"] = Figure(0.02, 0.004, 0.01, 0.03)
    base["physical_peak"] = Figure(64 << 20, 3 << 20, 0.0, 0.0)
    summaries = [
        RowSummary(
            Row(mover, "concurrent", "thread", "all", False), 3, 3, {**base, "move_s": move}, ()
        )
        for mover, move in (
            ("move", Figure(0.004, 0.0105, 0, 0)),
            ("copy", Figure(0.12, 0.0, 0, 0)),
        )
    ]
    out = io.StringIO()
    print_comparison(Console(file=out, width=250), summaries, {})
    text = out.getvalue()
    assert text.startswith("Time (median ± half the distance")
    moved, copied = text.splitlines()[3:5]
    for figure in ("40.00 ±3.00", "4.0 ±10.5", "40.0 ±3.0"):  # flip, move, cycle and pause
        assert figure in moved
    assert moved.index(".0 ±10.5") == copied.index(".0  ±0.0")
    assert "50 ±10" in text  # speed
    assert "64 ±3" in text  # peak


def test_a_single_run_has_no_spread() -> None:
    text = printed(250, runs=1)
    assert "±" not in text
    assert text.startswith("Time (one run each)")


def test_a_flip_is_not_claimed_of_collections_in_the_pause() -> None:
    beside, in_the_pause = printed(250).splitlines()[3:5]
    assert "1234500.00 ±67800.00" in beside
    assert "1234500.00" not in in_the_pause


def test_tables_are_written_in_ascii_too() -> None:
    assert "1234500.00 +-67800.00" in printed(250, encoding="ascii")


@pytest.mark.parametrize("width", [60, 80, 100, 132, 250])
def test_no_figure_is_cut(width: int) -> None:
    text = printed(width)
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= width


def test_parts_of_a_table_repeat_what_their_rows_are() -> None:
    wide, narrow = printed(250), printed(60)
    assert wide.count("continued") == 0
    assert narrow.count("simulated") == 3 + narrow.count("continued")
    for word in ("mark", "CPU", "peak", "verified", "p99 us"):
        assert word in wide
        assert word in narrow
