"""What heaps take for their limit in a memory cgroup."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from groups import Group

pytestmark = [pytest.mark.machine, pytest.mark.timeout(60)]

MIB = 1 << 20
SCRIPT = """
import gcheap
with gcheap.Heap(mover="memcpy") as heap:
    stats = heap.stats
    print(stats.memory_bytes, stats.max_bytes, stats.soft_max_bytes, stats.limit_reason, sep="|")
with gcheap.Heap("1GiB", mover="memcpy") as heap:
    stats = heap.stats
    print(stats.memory_bytes, stats.max_bytes, stats.soft_max_bytes, stats.limit_reason, sep="|")
with gcheap.Heap("400MiB", mover="memcpy", nursery="1MiB") as heap:
    kept = heap.array("u1", 64 << 20)
    most = 0
    for _ in range(1000):
        heap.array("u1", 1 << 20)
        most = max(most, heap.stats.heap_bytes)
    print(most)
"""


def test_heaps_stay_within_what_the_group_allows(group: Group) -> None:
    group.limit(320 * MIB)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=50,
        preexec_fn=lambda: group.add(os.getpid()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    chosen, asked, most = done.stdout.splitlines()
    memory, limit, soft, why = chosen.split("|")
    assert [int(memory), int(limit), int(soft)] == [320 * MIB, 160 * MIB, 160 * MIB]
    assert why.startswith("half of the 320 MiB of control group ")
    memory, limit, soft, why = asked.split("|")
    assert [int(memory), int(limit), int(soft)] == [320 * MIB, 1024 * MIB, 240 * MIB]
    assert "to stay below three quarters of the 320 MiB of control group " in why
    assert int(most) <= 241 * MIB  # of a heap that might take 400, in a group that would kill it
