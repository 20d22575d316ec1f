"""A dump of a real JVM: read, walked the plain way, and through a heap. Skipped without Java."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gcheap.graph import ObjectGraph
from gcheap.heap import Heap
from gcheap.sources.hprof import read_hprof

PROGRAM = """
import java.util.*;
public class Held {
    static class Node { Node left, right; long tag; }
    static class Wide extends Node { byte b; Object more; }
    static Object[] held;
    static Node tree(int depth) {
        Node node = depth % 2 == 0 ? new Node() : new Wide();
        if (depth > 1) { node.left = tree(depth - 1); node.right = tree(depth - 1); }
        return node;
    }
    public static void main(String[] arguments) throws Exception {
        HashMap<Integer, String> map = new HashMap<>();
        for (int i = 0; i < 1000; i++) map.put(i, "value " + i);
        held = new Object[] {tree(10), map, new double[123456], new int[3][5], null};
        System.out.println(ProcessHandle.current().pid());
        System.in.read();
    }
}
"""


@pytest.fixture(scope="module")
def real_dump(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    java, jmap = shutil.which("java"), shutil.which("jmap")
    if java is None or jmap is None:
        pytest.skip("there is no java or no jmap")
    folder = tmp_path_factory.mktemp("java")
    (folder / "Held.java").write_text(PROGRAM)
    path = folder / "held.hprof"
    with subprocess.Popen(
        [java, "-Xmx256m", str(folder / "Held.java")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            pid = program.stdout.readline().strip()
            if not pid:
                pytest.skip(f"java does not run a source file: {program.communicate()[1][-300:]}")
            dump = f"-dump:live,format=b,file={path}"
            done = subprocess.run([jmap, dump, pid], capture_output=True, text=True, timeout=60)
            if done.returncode != 0:
                pytest.skip(f"jmap cannot attach: {done.stderr[-300:]}")
        finally:
            program.kill()
    yield path
    path.unlink()


def by_type(graph: ObjectGraph, name: str) -> npt.NDArray[np.int64]:
    return np.flatnonzero(graph.types == graph.type_names.index(name))


def test_a_real_dump(real_dump: Path) -> None:
    graph, counts = read_hprof(real_dump)
    assert counts.repeated == counts.unknown_class == 0
    nodes, wides = by_type(graph, "Held$Node"), by_type(graph, "Held$Wide")
    assert len(nodes) + len(wides) == 2**10 - 1
    assert set(graph.sizes[nodes].tolist()) == {8 + 2 * 8 + 8}
    assert set(graph.sizes[wides].tolist()) == {8 + 3 * 8 + 8 + 1}
    arrays = by_type(graph, "double[]")
    assert graph.sizes[arrays].max() == 8 + 123456 * 8
    tables = by_type(graph, "int[][]")
    rows = [graph.indices[graph.indptr[i] : graph.indptr[i + 1]] for i in tables]
    ours = [row for row in rows if len(row) == 3 and (row >= 0).all()]
    assert any(
        set(graph.sizes[row].tolist()) == {28}
        and {graph.type_names[t] for t in graph.types[row]} == {"int[]"}
        for row in ours
    )
    live = graph.reachable()
    assert live[nodes].all()
    assert live[arrays[graph.sizes[arrays].argmax()]]


def test_a_real_dump_through_a_heap(real_dump: Path) -> None:
    graph = ObjectGraph.from_hprof(real_dump)
    with Heap(max(64 << 20, 4 * graph.nbytes)) as heap:
        table = heap.load(graph)
        heap.collect(policy="all")
        heap.verify()
        assert graph.diff(heap.extract(table)) is None


def test_a_real_dump_agrees_with_a_plain_walk(real_dump: Path) -> None:
    """Objects and bytes of contents, found one record after the other."""
    data = real_dump.read_bytes()
    graph = ObjectGraph.from_hprof(real_dump)
    found = plain_walk(data)
    assert graph.n_nodes == len(found)
    places = {number: at for at, number in enumerate(found)}
    arrays = [(number, row) for number, row in found.items() if row is not None]
    assert len(arrays) > 100
    for number, row in arrays:
        node = places[number]
        slots = graph.indices[graph.indptr[node] : graph.indptr[node + 1]].tolist()
        assert slots == [places.get(one, -1) for one in row]


def plain_walk(data: bytes) -> dict[int, tuple[int, ...] | None]:
    """Identifier -> elements of an object array, None of others; classes first. 8-byte ones."""
    classes: dict[int, tuple[int, ...] | None] = {}
    others: dict[int, tuple[int, ...] | None] = {}
    widths = {2: 8, 4: 1, 5: 2, 6: 4, 7: 8, 8: 1, 9: 2, 10: 4, 11: 8}
    roots = {0xFF: 9, 1: 17, 2: 17, 3: 17, 4: 13, 5: 9, 6: 13, 7: 9, 8: 17}
    at = 31
    while at < len(data):
        tag, _, length = struct.unpack_from(">BII", data, at)
        at, end = at + 9, at + 9 + length
        while tag in (0x0C, 0x1C) and at < end:
            sub = data[at]
            number = int.from_bytes(data[at + 1 : at + 9], "big")
            if sub in roots:
                at += roots[sub]
            elif sub == 0x21:
                others[number] = None
                at += 25 + int.from_bytes(data[at + 21 : at + 25], "big")
            elif sub in (0x22, 0x23):
                count = int.from_bytes(data[at + 13 : at + 17], "big")
                others[number] = (
                    struct.unpack_from(f">{count}Q", data, at + 25) if sub == 0x22 else None
                )
                at += 25 + 8 * count if sub == 0x22 else 18 + count * widths[data[at + 17]]
            else:
                assert sub == 0x20
                classes[number] = None
                at += 9 + 4 + 6 * 8 + 4
                for before in (2, 8):
                    count = int.from_bytes(data[at : at + 2], "big")
                    at += 2
                    for _ in range(count):
                        at += before + 1 + widths[data[at + before]]
                at += 2 + 9 * int.from_bytes(data[at : at + 2], "big")
        at = end
    return classes | others
