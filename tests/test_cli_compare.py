"""``gcheap compare``: rows, measures, verification, output. Tiny heaps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gcheap import _result
from gcheap.cli import main
from gcheap.compare.inputs import prepare, read_prepared, write_prepared
from gcheap.compare.measure import (
    Windows,
    find_windows,
    minimum_utilisation,
    rate_within,
    stall_figures,
    utilisations,
)
from gcheap.compare.rows import CONTROL, MOVERS, Row, parse_movers, plan_rows
from gcheap.compare.session import Session, Settings, work
from gcheap.compare.summary import summarise
from gcheap.compare.worker import NotHereError, run_row
from gcheap.runner import GAP_DTYPE, Stamps
from gcheap.stats import EVENT_DTYPE

MS = 1_000_000


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["compare", *arguments], catch_exceptions=False)


# --- rows -------------------------------------------------------------------------------------


def test_movers_have_other_names() -> None:
    assert parse_movers("remap, memcpy-fresh,memcpy-sliding,move") == ("move", "memcpy", "slide")


@pytest.mark.parametrize("text", ["mvoe", "move,xx", "", ","])
def test_unknown_movers_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected some of"):
        parse_movers(text)


def test_rows_hold_baselines_only_in_the_pause() -> None:
    rows = plan_rows(MOVERS, ("pause", "concurrent"), ("thread", "signal"), "all", (False,))
    beside = [(row.mover, row.faults) for row in rows if row.mode == "concurrent"]
    assert beside == [
        ("move", "thread"),
        ("move", "signal"),
        ("copy", "thread"),
        ("copy", "signal"),
        ("simulated", "thread"),
    ]
    assert [row.mover for row in rows if row.policy == "all" and row.mode == "pause"] == [*MOVERS]
    assert [row.mode for row in rows if row.policy == "release"] == ["pause", CONTROL]


def test_rows_of_policy_release_come_once() -> None:
    for modes in (("pause",), ("pause", "concurrent")):
        rows = plan_rows(("move", "copy"), modes, ("thread", "signal"), "release", (False, True))
        assert len(rows) == len(set(rows)) == 4
        assert {row.mode for row in rows} == {"pause", CONTROL}


# --- measures ---------------------------------------------------------------------------------


def gaps_of(*pairs: tuple[int, int]) -> np.ndarray[Any, Any]:
    return np.array(list(pairs), dtype=GAP_DTYPE)


def test_utilisation_finds_the_worst_window() -> None:
    gaps = gaps_of((10 * MS, 4 * MS), (16 * MS, 2 * MS), (40 * MS, 1 * MS))
    assert minimum_utilisation(gaps, (0, 100 * MS), 0.010) == pytest.approx(0.4)
    assert minimum_utilisation(gaps, (0, 100 * MS), 0.001) == 0.0
    assert minimum_utilisation(gaps, (30 * MS, 100 * MS), 0.010) == pytest.approx(0.9)


def test_utilisations_of_windows_in_a_row() -> None:
    gaps = gaps_of((8 * MS, 4 * MS), (25 * MS, 1 * MS), (39 * MS, 10 * MS))
    found = utilisations(gaps, (0, 45 * MS), 0.010)
    assert found == pytest.approx([0.8, 0.8, 0.9, 0.9])  # the rest is no window
    assert utilisations(gaps_of(), (0, 20 * MS), 0.010) == pytest.approx([1.0, 1.0])
    assert len(utilisations(gaps, (0, MS), 0.010)) == 0


def test_utilisation_of_nothing() -> None:
    assert minimum_utilisation(gaps_of(), (0, MS), 0.01) == 1.0
    assert minimum_utilisation(gaps_of((0, 10)), (5, 5), 0.01) == 1.0


def test_utilisation_of_a_window_shorter_than_its_width() -> None:
    gaps = gaps_of((0, 3 * MS))
    assert minimum_utilisation(gaps, (MS, 5 * MS), 0.010) == pytest.approx(0.5)


def test_stalls_while_moving_leave_pauses_out() -> None:
    gaps = gaps_of((5 * MS, 30_000), (10 * MS, MS), (20 * MS, 50_000), (30 * MS, 10_000))
    pauses = np.array([[10 * MS, 11 * MS]], dtype=np.int64)
    figures = stall_figures(gaps, Windows((4 * MS, 40 * MS), (9 * MS, 40 * MS), pauses))
    assert figures["count"] == 3
    assert figures["longest_s"] == pytest.approx(1e-3)
    assert figures["moving"]["count"] == 1
    assert figures["moving"]["longest_s"] == pytest.approx(50e-6)


def test_stalls_of_a_cycle_in_the_pause() -> None:
    none = np.zeros((0, 2), dtype=np.int64)
    figures = stall_figures(gaps_of(), Windows((0, MS), None, none))
    assert figures["count"] == 0
    assert figures["moving"] is None


def test_windows_without_a_cycle() -> None:
    events = np.zeros(0, dtype=EVENT_DTYPE)
    assert find_windows(events, None, (3, 9)).cycle == (3, 9)


def test_rate_counts_within_the_window() -> None:
    by_ms = np.array([100, 100, 0, 0, 100], dtype=np.uint32)
    seen = Stamps(
        ops=300,
        start_ns=0,
        end_ns=5 * MS,
        gaps=gaps_of(),
        gap_count=0,
        gap_sum_s=0.0,
        gap_max_s=0.0,
        ops_by_ms=by_ms,
    )
    assert rate_within(seen, (0, 2 * MS)) == pytest.approx(100_000)
    assert rate_within(seen, (2 * MS, 4 * MS)) == 0.0
    assert rate_within(seen, (9 * MS, 8 * MS)) == 0.0


COME_AND_GO = """
import json, mmap
from gcheap.compare.memory import PeakMeter, physical_bytes
size, filling = 32 << 20, bytes([1]) * (1 << 20)
before = physical_bytes()
with PeakMeter() as meter:
    block = mmap.mmap(-1, size)
    for at in range(0, size, len(filling)):
        block[at : at + len(filling)] = filling
    held = physical_bytes()
    block.close()
