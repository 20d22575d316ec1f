"""What weak references, ephemerons and finalizers mean: a reference implementation in numpy.

Objects are numbers. ``kind`` says what each is, ``slots`` (n, 2) what it refers to (-1: null): of a
node two references, of a weak reference its object, of an ephemeron key and value. Nothing here is
clever: each collection is a few fixed points over masks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NODE, WEAK, EPHEMERON = range(3)

Mask = npt.NDArray[np.bool_]


class World:
    def __init__(self) -> None:
        self.kind = np.empty(0, dtype=np.int8)
        self.slots = np.empty((0, 2), dtype=np.int64)
        self.exists = np.empty(0, dtype=np.bool_)  # not collected
        self.old = np.empty(0, dtype=np.bool_)
        self.rooted = np.empty(0, dtype=np.bool_)
        self.registered: list[tuple[int, int]] = []  # object, token; in order
        self.queue: list[tuple[int, int]] = []

    def new(self, kind: int, first: int = -1, second: int = -1) -> int:
        """Make a rooted young object."""
        self.kind = np.append(self.kind, np.int8(kind))
        self.slots = np.vstack([self.slots, [[first, second]]])
        self.exists, self.old = np.append(self.exists, True), np.append(self.old, False)
        self.rooted = np.append(self.rooted, True)
        return len(self.kind) - 1

    # --- marking ---------------------------------------------------------------------------------

    def _targets(self, of: Mask, columns: slice) -> Mask:
        """Mask of what the given columns of the objects ``of`` refer to."""
        found = np.zeros(len(self.kind), dtype=np.bool_)
        targets = self.slots[of, columns].ravel()
        found[targets[targets >= 0]] = True
        return found

    def _live_keys(self, marked: Mask) -> Mask:
        """Mask of marked ephemerons whose keys are marked."""
        key = self.slots[:, 0]
        return marked & (self.kind == EPHEMERON) & (key >= 0) & marked[key]

    def reach(self, marked: Mask) -> Mask:
        """Close a mask under references that keep alive."""
        while True:
            grown = marked | self._targets(marked & (self.kind == NODE), slice(0, 2))
            grown |= self._targets(self._live_keys(grown), slice(1, 2))
            if np.array_equal(grown, marked):
                return marked
            marked = grown

    def _clear(self, marked: Mask) -> int:
        """Clear marked cells that refer to what is not; return how many."""
        target = self.slots[:, 0]
        dead = marked & (self.kind != NODE) & (target >= 0) & ~marked[target]
        self.slots[dead] = -1
        return int(dead.sum())

    def _queue_dead(self, marked: Mask) -> int:
        dead = [entry for entry in self.registered if not marked[entry[0]]]
        self.registered = [entry for entry in self.registered if marked[entry[0]]]
        self.queue += dead
        return len(dead)

    def _queued(self) -> Mask:
        found = np.zeros(len(self.kind), dtype=np.bool_)
        found[[entry[0] for entry in self.queue]] = True
        return found

    # --- collections -----------------------------------------------------------------------------

    def major(self) -> tuple[int, int]:
        """Collect everything that is dead; return cells cleared, registrations queued.

        It begins with a minor collection.
        """
        first = self.minor()
        marked = self.reach(self.rooted | self._queued())
        cleared = self._clear(marked)
        queued = self._queue_dead(marked)
        marked = self.reach(marked | self._queued())
        cleared += self._clear(marked)
        self.exists = marked
        self.old = marked.copy()
        return cleared + first[0], queued + first[1]

    def _reach_young(self, marked: Mask) -> Mask:
        """Do so as minor collections do: ephemerons are strong."""
        while True:
            grown = marked | self._targets(marked & (self.kind != WEAK), slice(0, 2))
            if np.array_equal(grown, marked):
                return marked
            marked = grown

    def minor(self) -> tuple[int, int]:
        """Collect the young, and promote what is left; return as ``major`` does."""
        old = self.exists & self.old
        marked = self._reach_young(old | self.rooted | self._queued())
        cleared = self._clear(marked)
        queued = self._queue_dead(marked)
        marked = self._reach_young(marked | self._queued())
        cleared += self._clear(marked)
        self.exists = marked
        self.old = marked.copy()
        return cleared, queued
