"""The memory a process really has: anonymous pages, shared backing once, page tables.

Samplers read status, statm-like files and fstat, never smaps, which would hold the lock that a flip
needs. Peaks are the kernel's own (VmHWM) except where memory is a shared object mapped twice, which
the kernel counts twice: there a thread samples.

A collection is two stories. Until its plan is made memory may be given back (dead blocks), so what
the process had *before* says nothing of what moving costs. So a ``MoveWatch``, a native thread,
follows the heap's phase: it resets the high-water mark when the move phase begins, and its samples,
matched to the cycle's events, say what there was then.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._errors import exception_for
from gcheap._ffi import ffi, lib, text
from gcheap._memory import cgroup_usage_files
from gcheap.compare.measure import Window, Windows
from gcheap.heap import Heap
from gcheap.stats import GCEvent

__all__ = [
    "SAMPLE_DTYPE",
    "MoveWatch",
    "PeakMeter",
    "peak_share",
    "physical_bytes",
    "shared_backing_bytes",
]

SAMPLE_DTYPE = np.dtype(
    [
        (name, "u8")
        for name in ("time", "resident", "shared", "other", "mem_free", "cgroup", "allocated")
    ]
)
"""See memory_sample in native/workloads/memory_watch.h."""
NEAR_NS = 2_000_000
"""A sample farther from the beginning of the move phase does not tell what there was then."""
FIGURES = (
    "physical_at_flip",
    "physical_peak_moving",
    "allocated_moving",
    "mem_free_at_flip",
    "mem_free_least_moving",
    "cgroup_at_flip",
    "cgroup_peak_moving",
)
_INTERVAL_S = 0.002
_SAMPLES = 1 << 16


def status() -> dict[str, int]:
    """Return the sizes of /proc/self/status in bytes."""
    values: dict[str, int] = {}
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()
            if len(words) == 3 and words[2] == "kB":
                values[words[0][:-1]] = int(words[1]) * 1024
    return values


def physical_bytes() -> int:
    """Return RssAnon + shared backing once + page tables of this process."""
    now = status()
    shared = _memfds()
    backing = sum(_backing(fd) for fd in shared) if shared else now.get("RssShmem", 0)
    return now.get("RssAnon", 0) + backing + now.get("VmPTE", 0)


def shared_backing_bytes() -> int:
    """Return what the memfds of this process hold."""
    return sum(_backing(fd) for fd in _memfds())


def _memfds() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:"):
                found.append(int(name))
        except OSError:
            continue
    return found


def _backing(fd: int) -> int:
    try:
        return os.fstat(fd).st_blocks * 512
    except OSError:
        return 0


def peak_share(run: dict[str, Any]) -> float | None:
    """Return a run's peak in the move phase over what there was when it began.

    What the collector may take (staging) and what the program allocated meanwhile is left out of
    the peak. Where pages are huge, memory that is charged to the cgroup (without one: that is no
    longer free) counts where it is more than what the process is said to have.

    Returns:
        None if the move phase was not seen, or there was none.
    """
    at_flip = run["physical_at_flip"]
    if at_flip is None:
        return None
    grown = run["physical_peak_moving"] - at_flip
    if run["huge"]:
        if run["cgroup_at_flip"] is not None:
            other = run["cgroup_peak_moving"] - run["cgroup_at_flip"]
        else:
            other = run["mem_free_at_flip"] - run["mem_free_least_moving"]
        grown = max(grown, other)
    own = at_flip + grown - run["staging_bytes"] - run["allocated_moving"]
    return float(own / at_flip)


def _open_cgroup() -> int:
    """Open the file that says what this process's memory cgroup is charged with; -1: none."""
    for file in cgroup_usage_files():
        try:
            return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
    return -1


