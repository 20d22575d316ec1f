"""The memory a process really has: anonymous pages, shared backing once, page tables.

Samplers read status, statm-like files and fstat, never smaps, which would hold the lock that a flip
needs. The peak is the kernel's own (VmHWM) except where memory is a shared object mapped twice,
which the kernel counts twice: there a thread samples.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["PeakMeter", "physical_bytes", "shared_backing_bytes"]

_INTERVAL_S = 0.002


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
