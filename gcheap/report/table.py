"""A comparison as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gcheap.compare.rows import CONTROL, Row
from gcheap.compare.summary import RowSummary
from gcheap.report._encoding import can_write

__all__ = ["print_comparison"]

MIB = 1 << 20
SIGN = "±"
PLAIN_SIGN = "+-"
"""What stands for it where the encoding does not have it."""
SPREAD = f"median {SIGN} half the distance between the quartiles"
LABELS = 2
"""Columns that say which row it is."""
GAP = 2
"""Blanks between columns, at most."""
Cell = Callable[[RowSummary], str]


def print_comparison(
    console: Console, summaries: Sequence[RowSummary], unavailable: dict[Row, str]
) -> None:
    """Print how long each row took, what the mutator saw, what it cost, what to know about it."""
    with_huge = len({one.row.huge for one in summaries}) > 1
    said = SPREAD if any(one.runs > 1 for one in summaries) else "one run each"
    _print_table(console, f"Time ({said})", summaries, TIME, with_huge)
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
    sign = SIGN if can_write(console, SIGN) else PLAIN_SIGN
    by_column = [_aligned([cell(one) for one in summaries], sign) for cell in columns.values()]
    rows = [
        [one.row.label, _mode(one.row, with_huge), *line]
        for one, line in zip(summaries, zip(*by_column, strict=True), strict=True)
    ]
    names = ["mover", "mode", *columns]
    for number, some in enumerate(_parts(names, rows, console.width)):
        said = title if number == 0 else f"{title}, continued"
        console.print(Text(said.replace(SIGN, sign), style="bold"))
        table = Table(box=None, pad_edge=False)
        for at in some:
            table.add_column(names[at], justify="left" if at < LABELS else "right", no_wrap=True)
        for one, cells in zip(summaries, rows, strict=True):
            table.add_row(*(cells[at] for at in some), style=_style(one))
        console.print(table)
        console.print()


def _aligned(cells: list[str], sign: str) -> list[str]:
    """Return a column whose medians end at one place, whatever their spreads."""
    split = [cell.split(f" {SIGN}") for cell in cells]
    width = max((len(spread) for _, *spreads in split for spread in spreads), default=0)
    pad = width + len(SIGN)
    return [
        " ".join(
            [median, *(f"{SIGN}{spread}".rjust(pad).replace(SIGN, sign) for spread in spreads)]
        )
        for median, *spreads in split
    ]


def _parts(names: list[str], rows: list[list[str]], width: int) -> Iterator[list[int]]:
    """Yield the columns of each part of a table, such that every part fits; labels in each."""
    widths = [
        max(len(line) for text in (name, *(row[at] for row in rows)) for line in text.split("\n"))
        for at, name in enumerate(names)
    ]
    labels = list(range(LABELS))
    taken = sum(widths[at] + GAP for at in labels)
    part, used = list(labels), taken
    for at in range(LABELS, len(names)):
        if len(part) > LABELS and used + widths[at] > width:
            yield part
            part, used = list(labels), taken
        part.append(at)
        used += widths[at] + GAP
    yield part


def _style(one: RowSummary) -> str:
    return "red" if one.verified < one.runs else "dim" if one.row.mode == CONTROL else ""


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
        with_spread = spread and one.runs > 1
        return f"{text} {SIGN}{figure.spread * scale:.{digits}f}" if with_spread else text

    return cell


def _beside(cell: Cell) -> Cell:
    """Leave out what there is only when pages move beside the program."""
    return lambda one: cell(one) if one.row.mode == "concurrent" else "-"


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
    """Median and spread in percent of another measure's median."""

    def cell(one: RowSummary) -> str:
        part, whole = one.figures.get(measure), one.median(of)
        if part is None or not whole:
            return "-"
        spread = f" {SIGN}{100 * part.spread / whole:.0f}" if one.runs > 1 else ""
        return f"{100 * part.median / whole:.0f}{spread}"

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
    "flip\nms": _beside(_scaled("pause_flip_s", 1e3, 2, spread=True)),
    "move\nms": _scaled("move_s", 1e3, 1, spread=True),
    "cycle\nms": _scaled("cycle_s", 1e3, 1, spread=True),
    "longest\npause ms": _scaled("pauses.longest_s", 1e3, 1, spread=True),
    "CPU\nms": _scaled("collector_cpu_s", 1e3, 0, spread=True),
}
SEEN: dict[str, Cell] = {
    "longest stall ms\nmedian / worst": _longest("stalls.longest_s", 1e3),
    "speed\n%": _share("mutator_rate", "mutator_rate_quiet"),
    "moving:\np50 us": _scaled("stalls.attributed.p50_s", 1e6, 0),
    "moving:\np99 us": _scaled("stalls.attributed.p99_s", 1e6, 0, spread=True),
    "moving: longest\nms, median / worst": _longest("stalls.moving.longest_s", 1e3),
    "moving:\nspeed %": _share("mutator_rate_moving", "mutator_rate_quiet"),
    "moving: mmu\n10 ms": _scaled("mmu_10ms_moving", 1, 2),
}
COST: dict[str, Cell] = {
    "before\nMiB": _scaled("physical_before", 1 / MIB, 0),
    "peak\nMiB": _scaled("physical_peak", 1 / MIB, 0, spread=True),
    "after\nMiB": _scaled("physical_after", 1 / MIB, 0, spread=True),
    "live\nMiB": _scaled("live_bytes", 1 / MIB, 0),
    "pages\nmoved": _scaled("pages_moved", 1, 0),
    "arenas\nmoved": _scaled("arenas_moved", 1, 0),
    "copied\nMiB": _scaled("bytes_copied", 1 / MIB, 0),
    "faults\nserved": _scaled("faults_served", 1, 0),
    "\nverified": _verified,
}
