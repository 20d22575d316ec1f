"""Walk the records of an HPROF heap dump and note where its objects are, trusting nothing in it.

A dump is a header and records; those of a heap hold sub-records of varying length one after the
other: roots and classes, which are few and read one by one, and objects, which are many. Where an
object ends is known only from its own head, so a window of bytes is worked off in three steps:
every byte that could be the tag of an object is found, the end that each such *candidate* would
have is computed for all at once, and the chain of those that are objects is followed from the
first, an index a step.
"""

from __future__ import annotations

import mmap
import struct
from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._graphcheck import GraphFormatError
from gcheap.sources import _hprof_format as form
from gcheap.sources._hprof_file import MAGIC_BYTES, Progress, check_magic
from gcheap.sources._hprof_format import (
    CLASS,
    INSTANCE,
    OBJECT_ARRAY,
    PRIMITIVE_ARRAY,
    PRIMITIVES,
    REFERENCE,
    ROOTS,
)

__all__ = ["ClassDump", "Dump", "Objects", "ids_at"]

WINDOW_BYTES = (4 << 10, 1 << 20)
"""Least and most bytes worked off at once: doubled after a window full of objects, halved else."""
LOG_EVERY_BYTES = 1 << 20

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]


@dataclass(slots=True)
class ClassDump:
    """What a class dump says.

    Attributes:
        at: offset of the sub-record.
        super_id: identifier of the superclass, 0: none.
        slots: identifiers that the class object refers to: superclass, loader, signers, protection
            domain, constants, static fields.
        static_bytes: bytes of its other static fields and constants.
        field_types: a byte an instance field, those of superclasses not among them.
    """

    at: int
    super_id: int
    slots: list[int]
    static_bytes: int
    field_types: bytes


@dataclass(slots=True)
class Objects:
    """Objects but classes, in order: offset, tag, identifier, class (or element type), length."""

    at: Int64Array
    tag: npt.NDArray[np.uint8]
    id: UInt64Array
    kind: UInt64Array
    length: npt.NDArray[np.uint32]

    def only(self, mask: npt.NDArray[np.bool_]) -> Objects:
        """Return those in ``mask``."""
        return Objects(*(getattr(self, name)[mask] for name in self.__slots__))


def ids_at(data: mmap.mmap, id_bytes: int, positions: Int64Array) -> UInt64Array:
    """Read the big-endian identifiers at ``positions``, each of which lies in the file."""
    return _unsigned_at(data, id_bytes, positions).astype(np.uint64)


def _unsigned_at(data: mmap.mmap, width: int, positions: Int64Array) -> npt.NDArray[Any]:
    # Elements without a number's alignment, each a byte after the one before.
    words = np.ndarray((len(data) - width + 1,), f"V{width}", data, strides=(1,))
    return words[positions].view(f">u{width}")


