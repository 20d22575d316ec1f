"""From runs to rows: medians, spreads, what the machine itself does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gcheap.compare.rows import CONTROL, Row

__all__ = ["MEASURES", "Figure", "RowSummary", "summarise", "summary_json"]

MEASURES = (
    "live_bytes",
    "heap_bytes_before",
    "heap_bytes_after",
    "physical_before",
    "physical_after",
    "physical_peak",
    "physical_at_flip",
    "physical_peak_moving",
    "allocated_bytes",
    "allocated_moving",
    "mark_s",
    "plan_s",
    "pause_flip_s",
    "move_s",
    "cycle_s",
    "pauses.longest_s",
    "pauses.total_s",
    "stalls.longest_s",
    "stalls.moving.p50_s",
    "stalls.moving.p99_s",
    "stalls.moving.longest_s",
    "stalls.attributed.p50_s",
    "stalls.attributed.p99_s",
    "mmu_1ms",
    "mmu_10ms",
    "mmu_100ms",
    "mmu_10ms_moving",
    "mutator_rate",
    "mutator_rate_moving",
    "mutator_rate_quiet",
    "collector_cpu_s",
    "pages_moved",
    "arenas_moved",
    "bytes_copied",
    "bytes_released",
    "faults_served",
    "mem_free_before",
    "mem_free_at_flip",
    "mem_free_least_moving",
    "mem_free",
    "cgroup_at_flip",
    "cgroup_peak_moving",
)
"""What is summarised; dots lead into a run's objects."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure over a row's runs; ``spread`` is half the distance between the quartiles."""

    median: float
    spread: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class RowSummary:
    """A row: how many runs it had, how many verified, its figures by measure, what to add."""

    row: Row
    runs: int
    verified: int
    figures: dict[str, Figure]
    notes: tuple[str, ...]

    def median(self, measure: str) -> float | None:
        """Return a measure's median, None where it does not apply."""
        figure = self.figures.get(measure)
        return None if figure is None else figure.median


def summarise(runs: Sequence[dict[str, Any]], rows: Iterable[Row]) -> list[RowSummary]:
    """Return the rows that have runs, in order."""
    summaries = []
    for row in rows:
        key = row.as_json()
        mine = [run for run in runs if all(run[name] == key[name] for name in key)]
        if mine:
            summaries.append(_summary_of(row, mine))
    return summaries


def _summary_of(row: Row, runs: list[dict[str, Any]]) -> RowSummary:
    figures = {}
    for measure in MEASURES:
        values = [value for run in runs if (value := _value(run, measure)) is not None]
        if values:
            figures[measure] = _figure(values)
    notes = [run.get("problem") or run.get("note") or "" for run in runs]
    return RowSummary(
        row,
        len(runs),
        sum(bool(run["verified"]) for run in runs),
        figures,
        tuple(dict.fromkeys(note for note in notes if note)),
    )


def _value(run: dict[str, Any], measure: str) -> float | None:
    value: Any = run
    for part in measure.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else float(value)


def _figure(values: list[float]) -> Figure:
    low, median, high = np.percentile(values, [25, 50, 75])
    return Figure(float(median), float(high - low) / 2, min(values), max(values))


def summary_json(
    summaries: Sequence[RowSummary], unavailable: dict[Row, str], repeats: int
) -> dict[str, Any]:
    """Return the ``summary`` of a comparison's result."""
    return {
        "repeats": repeats,
        "verified": all(one.verified == one.runs for one in summaries),
        "rows": [_row_json(one) for one in summaries if one.row.mode != CONTROL],
        "noise": [_row_json(one) for one in summaries if one.row.mode == CONTROL],
        "unavailable": [{**row.as_json(), "why": why} for row, why in unavailable.items()],
    }


def _row_json(one: RowSummary) -> dict[str, Any]:
    measures = {
        name: {
            "median": figure.median,
            "spread": figure.spread,
            "min": figure.least,
            "max": figure.most,
        }
        for name, figure in one.figures.items()
    }
    return {
        **one.row.as_json(),
        "runs": one.runs,
        "verified": one.verified,
        "measures": measures,
        "notes": list(one.notes),
    }
