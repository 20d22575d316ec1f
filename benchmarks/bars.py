"""What gcheap must reach on the reference machine: the issue's table, by names of benchmarks.

Most are meant for a live size, ``Bar.live``; at another (``GCHEAP_BENCH_LIVE``) a line says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BARS", "Bar", "heading", "judge"]

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: ``slower`` ÷ ``faster`` at least ``bound`` (at most where ``most``), or, without
    ``slower``, ``faster`` at most ``bound`` (seconds, or a share where ``share``), at least
    where ``least``; with ``among``, the largest ÷ the least of these and ``faster`` at most
    ``bound``. With ``live`` bytes that live (0: whatever lives). ``beside``: a benchmark whose
    figure is printed beside."""

    what: str
    faster: str
    bound: float
    slower: str = ""
    share: bool = False
    live: int = GIB
    least: bool = False
    among: tuple[str, ...] = ()
    beside: str = ""
    beside_what: str = "without a heap"
    most: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The benchmarks whose figures it needs."""
        return tuple(filter(None, (self.faster, self.slower, *self.among)))

    def judge(self, medians: Mapping[str, float], live: int) -> str | None:
        """Return a line, or None if the benchmarks were not run. They ran with ``live`` bytes."""
        if any(name not in medians for name in self.names):
            return None
        got = self._got(medians)
        least = self.least or (bool(self.slower) and not self.most)
        met = got >= self.bound if least else got <= self.bound
        wanted = f"{'at least' if least else 'at most'} {self._said(self.bound)}"
        line = f"{'met   ' if met else 'MISSED'} {self.what}: {self._said(got)}, wanted {wanted}"
        if self.beside in medians:
            line += f" ({self.beside_what} {self._said(medians[self.beside])})"
        if self.live not in (0, live):
            line += f" at {_size(self.live)} live (this is {_size(live)})"
        floor = FLOORS.get(self.faster)
        if floor is None or any(name not in medians for name in floor):
            return line
        return f"{line}; floor {self._said(self._value(medians, *floor))}"

    def _got(self, medians: Mapping[str, float]) -> float:
        if self.among:
            values = [medians[name] for name in self.names]
            return max(values) / max(min(values), 1e-12)
        return self._value(medians, self.faster, self.slower)

    def _value(self, medians: Mapping[str, float], faster: str, slower: str = "") -> float:
        return medians[slower] / medians[faster] if slower else medians[faster]

    def _said(self, value: float) -> str:
        return f"{value:.2f}" if self.slower or self.share or self.among else _time(value)


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _size(nbytes: int) -> str:
    return f"{nbytes / GIB:g} GiB" if nbytes >= GIB else f"{nbytes / (1 << 20):g} MiB"


LARGE = 8 * GIB
"""Live bytes that the bars of the concurrent collection are for."""
SHARES = (8, 4, 2, 1)
"""Of these parts of them pauses are measured: 1, 2, 4, 8 GiB."""


def _ratio(what: str, test: str, slower: str, faster: str, bound: float, *, live: int = GIB) -> Bar:
    return Bar(what, f"{test}[{faster}]", bound, f"{test}[{slower}]", live=live)


BARS = (
    *(
        _ratio(
            f"mixed, {age}, fresh ÷ move, {pages}",
            "test_move_time",
            f"{age}-mixed-{pages}-memcpy",
            f"{age}-mixed-{pages}-move",
            bound,
        )
        for age in ("aged", "dense")
        for pages, bound in (("4k", 4), ("huge", 1.7))
    ),
    *(
        _ratio(
            f"{what}, dense, sliding ÷ move",
            "test_move_time",
            f"dense-{kind}-slide",
            f"dense-{kind}-move",
            bound,
        )
        for what, kind, bound in (
            ("32-byte objects", "nodes-4k", 1.0),
            ("512-byte objects", "structs-4k", 1.3),
            ("leaf, 4 KiB", "leaf-4k", 2.5),
            ("leaf, huge", "leaf-huge", 40),
        )
    ),
    *(
        _ratio(
            f"beside one busy mutator, {age}, copy ÷ move, {pages}",
            "test_move_time_beside",
            f"{age}-{pages}-copy",
            f"{age}-{pages}-move",
            bound,
        )
        for age in ("aged", "dense")
        for pages, bound in (("4k", 2.5), ("huge", 4), ("huge latency", 4))
    ),
    *(
        Bar(
            f"peak of the move phase less staging and allocation ÷ at the flip, {mode}, {pages}",
            f"test_memory_moving[{mode}-{pages}]",
            1.02,
            share=True,
        )
        for mode in ("pause", "concurrent")
        for pages in ("4k", "huge")
    ),
    Bar("physical after less 32 MiB ÷ live", "test_memory_after", 1.10, share=True),
    Bar("flip without its minor, median", "test_flip_pause[flip]", 100e-6, live=4 * GIB),
    Bar("flip with its minor, median", "test_flip_pause[with minor]", 1e-3, live=4 * GIB),
    *(
        Bar(f"stalls while moving, {faults}, {part}", f"test_stall[{faults}-{part}]", bound)
        for faults, part, bound in (
            ("signal", "p50_s", 15e-6),
            ("signal", "p99_s", 200e-6),
            ("thread", "p50_s", 60e-6),
            ("thread", "p99_s", 500e-6),
        )
    ),
    _ratio(
        "minor promotion, copying ÷ moving", "test_promotion", "refs-memcpy", "refs-move", 4, live=0
    ),
    _ratio("the same, leaf", "test_promotion", "leaf-memcpy", "leaf-move", 40, live=0),
    Bar(
        "inline allocation, 32 bytes, dying young, an object",
        "test_inline_allocation",
        3e-9,
        live=0,
    ),
    *(
        Bar(
            f"heap.new of a million nodes, {pages}",
            f"test_new_million[populated-{pages}]",
            15e-3,
            live=0,
        )
        for pages in ("4k", "huge")
    ),
    *(
        Bar(f"{what} of a million, {order}", f"test_{what}_million[{order}]", bound, live=0)
        for what in ("gather", "scatter")
        for order, bound in (("random", 10e-3), ("in order", 4e-3))
    ),
    *(
        Bar(f"marking an object, {order}, {pages}", f"test_mark[{pages}-{order}]", 1e-6 / millions)
        for order, pages, millions in (
            ("random", "4k", 15),
            ("in order", "4k", 45),
            ("in order", "huge", 60),
        )
    ),
    *(
        Bar(
            f"{what}, {pages}, median",
            f"test_pause[{part}-1-{pages}]",
            bound,
            live=LARGE,
        )
        for pages in ("4k", "huge")
        for what, part, bound in (
            ("flip", "flip", 0.1e-3),
            ("remark", "remark", 0.5e-3),
            ("initial mark", "mark", 1e-3),
        )
    ),
    *(
        Bar(
            f"longest of flips, remarks and initial marks, {pages}",
            f"test_pause_longest[longest-1-{pages}]",
            1e-3,
            live=LARGE,
            beside=f"test_pause_longest[control-1-{pages}]",
        )
        for pages in ("4k", "huge")
    ),
    *(
        Bar(
            f"{what} at an eighth to all of it, {pages}, largest median ÷ least",
            f"test_pause[{part}-1-{pages}]",
            1.5,
            live=LARGE,
            among=tuple(f"test_pause[{part}-{share}-{pages}]" for share in SHARES[:-1]),
        )
        for pages in ("4k", "huge")
        for what, part in (("flips", "flip"), ("remarks", "remark"), ("initial marks", "mark"))
    ),
    *(
        Bar(
            f"stalls while moving, {workload}, {pages}, {faults}, p99 on the program's clock",
            f"test_mutator[{workload}-{pages}-{faults}-stall_p99]",
            bound,
            live=LARGE,
            beside=f"test_mutator[{workload}-{pages}-{faults}-control_max]",
        )
        for workload in ("walk", "steady")
        for pages in ("4k", "huge")
        for faults, bound in (("signal", 0.2e-3), ("thread", 0.5e-3))
    ),
    *(
        Bar(
            f"utilisation in any 10 ms of a cycle, {what}, {pages}, {faults}",
            f"test_mutator[{workload}-{pages}-{faults}-mmu10]",
            bound,
            share=True,
            least=True,
            live=LARGE,
            beside=f"test_mutator[{workload}-{pages}-{faults}-quiet-mmu10]",
            beside_what="before it",
        )
        for what, workload, bound in (
            ("LRU at 3x, first", "lru", 0.5),
            ("LRU at 3x, second", "steady", 0.5),
            ("random walk", "walk", 0.2),
        )
        for pages in ("4k", "huge")
        for faults in ("signal", "thread")
    ),
    *(
        Bar(
            f"rate over a cycle ÷ before it, LRU, {which}, {pages}, {faults}, collector apart",
            f"test_mutator_rate[{workload}-{pages}-{faults}]",
            0.8,
            share=True,
            least=True,
            live=LARGE,
        )
        for which, workload in (("first", "lru"), ("second", "steady"))
        for pages in ("4k", "huge")
        for faults in ("signal", "thread")
    ),
    *(
        Bar(
            f"CPU of the move phase, {kind}, {pages}, summaries on ÷ off",
            f"test_summaries[{kind}-{pages}-off]",
            bound,
            f"test_summaries[{kind}-{pages}-on]",
            live=LARGE,
            most=True,
        )
        for kind, bound in (("clustered", 0.5), ("mixed", 1.03))
        for pages in ("4k", "huge")
    ),
    *(
        Bar(
            f"peak of the move phase less staging and allocation ÷ at the flip, {what}, {pages}",
            f"test_mutator_memory[{what}-{pages}]",
            1.02,
            share=True,
            live=LARGE,
        )
        for what in ("walk", "steady")
        for pages in ("4k", "huge")
    ),
    *(
        Bar(f"reference store beyond a plain one, {case}", f"test_store[{case}]", bound, live=0)
        for case, bound in (("marking off", 1e-9), ("marking on", 4e-9))
    ),
)


def _floor(*names: str) -> tuple[str, ...]:
    return tuple(f"test_floor[{name}]" for name in names)


FLOORS = {
    "test_inline_allocation": _floor("bump:bump"),
    **{
        f"test_new_million[{memory}-{pages}]": _floor("bulk:new")
        for memory in ("populated", "fresh")
        for pages in ("4k", "huge")
    },
    **{
        f"test_{what}_million[{order}]": _floor(f"bulk:{what}-{order.replace(' ', '-')}")
        for what in ("gather", "scatter")
        for order in ("random", "in order")
    },
    **{
        f"test_mark[{pages}-{order}]": _floor(f"mark:mark-{pages}-{order.replace(' ', '-')}")
        for pages, order in (("4k", "random"), ("4k", "in order"), ("huge", "in order"))
    },
    **{
        f"test_move_time[dense-{kind}-move]": _floor(
            f"move:move-{kind}-move", f"move:move-{kind}-sliding"
        )
        for kind in ("nodes-4k", "structs-4k", "leaf-4k", "leaf-huge")
    },
    **{
        f"test_move_time[aged-mixed-{pages}-move]": _floor(
            f"aged:aged-{pages}-move", f"aged:aged-{pages}-fresh"
        )
        for pages in ("4k", "huge")
    },
    **{
        f"test_move_time_beside[aged-{pages}-move]": _floor(
            f"aged:aged-{pages}-beside-move", f"aged:aged-{pages}-beside-copy"
        )
        for pages in ("4k", "huge")
    },
    **{
        f"test_move_time_beside[dense-{pages}-move]": _floor(
            f"dense:dense-{pages}-move", f"dense:dense-{pages}-copy"
        )
        for pages in ("4k", "huge")
    },
    **{
        f"test_stall[{mode}-{part}_s]": _floor(f"stall:stall-{mode}-{part}")
        for mode in ("signal", "thread")
        for part in ("p50", "p99")
    },
    **{
        f"test_mutator[walk-{pages}-{faults}-mmu10]": _floor(f"walk:walk-{pages}-{faults}-mmu10")
        for pages in ("4k", "huge")
        for faults in ("signal", "thread")
    },
}
"""A bar's faster benchmark -> the floor's: one figure, or the faster and the slower."""


def heading(live: int) -> str:
    """Say at what live size the benchmarks ran, and which the bars are meant for."""
    meant = sorted({bar.live for bar in BARS if bar.live})
    said = " or ".join(_size(one) for one in meant)
    if live in meant:
        return f"measured with {_size(live)} live; the bars are for {said}, as each line says"
    return (
        f"measured with {_size(live)} live, but the bars are for {said}: lines that say so are no "
        "verdict; run it with GCHEAP_BENCH_LIVE=1GiB (the flip: 4GiB; test_pause, test_mutator and "
        "test_summaries: 8GiB)"
    )


def judge(medians: Mapping[str, float], live: int) -> list[str]:
    """Return a line for each bar whose benchmarks were run, with ``live`` bytes that live."""
    return [line for bar in BARS if (line := bar.judge(medians, live)) is not None]
