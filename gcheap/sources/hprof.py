"""The object graph of a Java heap dump (HPROF, binary, 1.0.1 and 1.0.2): shape only, no contents.

Objects are the classes, in the order of their dumps, then instances and arrays, in that of theirs.
A class object's slots are its superclass, loader, signers, protection domain and static fields; an
instance's are the reference fields of its class, then those of the superclasses; an object array's
are its elements. A null reference is a null slot, so that all instances of a class have one shape;
one to an object that is not in the dump becomes null, too, and a root to one is left out. Type
names are those of the classes, ``int[]`` or ``java.lang.String[]`` for arrays; classes of one name
are one type.

A dump does not say how objects lay in memory: sizes are those they have in gcheap, the header of 8
bytes, 8 for each reference, and their other fields or elements at their width.

Memory: the dump is read into memory once, so that nothing happens to it meanwhile; a compressed
one, and one that would take more than half of the memory available, is mapped from an unnamed
temporary file of its full size. Beside the graph itself, reading takes about 100 bytes an object,
and up to about 100 MiB for what is worked off at a time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcheap._graphcheck import HEADER_BYTES, MIN_OBJECT_BYTES, SLOT_BYTES
from gcheap._units import parse_size
from gcheap.graph import MAX_FILE_BYTES, ObjectGraph
from gcheap.sources._hprof import Dump, ids_at
from gcheap.sources._hprof_classes import Layouts, java_name
from gcheap.sources._hprof_file import Log, Progress, contents
from gcheap.sources._hprof_format import INSTANCE, OBJECT_ARRAY, PRIMITIVE_ARRAY, PRIMITIVES

__all__ = ["HprofCounts", "read_hprof"]

CLASS_NAME = "java.lang.Class"
UNKNOWN_NAME = "unknown"
SLOTS_AT_ONCE = 1 << 19

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class HprofCounts:
    """What a graph does not show of the dump that it was read from.

    Attributes:
        nulls: references that were null.
        dangling: references to objects that are not in the dump, null in the graph.
        dangling_roots: roots that were null or not in the dump, left out.
        repeated: dumps of an object that had been dumped before, left out.
        unknown_class: instances and object arrays whose class is not in the dump; the instances
            have no slots in the graph.
    """

    nulls: int
    dangling: int
    dangling_roots: int
    repeated: int
    unknown_class: int


def read_hprof(
    path: str | os.PathLike[str],
    *,
    max_bytes: int | str = MAX_FILE_BYTES,
    log: Log | None = None,
) -> tuple[ObjectGraph, HprofCounts]:
    """Read the object graph of a heap dump, compressed by gzip or not. Nothing in it is trusted.

    Args:
        path: the file.
        max_bytes: refuse a dump of more bytes, uncompressed; an integer or text such as "1GiB".
        log: called about once a second with a line that says how far it is, and with a last one.

    Raises:
        GraphFormatError: the file is no heap dump, or damaged; names it, the offset and what was
            expected.
        OSError: it cannot be opened, or there is no space for the copy in a temporary file.
    """
    limit = parse_size(max_bytes, "max_bytes")
    file = os.fsdecode(path)
    progress = Progress(log)
    dump = Dump(contents(file, limit, progress), file, progress)
    dump.read()
    graph, counts = _Assembly(dump).graph()
    progress.say(
        f"{graph.n_nodes:,} objects, {graph.n_slots:,} references, {len(graph.roots):,} roots; "
        f"not in the dump: {counts.dangling:,} references and {counts.dangling_roots:,} roots"
    )
    return graph, counts


class _Assembly:
    """Makes arrays of a dump that was read.

    An object's *row* says what it is an instance of: the number of a class; or ``unknown``; or
    ``primitive`` and more, an array of a primitive type. Nodes are the classes, then ``objects``.
    """

    def __init__(self, dump: Dump) -> None:
        self.dump = dump
        self.class_ids = np.array(list(dump.classes), dtype=np.uint64)
        self.classes = list(dump.classes.values())
        self.objects = dump.objects()
        self.repeated = dump.repeated_classes
        self.unknown = len(self.classes)
        self.primitive = self.unknown + 1
        self.n_rows = self.primitive + max(PRIMITIVES) + 1
        self._number()
        self.objects.id = self.class_ids[:0]  # in `ids` from now on
        self._find_rows()
        self.objects.kind = self.class_ids[:0]  # in `row`
        self.slots, self.offsets_from, self.offsets = self._reference_fields()

    def _number(self) -> None:
        """Order the identifiers; the first of equal ones stands."""
        ids = np.concatenate([self.class_ids, self.objects.id])
        self.order = np.argsort(ids, kind="stable")
        self.ids = ids[self.order]
        again = self.ids[1:] == self.ids[:-1]
        if again.any():
            keep = np.ones(len(ids), dtype=np.bool_)
            keep[self.order[1:][again]] = False
            self.repeated += int(np.count_nonzero(again))
            self.objects = self.objects.only(keep[len(self.classes) :])
            self._number()

    def _find_rows(self) -> None:
        kind, tag = self.objects.kind, self.objects.tag
        row = np.full(len(kind), self.unknown, dtype=np.int32)
        if self.classes:
            by_id = np.argsort(self.class_ids)
            place = np.searchsorted(self.class_ids, kind, sorter=by_id)
            found = by_id[np.minimum(place, len(by_id) - 1)]
            known = self.class_ids[found] == kind
            row[known] = found[known]
        plain = tag == PRIMITIVE_ARRAY
        row[plain] = self.primitive + kind[plain].astype(np.int32)
        self.row = row

    def _reference_fields(self) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Return, for each row, the reference fields of its instances and where their offsets
        begin; and these offsets, in the bytes of an instance."""
        layouts = Layouts(self.dump, self.class_ids, self.classes)
        instance = self.objects.tag == INSTANCE
        self._check_instances(instance, layouts.total)
        slots = np.zeros(self.n_rows, dtype=np.int64)
        parts = [np.zeros(1, dtype=np.int64)]  # one that answers for rows without any
        for row in np.unique(self.row[instance & (self.row < self.unknown)]).tolist():
            parts.append(layouts.offsets(row))
            slots[row] = len(parts[-1])
        begins = 1 + np.cumsum(slots) - slots
        return slots, begins, np.concatenate(parts)

    def _check_instances(self, instance: npt.NDArray[np.bool_], total: Int64Array) -> None:
        """Check that instances are as long as the fields of their class."""
        least = np.append(total, np.zeros(self.n_rows - len(total), dtype=np.int64))
        short = instance & (self.objects.length < least[self.row])
        if short.any():
            i = int(short.argmax())
            raise self.dump.fail(
                int(self.objects.at[i]),
                f"an instance of {self.objects.length[i]} bytes, expected {least[self.row[i]]} "
                f"for the fields of its class 0x{int(self.class_ids[self.row[i]]):x}",
            )

    def graph(self) -> tuple[ObjectGraph, HprofCounts]:
        """Return the graph, and what it does not show."""
        types, type_names = self._types()
        class_slots = np.array([len(one.slots) for one in self.classes], dtype=np.int64)
        tag = self.objects.tag
        length = self.objects.length.astype(np.int64)
        slots = np.where(tag == OBJECT_ARRAY, length, self.slots[self.row] * (tag == INSTANCE))
        indptr = np.zeros(len(types) + 1, dtype=np.int64)
        np.cumsum(np.concatenate([class_slots, slots]), out=indptr[1:])
        indices, nulls, dangling = self._indices(indptr)
        roots, null_roots, dangling_roots = self._nodes(np.array(self.dump.roots, dtype=np.uint64))
        graph = ObjectGraph(
            sizes=self._sizes(class_slots, slots, length),
            types=types,
            indptr=indptr,
            indices=indices,
            roots=roots[roots >= 0],
            type_names=type_names,
        )
        graph.validate()
        missing = (self.row == self.unknown) & (tag != PRIMITIVE_ARRAY)
        counts = HprofCounts(
            nulls=nulls,
            dangling=dangling,
            dangling_roots=null_roots + dangling_roots,
            repeated=self.repeated,
            unknown_class=int(np.count_nonzero(missing)),
        )
        return graph, counts

    def _sizes(
        self, class_slots: Int64Array, slots: Int64Array, length: Int64Array
    ) -> npt.NDArray[np.uint32] | npt.NDArray[np.uint64]:
        widths = np.zeros(max(PRIMITIVES) + 1, dtype=np.int64)
        for kind, (_, width) in PRIMITIVES.items():
            widths[kind] = width
        tag = self.objects.tag
        plain = tag == PRIMITIVE_ARRAY
        payload = np.where(
            tag == INSTANCE, length + slots * (SLOT_BYTES - self.dump.id_bytes), slots * SLOT_BYTES
        )
        payload[plain] = length[plain] * widths[self.row[plain] - self.primitive]
        static = np.array([one.static_bytes for one in self.classes], dtype=np.int64)
        payload = np.concatenate([static + class_slots * SLOT_BYTES, payload])
        sizes: Int64Array = np.maximum(payload + HEADER_BYTES, MIN_OBJECT_BYTES)
        if len(sizes) and sizes.max() >= 2**32:
            return sizes.astype(np.uint64)
        return sizes.astype(np.uint32)

    def _types(self) -> tuple[npt.NDArray[np.uint32], tuple[str, ...]]:
        """Number the types that occur by name, classes first."""
        names: dict[str, int] = {CLASS_NAME: 0} if self.classes else {}
        number = np.zeros(self.n_rows, dtype=np.uint32)
        used = np.unique(self.row)
        class_names = self._class_names(used[used < self.unknown])
        for row, name in zip(used.tolist(), class_names, strict=False):
            number[row] = names.setdefault(name, len(names))
        for row in used[len(class_names) :].tolist():
            name = UNKNOWN_NAME
            if row >= self.primitive:
                name = PRIMITIVES[row - self.primitive][0] + "[]"
            number[row] = names.setdefault(name, len(names))
        types = np.concatenate([np.zeros(len(self.classes), dtype=np.uint32), number[self.row]])
        return types, tuple(names)

    def _class_names(self, rows: npt.NDArray[np.int32]) -> list[str]:
        ids = self.class_ids[rows].tolist()
        wanted = [self.dump.class_names.get(one, 0) for one in ids]
        found = self.dump.strings(np.array(wanted, dtype=np.uint64))
        return [
            f"class 0x{one:x}" if name is None else java_name(name)
            for one, name in zip(ids, found, strict=True)
        ]

    def _indices(self, indptr: Int64Array) -> tuple[Int64Array, int, int]:
        """Return the node of each slot, the null ones and those that lead nowhere."""
        indices = np.empty(int(indptr[-1]), dtype=np.int64)
        first = int(indptr[len(self.classes)])
        flat = [one for dumped in self.classes for one in dumped.slots]
        indices[:first], nulls, dangling = self._nodes(np.array(flat, dtype=np.uint64))
        own = indptr[len(self.classes) :]
        for low in range(first, len(indices), SLOTS_AT_ONCE):
            high = min(low + SLOTS_AT_ONCE, len(indices))
            at = self._slot_positions(own, low, high)
            ids = ids_at(self.dump.data, self.dump.id_bytes, at)
            indices[low:high], more_nulls, more_dangling = self._nodes(ids)
            nulls += more_nulls
            dangling += more_dangling
            self.dump.progress.tick("linked {:,} of {:,} references", high, len(indices))
        return indices, nulls, dangling

    def _slot_positions(self, indptr: Int64Array, low: int, high: int) -> Int64Array:
        """Return where the identifiers of the slots ``low`` to ``high`` of objects are."""
        begin = int(np.searchsorted(indptr, low, side="right")) - 1
        end = int(np.searchsorted(indptr, high, side="left"))
        bounds = np.clip(indptr[begin : end + 1], low, high)
        row, tag = self.row[begin:end], self.objects.tag[begin:end]
        payload = self.objects.at[begin:end] + (9 + 2 * self.dump.id_bytes)
        # Slot number minus this is the element of the array, or the place in the table of offsets.
        array = tag == OBJECT_ARRAY
        origin = indptr[begin:end] - np.where(array, 0, self.offsets_from[row])
        counts = np.diff(bounds)
        place = np.arange(low, high, dtype=np.int64) - np.repeat(origin, counts)
        in_array = np.repeat(array, counts)
        offset = self.offsets[np.where(in_array, 0, place)]
        return np.repeat(payload, counts) + np.where(in_array, place * self.dump.id_bytes, offset)

    def _nodes(self, ids: UInt64Array) -> tuple[Int64Array, int, int]:
        """Return the node of each identifier or -1, how many are null, how many lead nowhere."""
        null = ids == 0
        nulls = int(np.count_nonzero(null))
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int64), nulls, len(ids) - nulls
        place = np.searchsorted(self.ids, ids)
        place[place == len(self.ids)] = 0
        found = (self.ids[place] == ids) & ~null
        dangling = len(ids) - nulls - int(np.count_nonzero(found))
        return np.where(found, self.order[place], -1), nulls, dangling
