"""What a mutator saw of a collection: stalls, utilisation, rate. Seconds; times in ns inside.

A *stall* is a gap between two operations of the mutator of more than 20 us, as it observed it
itself; utilisation counts every gap that it noted, which are those above 5 us. *Moving* is the
phase in which the collector moves and mutators run; stalls there are those outside pauses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gcheap.stats import EVENT_KINDS, GCEvent

__all__ = [
    "GAP_NS",
    "STALL_NS",
    "Stamped",
    "Windows",
    "find_windows",
    "in_pause",
    "minimum_utilisation",
    "overlapping",
    "rate_within",
    "stall_figures",
    "timeline",
    "worst_window",
]

GAP_NS = 5_000
STALL_NS = 20_000
NS = 1e-9
NS_A_MS = 1_000_000
BEFORE_NS, AFTER_NS = 60 * NS_A_MS, 100 * NS_A_MS
STEPS = 200
"""A timeline: so long before and after the collection, in at most so many steps."""
PHASE_IDLE, PHASE_MOVE = 0, 4  # gch_phase
_KIND = {name: kind for kind, name in EVENT_KINDS.items()}

Events = npt.NDArray[np.void]
Gaps = npt.NDArray[np.void]
Window = tuple[int, int]


class Stamped(Protocol):
    """A result with stamps: of ``Beside``, of ``Loop``."""

    @property
    def start_ns(self) -> int: ...
    @property
    def end_ns(self) -> int: ...
    @property
    def ops_by_ms(self) -> npt.NDArray[np.uint32]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """When things happened, CLOCK_MONOTONIC ns.

    Attributes:
        cycle: begin and end of the collection.
        move: of its move phase, None if it had none beside mutators.
        pauses: int64 (n, 2), begin and end of each pause.
        moving: of its move phase, in the pause too; None if it is not known.
    """

    cycle: Window
    move: Window | None
    pauses: npt.NDArray[np.int64]
    moving: Window | None = None


def find_windows(events: Events, cycle: GCEvent | None, called: Window) -> Windows:
    """Find a cycle's windows among events.

    Args:
        events: of the heap, in order.
        cycle: the collection, None if there was none.
        called: begin and end of the call that collected, used where events were overwritten.
    """
    if cycle is None:
        return Windows(called, None, _pauses(events))
    phases = events[(events["kind"] == _KIND["phase"]) & (events["c"] == cycle.number)]
    ended = phases["time"][phases["a"] == PHASE_IDLE]
    whole = called
    if len(phases) and len(ended) and int(phases["b"][0]) == PHASE_IDLE:
        whole = (int(phases["time"][0]), int(ended[-1]))
    moving = _move_window(phases)
    return Windows(whole, moving if cycle.concurrent else None, _pauses(events), moving)


def _move_window(phases: Events) -> Window | None:
    began = phases["time"][phases["a"] == PHASE_MOVE]
    ended = phases["time"][phases["b"] == PHASE_MOVE]
    return (int(began[0]), int(ended[-1])) if len(began) and len(ended) else None


def _pauses(events: Events) -> npt.NDArray[np.int64]:
    pauses = events[events["kind"] == _KIND["pause"]]
    ends = pauses["time"].astype(np.int64)
    return np.stack([ends - pauses["a"].astype(np.int64), ends], axis=1)


def stall_figures(gaps: Gaps, windows: Windows) -> dict[str, Any]:
    """Describe the stalls that overlap the collection; ``moving``: those of the move phase."""
    stalls = gaps[gaps["length_ns"] > STALL_NS]
    figures = _distribution(overlapping(stalls, windows.cycle)["length_ns"])
    moving: dict[str, Any] | None = None
    if windows.move is not None:
        within = overlapping(stalls, windows.move)
        moving = _distribution(within["length_ns"][~in_pause(within, windows.pauses)])
    return {**figures, "moving": moving}


def overlapping(gaps: Gaps, window: Window) -> Gaps:
    """Return the gaps that overlap a window."""
    starts = gaps["start_ns"].astype(np.int64)
    ends = starts + gaps["length_ns"].astype(np.int64)
    return gaps[(starts < window[1]) & (ends > window[0])]


def in_pause(gaps: Gaps, pauses: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Say of each gap whether it overlaps a pause."""
    starts = gaps["start_ns"].astype(np.int64)[:, None]
    ends = starts + gaps["length_ns"].astype(np.int64)[:, None]
    hit = (starts < pauses[:, 1]) & (ends > pauses[:, 0])
    return np.asarray(hit.any(axis=1), dtype=np.bool_)


