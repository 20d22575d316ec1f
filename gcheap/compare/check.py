"""Is the heap what it must be? Verifier, graph, payload, and what the mutator read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gcheap import bridge
from gcheap._errors import Corruption
from gcheap.graph import ObjectGraph, rounded
from gcheap.heap import Heap
from gcheap.refs import RefArray
from gcheap.workloads import BesideResult, Schedule, replay

__all__ = ["problem_of"]

Int64Array = npt.NDArray[np.int64]


def problem_of(
    heap: Heap, table: RefArray, shadow: ObjectGraph, schedule: Schedule, seen: BesideResult
) -> str:
    """Return "" if everything agrees with the shadow, else what does not, in a sentence.

    Args:
        heap: the heap, whose invariants are verified.
        table: the root table.
        shadow: the graph before the mutator's operations; node i is the object with label i.
        schedule: what the mutator did.
        seen: what it saw.
    """
    try:
        heap.verify()
        found, labels = bridge.extract_labelled(table)
    except Corruption as error:
        return str(error)
    expected, checksum = replay(shadow, schedule, seen.ops)
    if checksum != seen.checksum:
        return f"the mutator's checksum is {seen.checksum:#x}, the shadow's {checksum:#x}"
    if seen.failed_allocs:
        return f"{seen.failed_allocs} of the mutator's {seen.allocs} allocations failed"
    if _same(found, labels, expected):
        return ""
    return expected.diff(found) or "the objects' labels are not those of the shadow"


def _same(found: ObjectGraph, labels: Int64Array, expected: ObjectGraph) -> bool:
    """Say whether the graphs agree. The root table lists every object: it pairs them up."""
    if len(found.roots) != len(expected.roots):
        return False
    node_of = np.full(found.n_nodes + 1, -1, dtype=np.int64)  # the last one answers for null
    node_of[found.roots] = expected.roots
    node_of[-1] = -1
    if not np.array_equal(node_of[found.roots], expected.roots):
        return False
    nodes = node_of[:-1]
    if np.any(nodes < 0) or len(np.unique(nodes)) != len(nodes):
        return False
    if np.any((labels >= 0) & (labels != nodes)):
        return False
    wanted = expected.renumbered(nodes)
    names = {name: number for number, name in enumerate(expected.type_names)}
    number_of = np.array([names.get(name, -1) for name in found.type_names], dtype=np.int64)
    return (
        np.array_equal(found.indptr, wanted.indptr)
        and np.array_equal(found.indices, wanted.indices)
        and np.array_equal(rounded(found.sizes), rounded(wanted.sizes))
        and np.array_equal(number_of[found.types], wanted.types)
    )
