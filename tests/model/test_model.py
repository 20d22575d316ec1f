"""Random operations on heaps and on a numpy shadow of them, compared all the time.

Two heaps with configurations of their own (mover, fault mode, ageing, nursery, threads, stress) go
through the same operations. After each of them the verifier runs; the graph extracted from each
heap must be the shadow's, value by value and reference by reference, and so the two agree (I9).

Every kind of writer stores: handles (``Ref``), scatters, graph loads, arrays of references small
and large by element, slice, mask and index array, and a thread in C with the inline barrier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from offered import offers_move

import gcheap
from gcheap import Heap, ObjectGraph, Ref, bridge
from gcheap.sources import generators
from gcheap.workloads import Beside, Schedule, replay

MOVERS = ("move", "copy", "simulated", "memcpy-fresh", "memcpy-sliding")
NODE_BYTES = 48
MAX_TABLES = 6
LARGE = 12_000  # references: an array of more than one block

configs = st.fixed_dictionaries(
    {
        "mover": st.sampled_from(MOVERS),
        "fault": st.sampled_from(["thread", "signal"]),
        "huge": st.sampled_from([False, True]),
        "huge_faults": st.sampled_from(["latency", "throughput"]),
        "staging": st.sampled_from(["512KiB", "2MiB", "auto"]),
        "nursery": st.sampled_from(["256KiB", "1MiB", "auto"]),
        "promote_age": st.integers(1, 4),
        "gc_threads": st.integers(1, 3),
        "stress": st.sampled_from([0, 0, 7]),
    }
)
seeds = st.integers(0, 2**32 - 1)
counts = st.one_of(st.integers(0, 20), st.integers(1000, 5000), st.just(LARGE))


@dataclass
class Side:
    """A heap and what the machine holds in it."""

    heap: Heap
    node: gcheap.StructType
    tables: list[gcheap.RefArray] = field(default_factory=list)
    loads: list[gcheap.RefArray] = field(default_factory=list)
    blobs: list[gcheap.HeapArray] = field(default_factory=list)
    views: list[tuple[Any, Any]] = field(default_factory=list)


def open_side(config: dict[str, Any]) -> Side:
    try:
        heap = Heap("96MiB", **config)
    except gcheap.Unsupported:
        assert config.get("mover") != "move" or not offers_move()
        heap = Heap("96MiB", **{**config, "mover": "auto", "fault": "thread"})
    node = heap.struct("Node", next=Ref, other=Ref("Node"), tag="i8", weight="f4", data=Ref)
    return Side(heap, node)


def some_elements(how: str, n: int, rng: np.random.Generator) -> Any:
    """Draw an index into ``n`` elements, from either end; elements of an array come twice, too."""
    if how == "element":
        return int(rng.integers(-n, n))
    if how == "slice":
        a, b, step = (int(x) for x in rng.integers([0, 0, 1], [n, n + 1, 4]))
        return slice(a, b, step) if a <= b else slice(a, b or None, -step)
    if how == "mask":
        return rng.random(n) < rng.random()
    return rng.integers(-n, n, int(rng.integers(0, n + 1)))


class HeapMachine(RuleBasedStateMachine):
    """The shadow: objects are numbers; ``next``, ``other``, ``data`` by number, -1 is null."""

    @initialize(one=configs, two=configs)
    def open(self, one: dict[str, Any], two: dict[str, Any]) -> None:
        self.sides = [open_side(one), open_side(two)]
        self.next = np.empty(0, dtype=np.int64)
        self.other = np.empty(0, dtype=np.int64)
        self.data = np.empty(0, dtype=np.int64)  # index of a blob
        self.weight = np.empty(0, dtype=np.float32)
        self.tables: list[np.ndarray[Any, Any]] = []
        self.typed: list[bool] = []  # the table is known to hold nodes only
        self.blobs: list[np.ndarray[Any, Any]] = []
        self.loads: list[ObjectGraph] = []

    def new_nodes(self, n: int) -> np.ndarray[Any, Any]:
        ids = np.arange(n) + len(self.next)
        self.next = np.append(self.next, np.full(n, -1))
        self.other = np.append(self.other, np.full(n, -1))
        self.data = np.append(self.data, np.full(n, -1))
        self.weight = np.append(self.weight, np.zeros(n, dtype=np.float32))
        return ids

    # --- operations ------------------------------------------------------------------------------

    @precondition(lambda self: len(self.tables) < MAX_TABLES)
    @rule(n=counts)
    def new(self, n: int) -> None:
        ids = self.new_nodes(n)
        self.tables.append(ids)
        self.typed.append(True)
        for side in self.sides:
            side.tables.append(side.heap.new(side.node, n))
            side.tables[-1].tag = ids

    @precondition(lambda self: self.tables)
    @rule(seed=seeds)
    def scatter_weights(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        at = int(rng.integers(len(self.tables)))
        ids = self.tables[at]
        mask = (ids >= 0) & (rng.random(len(ids)) < rng.random())
        if not mask.any():
            return
        values = rng.random(int(mask.sum()), dtype=np.float32)
        for side in self.sides:
            side.tables[at][mask].weight = values
        # An object listed twice takes the last value, in numpy as in the heap.
        self.weight[ids[mask]] = values

    @precondition(lambda self: self.tables)
    @rule(seed=seeds, name=st.sampled_from(["next", "other"]), null=st.booleans())
    def scatter_references(self, seed: int, name: str, null: bool) -> None:
        rng = np.random.default_rng(seed)
        to, source = (int(x) for x in rng.integers(len(self.tables), size=2))
        ids = self.tables[to]
        places = np.flatnonzero((ids >= 0) & (rng.random(len(ids)) < rng.random()))
        if not len(places):
            return
        if null or not len(self.tables[source]):
            for side in self.sides:
                setattr(side.tables[to][places], name, None)
            getattr(self, name)[ids[places]] = -1
            return
        chosen = rng.integers(0, len(self.tables[source]), len(places))
        for side in self.sides:
            setattr(side.tables[to][places], name, side.tables[source][chosen])
        getattr(self, name)[ids[places]] = self.tables[source][chosen]

    @precondition(lambda self: any(len(table) for table in self.tables))
    @rule(seed=seeds)
    def store_by_handle(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        full = [at for at, table in enumerate(self.tables) if len(table)]
        (to, i), (source, j) = (
            (at, int(rng.integers(len(self.tables[at]))))
            for at in (int(x) for x in rng.choice(full, 2))
        )
        target, value = self.tables[to][i], self.tables[source][j]
        for side in self.sides:
            ref = side.tables[to][i]
            assert ref.is_null == (target < 0)
            if target >= 0:
                ref.next = side.tables[source][j]
                assert ref.next == side.tables[source][j]
                assert ref.tag == target
        if target >= 0:
            self.next[target] = value

    @precondition(lambda self: self.tables and len(self.tables) < MAX_TABLES)
    @rule(seed=seeds, how=st.sampled_from(["next", "other", "take"]))
    def gather_references(self, seed: int, how: str) -> None:
        rng = np.random.default_rng(seed)
        at = int(rng.integers(len(self.tables)))
        ids = self.tables[at]
        if how == "take":
            chosen = rng.integers(0, max(1, len(ids)), int(rng.integers(0, 3000)) * bool(len(ids)))
            self.tables.append(ids[chosen])
            self.typed.append(self.typed[at])
            for side in self.sides:
                side.tables.append(side.tables[at][chosen])
            return
        if not (ids >= 0).any():
            return
        self.tables.append(getattr(self, how)[ids[ids >= 0]])
        self.typed.append(how == "other")
        for side in self.sides:
            table = side.tables[at]
            side.tables.append(getattr(table[~table.is_null], how))

    @precondition(lambda self: self.tables)
    @rule(seed=seeds)
    def clear_elements(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        at = int(rng.integers(len(self.tables)))
        mask = rng.random(len(self.tables[at])) < rng.random()
        self.tables[at] = np.where(mask, -1, self.tables[at])
        for side in self.sides:
            side.tables[at][mask] = None

    @precondition(lambda self: sum(map(len, self.tables)))
    @rule(
        seed=seeds,
        how=st.sampled_from(["element", "slice", "mask", "index"]),
        one=st.booleans(),
        young=st.booleans(),
    )
    def store_elements(self, seed: int, how: str, one: bool, young: bool) -> None:
        """One object, or as many references as elements, into a table that exists.

        ``young``: the table is old, and the objects are new; nothing but the table keeps them.
        """
        rng = np.random.default_rng(seed)
        full = [at for at, table in enumerate(self.tables) if len(table)]
        to, source = (int(x) for x in rng.choice(full, 2))
        ids = self.tables[to]
        key: Any = some_elements(how, len(ids), rng)
        one = one or how == "element"
        count = 1 if how == "element" else len(ids[key])
        chosen = rng.integers(0, len(self.tables[source]), 1 if one else count)
        values = self.new_nodes(len(chosen)) if young else self.tables[source][chosen]
        for side in self.sides:
            if young:
                side.heap.collect(minor=True, promote=True)
                refs = side.heap.new(side.node, len(chosen))
                refs.tag = values
            else:
                refs = side.tables[source][chosen]
            side.tables[to][key] = refs[0] if one else refs
        ids[key] = values[0] if one else values

    @precondition(lambda self: any(len(table) for table in self.tables))
    @rule(seed=seeds, how=st.sampled_from(["within", "between", "fill", "swap"]))
    def copy_elements(self, seed: int, how: str) -> None:
        """Runs that may overlap, between tables of one kind; one object for many; swaps."""
        rng = np.random.default_rng(seed)
        full = [at for at, table in enumerate(self.tables) if len(table)]
        to = int(rng.choice(full))
        like = [at for at in full if self.typed[at] == self.typed[to]]
        source = to if how == "within" else int(rng.choice(like))
        ids, others = self.tables[to], self.tables[source]
        count = int(rng.integers(0, min(len(ids), len(others)) + 1))
        a, b = int(rng.integers(len(ids) - count + 1)), int(rng.integers(len(others) - count + 1))
        i, j = int(rng.integers(len(ids))), int(rng.integers(len(others)))
        for side in self.sides:
            table, values = side.tables[to], side.tables[source]
            if how == "within":
                table.copy_within(a, b, b + count)
            elif how == "between":
                table[a : a + count] = values[b : b + count]
            elif how == "fill":
                table[a : a + count] = values[j]
            else:
                assert table.compare_and_swap(i, table[i], values[j])
                assert table.exchange(i, values[j]) == values[j]
        if how == "swap":
            ids[i] = others[j]
        else:
            ids[a : a + count] = others[j] if how == "fill" else others[b : b + count].copy()

    @precondition(lambda self: self.tables)
    @rule(seed=seeds)
    def resize_table(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        at = int(rng.integers(len(self.tables)))
        ids = self.tables[at]
        count = int(rng.choice([0, len(ids) // 2, len(ids) + 1, 2 * len(ids) + 5, 200_000]))
        self.tables[at] = np.append(ids[:count], np.full(max(0, count - len(ids)), -1))
        for side in self.sides:
            side.tables[at].resize(count)

    @precondition(lambda self: any(blob is not None for blob in self.sides[0].blobs))
    @rule(seed=seeds)
    def resize_blob(self, seed: int) -> None:
        """A new object may come of it, which no node refers to; not while views are open."""
        rng = np.random.default_rng(seed)
        alive = [at for at, blob in enumerate(self.sides[0].blobs) if blob is not None]
        at = int(rng.choice(alive))
        values = self.blobs[at]
        if self.sides[0].views or (self.data == at).any():
            return
        count = int(rng.choice([0, len(values) // 3, len(values) + 9, 3 * len(values), 1_500_000]))
        self.blobs[at] = np.append(values[:count], np.zeros(max(0, count - len(values)), np.uint8))
        for side in self.sides:
            side.blobs[at].resize(count)

    @precondition(lambda self: self.tables)
    @rule(seed=seeds)
    def drop_table(self, seed: int) -> None:
        at = seed % len(self.tables)
        del self.tables[at], self.typed[at]
        for side in self.sides:
            del side.tables[at]

    @rule(seed=seeds, n=st.sampled_from([0, 3, 200, 3000, 40_000]))
    def new_blob(self, seed: int, n: int) -> None:
        values = np.random.default_rng(seed).integers(0, 256, n, dtype=np.uint8)
        self.blobs.append(values)
        full = [at for at, table in enumerate(self.tables) if len(table) and table[0] >= 0]
        for side in self.sides:
            blob = side.heap.array("u1", n)
            blob.write(values)
            side.blobs.append(blob)
            if full:
                side.tables[full[0]][0].data = blob
        if full:
            self.data[self.tables[full[0]][0]] = len(self.blobs) - 1

    @precondition(lambda self: any(blob is not None for blob in self.sides[0].blobs))
    @rule(seed=seeds)
    def forget_blob(self, seed: int) -> None:
        alive = [at for at, blob in enumerate(self.sides[0].blobs) if blob is not None]
        at = alive[seed % len(alive)]
        for side in self.sides:
            side.blobs[at] = None  # type: ignore[call-overload]

    @precondition(lambda self: any(blob is not None for blob in self.sides[0].blobs))
    @rule(seed=seeds)
    def pin(self, seed: int) -> None:
        alive = [at for at, blob in enumerate(self.sides[0].blobs) if blob is not None]
        at = alive[seed % len(alive)]
        self.blobs[at][...] = seed % 251
        for side in self.sides:
            view = side.blobs[at].view()
            array = view.__enter__()
            array[...] = seed % 251
            side.views.append((view, array))

    @precondition(lambda self: self.sides[0].views)
    @rule()
    def unpin(self) -> None:
        for side in self.sides:
            view, _array = side.views.pop()
            view.__exit__(None, None, None)

    @precondition(lambda self: len(self.loads) < 3)
    @rule(seed=seeds)
    def load(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        graph = generators.mixed(int(rng.integers(1000, 1 << 20)), rng)
        self.loads.append(graph)
        for side in self.sides:
            side.loads.append(side.heap.load(graph))

    @precondition(lambda self: self.loads)
    @rule(seed=seeds, policy=st.sampled_from(["needed", "all"]), concurrent=st.booleans())
    def store_from_c(self, seed: int, policy: Any, concurrent: bool) -> None:
        """A thread in C stores with the inline barrier, before, in and after a collection."""
        rng = np.random.default_rng(seed)
        at = int(rng.integers(len(self.loads)))
        graph = self.loads[at]
        if not len(graph.roots):
            return
        schedule = Schedule.random(
            len(graph.roots), rng, int(rng.integers(1, 5000)), store_every=int(rng.integers(1, 4))
        )
        ops = int(rng.integers(1, 20_000))
        self.loads[at], checksum = replay(graph, schedule, ops)
        for side in self.sides:
            beside = Beside(side.heap, side.loads[at], schedule, max_ops=ops, gap_capacity=16)
            beside.start()
            side.heap.collect(policy=policy, concurrent=concurrent)
            result = beside.finish(now=False)
            assert (result.ops, result.checksum) == (ops, checksum)
            assert result.failed_allocs == 0

    @precondition(lambda self: self.loads)
    @rule()
    def drop_load(self) -> None:
        self.loads.pop()
        for side in self.sides:
            side.loads.pop()

    @rule(promote=st.booleans())
    def minor(self, promote: bool) -> None:
        for side in self.sides:
            assert side.heap.collect(minor=True, promote=promote).minor

    @rule(
        policy=st.sampled_from(["needed", "all", "release"]),
        concurrent=st.booleans(),
        background=st.booleans(),
    )
    def major(self, policy: Any, concurrent: bool, background: bool) -> None:
        for side in self.sides:
            side.heap.collect(policy=policy, concurrent=concurrent)

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def verified(self) -> None:
        for side in getattr(self, "sides", []):
            side.heap.verify()

    @invariant()
    def equal_to_the_shadow(self) -> None:
        for side in getattr(self, "sides", []):
            for table, ids in zip(side.tables, self.tables, strict=True):
                live = ids >= 0
                assert np.array_equal(table.is_null, ~live)
                held = table[live]
                assert np.array_equal(held.tag if len(held) else ids[live], ids[live])
                if len(held):
                    assert np.array_equal(held.weight, self.weight[ids[live]])
            for _view, array in side.views:
                assert len(np.unique(array)) <= 1
            for blob, values in zip(side.blobs, self.blobs, strict=True):
                assert blob is None or np.array_equal(blob.read(), values)

    @invariant()
    def extracted_as_the_shadow_says(self) -> None:
        if not hasattr(self, "sides"):
            return
        expected = self.shadow_graph()
        for side in self.sides:
            everything = side.heap.refs(side.tables)
            difference = expected.diff(side.heap.extract(everything))
            assert difference is None, difference
            for table, graph in zip(side.loads, self.loads, strict=True):
                assert graph.diff(bridge.extract(table)) is None

    def shadow_graph(self) -> ObjectGraph:
        """Nodes, then blobs, then tables; the tables are the roots."""
        n, b = len(self.next), len(self.blobs)
        slots = np.stack([self.next, self.other, np.where(self.data < 0, -1, self.data + n)], 1)
        lengths = np.array([len(table) for table in self.tables], dtype=np.int64)
        degrees = np.concatenate([np.full(n, 3), np.zeros(b, dtype=np.int64), lengths])
        sizes = np.concatenate(
            [
                np.full(n, NODE_BYTES),
                np.array([16 + len(blob) for blob in self.blobs], dtype=np.int64),
                np.maximum(16, 8 + 8 * lengths),
            ]
        )
        kinds = np.repeat([0, 1], [n, b])
        tables = 2 + np.array(self.typed, dtype=np.int64)
        names = ("Node", "|u1[]", "Ref[]", "Node[]")
        return ObjectGraph(
            sizes.astype(np.uint64),
            np.concatenate([kinds, tables]).astype(np.uint32),
            np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64),
            np.concatenate([slots.reshape(-1), *self.tables]).astype(np.int64),
            n + b + np.arange(len(self.tables), dtype=np.int64),
            names,
        )

    def teardown(self) -> None:
        for side in getattr(self, "sides", []):
            side.views.clear()
            side.heap.close()


HeapMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, print_blob=True
)
TestHeap = HeapMachine.TestCase
