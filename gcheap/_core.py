"""What all objects of one heap share: the native heap, threads as mutators, handles to give back.

Threads. A thread that uses a heap is attached on first use, as a mutator in native state: it counts
as stopped while it runs Python. Every native call that touches objects enters managed state and
leaves it again by itself, with the GIL dropped. The mutator goes when its thread ends (a
threading.local is cleared) or when the heap is closed.

Closing. ``closed`` is set first, then the threads inside a call are waited for: a call raises its
``depth`` before it looks at ``closed``, so one of both sees the other. Arrays over pinned memory
may outlive a closed heap: the native heap then goes with the last of them, once all threads are
detached.

fork(). The child's native heap is its own, and has lost the mutators of threads that the child does
not have. What those threads held or were inside of here is let go, too.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gcheap._errors import HeapClosedError, InvalidOperation, exception_for
from gcheap._ffi import ffi, lib, text

if TYPE_CHECKING:
    from gcheap.struct import StructType

__all__ = ["HeapCore", "Unpicklable"]

Callback = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A function and its arguments."""
DEAD_HANDLES = 256
"""Handles that wait before a call gives them back."""
KIND_SHIFT = 56
ARGUMENTS = {
    "max_bytes": "max_size",
    "nursery_bytes": "nursery",
    "staging_bytes": "staging",
    "stress_interval": "stress",
    "geometry_page": "page_size",
    "ring_path": "ring",
    "budget_bytes": "budget",
}
"""Fields of gch_config that are arguments of another name in Python."""


def _in_python(message: str) -> str:
    """Return a message that begins with a field of gch_config, as Python names it."""
    name, space, rest = message.partition(" ")
    return f"{ARGUMENTS.get(name, name)}{space}{rest}"


