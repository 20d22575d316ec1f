"""References: ``Ref`` (one) and ``RefArray`` (an array of references in the heap, under one root).

Both are names of objects, not the objects: they keep them alive, and follow them when the collector
moves them. Attributes are the fields of the struct. A whole array is read (gathered) and written
(scattered) in one native call, with the GIL dropped.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gcheap._core import KIND_SHIFT, HeapCore, Unpicklable
from gcheap._ffi import ffi, lib
from gcheap._vector import address, as_integer, cast, empty, native_index
from gcheap.struct import RESERVED, Field, RefTo, StructType, refs_type

if TYPE_CHECKING:
    from gcheap.array import HeapArray
    from gcheap.weak import Ephemeron, WeakRef

__all__ = ["Ref", "RefArray", "wrap"]

BoolArray = npt.NDArray[np.bool_]
INDEX_MASK = (1 << 32) - 1


class Ref(Unpicklable):
    """A reference to one object, or null.

    In the definition of a struct ``Ref`` stands for a reference to anything, ``Ref(Node)`` (or
    ``Ref("Node")``, also inside Node itself) for one that takes such objects only.

    ``==`` is identity, ``hash()`` the identity hash, ``bool()`` false for null. Assigning None to a
    reference field stores null.

    Example:
        >>> import gcheap
        >>> with gcheap.Heap(max_size="16MiB") as heap:
        ...     Node = heap.struct("Node", next=gcheap.Ref, weight="f8")
        ...     a, b = heap.new(Node, 2)
        ...     a.next, b.weight = b, 2.5
        ...     a.next == b, float(a.next.weight), b.next.is_null
        (True, 2.5, True)
    """

    __slots__ = ("_core", "_handle", "_type")
    _core: HeapCore
    _handle: int
    _type: StructType | None

    def __new__(cls, target: StructType | str) -> RefTo:  # type: ignore[misc]
        if not isinstance(target, (StructType, str)):
            raise TypeError(f"Ref({target!r}): expected a struct type or the name of one")
        return RefTo(target)

    @property
    def is_null(self) -> bool:
        """Whether this is the null reference."""
        return self._handle == 0

    def __bool__(self) -> bool:
        return self._handle != 0

    def __eq__(self, other: object) -> Any:
        if other is None:
            return self._handle == 0
        if isinstance(other, RefArray):
            return NotImplemented
        return _is_same(self._core, self._handle, other)

    def __hash__(self) -> int:
        return _identity_hash(self._core, self._handle)

    def __copy__(self) -> Ref:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        field = self._field(name)
        if field.is_ref:
            out = ffi.new("bulk_object *")
            self._core.call(lib.bulk_load_ref, self._handle, field._native, out)
            return wrap(self._core, out)
        value: npt.NDArray[Any] = empty(field, ())
        self._core.call(lib.bulk_load, self._handle, field._native, address(value))
        return value[()] if value.ndim == 0 else value

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name in RESERVED:
            object.__setattr__(self, name, value)
            return
        field = self._field(name)
        if field.is_ref:
            handle = _one_handle(self._core, value, f"field {name!r}")
            must_be = field.target._pointer if field.target is not None else ffi.NULL
            self._core.call(lib.bulk_store_ref, self._handle, field._native, handle, must_be)
            return
        data = cast(field, value, ())
        self._core.call(lib.bulk_store, self._handle, field._native, address(data))

    def compare_and_swap(self, field: str, expected: Any, new: Any) -> bool:
        """Store ``new`` into a reference field if it holds ``expected``; return whether it did.

        Atomic: of several threads that expect the same, one succeeds.
        """
        at, must_be = self._ref_field(field)
        old = _one_handle(self._core, expected, "expected")
        handle = _one_handle(self._core, new, f"field {field!r}")
        out = ffi.new("bool *")
        self._core.call(lib.bulk_swap_ref, self._handle, at, old, handle, must_be, out)
        return bool(out[0])

    def exchange(self, field: str, new: Any) -> Any:
        """Store ``new`` into a reference field and return what it held, atomically."""
        at, must_be = self._ref_field(field)
        handle = _one_handle(self._core, new, f"field {field!r}")
        out = ffi.new("bulk_object *")
        self._core.call(lib.bulk_exchange_ref, self._handle, at, handle, must_be, out)
        return wrap(self._core, out)

    def _ref_field(self, name: str) -> tuple[Any, Any]:
        field = self._field(name)
        if not field.is_ref:
            raise TypeError(f"field {name!r} holds {field.dtype}, not references")
        return field._native, field.target._pointer if field.target is not None else ffi.NULL

    def _field(self, name: str) -> Field:
        if self._handle == 0:
            self._core.call(lib.bulk_hash, 0, ffi.new("uint32_t *"))  # raises
        if self._type is None:
            raise AttributeError(f"the object is of no struct type, it has no field {name!r}")
        return self._type.field(name)

    def __dir__(self) -> list[str]:
        own = ["compare_and_swap", "exchange", "is_null"]
        return [*own, *(self._type.fields if self._type is not None else ())]

    def __repr__(self) -> str:
        if self._handle == 0:
            return "<Ref null>"
        return f"<Ref to {self._type.name if self._type is not None else 'object'}>"

    def __del__(self) -> None:
        self._core.drop(self._handle)


class RefArray(Unpicklable):
    """An array of references in the heap: a table, a root for all its elements.

    ``a[i]`` is a ``Ref`` (or what the element is: a RefArray, a HeapArray); ``a[1:9]``, ``a[mask]``
    and ``a[indices]`` are new arrays with those references; all of these can be assigned to, from
    an array of as many references, one reference or None. An attribute is a field of all elements:
    numpy values are gathered into a new numpy array (assign it back to store), references into a
    new RefArray. ``a == b`` compares element by element; ``a.is_null`` is a mask.
    """

    __slots__ = ("_core", "_handle", "_type")
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]
    _core: HeapCore
    _handle: int
    _type: StructType | None

    def __new__(cls, *args: object, **named: object) -> RefArray:
        raise TypeError("arrays of references are made by Heap.new and Heap.refs")

    def __copy__(self) -> RefArray:
        copied: RefArray = self[:]
        return copied

    def __len__(self) -> int:
        out = ffi.new("uint64_t *")
        self._core.call(lib.bulk_length, self._handle, out)
        return int(out[0])

    @property
    def is_null(self) -> BoolArray:
        """Mask of the elements that are null, bool (n,)."""
        count = len(self)
        out = np.empty(count, dtype=np.bool_)
        self._core.call(lib.bulk_is_null, self._handle, count, address(out, "bool *"))
        return out

    def resize(self, count: int) -> None:
        """Give the array ``count`` elements: those that it has, and nulls behind them.

        A small array is copied; a large one grows where it is, or its memory moves; one that
        becomes shorter gives memory back. If it cannot stay the same object, this name (and no
        other one: a field, another ``RefArray``) is one of the new object from then on; the old one
        is left empty if it was large.

        Raises:
            HeapExhausted: there is no room; the array is as it was.
        """
        self._core.allocate(lib.bulk_resize, self._handle, _count(count))

    # --- elements --------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        at = as_integer(key, self)
        if at is not None:
            out = ffi.new("bulk_object *")
            self._core.call(lib.bulk_get, self._handle, at, out)
            return wrap(self._core, out, self._type)
        index, _keep = native_index(key, len(self))
        handle = ffi.new("gch_handle *")
        self._core.allocate(
            lib.bulk_take, self._handle, index, refs_type(self._core, self._type), handle
        )
        return _make_array(self._core, handle[0], self._type)

    def __setitem__(self, key: Any, value: Any) -> None:
        at, length = as_integer(key, self), len(self)
        if at is not None:
            if not -length <= at < length:
                raise IndexError(f"index {at} is out of range for {length} elements")
            key = slice(at, at + 1) if at != -1 else slice(at, None)
            value = _one(self._core, value, "the element")
        index, _keep = native_index(key, length)
        handle, one, known, keep = _values(self._core, value, int(index.count), "the value")
        must_be, run = _must_be(self._type, known), index.items == ffi.NULL and index.step == 1
        if run and one:
            start, count = index.start, index.count
            self._core.call(lib.bulk_fill, self._handle, start, count, handle, must_be)
            return
        if run and must_be == ffi.NULL:
            self._core.call(lib.bulk_copy, self._handle, index.start, handle, 0, index.count)
            return
        if not one and _same(self._core, self._handle, handle):
            keep = keep[:]
            handle = keep._handle
        self._core.call(lib.bulk_put, self._handle, index, handle, one, must_be)

    def fill(self, value: Any) -> None:
        """Store one reference, or None, into all elements."""
        self[:] = _one(self._core, value, "the value")

    def copy_within(self, to: int, start: int = 0, stop: int | None = None) -> None:
        """Copy the elements of ``self[start:stop]`` to the place that begins at element ``to``.

        They may overlap: it is as if they were read before one is written. Negative numbers count
        from the end.

        Raises:
            IndexError: they would not all fit there.
        """
        length = len(self)
        first, last, _ = slice(start, stop).indices(length)
        count = max(0, last - first)
        at = to + length if to < 0 else to
        if not 0 <= at <= length - count:
            raise IndexError(f"{count} elements do not fit from {to} on, there are {length}")
        self._core.call(lib.bulk_copy, self._handle, at, self._handle, first, count)

    def compare_and_swap(self, index: int, expected: Any, new: Any) -> bool:
        """Store ``new`` into an element if that is ``expected``; return whether it was. Atomic."""
        at = self._element(index)
        old = _one_handle(self._core, expected, "expected")
        handle = _one_handle(self._core, new, "the element")
        must_be = _must_be(self._type, None)
        out = ffi.new("bool *")
        self._core.call(lib.bulk_swap_element, self._handle, at, old, handle, must_be, out)
        return bool(out[0])

    def exchange(self, index: int, new: Any) -> Any:
        """Store ``new`` into an element and return what it was, atomically."""
        at = self._element(index)
        handle = _one_handle(self._core, new, "the element")
        must_be = _must_be(self._type, None)
        out = ffi.new("bulk_object *")
        self._core.call(lib.bulk_exchange_element, self._handle, at, handle, must_be, out)
        return wrap(self._core, out, self._type)

    def _element(self, index: int) -> int:
        at = as_integer(index, self)
        if at is None:
            raise IndexError(f"the index is {index!r}, expected an integer")
        return at

    def __iter__(self) -> Iterator[Any]:
        for at in range(len(self)):
            yield self[at]

    def __contains__(self, value: object) -> bool:
        return bool(np.any(self == value))

    def __eq__(self, other: object) -> Any:
        count = len(self)
        try:
            handle, one, _known, _keep = _values(self._core, other, count, "comparison")
        except TypeError:
            return NotImplemented
        out = np.empty(count, dtype=np.bool_)
        self._core.call(lib.bulk_equal, self._handle, count, handle, one, address(out, "bool *"))
        return out

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else ~equal

    # --- fields of the elements ------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        field = self._field(name)
        if field.is_ref:
            handle = ffi.new("gch_handle *")
            refs = refs_type(self._core, field.target)
            self._core.allocate(lib.bulk_gather_refs, self._handle, field._native, refs, handle)
            return _make_array(self._core, handle[0], field.target)
        count = len(self)
        out = empty(field, (count,))
        self._core.call(lib.bulk_gather, self._handle, count, field._native, address(out))
        return out

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name in RESERVED:
            object.__setattr__(self, name, value)
            return
        field, count = self._field(name), len(self)
        if field.is_ref:
            what = f"field {name!r}"
            handle, one, known, _keep = _values(self._core, value, count, what)
            must_be = _must_be(field.target, known)
            self._core.call(
                lib.bulk_scatter_refs, self._handle, field._native, handle, one, must_be
            )
            return
        scalar = hasattr(value, "_handle") or np.ndim(value) <= field.ndim
        data = cast(field, value, () if scalar else (count,))
        stride = 0 if scalar else field.nbytes
        self._core.call(lib.bulk_scatter, self._handle, count, field._native, address(data), stride)

    def _field(self, name: str) -> Field:
        if self._type is not None:
            return self._type.field(name)
        user = ffi.new("uint64_t *")
        self._core.call(lib.bulk_common, self._handle, user)
        if user[0] == 0:
            raise AttributeError(f"no element is an object, so none has a field {name!r}")
        if user[0] >> KIND_SHIFT != lib.BULK_KIND_STRUCT:
            raise AttributeError(f"the elements are of no struct type, they have no field {name!r}")
        return _struct(self._core, user[0]).field(name)

    def __dir__(self) -> list[str]:
        own = ["compare_and_swap", "copy_within", "exchange", "fill", "is_null", "resize"]
        return [*own, *(self._type.fields if self._type is not None else ())]

    def __repr__(self) -> str:
        name = self._type.name if self._type is not None else "any type"
        if self._core.closed:
            return f"<RefArray of references to {name}, in a closed heap>"
        return f"<RefArray of {len(self)} references to {name}>"

    def __del__(self) -> None:
        self._core.drop(self._handle)


# --- making wrappers -----------------------------------------------------------------------------


def _struct(core: HeapCore, user: int) -> StructType:
    return core.types[(user & INDEX_MASK) - 1]


def _make_ref(core: HeapCore, handle: int, type_: StructType | None) -> Ref:
    ref: Ref = object.__new__(Ref)
    ref._core, ref._handle, ref._type = core, handle, type_
    return ref


def _make_array(core: HeapCore, handle: int, type_: StructType | None) -> RefArray:
    array = object.__new__(RefArray)
    array._core, array._handle, array._type = core, handle, type_
    return array


def wrap(
    core: HeapCore, found: Any, null_type: StructType | None = None
) -> Ref | RefArray | HeapArray | WeakRef | Ephemeron:
    """Make the wrapper for a native ``bulk_object``; it owns the handle."""
    if found.handle == 0:
        return _make_ref(core, 0, null_type)
    kind = found.user >> KIND_SHIFT
    if kind == lib.BULK_KIND_STRUCT:
        return _make_ref(core, found.handle, _struct(core, found.user))
    if kind == lib.BULK_KIND_REFS:
        number = found.user & INDEX_MASK
        type_ = core.types[number - 1] if number else None
        return _make_array(core, found.handle, type_)
    if kind == lib.BULK_KIND_LEAF:
        from gcheap.array import wrap_leaf

        return wrap_leaf(core, found)
    if kind in (lib.BULK_KIND_WEAK, lib.BULK_KIND_EPHEMERON):
        from gcheap.weak import wrap_cell

        return wrap_cell(core, found, kind)
    return _make_ref(core, found.handle, None)


def new_refs(core: HeapCore, items: int | Sequence[Any], type_: StructType | None) -> RefArray:
    """Make an array of null references, or of given ones."""
    if isinstance(items, (int, np.integer)) and not isinstance(items, bool):
        handles, count = ffi.NULL, _count(items)
    elif not isinstance(items, Iterable):
        raise TypeError(f"items is {items!r}, expected how many references, or references")
    else:
        objects = list(items)
        values = [_one_handle(core, item, f"item {at}") for at, item in enumerate(objects)]
        handles, count = ffi.new("gch_handle[]", values), len(values)
    out = ffi.new("gch_handle *")
    core.allocate(lib.bulk_list, handles, count, refs_type(core, None), out)
    array = _make_array(core, out[0], None)
    if type_ is None:
        return array
    core.allocate(lib.bulk_list, ffi.NULL, count, refs_type(core, type_), out)
    typed = _make_array(core, out[0], type_)
    if handles != ffi.NULL:
        typed[:] = array
    return typed


# --- arguments -----------------------------------------------------------------------------------


def _count(items: int | np.integer[Any]) -> int:
    if not isinstance(items, (int, np.integer)) or isinstance(items, bool):
        raise TypeError(f"the number of references is {items!r}, expected an integer")
    if not 0 <= items < 1 << 48:
        raise ValueError(f"the number of references is {items}, expected 0 to {(1 << 48) - 1}")
    return int(items)


def _handle_of(core: HeapCore, value: object) -> int | None:
    """Return the handle of a wrapper (0 for None), None if it is none."""
    from gcheap.array import HeapArray
    from gcheap.weak import Ephemeron, WeakRef

    if value is None:
        return 0
    if not isinstance(value, (Ref, RefArray, HeapArray, WeakRef, Ephemeron)):
        return None
    if value._core is not core and value._handle != 0:
        raise ValueError(f"{value!r} belongs to another heap")
    return value._handle


def _one_handle(core: HeapCore, value: object, what: str) -> int:
    handle = _handle_of(core, value)
    if handle is None:
        raise TypeError(f"{what} is {reprlib.repr(value)}, expected a reference or None")
    return handle


class _One:
    """One reference for all elements, whatever it refers to."""

    __slots__ = ("handle", "value")

    def __init__(self, value: Any, handle: int) -> None:
        self.value = value
        self.handle = handle


def _one(core: HeapCore, value: Any, what: str) -> _One:
    return _One(value, _one_handle(core, value, what))


def _values(
    core: HeapCore, value: Any, count: int, what: str
) -> tuple[int, bool, StructType | None, Any]:
    """Return handle, whether it is one reference for all, the type that all are known to have, and
    what must be kept meanwhile."""
    if isinstance(value, _One):
        return value.handle, True, None, value
    if isinstance(value, (list, tuple)):
        value = new_refs(core, value, None)
    if not isinstance(value, RefArray):
        return _one_handle(core, value, what), True, None, value
    handle, available = _one_handle(core, value, what), len(value)
    if available == count or available != 1:
        if available != count:
            raise ValueError(f"{what}: {available} references for {count} elements")
        return handle, False, value._type, value
    first = value[0]
    return _one_handle(core, first, what), True, None, first


def _must_be(target: StructType | None, known: StructType | None) -> Any:
    return ffi.NULL if target is None or target is known else target._pointer


def _is_same(core: HeapCore, handle: int, other: object) -> Any:
    """Compare an object with anything, as ``==`` does: what another heap holds is another one."""
    theirs = getattr(other, "_core", core)
    if theirs is not core and isinstance(theirs, HeapCore):
        return handle == 0 and getattr(other, "_handle", None) == 0
    found = _handle_of(core, other)
    return NotImplemented if found is None else _same(core, handle, found)


def _same(core: HeapCore, left: int, right: int) -> bool:
    out = ffi.new("bool *")
    core.call(lib.bulk_same, left, right, out)
    return bool(out[0])


def _identity_hash(core: HeapCore, handle: int) -> int:
    if handle == 0:
        return 0
    out = ffi.new("uint32_t *")
    core.call(lib.bulk_hash, handle, out)
    return int(out[0])
