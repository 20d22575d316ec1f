"""Heaps of other processes, as their ring files show them: ``RingFile``, and where such files lie.

A heap writes a ring file if it is asked to (``Heap(ring=...)``, the environment variable
GCHEAP_RING): events, figures and a map of its memory. It is read without the help of that process,
which notices nothing, and after its end: what a process that was killed leaves is a flight
recorder.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gcheap._errors import exception_for
from gcheap._ffi import ffi, lib, text
from gcheap.stats import EVENT_DTYPE, EventArray, HeapStats

__all__ = ["ARENA_DTYPE", "Live", "RingFile", "RingInfo", "find", "folder", "open_target", "prune"]

State = Literal["open", "closed", "dead", "truncated"]

STATES: dict[int, State] = {
    lib.GCH_RING_OPEN: "open",
    lib.GCH_RING_CLOSED: "closed",
    lib.GCH_RING_DEAD: "dead",
    lib.GCH_RING_TRUNCATED: "truncated",
}
ARENA_DTYPE = np.dtype(
    [("arena", "u4"), ("space", "u1"), ("populated", "u1"), ("live", "u1"), ("huge", "u1")]
)
"""An arena of 2 MiB that has memory: its number from the heap's lowest address on; space as in
``Heap.map``; ``populated`` and ``live`` in blocks of 64 KiB (of 32; ``live`` 255: not known)."""
NOT_KNOWN = 255
_NAME = re.compile(r"(\d+)-\d+\.ring")
_READ = 4096


@dataclass(frozen=True, slots=True)
class RingInfo:
    """What does not change. The times are one moment, when the heap was made, on three clocks, in
    ns; events are on the first of them."""

    version: int
    pid: int
    process_start: int
    monotonic_ns: int
    realtime_ns: int
    boottime_ns: int
    event_capacity: int
    base: int
    span: int
    page_bytes: int
    block_bytes: int
    arena_bytes: int
    map_capacity: int
    library: str


@dataclass(frozen=True, slots=True)
class Live:
    """Figures of a heap at a time (CLOCK_MONOTONIC, ns), taken some ten times a second."""

    time: int
    phase: str
    stats: HeapStats


class RingFile:
    """A ring file, open for reading. Not for several threads at a time.

    Args:
        path: of the file.

    Raises:
        ValueError: it is none, of another version, damaged, of another user, or cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._pointer: Any = None
        out, error = ffi.new("gch_ring **"), ffi.new("gch_error *")
        status = lib.gch_ring_open(os.fsencode(self.path), out, error)
        if status != lib.GCH_OK:
            raise exception_for(status, text(error.message))
        self._pointer = out[0]
        native = ffi.new("gch_ring_info *")
        lib.gch_ring_info_get(self._pointer, native, ffi.sizeof("gch_ring_info"))
        values = {name: getattr(native, name) for name in RingInfo.__dataclass_fields__}
        values["library"] = text(native.library)
        self.info = RingInfo(**values)
        self.lost = 0
        """Events that were overwritten before they were read."""

    @property
    def state(self) -> State:
        """Whether the heap is in use (open), was closed, has ended with its process (dead), or the
        file was cut off (truncated)."""
        return STATES[lib.gch_ring_state_get(self._open())]

    def events(self, since: int = 0) -> tuple[EventArray, int]:
        """Return the events from number ``since`` on, and the number to go on with."""
        ring = self._open()
        sequence, lost = ffi.new("uint64_t *", since), ffi.new("uint64_t *")
        parts = [np.empty(0, dtype=EVENT_DTYPE)]
        while sum(map(len, parts)) <= self.info.event_capacity:  # a writer may be quicker than we
            part = np.empty(_READ, dtype=EVENT_DTYPE)
            into = ffi.cast("gch_event *", part.ctypes.data)
            count = lib.gch_ring_events(ring, sequence, into, len(part), lost)
            parts.append(part[:count])
            if count < _READ:
                break
        self.lost += int(lost[0])
        return np.concatenate(parts), int(sequence[0])

    def live(self) -> Live | None:
        """Return the latest figures, None if there are none (yet)."""
        native = ffi.new("gch_ring_live *")
        if not lib.gch_ring_live_get(self._open(), native, ffi.sizeof("gch_ring_live")):
            return None
        phase = text(lib.gch_phase_name(native.phase))
        return Live(int(native.time), phase, HeapStats.from_native(native.stats))

    def map(self) -> tuple[npt.NDArray[np.void], int]:
        """Return the arenas that have memory (array of ``ARENA_DTYPE``, by address), and how many
        more there are, for which the file has no room."""
        ring, unlisted = self._open(), ffi.new("uint64_t *")
        arenas = np.zeros(self.info.map_capacity, dtype=ARENA_DTYPE)
        into = ffi.cast("gch_arena_info *", arenas.ctypes.data)
        count = lib.gch_ring_map(ring, into, len(arenas), unlisted)
        listed = arenas[: min(count, len(arenas))]
        return listed[np.argsort(listed["arena"], kind="stable")], int(unlisted[0])

    def _open(self) -> Any:
        if self._pointer is None:
            raise ValueError(f"{self.path}: the ring file is closed")
        return self._pointer

    def close(self) -> None:
        """Let the file go. Closing twice does nothing."""
        if self._pointer is not None:
            pointer, self._pointer = self._pointer, None
            lib.gch_ring_close(pointer)

    def __enter__(self) -> RingFile:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


# --- where they are ------------------------------------------------------------------------------


def folder() -> Path:
    """Return where GCHEAP_RING=auto puts files of this user; it need not exist."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return Path(runtime) / "gcheap"
    return Path(f"/tmp/gcheap-{os.geteuid()}")


def _folders() -> list[Path]:
    """Return the folders to look in: the user's own, and one that GCHEAP_RING names."""
    places = [folder()]
    named = os.environ.get("GCHEAP_RING", "")
    if named not in ("", "auto") and os.path.isdir(named):
        places.append(Path(named))
    return places


def find(pid: int | None = None) -> list[Path]:
    """Return the ring files there are, those of a process only if ``pid`` is given."""
    found = []
    for place in _folders():
        with contextlib.suppress(OSError):
            for file in place.iterdir():
                match = _NAME.fullmatch(file.name)
                if match and pid in (None, int(match.group(1))):
                    found.append(file)
    return sorted(found, key=_numbers)


def _numbers(file: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", file.stem)))


def open_target(target: str) -> RingFile:
    """Open a ring file by its path, or that of a process by its number.

    Raises:
        ValueError: there is none, or several.
    """
    if not target.isdecimal() or os.path.exists(target):
        return RingFile(target)
    files = find(int(target))
    if not files:
        places = " and ".join(map(str, _folders()))
        raise ValueError(
            f"process {target} has no ring file in {places}; it writes one if GCHEAP_RING=auto was"
            " in its environment (or where Heap(ring=...) says: name the file then)"
        )
    if len(files) > 1:
        raise ValueError(
            f"process {target} has {len(files)} heaps, name one: {', '.join(map(str, files))}"
        )
    return RingFile(files[0])


def _dead() -> Iterator[Path]:
    for file in find():
        try:
            with RingFile(file) as ring:
                if ring.state == "dead":
                    yield file
        except ValueError:
            continue  # one that is being made, or is of another version


def prune() -> list[Path]:
    """Remove the files of processes that are gone; return what was removed."""
    gone = []
    for file in list(_dead()):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
            gone.append(file)
    return gone
