"""A comparison as a picture: a question a panel, a row of the comparison a line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

__all__ = ["plot_comparison"]

COLOURS = {
    "move": "#0072B2",
    "copy": "#E69F00",
    "simulated": "#009E73",
    "memcpy": "#CC79A7",
    "slide": "#D55E00",
    "release": "#8C8C8C",
}
INK = "#333333"
QUIET = "#C8C8C8"
MIB = 1 << 20
GAP_BETWEEN_GROUPS = 0.7

Row = dict[str, Any]


def plot_comparison(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw a comparison's result to a file; its ending says the format (.png, .svg, .pdf).

    Raises:
        OSError: the file cannot be written.
        ValueError: matplotlib does not know the format.
    """
    rows = document["summary"]["rows"]
    places = _places(rows)
    height = 2.6 + 0.36 * (max(places, default=0.0) + 1)
    layout = ConstrainedLayoutEngine(h_pad=0.12, wspace=0.04)
    figure = Figure(figsize=(16, height), layout=layout, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4, sharey=True)
    _draw_move_time(axes[0], rows, places)
    _draw_stalls(axes[1], rows, places, document["summary"]["noise"])
    _draw_speed(axes[2], rows, places)
    _draw_memory(axes[3], rows, places)
    for axis in axes:
        _quieten(axis)
    axes[0].set_yticks(places, [_label(row) for row in rows], fontsize=10)
    axes[0].invert_yaxis()
    figure.suptitle(_title(document), fontsize=12, x=0.01, ha="left", color=INK)
    canvas.print_figure(os.fspath(path), dpi=110)


def _places(rows: Sequence[Row]) -> list[float]:
    """Return each row's height, with a gap where mode or page size changes."""
    places: list[float] = []
    at = -1.0
    last = None
    for row in rows:
        group = (row["mode"], row["huge"])
        at += 1.0 if last in (None, group) else 1.0 + GAP_BETWEEN_GROUPS
        places.append(at)
        last = group
    return places


def _label(row: Row) -> str:
    name = "release (nothing moves)" if row["policy"] == "release" else row["mover"]
    mode = "in the pause" if row["mode"] == "pause" else f"beside, {row['faults']}"
    huge = ", huge" if row["huge"] else ""
    return f"{name} - {mode}{huge}"


def _colour(row: Row) -> str:
    return COLOURS["release" if row["policy"] == "release" else row["mover"]]


def _figure(row: Row, measure: str) -> dict[str, float] | None:
    figure: dict[str, float] | None = row["measures"].get(measure)
    return figure


def _title(document: dict[str, Any]) -> str:
    source, machine = document["input"], document["machine"]
    return (
        f"gcheap compare {source['source']}: {source['objects']:,} objects, "
        f"{source['bytes'] / MIB:,.0f} MiB, {source['drop']:.0%} dropped   -   "
        f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}   -   "
        f"median of {document['summary']['repeats']}, lines: least to most"
    )


# --- panels ---------------------------------------------------------------------------------------


def _draw_move_time(axis: Any, rows: Sequence[Row], places: Sequence[float]) -> None:
    _ask(axis, "How long does moving take?", "ms from plan to last page")
    widest = _widest(rows, "move_s")
    for row, at in zip(rows, places, strict=True):
        _bar(axis, at, _figure(row, "move_s"), 1e3, _colour(row), widest * 1e3)
    axis.set_xlim(0, widest * 1e3 * 1.22)


def _draw_stalls(
    axis: Any, rows: Sequence[Row], places: Sequence[float], noise: Sequence[Row]
) -> None:
    _ask(axis, "How long does the program stand still?", "longest stall, ms (log)")
    axis.set_xscale("log")
    for row, at in zip(rows, places, strict=True):
        whole = _figure(row, "stalls.longest_s")
        moving = _figure(row, "stalls.moving.longest_s")
        _dot(axis, at, whole, 1e3, _colour(row), "o", filled=True)
        _dot(axis, at, moving, 1e3, _colour(row), "D", filled=False)
    handles = [
        axis.plot([], [], "o", color=INK, label="of the whole collection")[0],
        axis.plot([], [], "D", color=INK, mfc="white", label="while pages move")[0],
    ]
    alone = _median(noise[0], "stalls.longest_s") * 1e3 if noise else 0.0
    if alone > 0:
        handles.append(axis.axvline(alone, color=QUIET, ls="--", label="without a collection"))
    axis.xaxis.set_major_formatter("{x:g}")
    _legend(axis, handles)


