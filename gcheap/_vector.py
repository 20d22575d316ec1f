"""Indices, values and addresses on their way to native code.

What names objects of a heap has a ``_handle``. numpy must not see it: it would ask an array of
references for its elements, one by one.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Sized
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._ffi import ffi
from gcheap.struct import Field

__all__ = ["address", "as_integer", "assign", "cast", "empty", "native_index"]


INT64_MAX = (1 << 63) - 1


def as_integer(key: Any, of: Sized) -> int | None:
    """Return an index that is one integer, None if it is anything else.

    Raises:
        IndexError: no array, so not ``of``, has such an element. (Whether it has others is for
            native code to say: it may be resized meanwhile.)
    """
    if isinstance(key, (bool, np.bool_)):
        return None
    try:
        at = operator.index(key)
    except TypeError:
        return None
    if not -INT64_MAX <= at <= INT64_MAX:
        raise IndexError(f"index {at} is out of range for {len(of)} elements")
    return at


def native_index(key: Any, length: int) -> tuple[Any, Any]:
    """Return a native index, and the array that it points into."""
    if key is Ellipsis:
        key = slice(None)
    if isinstance(key, slice):
        start, stop, step = key.indices(length)
        count = len(range(start, stop, step))
        return ffi.new("bulk_index *", [ffi.NULL, start, step, count]), None
    items = _positions(key, length)
    pointer = address(items, "const int64_t *")
    return ffi.new("bulk_index *", [pointer, 0, 0, len(items)]), items


def _positions(key: Any, length: int) -> npt.NDArray[np.int64]:
    items = _index_array(key)
    if items is None:
        raise IndexError(
            f"the index is {reprlib.repr(key)}, expected an integer, integers, a mask or a slice"
        )
    if items.size == 0 and not isinstance(key, np.ndarray):
        items = items.astype(np.int64)
    if items.ndim != 1:
        raise IndexError(f"the index has {items.ndim} dimensions, expected 1")
    if items.dtype == np.bool_:
        if len(items) != length:
            raise IndexError(f"the mask has {len(items)} entries for {length} elements")
        items = np.flatnonzero(items)
    elif items.dtype.kind not in "iu":
        raise IndexError(f"the index is {items.dtype}, expected integers, a mask or a slice")
    elif items.dtype.kind == "u" and items.size and int(items.max()) > INT64_MAX:
        raise IndexError(f"index {items.max()} is out of range for {length} elements")
    return np.ascontiguousarray(items, dtype=np.int64)


def _index_array(key: Any) -> npt.NDArray[Any] | None:
    """Return what may be many indices as an array, None for what is none."""
    if isinstance(key, tuple) or hasattr(key, "_handle"):
        return None
    try:
        items = np.asarray(key)
    except ValueError:  # lists of different lengths
        return None
    return None if items.ndim == 0 or items.dtype == np.object_ else items


def address(array: npt.NDArray[Any], ctype: str = "void *") -> Any:
    """Return a native pointer to the first element; the caller keeps the array."""
    return ffi.cast(ctype, array.ctypes.data)


def empty(field: Field, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return an array for values of a field; a sub-array's dimensions follow ``shape``."""
    assert field.dtype is not None
    return np.empty(shape, dtype=field.dtype)


def cast(field: Field, value: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Convert and broadcast as numpy does when it assigns; no copy where none is needed."""
    assert field.dtype is not None
    base, full = field.dtype.base, shape + field.dtype.shape
    if (
        isinstance(value, np.ndarray)
        and value.dtype == base
        and value.shape == full
        and value.flags.c_contiguous
    ):
        return value
    if hasattr(value, "_handle"):
        raise TypeError(f"field {field.name!r} holds {field.dtype}, not references")
    data: npt.NDArray[Any] = np.empty(full, dtype=base)
    assign(data, value, f"field {field.name!r} ({field.dtype}, shape {full})")
    return data


def assign(array: npt.NDArray[Any], value: Any, what: str) -> None:
    """Assign to all of an array, as numpy does; errors say to what, and which value."""
    try:
        array[...] = value
    except (ValueError, TypeError, OverflowError) as error:
        kind = next(
            kind for kind in (TypeError, OverflowError, ValueError) if isinstance(error, kind)
        )
        raise kind(f"{what}, {reprlib.repr(value)}: {error}") from None
