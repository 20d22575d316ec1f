"""What this machine swaps."""

from __future__ import annotations

from pathlib import Path


def swapped_out() -> int:
    """Pages that this machine has written to swap since it booted."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        name, value = line.split()
        if name == "pswpout":
            return int(value)
    return 0
