"""``gcheap trace``: ring files and logs on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gcheap import Heap, ring
from gcheap.cli import main

MINOR = "Explicit young concurrent mark compact GC"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["trace", *arguments], catch_exceptions=False)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("GCHEAP_RING", raising=False)
    return tmp_path


def count(document: dict[str, Any], name: str) -> int:
    return [event["name"] for event in document["traceEvents"]].count(name)


def test_a_live_heap(runtime: Path) -> None:
    with Heap("16MiB", ring="auto") as heap:
        for _ in range(3):
            heap.collect(minor=True)
        result = run(str(os.getpid()))
        assert result.exit_code == 0, result.output
        assert count(json.loads(result.stdout), MINOR) == 3
        assert result.stderr.startswith("gcheap trace: ")
        assert result.stderr.endswith(" slices to standard output\n")


def test_recording_goes_on(runtime: Path) -> None:
    with Heap("16MiB", ring="auto") as heap:
        done = threading.Event()

        def work() -> None:
            time.sleep(0.2)
            for _ in range(3):
                heap.collect(minor=True)
            done.set()

        worker = threading.Thread(target=work)
        worker.start()
        out = runtime / "out.json"
        result = run(str(os.getpid()), "--seconds", "1", "-o", str(out))
        worker.join()
        assert result.exit_code == 0, result.output
        assert count(json.loads(out.read_text()), MINOR) == 3


def test_what_a_process_left(runtime: Path) -> None:
    code = (
        "import gcheap, os; h = gcheap.Heap('16MiB', ring='auto', event_capacity=64)\n"
        "for _ in range(100): h.collect(minor=True)\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    (file,) = ring.find()
    out = runtime / "out.json"
    result = run(str(file), "-o", str(out))
    assert result.exit_code == 0, result.output
    assert " events had been overwritten" in result.stderr
    document = json.loads(out.read_text())
    assert count(document, MINOR) >= 10
    assert document["otherData"]["events_lost"] > 300


def test_perfettos_format(runtime: Path) -> None:
    messages = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    out = runtime / "out.pftrace"
    with Heap("16MiB", ring="auto") as heap:
        heap.collect()
        assert run(str(os.getpid()), "-o", str(out)).exit_code == 0
    parsed = messages.Trace()
    parsed.ParseFromString(out.read_bytes())
    names = {p.track_event.name for p in parsed.packet if p.HasField("track_event")}
    assert "Explicit concurrent mark compact GC" in names


def test_a_log(runtime: Path) -> None:
    log = runtime / "log.json"
    with Heap("16MiB", log=f"json:{log}") as heap:
        heap.collect(minor=True)
        heap.collect()
    result = run(str(log))
    assert result.exit_code == 0, result.output
    assert count(json.loads(result.stdout), MINOR) == 1
    log.write_text('{"schema": 9}\n')
    refused = run(str(log))
    assert refused.exit_code == 2
    assert f"{log}: line 1 is of no log with schema 1" in refused.stderr


def test_refusals(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(str(runtime / "none")).exit_code == 2
    text = runtime / "text"
    text.write_text("no trace")
    result = run(str(text))
    assert result.exit_code == 2
    assert "cannot be read as a ring file: it is too short" in result.stderr
    result = run(str(text), "-o", str(runtime / "out.xml"))
    assert result.exit_code == 2
    assert "expected one that ends in .json, .json.gz, .pftrace" in result.stderr
    for name in [name for name in sys.modules if name.startswith("perfetto")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "perfetto", None)
    result = run(str(text), "-o", str(runtime / "out.pftrace"))
    assert result.exit_code == 2
    assert "pip install 'gcheap[trace]'" in result.stderr
