"""How much memory does a concurrent move take, at most and afterwards?

The figures are shares: of what was resident before (the peak, less the staging budget and what was
allocated meanwhile), and of what lives (afterwards, less 32 MiB).
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from benchmarks.kit import CLOCK, LIVE, ROUNDS, measure, run_of
from gcheap.compare.rows import Row
from gcheap.compare.worker import heap_limit

STAGING_MAX = 32 << 20
AFTER_EXTRA = 32 << 20


@functools.cache
def runs() -> list[dict[str, Any]]:
    row = Row("move", "concurrent", "thread", "all", False)
    return [run_of("mixed", row) for _ in range(ROUNDS)]


def staging_bytes() -> int:
    """Return the default staging budget of the heap that a run makes: see gcheap/options.h."""
    return min(STAGING_MAX, heap_limit(2 * LIVE) // 16)


@pytest.mark.benchmark(group="memory of a concurrent move", timer=CLOCK)
@pytest.mark.parametrize("case", ["peak", "after"])
def test_memory(benchmark: Any, case: str) -> None:
    left = iter(runs())

    def once() -> float:
        run = next(left)
        if case == "after":
            return float((run["physical_after"] - AFTER_EXTRA) / run["live_bytes"])
        own = run["physical_peak"] - staging_bytes() - run["allocated_bytes"]
        return float(own / run["physical_before"])

    measure(benchmark, once)
