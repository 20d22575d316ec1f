"""What do reference summaries save of the move phase's CPU time, where few arenas are moved?

A heap of clusters of nodes, a tenth of which is thinned out to a tenth. ``clustered``: references
stay in their cluster, so most of the others need not be read. ``mixed``: one of 16 leads anywhere,
so all have to be read, and summaries only cost. A process each run, with and without in turns.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from benchmarks.apart import apart
from benchmarks.kit import CLOCK, LIVE, ROUNDS, measure


@functools.cache
def runs(kind: str, pages: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"on": [], "off": []}
    for _ in range(ROUNDS):
        for which, of_which in found.items():
            of_which.append(apart("summaries", live=LIVE, kind=kind, pages=pages, which=which))
    return found


@pytest.mark.benchmark(group="move_cpu_s by reference summaries", timer=CLOCK)
@pytest.mark.parametrize(
    "case",
    [
        f"{kind}-{pages}-{which}"
        for kind in ("clustered", "mixed")
        for pages in ("4k", "huge")
        for which in ("on", "off")
    ],
)
def test_summaries(benchmark: Any, case: str) -> None:
    kind, pages, which = case.split("-")
    of_case = runs(kind, pages)[which]
    for run in of_case:
        assert run["blocks_evacuated"] > 0
        assert (run["units_unread"] > 0) == (kind == "clustered" and which == "on"), run
    benchmark.extra_info["runs"] = of_case
    values = iter([float(run["move_cpu_s"]) for run in of_case])
    measure(benchmark, lambda: next(values), len(of_case))
