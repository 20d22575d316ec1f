"""Ageing: what turns a freshly loaded heap into a fragmented one. Fill, drop, refill.

Dropping an object takes more than clearing its entry in the root table: whatever survives may refer
to it still. So a schedule clears both, the entries and the survivors' slots, and then exactly the
chosen objects are garbage. This needs every object to be in the table: a graph whose roots do not
list all objects (a list, an interpreter) is aged with a table that does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcheap._bfs import gather_slots
from gcheap._victims import DropMode, choose_victims
from gcheap.graph import ObjectGraph

__all__ = ["Ageing", "ageing"]

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Ageing:
    """A schedule: load ``graph``, drop, collect or not, refill; node ids are those of ``graph``.

    Attributes:
        graph: what to load; its roots are the root table and list every object.
        dropped: bool (n,), the objects that become garbage.
        drop_entries: int64, the root-table entries to clear.
        clear_nodes: int64 (c,), survivors of which a slot is to be cleared ...
        clear_slots: int64 (c,), ... and which slot, 0 is the object's first reference.
        refill_entries: int64 (f,), the root-table entries (cleared before) that take a new object
            each.
        refill_nodes: int64 (f,), the dropped object that the new one repeats: type, size and
            references, those to dropped objects null. New objects do not refer to each other.
    """

    graph: ObjectGraph
    dropped: BoolArray
    drop_entries: Int64Array
    clear_nodes: Int64Array
    clear_slots: Int64Array
    refill_entries: Int64Array
    refill_nodes: Int64Array

    @property
    def order(self) -> Int64Array:
        """The origin of each object of ``expected()``, int64: survivors, then ``refill_nodes``."""
        return np.concatenate([np.flatnonzero(~self.dropped), self.refill_nodes])

    def refill_references(self) -> tuple[Int64Array, Int64Array]:
        """Return the new objects' references: indptr (f + 1,) and survivors' ids, -1 = null."""
        counts = self.graph.degrees[self.refill_nodes]
        indptr = np.zeros(len(counts) + 1, dtype=np.int64)
        np.cumsum(counts, out=indptr[1:])
        slots = gather_slots(self.graph.indptr, self.graph.indices, self.refill_nodes)
        return indptr, self._without_dropped(slots)

    def after_drop(self) -> ObjectGraph:
        """Return the graph that is live after the drop: the survivors in order."""
        return self.graph.subgraph(~self.dropped)

    def expected(self) -> ObjectGraph:
        """Return what is live after the refill: the numpy shadow, numbered as ``order``."""
        roots = self._without_dropped(self.graph.roots)
        roots[self.refill_entries] = self.refill_nodes
        graph = self.graph
        cleared = ObjectGraph(
            graph.sizes,
            graph.types,
            graph.indptr,
            self._without_dropped(graph.indices),
            roots,
            graph.type_names,
        )
        return cleared.renumbered(self.order)

    def _without_dropped(self, nodes: Int64Array) -> Int64Array:
        return np.where(self.dropped[nodes] & (nodes >= 0), -1, nodes)


def ageing(
    graph: ObjectGraph,
    rng: np.random.Generator,
    drop: float = 0.6,
    refill: float = 0.1,
    mode: DropMode = "mixed",
    run: int = 100,
) -> Ageing:
    """Plan how a heap that holds ``graph`` ages.

    Args:
        graph: the graph; if its roots do not list every object, ``graph.holding_all()`` is aged.
        rng: the source of chance.
        drop: share of the objects to drop, 0 to 1.
        refill: new objects as a share of all objects, 0 to ``drop``.
        mode: "mixed": half of the drops one by one, half in runs of ``run`` consecutive objects;
            "uniform", "runs": all one way.
        run: objects in a run.

    Returns:
        The schedule. After the drop ``1 - drop`` of the objects live, after the refill
        ``1 - drop + refill`` of them; of the bytes nearly the same share, as the choice is blind.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0.0 <= refill <= drop:
        raise ValueError(f"refill is {refill}, expected 0 to drop ({drop})")
    graph = _all_held(graph)
    dropped = choose_victims(graph.n_nodes, drop, rng, mode, run)
    drop_entries = np.flatnonzero(dropped[graph.roots] & (graph.roots >= 0))
    clear_nodes, clear_slots = _slots_to_clear(graph, dropped)
    victims, first_entry = np.unique(graph.roots[drop_entries], return_index=True)
    count = min(round(refill * graph.n_nodes), len(victims))
    chosen = np.sort(rng.choice(len(victims), count, replace=False, shuffle=False))
    return Ageing(
        graph=graph,
        dropped=dropped,
        drop_entries=drop_entries,
        clear_nodes=clear_nodes,
        clear_slots=clear_slots,
        refill_entries=drop_entries[first_entry[chosen]],
        refill_nodes=victims[chosen],
    )


def _all_held(graph: ObjectGraph) -> ObjectGraph:
    held = np.zeros(graph.n_nodes, dtype=np.bool_)
    held[graph.roots[graph.roots >= 0]] = True
    return graph if held.all() else graph.holding_all()


def _slots_to_clear(graph: ObjectGraph, dropped: BoolArray) -> tuple[Int64Array, Int64Array]:
    """Return (node, slot) of every reference from a survivor to a dropped object."""
    doomed = np.append(dropped, False)[graph.indices]  # the last entry answers for -1
    doomed &= np.repeat(~dropped, graph.degrees)
    slots = np.flatnonzero(doomed)
    nodes = np.searchsorted(graph.indptr, slots, side="right") - 1
    return nodes, slots - graph.indptr[nodes]
