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
from typing import Any

from gcheap._files import replacing
from gcheap._memory import meminfo, read_lines

__all__ = [
    "SCHEMA_VERSION",
    "load_schema",
    "machine",
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


def cpu_model() -> str:
    """Return the processor's name, or its architecture where the kernel does not tell."""
    for line in read_lines("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
