"""How long are the pauses of a full collection that marks and moves beside the program, and do they
grow with the heap?

Twenty collections of a heap of nodes that refer to each other at random, with a program thread that
walks, stores and allocates, in a process of its own: at an eighth, a quarter and half of
``GCHEAP_BENCH_LIVE`` and all of it (8GiB: at 1, 2, 4 and 8), in turns, ``GCHEAP_BENCH_ROUNDS``
times.
Minor collections have their own rows: this is what the first pause, the remark and the flip do
besides. ``longest`` is the longest of the twenty of a run, all kinds together; ``control`` the
longest gap above 20 us of a loop without a heap, in the same process, afterwards.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from benchmarks.apart import apart
from benchmarks.cycles import distribution
from benchmarks.kit import CLOCK, LIVE, ROUNDS, measure

CYCLES = 20
PARTS = ("mark", "remark", "flip")
SHARES = (8, 4, 2, 1)


@functools.cache
def runs(pages: str) -> dict[int, list[dict[str, Any]]]:
    """Return the runs of each size."""
    found: dict[int, list[dict[str, Any]]] = {share: [] for share in SHARES}
    for _ in range(ROUNDS):
        for share, of_size in found.items():
            of_size.append(apart("pauses", live=LIVE // share, pages=pages, cycles=CYCLES))
    return found


def cases(parts: tuple[str, ...]) -> list[str]:
    return [f"{part}-{s}-{pages}" for pages in ("4k", "huge") for s in SHARES for part in parts]


@pytest.mark.benchmark(group="pauses of a concurrent collection", timer=CLOCK)
@pytest.mark.parametrize("case", cases(PARTS))
def test_pause(benchmark: Any, case: str) -> None:
    part, share, pages = case.split("-")
    seconds = [one for run in runs(pages)[int(share)] for one in run[part]]
    benchmark.extra_info["distribution"] = {part: distribution(seconds)}
    values = iter(seconds)
    measure(benchmark, lambda: next(values), len(seconds))


@pytest.mark.benchmark(group="longest pauses of concurrent collections", timer=CLOCK)
@pytest.mark.parametrize("case", cases(("longest", "control")))
def test_pause_longest(benchmark: Any, case: str) -> None:
    part, share, pages = case.split("-")
    of_runs = runs(pages)[int(share)]
    if part == "control":
        longest = [run["control"]["max"] for run in of_runs]
    else:
        longest = [max(max(run[one]) for one in PARTS) for run in of_runs]
    benchmark.extra_info["each_run_s"] = longest
    values = iter(longest)
    measure(benchmark, lambda: next(values), len(longest))
