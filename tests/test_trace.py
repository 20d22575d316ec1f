"""Traces: slices and counters, in both formats, and what Perfetto's module makes of their names."""

from __future__ import annotations

import fnmatch
import gzip
import json
import multiprocessing
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gcheap
from gcheap import Heap, trace
from gcheap.stats import EVENT_DTYPE, EVENT_KINDS
from gcheap.trace import Clock, Process, Recorder
from gcheap.trace._timeline import STOPPED, Slice, Timeline

KIND = {name: kind for kind, name in EVENT_KINDS.items()}
MS = 1_000_000


def nodes_in(heap: Heap, count: int = 20_000) -> gcheap.RefArray:
    node = heap.struct("Node", next=gcheap.Ref, tag="i8")
    nodes = heap.new(node, count)
    nodes.next = nodes[::-1]
    return nodes


def churn(heap: Heap) -> None:
    """Fill the nursery some times."""
    node = heap.struct("Garbage", next=gcheap.Ref, tag="i8")
    for _ in range(100):
        heap.new(node, 1000)


def names(timeline: Timeline) -> list[str]:
    return [s.name for s in timeline.slices]


def depths(slices: list[Slice]) -> dict[int, int]:
    """How deep each slice lies in its track, by identity; fails where slices are not nested."""
    found: dict[int, int] = {}
    tracks: dict[int | str, list[Slice]] = {}
    for s in slices:
        inside = tracks.setdefault(s.track, [])
        while inside and inside[-1].end <= s.start:
            inside.pop()
        assert s.end >= s.start
        assert all(s.end <= outer.end and s.start >= outer.start for outer in inside), s
        found[id(s)] = len(inside)
        inside.append(s)
    return found


# --- recording -----------------------------------------------------------------------------------


def test_collections_of_every_kind(mover: str) -> None:
    with Heap("64MiB", mover=mover, nursery="512KiB") as heap, Recorder(heap) as recorder:
        nodes = nodes_in(heap)
        churn(heap)
        heap.collect(minor=True)
        heap.collect(policy="all")
        event = heap.collect(policy="all", concurrent=True)
        assert len(nodes) == 20_000
    timeline = recorder.timeline()
    assert recorder.lost == timeline.lost == 0
    depth = depths(timeline.slices)
    collections = [s for s in timeline.slices if s.name.endswith("GC") and depth[id(s)] == 0]
    said = [s.name for s in collections]
    assert said.count("Explicit young concurrent mark compact GC") == 1
    assert said.count("Explicit concurrent mark compact GC") == 2
    assert said.count("young concurrent mark compact GC") >= 1  # the nursery was full
    last = collections[-1]
    assert last.args["cycle"] == event.number
    assert last.args["concurrent"] == event.concurrent
    assert last.args["pages_moved"] == event.pages_moved
    assert (last.end - last.start) * 1e-9 == pytest.approx(event.cycle_s, rel=0.2, abs=0.002)
    inside = {s.name for s in timeline.slices if last.start <= s.start <= s.end <= last.end}
    assert {"mark", "plan", "end", "minor", "reaching safepoints"} <= inside
    assert "CompactionPhase" in inside
    if event.concurrent:
        pauses_inside = {"mark pause", "remark pause", "minor pause", "flip pause"}
        assert {"prepare", "flip"} | pauses_inside <= inside
    else:
        assert "whole pause" in inside
    pauses = [s for s in timeline.slices if s.track == STOPPED and depth[id(s)] == 0]
    mine = sum(s.end - s.start for s in pauses if s.args["cycle"] == event.number)
    assert mine * 1e-9 == pytest.approx(event.pause_s, rel=0.05, abs=0.0005)
    assert {counter[0] for counter in timeline.counters} == {
        "Heap size (KB)",
        "Live (KB)",
        "Nursery (KB)",
        "Allocated (KB)",
        "Least utilisation, 10 ms (%)",
    }
    assert 0 <= last.args["utilisation_10ms"] <= 1
    assert ("utilisation_moving_10ms" in last.args) == event.concurrent


