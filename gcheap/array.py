"""Arrays of numbers in the heap: payload without references, lent to numpy while pinned."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from gcheap._core import KIND_SHIFT, HeapCore, Unpicklable
from gcheap._errors import InvalidOperation
from gcheap._ffi import ffi, lib
from gcheap._vector import assign
from gcheap.refs import INDEX_MASK, _identity_hash, _is_same
from gcheap.struct import check_dtype, new_type

__all__ = ["HeapArray", "View", "new_leaf", "wrap_leaf"]

MAX_DIMENSIONS = 32
OPEN = "open a view: `with array.view() as a:` makes `a` a numpy array"


class HeapArray(Unpicklable):
    """An array of values in the heap: see ``Heap.array``.

    Its contents are reached through a view, which pins it; ``read`` and ``write`` make one for the
    moment, and so do ``numpy.asarray`` and ``copy.copy``, which copy. As a value of a reference
    field it is one object like others.
    """

    __slots__ = ("__weakref__", "_core", "_dtype", "_handle", "_shape")

    def __init__(self, core: HeapCore, handle: int, dtype: np.dtype[Any], shape: tuple[int, ...]):
        self._core = core
        self._handle = handle
        self._dtype = dtype
        self._shape = shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Length in each dimension."""
        if not self._shape or self._row() == 0:
            return self._shape
        out = ffi.new("uint64_t *")
        self._core.call(lib.bulk_length, self._handle, out)
        return self._shape_of(int(out[0]))

    def _row(self) -> int:
        """Elements in what an index of the first dimension names."""
        return math.prod(self._shape[1:])

    def _shape_of(self, elements: int) -> tuple[int, ...]:
        """Return the shape with so many elements: other names of the array may have resized it."""
        row = self._row() if self._shape else 0
        return (elements // row, *self._shape[1:]) if row else self._shape

    def resize(self, count: int) -> None:
        """Give the first dimension the length ``count``: what is there stays, zeros come behind it.

        A large array grows where it is, or its memory moves; one that becomes shorter gives memory
        back. If it cannot stay the same object, this name (and no other one, as in a field) is one
        of the new object from then on; the old one is left empty if it was large.

        Raises:
            BufferError: a view is open, or an array over its memory in use.
            HeapExhausted: there is no room; the array is as it was.
        """
        if not self._shape:
            raise TypeError("an array without dimensions cannot be resized")
        if not isinstance(count, (int, np.integer)) or isinstance(count, bool):
            raise TypeError(f"count is {count!r}, expected an integer")
        shape = (int(count), *self._shape[1:])
        elements = math.prod(shape)
        if count < 0 or count >= 1 << 62 or elements * self.dtype.itemsize >= 1 << 62:
            raise ValueError(f"count is {count}, expected 0 or more, within what a heap holds")
        self._core.allocate(lib.bulk_resize, self._handle, elements)
        self._shape = shape
        if len(shape) > 1:
            _store_shape(self)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    @property
    def is_null(self) -> bool:
        """Always false: this is an object."""
        return False

    def view(self) -> View:
        """Return a view: ``with blob.view() as a:`` makes ``a`` a numpy array over the memory.

        The object does not move while the view is open, nor while ``a`` or an array made from it is
        alive. A heap with an open view does not close.
        """
        return View(self)

    def read(self) -> npt.NDArray[Any]:
        """Return a copy of the contents."""
        with self.view() as array:
            return array.copy()

    def write(self, values: npt.ArrayLike) -> None:
        """Assign to the contents, as numpy does: ``array[...] = values``."""
        if hasattr(values, "_handle") and not isinstance(values, HeapArray):
            raise TypeError(f"{self!r} holds {self.dtype}, not references")
        with self.view() as array:
            assign(array, values, f"array ({self.dtype}, shape {array.shape})")

    def __getitem__(self, *_args: object) -> NoReturn:
        raise TypeError(f"{self!r} has no elements of its own; {OPEN}, or read() and write() it")

    __setitem__: Any = __getitem__

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("an array without dimensions has no len()")
        return self.shape[0]

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("without a copy the contents are had in a view only: HeapArray.view")
        return self.read().astype(dtype if dtype is not None else self._dtype, copy=False)

    def __copy__(self) -> HeapArray:
        values = self.read()
        copied = new_leaf(self._core, self._dtype, values.shape)
        copied.write(values)
        return copied

    def __eq__(self, other: object) -> Any:
        return False if other is None else _is_same(self._core, self._handle, other)

    def __hash__(self) -> int:
        return _identity_hash(self._core, self._handle)

    def __repr__(self) -> str:
        shape = self._shape if self._core.closed else self.shape
        return f"<HeapArray {self.dtype} {shape}>"

    def __del__(self) -> None:
        core = getattr(self, "_core", None)
        if core is not None:
            core.drop(self._handle)


class _Pin:
    """Pinned memory as numpy's array interface has it; the last array over it undoes the pin."""

    __slots__ = ("__array_interface__", "__weakref__", "_address", "_core")

    def __init__(self, array: HeapArray) -> None:
        payload, self._address, length = array._core.pin(array._handle, id(self))
        self._core = array._core
        start = int(ffi.cast("uintptr_t", payload)) + _shape_bytes(array.ndim)
        self.__array_interface__ = {
            "version": 3,
            "data": (start, False),
            "shape": array._shape_of(length),
            "typestr": array.dtype.str,
        }

    def __del__(self) -> None:
        core = getattr(self, "_core", None)
        if core is not None:
            core.unpin(self._address, id(self))


class View(Unpicklable):
    """A pinned view of a HeapArray; ``with`` opens it and closes it. The view is not the array:
    what ``with`` hands out is.
    """

    __slots__ = ("_of", "_pin")

    def __init__(self, of: HeapArray) -> None:
        self._of = of
        self._pin: _Pin | None = None

    def __enter__(self) -> npt.NDArray[Any]:
        if self._pin is not None:
            raise InvalidOperation("the view is open already; make another one")
        pin = _Pin(self._of)
        self._of._core.views.add(id(self))
        self._pin = pin
        return np.asarray(pin)

    def __exit__(self, *raised: object) -> None:
        self._of._core.views.discard(id(self))
        self._pin = None

    def _refuse(self, *_args: object, **_named: object) -> NoReturn:
        raise TypeError(f"a view is no array; {OPEN}")

    __getitem__ = __setitem__ = __array__ = _refuse

    def __repr__(self) -> str:
        return f"<View of {self._of!r}, {'closed' if self._pin is None else 'open'}>"

    def __del__(self) -> None:
        if getattr(self, "_pin", None) is not None:
            self._of._core.views.discard(id(self))


def _shape_bytes(ndim: int) -> int:
    """Bytes between header and payload: the shape, such that the payload is 16-byte aligned."""
    return 8 * (ndim | 1)


def _leaf_type(core: HeapCore, dtype: np.dtype[Any], ndim: int) -> Any:
    key = (dtype.str, ndim)
    with core.type_lock:
        native = core.interned.get(key)
        if native is None:
            core.leaf_types.append((dtype, ndim))
            user = lib.BULK_KIND_LEAF << KIND_SHIFT | len(core.leaf_types)
            name = f"{dtype}[{','.join(':' * ndim)}]"
            native = new_type(
                core,
                name,
                user,
                fixed=_shape_bytes(ndim),
                tail=lib.GCH_TAIL_BYTES,
                tail_bytes=dtype.itemsize,
            )
            core.interned[key] = native
    return native


def _dimensions(shape: int | tuple[int, ...] | list[int]) -> tuple[int, ...]:
    if isinstance(shape, (int, np.integer)):
        dims: tuple[int, ...] = (int(shape),) if not isinstance(shape, bool) else (shape,)
    elif isinstance(shape, Iterable):
        dims = tuple(shape)
    else:
        raise TypeError(f"shape is {shape!r}, expected an integer or integers")
    for dim in dims:
        if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool):
            raise TypeError(f"shape is {shape!r}, expected integers")
        if dim < 0:
            raise ValueError(f"shape is {shape!r}, expected no negative dimension")
    if len(dims) > MAX_DIMENSIONS:
        raise ValueError(f"shape has {len(dims)} dimensions, expected at most {MAX_DIMENSIONS}")
    return tuple(int(dim) for dim in dims)