def _draw_speed(axis: Any, rows: Sequence[Row], places: Sequence[float]) -> None:
    _ask(axis, "How fast does it run meanwhile?", "% of its speed")
    for row, at in zip(rows, places, strict=True):
        quiet = _figure(row, "mutator_rate_quiet")
        ran = _figure(row, "mutator_rate")
        if quiet is not None and quiet["median"] > 0:
            _bar(axis, at, ran, 100 / quiet["median"], _colour(row), 100.0)
    axis.set_xlim(0, 118)


def _draw_memory(axis: Any, rows: Sequence[Row], places: Sequence[float]) -> None:
    _ask(axis, "How much memory does it take?", "MiB: before, at most, after")
    for row, at in zip(rows, places, strict=True):
        before, peak, after = (
            _figure(row, f"physical_{name}") for name in ("before", "peak", "after")
        )
        if before is None or peak is None or after is None:
            continue
        ends = [figure["median"] / MIB for figure in (before, peak, after)]
        axis.plot([min(ends), max(ends)], [at, at], color=_colour(row), lw=2, alpha=0.45)
        axis.plot(ends[0], at, "o", color=_colour(row), mfc="white", ms=7)
        axis.plot(ends[1], at, "|", color=_colour(row), ms=15, mew=2.5)
        axis.plot(ends[2], at, "o", color=_colour(row), ms=7)
    handles = [
        axis.plot([], [], "o", color=INK, mfc="white", label="before")[0],
        axis.plot([], [], "|", color=INK, ms=12, mew=2.5, ls="", label="peak")[0],
        axis.plot([], [], "o", color=INK, label="after")[0],
    ]
    live = max((_median(row, "live_bytes") for row in rows), default=0.0) / MIB
    handles.append(axis.axvline(live, color=QUIET, ls="--", label="live objects"))
    axis.set_xlim(0, _widest(rows, "physical_peak") / MIB * 1.05)
    _legend(axis, handles)


# --- pieces ---------------------------------------------------------------------------------------


def _ask(axis: Any, question: str, unit: str) -> None:
    axis.set_title(f"{question}\n{unit}", fontsize=11, color=INK, loc="left")


def _median(row: Row, measure: str) -> float:
    figure = _figure(row, measure)
    return 0.0 if figure is None else figure["median"]


def _widest(rows: Sequence[Row], measure: str) -> float:
    return max((figure["max"] for row in rows if (figure := _figure(row, measure))), default=1.0)


def _bar(
    axis: Any,
    at: float,
    figure: dict[str, float] | None,
    scale: float,
    colour: str,
    whole: float,
) -> None:
    if figure is None:
        return
    length, least, most = (figure[name] * scale for name in ("median", "min", "max"))
    axis.barh(at, length, height=0.62, color=colour)
    axis.plot([least, most], [at, at], color=INK, lw=1)
    text = f"{length:.1f}" if 0.5 <= length < 10 else f"{length:.0f}"
    axis.text(max(length, most) + whole * 0.02, at, text, va="center", fontsize=9, color=INK)


def _dot(
    axis: Any,
    at: float,
    figure: dict[str, float] | None,
    scale: float,
    colour: str,
    marker: str,
    *,
    filled: bool,
) -> None:
    if figure is None or figure["median"] <= 0:
        return
    middle, least, most = (figure[name] * scale for name in ("median", "min", "max"))
    axis.plot([max(least, middle / 100), most], [at, at], color=colour, lw=1.2, alpha=0.7)
    axis.plot(middle, at, marker, color=colour, mfc=colour if filled else "white", ms=7)


def _legend(axis: Any, handles: Sequence[Any]) -> None:
    axis.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.07),
        ncols=2,
        frameon=False,
        fontsize=9,
    )


def _quieten(axis: Any) -> None:
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(QUIET)
    axis.tick_params(colors=INK, length=0)
    axis.grid(axis="x", color="#EEEEEE")
    axis.set_axisbelow(True)
