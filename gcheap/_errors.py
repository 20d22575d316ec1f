"""The exceptions of gcheap, and what each outcome of a native call becomes.

Values that are wrong in themselves raise the built-in exception that numpy would raise (ValueError,
TypeError, IndexError); everything that only a heap can go through has a class of its own here.
"""

from __future__ import annotations

from gcheap._ffi import lib

__all__ = [
    "Corruption",
    "GcheapError",
    "HeapClosedError",
    "HeapExhausted",
    "InvalidOperation",
    "NullReferenceError",
    "Unsupported",
    "exception_for",
]


class GcheapError(Exception):
    """Base of the exceptions that only gcheap raises."""


class HeapExhausted(GcheapError, MemoryError):  # noqa: N818 (reads as the built-in it is)
    """The heap's limit, the address space or the machine's memory is used up; the heap is
    intact."""


class HeapClosedError(GcheapError, ValueError):
    """The heap was closed before."""


class InvalidOperation(GcheapError, RuntimeError):  # noqa: N818
    """The call is not legal now."""


class NullReferenceError(GcheapError, ValueError):
    """A null reference where an object was needed."""


class Corruption(GcheapError):  # noqa: N818
    """The verifier found a broken invariant, or an extraction damaged bytes."""


class Unsupported(GcheapError, OSError):  # noqa: N818
    """This kernel, these permissions or this build cannot; the message says why."""


_BY_STATUS: dict[int, type[Exception]] = {
    lib.GCH_NO_MEMORY: HeapExhausted,
    lib.GCH_BAD_VALUE: ValueError,
    lib.GCH_BAD_STATE: InvalidOperation,
    lib.GCH_UNSUPPORTED: Unsupported,
    lib.GCH_CORRUPT: Corruption,
    lib.BULK_WRONG_TYPE: TypeError,
    lib.BULK_NULL: NullReferenceError,
    lib.BULK_BAD_INDEX: IndexError,
    lib.BULK_BAD_LENGTH: ValueError,
    lib.BULK_PINNED: BufferError,
}


def exception_for(status: int, message: str) -> Exception:
    """Return the exception for a native status that is not GCH_OK."""
    return _BY_STATUS.get(status, GcheapError)(message)
