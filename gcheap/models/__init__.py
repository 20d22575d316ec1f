"""The collector's cycle as models for gcheap.explore, each with broken forms of itself.

A module here mirrors the C code of one rule that threads keep: its steps have the names that the
code has (functions, GCH_POINTs, states), and ``Case.sources`` says where it is. A *mutant* is the
model with one rule broken. The explorer has to find it, which shows that the model says something.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gcheap.explore import Model

__all__ = ["MODULES", "Case", "case", "cases"]

MODULES = (
    "units",
    "arenas",
    "drain",
    "safepoint",
    "heaps",
    "registry",
    "markers",
    "snapshot",
    "attach",
    "overwritten",
    "weak",
    "select",
    "cards",
    "pin",
    "fork",
    "reserve",
    "stack",
)
"""The models, in the order in which a reader may want them; each module has its ``CASE``."""


@dataclass(frozen=True)
class Case:
    """A model, its mutants, and the code that it stands for."""

    name: str
    about: str
    sources: tuple[str, ...]
    """Files below native/."""
    mirrors: tuple[str, ...]
    """Words of those files that steps and states are named after; a test looks for each of them."""
    build: Callable[[str | None], Model[Any]]
    """The model (None), or that of a mutant."""
    mutants: Mapping[str, str]
    """Mutant -> what is wrong with it."""

    def model(self, mutant: str | None = None) -> Model[Any]:
        """Return the model, or one of its mutants."""
        if mutant is not None and mutant not in self.mutants:
            known = ", ".join(self.mutants)
            raise ValueError(f"{mutant!r} is no mutant of {self.name}: {known}")
        return self.build(mutant)


def case(name: str) -> Case:
    """Return the case of this name."""
    if name not in MODULES:
        raise ValueError(f"{name!r} is no model: {', '.join(MODULES)}")
    found: Case = importlib.import_module(f"{__name__}.{name}").CASE
    return found


def cases() -> list[Case]:
    """Return all cases."""
    return [case(name) for name in MODULES]
