"""What threads waited for in one full collection: faults, who answered them, who waited for whom,
and how little of its time a thread had to itself. Seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gcheap._ffi import ffi, lib, text
from gcheap.stats import NS, STALLS, Distribution

__all__ = ["StallReport", "Utilisation", "Waits"]

WINDOWS = ("1ms", "10ms", "100ms")
ACTORS = tuple(text(lib.gch_actor_name(i)) for i in range(lib.GCH_ACTOR_COUNT))
ANSWERS = tuple(text(lib.gch_answer_name(i)) for i in range(lib.GCH_ANSWER_COUNT))


@dataclass(frozen=True, slots=True)
class Utilisation:
    """The window in which a thread had least of its time to itself.

    Attributes:
        least: the share that it had, 0 to 1; 1: nobody lost anything.
        window_s: the window's length: all of what was looked at, if that was shorter.
        begin_s: when the window began, in seconds since the collection did.
        thread: whose (the kernel's number), 0: nobody's.
        lost_s: what the rest went to: pause, fault, unit, alloc, barrier, fork.
    """

    least: float
    window_s: float
    begin_s: float
    thread: int
    lost_s: dict[str, float]

    @classmethod
    def from_native(cls, u: Any, origin: int) -> Utilisation:
        """Convert a ``gch_utilisation`` of a collection that began at ``origin``."""
        lost = {name: ns * NS for name, ns in zip(STALLS, u.lost_ns, strict=False) if ns}
        begin = (int(u.begin_ns) - origin) * NS
        return cls(float(u.least), u.window_ns * NS, begin, int(u.thread), lost)


@dataclass(frozen=True, slots=True)
class Waits:
    """How often, and how long in all."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StallReport:
    """A full collection, as the threads of the program felt it. ``print`` shows it as a table.

    What a thread spends in ``collect`` it has asked for: that is no stall. In fault mode ``thread``
    the kernel holds who has touched missing memory, and what is known is the time from its message
    being read until the page was there: without delivery and wake-up. (And with the time for which
    the one who answered lost its CPU before it looked at the clock.)

    Attributes:
        number: of the cycle, as in ``GCEvent``.
        seconds: of the collection; ``move_s`` of its move phase beside the program, 0: it had none.
        threads: threads that were stalled.
        touches: what touches of missing memory waited.
        answers: the same by who answered: ``self`` (fault mode ``signal``, and memory that was to
            be pinned), ``worker``, ``handler`` (the thread that answers when no worker does), and
            ``busy``: somebody was making that piece already.
        waits: (who waited, for whom) -> how much, for memory that was missing; those that did:
            ``mutator`` (a thread of the program), ``worker``, ``handler``, ``minor`` (who collects
            the young space in a pause).
        cycle: "1ms", "10ms", "100ms" -> the worst window of that length in the collection, of any
            thread: minimum mutator utilisation.
        move: the same in the move phase; None: it had none.
        unlogged: stalls that ``cycle`` and ``move`` leave out, for want of room: 0, as a rule.
    """

    number: int
    seconds: float
    move_s: float
    threads: int
    touches: Distribution
    answers: dict[str, Distribution]
    waits: dict[tuple[str, str], Waits]
    cycle: dict[str, Utilisation]
    move: dict[str, Utilisation] | None
    unlogged: Waits

    @classmethod
    def from_native(cls, r: Any) -> StallReport:
        """Convert a ``gch_report``."""
        origin, moved = int(r.begin_ns), int(r.move_end_ns) - int(r.move_begin_ns)

        def windows(of: Any) -> dict[str, Utilisation]:
            found = (Utilisation.from_native(u, origin) for u in of)
            return dict(zip(WINDOWS, found, strict=True))

        return cls(
            number=int(r.number),
            seconds=(int(r.end_ns) - origin) * NS,
            move_s=moved * NS,
            threads=int(r.threads),
            touches=Distribution.from_native(r.touches),
            answers={
                name: Distribution.from_native(d)
                for name, d in zip(ANSWERS, r.answers, strict=True)
                if d.count
            },
            waits={
                (who, whom): Waits(int(r.wait_count[i][k]), r.wait_ns[i][k] * NS)
                for i, who in enumerate(ACTORS)
                for k, whom in enumerate(ACTORS)
                if r.wait_count[i][k]
            },
            cycle=windows(r.cycle),
            move=windows(r.move) if moved else None,
            unlogged=Waits(int(r.unlogged), r.unlogged_ns * NS),
        )

    def __str__(self) -> str:
        lines = [
            f"collection {self.number}: {_ms(self.seconds)}, of that {_ms(self.move_s)} moving"
            f" beside the program; threads stalled: {self.threads}"
        ]
        lines += self._touch_lines() + self._wait_lines()
        lines += _utilisation_lines("collection", self.cycle)
        if self.move is not None:
            lines += _utilisation_lines("move", self.move)
        if self.unlogged.count:
            lines.append(f"left out: {self.unlogged.count} stalls, {_ms(self.unlogged.seconds)}")
        return "\n".join(lines)

    def _touch_lines(self) -> list[str]:
        if not self.touches.count:
            return ["no touch of missing memory"]
        lines = ["touches answered by       count       p50       p90       p99       max"]
        for name, d in (self.answers | {"all": self.touches}).items():
            times = "".join(f"{_us(value):>10}" for value in (d.p50, d.p90, d.p99, d.max))
            lines.append(f"  {name:<20}{d.count:>9}{times}")
        return lines

    def _wait_lines(self) -> list[str]:
        if not self.waits:
            return []
        head = f"{'waited':<12}{'for':<10}{'count':>9}{'in all':>10}"
        return [head] + [
            f"  {who:<10}{whom:<10}{w.count:>9}{_ms(w.seconds):>10}"
            for (who, whom), w in self.waits.items()
        ]


def unpack_utilisation(packed: int) -> tuple[float, ...] | None:
    """Return the shares, of windows of 1, 10 and 100 ms, in a field of a utilisation event; None:
    there was no such phase."""
    if packed == (1 << 64) - 1:
        return None
    return tuple((packed >> 21 * i & 0x1FFFFF) / 1e6 for i in range(len(WINDOWS)))


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}ms"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}us"


def _utilisation_lines(what: str, windows: dict[str, Utilisation]) -> list[str]:
    lines = [f"{'utilisation: ' + what:<24}{'least':>7}{'thread':>9}  lost to"]
    for name, u in windows.items():
        lost = ", ".join(f"{cause} {_ms(s)}" for cause, s in u.lost_s.items()) or "-"
        lines.append(f"  {name + ' windows':<22}{u.least:>7.3f}{u.thread:>9}  {lost}")
    return lines


def read_report(heap: Any) -> StallReport | None:
    """Return the report of a native heap's last full collection; None before the first."""
    native = ffi.new("gch_report *")
    lib.gch_report_get(heap, native, ffi.sizeof("gch_report"))
    return StallReport.from_native(native) if native.number else None
