"""The numbers of the HPROF binary format, 1.0.1 and 1.0.2."""

from __future__ import annotations

HEADER_BYTES = 31
"""Version text and zero, size of an identifier (4), time (8)."""
RECORD_BYTES = 9
"""Head of a record: tag, time (4), length of what follows (4)."""

STRING, LOAD_CLASS, HEAP_DUMP, HEAP_DUMP_SEGMENT, HEAP_DUMP_END = 0x01, 0x02, 0x0C, 0x1C, 0x2C
SKIPPED = frozenset({0x03, 0x04, 0x05, 0x06, 0x07, 0x0A, 0x0B, 0x0D, 0x0E})
"""Stack traces, threads, samples, settings."""
CLASS, INSTANCE, OBJECT_ARRAY, PRIMITIVE_ARRAY = 0x20, 0x21, 0x22, 0x23
ROOTS = {
    0xFF: (1, 0),  # unknown
    0x01: (2, 0),  # JNI global
    0x02: (1, 8),  # JNI local
    0x03: (1, 8),  # Java frame
    0x04: (1, 4),  # native stack
    0x05: (1, 0),  # system class
    0x06: (1, 4),  # thread block
    0x07: (1, 0),  # monitor used
    0x08: (1, 8),  # thread object
}
"""Tag of a root -> identifiers, the first is the object's, and further bytes."""
REFERENCE = 2
PRIMITIVES = {
    4: ("boolean", 1),
    5: ("char", 2),
    6: ("float", 4),
    7: ("double", 8),
    8: ("byte", 1),
    9: ("short", 2),
    10: ("int", 4),
    11: ("long", 8),
}
"""Type -> name and bytes."""
