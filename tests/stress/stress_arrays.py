"""Python threads read and write through arrays of references and structs while everything moves.

    python tests/stress/stress_arrays.py SECONDS [SEED]

Each mutator has objects of its own on one heap and keeps a numpy shadow of them; a thread collects,
concurrently and in the pause, by turns. After every few operations the checksum of what the heap
holds must be the shadow's. Every configuration of the list gets its share of the time. One whose
mover does not work here is left out, and said so: a failure where the kernel offers UFFDIO_MOVE.
"""

from __future__ import annotations

import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gcheap

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from offered import offers_move, trial_rules

MUTATORS = 3
NODES = 3000
LARGE = 40_000  # references in a large array
RENEWALS = 40  # of objects, until a mutator begins afresh: the shadow keeps the dead ones
OPERATIONS_PER_CHECK = 20


class Configuration(NamedTuple):
    mover: str
    fault: str
    huge: bool = False
    inject: str | None = None
    concurrent: bool = True


CONFIGURATIONS = (
    Configuration("move", "thread"),
    Configuration("move", "signal"),
    Configuration("move", "thread", huge=True),
    Configuration("move", "signal", inject="move:EBUSY@p=0.1,seed=1"),
    Configuration("move", "thread", inject="move:EAGAIN@partial=4096,p=0.05,seed=3"),
    Configuration("copy", "thread"),
    Configuration("copy", "signal"),
    Configuration("simulated", "thread"),
    Configuration("memcpy", "thread", concurrent=False),
)


class DifferenceError(AssertionError):
    """The heap holds something else than the shadow."""


def checksum(arrays: dict[str, np.ndarray[Any, Any]]) -> int:
    crc = 0
    for array in arrays.values():
        crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc)
    return crc


