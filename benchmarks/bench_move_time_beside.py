"""How long does moving every live page take beside one busy mutator, by mover and page size?"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.kit import CLOCK, measure, run_of
from gcheap.compare.rows import Row


@pytest.mark.benchmark(group="move_s beside a mutator, policy all", timer=CLOCK)
@pytest.mark.parametrize("case", ["4k-move", "4k-copy", "huge-move", "huge-copy"])
def test_move_time_beside(benchmark: Any, case: str) -> None:
    pages, mover = case.split("-")
    row = Row(mover, "concurrent", "thread", "all", pages == "huge")

    def once() -> float:
        run = run_of("mixed", row)
        benchmark.extra_info.update(
            faults=run["faults_served"],
            peak_over_before=run["physical_peak"] - run["physical_before"],
        )
        return float(run["move_s"])

    measure(benchmark, once)
