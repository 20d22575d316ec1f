"""A comparison: the input, then every row ``repeat`` times, interleaved, a process each run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gcheap.compare.inputs import prepare, write_prepared
from gcheap.compare.rows import Row

__all__ = ["Session", "Settings", "work"]

WORKER_LIMIT_S = 120.0
"""How long a run may take, and as much again a GiB of its graph."""
SIZE_BYTES_A_LIMIT = 1 << 30
LAST_LINES = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """What to compare.

    Attributes:
        source: see ``gcheap.compare.inputs.prepare``; ``live_bytes``, ``drop``, ``seed`` too.
        rows: in the order of the table.
        repeat: runs of each row.
        budget_s: begin no further repeat that would end after this, 0: no limit.
        quiet_s: how long the mutator runs before and after a collection.
    """

    source: str
    live_bytes: int | None
    drop: float
    seed: int
    rows: tuple[Row, ...]
    repeat: int = 5
    budget_s: float = 0.0
    quiet_s: float = 0.15


@dataclass(slots=True)
class Session:
    """The state of a comparison: ``runs`` so far, and why rows are ``unavailable``."""

    settings: Settings
    input: dict[str, Any] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    unavailable: dict[Row, str] = field(default_factory=dict)
    repeats: int = 0

    def run(
        self,
        began: Callable[[Row, int], None],
        ended: Callable[[], None],
        log: Callable[[str], None] | None = None,
    ) -> None:
        """Do everything; call ``began(row, repeat)`` and ``ended()`` around each run, ``log(line)``
        while the input is read.

        Raises:
            ValueError, OSError: the input cannot be had.
        """
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="gcheap-compare-") as name:
            folder = Path(name)
            self._prepare(folder, log)
            for repeat in range(self.settings.repeat):
                round_start = time.monotonic()
                for row in self._rows_left():
                    began(row, repeat)
                    self._run(folder, row, repeat)
                    ended()
                self.repeats = repeat + 1
                if self._is_over(start, time.monotonic() - round_start):
                    return

    def _prepare(self, folder: Path, log: Callable[[str], None] | None) -> None:
        s = self.settings
        prepared, self.input = prepare(s.source, s.live_bytes, s.drop, s.seed, log=log)
        write_prepared(folder, prepared)

    def _rows_left(self) -> Iterator[Row]:
        return (row for row in self.settings.rows if row not in self.unavailable)

    def _is_over(self, start: float, round_s: float) -> bool:
        budget = self.settings.budget_s
        return bool(budget) and time.monotonic() - start + round_s > budget

    def _run(self, folder: Path, row: Row, repeat: int) -> None:
        job = {"row": row.as_json(), "repeat": repeat, "quiet_s": self.settings.quiet_s}
        limit = WORKER_LIMIT_S * (1 + self.input["bytes"] / SIZE_BYTES_A_LIMIT)
        answer = work(folder, job, limit)
        if "run" in answer:
            self.runs.append(answer["run"])
        elif "unavailable" in answer:
            self.unavailable[row] = answer["unavailable"]
        else:
            failed = {**row.as_json(), "repeat": repeat, "verified": False}
            self.runs.append({**failed, "problem": answer["failed"]})


def work(folder: Path, job: dict[str, Any], limit_s: float) -> dict[str, Any]:
    """Run a worker and return its answer, or {"failed": why}."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gcheap.compare.worker", str(folder)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=limit_s,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"the run did not end within {limit_s:.0f} s and was stopped"}
    if done.returncode == 0:
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
    said = " / ".join(_last_lines(done.stderr)) or "it said nothing"
    return {"failed": f"the run ended with status {done.returncode}: {said}"}


def _last_lines(text: str) -> Sequence[str]:
    return [line.strip() for line in text.splitlines() if line.strip()][-LAST_LINES:]


def _environment() -> dict[str, str]:
    """Return the environment of workers: this process's modules, freed arrays given back at once
    (a threshold that is set does not grow)."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
