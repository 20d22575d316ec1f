"""How long does moving every live page take in the pause, by mover, object size and page size?"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.kit import CLOCK, measure, run_of
from gcheap.compare.rows import Row

CASES = [
    f"{kind}-{pages}-{mover}"
    for kind, pages in (
        ("mixed", "4k"),
        ("mixed", "huge"),
        ("nodes", "4k"),
        ("structs", "4k"),
        ("leaf", "4k"),
        ("leaf", "huge"),
    )
    for mover in ("move", "copy", "memcpy", "slide")
]


@pytest.mark.benchmark(group="move_s in the pause, policy all", timer=CLOCK)
@pytest.mark.parametrize("case", CASES)
def test_move_time(benchmark: Any, case: str) -> None:
    kind, pages, mover = case.split("-")
    row = Row(mover, "pause", "thread", "all", pages == "huge")

    def once() -> float:
        run = run_of(kind, row)
        benchmark.extra_info.update(pages_moved=run["pages_moved"], copied=run["bytes_copied"])
        return float(run["move_s"])

    measure(benchmark, once)