def new_leaf(
    core: HeapCore, spec: npt.DTypeLike, shape: int | tuple[int, ...] | list[int]
) -> HeapArray:
    """Make an array of zeros: see ``Heap.array``."""
    dtype = check_dtype(spec, "the dtype of the array")
    if dtype.subdtype is not None:
        raise TypeError(f"the dtype of the array is {dtype}; put the sub-array's into `shape`")
    dims = _dimensions(shape)
    count = math.prod(dims)
    if count * dtype.itemsize >= 1 << 62 or any(dim >= 1 << 62 for dim in dims):
        raise ValueError(f"shape is {dims}, more than any heap holds")
    handle = ffi.new("gch_handle *")
    core.allocate(lib.bulk_new_one, _leaf_type(core, dtype, len(dims)), count, handle)
    array = HeapArray(core, handle[0], dtype, dims)
    if len(dims) > 1:
        _store_shape(array)
    return array


def _store_shape(array: HeapArray) -> None:
    raw = ffi.new("int64_t[]", list(array._shape))
    native = _leaf_type(array._core, array.dtype, array.ndim)
    field = ffi.new("bulk_field *", [native, 8, 8 * len(array.shape)])
    array._core.call(lib.bulk_store, array._handle, field, raw)


def wrap_leaf(core: HeapCore, found: Any) -> HeapArray:
    """Make the wrapper for a native ``bulk_object``."""
    dtype, ndim = core.leaf_types[(found.user & INDEX_MASK) - 1]
    array = HeapArray(core, found.handle, dtype, (int(found.length),) if ndim else ())
    if ndim > 1:
        raw = ffi.new("int64_t[]", ndim)
        field = ffi.new("bulk_field *", [_leaf_type(core, dtype, ndim), 8, 8 * ndim])
        core.call(lib.bulk_load, found.handle, field, raw)
        array._shape = tuple(raw)
    return array
