"""Classes of an HPROF heap dump: where the fields of their instances are, and names as in Java."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gcheap.sources._hprof import ClassDump, Dump
from gcheap.sources._hprof_format import PRIMITIVES, REFERENCE

__all__ = ["Layouts", "java_name"]

NAMES_IN_ARRAYS = dict(zip("ZCFDBSIJ", (name for name, _ in PRIMITIVES.values()), strict=True))
MAX_NAME_LENGTH = 200

Int64Array = npt.NDArray[np.int64]


class Layouts:
    """Where the fields of instances are: those of the class first, then of its superclasses."""

    def __init__(
        self, dump: Dump, class_ids: npt.NDArray[np.uint64], classes: list[ClassDump]
    ) -> None:
        self._classes = classes
        self._widths = {kind: width for kind, (_, width) in PRIMITIVES.items()}
        self._widths[REFERENCE] = dump.id_bytes
        row_of = {one: row for row, one in enumerate(class_ids.tolist())}
        self._super = [row_of.get(one.super_id, -1) for one in classes]
        self._own = [sum(map(self._widths.__getitem__, one.field_types)) for one in classes]
        self.total = np.zeros(len(classes), dtype=np.int64)
        """Bytes of an instance's fields, for each class."""
        # The next class up the chain that has fields: what is skipped is paid for only once.
        self._next = [-1] * len(classes)
        for row in _supers_first(dump, self._super, classes):
            above = self._super[row]
            if above >= 0:
                self.total[row] = self.total[above]
                self._next[row] = above if self._own[above] else self._next[above]
            self.total[row] += self._own[row]

    def offsets(self, row: int) -> Int64Array:
        """Return the offsets of the reference fields of an instance, ascending."""
        found: list[int] = []
        at = 0
        while row >= 0:
            for kind in self._classes[row].field_types:
                if kind == REFERENCE:
                    found.append(at)
                at += self._widths[kind]
            row = self._next[row]
        return np.array(found, dtype=np.int64)


def _supers_first(dump: Dump, above: list[int], classes: list[ClassDump]) -> list[int]:
    """Return all classes, each after its superclass.

    Raises:
        GraphFormatError: a class is its own superclass.
    """
    order: list[int] = []
    state = bytearray(len(above))  # 1 on the way, 2 in the order
    for start in range(len(above)):
        way = []
        row = start
        while row >= 0 and state[row] == 0:
            state[row] = 1
            way.append(row)
            row = above[row]
        if row >= 0 and state[row] == 1:
            raise dump.fail(
                classes[row].at, "a class that is its own superclass, expected a chain that ends"
            )
        for row in reversed(way):
            state[row] = 2
            order.append(row)
    return order


def java_name(raw: str) -> str:
    """Return a class name as Java writes it: ``[Ljava/lang/String;`` is ``java.lang.String[]``."""
    base = raw.lstrip("[")
    dimensions = len(raw) - len(base)
    if dimensions:
        base = NAMES_IN_ARRAYS.get(base, base.removeprefix("L").removesuffix(";"))
    return (base.replace("/", ".") + "[]" * dimensions)[:MAX_NAME_LENGTH]
