"""Struct types: fields from numpy dtypes and references, laid out as in C.

Fields lie in the order given, each at its natural alignment (at most 8), after the 8-byte header; a
reference takes 8 bytes.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._core import KIND_SHIFT, HeapCore, Unpicklable
from gcheap._errors import exception_for
from gcheap._ffi import ffi, lib, text

__all__ = ["Field", "RefTo", "StructType", "check_dtype", "define_struct"]

HEADER_BYTES = 8
MAX_STRUCT_BYTES = 8192
KINDS = "biufcSUmM"
RESERVED = frozenset({"compare_and_swap", "copy_within", "exchange", "fill", "is_null", "resize"})
"""Names that wrappers use themselves."""


@dataclass(frozen=True, slots=True)
class RefTo:
    """A reference field that takes objects of one type only: what ``gcheap.Ref(Node)`` returns.

    Attributes:
        target: the type, or its name (also that of the struct being defined).
    """

    target: StructType | str


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a struct.

    Attributes:
        name: its name.
        offset: bytes from the object's first byte (its header).
        nbytes: its size.
        dtype: of the values, sub-arrays included; None for a reference.
        target: the type a reference must lead to, or None.
    """

    name: str
    offset: int
    nbytes: int
    dtype: np.dtype[Any] | None
    target: StructType | None
    _native: Any = field(repr=False, compare=False)

    @property
    def is_ref(self) -> bool:
        """Whether the field is a reference."""
        return self.dtype is None

    @property
    def ndim(self) -> int:
        """Dimensions of one value: those of the sub-array."""
        return 0 if self.dtype is None else len(self.dtype.shape)


class StructType(Unpicklable):
    """A type of objects of one heap: see ``Heap.struct``. Lives as long as the heap."""

    __slots__ = (
        "__weakref__",
        "_fields",
        "_index",
        "_pointer",
        "_refs",
        "_token",
        "name",
        "nbytes",
    )

    def __init__(self, core: HeapCore, name: str, index: int) -> None:
        self._token = core.token  # not the heap itself: it would keep itself alive
        self._index = index
        self._pointer: Any = ffi.NULL
        self._refs: Any = ffi.NULL  # type of arrays of references to these objects
        self._fields: dict[str, Field] = {}
        self.name = name
        self.nbytes = 0

    @property
    def fields(self) -> Mapping[str, Field]:
        """The fields by name, in order."""
        return MappingProxyType(self._fields)

    def field(self, name: str) -> Field:
        """Return a field.

        Raises:
            AttributeError: names the field and those there are.
        """
        found = self._fields.get(name)
        if found is None:
            known = ", ".join(self._fields) or "none"
            raise AttributeError(f"{self.name} has no field {name!r}; its fields: {known}")
        return found

    def __repr__(self) -> str:
        parts = [
            f"{f.name}={'Ref' if f.target is None else f'Ref({f.target.name})'}"
            if f.dtype is None
            else f"{f.name}={f.dtype}"
            for f in self._fields.values()
        ]
        return f"<struct {', '.join([self.name, *parts])}; {self.nbytes} bytes>"


def check_dtype(spec: npt.DTypeLike, what: str, expected: str = "a numpy dtype") -> np.dtype[Any]:
    """Return the dtype if objects may hold such values.

    Raises:
        TypeError: names the dtype and what is supported.
    """
    try:
        dtype = np.dtype(spec if spec is not None else "None")  # to numpy None is float64
    except TypeError:
        raise TypeError(f"{what} is {spec!r}, expected {expected}") from None
    base = dtype.base
    if base.kind not in KINDS or not base.isnative or dtype.itemsize == 0:
        raise TypeError(
            f"{what} is {dtype.str if base.kind in KINDS else dtype}, expected bool, int,"
            " uint, float, complex, S, U, datetime64 or timedelta64, native byte order, not empty"
        )
    return dtype


def _check_struct_name(name: str) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"the name of a struct is {name!r}, expected text")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise ValueError(f"the name of a struct is {name!r}, expected text that UTF-8 and C hold")


def _check_name(struct: str, name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"field {name!r} of {struct} is no Python name")
    if name.startswith("_") or name in RESERVED:
        raise ValueError(f"field {name!r} of {struct}: such names are reserved for gcheap")


