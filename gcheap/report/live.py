"""A snapshot of a heap as text: figures, pauses, a cell an arena."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gcheap.live import Pause, Rates, Snapshot
from gcheap.report._encoding import can_write
from gcheap.report.heapmap import GARBAGE, PLAIN, SHADES, SPACES, STYLES
from gcheap.ring import NOT_KNOWN
from gcheap.stats import Distribution, HeapStats

__all__ = ["HEADER", "draw", "line"]

ARENA_BLOCKS = 32
BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*#@"
SHORTEST_S, LONGEST_S = 1e-5, 1e-1
"""Pauses that the lowest and the highest bar stand for; a bar more is half a decade, about."""
STATE_SAID = {
    "open": "",
    "closed": "the heap was closed",
    "dead": "the process has ended; this is the last that it did",
    "truncated": "the file was cut off",
}
HEADER = (
    f"{'phase':<6} {'heap MiB':>9} {'live MiB':>9} {'alloc MiB/s':>11} {'minor/s':>8} "
    f"{'major/s':>8} {'fault/s':>8} {'pause p99 ms':>12} {'longest ms':>10}"
)


def line(snapshot: Snapshot) -> str:
    """Return the snapshot in a line, under ``HEADER``."""
    s, r = snapshot.stats, snapshot.rates
    if s is None:
        return f"{snapshot.phase:<6} {'-':>9}"
    rates = (
        f"{r.allocated_bytes / 2**20:>11.1f} {r.minors:>8.1f} {r.majors:>8.2f} {r.faults:>8.0f}"
        if r
        else f"{'-':>11} {'-':>8} {'-':>8} {'-':>8}"
    )
    return (
        f"{snapshot.phase:<6} {s.heap_bytes / 2**20:>9.1f} {s.live_bytes / 2**20:>9.1f} {rates} "
        f"{s.pause.p99 * 1e3:>12.3f} {s.pause.max * 1e3:>10.3f}"
    )


def draw(snapshot: Snapshot, console: Console, width: int) -> RenderableType:
    """Return everything, so many columns wide."""
    parts: list[RenderableType] = [_title(snapshot)]
    if STATE_SAID[snapshot.state]:
        parts.append(Text(STATE_SAID[snapshot.state], style="bold red"))
    if snapshot.stats is None:
        parts.append(Text("No sample yet."))
        return Group(*parts)
    parts += [_memory(snapshot.stats), _rates(snapshot.rates)]
    parts += [_pause_table(snapshot.stats)]
    if snapshot.utilisation is not None:
        parts.append(_utilisation(snapshot.utilisation))
    parts += [_bars(snapshot.pauses, console, width)]
    parts += list(_map(snapshot, console, width))
    return Group(*parts)


def _title(s: Snapshot) -> Text:
    title = Text.assemble((f"{s.process} ({s.pid})", "bold"), f"  up {_duration(s.age_s)}")
    if s.stats is not None:
        title.append(f"  mover {s.stats.mover}, {s.stats.fault_mode} faults")
    title.append("  phase ")
    title.append(s.phase, style="bold green" if s.phase == "idle" else "bold yellow")
    return title


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{int(seconds):02}"


def _memory(s: HeapStats) -> Text:
    said = (
        f"heap {_mib(s.heap_bytes)} of {_mib(s.max_bytes)} MiB "
        f"({s.heap_bytes / s.max_bytes:.0%})  live {_mib(s.live_bytes)}  "
        f"memory {_mib(s.populated_bytes)}  tables {_mib(s.table_bytes)}  "
        f"threads {s.mutators}  handles {s.handles}  pins {s.pins}"
    )
    return Text(said)


def _mib(nbytes: float) -> str:
    return f"{nbytes / 2**20:,.1f}"


def _rates(r: Rates | None) -> Text:
    if r is None:
        return Text("rates: not known yet", style="dim")
    stalled = ", ".join(f"{cause} {share:.1%}" for cause, share in r.stalled.items() if share > 0)
    said = (
        f"a second: {_mib(r.allocated_bytes)} MiB allocated, {_mib(r.promoted_bytes)} promoted, "
        f"{r.minors:.1f} minors, {r.majors:.2f} majors, {r.faults:,.0f} faults"
    )
    return Text(said + (f"; stalled: {stalled}" if stalled else ""))


def _pause_table(s: HeapStats) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("ms", "count", "p50", "p90", "p99", "longest"):
        table.add_column(heading, justify="left" if heading == "ms" else "right", no_wrap=True)
    rows: dict[str, Distribution] = {
        "pauses": s.pause,
        "minor": s.minor_pause,
        "flip": s.flip_pause,
        "to safepoint": s.safepoint,
        "faults": s.fault,
        "stalls, moving": s.stall_move,
    }
    for name, d in rows.items():
        if d.count:
            figures = (f"{value * 1e3:.3f}" for value in (d.p50, d.p90, d.p99, d.max))
            table.add_row(name, f"{d.count:,}", *figures)
    return table


def _utilisation(shares: tuple[float, ...]) -> Text:
    said = ", ".join(f"{s:.0%} of {n} ms" for n, s in zip((1, 10, 100), shares, strict=True))
    return Text(f"least that a thread had to itself in the last major: {said}")


def _bars(pauses: tuple[Pause, ...], console: Console, width: int) -> Text:
    """Return the last pauses, each a bar, on a logarithmic scale."""
    head = "last pauses "
    bars = BARS if can_write(console, BARS) else PLAIN_BARS
    shown = np.array([pause.seconds for pause in pauses[-max(1, width - len(head)) :]])
    if len(shown) == 0:
        return Text(f"{head}none")
    scale = np.log(LONGEST_S / SHORTEST_S)
    level = np.log(np.clip(shown, SHORTEST_S, LONGEST_S) / SHORTEST_S) / scale * (len(bars) - 1)
    return Text(head + "".join(bars[int(i)] for i in np.round(level)), no_wrap=True)


def _map(snapshot: Snapshot, console: Console, width: int) -> Iterator[Text]:
    arenas = snapshot.arenas
    cell = f"a cell: an arena of 2 MiB; live share {SHADES}, none {GARBAGE}"
    plain = not can_write(console, SHADES)
    yield Text(cell.translate(PLAIN) if plain else cell, style="dim")
    for number, name in enumerate(SPACES):
        mine = arenas[arenas["space"] == number]
        if len(mine) == 0:
            continue
        memory = int(mine["populated"].sum()) * (64 << 10)
        many = f"{len(mine)} arena{'s' if len(mine) != 1 else ''}"
        yield Text(f"{name}: {many}, {_mib(memory)} MiB", style=STYLES[number])
        cells = "".join(_cells(mine))
        for start in range(0, len(cells), max(1, width - 2)):
            row = cells[start : start + max(1, width - 2)]
            shown = "  " + (row.translate(PLAIN) if plain else row)
            yield Text(shown, style=STYLES[number], no_wrap=True)
    if snapshot.unlisted:
        yield Text(f"{snapshot.unlisted} more arenas are not listed")


def _cells(arenas: npt.NDArray[np.void]) -> npt.NDArray[np.str_]:
    """Return a character for each arena; where it is not known what lives, by its memory."""
    known = arenas["live"] != NOT_KNOWN
    share = np.where(known, arenas["live"], arenas["populated"]) / ARENA_BLOCKS
    shade = np.clip(np.ceil(share * len(SHADES)).astype(np.int64) - 1, 0, len(SHADES) - 1)
    cells = np.array(list(SHADES))[shade]
    cells[share == 0] = GARBAGE
    return cells
