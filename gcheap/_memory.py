"""How much memory the machine has, and what the process's control groups leave of it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["available_bytes", "cgroup_usage_files", "meminfo", "read_lines"]


def meminfo() -> dict[str, int]:
    """Return /proc/meminfo in bytes; what is counted in pages is left out."""
    values: dict[str, int] = {}
    for line in read_lines("/proc/meminfo"):
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            values[name] = int(words[0]) * 1024
    return values


def available_bytes() -> int:
    """Return how much memory the process may still take: what the kernel says is available, or what
    its control groups (v1 or v2) leave of their limits, whichever is less; 0 if nothing says."""
    rooms = [room for room in map(_room, _cgroup_folders()) if room is not None]
    return min([meminfo().get("MemAvailable", 0), *rooms])


def _cgroup_folders() -> list[Path]:
    """Return the folders of the process's memory control group and of those around it."""
    for line in read_lines("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = Path("/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup")
        inner = mount / path.lstrip("/")
        return [mount] + [p for p in (inner, *inner.parents) if mount in p.parents]
    return []


def cgroup_usage_files() -> list[Path]:
    """Return what may say how much the process's memory control group is charged with, best first.

    In a container the group's own folder may not be there: the mount then shows it as the root.
    """
    folders = _cgroup_folders()
    names = ("memory.current", "memory.usage_in_bytes")
    return [folder / name for folder in (*folders[1:2], *folders[:1]) for name in names]


def _room(folder: Path) -> int | None:
    """Return what the control group has left, None where it has no limit. Cached pages of files
    that are not in use count as left: the kernel drops them first."""
    v1 = (folder / "memory.limit_in_bytes").exists()
    limit = _number(folder / ("memory.limit_in_bytes" if v1 else "memory.max"))
    used = _number(folder / ("memory.usage_in_bytes" if v1 else "memory.current"))
    if limit is None or used is None:
        return None
    cached = 0
    for line in read_lines(str(folder / "memory.stat")):
        if line.startswith("total_inactive_file " if v1 else "inactive_file "):
            cached = int(line.split()[1])
    return max(0, limit - used + cached)


def _number(file: Path) -> int | None:
    lines = read_lines(str(file))
    return int(lines[0]) if lines and lines[0].isdigit() else None


def read_lines(path: str) -> list[str]:
    """Return the lines of a file, none if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