def test_faults_are_slices_of_who_waited() -> None:
    try:
        heap = Heap("256MiB", mover="copy", gc_threads=1)
    except gcheap.Unsupported as error:
        pytest.skip(f"copy: {error}")
    with heap, Recorder(heap) as recorder:
        nodes = nodes_in(heap, 300_000)
        stop = threading.Event()
        touched: list[int] = []

        def touch() -> None:
            touched.append(threading.get_native_id())
            while not stop.is_set():
                assert int(nodes.tag.sum()) == 0

        worker = threading.Thread(target=touch)
        worker.start()
        for _ in range(200):
            heap.collect(policy="all", concurrent=True)
            if heap.stats.faults > 10:
                break
        stop.set()
        worker.join()
        faults = heap.stats.faults
    timeline = recorder.timeline()
    shown = [s for s in timeline.slices if s.name == "fault"]
    assert len(shown) == faults > 0
    assert {s.track for s in shown} <= {touched[0], threading.get_native_id()}
    depths(timeline.slices)


def test_nothing_is_lost_in_the_background() -> None:
    with Heap("16MiB") as heap, Recorder(heap) as recorder:
        for _ in range(6000):  # more events than the ring holds
            heap.collect(minor=True)
        assert heap.stats.events_lost > 0
    assert recorder.lost == 0
    assert names(recorder.timeline()).count("Explicit young concurrent mark compact GC") == 6000


def test_what_is_lost_is_counted() -> None:
    with Heap("16MiB", event_capacity=16) as heap:
        recorder = Recorder(heap).start()
        for _ in range(2000):
            heap.collect(minor=True)
        recorder.stop()
        assert recorder.lost > 0
        assert recorder.timeline().lost == recorder.lost
        depths(recorder.timeline().slices)


def test_closing_the_heap_ends_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with Heap("16MiB") as heap:
        heap.collect(minor=True)  # before it is started: not in it
        with heap.trace(path) as recorder:
            heap.collect(minor=True)
            heap.close()
    assert "gcheap-trace" not in {thread.name for thread in threading.enumerate()}
    assert names(recorder.timeline()).count("Explicit young concurrent mark compact GC") == 1
    assert "traceEvents" in json.loads(path.read_text())
    recorder.stop()
    with pytest.raises(RuntimeError, match="started already"):
        recorder.start()
    with pytest.raises(gcheap.HeapClosedError):
        Recorder(heap).start()


def test_a_trace_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Heap("16MiB") as heap:
        with pytest.raises(ValueError, match=r"'trace.xml' is no name of a trace"):
            heap.trace("trace.xml")
        monkeypatch.setitem(sys.modules, "perfetto", None)
        for name in [name for name in sys.modules if name.startswith("perfetto.")]:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(gcheap.Unsupported, match=r"pip install 'gcheap\[trace\]'"):
            heap.trace("trace.pftrace")
        with heap.trace(tmp_path / "trace.json"):  # needs no package
            heap.collect()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_fork_writes_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"

    def child() -> None:
        recorder.__exit__(None, None, None)
        os._exit(3 if path.exists() else 0)

    with Heap("16MiB") as heap, heap.trace(path) as recorder:
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(30)
        assert process.exitcode == 0
        heap.collect(minor=True)
    assert len(json.loads(path.read_text())["traceEvents"]) > 3


# --- the formats ---------------------------------------------------------------------------------


def recorded(path: Path) -> Timeline:
    with Heap("64MiB", nursery="512KiB") as heap, heap.trace(path) as recorder:
        nodes = nodes_in(heap)
        heap.collect(concurrent=True, policy="all")
        assert len(nodes) == 20_000
    return recorder.timeline()


