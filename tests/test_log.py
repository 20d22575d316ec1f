"""The log: lines of JSON follow their schema, lines of text the grammar of docs/traces.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import gcheap
from gcheap import Heap, _result

TIMES = ("pause", "longest", "reach", "mark", "plan", "move", "cycle", "cpu")
TEXT = re.compile(
    r"gcheap: (?P<pid>\d+)\.(?P<heap>\d+) #(?P<number>\d+) (?P<kind>minor|major) (?P<cause>\w+)"
    r" (?P<mover>\w+)(?: (?P<policy>\w+) (?P<how>beside|paused))? pauses=\d+"
    r"(?: (?:pause|longest|reach|mark|remark|plan|prepare|flip|move|cycle|cpu)=\d+\.\d{3}ms)+"
    r" heap=\d+\.\dM>\d+\.\dM live=\d+\.\dM moved=\d+ copied=\d+\.\dM released=\d+\.\dM"
    r' faults=\d+ refusals=\d+(?: utilisation=\d+%)?(?: degraded="[^"]+")?'
)


def logged(path: Path) -> list[dict[str, Any]]:
    schema = _result.load_schema("log")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        jsonschema.validate(record, schema)
    return records


def test_lines_of_json_follow_their_schema(tmp_path: Path, mover: str) -> None:
    path = tmp_path / "log.json"
    with Heap("64MiB", mover=mover, log=f"json:{path}") as heap:
        node = heap.struct("Node", next=gcheap.Ref, tag="i8")
        nodes = heap.new(node, 20_000)
        first = heap.collect(minor=True)
        second = heap.collect(concurrent=True, policy="all")
        report = heap.stall_report
        assert len(nodes) == 20_000
    records = {record["number"]: record for record in logged(path)}
    said = records[second.number]["stalls"]
    assert report is not None
    assert (said["threads"], said["touches"]["count"]) == (report.threads, report.touches.count)
    assert said["utilisation"] == pytest.approx([u.least for u in report.cycle.values()], abs=1e-5)
    assert (said["utilisation_moving"] is not None) == second.concurrent
    for event in (first, second):
        record = records[event.number]
        assert record["kind"] == ("minor" if event.minor else "major")
        assert record["cause"] == "asked"
        for name in ("mover", "policy", "concurrent", "degraded", "reason", "refusals"):
            assert record[name] == getattr(event, name), name
        for name in ("live_bytes", "pages_moved", "heap_bytes_after", "pauses"):
            assert record[name] == getattr(event, name), name
        if event.minor:
            assert record["stalls"] is None
        assert record["cycle_ns"] * 1e-9 == pytest.approx(event.cycle_s)


def test_the_schema_has_every_field() -> None:
    """One that a line has and the schema does not would go unchecked."""
    code = "import gcheap; heap = gcheap.Heap('16MiB'); heap.collect(); heap.close()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GCHEAP_LOG": "json:stderr"},
    )
    (line,) = done.stderr.splitlines()
    schema = _result.load_schema("log")
    assert set(json.loads(line)) == set(schema["properties"]) == set(schema["required"])


def test_lines_of_text_have_a_grammar(tmp_path: Path) -> None:
    path = tmp_path / "log.text"
    with Heap("64MiB", mover="memcpy", log=str(path)) as heap:
        heap.collect(minor=True)
        heap.collect(concurrent=True)
        heap.collect(policy="release")
    lines = path.read_text().splitlines()
    found = [TEXT.fullmatch(line) for line in lines]
    assert all(found), lines
    said = [match.group("kind", "cause", "policy", "how") for match in found if match]
    assert said == [
        ("minor", "asked", None, None),
        ("major", "asked", "needed", "paused"),
        ("major", "asked", "release", "paused"),
    ]
    assert 'degraded="this mover works in the pause only"' in lines[1]
    for name in TIMES:
        assert f" {name}=" in lines[0]


def test_a_nursery_that_is_full_is_a_cause(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    with Heap("64MiB", nursery="256KiB", log=f"json:{path},{tmp_path}/log.text") as heap:
        node = heap.struct("Node", next=gcheap.Ref, tag="i8")
        for _ in range(50):
            heap.new(node, 1000)
    causes = [record["cause"] for record in logged(path)]
    assert causes.count("nursery") >= 3
    assert len((tmp_path / "log.text").read_text().splitlines()) == len(causes)


def test_bad_values_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^log is 'stdrr', expected stderr, stdout or a path"):
        Heap("16MiB", log="stdrr")
    monkeypatch.setenv("GCHEAP_LOG", "json:on")
    with pytest.raises(ValueError, match=r"^GCHEAP_LOG is 'json:on'"):
        Heap("16MiB")
    Heap("16MiB", log="").close()
