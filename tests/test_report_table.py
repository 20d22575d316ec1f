"""Tables of a comparison on terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gcheap.compare.rows import Row
from gcheap.compare.summary import MEASURES, Figure, RowSummary
from gcheap.report.table import print_comparison


def printed(width: int) -> str:
    figures = {name: Figure(1234.5, 67.8, 1000.0, 2000.0) for name in MEASURES}
    rows = [
        Row("simulated", "concurrent", "signal", "all", True),
        Row("move", "pause", "thread", "all", False),
    ]
    out = io.StringIO()
    console = Console(file=out, width=width)
    print_comparison(console, [RowSummary(row, 3, 3, figures, ()) for row in rows], {})
    return out.getvalue()


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
