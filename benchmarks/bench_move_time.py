"""How long does moving every live page take in the pause, by mover, objects and page size?

``aged``: after the usual ageing, where most sparse blocks are evacuated object by object whatever
the mover. ``dense``: nothing died, so everything relocates by whole pages.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.kit import CLOCK, measure, run_of
from gcheap.compare.rows import Row

CASES = [
    f"{heap}-{mover}"
    for heap in (
        "aged-mixed-4k",
        "aged-mixed-huge",
        "dense-mixed-4k",
        "dense-mixed-huge",
        "dense-nodes-4k",
        "dense-structs-4k",
        "dense-leaf-4k",
        "dense-leaf-huge",
    )
    for mover in ("move", "copy", "memcpy", "slide")
]


@pytest.mark.benchmark(group="move_s in the pause, policy all", timer=CLOCK)
@pytest.mark.parametrize("case", CASES)
def test_move_time(benchmark: Any, case: str) -> None:
    age, kind, pages, mover = case.split("-")
    row = Row(mover, "pause", "thread", "all", pages == "huge")

    def once() -> float:
        run = run_of(kind, row, 0.6 if age == "aged" else 0.0)
        benchmark.extra_info.update(pages_moved=run["pages_moved"], copied=run["bytes_copied"])
        return float(run["move_s"])

    measure(benchmark, once)
