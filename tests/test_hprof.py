"""Java heap dumps: what a small writer (``hprof_dump``) wrote, and damaged ones."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hprof_dump import (
    BOOLEAN,
    BYTE,
    CHAR,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    REF,
    ROOT_TAILS,
    SEGMENT,
    SHORT,
    WIDTHS,
    Writer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gcheap.cli import main
from gcheap.graph import GraphFormatError, ObjectGraph
from gcheap.sources import _hprof, _hprof_file
from gcheap.sources.hprof import HprofCounts, read_hprof


def lists(graph: ObjectGraph) -> tuple[list[tuple[str, int, list[int]]], list[int]]:
    objects = [
        (
            graph.type_names[graph.types[i]],
            int(graph.sizes[i]),
            graph.indices[graph.indptr[i] : graph.indptr[i + 1]].tolist(),
        )
        for i in range(graph.n_nodes)
    ]
    return objects, graph.roots.tolist()


def everything(id_bytes: int) -> Writer:
    """Every kind of sub-record, in an order that no JVM chooses."""
    w = Writer(id_bytes)
    w.add_root(0x05, 0x100)
    w.add_class(0x100, "java.lang.Object")
    w.add_class(0x110, "a.Base", 0x100, [INT, REF, BYTE], [(REF, 0x300), (LONG, 0)])
    every = [REF, BOOLEAN, CHAR, FLOAT, DOUBLE, BYTE, SHORT, INT, LONG]
    w.add_class(
        0x120,
        "a.Sub$Inner",
        0x110,
        [*every, REF],
        [(kind, 0x301) for kind in every],
        [(REF, 0x302), (INT, 0)],
        loader=0x400,
    )
    w.add_class(0x130, "a.Empty", 0x120)
    w.add_class(0x140, "a.Base[]", 0x100)
    w.add_class(0x150, "int[][]", 0x100)
    w.add_class(0x140, "a.Base[]", 0x100)
    w.add_instance(0x400, 0x110, [0x300])
    w.add_instance(0x300, 0x120, [0x301, 0, 0x400])
    w.add_root(0x01, 0x300)
    w.add_instance(0x301, 0x130, [0x301, 0x120, 0x999])
    w.add_instance(0x302, 0x100, [])
    for at, kind in enumerate(WIDTHS):
        w.add_bytes(0x500 + at, kind, 3 * at)
    for tag in ROOT_TAILS:
        w.add_root(tag, 0x500)
    w.add_array(0x600, 0x140, [0x400, 0, 0x300, 0x998, 0x600])
    w.add_array(0x601, 0x150, [])
    w.add_array(0x602, 0x997, [0x601])
    w.add_bytes(0x500, LONG, 2)
    w.add_root(0x08, 0x997)
    w.add_root(0x06, 0)
    return w


def read(path: Path, content: bytes) -> ObjectGraph:
    path.write_bytes(content)
    return ObjectGraph.from_hprof(path)


@pytest.fixture(params=[4, 8])
def every_record(request: pytest.FixtureRequest) -> Writer:
    return everything(request.param)


@pytest.mark.parametrize("segments", [None, 1, 3, 40])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_every_sub_record(
    tmp_path: Path, every_record: Writer, segments: int | None, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "all.hprof"
    path.write_bytes(pack(every_record.dump(segments)))
    graph, counts = read_hprof(path)
    objects, roots, expected_counts = every_record.expected()
    assert lists(graph) == (objects, roots)
    assert counts == expected_counts
    assert (counts.dangling, counts.dangling_roots) == (2, 2)
    assert (counts.repeated, counts.unknown_class) == (2, 1)
    assert "a.Sub$Inner" in graph.type_names
    assert "int[][]" in graph.type_names


def test_a_known_graph_in_numbers(tmp_path: Path) -> None:
    w = Writer(4)
    w.add_class(0x10, "Pair", 0, [REF, INT, REF])
    w.add_instance(0x20, 0x10, [0x21, 0])
    w.add_instance(0x21, 0x10, [0x20, 0x21])
    w.add_bytes(0x22, CHAR, 5)
    w.add_root(0xFF, 0x21)
    graph = read(tmp_path / "pair.hprof", w.dump())
    assert graph.type_names == ("java.lang.Class", "Pair", "char[]")
    assert graph.sizes.tolist() == [40, 28, 28, 18]
    assert graph.indptr.tolist() == [0, 4, 6, 8, 8]
    assert graph.indices.tolist() == [-1, -1, -1, -1, 2, -1, 1, 2]
    assert graph.roots.tolist() == [2]


def test_no_objects(tmp_path: Path) -> None:
    w = Writer()
    w.add_root(0x05, 0x10)
    path = tmp_path / "none.hprof"
    path.write_bytes(w.dump())
    graph, counts = read_hprof(path)
    assert graph.n_nodes == 0
    assert counts == HprofCounts(0, 0, 1, 0, 0)


def test_classes_without_names_and_of_one_name(tmp_path: Path) -> None:
    w = Writer()
    w.add_class(0x10, "Same")
    w.add_class(0x11, "Same")
    w.add_class(0x12, "Lost")
    del w.strings[-2:]
    for number in (0x10, 0x11, 0x12):
        w.add_instance(0x20 + number, number, [])
    graph = read(tmp_path / "names.hprof", w.dump())
    assert graph.type_names == ("java.lang.Class", "Same", "class 0x12")
    assert graph.types.tolist() == [0, 0, 0, 1, 1, 2]


def test_a_superclass_that_is_not_in_the_dump(tmp_path: Path) -> None:
    w = Writer()
    w.add_class(0x10, "Known", 0x99, [REF])
    w.fields[0x10] += [LONG, LONG]
    w.add_instance(0x20, 0x10, [0x20])
    graph, _ = lists(read(tmp_path / "super.hprof", w.dump()))
    assert graph[1] == ("Known", 32, [1])


# --- random graphs --------------------------------------------------------------------------------


@st.composite
def dumps(draw: st.DrawFn) -> Writer:
    w = Writer(draw(st.sampled_from([4, 8])))
    n_classes, n = draw(st.integers(1, 5)), draw(st.integers(0, 25))
    base = draw(st.sampled_from([1, 0x2100_0000, 0x7FFF_FF00]))
    classes = [base + 4 * i for i in range(n_classes)]
    numbers = [base + 0x40 + 8 * i for i in range(n)]
    target = st.sampled_from([0, base + 0x3F, *classes, *numbers])
    kinds = st.sampled_from([REF, REF, *WIDTHS])
    for at, number in enumerate(classes):
        above = draw(st.sampled_from([0, *classes[:at]]))
        fields = draw(st.lists(kinds, max_size=4))
        statics = draw(st.lists(st.tuples(kinds, target), max_size=3))
        w.add_class(number, f"p.C{at}", above, fields, statics)
    for number in draw(st.permutations(numbers)):
        shape = draw(st.integers(0, 3))
        if shape == 0:
            class_id = draw(st.sampled_from(classes))
            count = w.fields[class_id].count(REF)
            w.add_instance(number, class_id, draw(st.lists(target, min_size=count, max_size=count)))
        elif shape == 1:
            w.add_array(number, draw(st.sampled_from(classes)), draw(st.lists(target, max_size=9)))
        elif shape == 2:
            w.add_bytes(number, draw(st.sampled_from([*WIDTHS])), draw(st.integers(0, 40)))
        else:
            w.add_root(draw(st.sampled_from([*ROOT_TAILS])), draw(target))
    return w


@given(dumps(), st.one_of(st.none(), st.integers(1, 4)), st.integers(0, 60))
@settings(max_examples=150)
def test_random_graphs(
    tmp_path_factory: pytest.TempPathFactory, w: Writer, segments: int | None, window: int
) -> None:
    """Whatever the windows that the objects are worked off in."""
    path = tmp_path_factory.getbasetemp() / "random.hprof"
    path.write_bytes(w.dump(segments))
    with pytest.MonkeyPatch.context() as patch:
        if window:
            patch.setattr(_hprof, "WINDOW_BYTES", (1, window))
        graph, counts = read_hprof(path)
    objects, roots, expected_counts = w.expected()
    assert lists(graph) == (objects, roots)
    assert counts == expected_counts


@pytest.mark.parametrize("id_bytes", [4, 8])
def test_more_slots_and_bytes_than_are_worked_off_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_bytes: int
) -> None:
    monkeypatch.setattr("gcheap.sources.hprof.SLOTS_AT_ONCE", 100)
    w = Writer(id_bytes)
    w.add_class(0x10, "p.Node", 0, [REF, INT])
    w.add_class(0x11, "p.Node[]")
    for i in range(300):
        w.add_instance(0x1000 + i, 0x10, [0x1000 + i * 7 % 300])
        if i % 50 == 0:
            w.add_array(0x5000 + i, 0x11, [0x1000 + k % 300 for k in range(i, i * 9)])
            w.add_bytes(0x8000 + i, BYTE, 3 << 19 if i == 50 else i)
    assert lists(read(tmp_path / "many.hprof", w.dump())) == w.expected()[:2]


def test_objects_between_roots_are_not_windows_full_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 5_000
    w = Writer()
    w.add_class(0x10, "p.Node", 0, [REF])
    for i in range(n):
        w.add_instance(0x1000 + i, 0x10, [0x1000 + i])
        w.add_root(0x05, 0x1000 + i)
    looked_at = 0
    lengths = _hprof.Dump._lengths

    def counting(dump: _hprof.Dump, raw: Any, at: Any, tag: Any, end: int) -> Any:
        nonlocal looked_at
        looked_at += len(at)
        return lengths(dump, raw, at, tag, end)

    monkeypatch.setattr(_hprof.Dump, "_lengths", counting)
    graph = read(tmp_path / "turns.hprof", w.dump(1))
    assert graph.indices[4:].tolist() == list(range(1, n + 1))
    assert looked_at < 500 * n


# --- damaged files --------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [None, 3])
@pytest.mark.parametrize("id_bytes", [4, 8])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_cut_short_anywhere(
    tmp_path: Path, id_bytes: int, segments: int | None, pack: Callable[[bytes], bytes]
) -> None:
    w = everything(id_bytes)
    content = pack(w.dump(segments))
    path = tmp_path / "cut.hprof"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(GraphFormatError, match=r"cut\.hprof: (at offset|after) \d+") as caught:
            ObjectGraph.from_hprof(path)
        assert "expected" in str(caught.value)
    assert lists(read(path, content)) == w.expected()[:2]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_any_byte_changed(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """The clean error, or a graph that obeys the rules."""
    content = pack(everything(4).dump())
    outcomes = set()
    for at in range(len(content)):
        for value in (0xFF, content[at] ^ 1):
            damaged = content[:at] + bytes([value]) + content[at + 1 :]
            try:
                read(tmp_path / "changed.hprof", damaged).validate()
                outcomes.add("a graph")
            except GraphFormatError as error:
                outcomes.add(error.file)
    assert outcomes == {"a graph", f"{tmp_path}/changed.hprof"}


def small(change: Callable[[Writer], object]) -> bytes:
    w = Writer()
    w.add_class(0x10, "p.A", 0, [REF, INT])
    change(w)
    return w.dump()


def field_type_3(w: Writer) -> None:
    w.heap[0] = w.heap[0][:-1] + b"\x03"


def super_ring(w: Writer) -> None:
    w.add_class(0x11, "p.B", 0x12)
    w.add_class(0x12, "p.C", 0x11)


def instance(w: Writer, length: int, claimed: int) -> None:
    head = b"\x21" + w.id(0x20) + bytes(4) + w.id(0x10)
    w.heap.append(head + struct.pack(">I", claimed) + bytes(length))


def array(w: Writer, kind: int, claimed: int) -> None:
    w.heap.append(b"\x23" + w.id(0x20) + struct.pack(">IIB", 0, claimed, kind) + bytes(8))


DAMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "at offset 0: b'', expected an HPROF heap dump"),
    "no dump": (b"PK\x03\x04" + bytes(60), "expected an HPROF heap dump"),
    "version": (
        Writer().dump().replace(b"1.0.2", b"1.0.3"),
        r"b'JAVA PROFILE 1\.0\.3\\x00', expected",
    ),
    "header only": (Writer().head(), "at offset 31: the file ends, expected a heap dump"),
    "id size": (
        b"JAVA PROFILE 1.0.2\0" + struct.pack(">IQ", 2, 0),
        "at offset 19: identifiers of 2 bytes, expected 4 or 8",
    ),
    "record": (
        Writer().head() + Writer().record(0x08, b""),
        "at offset 31: record 0x08, expected 0x01 to",
    ),
    "record length": (
        Writer().head() + struct.pack(">BII", SEGMENT, 0, 2**32 - 1),
        "at offset 40: record 0x1c takes 4294967295 bytes, expected at most the 0 that are left",
    ),
    "sub-record": (small(lambda w: w.heap.append(b"\x89")), "sub-record 0x89, expected 0x01 to"),
    "field type": (small(field_type_3), "type 3, expected 2"),
    "instance length": (
        small(lambda w: instance(w, 12, 2**31)),
        "an instance of length 2147483648 takes 2147483673 bytes, expected at most the 37",
    ),
    "instance too short": (
        small(lambda w: instance(w, 8, 8)),
        "an instance of 8 bytes, expected 12 for the fields of its class 0x10",
    ),
    "array type": (small(lambda w: array(w, 12, 1)), "type 12, expected"),
    "array of references": (small(lambda w: array(w, 2, 1)), "array of type 2, expected 4 to 11"),
    "array length": (small(lambda w: array(w, INT, 3)), "an array of length 3 takes 30 bytes"),
    "root": (small(lambda w: w.heap.append(b"\x08\x00")), "a root .sub-record 0x08. takes 17"),
    "superclass": (small(super_ring), "a class that is its own superclass"),
    "no end": (
        Writer().dump()[:-9],
        r"the file ends, expected the end of the heap dump \(record 0x2c\)",
    ),
    "two dumps": (
        Writer().dump() + Writer().record(SEGMENT, b""),
        "a second heap dump .record 0x1c., expected one",
    ),
    "gzip of another": (gzip.compress(b"PK" * 40), "expected an HPROF heap dump"),
    "gzip": (gzip.compress(Writer().dump())[:-1] + b"\xee", "expected a whole gzip file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_errors_name_file_offset_value_and_what_was_expected(tmp_path: Path, name: str) -> None:
    content, said = DAMAGES[name]
    with pytest.raises(GraphFormatError, match=said) as caught:
        read(tmp_path / "bad.hprof", content)
    assert str(caught.value).startswith(f"{tmp_path}/bad.hprof: a")  # "at offset", or "after"
    assert caught.value.__cause__ is None or name == "gzip"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_more_bytes_than_allowed(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    content = everything(8).dump()
    path = tmp_path / "large.hprof"
    path.write_bytes(pack(content))
    with pytest.raises(GraphFormatError, match=r"holds \d+ bytes, expected at most 100"):
        ObjectGraph.from_hprof(path, max_bytes=100)
    ObjectGraph.from_hprof(path, max_bytes=len(content))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ObjectGraph.from_hprof(tmp_path / "none.hprof")
    with pytest.raises(IsADirectoryError):
        ObjectGraph.from_hprof(tmp_path)


# --- while somebody writes to the file ------------------------------------------------------------

TRUNCATE_WHEN_READING = """
import os, sys
from gcheap.sources import _hprof_file
from gcheap.sources.hprof import read_hprof