class Mutator:
    """Objects with a number each, its ``tag``; the shadow by that number."""

    def __init__(self, heap: gcheap.Heap, node: gcheap.StructType, seed: int) -> None:
        self.heap, self.node = heap, node
        self.rng = np.random.default_rng(seed)
        self.operations = 0
        self.begin()

    def begin(self) -> None:
        self.renewals = 0
        self.weight = np.empty(0)
        self.next = np.empty(0, dtype=np.int64)
        self.table = self.heap.refs(NODES)
        self.ids = np.empty(NODES, dtype=np.int64)
        self.put(np.arange(NODES))
        chosen = self.rng.integers(0, NODES, LARGE)
        self.large, self.large_ids = self.table[chosen], self.ids[chosen]
        self.blob = self.heap.array("i8", int(self.rng.integers(1, 60_000)))
        self.numbers = self.rng.integers(0, 1 << 40, self.blob.size)
        self.blob.write(self.numbers)

    def put(self, places: np.ndarray[Any, Any]) -> None:
        """New objects, each referring to itself, into these places of the table."""
        made = self.heap.new(self.node, len(places))
        ids = np.arange(len(places)) + len(self.weight)
        weights = self.rng.random(len(places))
        made.tag, made.weight, made.next = ids, weights, made
        self.table[places] = made
        self.ids[places] = ids
        self.weight = np.append(self.weight, weights)
        self.next = np.append(self.next, ids)

    def some(self, limit: int) -> np.ndarray[Any, Any]:
        return self.rng.choice(limit, int(self.rng.integers(1, limit // 2)), replace=False)

    # --- operations: each on the heap, then on the shadow ----------------------------------------

    def renew(self) -> None:
        self.put(self.some(NODES))
        self.renewals += 1
        if self.renewals == RENEWALS:
            self.begin()

    def scatter(self) -> None:
        places = self.some(NODES)
        values = self.rng.random(len(places))
        self.table[places].weight = values
        self.weight[self.ids[places]] = values

    def scatter_references(self) -> None:
        places = self.some(NODES)
        sources = self.rng.integers(0, NODES, len(places))
        self.table[places].next = self.table[sources]
        self.next[self.ids[places]] = self.ids[sources]

    def store_by_handle(self) -> None:
        for i, j in self.rng.integers(0, NODES, (20, 2)):
            ref, value = self.table[int(i)], self.table[int(j)]
            ref.next, ref.weight = value, float(j)
            self.next[self.ids[i]], self.weight[self.ids[i]] = self.ids[j], float(j)

    def store_into_large_array(self) -> None:
        places = self.some(LARGE)
        sources = self.rng.integers(0, NODES, len(places))
        self.large[places] = self.table[sources]
        self.large_ids[places] = self.ids[sources]

    def write_through_a_view(self) -> None:
        """Pinned: numpy keeps the address while everything else moves."""
        at = self.some(self.blob.size + 3) % self.blob.size
        with self.blob.view() as view:
            view[at] = at * 3
            time.sleep(0)
            self.numbers[at] = at * 3
            if not np.array_equal(view, self.numbers):
                raise DifferenceError("a pinned view")

    # --- comparison ------------------------------------------------------------------------------

    def check(self) -> None:
        table, large, follow = self.table, self.large, self.next[self.ids]
        beyond = table.next
        heap = {
            "tag": table.tag,
            "weight": table.weight,
            "next.tag": beyond.tag,
            "next.weight": beyond.weight,
            "next.next.tag": beyond.next.tag,
            "large.tag": large.tag,
            "large.weight": large.weight,
            "blob": self.blob.read(),
        }
        shadow = {
            "tag": self.ids,
            "weight": self.weight[self.ids],
            "next.tag": follow,
            "next.weight": self.weight[follow],
            "next.next.tag": self.next[follow],
            "large.tag": self.large_ids,
            "large.weight": self.weight[self.large_ids],
            "blob": self.numbers,
        }
        if checksum(heap) == checksum(shadow):
            return
        for name, values in heap.items():
            wrong = np.flatnonzero(values != shadow[name])
            if len(wrong):
                at = wrong[0]
                raise DifferenceError(f"{name}[{at}] is {values[at]}, expected {shadow[name][at]}")
        raise DifferenceError("of another type")

    def step(self) -> None:
        operations = (
            self.renew,
            self.scatter,
            self.scatter_references,
            self.store_by_handle,
            self.store_into_large_array,
            self.write_through_a_view,
        )
        operations[int(self.rng.integers(len(operations)))]()
        self.operations += 1
        if self.operations % OPERATIONS_PER_CHECK == 0:
            self.check()


class Session:
    """One configuration: its threads, what went wrong, how many majors there were."""

    def __init__(self, heap: gcheap.Heap, concurrent: bool, seed: int, seconds: float) -> None:
        self.heap, self.concurrent, self.seed = heap, concurrent, seed
        self.end = time.monotonic() + seconds
        self.node = heap.struct("Node", next=gcheap.Ref("Node"), tag="i8", weight="f8")
        self.failures: list[str] = []
        self.majors = self.flips = self.operations = self.faults = 0
        self.lock = threading.Lock()

    def running(self) -> bool:
        return not self.failures and time.monotonic() < self.end

    def guarded(self, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            self.failures.append(f"{type(error).__name__}: {error}")

    def mutate(self, number: int) -> None:
        mutator = Mutator(self.heap, self.node, self.seed * 100 + number)
        while self.running():
            mutator.step()
        mutator.check()
        with self.lock:
            self.operations += mutator.operations

    def collect(self) -> None:
        rng = np.random.default_rng(self.seed)
        while self.running():
            policy = ("all", "needed", "release")[int(rng.integers(3))]
            concurrent = self.concurrent and rng.random() < 0.9
            event = self.heap.collect(concurrent=concurrent, policy=policy)  # type: ignore[arg-type]
            self.majors += 1
            self.flips += event.concurrent
            self.faults += event.faults_served
            self.heap.collect(minor=True, promote=bool(rng.random() < 0.5))
            if self.majors % 20 == 0:
                self.heap.verify()

    def run(self) -> None:
        threads = [
            threading.Thread(target=self.guarded, args=(self.mutate, number))
            for number in range(MUTATORS)
        ]
        threads.append(threading.Thread(target=self.guarded, args=(self.collect,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.guarded(self.heap.verify)
        if self.operations == 0 or (self.flips if self.concurrent else self.majors) == 0:
            self.failures.append("nothing was collected beside the mutators")


def describe(c: Configuration) -> str:
    flags = f"{' huge' if c.huge else ''}{f' {c.inject}' if c.inject else ''}"
    return f"{c.mover} {c.fault}{flags}"


def play(c: Configuration, seed: int, seconds: float) -> list[str]:
    """Return what went wrong."""
    try:
        gcheap.Heap("4MiB", mover=c.mover, fault=c.fault, inject=trial_rules()).close()
    except gcheap.Unsupported as error:
        if c.mover == "move" and offers_move():
            return [f"this kernel offers UFFDIO_MOVE, but there is no heap with it: {error}"]
        print(f"  {describe(c)}: SKIP {error}")
        return []
    with gcheap.Heap(
        "192MiB", mover=c.mover, fault=c.fault, huge=c.huge, nursery="512KiB", inject=c.inject
    ) as heap:
        session = Session(heap, c.concurrent, seed, seconds)
        session.run()
    print(
        f"  {describe(c)}: {session.operations} operations, {session.majors} majors, "
        f"{session.flips} concurrent, {session.faults} faults",
        flush=True,
    )
    return session.failures


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 6.0
    seed = int(arguments[1]) if len(arguments) > 1 else time.time_ns() % 1_000_000
    print(f"stress_arrays {seconds:g} {seed}", flush=True)
    for number, configuration in enumerate(CONFIGURATIONS):
        share = seconds / len(CONFIGURATIONS)
        failures = play(configuration, seed + number, share)
        for failure in failures:
            print(
                f"stress_arrays: {describe(configuration)} seed {seed}: {failure}", file=sys.stderr
            )
        if failures:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
