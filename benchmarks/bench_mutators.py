"""What does a program see of a whole full collection: utilisation, rate, stalls, memory?

``walk``: a random walk over all that lives. ``lru``: a cache in a heap of three times what lives,
whose collection begins by itself, the first one; ``steady``: the second. Each run in a process of
its own, the program's thread on one CPU, ``GCHEAP_BENCH_ROUNDS`` runs of a case, in turns. All
figures are on the program's own clock (native/workloads/loops.h):

- ``mmu1``, ``mmu10``, ``mmu100``: the least share of any 1, 10, 100 ms, from the first pause to
  the end of the collection, in which it ran; ``move-mmu10`` and so on: of the move phase alone;
  ``quiet-mmu10``: of the time before, when there are minor collections only.
- ``rate``: operations a second over the whole collection, as a share of those before it;
  ``test_mutator_rate``: the same with everything else kept from the CPU of the program's thread.
- ``stall_p50``, ``_p90``, ``_p99``, ``_max``: stalls above 20 us of the move phase, pauses apart.
- ``control_max``: the longest gap of the same clock without a heap, afterwards.
- ``peak``: memory in the move phase at most, less staging and what was allocated, as a share of
  what there was when it began (from runs of their own: watching takes time).
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from benchmarks.apart import apart
from benchmarks.kit import CLOCK, LIVE, ROUNDS, measure
from gcheap.compare.memory import peak_share

WORKLOADS = ("walk", "lru", "steady")
CACHES, MOVING = WORKLOADS[1:], ("walk", "steady")
PAGES = ("4k", "huge")
FAULTS = ("signal", "thread")
WIDTHS = ("1", "10", "100")
STALLS = ("p50", "p90", "p99", "max")
TRIES = 3


@functools.cache
def all_runs(workload: str, pages: str) -> dict[str, list[dict[str, Any]]]:
    """Return the runs of each fault mode."""
    found: dict[str, list[dict[str, Any]]] = {faults: [] for faults in FAULTS}
    for _ in range(ROUNDS):
        for faults, of_mode in found.items():
            of_mode.append(apart(workload, live=LIVE, pages=pages, faults=faults))
    return found


def figure(run: dict[str, Any], name: str) -> float:
    if name.startswith("move-mmu"):
        return float(run["mmu"]["move"][name.removeprefix("move-mmu")])
    if name.startswith("quiet-mmu"):
        return float(run["mmu"]["quiet"][name.removeprefix("quiet-mmu")])
    if name.startswith("mmu"):
        return float(run["mmu"]["cycle"][name.removeprefix("mmu")])
    if name.startswith("stall_"):
        return float(run["stalls"]["move"][name.removeprefix("stall_")])
    if name == "control_max":
        return float(run["control"]["max"])
    return float(run["rates"]["cycle"] / run["rates"]["quiet"])


FIGURES = (
    *(f"mmu{ms}" for ms in WIDTHS),
    *(f"move-mmu{ms}" for ms in WIDTHS),
    *(f"quiet-mmu{ms}" for ms in WIDTHS),
    "rate",
    *(f"stall_{part}" for part in STALLS),
    "control_max",
)


@pytest.mark.benchmark(group="what a program sees of a collection", timer=CLOCK)
@pytest.mark.parametrize(
    "case",
    [
        f"{workload}-{pages}-{faults}-{name}"
        for workload in WORKLOADS
        for pages in PAGES
        for faults in FAULTS
        for name in FIGURES
    ],
)
def test_mutator(benchmark: Any, case: str) -> None:
    workload, pages, faults, name = case.split("-", 3)
    of_mode = all_runs(workload, pages)[faults]
    assert all(run["lost_gaps"] == 0 for run in of_mode)
    if name.startswith(("move-", "stall_")) and any(not run["move_s"] for run in of_mode):
        pytest.skip("a collection moved nothing: it was not worth it")
    if name == "rate":
        benchmark.extra_info["runs"] = of_mode
    if name == "mmu10":
        benchmark.extra_info["bounds"] = [run["bounds"] for run in of_mode]
        benchmark.extra_info["shares"] = [run["shares"] for run in of_mode]
    if name == "stall_p99":
        benchmark.extra_info["distribution"] = {
            **{f"stalls, run {i}": run["stalls"]["move"] for i, run in enumerate(of_mode)},
            **{f"control, run {i}": run["control"] for i, run in enumerate(of_mode)},
        }
    values = iter([figure(run, name) for run in of_mode])
    measure(benchmark, lambda: next(values), len(of_mode))


@functools.cache
def runs_apart(workload: str, pages: str) -> dict[str, list[dict[str, Any]]]:
    """Return runs of the cache with the collector on other CPUs only."""
    found: dict[str, list[dict[str, Any]]] = {faults: [] for faults in FAULTS}
    for _ in range(ROUNDS):
        for faults, of_mode in found.items():
            of_mode.append(apart(workload, live=LIVE, pages=pages, faults=faults, pin="apart"))
    return found


@pytest.mark.benchmark(group="rate of a program, collector on other CPUs", timer=CLOCK)
@pytest.mark.parametrize(
    "case", [f"{w}-{p}-{faults}" for w in CACHES for p in PAGES for faults in FAULTS]
)
def test_mutator_rate(benchmark: Any, case: str) -> None:
    workload, pages, faults = case.split("-")
    of_mode = runs_apart(workload, pages)[faults]
    benchmark.extra_info["runs"] = of_mode
    values = iter([figure(run, "rate") for run in of_mode])
    measure(benchmark, lambda: next(values), len(of_mode))


@pytest.mark.benchmark(group="memory while pages move beside a program", timer=CLOCK)
@pytest.mark.parametrize("case", [f"{w}-{pages}" for w in MOVING for pages in PAGES])
def test_mutator_memory(benchmark: Any, case: str) -> None:
    workload, pages = case.split("-")

    def once() -> float:
        for _ in range(TRIES):
            share = peak_share(apart(workload, live=LIVE, pages=pages, memory=True))
            if share is not None:
                return share
        raise RuntimeError(f"{case}: the move phase's beginning was not seen in {TRIES} runs")

    measure(benchmark, once)
