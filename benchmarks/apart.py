"""Runs in processes of their own: ``apart("walk", live=...)`` calls ``benchmarks.cycles.walk``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["apart"]

ROOT = Path(__file__).parents[1]
LIMIT_S = 300.0
LIMIT_A_GIB_S = 300.0


def apart(function: str, **arguments: Any) -> Any:
    """Call a function of ``benchmarks.cycles`` in a new process; return what it returns.

    Raises:
        RuntimeError: it failed, or took too long; the message has its last lines.
    """
    limit = LIMIT_S + LIMIT_A_GIB_S * arguments.get("live", 0) / (1 << 30)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cycles", function],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        timeout=limit,
        cwd=ROOT,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 16)},
        check=False,
    )
    if done.returncode != 0:
        last = " / ".join(done.stderr.strip().splitlines()[-4:])
        raise RuntimeError(f"{function} {arguments}: status {done.returncode}: {last}")
    return json.loads(done.stdout)