class Unpicklable:
    """What names memory of a heap: it can be neither pickled nor copied as a bundle of fields."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(
            f"{type(self).__name__} objects cannot be pickled or copied, they name memory of a"
            " heap; Heap.extract returns a graph that can be saved"
        )


class _Mutator:
    """A thread's attachment; ``depth`` counts the calls that it is inside of.

    Whoever claims it, its thread at its end or a closing heap, takes it from the heap; the other
    one waits until it is ``gone``: the native thread frees its mutator when it ends.
    """

    __slots__ = ("_unclaimed", "depth", "gone", "pointer")

    def __init__(self) -> None:
        self.pointer: Any = ffi.NULL
        self.depth = 0
        self.gone = False
        self._unclaimed = [True]

    def leave(self, function: Callable[[Any], None]) -> None:
        """Take it from its heap by ``function``, or wait until somebody else has."""
        try:
            self._unclaimed.pop()
        except IndexError:
            while not self.gone:
                time.sleep(0.0002)
            return
        if self.pointer != ffi.NULL:
            function(self.pointer)
        self.gone = True


class _AtThreadExit:
    """Lives in a threading.local and detaches its thread when that is cleared."""

    __slots__ = ("mutator", "mutators")

    def __init__(self, mutators: dict[int, _Mutator], mutator: _Mutator) -> None:
        self.mutators = mutators
        self.mutator = mutator

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.mutator.leave(lib.gch_detach)
            self.mutators.pop(id(self.mutator), None)


class HeapCore:
    """One native heap. Wrappers of objects hold it; it holds none of them."""

    def __init__(self, config: Any) -> None:
        out, error = ffi.new("gch_heap **"), ffi.new("gch_error *")
        status = lib.gch_heap_create(config, out, error)
        if status != lib.GCH_OK:
            raise exception_for(status, _in_python(text(error.message)))
        self.pointer: Any = out[0]
        self.closed = False
        self.pid = os.getpid()
        self.token = object()  # says of which heap a struct type is
        self.dead: deque[int] = deque()
        self.views: set[int] = set()  # exported views that were not released
        self.pins: set[int] = set()  # arrays over pinned memory
        self.types: list[StructType] = []
        self.leaf_types: list[tuple[Any, int]] = []  # dtype and dimensions, by number
        self.graph_names: list[str] = []
        self.type_lock = threading.RLock()
        self.interned: dict[Any, Any] = {}
        self.tokens = itertools.count(1)
        self.callbacks: dict[int, list[Callback]] = {}  # by token; empty: it is not to run
        self.due: deque[int] = deque()  # tokens, taken from the native queue
        self._turn = [True]  # popped by whoever runs callbacks
        self._runs: int | None = None  # the thread that does
        self._local = threading.local()
        self._mutators: dict[int, _Mutator] = {}
        self._detached = False  # closed, and no thread is attached any more
        self._alive = [True]  # popped by whoever destroys the native heap
        self.at_end: list[Callable[[], None]] = []  # called before the native heap goes
        _cores.add(self)

    # --- calls -----------------------------------------------------------------------------------

    def call(self, function: Callable[..., int], *args: Any) -> None:
        """Call a native function with this thread's mutator before ``args``.

        Raises:
            HeapClosedError: the heap is closed.
            Exception: what the returned status says.
        """
        mutator = self._enter()
        try:
            status = function(mutator.pointer, *args)
            if status:
                raise exception_for(status, text(lib.gch_last_error(mutator.pointer).message))
        finally:
            mutator.depth -= 1

    def allocate(self, function: Callable[..., int], *args: Any) -> None:
        """Do as ``call``, for what may collect: what was dropped before is garbage by then."""
        if self.dead and not self.closed:
            self.settle()
        if self.callbacks:
            self.run_callbacks()
        self.call(function, *args)

    def call_heap(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a native function with the heap before ``args`` and return what it returns."""
        mutator = self._enter()
        try:
            return function(self.pointer, *args)
        finally:
            mutator.depth -= 1

    def _enter(self) -> _Mutator:
        if len(self.dead) > DEAD_HANDLES and not self.closed:
            self.settle()
        return self._count_in()

    def _count_in(self) -> _Mutator:
        """Count this thread as inside of a call. From there to the caller's ``try`` nothing is
        called, so that no signal handler runs there: one that raises would leave it inside."""
        mutator: _Mutator | None = getattr(self._local, "mutator", None)
        if mutator is None:
            mutator = self._attach()
        mutator.depth += 1
        if self.closed:
            mutator.depth -= 1
            raise HeapClosedError("the heap is closed")
        return mutator

    def _attach(self) -> _Mutator:
        if self.closed:
            raise HeapClosedError("the heap is closed")
        mutator = _Mutator()
        out, error = ffi.new("gch_mutator **"), ffi.new("gch_error *")
        try:
            mutator.depth = 1  # keeps close() waiting meanwhile
            self._mutators[id(mutator)] = mutator
            status = lib.bulk_attach(self.pointer, out, error) if not self.closed else -1
            if status != lib.GCH_OK:
                if self.closed:
                    raise HeapClosedError("the heap is closed")
                raise exception_for(status, text(error.message))
            mutator.pointer = out[0]
            self._local.at_exit = _AtThreadExit(self._mutators, mutator)
            self._local.mutator = mutator
        except BaseException:  # a signal handler may raise anywhere
            mutator.pointer = out[0]
            mutator.leave(lib.gch_detach)
            self._mutators.pop(id(mutator), None)
            raise
        finally:
            mutator.depth = 0
        return mutator

    def drop(self, handle: int) -> None:
        """Give a handle back, some time soon. Legal anywhere, __del__ included."""
        if handle:
            self.dead.append(handle)

    def _free_dead(self) -> None:
        batch = []
        try:
            while True:
                batch.append(self.dead.popleft())
        except IndexError:
            pass
        if batch:
            lib.bulk_free(self.pointer, batch, len(batch))

    def settle(self) -> None:
        """Give all dropped handles back, so that a collection finds what they held dead."""
        mutator = self._count_in()
        try:
            self._free_dead()
        finally:
            mutator.depth -= 1

    # --- finalizers ------------------------------------------------------------------------------

    def run_callbacks(self) -> int:
        """Run the callbacks that are due; return how many have run."""
        if not self.callbacks or self.closed:
            return 0
        if not self.due and not lib.gch_finalizers_pending(self.pointer):
            return 0
        from gcheap.weak import run_due

        return run_due(self)

    def begin_callbacks(self) -> bool:
        """Return whether callbacks may be run here: nobody does, this thread included."""
        me = threading.get_ident()
        try:
            self._turn.pop()
        except IndexError:
            return False
        except BaseException:  # of a signal handler, when it has been taken
            self._turn.append(True)
            raise
        self._runs = me
        return True

    def end_callbacks(self) -> None:
        self._runs = None
        self._turn.append(True)

    # --- pins ------------------------------------------------------------------------------------

    def pin(self, handle: int, key: int) -> tuple[Any, Any, int]:
        """Pin an object until ``unpin``; return pointers to its payload and to the object, and its
        length."""
        payload, address, length = ffi.new("void **"), ffi.new("void **"), ffi.new("uint64_t *")
        self.pins.add(key)  # first: whoever closes the heap from now on leaves it to unpin()
        try:
            self.call(lib.bulk_pin, handle, payload, address, length)
            return payload[0], address[0], int(length[0])
        except BaseException:
            self.unpin(address[0], key)
            raise

    def unpin(self, address: Any, key: int) -> None:
        """Undo the pin of a view whose last array is gone, or one that failed. Legal anywhere."""
        if not self._alive or key not in self.pins:
            return
        if address != ffi.NULL:
            lib.gch_unpin(self.pointer, ffi.cast("gch_ref", address))
        self.pins.discard(key)
        if self._detached and not self.pins:
            self._destroy()

    # --- fork ------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """In a child: forget the threads that it does not have."""
        mine = getattr(self._local, "mutator", None)
        for mutator in self._mutators.values():
            if mutator is not mine:
                mutator.depth = 0
        self.type_lock = threading.RLock()
        if self._runs is not None and self._runs != threading.get_ident():
            self.end_callbacks()

    # --- end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the heap; nothing happens if it is closed.

        Raises:
            BufferError: a view is exported; the heap stays open.
            InvalidOperation: a native thread is attached (a workload runs), or this thread is
                inside of a call (a signal handler closes it); the heap stays open.
        """
        if self.closed:
            return
        mine = getattr(self._local, "mutator", None)
        if mine is not None and mine.depth:
            raise InvalidOperation("this thread is inside of a call on the heap; close it later")
        self._refuse_views()  # also before others find the heap closed that then is not
        self.closed = True
        self._wait_for_calls()
        try:
            self._refuse_views()
        except BufferError:
            self.closed = False
            raise
        self._detach_all()
        self._detached = True  # before it looks at pins: unpin() does it the other way round
        if self.pins:
            return  # arrays over pinned memory are still around: unpin() destroys
        try:
            self._destroy()
        except Exception:
            self._detached = self.closed = False
            raise

    def _refuse_views(self) -> None:
        if self.views:
            raise BufferError(f"views of heap arrays are open: {len(self.views)}; leave them first")

    def _wait_for_calls(self) -> None:
        mine = getattr(self._local, "mutator", None)
        while any(m.depth for m in list(self._mutators.values()) if m is not mine):
            time.sleep(0.0002)

    def _detach_all(self) -> None:
        mine = getattr(self._local, "mutator", None)
        for mutator in list(self._mutators.values()):
            mutator.leave(lib.gch_detach if mutator is mine else lib.bulk_orphan)
        self._mutators.clear()
        self._local = threading.local()

    def _destroy(self) -> None:
        try:
            self._alive.pop()
        except IndexError:
            return
        for reads_until_now in list(self.at_end):
            reads_until_now()
        error = ffi.new("gch_error *")
        status = lib.gch_heap_destroy(self.pointer, error)
        if status != lib.GCH_OK:
            self._alive.append(True)
            raise exception_for(status, text(error.message))
        self.pointer = ffi.NULL

    def __del__(self) -> None:
        if not getattr(self, "_alive", None) or sys.is_finalizing() or os.getpid() != self.pid:
            return
        self.views.clear()
        try:
            self.close()
        except Exception:  # a native thread is attached: the heap must stay
            return


_cores: weakref.WeakSet[HeapCore] = weakref.WeakSet()


def _after_fork() -> None:
    for core in list(_cores):
        core.after_fork()


os.register_at_fork(after_in_child=_after_fork)
