"""How long does a mutator stand still while pages move, by who answers its faults?

By the collector's stamps (one stall is one touch; where a thread answers, delivery and wake-up are
not in it), and ``observed`` as gaps above 20 us on the program's own clock (all is in it, and
touches that follow one another within a step of the program are one gap). The runs of all cases of
a fault mode are the same: ``GCHEAP_BENCH_ROUNDS``.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from benchmarks.kit import CLOCK, ROUNDS, measure, run_of
from gcheap.compare.rows import CONTROL, Row


@functools.cache
def runs(mode: str, faults: str) -> list[dict[str, Any]]:
    policy = "release" if mode == CONTROL else "all"
    row = Row("move", mode, faults, policy, False)
    found = []
    for _ in range(3 * ROUNDS):
        run = run_of("mixed", row)
        if mode == CONTROL or run["stalls"]["attributed"] is not None:
            found.append(run)
        if len(found) == ROUNDS:
            return found
    raise RuntimeError(f"{faults}: {len(found)} of {ROUNDS} runs had stalls while moving")


@pytest.mark.benchmark(group="stalls while moving", timer=CLOCK)
@pytest.mark.parametrize(
    "case",
    [
        *(f"{faults}-{part}" for faults in ("signal", "thread") for part in ("p50_s", "p99_s")),
        *(
            f"{faults}-{part}-observed"
            for faults in ("signal", "thread")
            for part in ("p50_s", "p99_s")
        ),
    ],
)
def test_stall(benchmark: Any, case: str) -> None:
    faults, part, *observed = case.split("-")
    clock = "moving" if observed else "attributed"
    values = iter([float(run["stalls"][clock][part]) for run in runs("concurrent", faults)])
    noise = [run["stalls"]["longest_s"] for run in runs(CONTROL, "thread")]
    benchmark.extra_info["machine_noise_s"] = noise
    measure(benchmark, lambda: next(values))
