"""At the end of a run: the bars, and whether they were met."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import bars
from benchmarks.kit import LIVE


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    if session is None:
        return
    medians = {one.name: one.stats.median for one in session.benchmarks if one.stats.data}
    lines = bars.judge(medians, LIVE)
    if lines:
        terminalreporter.section("bars")
        for line in (bars.heading(LIVE), *lines):
            terminalreporter.write_line(line)