print(json.dumps([held - before, meter.peak - before, physical_bytes() - before]))
"""


def test_physical_memory_sees_pages_come_and_go() -> None:
    """In a process of its own: in this one, others' memory may go meanwhile."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", COME_AND_GO], check=True, capture_output=True, text=True
    )
    held, peak, after = json.loads(done.stdout)
    size = 32 << 20
    assert held == pytest.approx(size, rel=0.1)
    assert peak >= 0.95 * size
    assert after < 0.2 * size


# --- runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mover", MOVERS)
@pytest.mark.parametrize("mode", ["pause", "concurrent"])
def test_a_run_of_every_mover_verifies(tmp_path: Path, mover: str, mode: str) -> None:
    prepared, described = prepare("synthetic:mixed", 2 << 20, 0.6, 3)
    write_prepared(tmp_path, prepared)
    row = Row(mover, mode, "thread", "all", False)
    try:
        figures = run_row(read_prepared(tmp_path), row, 0, 0.01)
    except NotHereError as error:
        pytest.skip(str(error))
    assert figures["problem"] == ""
    assert figures["verified"]
    assert figures["live_bytes"] == pytest.approx(2 << 20, rel=0.2)
    assert figures["mutator_rate_quiet"] > 0
    assert described["live_objects"] > 0
    jsonschema.validate(figures, _run_schema())


def _run_schema() -> dict[str, Any]:
    schema = _result.load_schema("compare")
    return {"$defs": schema["$defs"], "$ref": "#/$defs/run"}


def test_a_wrong_heap_does_not_verify(tmp_path: Path) -> None:
    prepared, _ = prepare("synthetic:tree", 1 << 20, 0.5, 3)
    shadow = prepared.shadow
    kept = np.repeat(~prepared.ageing.dropped, prepared.ageing.graph.degrees)
    shadow.indices[np.flatnonzero(kept & (shadow.indices[: len(kept)] >= 0))[0]] = -1
    figures = run_row(prepared, Row("memcpy", "pause", "thread", "all", False), 0, 0.01)
    assert not figures["verified"]
    assert figures["problem"]


def test_a_failing_worker_is_a_row_that_says_why(tmp_path: Path) -> None:
    answer = work(tmp_path, {"row": {}, "repeat": 0, "quiet_s": 0}, 60)
    assert "status 1" in answer["failed"]
    assert "Error" in answer["failed"]


