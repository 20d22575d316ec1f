"""How long does a mutator stand still while pages move, by who answers its faults?

The runs of the four cases are the same: ``GCHEAP_BENCH_ROUNDS`` of each fault mode.
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
@pytest.mark.parametrize("case", ["signal-p50_s", "signal-p99_s", "thread-p50_s", "thread-p99_s"])
def test_stall(benchmark: Any, case: str) -> None:
    faults, part = case.split("-")
    values = iter([float(run["stalls"]["attributed"][part]) for run in runs("concurrent", faults)])
    noise = [run["stalls"]["longest_s"] for run in runs(CONTROL, "thread")]
    benchmark.extra_info["machine_noise_s"] = noise
    measure(benchmark, lambda: next(values))
