"""The object graph of a running CPython interpreter: types, sizes and references, no contents.

Tracked objects come from ``gc.get_objects``; everything they refer to, tracked or not (str, int,
bytes, ...), is found by ``gc.get_referents`` level by level. What C code holds outside objects is
not seen.

Sizes are those of ``sys.getsizeof`` (CPython's own headers included), raised where they do not hold
the 8-byte header and all references: a class or a module refers to more than its own memory lists.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap.graph import HEADER_BYTES, MIN_OBJECT_BYTES, SLOT_BYTES, ObjectGraph

__all__ = ["DEFAULT_MODULES", "capture_in_subprocess", "capture_interpreter"]

DEFAULT_MODULES = (
    "asyncio",
    "concurrent.futures",
    "ctypes",
    "decimal",
    "email.mime.multipart",
    "http.server",
    "json",
    "logging.handlers",
    "multiprocessing",
    "sqlite3",
    "statistics",
    "unittest.mock",
    "urllib.request",
    "xml.dom.minidom",
    "xmlrpc.client",
    "numpy",
    "numpy.ma",
    "numpy.polynomial",
    "numpy.testing",
    "click",
    "rich.console",
    "rich.progress",
    "rich.table",
    "matplotlib.pyplot",
)
"""Imported by default; those that are not installed are skipped."""
MAX_NAME_LENGTH = 200
_CHILD = "from gcheap.sources.interpreter import _child_main; _child_main()"

Int64Array = npt.NDArray[np.int64]


def capture_interpreter(modules: Sequence[str] | None = None) -> ObjectGraph:
    """Capture the live object graph of this interpreter.

    Args:
        modules: imported first, all of them or ImportError; None for those of ``DEFAULT_MODULES``
            that are installed; () for nothing.

    Returns:
        A graph in which every object is reachable. Roots: the modules of ``sys.modules`` in order,
        then the tracked objects that no other captured object refers to, then one object of each
        group that only C code or running functions hold. References are in the order of
        ``gc.get_referents``. The capture's own structures are left out.

    Raises:
        ImportError: a module asked for cannot be imported.
    """
    _import_modules(modules)
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _Capture(gc.get_objects()).graph()
    finally:
        if was_enabled:
            gc.enable()


def capture_in_subprocess(
    modules: Sequence[str] | None = None, *, timeout_s: float = 120.0
) -> ObjectGraph:
    """Capture the graph of a fresh interpreter, so that this one's own objects are not in it.

    Args:
        modules: as for ``capture_interpreter``.
        timeout_s: limit for the child, in seconds.

    Raises:
        RuntimeError: the child failed; the message ends with its last lines.
        subprocess.TimeoutExpired: it took too long.
    """
    with tempfile.TemporaryDirectory(prefix="gcheap-") as folder:
        path = os.path.join(folder, "interpreter.npz")
        wanted = None if modules is None else list(modules)
        search_path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, path, json.dumps(wanted)],
            env={**os.environ, "PYTHONPATH": search_path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            check=False,
        )
        if child.returncode != 0:
            last = "\n".join(child.stderr.decode(errors="replace").splitlines()[-5:])
            raise RuntimeError(f"capture process ended with status {child.returncode}:\n{last}")
        return ObjectGraph.load(path)


def _child_main() -> None:
    path, modules = sys.argv[1], json.loads(sys.argv[2])
    capture_interpreter(modules).save(path)


def _import_modules(modules: Sequence[str] | None) -> None:
    names = DEFAULT_MODULES if modules is None else modules
    if isinstance(names, str):
        raise TypeError(f"modules is the str {names!r}, expected a sequence of names")
    if not isinstance(names, Iterable):
        raise TypeError(f"modules is {names!r}, expected a sequence of names")
    for name in names:
        if not isinstance(name, str) or not name:
            raise TypeError(f"modules holds {name!r}, expected names of modules")
        try:
            importlib.import_module(name)
        except ImportError:
            if modules is not None:
                raise


class _Capture:
    """Objects and flat references of one capture; the lists keep every object and its id alive."""

    def __init__(self, tracked: list[Any]) -> None:
        self.objects: list[Any] = []
        self.n_tracked = 0
        self.degrees: list[int] = []
        self.targets: list[Int64Array] = []
        """ids of the references of each level, in order."""
        self.number: dict[int, int] = {}
        """From id to node."""
        self.own: set[int] = set()
        """ids of the structures above, which are not part of the graph."""
        lists = (self.objects, self.degrees, self.targets, self.number, self.own)
        self.own.update(map(id, (self, self.__dict__, tracked, *lists, *_own_frames())))
        self._collect(tracked)

    def _collect(self, tracked: list[Any]) -> None:
        """Follow references from ``tracked``, level by level."""
        level = [item for item in tracked if id(item) not in self.own]
        self.n_tracked = len(level)
        while level:
            self.number.update(
                zip(map(id, level), itertools.count(len(self.objects)), strict=False)
            )
            self.objects += level
            level = self._next_level(level)

    def _next_level(self, level: list[Any]) -> list[Any]:
        """Note the references of ``level``; return the objects seen for the first time."""
        references: list[Any] = []
        for item in level:
            found = gc.get_referents(item)
            self.degrees.append(len(found))
            references += found
        self.targets.append(np.fromiter(map(id, references), dtype=np.int64, count=len(references)))
        fresh = dict(zip(map(id, references), references, strict=True))
        known = self.number
        return [item for key, item in fresh.items() if key not in known and key not in self.own]

    def graph(self) -> ObjectGraph:
        """Turn what was collected into arrays."""
        indptr = np.zeros(len(self.objects) + 1, dtype=np.int64)
        np.cumsum(self.degrees, out=indptr[1:])
        types, type_names = _type_table(self.objects)
        graph = ObjectGraph(
            sizes=_sizes(self.objects, np.diff(indptr)),
            types=types,
            indptr=indptr,
            indices=self._numbers(np.concatenate([*self.targets, np.empty(0, np.int64)])),
            roots=self._module_roots(),
            type_names=type_names,
        )
        return _root_the_rest(graph, self.n_tracked)

    def _numbers(self, ids: Int64Array) -> Int64Array:
        """Translate ids to nodes; what was left out becomes -1."""
        find = self.number.get
        return np.fromiter((find(key, -1) for key in ids.tolist()), dtype=np.int64, count=len(ids))

    def _module_roots(self) -> Int64Array:
        ids = np.array([id(module) for module in sys.modules.values()], dtype=np.int64)
        nodes = self._numbers(ids)
        return nodes[nodes >= 0]


def _own_frames() -> Iterable[FrameType]:
    """Yield the frames of the capture itself; merely asking for them makes them objects."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals is globals():
        yield frame
        frame = frame.f_back


