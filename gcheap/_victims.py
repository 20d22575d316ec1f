"""Choose which objects a program lets go of."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
DropMode = Literal["mixed", "uniform", "runs"]


def choose_victims(
    n: int, fraction: float, rng: np.random.Generator, mode: DropMode = "mixed", run: int = 100
) -> BoolArray:
    """Choose round(fraction * n) of n objects to drop.

    Args:
        n: number of objects, numbered in allocation order.
        fraction: share to drop, 0 to 1.
        rng: the source of chance.
        mode: "uniform" one by one, "runs" in runs of consecutive objects, "mixed" half of each.
            What does not fill a whole run is dropped one by one.
        run: objects in a run, at least 1. Runs lie on a grid with a random offset, so they never
            overlap and the count is exact; neighbouring ones may merge.

    Returns:
        The mask of dropped objects, bool (n,).

    Raises:
        ValueError: an argument is out of range.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (float, int, np.number)):
        raise TypeError(f"fraction is {fraction!r}, expected a number from 0 to 1")
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction is {fraction}, expected 0 to 1")
    if mode not in get_args(DropMode):
        raise ValueError(f"mode is {mode!r}, expected one of {', '.join(get_args(DropMode))}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng is {rng!r:.80}, expected a numpy.random.Generator")
    if isinstance(run, bool) or not isinstance(run, (int, np.integer)):
        raise TypeError(f"run is {run!r}, expected an integer")
    if run < 1:
        raise ValueError(f"run is {run}, expected at least 1")
    dropped = np.zeros(n, dtype=np.bool_)
    count = round(fraction * n)
    in_runs = {"mixed": count // 2, "uniform": 0, "runs": count}[mode]
    _drop_runs(dropped, in_runs // run, run, rng)
    left = np.flatnonzero(~dropped)
    dropped[rng.choice(left, count - int(dropped.sum()), replace=False, shuffle=False)] = True
    return dropped


def _drop_runs(dropped: BoolArray, runs: int, run: int, rng: np.random.Generator) -> None:
    """Drop up to ``runs`` runs; fewer fit when nearly everything goes."""
    offset = int(rng.integers(0, run)) if len(dropped) else 0
    grid = dropped[offset : offset + (len(dropped) - offset) // run * run].reshape(-1, run)
    grid[rng.permutation(len(grid))[:runs]] = True