def test_json_holds_everything(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    timeline = recorded(path)
    document = json.loads(path.read_text())
    events = document["traceEvents"]
    assert document["otherData"]["events_lost"] == 0
    assert [e["name"] for e in events if e["ph"] == "X"] == names(timeline)
    slices = [e for e in events if e["ph"] == "X"]
    for event, s in zip(slices, timeline.slices, strict=True):
        assert round(event["ts"] * 1000) == s.start  # whole nanoseconds come back
        assert round(event["dur"] * 1000) == s.end - s.start
        assert event["pid"] == os.getpid()
    counters = {f"{e['name']} {key}" for e in events if e["ph"] == "C" for key in e["args"]}
    assert counters == {counter[0] for counter in timeline.counters}
    threads = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert STOPPED in threads


def test_compressed_json_is_the_same(tmp_path: Path) -> None:
    timeline = recorded(tmp_path / "trace.json")
    trace.write_trace([timeline], tmp_path / "again.json")
    trace.write_trace([timeline], tmp_path / "again.json.gz")
    plain = (tmp_path / "again.json").read_bytes()
    assert gzip.decompress((tmp_path / "again.json.gz").read_bytes()) == plain
    assert json.loads(plain)


def test_perfetto_holds_the_same(tmp_path: Path) -> None:
    messages = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    path = tmp_path / "trace.pftrace"
    timeline = recorded(path)
    parsed = messages.Trace()
    parsed.ParseFromString(path.read_bytes())
    tracks = {
        p.track_descriptor.uuid: p.track_descriptor
        for p in parsed.packet
        if p.HasField("track_descriptor")
    }
    slices, counters = _read_back(parsed, messages, tracks)
    wanted = [(s.track, s.name, s.start, s.end) for s in timeline.slices]
    assert sorted(slices, key=str) == sorted(wanted, key=str)
    assert counters == timeline.counters
    (process,) = [t for t in tracks.values() if t.HasField("process")]
    assert process.process.pid == os.getpid()
    for track in tracks.values():
        assert track is process or track.parent_uuid == process.uuid
    clocks = {c.clock_id: c.timestamp for c in parsed.packet[0].clock_snapshot.clocks}
    assert set(clocks) == {1, 3, 6}
    assert clocks[3] <= timeline.slices[0].start
    assert {p.timestamp_clock_id for p in parsed.packet if p.HasField("track_event")} == {3}


def _read_back(parsed: Any, messages: Any, tracks: dict[int, Any]) -> tuple[list[Any], list[Any]]:
    """Slices and counters of a trace in Perfetto's format."""
    kinds = messages.TrackEvent
    slices, counters = [], []
    inside: dict[int, list[tuple[str, int]]] = {}
    for packet in parsed.packet:
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        described = tracks[event.track_uuid]
        if event.type == kinds.TYPE_COUNTER:
            counters.append((described.name, packet.timestamp, event.counter_value))
        elif event.type == kinds.TYPE_SLICE_BEGIN:
            inside.setdefault(event.track_uuid, []).append((event.name, packet.timestamp))
        elif event.type == kinds.TYPE_SLICE_END:
            name, start = inside[event.track_uuid].pop()
            is_thread = described.HasField("thread")
            track = described.thread.tid if is_thread else described.name
            slices.append((track, name, start, packet.timestamp))
    assert not any(inside.values())
    return slices, counters


def module_rows(path: Path) -> list[dict[str, Any]]:
    """What Perfetto's android_garbage_collection_events makes of a JSON trace, by its rules:
    slices of depth 0 on threads, a name that GLOBs, the first kind that matches, and the counter's
    values from the collection's begin to the first one after it."""
    events = json.loads(path.read_text())["traceEvents"]
    counter = [
        (round(e["ts"] * 1000), value)
        for e in events
        if e["ph"] == "C"
        for key, value in e["args"].items()
        if f"{e['name']} {key}" == "Heap size (KB)"
    ]
    slices = [
        Slice(e["tid"], e["name"], round(e["ts"] * 1000), round((e["ts"] + e["dur"]) * 1000), {})
        for e in events
        if e["ph"] == "X"
    ]
    depth = depths(slices)
    globs = {"Alloc": "alloc", "young": "young", "Explicit": "explicit"}
    rows = []
    for s in slices:
        if depth[id(s)] or not fnmatch.fnmatchcase(s.name, "*concurrent*GC"):
            continue
        kinds = [kind for word, kind in globs.items() if fnmatch.fnmatchcase(s.name, f"*{word}*")]
        during = [value for time, value in counter if s.start <= time < s.end]
        after = next(value for time, value in counter if time > s.end)
        rows.append(
            {
                "gc_type": (kinds or ["full"])[0],
                "is_mark_compact": fnmatch.fnmatchcase(s.name, "*mark compact*"),
                "reclaimed_kb": max(*during, after) - min(*during, after),
            }
        )
    return rows


def test_the_android_module_finds_every_collection(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with Heap("32MiB", nursery="512KiB") as heap, heap.trace(path):
        kept = nodes_in(heap)
        churn(heap)
        blob = heap.array("u1", 4 << 20)
        del blob
        event = heap.collect(concurrent=True)
        while heap.stats.major_count < 3:  # until one is due
            heap.array("u1", 4 << 20)
        assert len(kept) == 20_000
    rows = module_rows(path)
    assert [row["gc_type"] for row in rows].count("explicit") == 1
    kinds = {row["gc_type"] for row in rows}
    assert {"young", "explicit"} <= kinds
    assert {"alloc", "full"} & kinds  # it was time for one, or a thread waited for it
    assert all(row["is_mark_compact"] for row in rows)
    (explicit,) = [row for row in rows if row["gc_type"] == "explicit"]
    freed = (event.heap_bytes_before >> 10) - (event.heap_bytes_after >> 10)
    assert explicit["reclaimed_kb"] == pytest.approx(freed, abs=2)


# --- from events that are made up ----------------------------------------------------------------


def made(*rows: tuple[Any, ...]) -> np.ndarray[Any, np.dtype[np.void]]:
    """Events (time in ms, kind, thread, a, b, c, d)."""
    events = np.zeros(len(rows), dtype=EVENT_DTYPE)
    for i, (time, kind, thread, *values) in enumerate(rows):
        padded = [*values, 0, 0, 0, 0][:4]
        events[i] = (i, int(time * MS), KIND[kind], thread, *padded)
    return events


def built(*rows: tuple[Any, ...]) -> Timeline:
    return trace.build(made(*rows), Process(7, "made"), Clock(0, 0))


def test_no_events_make_an_empty_timeline(tmp_path: Path) -> None:
    timeline = trace.build(np.empty(0, dtype=EVENT_DTYPE), Process(7, "made"), None)
    assert (timeline.slices, timeline.counters) == ([], [])
    for name in ("empty.json", "empty.pftrace"):
        if name.endswith("json") or "perfetto" in sys.modules:
            trace.write_trace([timeline], tmp_path / name)
    assert json.loads((tmp_path / "empty.json").read_text())["traceEvents"]


def test_a_collection_without_its_end_lasts_to_the_last_event() -> None:
    timeline = built(
        (1, "begin", 5, 1, 4096, 0, 0),
        (2, "phase", 5, gcheap_phase("mark"), 0, 1),
        (9, "refusal", 5, 2, 0, 4096),
    )
    gc, mark = timeline.slices
    assert (gc.start, gc.end, gc.args["unfinished"]) == (1 * MS, 9 * MS, True)
    assert (mark.name, mark.start, mark.end) == ("mark", 2 * MS, 9 * MS)
    assert [i.name for i in timeline.instants] == ["kernel refusal: busy"]


def test_a_collection_without_its_begin_lasts_from_the_first_event() -> None:
    move, end, idle = (gcheap_phase(name) for name in ("move", "end", "idle"))
    timeline = built(
        (3, "fault", 6, 0x1000, 50_000, 1, 0),
        (4, "phase", 5, end, move, 8),
        (5, "phase", 5, idle, end, 8),
        (6, "end", 5, 8, 4096, 2048, 0),
    )
    shown = {s.name: (s.start, s.end) for s in timeline.slices if s.track == 5}
    assert shown["Explicit concurrent mark compact GC"] == (3 * MS, 6 * MS)
    assert shown["CompactionPhase"] == (3 * MS, 4 * MS)
    assert shown["end"] == (4 * MS, 5 * MS)


def test_a_minor_beside_a_major_has_its_own_thread() -> None:
    minor = gcheap.EVENT_KINDS and 256
    timeline = built(
        (1, "begin", 5, 1, 0, 0, 0),
        (2, "begin", 6, 2, 0, 0, minor | 1),
        (3, "pause", 6, MS // 2, 0, 1000, 2),
        (3.1, "minor", 6, 8192, 4096, 0, MS // 2),
        (3.2, "end", 6, 2, 0, 0, minor | 1),
        (9, "end", 5, 1, 0, 0, 512),
    )
    tracks = {s.track: s.name for s in timeline.slices if "GC" in s.name}
    assert tracks == {
        5: "Explicit concurrent mark compact GC",
        6: "young concurrent mark compact GC",
    }
    young = next(s for s in timeline.slices if s.track == 6)
    assert young.args["survived_bytes"] == 4096
    nursery = [value for name, _, value in timeline.counters if name == "Nursery (KB)"]
    assert nursery == [8, 4]


def gcheap_phase(name: str) -> int:
    from gcheap._ffi import lib

    return int(getattr(lib, f"GCH_PHASE_{name.upper()}"))


def test_slices_that_stick_out_are_cut() -> None:
    timeline = Timeline(Process(1, "p"), None)
    timeline.slices = [Slice(1, "outer", 0, 100, {}), Slice(1, "inner", 90, 110, {})]
    timeline.slices += [Slice(2, "other", 90, 110, {})]
    timeline.finish()
    assert [(s.name, s.end) for s in timeline.slices] == [
        ("outer", 100),
        ("inner", 100),
        ("other", 110),
    ]


# --- from a log ----------------------------------------------------------------------------------


def test_a_log_makes_a_timeline_a_heap(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    with Heap("64MiB", log=f"json:{path}") as one, Heap("64MiB", log=f"json:{path}") as two:
        nodes = nodes_in(one)
        one.collect(minor=True)
        event = one.collect(concurrent=True, policy="all")
        two.collect()
        assert len(nodes) == 20_000
    first, second = trace.timelines_of_log(path.read_text().splitlines())
    assert first.process.pid == second.process.pid == os.getpid()
    last = [s for s in first.slices if s.name == "Explicit concurrent mark compact GC"][-1]
    assert (last.end - last.start) * 1e-9 == pytest.approx(event.cycle_s)
    assert {s.track for s in first.slices}.isdisjoint({s.track for s in second.slices} - {STOPPED})
    assert ("flip pause" in names(first)) == event.concurrent
    for timeline in (first, second):
        depths(timeline.slices)
    trace.write_trace([first, second], tmp_path / "trace.json")
    assert module_rows(tmp_path / "trace.json")


def test_a_log_that_was_cut_off_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    with Heap("16MiB", log=f"json:{path}") as heap:
        heap.collect(minor=True)
        heap.collect(minor=True)
    lines = path.read_text().splitlines()
    (timeline,) = trace.timelines_of_log([lines[0], lines[1][:100]])
    assert names(timeline).count("Explicit young concurrent mark compact GC") == 1
    with pytest.raises(ValueError, match="line 1 is no JSON"):
        trace.timelines_of_log([lines[0][:100], lines[1]])
    with pytest.raises(ValueError, match="line 1 is of no log with schema 1"):
        trace.timelines_of_log(['{"schema": 2}'])
    with pytest.raises(ValueError, match="line 1 lacks pid, heap"):
        trace.timelines_of_log(['{"schema": 1}'])
