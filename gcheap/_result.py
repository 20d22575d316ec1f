"""The shape of every command's JSON: schema, machine, input, runs, summary.

``machine`` says where figures come from, ``input`` what was worked on, ``runs`` is one object a
measured run, ``summary`` what follows from them. The schemas lie in gcheap/schema, a file a command
and version.
"""

from __future__ import annotations

import json
import os
import platform
from importlib import resources
from pathlib import Path
from typing import Any

from gcheap._files import replacing

__all__ = [
    "SCHEMA_VERSION",
    "available_bytes",
    "load_schema",
    "machine",
    "meminfo",
    "result",
    "write_json",
]

SCHEMA_VERSION = 1


def result(
    machine: dict[str, Any],
    input: dict[str, Any],
    runs: list[dict[str, Any]],
    summary: dict[str, Any],
) -> dict[str, Any]:
    """Return the envelope around what a command found."""
    return {
        "schema": SCHEMA_VERSION,
        "machine": machine,
        "input": input,
        "runs": runs,
        "summary": summary,
    }


def load_schema(command: str) -> dict[str, Any]:
    """Return the JSON schema of a command's results."""
    file = resources.files("gcheap") / "schema" / f"{command}-{SCHEMA_VERSION}.json"
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def write_json(path: str | os.PathLike[str], document: dict[str, Any]) -> None:
    """Write a result to a file, "-" for standard output."""
    text = json.dumps(document, indent=1, allow_nan=False)
    if os.fspath(path) == "-":
        print(text)
    else:
        with replacing(path) as file:
            file.write((text + "\n").encode())


def machine() -> dict[str, Any]:
    """Describe the machine and the software in values that JSON can hold."""
    from gcheap import __version__
    from gcheap.doctor import examine

    found = examine(calibrate=False)
    memory = meminfo()
    return {
        "kernel": found.kernel_release,
        "cpu": cpu_model(),
        "cpus": found.cpus,
        "memory_bytes": memory.get("MemTotal", 0),
        "memory_available_bytes": memory.get("MemAvailable", 0),
        "load": round(os.getloadavg()[0], 2),
        "page_bytes": found.page_bytes,
        "huge_bytes": found.huge_bytes,
        "huge_policy": found.huge_policy,
        "mover": found.chosen,
        "mover_reason": found.chosen_reason,
        "privileged": os.geteuid() == 0,
        "gcheap": __version__,
        "python": platform.python_version(),
    }


def meminfo() -> dict[str, int]:
    """Return /proc/meminfo in bytes; what is counted in pages is left out."""
    values: dict[str, int] = {}
    for line in _lines("/proc/meminfo"):
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
    for line in _lines("/proc/self/cgroup"):
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
    for line in _lines(str(folder / "memory.stat")):
        if line.startswith("total_inactive_file " if v1 else "inactive_file "):
            cached = int(line.split()[1])
    return max(0, limit - used + cached)


def _number(file: Path) -> int | None:
    lines = _lines(str(file))
    return int(lines[0]) if lines and lines[0].isdigit() else None


def cpu_model() -> str:
    """Return the processor's name, or its architecture where the kernel does not tell."""
    for line in _lines("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
