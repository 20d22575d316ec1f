"""``gcheap top``: what it shows of a heap, once, in lines, as JSON, in a terminal."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import gcheap
from gcheap import Heap, _result, ring
from gcheap.cli import main
from gcheap.cli import top as top_command
from gcheap.live import Monitor, Pause, Snapshot
from gcheap.report.live import HEADER, draw
from gcheap.ring import ARENA_DTYPE, RingFile


def run(*arguments: str, charset: str = "utf-8") -> Result:
    return CliRunner(charset=charset).invoke(main, ["top", *arguments], catch_exceptions=False)


@pytest.fixture
def heap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heap]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("GCHEAP_RING", raising=False)
    with Heap("64MiB", ring="auto") as opened:
        yield opened


@pytest.fixture
def busy(heap: Heap) -> Iterator[Heap]:
    """It allocates and collects until the test has ended."""
    stop = threading.Event()

    def work() -> None:
        node = heap.struct("Node", next=gcheap.Ref, tag="i8")
        kept = heap.new(node, 20_000)
        while not stop.is_set():
            heap.new(node, 5000)
            heap.collect(minor=True)
            heap.collect(concurrent=True)
        assert len(kept) == 20_000

    worker = threading.Thread(target=work)
    worker.start()
    yield heap
    stop.set()
    worker.join()


def pid() -> str:
    return str(os.getpid())


# --- once ----------------------------------------------------------------------------------------


def test_once_shows_memory_pauses_and_rates(busy: Heap) -> None:
    result = run(pid(), "--once")
    assert result.exit_code == 0, result.output
    for said in ("phase ", "heap ", " of 64.0 MiB", "a second: ", "minors", "last pauses "):
        assert said in result.output
    for row in ("pauses", "minor", "to safepoint", "old: ", "young: "):
        assert row in result.output
    assert "\x1b" not in result.output


def test_once_as_json_follows_its_schema(busy: Heap) -> None:
    result = run(pid(), "--once", "--json")
    (line,) = result.stdout.splitlines()
    document = json.loads(line)
    jsonschema.validate(document, _result.load_schema("top"))
    assert set(document) == set(_result.load_schema("top")["properties"])
    assert document["pid"] == os.getpid()
    assert document["rates"]["minors"] > 0
    assert document["rates"]["majors"] > 0
    assert document["stats"]["pause"]["count"] > 0
    kinds = {pause["kind"] for pause in document["pauses"]}
    assert "minor" in kinds
    assert len(set(map(len, document["arenas"].values()))) == 1


def test_a_path_is_as_good_as_a_number(heap: Heap) -> None:
    (file,) = ring.find()
    assert run(str(file), "--once").exit_code == 0


def test_ascii_is_enough(busy: Heap) -> None:
    output = run(pid(), "--once", charset="ascii").output
    assert "?" not in output
    assert output.isascii()


def test_heaps_are_listed_and_pruned(heap: Heap, tmp_path: Path) -> None:
    (file,) = ring.find()
    assert str(file) in run().stdout
    (listed,) = json.loads(run("--json").stdout)
    assert (listed["pid"], listed["state"], listed["path"]) == (os.getpid(), "open", str(file))
    code = "import gcheap, os; h = gcheap.Heap('16MiB', ring='auto'); os._exit(0)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    assert [heap["state"] for heap in json.loads(run("--json").stdout)].count("dead") == 1
    assert "removed " in run("--prune").stdout
    assert len(json.loads(run("--json").stdout)) == 1
    heap.close()
    assert "No heap has a ring file in " in run().stderr


def test_what_cannot_be_read_is_told(heap: Heap, tmp_path: Path) -> None:
    other = run("1", "--once")
    assert other.exit_code == 2
    assert "process 1 has no ring file in " in other.stderr
    bad = tmp_path / "bad.ring"
    bad.write_bytes(b"GCHRING\n" + bytes(1000))
    result = run(str(bad), "--once")
    assert result.exit_code == 2
    assert "bad.ring cannot be read as a ring file: it is of another version" in result.stderr
    assert run(str(tmp_path / "none")).exit_code == 2


# --- lines ---------------------------------------------------------------------------------------


def close_later(heap: Heap) -> threading.Timer:
    timer = threading.Timer(0.5, heap.close)
    timer.start()
    return timer


def test_lines_until_the_heap_is_closed(heap: Heap) -> None:
    timer = close_later(heap)
    result = run(pid(), "--interval", "0.1")
    timer.join()
    lines = result.stdout.splitlines()
    assert lines[0] == HEADER
    assert len(lines) >= 4
    assert result.stderr == "gcheap top: the heap was closed\n"
    assert result.exit_code == 0


def test_json_lines_until_the_heap_is_closed(heap: Heap) -> None:
    timer = close_later(heap)
    result = run(pid(), "--interval", "0.1", "--json")
    timer.join()
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    for document in documents:
        jsonschema.validate(document, _result.load_schema("top"))
    assert [document["state"] for document in documents[-2:]] == ["open", "closed"]


def test_an_interrupt_is_the_way_out(heap: Heap) -> None:
    command = [sys.executable, "-P", "-m", "gcheap", "top", pid(), "--interval", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, b""), output


# --- in a terminal -------------------------------------------------------------------------------


def test_without_textual_the_view_is_redrawn(heap: Heap, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    find_spec = importlib.util.find_spec

    def without_textual(name: str, package: str | None = None) -> object:
        return None if name == "textual" else find_spec(name, package)

    monkeypatch.setattr(top_command, "make_console", lambda _width: console)
    monkeypatch.setattr(importlib.util, "find_spec", without_textual)
    timer = close_later(heap)
    result = run(pid(), "--interval", "0.1")
    timer.join()
    assert result.exit_code == 0, result.output
    assert "the heap was closed" in screen.getvalue()
    assert screen.getvalue().count("phase") >= 3


def test_the_interactive_view(heap: Heap) -> None:
    pytest.importorskip("textual")
    from gcheap.cli._top_app import TopApp

    async def changed(app: TopApp, pilot: Any, before: Snapshot | None) -> Snapshot:
        for _ in range(200):
            if app.snapshot is not before and app.snapshot is not None:
                break
            await pilot.pause(0.05)
        assert app.snapshot is not None
        return app.snapshot

    async def painted(app: TopApp, pilot: Any, said: str) -> bool:
        for _ in range(200):
            if said.replace(" ", "&#160;") in app.export_screenshot():
                return True
            await pilot.pause(0.05)
        return False

    async def drive() -> None:
        with ring.open_target(pid()) as opened:
            app = TopApp(Monitor(opened), 0.05)
            async with app.run_test(size=(100, 40)) as pilot:
                first = await changed(app, pilot, None)
                assert first.state == "open"
                second = await changed(app, pilot, first)
                assert await painted(app, pilot, "last pauses")
                await pilot.press("p")
                held = app.snapshot
                await pilot.pause(0.3)
                assert app.snapshot is held
                await pilot.press("p")
                assert await changed(app, pilot, held) is not second
                await pilot.press("m")
                assert not app.with_map
                heap.close()
                assert await painted(app, pilot, "the heap was closed")
                await pilot.press("q")
            assert app.return_code == 0

    heap.collect()
    asyncio.run(drive())


# --- the monitor ---------------------------------------------------------------------------------


def test_rates_are_differences_of_samples(heap: Heap) -> None:
    with RingFile(ring.find()[0]) as opened:
        monitor = Monitor(opened)
        deadline = time.monotonic() + 20
        node = heap.struct("Node", next=gcheap.Ref, tag="i8")
        begin, done = time.monotonic(), 0
        snapshot = monitor.look()
        while time.monotonic() < deadline:
            heap.new(node, 1000)
            heap.collect(minor=True)
            done += 1
            time.sleep(0.01)
            snapshot = monitor.look()
            if snapshot.rates is not None and time.monotonic() - begin > 1:
                break
        assert snapshot.rates is not None
        real = done / (time.monotonic() - begin)
        assert snapshot.rates.minors == pytest.approx(real, rel=0.5)
        assert len(snapshot.pauses) == min(512, done)
        heap.close()
        ended = monitor.look()
        assert (ended.state, ended.rates) == ("closed", None)


def test_a_heap_without_a_sample_is_drawn() -> None:
    snapshot = Snapshot(
        path="x",
        pid=1,
        process="none",
        state="dead",
        age_s=0.0,
        phase="idle",
        stats=None,
        rates=None,
        pauses=(Pause("minor", 0, 1e-9), Pause("flip", 0, 10.0)),
        arenas=np.empty(0, dtype=ARENA_DTYPE),
        unlisted=0,
        events_lost=0,
    )
    console = Console(width=60)
    with console.capture() as capture:
        console.print(draw(snapshot, console, 60))
    assert "No sample yet." in capture.get()
    assert "the process has ended" in capture.get().replace("\n", " ")
    jsonschema.validate(snapshot.as_json(), _result.load_schema("top"))
