"""Traces: what a collector did, for ui.perfetto.dev.

``Recorder`` records a heap of this process (``with heap.trace("trace.json"): ...``), ``record``
one of another (its ring file), ``timelines_of_log`` reads a JSON log; ``write_trace`` writes what
any of them has found, as JSON or in Perfetto's own format. Names of slices and counters are those
that Perfetto's module android.garbage_collection reads: docs/traces.md.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gcheap._ffi import ffi, lib
from gcheap._files import replacing
from gcheap.stats import EVENT_DTYPE, EventArray
from gcheap.trace._json import trace_events, write_json_trace
from gcheap.trace._log import timelines_of_log
from gcheap.trace._perfetto import check_perfetto, write_perfetto_trace
from gcheap.trace._timeline import Clock, Process, Timeline, build

if TYPE_CHECKING:
    from gcheap.heap import Heap
    from gcheap.ring import RingFile

__all__ = [
    "Clock",
    "Process",
    "Recorder",
    "Timeline",
    "build",
    "format_of",
    "record",
    "timelines_of_log",
    "trace_events",
    "write_json_trace",
    "write_trace",
]

Format = Literal["json", "json.gz", "perfetto"]

SUFFIXES: dict[str, Format] = {
    ".json": "json",
    ".json.gz": "json.gz",
    ".pftrace": "perfetto",
    ".perfetto-trace": "perfetto",
}
INTERVAL_S, SHORTEST_S = 0.02, 0.0005
"""How often a recorder looks: oftener while there is much (the ring keeps 16384 events)."""
MUCH = 512
_READ = 4096


def format_of(path: str | os.PathLike[str]) -> Format:
    """Return the format that the name of a trace asks for.

    Raises:
        ValueError: it asks for none.
        Unsupported: for Perfetto's own, without the package.
    """
    name = os.fspath(path)
    for suffix, chosen in SUFFIXES.items():
        if name.endswith(suffix):
            if chosen == "perfetto":
                check_perfetto()
            return chosen
    raise ValueError(f"{name!r} is no name of a trace, expected one that ends in {_suffixes()}")


def _suffixes() -> str:
    return ", ".join(SUFFIXES)


def write_trace(
    timelines: Sequence[Timeline], path: str | os.PathLike[str], format: Format | None = None
) -> None:
    """Write a trace to a file; what was there is replaced when all has been written.

    Raises:
        ValueError, Unsupported: as ``format_of`` does, if ``format`` is None.
        OSError: the file cannot be written.
    """
    chosen = format or format_of(path)
    with replacing(path) as file:
        if chosen == "perfetto":
            write_perfetto_trace(timelines, file)
        else:
            write_json_trace(timelines, file, compressed=chosen == "json.gz")


def describe_process(pid: int, threads: Sequence[int]) -> Process:
    """Return the names of a process and its threads, as far as they are there to be asked."""
    process = Process(pid, f"process {pid}")
    with contextlib.suppress(OSError):
        process.name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    for thread in threads:
        with contextlib.suppress(OSError):
            comm = Path(f"/proc/{pid}/task/{thread}/comm")
            process.threads[int(thread)] = comm.read_text(errors="replace").strip()
    return process


class Recorder:
    """Records the events of a heap in the background, so that none is overwritten unread.

    A thread reads the heap's ring some fifty times a second, or oftener, until ``stop``, or until
    the heap is closed. In the child of a fork() there is no such thread: the child's recorder does
    nothing.

    Args:
        heap: the heap.
        path: where the trace goes at the end (``format_of``); None: nowhere by itself.

    ``with`` starts it, and at the end stops it and writes the file. Attributes: ``lost``, events
    that were overwritten before they were read.

    Example:
        >>> import gcheap, gcheap.trace
        >>> with gcheap.Heap("16MiB") as heap:
        ...     with gcheap.trace.Recorder(heap) as recorder:
        ...         event = heap.collect(minor=True)
        ...     [s.name for s in recorder.timeline().slices if "GC" in s.name]
        ['Explicit young concurrent mark compact GC']
    """

    def __init__(self, heap: Heap, path: str | os.PathLike[str] | None = None) -> None:
        if path is not None:
            format_of(path)
        self.lost = 0
        self._path = path
        self._core = heap._core
        self._parts: list[EventArray] = []
        self._sequence = ffi.new("uint64_t *")
        self._lost = ffi.new("uint64_t *")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._clock = Clock.now()
        self._threads: dict[int, str] = {}

    # --- recording -------------------------------------------------------------------------------

    def start(self) -> Recorder:
        """Record from now on.

        Raises:
            HeapClosedError: the heap is closed.
            RuntimeError: it records, or has recorded, already.
        """
        if self._thread is not None:
            raise RuntimeError("the recorder was started already")
        self._core.call_heap(lambda heap: self._drain(keep=False))
        self._lost[0] = 0
        self._thread = threading.Thread(target=self._run, name="gcheap-trace", daemon=True)
        self._core.at_end.append(self.stop)
        self._thread.start()
        return self

    def _run(self) -> None:
        wait = INTERVAL_S
        while not self._stop.wait(wait):
            much = self._drain() > MUCH
            wait = max(SHORTEST_S, wait / 2) if much else min(INTERVAL_S, wait * 1.5)

    def _drain(self, *, keep: bool = True) -> int:
        """Read what is there; return how much that was."""
        total = 0
        while True:
            part = np.empty(_READ, dtype=EVENT_DTYPE)
            into = ffi.cast("gch_event *", part.ctypes.data)
            pointer = self._core.pointer
            count = lib.gch_events_read(pointer, self._sequence, into, _READ, self._lost)
            if keep and count:
                self._parts.append(part[:count].copy() if count < _READ else part)
            total += int(count)
            if count < _READ:
                return total

    def stop(self) -> None:
        """Read what is left, and record no more. Nothing happens if it does not record."""
        thread = self._thread
        if thread is None or self._stop.is_set() or os.getpid() != self._pid:
            return
        self._stop.set()
        if thread is not threading.current_thread():
            thread.join()
        self._drain()
        self.lost = int(self._lost[0])
        self._name_threads()
        with contextlib.suppress(ValueError):
            self._core.at_end.remove(self.stop)

    def _name_threads(self) -> None:
        seen = np.unique(self.events["thread"])
        self._threads = describe_process(self._pid, [int(t) for t in seen]).threads

    # --- what was recorded -----------------------------------------------------------------------

    @property
    def events(self) -> EventArray:
        """The events so far: array of ``gcheap.EVENT_DTYPE``."""
        return np.concatenate([np.empty(0, dtype=EVENT_DTYPE), *list(self._parts)])

    def timeline(self) -> Timeline:
        """Return what they show."""
        process = describe_process(self._pid, [])
        process.threads = dict(self._threads)
        return build(self.events, process, self._clock, self.lost)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a trace of what was recorded so far."""
        write_trace([self.timeline()], path)

    def __enter__(self) -> Recorder:
        return self.start()

    def __exit__(self, *raised: object) -> None:
        self.stop()
        if self._path is not None and os.getpid() == self._pid:
            self.write(self._path)


def record(ring: RingFile, seconds: float = 0.0) -> Timeline:
    """Return what a ring file shows: what is in it, and what comes within so many seconds.

    It ends early when the heap is closed or its process ends.
    """
    info = ring.info
    parts: list[Any] = []
    sequence, deadline = 0, time.monotonic() + seconds
    while True:
        ended = ring.state != "open" or time.monotonic() >= deadline  # before the last look
        part, sequence = ring.events(sequence)
        parts.append(part)
        if ended:
            break
        time.sleep(max(0.0, min(INTERVAL_S, deadline - time.monotonic())))
    events = np.concatenate(parts)
    if ring.state == "open":
        process = describe_process(info.pid, [int(t) for t in np.unique(events["thread"])])
    else:
        process = Process(info.pid, f"process {info.pid}")
    clock = Clock(info.monotonic_ns, info.realtime_ns, info.boottime_ns)
    return build(events, process, clock, ring.lost)
