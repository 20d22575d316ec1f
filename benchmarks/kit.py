"""What benchmarks share: sizes, a clock that gcheap's own figures advance, aged graphs on disk.

A collection reports how long its parts took. ``CLOCK`` is a timer for pytest-benchmark that stands
still but for ``CLOCK.add(seconds)``, so that a benchmark's statistics are those of one part.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gcheap._memory import meminfo
from gcheap._units import parse_size
from gcheap.compare.inputs import REFILL, prepare, write_prepared
from gcheap.compare.rows import Row
from gcheap.compare.session import work
from gcheap.graph import ObjectGraph
from gcheap.sources import generators

__all__ = ["CLOCK", "LIVE", "ROUNDS", "graph_of", "machine", "measure", "run_of"]

LIVE = parse_size(os.environ.get("GCHEAP_BENCH_LIVE", "64MiB"), "GCHEAP_BENCH_LIVE")
"""Bytes live when a collection starts. The bars are for 1GiB, 4GiB or 8GiB, see bars.py."""
ROUNDS = int(os.environ.get("GCHEAP_BENCH_ROUNDS", "3"))
_RUN_LIMIT_S = 600.0


class Clock:
    """A timer that advances by what was measured elsewhere."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def add(self, seconds: float) -> None:
        """Advance."""
        self.now += seconds


CLOCK = Clock()


def measure(benchmark: Any, once: Callable[[], float], rounds: int = ROUNDS) -> None:
    """Let ``once`` run ``rounds`` times; what it returns is the time taken, in seconds."""
    benchmark.pedantic(lambda: CLOCK.add(once()), rounds=rounds, iterations=1)


def machine() -> dict[str, str]:
    """Describe where the figures come from."""
    cpu = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line[:10] == "model name"), cpu)
    try:
        huge = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="ascii")
    except OSError:
        huge = "none"
    return {
        "cpus": f"{len(os.sched_getaffinity(0))} CPUs ({cpu})",
        "memory": f"{meminfo().get('MemTotal', 0) / (1 << 30):.1f} GiB",
        "kernel": f"{os.uname().sysname} {os.uname().release}",
        "page": f"pages of {os.sysconf('SC_PAGE_SIZE')} bytes",
        "huge": f"huge pages {huge.strip()}",
    }


def graph_of(kind: str, nbytes: int) -> ObjectGraph:
    """Return a graph of ``nbytes``: nodes of 32 bytes, structs of 512, leaf of 4096, or mixed."""
    rng = np.random.default_rng(1)
    if kind == "nodes":
        return generators.structs(nbytes, 32, 2, rng)
    if kind == "structs":
        return generators.structs(nbytes, 512, 4, rng)
    if kind == "leaf":
        return generators.leaf(nbytes, 4096)
    return generators.generate(kind, nbytes, 1)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="gcheap-bench-")


@functools.cache
def _prepared(kind: str, drop: float) -> Path:
    folder = Path(_folder().name) / f"{kind}-{drop}"
    folder.mkdir()
    stays = 1 - drop + min(REFILL, drop)
    graph_of(kind, int(LIVE / stays)).save(folder / "graph.npz")
    prepared, _ = prepare(str(folder / "graph.npz"), None, drop, 1)
    write_prepared(folder, prepared)
    return folder


def run_of(kind: str, row: Row, drop: float = 0.6, **options: Any) -> dict[str, Any]:
    """Do a run of ``gcheap compare`` on an aged graph, in a process of its own.

    Args:
        kind: see ``graph_of``.
        row: what to do.
        drop: share of the objects that died; 0: a dense heap.
        options: further arguments of ``Heap``.

    Raises:
        RuntimeError: it did not verify, or cannot be had here; the message says why.
    """
    job = {"row": row.as_json(), "repeat": 0, "quiet_s": 0.1, "heap_options": options}
    answer = work(_prepared(kind, drop), job, _RUN_LIMIT_S)
    run: dict[str, Any] = answer.get("run", {})
    if not run.get("verified"):
        why = answer.get("unavailable") or answer.get("failed") or run.get("problem")
        raise RuntimeError(f"{row}: {why}")
    return run
