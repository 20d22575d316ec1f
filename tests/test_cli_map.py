"""``gcheap map``: cells, spaces, before and after."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
from click.testing import CliRunner, Result
from rich.console import Console

from gcheap import _result
from gcheap.cli import main
from gcheap.graph import ObjectGraph
from gcheap.heap import BLOCK_DTYPE, Heap
from gcheap.report.heapmap import BLOCK_BYTES, print_map, space_figures


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["map", *arguments], catch_exceptions=False)


def drawn(blocks: np.ndarray[tuple[int], np.dtype[np.void]], width: int = 100) -> list[str]:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        print_map(console, "Title", blocks)
    return capture.get().splitlines()


def test_before_and_after_without_colours() -> None:
    result = run("synthetic:mixed", "--live", "2MiB")
    assert result.exit_code == 0, result.output
    before, after = result.output.split("After (")
    assert "Before (" in before
    for space in ("old:", "leaf:"):
        assert space in before
        assert space in after
    assert "\x1b" not in result.output
    assert "old: 2 arenas, " in after
    assert "old: 1 arena, " in before


def test_a_terminal_without_columns_is_written_to() -> None:
    for columns in ("0", "00", ""):
        result = CliRunner(env={"COLUMNS": columns}).invoke(
            main, ["map", "synthetic:list", "--live", "64KiB"], catch_exceptions=False
        )
        assert "Before (" in result.stdout


def test_cells_are_drawn_in_ascii_where_there_is_nothing_else() -> None:
    result = CliRunner(charset="ascii").invoke(
        main, ["map", "synthetic:mixed", "--live", "1MiB"], catch_exceptions=False
    )
    assert "a quarter ., half :" in result.stdout
    assert "###" in result.stdout


def test_names_that_the_output_cannot_write_are_no_error(tmp_path: Path) -> None:
    path = str(tmp_path / "gr\u00fc\u00dfe.npz")
    ObjectGraph.generate("list", "64KiB").save(path)
    result = CliRunner(charset="ascii").invoke(main, ["map", path], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "gr??e.npz" in result.stdout.replace("\n", "")


def test_the_first_line_comes_before_the_work() -> None:
    result = run("synthetic:list", "--live", "1MiB")
    assert result.stderr == "gcheap map: preparing synthetic:list\n"


def test_a_mover_that_cannot_work_beside_programs_says_so() -> None:
    result = run("synthetic:list", "--live", "1MiB", "--mover", "memcpy", "--concurrent")
    assert result.exit_code == 0, result.output
    assert "Less was done than asked for: " in result.stdout
    assert "in the pause" in result.stdout.split("Less was done")[1]


def test_a_compaction_frees_blocks() -> None:
    document = json.loads(run("synthetic:mixed", "--live", "4MiB", "--json").stdout)
    jsonschema.validate(document, _result.load_schema("map"))
    before, after = (
        sum(
            space["populated"] - space["free"]
            for space in one["spaces"]
            if space["space"] != "young"
        )
        for one in document["runs"]
    )
    assert after < before
    assert len({len(column) for column in document["runs"][0]["blocks"].values()}) == 1


def test_cells_show_free_live_and_pinned_blocks() -> None:
    blocks = np.zeros(32, dtype=BLOCK_DTYPE)
    blocks["address"] = (1 << 40) + BLOCK_BYTES * np.arange(32)
    blocks["populated"] = 1
    blocks["live_bytes"][:4] = BLOCK_BYTES * np.array([0.2, 0.5, 0.75, 1.0])
    blocks["used_bytes"][:6] = BLOCK_BYTES
    blocks["pinned"][5] = 1
    blocks["free"][6:] = 1
    blocks["populated"][7:] = 0
    assert drawn(blocks)[-1].rstrip() == "  ░▒▓█x◆·"
    assert space_figures(blocks)[0]["pinned"] == 1


def test_arenas_fill_the_width() -> None:
    blocks = np.zeros(5 * 32, dtype=BLOCK_DTYPE)
    blocks["address"] = (1 << 40) + BLOCK_BYTES * np.arange(5 * 32)
    blocks["populated"] = blocks["free"] = 1
    assert [line.count("·") for line in drawn(blocks, 100)[-2:]] == [96, 64]
    assert [line.count("·") for line in drawn(blocks, 20)[-5:]] == [32] * 5


def test_a_heap_without_objects_has_no_space_to_draw() -> None:
    with Heap("16MiB") as heap:
        assert all(space["live_bytes"] == 0 for space in space_figures(heap.map()))


def test_sizes_that_no_number_holds_are_wrong_usage() -> None:
    for size in ("9" * 400 + ".0GiB", "9" * 5000):
        result = run("synthetic:list", "--live", size)
        assert result.exit_code == 2, result.output
        assert "--live is '999" in result.output
        assert len(result.output) < 400


def test_wrong_usage_names_the_value() -> None:
    assert "nothing.npz" in run("nothing.npz").output
    result = run("synthetic:tree", "--live", "1MiB", "--mover", "mvoe")
    assert result.exit_code == 2
    assert "mvoe" in result.output
