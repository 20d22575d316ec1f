"""A comparison as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gcheap.compare.rows import CONTROL, Row
from gcheap.compare.summary import RowSummary

__all__ = ["print_comparison"]

MIB = 1 << 20
SPREAD = "± half the distance between the quartiles"
Cell = Callable[[RowSummary], str]


def print_comparison(
    console: Console, summaries: Sequence[RowSummary], unavailable: dict[Row, str]
) -> None:
    """Print how long each row took, what the mutator saw, what it cost, what to know about it."""
    with_huge = len({one.row.huge for one in summaries}) > 1
    _print_table(console, f"Time (median {SPREAD})", summaries, TIME, with_huge)
    _print_table(console, "What the program saw", summaries, SEEN, with_huge)
    _print_table(console, "Memory and work", summaries, COST, with_huge)
    for line in _notes(summaries, unavailable, with_huge):
        console.print(Text(line), soft_wrap=True)


def _print_table(
    console: Console,
    title: str,
    summaries: Sequence[RowSummary],
    columns: dict[str, Cell],
    with_huge: bool,
) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("mover", no_wrap=True)
    table.add_column("mode", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    last: tuple[str, bool] | None = None
    for one in summaries:
        group = (one.row.mode, one.row.huge)
        if last not in (None, group):
            table.add_section()
        last = group
        style = "red" if one.verified < one.runs else "dim" if one.row.mode == CONTROL else ""
        cells = [cell(one) for cell in columns.values()]
        table.add_row(one.row.label, _mode(one.row, with_huge), *cells, style=style)
    console.print(table)
    console.print()


def _mode(row: Row, with_huge: bool) -> str:
    mode = row.mode
    if mode == "concurrent":
        mode = f"beside, {row.faults}"
    elif mode == CONTROL:
        mode = "noise"
    return f"{mode}, huge" if with_huge and row.huge else mode


def _name(row: Row, with_huge: bool) -> str:
    return f"{row.label} ({_mode(row, with_huge)})"


def _notes(
    summaries: Sequence[RowSummary], unavailable: dict[Row, str], with_huge: bool
) -> list[str]:
    lines = [f"{_name(one.row, with_huge)}: {note}" for one in summaries for note in one.notes]
    return lines + [f"{_name(row, with_huge)}: not here: {why}" for row, why in unavailable.items()]


# --- cells ----------------------------------------------------------------------------------------


def _scaled(measure: str, scale: float, digits: int, *, spread: bool = False) -> Cell:
    def cell(one: RowSummary) -> str:
        figure = one.figures.get(measure)
        if figure is None or (one.row.mode == CONTROL and measure not in SEEN_BY_MUTATOR):
            return "-"
        text = f"{figure.median * scale:.{digits}f}"
        return f"{text} ±{figure.spread * scale:.{digits}f}" if spread else text

    return cell


def _longest(measure: str, scale: float) -> Cell:
    """Median of the runs' longest, and the largest of all."""

    def cell(one: RowSummary) -> str:
        figure = one.figures.get(measure)
        if figure is None:
            return "-"
        return f"{_short(figure.median * scale)} / {_short(figure.most * scale)}"

    return cell


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _share(measure: str, of: str) -> Cell:
    def cell(one: RowSummary) -> str:
        part, whole = one.median(measure), one.median(of)
        return "-" if part is None or not whole else f"{100 * part / whole:.0f}"

    return cell


def _verified(one: RowSummary) -> str:
    return f"{one.verified}/{one.runs}"


SEEN_BY_MUTATOR = (
    "physical_before",
    "physical_after",
    "physical_peak",
)
TIME: dict[str, Cell] = {
    "mark\nms": _scaled("mark_s", 1e3, 1),
    "plan\nms": _scaled("plan_s", 1e3, 1),
    "flip\nms": _scaled("pause_flip_s", 1e3, 2),
    "move\nms": _scaled("move_s", 1e3, 1, spread=True),
    "cycle\nms": _scaled("cycle_s", 1e3, 1, spread=True),
    "longest\npause ms": _scaled("pauses.longest_s", 1e3, 1),
    "CPU\nms": _scaled("collector_cpu_s", 1e3, 0, spread=True),
}
SEEN: dict[str, Cell] = {
    "longest stall\nms, median / worst": _longest("stalls.longest_s", 1e3),
    "speed\n%": _share("mutator_rate", "mutator_rate_quiet"),
    "while moving:\np50 us": _scaled("stalls.attributed.p50_s", 1e6, 0),
    "\np99 us": _scaled("stalls.attributed.p99_s", 1e6, 0),
    "longest ms\nmedian / worst": _longest("stalls.moving.longest_s", 1e3),
    "\nspeed %": _share("mutator_rate_moving", "mutator_rate_quiet"),
    "\nmmu 10 ms": _scaled("mmu_10ms_moving", 1, 2),
}
COST: dict[str, Cell] = {
    "MiB:\nbefore": _scaled("physical_before", 1 / MIB, 0),
    "\npeak": _scaled("physical_peak", 1 / MIB, 0),
    "\nafter": _scaled("physical_after", 1 / MIB, 0),
    "\nlive": _scaled("live_bytes", 1 / MIB, 0),
    "pages\nmoved": _scaled("pages_moved", 1, 0),
    "arenas\nmoved": _scaled("arenas_moved", 1, 0),
    "copied\nMiB": _scaled("bytes_copied", 1 / MIB, 0),
    "faults\nserved": _scaled("faults_served", 1, 0),
    "\nverified": _verified,
}
