"""How long does moving every live page take beside one busy mutator, by mover and page size?

``dense``: nothing died, so everything relocates by whole pages. ``latency``: a fault in a huge
arena makes one block of it (the default); else the whole arena.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.kit import CLOCK, measure, run_of
from gcheap.compare.memory import peak_share
from gcheap.compare.rows import Row


@pytest.mark.benchmark(group="move_s beside a mutator, policy all", timer=CLOCK)
@pytest.mark.parametrize(
    "case",
    [
        f"{age}-{pages}-{mover}"
        for age in ("aged", "dense")
        for pages in ("4k", "huge", "huge latency")
        for mover in ("move", "copy")
    ],
)
def test_move_time_beside(benchmark: Any, case: str) -> None:
    age, pages, mover = case.split("-")
    row = Row(mover, "concurrent", "thread", "all", pages != "4k")
    policy = "latency" if pages == "huge latency" else "throughput"

    def once() -> float:
        run = run_of("mixed", row, 0.6 if age == "aged" else 0.0, huge_faults=policy)
        benchmark.extra_info.update(
            faults=run["faults_served"],
            peak_share=peak_share(run),
        )
        return float(run["move_s"])

    measure(benchmark, once)