_hprof_file.LOG_EVERY_S = 0.0
path, said = sys.argv[1], []

def log(line):
    if line.startswith("read "):
        os.truncate(path, 100)
    said.append(line)

graph, _ = read_hprof(path, log=log)
assert os.path.getsize(path) == 100 and len(said) > 2, said
print(graph.n_nodes, int(graph.sizes.sum()))
"""


def larger_dump() -> Writer:
    w = Writer()
    w.add_class(0x10, "p.Node", 0, [REF])
    for i in range(20):
        w.add_instance(0x1000 + i, 0x10, [0x1000 + i * 7 % 20])
        w.add_bytes(0x2000 + i, BYTE, 200_000)
    return w


@pytest.mark.parametrize("memory", [1 << 40, 0], ids=["in memory", "in a file"])
def test_a_file_that_is_cut_off_while_it_is_read_changes_nothing(
    tmp_path: Path, memory: int
) -> None:
    path = tmp_path / "a.hprof"
    path.write_bytes(larger_dump().dump(4))
    expected = ObjectGraph.from_hprof(path)
    held = f"_hprof_file._memory_to_use = lambda: {memory}\npath, said"
    script = TRUNCATE_WHEN_READING.replace("path, said", held)
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr}"
    assert done.stdout.split() == [str(expected.n_nodes), str(int(expected.sizes.sum()))]


def test_a_file_that_is_cut_off_before_all_of_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hprof_file, "LOG_EVERY_S", 0.0)
    path = tmp_path / "a.hprof"
    size = path.write_bytes(larger_dump().dump())
    with pytest.raises(
        GraphFormatError,
        match=rf"a\.hprof: at offset \d+: the file ends, expected the {size} bytes",
    ):
        ObjectGraph.from_hprof(path, log=lambda _line: os.truncate(path, 1 << 20))


def test_paths_may_be_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.hprof"
    path.write_bytes(b"nothing")
    with pytest.raises(GraphFormatError, match=rf"{path}: at offset 0: b'nothing'"):
        ObjectGraph.from_hprof(os.fsencode(path))
    with pytest.raises(GraphFormatError, match=rf"{path}: not an .npz archive"):
        ObjectGraph.load(os.fsencode(path))


# --- the commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small.hprof", "small.HPROF.gz"])
def test_commands_read_dumps_and_say_how_far_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(_hprof_file, "LOG_EVERY_S", 0.0)
    w = everything(8)
    content = w.dump()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    result = CliRunner().invoke(main, ["map", str(path), "--json"])
    assert result.exit_code == 0, result.output
    said = result.stderr.splitlines()
    assert said[0] == f"gcheap map: preparing {path}"
    assert any("objects" in line and "read 0 of 0 MiB" in line for line in said)
    assert said[-1].endswith("not in the dump: 2 references and 2 roots")
    assert json.loads(result.stdout)["input"]["objects"] == len(w.classes | w.objects)
    options = ["--movers", "memcpy", "--mode", "pause", "--repeat", "1", "--json", "-"]
    result = CliRunner().invoke(main, ["compare", str(path), *options])
    assert result.exit_code == 0, result.output
    assert "gcheap compare: read 0 of 0 MiB" in result.stderr
    assert json.loads(result.stdout)["summary"]["verified"]


@pytest.mark.parametrize("command", ["map", "compare"])
def test_a_damaged_dump_is_wrong_input(tmp_path: Path, command: str) -> None:
    path = tmp_path / "cut.hprof"
    path.write_bytes(everything(8).dump()[:-1])
    result = CliRunner().invoke(main, [command, str(path)])
    assert result.exit_code == 2
    assert "cut.hprof: at offset" in result.stderr
