"""A memory cgroup of a test."""

from __future__ import annotations

import contextlib
from pathlib import Path


class Group:
    """A memory cgroup, version 1 or 2."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.v2 = (path / "memory.max").exists()

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def usage(self) -> int:
        name = "memory.current" if self.v2 else "memory.usage_in_bytes"
        return int((self.path / name).read_text())

    def limit(self, size: int) -> None:
        name = "memory.max" if self.v2 else "memory.limit_in_bytes"
        (self.path / name).write_text(str(size))
        with contextlib.suppress(OSError):
            swap = "memory.swap.max" if self.v2 else "memory.memsw.limit_in_bytes"
            (self.path / swap).write_text("0" if self.v2 else str(size))
