"""Writes Java heap dumps for tests, and keeps what a reader should make of them."""

from __future__ import annotations

import itertools
import struct

from gcheap.sources.hprof import HprofCounts

REF, BOOLEAN, CHAR, FLOAT, DOUBLE, BYTE, SHORT, INT, LONG = 2, 4, 5, 6, 7, 8, 9, 10, 11
WIDTHS = {BOOLEAN: 1, CHAR: 2, FLOAT: 4, DOUBLE: 8, BYTE: 1, SHORT: 2, INT: 4, LONG: 8}
NAMES = {
    BOOLEAN: "boolean",
    CHAR: "char",
    FLOAT: "float",
    DOUBLE: "double",
    BYTE: "byte",
    SHORT: "short",
    INT: "int",
    LONG: "long",
}
ROOT_TAILS = {0xFF: 0, 1: -1, 2: 8, 3: 8, 4: 4, 5: 0, 6: 4, 7: 0, 8: 8}
"""Tag of a root -> bytes behind the object's identifier, -1: another identifier."""
STRING, LOAD, HEAP, SEGMENT, END = 0x01, 0x02, 0x0C, 0x1C, 0x2C


def noise(count: int) -> bytes:
    """Bytes of contents: all of them tags of objects, to mislead a reader."""
    return (b"\x21\x22\x23\x20" * (count // 4 + 1))[:count]


class Writer:
    """Writes a dump, and keeps what is in it: (type name, size, identifiers of slots) by object."""

    def __init__(self, id_bytes: int = 8) -> None:
        self.id_bytes = id_bytes
        self.strings: list[bytes] = []
        self.heap: list[bytes] = []
        self.names: dict[int, str] = {}
        self.fields: dict[int, list[int]] = {}
        self.classes: dict[int, tuple[str, int, list[int]]] = {}
        self.objects: dict[int, tuple[str, int, list[int]]] = {}
        self.roots: list[int] = []

    def id(self, value: int) -> bytes:
        return value.to_bytes(self.id_bytes, "big")

    def record(self, tag: int, body: bytes) -> bytes:
        return struct.pack(">BII", tag, 77, len(body)) + body

    def value(self, kind: int, target: int) -> bytes:
        return self.id(target) if kind == REF else noise(WIDTHS[kind])

    def add_class(
        self,
        number: int,
        name: str,
        super_id: int = 0,
        fields: list[int] | None = None,
        statics: list[tuple[int, int]] | None = None,
        constants: list[tuple[int, int]] | None = None,
        loader: int = 0,
    ) -> None:
        """``name`` as Java writes it in source; statics and constants: (type, target)."""
        fields, statics, constants = fields or [], statics or [], constants or []
        raw = "[" * name.count("[]") + name.removesuffix("[]" * name.count("[]"))
        if raw.startswith("["):
            bare = raw.lstrip("[")
            letters = dict(zip(NAMES.values(), "ZCFDBSIJ", strict=True))
            raw = raw.replace(bare, letters.get(bare, f"L{bare.replace('.', '/')};"))
        name_id = 0x5000_0000 + len(self.strings)
        text = raw.replace(".", "/").encode()
        self.strings.append(self.record(STRING, self.id(name_id) + text))
        load = struct.pack(">I", 1) + self.id(number) + struct.pack(">I", 0) + self.id(name_id)
        self.strings.append(self.record(LOAD, load))
        body = b"\x20" + self.id(number) + bytes(4) + self.id(super_id) + self.id(loader)
        body += self.id(0) * 4 + struct.pack(">I", 64)
        body += struct.pack(">H", len(constants))
        for kind, target in constants:
            body += struct.pack(">HB", 3, kind) + self.value(kind, target)
        body += struct.pack(">H", len(statics))
        for kind, target in statics:
            body += self.id(name_id) + bytes([kind]) + self.value(kind, target)
        body += struct.pack(">H", len(fields))
        body += b"".join(self.id(name_id) + bytes([kind]) for kind in fields)
        self.heap.append(body)
        values = constants + statics
        slots = [super_id, loader, 0, 0, *(target for kind, target in values if kind == REF)]
        size = 8 + 8 * len(slots) + sum(WIDTHS.get(kind, 0) for kind, _ in values)
        if number not in self.classes:
            self.names[number] = name
            self.fields[number] = fields + self.fields.get(super_id, [])
            self.classes[number] = ("java.lang.Class", size, slots)

    def keep(self, number: int, name: str, size: int, slots: list[int]) -> None:
        if number not in self.classes:
            self.objects.setdefault(number, (name, max(size, 16), slots))

    def add_instance(self, number: int, class_id: int, targets: list[int]) -> None:
        """``targets`` of the reference fields, in order."""
        left = iter(targets)
        kinds = self.fields[class_id]
        body = b"".join(self.value(kind, next(left) if kind == REF else 0) for kind in kinds)
        head = b"\x21" + self.id(number) + bytes(4) + self.id(class_id)
        self.heap.append(head + struct.pack(">I", len(body)) + body)
        size = 8 + sum(8 if kind == REF else WIDTHS[kind] for kind in kinds)
        self.keep(number, self.names[class_id], size, targets)

    def add_array(self, number: int, class_id: int, targets: list[int]) -> None:
        body = b"\x22" + self.id(number) + struct.pack(">II", 0, len(targets)) + self.id(class_id)
        self.heap.append(body + b"".join(map(self.id, targets)))
        self.keep(number, self.names.get(class_id, "unknown"), 8 + 8 * len(targets), targets)

    def add_bytes(self, number: int, kind: int, length: int) -> None:
        body = b"\x23" + self.id(number) + struct.pack(">IIB", 0, length, kind)
        self.heap.append(body + noise(length * WIDTHS[kind]))
        self.keep(number, NAMES[kind] + "[]", 8 + length * WIDTHS[kind], [])

    def add_root(self, tag: int, target: int) -> None:
        tail = ROOT_TAILS[tag]
        self.heap.append(
            bytes([tag]) + self.id(target) + noise(self.id_bytes if tail < 0 else tail)
        )
        self.roots.append(target)

    def head(self, version: bytes = b"1.0.2") -> bytes:
        return b"JAVA PROFILE " + version + b"\0" + struct.pack(">IQ", self.id_bytes, 1 << 40)

    def dump(self, segments: int | None = 3) -> bytes:
        """The file: with that many segments, or None: with one record and of version 1.0.1."""
        before = self.record(0x05, bytes(12)) + b"".join(self.strings) + self.record(0x0E, bytes(6))
        if segments is None:
            return self.head(b"1.0.1") + before + self.record(HEAP, b"".join(self.heap))
        cuts = [len(self.heap) * i // segments for i in range(segments + 1)]
        parts = [b"".join(self.heap[a:b]) for a, b in itertools.pairwise(cuts)]
        heap = b"".join(self.record(SEGMENT, part) for part in parts)
        return self.head() + before + heap + self.record(END, b"")

    def expected(self) -> tuple[list[tuple[str, int, list[int]]], list[int], HprofCounts]:
        everything = self.classes | self.objects
        node = {number: at for at, number in enumerate(everything)}
        slots = [target for _, _, row in everything.values() for target in row]
        objects = [
            (name, size, [node.get(target, -1) for target in row])
            for name, size, row in everything.values()
        ]
        records = sum(one[0] in (0x20, 0x21, 0x22, 0x23) for one in self.heap)
        return (
            objects,
            [node[target] for target in self.roots if target in node],
            HprofCounts(
                nulls=slots.count(0),
                dangling=sum(target != 0 and target not in node for target in slots),
                dangling_roots=sum(target not in node for target in self.roots),
                repeated=records - len(everything),
                unknown_class=sum(name == "unknown" for name, _, _ in objects),
            ),
        )
