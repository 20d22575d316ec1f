"""At the end of a run: the bars, whether they were met, and distributions."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import bars
from benchmarks.kit import LIVE, machine


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: Any) -> None:
    machine_info.update({f"gcheap_{name}": value for name, value in machine().items()})
    machine_info["gcheap_live_bytes"] = LIVE


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    if session is None:
        return
    measured = [one for one in session.benchmarks if one.stats.data]
    spread = distributions(measured)
    if spread:
        terminalreporter.section("distributions, us")
        terminalreporter.write_line(f"{'count':>8} {'p50':>9} {'p90':>9} {'p99':>9} {'max':>9}")
        for line in spread:
            terminalreporter.write_line(line)
    bounds = [line for one in measured for line in what_bounds(one)]
    if bounds:
        terminalreporter.section("what each collection cost the program, ms")
        for line in bounds:
            terminalreporter.write_line(line)
    shares = [line for one in measured for line in what_shares(one)]
    if shares:
        terminalreporter.section("what programs had of windows of 10 ms")
        for line in shares:
            terminalreporter.write_line(line)
    medians = {one.name: one.stats.median for one in measured}
    lines = bars.judge(medians, LIVE)
    if lines:
        terminalreporter.section("bars")
        for line in (", ".join(machine().values()), bars.heading(LIVE), *lines):
            terminalreporter.write_line(line)


def what_bounds(one: Any) -> list[str]:
    """Return a line for each run of a benchmark that says what it lost its time with."""

    def sums(parts: dict[str, float]) -> str:
        return ", ".join(f"{name} {s * 1e3:.1f}" for name, s in parts.items()) or "none"

    return [
        f"{one.name}: {found['cycle_s'] * 1e3:.0f} ms, in pauses: {sums(found['pauses_s'])}, in "
        f"gaps by phase: {sums(found['gaps_s'])}; worst 10 ms, {found['utilisation']:.2f}, after "
        f"{found['after_s'] * 1e3:.0f} ms: pauses {sums(found['worst_pauses_s'])}, "
        f"{found['worst_gaps']['count']} gaps; by the heap: {sums(found['lost_s'])}"
        for found in one.extra_info.get("bounds", ())
    ]


def what_shares(one: Any) -> list[str]:
    """Return a line for each run of a benchmark: of windows of 10 ms, one behind the other, the
    program had at least so much of all but 0.1, 1, 10, 50 %."""
    return [
        f"{one.name}: "
        + "; ".join(
            f"{span} " + " ".join(f"{at} {share:.2f}" for at, share in found[span].items())
            for span in found
            if found[span]
        )
        for found in one.extra_info.get("shares", ())
    ]


def distributions(measured: Any) -> list[str]:
    """Return a line for each distribution that a benchmark has left."""
    lines = []
    for one in measured:
        for name, found in one.extra_info.get("distribution", {}).items():
            figures = " ".join(f"{found[part] * 1e6:9.1f}" for part in ("p50", "p90", "p99", "max"))
            lines.append(f"{found['count']:8} {figures}  {one.name}: {name}")
    return lines
