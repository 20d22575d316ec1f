"""What refers to objects without keeping them alive: ``WeakRef``, ``Ephemeron``, ``Finalizer``.

When a collection finds that an object is reachable by no other way, weak references to it are
cleared, and callbacks registered for it become due. Minor collections look at young objects only,
and take an ephemeron for an object with two references.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from gcheap._core import Callback, HeapCore, Unpicklable
from gcheap._ffi import ffi, lib
from gcheap._vector import address, as_integer
from gcheap.array import HeapArray
from gcheap.refs import (
    BoolArray,
    Ref,
    RefArray,
    _handle_of,
    _identity_hash,
    _is_same,
    _make_array,
    _one_handle,
    _same,
    wrap,
)
from gcheap.struct import StructType, refs_type

__all__ = ["Ephemeron", "Finalizer", "WeakRef", "WeakRefArray", "wrap_cell"]

TOKENS = 256
"""Due callbacks that are asked for at a time."""


def _owner(value: object, what: str) -> HeapCore:
    if not isinstance(value, (Ref, RefArray, HeapArray, WeakRef, Ephemeron)):
        raise TypeError(f"{what} is {value!r}, expected a reference")
    return value._core


class WeakRef(Unpicklable):
    """A weak reference: ``w()`` returns the object, or None once it has been collected.

    It is an object of the heap, too: it may be stored in reference fields, and is then weak to
    them. What it refers to is a Ref, RefArray or HeapArray (or another WeakRef).

    As with ``weakref.ref``, two are equal if their objects are the same object, or, when one is
    cleared, if they are the same weak reference; the hash is the object's identity hash, so it has
    to be asked for while the object lives (TypeError otherwise) and stays the same then.

    Example:
        >>> import gcheap
        >>> with gcheap.Heap(max_size="16MiB") as heap:
        ...     Node = heap.struct("Node", weight="f8")
        ...     nodes = heap.new(Node, 2)
        ...     first, weak = nodes[0], gcheap.WeakRef(nodes[0])
        ...     same = weak() == first
        ...     nodes = first = None
        ...     event = heap.collect()
        ...     same, weak(), event.weak_cleared
        (True, None, 1)
    """

    __slots__ = ("_core", "_handle", "_hash")
    _core: HeapCore
    _handle: int
    _hash: int | None

    def __init__(self, referent: Any) -> None:
        core = _owner(referent, "the object of a weak reference")
        out = ffi.new("gch_handle *")
        core.allocate(lib.bulk_weak_new, referent._handle, out)
        self._core, self._handle, self._hash = core, int(out[0]), None

    def __call__(self) -> Any:
        found = ffi.new("bulk_object *")
        self._core.call(lib.bulk_weak_get, self._handle, found)
        return wrap(self._core, found) if found.handle else None

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, WeakRef):
            return NotImplemented
        if other._core is not self._core:
            return False
        mine, theirs = self(), other()
        if mine is None or theirs is None:
            return _same(self._core, self._handle, other._handle)
        return _same(self._core, mine._handle, theirs._handle)

    def __hash__(self) -> int:
        if self._hash is None:
            referent = self()
            if referent is None:
                raise TypeError("the object of the weak reference is gone, and so is its hash")
            self._hash = _identity_hash(self._core, referent._handle)
        return self._hash

    def __copy__(self) -> WeakRef:
        return self

    def __repr__(self) -> str:
        if self._core.closed:
            return "<WeakRef of a closed heap>"
        referent = self()
        return f"<WeakRef; {'dead' if referent is None else f'to {referent!r}'}>"

    def __del__(self) -> None:
        core = getattr(self, "_core", None)
        if core is not None:
            core.drop(self._handle)


class Ephemeron(Unpicklable):
    """A key and a value that lives only as long as the key does, by other ways than the ephemeron.

    The entry of a table that must not keep its keys alive, though its values may refer to them.
    ``key`` and ``value`` are None once the key has been collected; ``value`` may be assigned. Equal
    to itself only; the hash is its own identity hash.
    """

    __slots__ = ("_core", "_handle")
    _core: HeapCore
    _handle: int

    def __init__(self, key: Any, value: Any = None) -> None:
        core = _owner(key, "the key of an ephemeron")
        handle = _one_handle(core, value, "the value of an ephemeron")
        out = ffi.new("gch_handle *")
        core.allocate(lib.bulk_ephemeron_new, key._handle, handle, out)
        self._core, self._handle = core, int(out[0])

    @property
    def key(self) -> Any:
        """The key, or None."""
        return self._read(False)

    @property
    def value(self) -> Any:
        """The value, or None. Assigning to it does nothing once the key is gone."""
        return self._read(True)

    @value.setter
    def value(self, value: Any) -> None:
        handle = _one_handle(self._core, value, "the value of an ephemeron")
        self._core.call(lib.bulk_ephemeron_set, self._handle, handle)

    def _read(self, value: bool) -> Any:
        found = ffi.new("bulk_object *")
        self._core.call(lib.bulk_ephemeron_get, self._handle, value, found)
        return wrap(self._core, found) if found.handle else None

    def __eq__(self, other: object) -> Any:
        return False if other is None else _is_same(self._core, self._handle, other)

    def __hash__(self) -> int:
        return _identity_hash(self._core, self._handle)

    def __copy__(self) -> Ephemeron:
        return self

    def __repr__(self) -> str:
        if self._core.closed:
            return "<Ephemeron of a closed heap>"
        return f"<Ephemeron; {'dead' if self.key is None else f'key {self.key!r}'}>"

    def __del__(self) -> None:
        core = getattr(self, "_core", None)
        if core is not None:
            core.drop(self._handle)


class WeakRefArray(Unpicklable):
    """An array of weak references, all under one root: see ``Heap.weakrefs``.

    Like a RefArray of which elements become null when their objects are collected: ``a[i]`` is the
    element or a null Ref, ``a.is_null`` a mask, ``a.refs()`` a RefArray (which keeps them alive).
    """

    __slots__ = ("_cells", "_type")

    def __init__(self, cells: RefArray, type_: StructType | None) -> None:
        self._cells = cells
        self._type = type_

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, key: Any) -> Any:
        at = as_integer(key, self._cells)
        if at is None:
            raise TypeError(f"the index is {key!r}, expected an integer; refs() takes any")
        found = ffi.new("bulk_object *")
        core = self._cells._core
        core.call(lib.bulk_weak_at, self._cells._handle, at, found)
        return wrap(core, found, self._type)

    @property
    def is_null(self) -> BoolArray:
        """Mask of the elements that are null, or have been cleared, bool (n,)."""
        out = np.empty(len(self), dtype=np.bool_)
        self._cells._core.call(lib.bulk_weak_dead, self._cells._handle, address(out, "bool *"))
        return out

    def refs(self) -> RefArray:
        """Return what the elements refer to, null where they have been cleared."""
        core, handle = self._cells._core, ffi.new("gch_handle *")
        refs = refs_type(core, self._type)
        core.allocate(lib.bulk_weak_take, self._cells._handle, refs, handle)
        return _make_array(core, handle[0], self._type)

    def __copy__(self) -> WeakRefArray:
        return WeakRefArray(self._cells, self._type)

    def __repr__(self) -> str:
        name = self._type.name if self._type is not None else "any type"
        return f"<WeakRefArray of {len(self)} references to {name}>"


def new_weakrefs(core: HeapCore, referents: RefArray) -> WeakRefArray:
    """Make an array of weak references: see ``Heap.weakrefs``."""
    handle = ffi.new("gch_handle *")
    core.allocate(lib.bulk_weak_list, referents._handle, refs_type(core, None), handle)
    cells = _make_array(core, handle[0], None)
    return WeakRefArray(cells, referents._type)


def wrap_cell(core: HeapCore, found: Any, kind: int) -> WeakRef | Ephemeron:
    """Make the wrapper for a native ``bulk_object``; it owns the handle."""
    if kind == lib.BULK_KIND_EPHEMERON:
        ephemeron: Ephemeron = object.__new__(Ephemeron)
        ephemeron._core, ephemeron._handle = core, int(found.handle)
        return ephemeron
    weak: WeakRef = object.__new__(WeakRef)
    weak._core, weak._handle, weak._hash = core, int(found.handle), None
    return weak


# --- finalizers ----------------------------------------------------------------------------------


def _take(box: list[Callback]) -> Callback | None:
    """Empty it: whoever does may run what was in it."""
    try:
        return box.pop()
    except IndexError:
        return None


class Finalizer(Unpicklable):
    """A callback registered for an object: what ``Heap.finalize`` returns.

    It need not be kept. Calling it runs the callback now, if it has not run, and returns what that
    returns (None otherwise).
    """

    __slots__ = ("_box",)

    def __init__(self, box: list[Callback]) -> None:
        self._box = box

    @property
    def alive(self) -> bool:
        """Whether the callback is still to run."""
        return bool(self._box)

    def detach(self) -> bool:
        """Let the callback not run; return whether it was still to."""
        return _take(self._box) is not None

    def __call__(self) -> Any:
        entry = _take(self._box)
        return None if entry is None else entry[0](*entry[1], **entry[2])

    def __repr__(self) -> str:
        return f"<Finalizer; {'alive' if self.alive else 'dead'}>"


def finalize(
    core: HeapCore,
    referent: object,
    callback: Callable[..., Any],
    args: tuple[Any, ...],
    named: dict[str, Any],
) -> Finalizer:
    """Register a callback: see ``Heap.finalize``."""
    handle = _handle_of(core, referent)
    if handle is None:
        raise TypeError(f"the object to finalize is {referent!r}, expected a reference")
    if not callable(callback):
        raise TypeError(f"the callback is {callback!r}, expected something to call")
    token = next(core.tokens)
    box: list[Callback] = [(callback, args, named)]
    core.callbacks[token] = box
    try:
        core.call(lib.bulk_finalize, handle, token)
    except BaseException:
        core.callbacks.pop(token, None)
        raise
    return Finalizer(box)


class _Failed:
    """Reports an exception as the interpreter does those that nobody can catch."""

    def __init__(self, callback: Callable[..., Any], error: Exception) -> None:
        self.callback = callback
        self.error = error

    def __call__(self, _reference: object) -> NoReturn:
        raise self.error

    def __repr__(self) -> str:
        return repr(self.callback)

    def report(self) -> None:
        class Mortal:
            pass

        mortal = Mortal()
        reference = weakref.ref(mortal, self)
        del mortal
        assert reference() is None or sys.is_finalizing()


def _take_due(core: HeapCore) -> bool:
    """Move what is in the native queue to ``core.due``."""
    if core.closed or not lib.gch_finalizers_pending(core.pointer):
        return False
    tokens, count = ffi.new("uint64_t[]", TOKENS), ffi.new("uint64_t *")
    core.call(lib.bulk_finalized, tokens, ffi.NULL, TOKENS, count)
    core.due.extend(tokens[at] for at in range(count[0]))
    return bool(count[0])


def run_due(core: HeapCore) -> int:
    """Run callbacks that are due, unless somebody does already; return how many."""
    ran = 0
    if not core.begin_callbacks():
        return 0
    try:
        while core.due or _take_due(core):
            try:
                token = core.due.popleft()
            except IndexError:  # the heap was closed
                break
            entry = _take(core.callbacks.pop(token, []))
            if entry is None:
                continue
            ran += 1
            try:
                entry[0](*entry[1], **entry[2])
            except Exception as error:
                _Failed(entry[0], error).report()
    finally:
        core.end_callbacks()
    return ran
