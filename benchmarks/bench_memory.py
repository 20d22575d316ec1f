"""How much memory does a collection take while it moves, at most, and how much is left afterwards?

The figures are shares: of what was resident when the move phase began (the peak within it, less the
staging budget and what was allocated meanwhile; with huge pages by the cgroup or MemFree, too), and
of what lives (afterwards, less 32 MiB).

Dead blocks are given back before the plan, so what was there before the collection says nothing
here. The staging budget is that of the heap of 1 GiB that the bars are meant for, by proportion:
32 MiB beside 64 that live would hide whatever the mover takes.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.kit import CLOCK, LIVE, ROUNDS, measure, run_of
from gcheap.compare.memory import peak_share
from gcheap.compare.rows import Row

STAGING_LEAST = 512 << 10
STAGING_SHARE = 32
AFTER_EXTRA = 32 << 20
TRIES = 3
"""Runs for a figure: one in which the move phase began unseen (a busy machine) does not count."""


def row_of(mode: str, pages: str) -> Row:
    return Row("move", mode, "thread", "all", pages == "huge")


def moving_share(row: Row) -> float:
    staging = max(STAGING_LEAST, LIVE // STAGING_SHARE)
    for _ in range(TRIES):
        share = peak_share(run_of("mixed", row, staging=staging))
        if share is not None:
            return share
    raise RuntimeError(f"{row}: the beginning of the move phase was not seen in {TRIES} runs")


@pytest.mark.benchmark(group="memory while pages move", timer=CLOCK)
@pytest.mark.parametrize("pages", ["4k", "huge"])
@pytest.mark.parametrize("mode", ["pause", "concurrent"])
def test_memory_moving(benchmark: Any, mode: str, pages: str) -> None:
    row = row_of(mode, pages)
    measure(benchmark, lambda: moving_share(row), ROUNDS)


@pytest.mark.benchmark(group="memory after a concurrent move", timer=CLOCK)
def test_memory_after(benchmark: Any) -> None:
    def once() -> float:
        run = run_of("mixed", row_of("concurrent", "4k"))
        return float((run["physical_after"] - AFTER_EXTRA) / run["live_bytes"])

    measure(benchmark, once)