@dataclass(slots=True)
class Dump:
    """A heap dump; ``read`` fills it.

    Attributes:
        data: its bytes, which nobody else can change.
        file: its name, for errors.
        id_bytes: size of an identifier, 4 or 8.
        roots: identifiers of the roots, in order.
        classes: class identifier -> what its first dump says, in order.
        class_names: class identifier -> identifier of the string that is its name.
        repeated_classes: dumps of a class that had been dumped before (some versions of HotSpot
            repeat those of arrays).
    """

    data: mmap.mmap
    file: str
    progress: Progress
    id_bytes: int = 0
    roots: array[int] = field(default_factory=lambda: array("Q"))
    classes: dict[int, ClassDump] = field(default_factory=dict)
    class_names: dict[int, int] = field(default_factory=dict)
    repeated_classes: int = 0
    _string_ids: array[int] = field(default_factory=lambda: array("Q"))
    _string_at: array[int] = field(default_factory=lambda: array("Q"))
    _blocks: list[Objects] = field(default_factory=list)
    _objects_read: int = 0
    _window: int = field(default_factory=lambda: WINDOW_BYTES[1])
    _widths: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    _root_bytes: dict[int, int] = field(default_factory=dict)
    _id: struct.Struct = field(default_factory=lambda: struct.Struct(">Q"))
    _class: struct.Struct = field(default_factory=lambda: struct.Struct(">Q"))

    def fail(self, at: int, problem: str) -> GraphFormatError:
        """Return the error that names the file and an offset."""
        return GraphFormatError("", f"at offset {at}: {problem}", self.file)

    def read(self) -> None:
        """Walk the whole file.

        Raises:
            GraphFormatError: it is no dump, damaged, cut short, or holds more than one.
        """
        self._read_header()
        state = self._read_records()
        if state != "complete":
            expected = {"none": "a heap dump", "open": "the end of the heap dump (record 0x2c)"}
            raise self.fail(len(self.data), f"the file ends, expected {expected[state]}")

    def objects(self) -> Objects:
        """Return all objects but classes, in order; may be called once."""
        names = Objects.__slots__
        blocks, self._blocks = self._blocks, []
        blocks.append(Objects(*(np.empty(0, dtype) for dtype in ("i8", "u1", "u8", "u8", "u4"))))
        return Objects(*(np.concatenate([getattr(b, name) for b in blocks]) for name in names))

    def strings(self, wanted: UInt64Array) -> list[str | None]:
        """Return the strings of these identifiers, None where there is none."""
        ids = np.array(self._string_ids, dtype=np.uint64)
        order = np.argsort(ids, kind="stable")
        place = np.searchsorted(ids, wanted, sorter=order)
        return [
            self._string(self._string_at[order[at]])
            if at < len(ids) and ids[order[at]] == one
            else None
            for at, one in zip(place.tolist(), wanted, strict=True)
        ]

    def _string(self, at: int) -> str:
        length = struct.unpack_from(">I", self.data, at + 5)[0]
        raw = self.data[at + form.RECORD_BYTES + self.id_bytes : at + form.RECORD_BYTES + length]
        return raw.decode("utf-8", errors="replace")

    # --- records ----------------------------------------------------------------------------------

    def _read_header(self) -> None:
        check_magic(self.data[:MAGIC_BYTES], self.file)
        self._need(0, form.HEADER_BYTES, len(self.data), "the header")
        self.id_bytes = struct.unpack_from(">I", self.data, MAGIC_BYTES)[0]
        if self.id_bytes not in (4, 8):
            raise self.fail(MAGIC_BYTES, f"identifiers of {self.id_bytes} bytes, expected 4 or 8")
        one = {4: "I", 8: "Q"}[self.id_bytes]
        self._id = struct.Struct(f">{one}")
        self._class = struct.Struct(f">x{one}I{one * 6}IH")
        self._widths[REFERENCE] = self.id_bytes
        for kind, (_, width) in PRIMITIVES.items():
            self._widths[kind] = width
        self._root_bytes = {
            tag: 1 + ids * self.id_bytes + more for tag, (ids, more) in ROOTS.items()
        }

    def _read_records(self) -> str:
        """Return "none" if there was no dump, "open" if it has no end, "complete"."""
        size, at, state, next_tick = len(self.data), form.HEADER_BYTES, "none", 0
        record = struct.Struct(">B4xI")
        while at < size:
            self._need(at, form.RECORD_BYTES, size, "the head of a record")
            tag, length = record.unpack_from(self.data, at)
            body = at + form.RECORD_BYTES
            self._need(body, length, size, f"record 0x{tag:02x}")
            if tag == form.STRING:
                self._need(body, self.id_bytes, body + length, "a string's identifier")
                self._string_ids.append(self._id.unpack_from(self.data, body)[0])
                self._string_at.append(at)
            elif tag == form.LOAD_CLASS:
                self._read_load_class(body, body + length)
            elif tag in (form.HEAP_DUMP, form.HEAP_DUMP_SEGMENT):
                if state == "complete":
                    raise self.fail(at, f"a second heap dump (record 0x{tag:02x}), expected one")
                state = "open" if tag == form.HEAP_DUMP_SEGMENT else "complete"
                self._read_heap(body, body + length)
            elif tag == form.HEAP_DUMP_END:
                state = "complete"
            elif tag not in form.SKIPPED:
                raise self.fail(at, f"record 0x{tag:02x}, expected 0x01 to 0x0e, 0x1c or 0x2c")
            at = body + length
            if at >= next_tick:
                next_tick = at + LOG_EVERY_BYTES
                self._tick(at)
        return state

    def _read_load_class(self, at: int, end: int) -> None:
        self._need(at, 8 + 2 * self.id_bytes, end, "a loaded class")
        class_id = self._id.unpack_from(self.data, at + 4)[0]
        name_id = self._id.unpack_from(self.data, at + 8 + self.id_bytes)[0]
        self.class_names[class_id] = name_id

    def _read_heap(self, at: int, end: int) -> None:
        while at < end:
            at = self._read_few(at, end)
            if at < end:
                at = self._read_objects(at, end)
                self._tick(at)

    def _need(self, at: int, count: int, end: int, what: str) -> None:
        if count > end - at:
            whole = "file" if end == len(self.data) else "record"
            raise self.fail(
                at,
                f"{what} takes {count} bytes, expected at most the {max(end - at, 0)} "
                f"that are left of the {whole}",
            )

    def _tick(self, at: int) -> None:
        self.progress.tick(
            "read {} of {} MiB, {:,} objects", at >> 20, len(self.data) >> 20, self._objects_read
        )

    # --- sub-records ------------------------------------------------------------------------------

    def _read_few(self, at: int, end: int) -> int:
        """Read roots and classes up to an object or the end; return its offset."""
        data, root_bytes, unpack_id = self.data, self._root_bytes, self._id.unpack_from
        while at < end:
            tag = data[at]
            count = root_bytes.get(tag)
            if count is not None:
                self._need(at, count, end, f"a root (sub-record 0x{tag:02x})")
                self.roots.append(unpack_id(data, at + 1)[0])
                at += count
            elif tag == CLASS:
                at = self._read_class(at, end)
            elif INSTANCE <= tag <= PRIMITIVE_ARRAY:
                return at
            else:
                raise self.fail(
                    at, f"sub-record 0x{tag:02x}, expected 0x01 to 0x08, 0x20 to 0x23 or 0xff"
                )
        return at

    def _read_class(self, at: int, end: int) -> int:
        self._need(at, self._class.size, end, "a class dump")
        class_id, _, super_id, loader, signers, domain, _, _, _, count = self._class.unpack_from(
            self.data, at
        )
        slots = [super_id, loader, signers, domain]
        here, constant_bytes = self._read_values(at + self._class.size, end, count, 2, slots)
        here, count = self._read_count(here, end)
        here, static_bytes = self._read_values(here, end, count, self.id_bytes, slots)
        here, count = self._read_count(here, end)
        stride = self.id_bytes + 1
        self._need(here, count * stride, end, f"a list of {count} fields")
        types = self.data[here : here + count * stride][self.id_bytes :: stride]
        for i, kind in enumerate(types):
            self._width(here + i * stride + self.id_bytes, kind)
        if class_id in self.classes:
            self.repeated_classes += 1
        else:
            statics = constant_bytes + static_bytes
            self.classes[class_id] = ClassDump(at, super_id, slots, statics, types)
        return here + count * stride

    def _read_count(self, at: int, end: int) -> tuple[int, int]:
        self._need(at, 2, end, "a number of fields")
        return at + 2, struct.unpack_from(">H", self.data, at)[0]

    def _read_values(
        self, at: int, end: int, count: int, before: int, slots: list[int]
    ) -> tuple[int, int]:
        """Read typed values, ``before`` bytes ahead of each type; return the end and the bytes of
        those that are no references."""
        plain = 0
        for _ in range(count):
            self._need(at, before + 1, end, "a static field or constant")
            kind = self.data[at + before]
            width = self._width(at + before, kind)
            at += before + 1
            self._need(at, width, end, "a value")
            if kind == REFERENCE:
                slots.append(self._id.unpack_from(self.data, at)[0])
            else:
                plain += width
            at += width
        return at, plain

    def _width(self, at: int, kind: int) -> int:
        width = int(self._widths[kind])
        if width == 0:
            raise self.fail(at, f"type {kind}, expected 2 (reference) or 4 to 11 (primitive)")
        return width

    def _read_objects(self, at: int, end: int) -> int:
        """Read the objects from the one at ``at`` on, a window of them; return their end."""
        stop = min(end, at + self._window)
        raw = np.frombuffer(self.data, dtype=np.uint8)
        found = np.flatnonzero(raw[at:stop] - np.uint8(INSTANCE) <= PRIMITIVE_ARRAY - INSTANCE) + at
        tag = raw[found]
        length, after = self._lengths(raw, found, tag, end)
        candidates = len(found)
        place = np.searchsorted(found, after)
        place[found[np.minimum(place, candidates - 1)] != after] = candidates
        links, chain, i = place.tolist(), [], 0
        while i < candidates:
            chain.append(i)
            i = links[i]
        if after[chain[-1]] == 0:
            wrong = int(found[chain.pop()])
            if not chain:
                raise self._object_error(wrong, end)
            reached = wrong
        else:
            reached = int(after[chain[-1]])
        least, most = WINDOW_BYTES
        self._window = (
            min(2 * self._window, most) if reached >= stop else max(self._window // 2, least)
        )
        self._keep(found[chain], tag[chain], length[chain])
        return reached

    def _lengths(
        self, raw: npt.NDArray[np.uint8], at: Int64Array, tag: npt.NDArray[np.uint8], end: int
    ) -> tuple[npt.NDArray[Any], Int64Array]:
        """Return the length that each candidate gives and where it would end, 0 if not before
        ``end``. Heads that reach over the file's end are read shifted: they count as too long."""
        size, id_bytes = len(self.data), self.id_bytes
        instance, primitive = tag == INSTANCE, tag == PRIMITIVE_ARRAY
        length_at = at + np.where(instance, 5 + 2 * id_bytes, 5 + id_bytes)
        length = _unsigned_at(self.data, 4, np.minimum(length_at, size - 4))
        width = np.where(instance, 1, id_bytes)
        elements = raw[np.minimum(at[primitive] + (9 + id_bytes), size - 1)]
        width[primitive] = np.where(elements == REFERENCE, 0, self._widths[elements])
        after = at + np.where(primitive, 10 + id_bytes, 9 + 2 * id_bytes) + length * width
        after[(after > end) | (width == 0)] = 0
        return length, after

    def _keep(self, at: Int64Array, tag: npt.NDArray[np.uint8], length: npt.NDArray[Any]) -> None:
        ids = ids_at(self.data, self.id_bytes, at + 1)
        class_at = at + np.where(tag == INSTANCE, 5, 9) + self.id_bytes
        kind = np.empty(len(at), dtype=np.uint64)
        primitive = tag == PRIMITIVE_ARRAY
        kind[~primitive] = ids_at(self.data, self.id_bytes, class_at[~primitive])
        raw = np.frombuffer(self.data, dtype=np.uint8)
        kind[primitive] = raw[class_at[primitive]]
        self._blocks.append(Objects(at, tag, ids, kind, length.astype(np.uint32)))
        self._objects_read += len(at)

    def _object_error(self, at: int, end: int) -> GraphFormatError:
        """Return what is wrong with the object at ``at``."""
        tag, id_bytes = self.data[at], self.id_bytes
        what = {INSTANCE: "an instance", OBJECT_ARRAY: "an object array"}.get(tag, "an array")
        try:
            if tag == PRIMITIVE_ARRAY:
                head = 10 + id_bytes
                self._need(at, head, end, what)
                kind = self.data[at + head - 1]
                if kind == REFERENCE:
                    return self.fail(at + head - 1, f"array of type {kind}, expected 4 to 11")
                width = self._width(at + head - 1, kind)
            else:
                head, width = 9 + 2 * id_bytes, id_bytes if tag == OBJECT_ARRAY else 1
                self._need(at, head, end, what)
            length_at = at + 5 + id_bytes * (2 if tag == INSTANCE else 1)
            length = struct.unpack_from(">I", self.data, length_at)[0]
            self._need(at, head + length * width, end, f"{what} of length {length}")
        except GraphFormatError as error:
            return error
        raise AssertionError(f"the object at {at} is whole")