def _distribution(lengths: npt.NDArray[np.uint64]) -> dict[str, Any]:
    if not len(lengths):
        return {"count": 0, "total_s": 0.0, "p50_s": 0.0, "p99_s": 0.0, "longest_s": 0.0}
    half, most = np.percentile(lengths, [50, 99])
    return {
        "count": len(lengths),
        "total_s": float(lengths.sum()) * NS,
        "p50_s": float(half) * NS,
        "p99_s": float(most) * NS,
        "longest_s": float(lengths.max()) * NS,
    }


def minimum_utilisation(gaps: Gaps, window: Window, width_s: float) -> float:
    """Return the least share of any ``width_s`` within a window in which the mutator ran.

    A window shorter than that is taken as a whole. Every place is tried, not those of a grid: how
    much is lost between t and t + width is a function of t that is linear between two corners, and
    at a maximum of it either a gap begins at t, or one ends at t + width. So those are looked at,
    and both ends of the window; what is lost up to a point is read off the sums of the gaps.
    """
    return worst_window(gaps, window, width_s)[0]


def worst_window(gaps: Gaps, window: Window, width_s: float) -> tuple[float, Window]:
    """Return ``minimum_utilisation``, and when it was so (the first time)."""
    low, high = window
    width = min(round(width_s / NS), high - low)
    if width <= 0:
        return 1.0, window
    corners, stalled = _lost_until(gaps, window)
    at = np.clip(np.concatenate([corners, corners - width]), 0, high - low - width)
    lost = np.interp(at + width, corners, stalled) - np.interp(at, corners, stalled)
    worst = int(lost.argmax())
    begin = low + int(at[worst])
    return float(max(0.0, 1.0 - lost[worst] / width)), (begin, begin + width)


def utilisations(gaps: Gaps, window: Window, width_s: float) -> npt.NDArray[np.float64]:
    """Return the shares of windows of ``width_s``, one behind the other; what is left over at the
    end is left out."""
    low, high = window
    width = round(width_s / NS)
    corners, stalled = _lost_until(gaps, window)
    at = np.arange(0, high - low + 1, width)
    return np.asarray(1.0 - np.diff(np.interp(at, corners, stalled)) / width)


def _lost_until(gaps: Gaps, window: Window) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return times since the window's begin, ascending, and what had been lost by each; between
    two of them it grows with the time, or not at all."""
    low, high = window
    inside = overlapping(gaps, window)
    starts = np.clip(inside["start_ns"].astype(np.int64), low, high)
    ends = inside["start_ns"].astype(np.int64) + inside["length_ns"].astype(np.int64)
    ends = np.clip(ends, low, high)
    corners = np.stack([starts, ends], axis=1).reshape(-1)  # gaps do not overlap: sorted
    stalled = np.repeat(np.cumsum(ends - starts), 2)
    stalled[::2] -= ends - starts
    total = int(stalled[-1]) if len(stalled) else 0
    return (
        np.concatenate([[low], corners, [high]]) - low,
        np.concatenate([[0], stalled, [total]]),
    )


def timeline(result: Stamped, windows: Windows, called: Window) -> dict[str, Any]:
    """Return how fast the mutator ran around the collection; seconds since it was asked for."""
    zero, ended = called[0], windows.cycle[1]
    low = max(result.start_ns, zero - BEFORE_NS)
    high = min(result.end_ns, ended + max(AFTER_NS, (ended - zero) // 2))
    step = max(NS_A_MS, -(-(high - low) // (STEPS * NS_A_MS)) * NS_A_MS)
    starts = range(low, high - step + 1, step)
    rates = [round(rate_within(result, (start, start + step))) for start in starts]

    def since(window: Any) -> list[float]:
        return [round((int(at) - zero) * NS, 6) for at in window]

    within = [pause for pause in windows.pauses if pause[0] < high and pause[1] > low]
    return {
        "begin_s": round((low - zero) * NS, 6),
        "step_s": step * NS,
        "rates": rates,
        "cycle": since((zero, ended)),
        "move": None if windows.move is None else since(windows.move),
        "pauses": [since(pause) for pause in within],
    }


def rate_within(result: Stamped, window: Window) -> float:
    """Return the mutator's operations a second within a window, from counts by millisecond."""
    low = max(0.0, (window[0] - result.start_ns) / 1e6)
    high = min(float(len(result.ops_by_ms)), (window[1] - result.start_ns) / 1e6)
    if high <= low:
        return 0.0
    done = np.concatenate([[0.0], np.cumsum(result.ops_by_ms, dtype=np.float64)])
    edges = np.arange(len(done), dtype=np.float64)
    before, after = np.interp([low, high], edges, done)
    return float((after - before) / ((high - low) * 1e-3))
