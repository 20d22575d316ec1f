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
    assert "64 MiB live, but the bars are for 1 GiB or 4 GiB or 8 GiB" in said
    assert "GCHEAP_BENCH_LIVE=1GiB" in said


def test_the_reference_size_is_said_too(bars: ModuleType) -> None:
    after, flip, _ = bars.judge(MEDIANS, 1024 * MIB)
    assert after.endswith("wanted at most 1.10")
    assert "at 4 GiB live (this is 1 GiB)" in flip
    assert bars.heading(1024 * MIB).startswith("measured with 1 GiB live; the bars are for")


def test_bars_name_benchmarks_that_exist(bars: ModuleType) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in BARS.parent.glob("bench_*.py"))
    for bar in bars.BARS:
        for name in filter(None, (*bar.names, bar.beside)):
            assert f"def {name.split('[')[0]}(" in text, name


def test_a_bar_may_be_a_floor_a_ratio_or_a_range(bars: ModuleType) -> None:
    one = bars.Bar("a share", "a", 0.5, share=True, least=True, live=0)
    assert one.judge({"a": 0.4}, 0) == "MISSED a share: 0.40, wanted at least 0.50"
    assert one.judge({"a": 0.6}, 0) == "met    a share: 0.60, wanted at least 0.50"
    two = bars.Bar("on ÷ off", "off", 0.5, "on", live=0, most=True)
    assert two.judge({"on": 1.0, "off": 4.0}, 0) == "met    on ÷ off: 0.25, wanted at most 0.50"
    assert two.judge({"on": 3.0, "off": 4.0}, 0) == "MISSED on ÷ off: 0.75, wanted at most 0.50"
    some = bars.Bar("sizes", "a", 1.5, among=("b", "c"), live=0)
    assert some.judge({"a": 2.0, "b": 1.0, "c": 2.9}, 0) == (
        "MISSED sizes: 2.90, wanted at most 1.50"
    )
    assert some.judge({"a": 2.0, "b": 2.0, "c": 2.9}, 0) == (
        "met    sizes: 1.45, wanted at most 1.50"
    )
    assert some.judge({"a": 2.0, "b": 2.0}, 0) is None
    beside = bars.Bar("longest", "a", 1e-3, beside="b", live=0)
    assert beside.judge({"a": 2e-3, "b": 1e-4}, 0) == (
        "MISSED longest: 2 ms, wanted at most 1 ms (without a heap 100 us)"
    )