class PeakMeter:
    """Measures the largest ``physical_bytes`` within a ``with``; ``peak`` is there afterwards."""

    def __init__(self) -> None:
        self.peak = 0
        self._sampled = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PeakMeter:
        if _memfds():
            self._thread = threading.Thread(target=self._sample, name="peak", daemon=True)
            self._thread.start()
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return self

    def __exit__(self, *raised: object) -> None:
        if self._thread is None:
            now = status()
            self.peak = now.get("VmHWM", 0) - now.get("RssFile", 0) + now.get("VmPTE", 0)
        else:
            self._stop.set()
            self._thread.join()
            self.peak = max(self._sampled, physical_bytes())

    def _sample(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self._sampled = max(self._sampled, physical_bytes())


class MoveWatch:
    """Watches the memory of a heap's move phase within a ``with``.

    Attributes:
        samples: SAMPLE_DTYPE, in order; there afterwards, like
        peak_before: physical memory at most until the last move phase began, 0 if none was seen.
    """

    def __init__(self, heap: Heap) -> None:
        self.samples: npt.NDArray[np.void] = np.zeros(0, dtype=SAMPLE_DTYPE)
        self.peak_before = 0
        self._heap = heap
        self._room = np.zeros(_SAMPLES, dtype=SAMPLE_DTYPE)
        self._backing = np.array(_memfds(), dtype=np.int32)
        self._reset_ns = self._peak_moving = 0
        self._cgroup = -1
        self._native: Any = None

    def __enter__(self) -> MoveWatch:
        config = ffi.new("memory_watch_config *")
        config.samples = ffi.cast("memory_sample *", self._room.ctypes.data)
        config.capacity = len(self._room)
        config.backing = ffi.cast("const int32_t *", self._backing.ctypes.data)
        config.backing_count = len(self._backing)
        config.cgroup = self._cgroup = _open_cgroup()
        out, error = ffi.new("memory_watch **"), ffi.new("gch_error *")
        status = self._heap._core.call_heap(lib.memory_watch_start, config, out, error)
        if status != lib.GCH_OK:
            self._close_cgroup()
            raise exception_for(status, text(error.message))
        self._native = out[0]
        return self

    def __exit__(self, *raised: object) -> None:
        result = ffi.new("memory_watch_result *")
        native, self._native = self._native, None
        lib.memory_watch_finish(native, result)
        self._close_cgroup()
        self.samples = self._room[: min(int(result.count), len(self._room))]
        self.samples = self.samples[self.samples["time"] != 0]
        self.peak_before = int(result.peak_before)
        self._reset_ns, self._peak_moving = int(result.reset_ns), int(result.peak_moving)

    def figures(self, cycle: GCEvent | None, windows: Windows, baseline: int) -> dict[str, Any]:
        """Describe a cycle's move phase; None for what was not seen.

        Args:
            cycle: the collection, None if there was none.
            windows: its windows.
            baseline: physical memory without the heap, which is left out.
        """
        moving, at = windows.moving, self._beside(windows.moving)
        if cycle is None or moving is None or at is None:
            return dict.fromkeys(FIGURES)
        resident = cycle.physical_at_flip or int(at["resident"])
        at_flip = resident - int(at["shared"]) + int(at["other"])
        within = self._within(moving)
        sampled = within["resident"] - within["shared"] + within["other"]
        peak = max(at_flip, *sampled.tolist())
        if moving[0] <= self._reset_ns <= moving[1]:
            peak = max(peak, self._peak_moving)
        in_cgroup = at["cgroup"] != 0
        return {
            "physical_at_flip": at_flip - baseline,
            "physical_peak_moving": peak - baseline,
            "allocated_moving": max(0, int(within["allocated"][-1]) - int(at["allocated"])),
            "mem_free_at_flip": int(at["mem_free"]),
            "mem_free_least_moving": min(int(at["mem_free"]), *within["mem_free"].tolist()),
            "cgroup_at_flip": int(at["cgroup"]) if in_cgroup else None,
            "cgroup_peak_moving": (
                max(int(at["cgroup"]), *within["cgroup"].tolist()) if in_cgroup else None
            ),
        }

    def _beside(self, moving: Window | None) -> Any:
        """Return the sample nearest to the beginning of the move phase."""
        if moving is None or not len(self.samples):
            return None
        away = np.abs(self.samples["time"].astype(np.int64) - moving[0])
        nearest = int(away.argmin())
        return self.samples[nearest] if away[nearest] <= NEAR_NS else None

    def _close_cgroup(self) -> None:
        if self._cgroup >= 0:
            os.close(self._cgroup)
        self._cgroup = -1

    def _within(self, moving: Window) -> npt.NDArray[np.void]:
        """Return the samples of the move phase and the first one after it."""
        times = self.samples["time"].astype(np.int64)
        first, after = np.searchsorted(times, moving)
        return self.samples[min(first, len(times) - 1) : after + 1]
