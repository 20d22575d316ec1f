"""What would the bars' work cost if nothing else had to be done? C programs that do only that."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kit import CLOCK, LIVE, measure

LIMIT_S = 300 + 600 * LIVE / (1 << 30)
SOURCES = Path(__file__).parent / "floor"
NAMES = {
    "bump": ["bump"],
    "bulk": ["new", *(f"{w}-{o}" for w in ("gather", "scatter") for o in ("random", "in-order"))],
    "mark": ["mark-4k-random", "mark-4k-in-order", "mark-huge-in-order"],
    "move": [
        f"move-{shape}-{pages}-{form}"
        for shape in ("nodes", "structs", "leaf")
        for pages in ("4k", "huge")
        for form in ("move", "fresh", "sliding")
    ],
    "aged": [
        f"aged-{pages}-{form}"
        for pages in ("4k", "huge")
        for form in ("move", "fresh", "sliding", "beside-move", "beside-copy")
    ],
    "dense": [f"dense-{pages}-{form}" for pages in ("4k", "huge") for form in ("move", "copy")],
    "walk": [
        f"walk-{pages}-{mode}-{form}{part}"
        for pages in ("4k", "huge")
        for mode in ("signal", "thread")
        for form in ("", "bare-")
        for part in ("mmu10", "rate")
    ],
    "stall": [f"stall-{mode}-{part}" for mode in ("signal", "thread") for part in ("p50", "p99")],
}


@functools.cache
def floors(program: str) -> dict[str, tuple[float, float]]:
    """Compile and run a floor program; return its figures: seconds or shares, and half the distance
    between the quartiles of its rounds."""
    with tempfile.TemporaryDirectory(prefix="gcheap-floor-") as folder:
        binary = os.path.join(folder, program)
        compiler = os.environ.get("CC", "gcc")
        source = str(SOURCES / f"{program}.c")
        flags = ["-std=gnu11", "-O2", "-march=native", "-Wall", "-pthread"]
        subprocess.run([compiler, *flags, "-o", binary, source], check=True)
        done = subprocess.run(
            [binary, str(LIVE >> 20)], check=True, capture_output=True, text=True, timeout=LIMIT_S
        )
    lines = (line.split() for line in done.stdout.splitlines())
    return {name: (float(seconds), float(spread)) for name, seconds, spread in lines}


@pytest.mark.benchmark(group="floors", timer=CLOCK)
@pytest.mark.parametrize("case", [f"{p}:{name}" for p in NAMES for name in NAMES[p]])
def test_floor(benchmark: Any, case: str) -> None:
    program, name = case.split(":")
    if name not in floors(program):
        pytest.skip(f"{name}: this kernel cannot")
    seconds, spread = floors(program)[name]
    benchmark.extra_info["spread_s"] = spread
    measure(benchmark, lambda: seconds, 1)
