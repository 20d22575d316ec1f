"""Ring files from Python: where they are, what they show, what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gcheap
from gcheap import Heap, ring
from gcheap.ring import ARENA_DTYPE, RingFile


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ring files of this user go meanwhile."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("GCHEAP_RING", raising=False)
    return tmp_path / "gcheap"


@pytest.fixture
def heap(runtime: Path) -> Iterator[Heap]:
    with Heap("64MiB", ring="auto") as opened:
        yield opened


def sampled(opened: RingFile, majors: int) -> ring.Live:
    """The first sample after so many major collections."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        live = opened.live()
        if live is not None and live.stats.major_count >= majors:
            return live
        time.sleep(0.02)
    raise AssertionError("no sample came")


def test_a_heap_is_found_and_seen(heap: Heap, runtime: Path) -> None:
    node = heap.struct("Node", next=gcheap.Ref, tag="i8")
    nodes = heap.new(node, 50_000)
    nodes.tag = np.arange(50_000)
    event = heap.collect(policy="all")
    (file,) = ring.find(os.getpid())
    assert file.parent == runtime == ring.folder()
    assert file.stat().st_mode & 0o7777 == 0o600
    with ring.open_target(str(os.getpid())) as opened:
        assert (opened.state, opened.info.pid) == ("open", os.getpid())
        assert opened.info.library == gcheap.__version__
        events, after = opened.events()
        own = heap.events()
        assert np.array_equal(events, own[: len(events)])
        assert (after, opened.lost) == (events[-1]["sequence"] + 1, 0)
        more, again = opened.events(after)
        assert (len(more), again) == (0, after)
        live = sampled(opened, 1)
        assert live.stats.last_major is not None
        assert live.stats.last_major.live_bytes == event.live_bytes
        arenas, unlisted = opened.map()
        assert arenas.dtype == ARENA_DTYPE
        assert unlisted == 0
        old = arenas[arenas["space"] == 0]
        assert int(old["populated"].sum()) * opened.info.block_bytes >= 50_000 * 24
        heap.close()
        assert opened.state == "closed"
        assert not file.exists()
    with pytest.raises(ValueError, match="is closed"):
        opened.events()


def test_what_was_overwritten_is_counted(runtime: Path) -> None:
    with Heap("16MiB", ring="auto", event_capacity=64) as heap:
        for _ in range(100):
            heap.collect(minor=True)
        with RingFile(ring.find()[0]) as opened:
            events, after = opened.events()
            assert len(events) == 64
            assert opened.lost == after - 64 > 0


def test_places_are_named_in_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^ring is '.*/none/x', expected auto, a folder"):
        Heap("16MiB", ring=tmp_path / "none" / "x")
    with pytest.raises(TypeError):
        Heap("16MiB", ring=3)  # type: ignore[arg-type]
    taken = tmp_path / "taken"
    taken.write_bytes(b"x" * 1000)
    with pytest.raises(ValueError, match="File exists"):
        Heap("16MiB", ring=taken)
    with pytest.raises(ValueError, match=r"taken cannot be read as a ring file: it does not begin"):
        RingFile(taken)
    assert taken.read_bytes() == b"x" * 1000


def test_the_environment_asks_for_it(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCHEAP_RING", "auto")
    with Heap("16MiB"):
        assert len(ring.find()) == 1
    with Heap("16MiB", ring=""):
        assert ring.find() == []
    monkeypatch.setenv("GCHEAP_RING", "none/such")
    with pytest.raises(ValueError, match="GCHEAP_RING is 'none/such'"):
        Heap("16MiB")


def test_without_a_runtime_folder_files_lie_in_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    place = ring.folder()
    assert place == Path(f"/tmp/gcheap-{os.geteuid()}")
    was_there = place.exists()
    try:
        with Heap("16MiB", ring="auto"):
            assert place.stat().st_mode & 0o7777 == 0o700 or was_there
            assert [file.parent for file in ring.find(os.getpid())] == [place]
    finally:
        if not was_there:
            place.rmdir()


def test_several_heaps_have_to_be_told_apart(heap: Heap, runtime: Path) -> None:
    with Heap("16MiB", ring="auto"):
        with pytest.raises(ValueError, match=r"has 2 heaps, name one: .*-0\.ring, .*-1\.ring"):
            ring.open_target(str(os.getpid()))
        assert [file.name for file in ring.find()] == [
            f"{os.getpid()}-0.ring",
            f"{os.getpid()}-1.ring",
        ]


def test_a_folder_of_the_environment_is_looked_in(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("GCHEAP_RING", str(other))
    with Heap("16MiB"):
        assert [file.parent for file in ring.find(os.getpid())] == [other]


def test_what_a_killed_process_leaves(runtime: Path) -> None:
    code = (
        "import gcheap, os, signal\n"
        "heap = gcheap.Heap('16MiB', ring='auto')\n"
        "heap.collect()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    (file,) = ring.find()
    with RingFile(file) as opened:
        assert opened.state == "dead"
        kinds = {gcheap.EVENT_KINDS[kind] for kind in opened.events()[0]["kind"]}
        assert {"begin", "end", "pause", "phase"} <= kinds
    assert ring.prune() == [file]
    assert ring.find() == []


def test_pruning_leaves_the_living(heap: Heap, runtime: Path) -> None:
    (runtime / "123-0.ring").write_bytes(b"no ring")
    assert ring.prune() == []
    assert len(ring.find()) == 2