def _sizes(
    objects: list[Any], degrees: Int64Array
) -> npt.NDArray[np.uint32] | npt.NDArray[np.uint64]:
    """Return sys.getsizeof of each object, raised to hold a header and its references."""
    try:
        reported = np.fromiter(map(sys.getsizeof, objects), dtype=np.int64, count=len(objects))
    except Exception:  # any __sizeof__ may fail in its own way: then ask one by one
        reported = np.fromiter(map(_size_or_zero, objects), dtype=np.int64, count=len(objects))
    sizes = np.maximum(reported, np.maximum(HEADER_BYTES + SLOT_BYTES * degrees, MIN_OBJECT_BYTES))
    if len(sizes) and sizes.max() >= 2**32:
        return sizes.astype(np.uint64)
    return sizes.astype(np.uint32)


def _size_or_zero(item: Any) -> int:
    try:
        return min(sys.getsizeof(item), 2**62)
    except Exception:
        return 0


def _type_table(objects: list[Any]) -> tuple[npt.NDArray[np.uint32], tuple[str, ...]]:
    """Number the types of ``objects`` by name, in order of appearance; equal names are one."""
    kinds: dict[int, type] = {id(kind): kind for kind in map(type, objects)}
    names: dict[str, int] = {}
    number = {key: names.setdefault(_type_name(kind), len(names)) for key, kind in kinds.items()}
    keys = map(id, map(type, objects))
    types = np.fromiter(map(number.__getitem__, keys), dtype=np.uint32, count=len(objects))
    return types, tuple(names)


def _type_name(kind: type) -> str:
    try:
        module, name = (
            type.__getattribute__(kind, "__module__"),
            type.__getattribute__(kind, "__qualname__"),
        )
    except Exception:
        return "unknown"
    if not isinstance(module, str) or module == "builtins":
        return str(name)[:MAX_NAME_LENGTH]
    return f"{module}.{name}"[:MAX_NAME_LENGTH]


def _root_the_rest(graph: ObjectGraph, n_tracked: int) -> ObjectGraph:
    """Add the roots that modules do not reach, so that every object is reachable."""
    referred = np.zeros(graph.n_nodes + 1, dtype=np.bool_)
    sources = np.repeat(np.arange(graph.n_nodes, dtype=np.int64), graph.degrees)
    referred[graph.indices[graph.indices != sources]] = True
    unreferred = np.flatnonzero(~referred[:n_tracked])
    roots = np.concatenate([graph.roots, unreferred[~np.isin(unreferred, graph.roots)]])
    return graph.with_roots(
        np.concatenate([roots, _cycle_heads(graph.with_roots(roots), n_tracked)])
    )


def _cycle_heads(graph: ObjectGraph, n_tracked: int) -> Int64Array:
    """Return one tracked object of each group that the roots do not reach (a scalar search)."""
    seen = graph.reachable()
    heads: list[int] = []
    indptr, indices = graph.indptr, graph.indices
    for head in np.flatnonzero(~seen[:n_tracked]).tolist():
        if seen[head]:
            continue
        heads.append(head)
        seen[head] = True
        waiting = [head]
        while waiting:
            node = waiting.pop()
            targets = indices[indptr[node] : indptr[node + 1]]
            targets = np.unique(targets[targets >= 0])
            targets = targets[~seen[targets]]
            seen[targets] = True
            waiting += targets.tolist()
    return np.array(heads, dtype=np.int64)