def test_a_heap_that_cannot_be_made_is_said_without_a_traceback(tmp_path: Path) -> None:
    write_prepared(tmp_path, prepare("synthetic:list", 1 << 20, 0.5, 1)[0])
    row = Row("memcpy", "pause", "thread", "needed", False)
    options = {"inject": "mmap:ENOMEM"}
    job = {"row": row.as_json(), "repeat": 0, "quiet_s": 0, "heap_options": options}
    failed = work(tmp_path, job, 60)["failed"]
    assert failed.startswith("cannot reserve ")
    assert "File" not in failed


def test_a_session_stops_when_its_time_is_up() -> None:
    rows = (Row("memcpy", "pause", "thread", "needed", False),)
    session = Session(Settings("synthetic:list", 1 << 20, 0.5, 1, rows, 5, 0.001, 0.01))
    session.run(lambda row, repeat: None, lambda: None)
    assert (session.repeats, len(session.runs)) == (1, 1)
    assert summarise(session.runs, rows)[0].verified == 1


# --- the command ------------------------------------------------------------------------------


def test_command_writes_json_table_and_picture(tmp_path: Path) -> None:
    json_path, plot_path = tmp_path / "a.json", tmp_path / "a.png"
    result = run(
        "synthetic:mixed",
        *("--live", "2MiB", "--repeat", "1", "--faults", "thread", "--seed", "5"),
        *("--json", str(json_path), "--plot", str(plot_path)),
    )
    assert result.exit_code == 0, result.output
    for said in ("Time", "What the program saw", "Memory and work", "release", "no collection"):
        assert said in result.stdout
    document = json.loads(json_path.read_text())
    jsonschema.validate(document, _result.load_schema("compare"))
    summary = document["summary"]
    assert summary["verified"]
    assert {row["mover"] for row in summary["rows"] + summary["unavailable"]} == set(MOVERS)
    assert plot_path.read_bytes().startswith(b"\x89PNG")
    line = document["runs"][0]["timeline"]
    assert 0 < len(line["rates"]) <= 200
    assert line["begin_s"] < 0 < line["cycle"][1]


def test_command_reads_npz_and_prints_json(tmp_path: Path) -> None:
    from gcheap.sources.generators import generate

    path = tmp_path / "tree.npz"
    generate("tree", 1 << 20).save(path)
    result = run(str(path), "--movers", "memcpy", "--repeat", "1", "--json", "-")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["input"]["bytes"] == 1 << 20
    assert [row["mover"] for row in document["summary"]["rows"]] == ["memcpy", "memcpy"]


def test_an_output_that_fills_its_disk_is_named() -> None:
    options = ["--live", "1MiB", "--movers", "memcpy", "--repeat", "1"]
    result = run("synthetic:list", *options, "--json", "/dev/full")
    assert result.exit_code == 1
    assert "Error: /dev/full: No space left on device" in result.output


def test_command_fails_if_anything_does_not_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> dict[str, Any]:
        return {"failed": "the run ended with status -6: it said nothing"}

    monkeypatch.setattr("gcheap.compare.session.work", broken)
    result = run("synthetic:list", "--live", "1MiB", "--movers", "memcpy", "--repeat", "1")
    assert result.exit_code == 1
    assert "status -6" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.npz"], "nothing.npz"),
        (["synthetic:what"], "synthetic:rmat"),
        (["--movers", "mvoe"], "mvoe"),
        (["--live", "12XB"], "12XB"),
        (["--live", "0"], "at least a byte"),
        (["--drop", "1.5"], "1.5"),
        (["--drop", "nan"], "Invalid value for '--drop': nan is not in the range"),
        (["--repeat", "0"], "0"),
        (["--plot", "out.doc"], "expected .png, .svg, .pdf"),
        (["--plot", "no-such-folder/out.png"], "no folder 'no-such-folder'"),
        (["--json", "no-such-folder/out.json"], "no folder 'no-such-folder'"),
        (["--json", "/"], "cannot be written"),
        (["--movers", "slide", "--mode", "concurrent"], "works in the pause only"),
        (["synthetic:tree", "--live", "9000TiB"], "ask for less --live"),
    ],
)
def test_wrong_usage_names_the_value(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_a_corrupt_npz_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK\x03\x04 and no more")
    result = run(str(path))
    assert result.exit_code == 2
    assert "broken.npz" in result.output


def test_plot_without_matplotlib_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcheap.cli.compare._has_matplotlib", lambda: False)
    result = run("--plot", "out.png")
    assert result.exit_code == 2
    assert "gcheap[plot]" in result.output
