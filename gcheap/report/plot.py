"""A comparison as a picture.

Above: how fast the program ran around one collection, a strip each for the ways that matter most.
Below: a question a panel, a row of the comparison a line.
"""

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
PAUSED = "#F3D9D9"
MOVING = "#E3EDF6"
GAP_BETWEEN_GROUPS = 1.0
STRIPS = (
    ("pause", ("memcpy", "slide", "copy", "simulated")),
    ("pause", ("move",)),
    ("concurrent", ("copy", "simulated")),
    ("concurrent", ("move",)),
)
"""Modes and movers of the timelines: of each line the first mover that was run."""
GROUPS = {"pause": "in the pause", "concurrent": "beside the program"}
FASTEST = 120
"""End of the scale of speed, per cent."""

Row = dict[str, Any]


def plot_comparison(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw a comparison's result to a file; its ending says the format (.png, .svg, .pdf).

    Raises:
        OSError: the file cannot be written.
        ValueError: matplotlib does not know the format.
    """
    rows = document["summary"]["rows"]
    places = _places(rows)
    lines = timelines(document)
    heights = [0.62 * len(lines) + (0.9 if lines else 0), 1.7 + 0.36 * (max(places, default=0) + 2)]
    layout = ConstrainedLayoutEngine(h_pad=0.08, wspace=0.04)
    figure = Figure(figsize=(16, 0.8 + sum(heights)), layout=layout, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    below: Any = figure
    if lines:
        parts: Any = figure.subfigures(2, 1, height_ratios=heights)
        _draw_timelines(parts[0], lines)
        below = parts[1]
    axes = below.subplots(1, 4, sharey=True)
    _draw_move_time(axes[0], rows, places)
    _draw_stalls(axes[1], rows, places, document["summary"]["noise"])
    _draw_speed(axes[2], rows, places)
    _draw_memory(axes[3], rows, places)
    for axis in axes:
        _quieten(axis)
    axes[0].set_yticks(places, [_label(row) for row in rows], fontsize=10)
    _name_groups(axes[0], rows, places)
    axes[0].set_ylim(max(places, default=0.0) + 0.7, -1.3)
    said = "\n".join(headline(document))
    figure.suptitle(said, fontsize=12.5, fontweight="bold", x=0.01, ha="left", color=INK)
    figure.supxlabel(_title(document), fontsize=10, x=0.01, ha="left", color=INK)
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
    if row["policy"] == "release":
        return "release: nothing moves"
    if row["mode"] == "pause" or row["mover"] == "simulated":
        return str(row["mover"])
    return f"{row['mover']}, faults by {row['faults']}"


def _group(row: Row) -> str:
    said = "for comparison" if row["policy"] == "release" else GROUPS[row["mode"]]
    return f"{said}, huge pages" if row["huge"] else said


def _name_groups(axis: Any, rows: Sequence[Row], places: Sequence[float]) -> None:
    last = None
    for row, at in zip(rows, places, strict=True):
        group = _group(row)
        if group != last:
            axis.annotate(
                group,
                (0, at - 0.85),
                xycoords=("axes fraction", "data"),
                xytext=(-4, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=10,
                fontweight="bold",
                color=INK,
            )
        last = group


def _colour(row: Row) -> str:
    return COLOURS["release" if row["policy"] == "release" else row["mover"]]


def _figure(row: Row, measure: str) -> dict[str, float] | None:
    figure: dict[str, float] | None = row["measures"].get(measure)
    return figure


def _title(document: dict[str, Any]) -> str:
    source, machine = document["input"], document["machine"]
    repeats = document["summary"]["repeats"]
    said = (
        f"Medians of {repeats} runs; thin lines: least to most." if repeats > 1 else "One run each."
    )
    load = f", load {machine['load']:.1f} at the end" if "load" in machine else ""
    return (
        f"gcheap compare {source['source']}: {source['objects']:,} objects, "
        f"{source['bytes'] / MIB:,.0f} MiB, {source['drop']:.0%} dropped. "
        f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}{load}. "
        f"{said}"
    )


# --- what it says -----------------------------------------------------------------------------


def headline(document: dict[str, Any]) -> list[str]:
    """Say in a sentence or two what the comparison found about ``move`` and its alternatives."""
    rows = [row for row in document["summary"]["rows"] if row["policy"] != "release"]
    huge = {row["huge"] for row in rows}
    pages = ", small pages" if len(huge) > 1 else ", huge pages" if True in huge else ""
    said = []
    for mode, where in GROUPS.items():
        mine = _first_of_each_mover([row for row in rows if row["mode"] == mode])
        if "move" in mine:
            said.append(f"Move phase {where}{pages}: {_times(mine)}.{_seen(mine)}")
    return said


def _times(mine: dict[str, Row]) -> str:
    times = {name: f"{_median(row, 'move_s') * 1e3:.0f}" for name, row in mine.items()}
    move = times.pop("move")
    others = ", ".join(f"{name} {ms}" for name, ms in times.items())
    return f"move {move} ms ({others})" if others else f"move {move} ms"


def _first_of_each_mover(rows: Sequence[Row]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row["mover"], row)
    return found


def _seen(mine: dict[str, Row]) -> str:
    stalls = {
        name: figure["median"] * 1e3
        for name in ("move", "copy")
        if name in mine and (figure := _figure(mine[name], "stalls.moving.longest_s"))
    }
    if "move" not in stalls:
        return ""
    against = f" (copy {stalls['copy']:.1f})" if "copy" in stalls else ""
    return f" The program's longest stall in it: {stalls['move']:.1f} ms{against}."


# --- timelines --------------------------------------------------------------------------------


def timelines(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a run of each row that has a strip: the one whose collection took the median time."""
    chosen = []
    runs = [run for run in document["runs"] if run.get("timeline") and run["policy"] != "release"]
    huge = min((run["huge"] for run in runs), default=False)
    for mode, movers in STRIPS:
        for mover in movers:
            wanted = (mode, mover, huge)
            mine = [run for run in runs if (run["mode"], run["mover"], run["huge"]) == wanted]
            if mine:
                mine = [run for run in mine if run["faults"] == mine[0]["faults"]]
                mine.sort(key=lambda run: run["cycle_s"])
                chosen.append(mine[(len(mine) - 1) // 2])
                break
    return chosen


def _draw_timelines(figure: Any, runs: Sequence[dict[str, Any]]) -> None:
    axes = figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
    for axis, run in zip(axes, runs, strict=True):
        _draw_timeline(axis, run)
    ends = [line["begin_s"] + line["step_s"] * len(line["rates"]) for line in _lines(runs)]
    axes[-1].set_xlim(1e3 * min(line["begin_s"] for line in _lines(runs)), 1e3 * max(ends))
    axes[-1].set_xlabel("ms since the collection was asked for", fontsize=10, color=INK)
    axes[0].set_title(
        "How fast does the program run?  % of its speed without a collection, one run each",
        fontsize=11,
        color=INK,
        loc="left",
    )
    handles = [
        axes[0].axvspan(0, 0, color=PAUSED, lw=0, label="program stopped"),
        axes[0].axvspan(0, 0, color=MOVING, lw=0, label="pages move beside it"),
    ]
    axes[0].legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        frameon=False,
        fontsize=9,
    )


def _lines(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run["timeline"] for run in runs]


def _draw_timeline(axis: Any, run: dict[str, Any]) -> None:
    line = run["timeline"]
    quiet = run["mutator_rate_quiet"] or 1.0
    shares = [min(FASTEST, 100 * rate / quiet) for rate in line["rates"]]
    edges = [1e3 * (line["begin_s"] + at * line["step_s"]) for at in range(len(shares) + 1)]
    if line["move"] is not None:
        axis.axvspan(line["move"][0] * 1e3, line["move"][1] * 1e3, color=MOVING, lw=0)
    for began, ended in line["pauses"]:
        axis.axvspan(began * 1e3, ended * 1e3, color=PAUSED, lw=0)
    axis.stairs(shares, edges, fill=True, color=_colour(run))
    axis.axvline(line["cycle"][1] * 1e3, color=INK, lw=1, ls=":")
    axis.annotate(
        "done",
        (line["cycle"][1] * 1e3, FASTEST),
        xytext=(3, -1),
        textcoords="offset points",
        va="top",
        fontsize=9,
        color=INK,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
    )
    axis.set_ylim(0, FASTEST)
    axis.set_yticks([0, 100])
    axis.set_ylabel(
        f"{run['mover']}\n{GROUPS[run['mode']]}",
        rotation=0,
        ha="right",
        va="center",
        fontsize=10,
        color=INK,
    )
    _quieten(axis)


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
    _ask(axis, "How fast does it run meanwhile?", "% of its speed, whole collection")
    scales = [_median(row, "mutator_rate_quiet") for row in rows]
    most = max(
        (
            100 * ran["max"] / quiet
            for row, quiet in zip(rows, scales, strict=True)
            if quiet and (ran := _figure(row, "mutator_rate"))
        ),
        default=0.0,
    )
    widest = max(5.0, most)
    for row, at, quiet in zip(rows, places, scales, strict=True):
        if quiet:
            _bar(axis, at, _figure(row, "mutator_rate"), 100 / quiet, _colour(row), widest)
    axis.set_xlim(0, widest * 1.22)


def _draw_memory(axis: Any, rows: Sequence[Row], places: Sequence[float]) -> None:
    _ask(axis, "How much memory does it take?", "MiB: before, at most, after")
    for row, at in zip(rows, places, strict=True):
        before, peak, after = (
            _figure(row, f"physical_{name}") for name in ("before", "peak", "after")
        )
        if before is None or peak is None or after is None:
            continue
        ends = [figure["median"] / MIB for figure in (before, peak, after)]
        said = f"{ends[0]:.0f} to {ends[2]:.0f}, peak {ends[1] - ends[0]:+.0f}"
        axis.annotate(
            said,
            (max(ends), at),
            xytext=(-9, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            color=INK,
        )
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
    text = f"{length:.1f}" if 0.5 <= length < 9.95 else f"{length:.0f}"
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