def _resolve(core: HeapCore, struct: StructType, name: str, target: StructType | str) -> StructType:
    what = f"field {name!r} of {struct.name}"
    if isinstance(target, str):
        if target == struct.name:
            return struct
        for known in reversed(core.types):
            if known.name == target:
                return known
        raise ValueError(f"{what} refers to {target!r}, which is no struct of this heap")
    if not isinstance(target, StructType):
        raise TypeError(f"{what} refers to {target!r}, expected a struct type or its name")
    if target._token is not core.token:
        raise ValueError(f"{what} refers to {target.name}, a struct of another heap")
    return target


def _align(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def define_struct(core: HeapCore, name: str, specs: Mapping[str, Any], ref: type) -> StructType:
    """Define a struct; ``ref`` is the class ``gcheap.Ref``, which stands for any reference."""
    _check_struct_name(name)
    with core.type_lock:
        struct = StructType(core, name, len(core.types) + 1)
        offset = HEADER_BYTES
        layout: list[tuple[str, int, int, np.dtype[Any] | None, StructType | None]] = []
        for key, spec in specs.items():
            _check_name(name, key)
            if isinstance(spec, RefTo) or spec is ref:
                target = None
                if isinstance(spec, RefTo):
                    target = _resolve(core, struct, key, spec.target)
                offset = _align(offset, 8)
                layout.append((key, offset, 8, None, target))
                offset += 8
                continue
            dtype = check_dtype(spec, f"field {key!r} of {name}", "gcheap.Ref or a numpy dtype")
            offset = _align(offset, min(dtype.alignment, 8))
            layout.append((key, offset, dtype.itemsize, dtype, None))
            offset += dtype.itemsize
        if offset > MAX_STRUCT_BYTES:
            raise ValueError(f"{name} has {offset} bytes, expected at most {MAX_STRUCT_BYTES}")
        offsets = [at for _, at, _, held, _ in layout if held is None]
        _register(core, struct, offset - HEADER_BYTES, offsets)
        for key, at, nbytes, held, target in layout:
            native = ffi.new("bulk_field *", [struct._pointer, at, nbytes])
            struct._fields[key] = Field(key, at, nbytes, held, target, native)
        core.types.append(struct)
    return struct


def _register(core: HeapCore, struct: StructType, fixed: int, ref_offsets: list[int]) -> None:
    user = lib.BULK_KIND_STRUCT << KIND_SHIFT | struct._index
    struct._pointer = new_type(core, struct.name, user, fixed=fixed, ref_offsets=ref_offsets)
    struct._refs = refs_type(core, struct)
    struct.nbytes = struct._pointer.bytes


def refs_type(core: HeapCore, struct: StructType | None) -> Any:
    """Return the native type of arrays of references to objects of ``struct`` (None: to any)."""
    if struct is not None and struct._refs != ffi.NULL:
        return struct._refs
    with core.type_lock:
        if struct is None and "refs" in core.interned:
            return core.interned["refs"]
        name, index = ("Ref[]", 0) if struct is None else (f"{struct.name}[]", struct._index)
        user = lib.BULK_KIND_REFS << KIND_SHIFT | index
        native = new_type(core, name, user, tail=lib.GCH_TAIL_REFS)
        if struct is None:
            core.interned["refs"] = native
    return native


def new_type(
    core: HeapCore,
    name: str,
    user: int,
    *,
    fixed: int = 0,
    ref_offsets: list[int] | None = None,
    tail: int | None = None,
    tail_bytes: int = 0,
) -> Any:
    """Register a native type and return its pointer."""
    offsets = ffi.new("uint32_t[]", ref_offsets or [])
    label = ffi.new("char[]", name.encode())
    desc = ffi.new("gch_type_desc *")
    desc.struct_bytes = ffi.sizeof("gch_type_desc")
    desc.fixed_bytes = fixed
    desc.ref_offsets = offsets
    desc.ref_count = len(ref_offsets or [])
    desc.tail = lib.GCH_TAIL_NONE if tail is None else tail
    desc.tail_bytes = tail_bytes
    desc.name = label
    desc.user = user
    out, error = ffi.new("gch_type **"), ffi.new("gch_error *")
    status = core.call_heap(lib.gch_type_new, desc, out, error)
    if status != lib.GCH_OK:
        raise exception_for(status, text(error.message))
    return out[0]
