"""What is compared: the rows, and why some that were asked for are not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

__all__ = ["CONTROL", "MOVERS", "MOVER_ALIASES", "Row", "control_row", "parse_movers", "plan_rows"]

MOVERS = ("move", "copy", "simulated", "memcpy", "slide")
MOVER_ALIASES = {
    "remap": "move",
    "memcpy-fresh": "memcpy",
    "memcpy-sliding": "slide",
}
PAUSE_ONLY = ("memcpy", "slide")
"""Baselines that work with the world stopped."""
FAULTING = ("move", "copy")
"""Movers on userfaultfd, where who answers a fault is a choice."""
CONTROL = "control"
"""Mode of the row in which the mutator runs without any collection: the machine's noise."""


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """A row of the comparison; ``mode`` is pause, concurrent or control."""

    mover: str
    mode: str
    faults: str
    policy: str
    huge: bool

    @property
    def label(self) -> str:
        """Name the row's mover as the table does."""
        if self.mode == CONTROL:
            return "no collection"
        return "release" if self.policy == "release" else self.mover

    def as_json(self) -> dict[str, Any]:
        """Return the row in values that JSON can hold."""
        return asdict(self)


def parse_movers(text: str) -> tuple[str, ...]:
    """Return the movers of a comma-separated list, other names resolved, each once.

    Raises:
        ValueError: names one that is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    found = [MOVER_ALIASES.get(name, name) for name in names]
    for name, mover in zip(names, found, strict=True):
        if mover not in MOVERS:
            known = ", ".join([*MOVERS, *MOVER_ALIASES])
            raise ValueError(f"mover {name!r} is unknown, expected some of {known}")
    if not found:
        raise ValueError(f"no mover was named, expected some of {', '.join(MOVERS)}")
    return tuple(dict.fromkeys(found))


def plan_rows(
    movers: Sequence[str],
    modes: Sequence[str],
    faults: Sequence[str],
    policy: str,
    huge: Sequence[bool],
) -> tuple[Row, ...]:
    """Return the rows in the order of the table.

    Giving dead arenas back without moving anything is an alternative too, so a ``release`` row
    comes along with every other policy, and alone if that is the policy: no mover has anything to
    do. The control row comes last.
    """
    rows: list[Row] = []
    if policy != "release":
        rows = [row for pages in huge for row in _mover_rows(movers, modes, faults, policy, pages)]
    rows += [Row(movers[0], "pause", "thread", "release", pages) for pages in huge]
    return (*rows, *(control_row(movers[0], pages) for pages in huge))


def control_row(mover: str, huge: bool) -> Row:
    """Return the row of the mutator alone."""
    return Row(mover, CONTROL, "thread", "release", huge)


def _mover_rows(
    movers: Sequence[str], modes: Sequence[str], faults: Sequence[str], policy: str, huge: bool
) -> Iterator[Row]:
    for mode, mover in product(modes, movers):
        if mode == "pause":
            yield Row(mover, mode, "thread", policy, huge)
        elif mover not in PAUSE_ONLY:
            answers = faults if mover in FAULTING else ("thread",)
            for answer in answers:
                yield Row(mover, mode, answer, policy, huge)
