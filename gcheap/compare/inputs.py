"""The graph that every run loads: found, aged, and written once where all workers map it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._memory import available_bytes
from gcheap.graph import ObjectGraph
from gcheap.sources.ageing import Ageing, ageing
from gcheap.workloads import Schedule

__all__ = ["DEFAULT_BYTES", "Prepared", "prepare", "read_prepared", "shadow_of", "write_prepared"]

DEFAULT_BYTES = 256 << 20
"""Bytes of the graph before it ages, unless a live size is asked for."""
REFILL = 0.1
ARRAYS_AND_HEAP = 2
"""Memory that a comparison takes at least, as a multiple of the graph."""
GRAPH_ARRAYS = ("sizes", "types", "indptr", "indices", "roots")
AGEING_ARRAYS = (
    "dropped",
    "drop_entries",
    "clear_nodes",
    "clear_slots",
    "refill_entries",
    "refill_nodes",
)
SYNTHETIC = "synthetic:"
HEAP_DUMPS = (".hprof", ".hprof.gz")
"""Endings of the names of Java heap dumps; any other file is an ``.npz``."""

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What a run needs.

    Attributes:
        ageing: the graph to load, what to drop and refill.
        shadow: what must be live afterwards; node i has label i, dropped ones are unreachable.
        schedule: what the mutator does.
    """

    ageing: Ageing
    shadow: ObjectGraph
    schedule: Schedule


def prepare(
    source: str,
    live_bytes: int | None,
    drop: float,
    seed: int,
    *,
    default_bytes: int = DEFAULT_BYTES,
    log: Callable[[str], None] | None = None,
) -> tuple[Prepared, dict[str, Any]]:
    """Make the input of a comparison, and describe it.

    Args:
        source: "interpreter", "synthetic:KIND" or the path of an ``.npz`` or a Java heap dump
            (``.hprof``, ``.hprof.gz``).
        live_bytes: what is to live when the collection starts; None: a graph of ``default_bytes``
            before it ages (a file once as it is).
        drop: share of the objects that die.
        seed: of all chance.
        default_bytes: see ``live_bytes``.
        log: called with a line about once a second while a heap dump is read.

    Raises:
        ValueError: no such source, nothing would live, or it is more than the machine holds.
        GraphFormatError, OSError: the file.
    """
    refill = min(REFILL, drop)
    stays = 1.0 - drop + refill
    wanted = None if live_bytes is None else math.ceil(live_bytes / stays)
    _check_memory(source, wanted)
    rng = np.random.default_rng(seed)
    graph = _graph(source, wanted, default_bytes, seed, log)
    if graph.n_nodes == 0:
        raise ValueError(f"{source} holds no object")
    plan = ageing(graph, rng, drop=drop, refill=refill)
    prepared = Prepared(plan, shadow_of(plan), Schedule.random(len(plan.graph.roots), rng))
    return prepared, _describe(source, prepared, drop, refill, seed)


def _check_memory(source: str, wanted: int | None) -> None:
    available = available_bytes()
    needed = ARRAYS_AND_HEAP * (wanted or 0)
    if available and needed > available:
        raise ValueError(
            f"{source}: a graph of {wanted} bytes before it ages takes about {needed >> 20} MiB, "
            f"expected at most the {available >> 20} MiB that are available; ask for less --live"
        )


def _graph(
    source: str,
    wanted: int | None,
    default: int,
    seed: int,
    log: Callable[[str], None] | None,
) -> ObjectGraph:
    if source.startswith(SYNTHETIC):
        from gcheap.sources.generators import generate

        return generate(source.removeprefix(SYNTHETIC), wanted or default, seed)
    if source == "interpreter":
        from gcheap.sources.interpreter import capture_in_subprocess

        return _repeated(capture_in_subprocess(), wanted or default)
    is_dump = source.lower().endswith(HEAP_DUMPS)
    graph = ObjectGraph.from_hprof(source, log=log) if is_dump else ObjectGraph.load(source)
    return graph if wanted is None else _repeated(graph, wanted)


def _repeated(graph: ObjectGraph, nbytes: int) -> ObjectGraph:
    copies = max(1, round(nbytes / max(1, graph.nbytes)))
    return graph if copies == 1 else graph.repeat(copies)


def shadow_of(plan: Ageing) -> ObjectGraph:
    """Return the graph after ageing in the numbers of the labels that the heap's objects carry."""
    graph = plan.graph
    indptr, survivors = plan.refill_references()
    new = graph.n_nodes + np.arange(len(plan.refill_nodes), dtype=np.int64)
    roots = _cleared(graph.roots, plan.dropped)
    roots[plan.refill_entries] = new
    return ObjectGraph(
        sizes=np.concatenate([graph.sizes, graph.sizes[plan.refill_nodes]]),
        types=np.concatenate([graph.types, graph.types[plan.refill_nodes]]),
        indptr=np.concatenate([graph.indptr, graph.indptr[-1] + indptr[1:]]),
        indices=np.concatenate([_cleared(graph.indices, plan.dropped), survivors]),
        roots=roots,
        type_names=graph.type_names,
    )


def _cleared(nodes: Int64Array, dropped: npt.NDArray[np.bool_]) -> Int64Array:
    return np.where(np.append(dropped, False)[nodes], -1, nodes)  # the last one answers for -1


def _describe(
    source: str, prepared: Prepared, drop: float, refill: float, seed: int
) -> dict[str, Any]:
    plan = prepared.ageing
    summary = plan.graph.summary()
    return {
        "source": source,
        "seed": seed,
        "drop": drop,
        "refill": refill,
        "objects": summary["objects"],
        "edges": summary["edges"],
        "bytes": summary["bytes"],
        "leaf_share": summary["leaf_share"],
        "live_objects": int(np.count_nonzero(~plan.dropped)) + len(plan.refill_nodes),
    }


# --- through a folder -----------------------------------------------------------------------------


def write_prepared(folder: Path, prepared: Prepared) -> None:
    """Write the arrays to ``folder``, a file each."""
    for name, array in _arrays(prepared).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    names = json.dumps(prepared.shadow.type_names)
    (folder / "type_names.json").write_text(names, encoding="utf-8")


def read_prepared(folder: Path) -> Prepared:
    """Map the arrays that ``write_prepared`` wrote: file pages, not counted as the heap's."""
    names = tuple(json.loads((folder / "type_names.json").read_text(encoding="utf-8")))

    def mapped(name: str) -> npt.NDArray[Any]:
        return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))

    loaded = ObjectGraph(**{n: mapped(f"graph-{n}") for n in GRAPH_ARRAYS}, type_names=names)
    shadow = ObjectGraph(**{n: mapped(f"shadow-{n}") for n in GRAPH_ARRAYS}, type_names=names)
    plan = Ageing(graph=loaded, **{name: mapped(name) for name in AGEING_ARRAYS})
    # Copied: the mutator's first pass would fault on mapped ones.
    return Prepared(plan, shadow, Schedule(np.array(mapped("starts")), np.array(mapped("turns"))))


def _arrays(prepared: Prepared) -> Mapping[str, npt.NDArray[Any]]:
    plan = prepared.ageing
    return {
        **{f"graph-{name}": getattr(plan.graph, name) for name in GRAPH_ARRAYS},
        **{f"shadow-{name}": getattr(prepared.shadow, name) for name in GRAPH_ARRAYS},
        **{name: getattr(plan, name) for name in AGEING_ARRAYS},
        "starts": prepared.schedule.starts,
        "turns": prepared.schedule.turns,
    }
