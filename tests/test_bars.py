"""What ``make bench`` says of its bars: a small run is not taken for the reference."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BARS = Path(__file__).parents[1] / "benchmarks" / "bars.py"
MIB = 1 << 20


@pytest.fixture(scope="module")
def bars() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gcheap_bars", BARS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


MEDIANS = {"test_flip_pause[flip]": 2e-4, "test_memory_after": 1.0, "test_inline_allocation": 2e-9}


def test_a_small_run_says_what_the_bars_are_for(bars: ModuleType) -> None:
    after, flip, inline = bars.judge(MEDIANS, 64 * MIB)
    assert after.endswith("wanted at most 1.10 at 1 GiB live (this is 64 MiB)")
    assert flip.startswith("MISSED")
    assert flip.endswith("wanted at most 100 us at 4 GiB live (this is 64 MiB)")
    assert inline.endswith("wanted at most 3 ns")  # whatever lives
    said = bars.heading(64 * MIB)
    assert "64 MiB live, but the bars are for 1 GiB or 4 GiB" in said
    assert "GCHEAP_BENCH_LIVE=1GiB" in said


def test_the_reference_size_is_said_too(bars: ModuleType) -> None:
    after, flip, _ = bars.judge(MEDIANS, 1024 * MIB)
    assert after.endswith("wanted at most 1.10")
    assert "at 4 GiB live (this is 1 GiB)" in flip
    assert bars.heading(1024 * MIB).startswith("measured with 1 GiB live; the bars are for")


def test_bars_name_benchmarks_that_exist(bars: ModuleType) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in BARS.parent.glob("bench_*.py"))
    for bar in bars.BARS:
        for name in filter(None, (bar.faster, bar.slower)):
            assert f"def {name.split('[')[0]}(" in text, name
