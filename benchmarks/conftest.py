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
    medians = {one.name: one.stats.median for one in measured}
    lines = bars.judge(medians, LIVE)
    if lines:
        terminalreporter.section("bars")
        for line in (", ".join(machine().values()), bars.heading(LIVE), *lines):
            terminalreporter.write_line(line)


def distributions(measured: Any) -> list[str]:
    """Return a line for each distribution that a benchmark has left."""
    lines = []
    for one in measured:
        for name, found in one.extra_info.get("distribution", {}).items():
            figures = " ".join(f"{found[part] * 1e6:9.1f}" for part in ("p50", "p90", "p99", "max"))
            lines.append(f"{found['count']:8} {figures}  {one.name}: {name}")
    return lines
