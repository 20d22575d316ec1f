"""The memory of a move phase: what samples tell, and that a mover which takes more shows."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gcheap import Heap, _memory
from gcheap.compare import memory
from gcheap.compare.inputs import prepare, write_prepared
from gcheap.compare.measure import Windows
from gcheap.compare.memory import NEAR_NS, SAMPLE_DTYPE, MoveWatch, peak_share
from gcheap.compare.rows import CONTROL, Row
from gcheap.compare.session import work
from gcheap.stats import GCEvent

MIB = 1 << 20
MS = 1_000_000
LIVE = 24 * MIB
STAGING = 1 * MIB
AT_MOST = 1.02
TRIES = 5
"""Runs until one is seen from the beginning of its move phase."""


# --- from samples -----------------------------------------------------------------------------


def watch_of(*samples: tuple[int, int, int, int, int, int, int], reset_ns: int = 0) -> MoveWatch:
    with Heap(8 * MIB) as heap:
        watch = MoveWatch(heap)
    watch.samples = np.array(list(samples), dtype=SAMPLE_DTYPE)
    watch._reset_ns, watch._peak_moving = reset_ns, 95
    return watch


def cycle_of(heap_kind: str) -> GCEvent:
    with Heap(8 * MIB, mover="memcpy") as heap:
        cycle = heap.collect()
    values = {name: getattr(cycle, name) for name in GCEvent.__dataclass_fields__}
    return GCEvent(**{**values, "physical_at_flip": 70 if heap_kind == "flip" else 0})


SAMPLES = (
    # time, resident, shared, other, mem_free, cgroup, allocated
    (10 * MS, 99, 5, 1, 50, 200, 7),  # before dead blocks were given back
    (20 * MS, 60, 5, 2, 60, 170, 7),
    (24 * MS, 80, 5, 3, 40, 190, 9),
    (30 * MS, 66, 5, 1, 55, 180, 12),  # the first one after the phase
    (40 * MS, 90, 5, 1, 30, 240, 30),
)
MOVING = (20 * MS + 1000, 29 * MS)
NONE = np.zeros((0, 2), dtype=np.int64)


def figures_of(watch: MoveWatch, kind: str = "pause") -> dict[str, Any]:
    return watch.figures(cycle_of(kind), Windows((0, 50 * MS), None, NONE, MOVING), 10)


def test_figures_are_those_of_the_move_phase_alone() -> None:
    assert figures_of(watch_of(*SAMPLES)) == {
        "physical_at_flip": 60 - 5 + 2 - 10,
        "physical_peak_moving": 80 - 5 + 3 - 10,
        "allocated_moving": 12 - 7,
        "mem_free_at_flip": 60,
        "mem_free_least_moving": 40,
        "cgroup_at_flip": 170,
        "cgroup_peak_moving": 190,
    }


def test_the_kernels_mark_counts_if_it_was_reset_in_the_phase() -> None:
    assert figures_of(watch_of(*SAMPLES, reset_ns=21 * MS))["physical_peak_moving"] == 95 - 10
    assert figures_of(watch_of(*SAMPLES, reset_ns=35 * MS))["physical_peak_moving"] == 68


def test_beside_the_program_the_heaps_own_figure_is_taken() -> None:
    assert figures_of(watch_of(*SAMPLES), "flip")["physical_at_flip"] == 70 - 5 + 2 - 10


def test_what_was_not_seen_is_said_to_be_unknown() -> None:
    late = (MOVING[0] + NEAR_NS + 1, 60, 5, 2, 60, 170, 7)
    for figures in (
        figures_of(watch_of()),
        figures_of(watch_of(late)),
        watch_of(*SAMPLES).figures(None, Windows((0, 50 * MS), None, NONE), 10),
    ):
        assert set(figures.values()) == {None}
        assert peak_share({**figures, "huge": False}) is None


def run_like(**other: Any) -> dict[str, Any]:
    run = {
        "physical_at_flip": 1000,
        "physical_peak_moving": 1100,
        "staging_bytes": 60,
        "allocated_moving": 20,
        "huge": False,
        "mem_free_at_flip": 900,
        "mem_free_least_moving": 700,
        "cgroup_at_flip": 2000,
        "cgroup_peak_moving": 2150,
    }
    return {**run, **other}


def test_share_leaves_staging_and_allocation_out() -> None:
    assert peak_share(run_like()) == pytest.approx(1.02)


def test_share_of_huge_pages_asks_the_cgroup_or_what_is_free() -> None:
    assert peak_share(run_like(huge=True)) == pytest.approx(1.07)
    without = {"cgroup_at_flip": None, "cgroup_peak_moving": None}
    assert peak_share(run_like(huge=True, **without)) == pytest.approx(1.12)


def test_the_cgroup_is_found_at_its_folder_or_at_the_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.setattr(_memory, "_cgroup_folders", lambda: [tmp_path, inner, tmp_path / "a"])

    def said() -> str:
        descriptor = memory._open_cgroup()
        if descriptor < 0:
            return "none"
        with open(descriptor, encoding="ascii") as file:
            return file.read()

    assert said() == "none"
    (tmp_path / "memory.usage_in_bytes").write_text("7")
    assert said() == "7"
    (inner / "memory.current").write_text("5")
    assert said() == "5"
    monkeypatch.setattr(_memory, "_cgroup_folders", list)
    assert said() == "none"


# --- runs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mixed")
    write_prepared(place, prepare("synthetic:mixed", LIVE, 0.6, 3)[0])
    return place


def run_of(folder: Path, row: Row, **options: Any) -> dict[str, Any]:
    """Do a run in a process of its own: no allocator has memory left from something else."""
    options = {"staging": STAGING, **options}
    job = {"row": row.as_json(), "repeat": 0, "quiet_s": 0.02, "heap_options": options}
    answer = work(folder, job, 60)
    if "unavailable" in answer:
        pytest.skip(answer["unavailable"])
    assert "run" in answer, answer
    run: dict[str, Any] = answer["run"]
    assert run["verified"], run["problem"]
    return run


def seen_run(folder: Path, row: Row, **options: Any) -> dict[str, Any]:
    for _ in range(TRIES):
        run = run_of(folder, row, **options)
        if run["physical_at_flip"] is not None:
            return run
    pytest.fail(f"the move phase began unseen in {TRIES} runs")


@pytest.mark.parametrize(
    ("mover", "mode"),
    [
        ("memcpy", "pause"),
        *product(("move", "copy", "simulated"), ("pause", "concurrent")),
    ],
)
def test_moving_takes_no_more_than_staging(folder: Path, mover: str, mode: str) -> None:
    run = seen_run(folder, Row(mover, mode, "thread", "all", False))
    # Dead blocks were given back: this is what a peak over `physical_before` would not see.
    assert run["physical_at_flip"] < run["physical_before"] - LIVE // 4
    assert run["live_bytes"] < run["physical_at_flip"] <= run["physical_peak_moving"]
    assert run["physical_peak_moving"] <= run["physical_peak"]
    share = peak_share(run)
    assert share is not None
    assert share <= AT_MOST
    assert run["mem_free_before"] > 0
    assert run["mem_free_at_flip"] >= run["mem_free_least_moving"] > 0


def test_sources_that_are_not_given_back_show(folder: Path) -> None:
    """Where nothing can be dropped the destinations come on top."""
    row = Row("copy", "pause", "thread", "all", False)
    share = peak_share(seen_run(folder, row, inject="drop:EBUSY"))
    assert share is not None
    assert share > AT_MOST + 0.1


def test_without_a_collection_there_is_no_move_phase(folder: Path) -> None:
    run = run_of(folder, Row("memcpy", CONTROL, "thread", "release", False))
    assert run["physical_at_flip"] is None
    assert run["physical_peak"] >= LIVE
