"""Memory as processors without order see it: stores wait in a buffer for their turn.

Each CPU has a buffer. A relaxed or releasing store goes into it, and into memory some time later,
before or after those to other variables (weaker than x86, which keeps them in order). A load sees
the CPU's own stores. A sequentially consistent store, a read-modify-write and a fence wait until
the buffer is empty. So a model shows what a missing seq_cst lets happen: store buffering, the one
reordering that Dekker's algorithm must exclude.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeVar

from gcheap.explore import Actor, Answer, jump

__all__ = ["Memory", "cpu"]

S = TypeVar("S", bound=Hashable)


class Memory(NamedTuple):
    """Variables and buffers; part of a state."""

    values: tuple[tuple[str, int], ...]
    buffers: tuple[tuple[tuple[str, int], ...], ...]

    @classmethod
    def of(cls, cpus: int, **values: int) -> Memory:
        """Return memory with these variables."""
        return cls(tuple(values.items()), ((),) * cpus)

    def seen(self, name: str) -> int:
        """Return what memory holds."""
        return dict(self.values)[name]

    def load(self, cpu: int, name: str) -> int:
        """Return what the CPU sees."""
        return dict((*self.values, *self.buffers[cpu]))[name]

    def drained(self, cpu: int) -> bool:
        """Whether a fence would be passed now."""
        return not self.buffers[cpu]

    def store(self, cpu: int, name: str, value: int) -> Memory:
        """Relaxed or release."""
        mine = (*self.buffers[cpu], (name, value))
        return self._replace(buffers=(*self.buffers[:cpu], mine, *self.buffers[cpu + 1 :]))

    def store_seq(self, cpu: int, name: str, value: int) -> Memory | None:
        """Sequentially consistent, as a read-modify-write is; None: the buffer comes first."""
        return self._written(name, value) if self.drained(cpu) else None

    def _written(self, name: str, value: int) -> Memory:
        return self._replace(values=tuple((n, value if n == name else v) for n, v in self.values))

    def flushed(self, cpu: int) -> list[Memory]:
        """Return what memory may be after one store of the CPU has got there."""
        mine = self.buffers[cpu]
        oldest = {name: at for at, (name, _) in reversed(list(enumerate(mine)))}
        return [
            self._written(*mine[at])._replace(
                buffers=(
                    *self.buffers[:cpu],
                    (*mine[:at], *mine[at + 1 :]),
                    *self.buffers[cpu + 1 :],
                )
            )
            for at in oldest.values()
        ]


def cpu(number: int, get: Callable[[S], Memory], put: Callable[[S, Memory], S]) -> Actor[S]:
    """Return the actor that lets the stores of a CPU get to memory."""

    def buffered(s: S) -> list[Answer[S]]:
        return [jump("buffered", put(s, memory)) for memory in get(s).flushed(number)]

    return Actor(f"cpu {number}", [buffered], daemon=True)
