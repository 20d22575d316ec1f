"""What the kernel itself offers, whatever the library says: as .ci/skips asks for it."""

from __future__ import annotations

import importlib.util
import os
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

SKIPS = Path(__file__).resolve().parents[2] / ".ci" / "skips"


def load_skips() -> ModuleType:
    """Return the program .ci/skips as a module."""
    loader = SourceFileLoader("ci_skips", str(SKIPS))
    spec = importlib.util.spec_from_loader("ci_skips", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def offers_move() -> bool:
    return bool(load_skips().kernel_offers_move())


def trial_rules() -> str | None:
    """Injection for a heap that is made to see whether its mover works here.

    As for the C tests: it shows what comes of it if it does not.
    """
    return os.environ.get("GCH_TEST_UNAVAILABLE")


def not_here(mover: str, why: object) -> NoReturn:
    """Skip a test whose mover does not work here; fail where the kernel offers what it needs."""
    if mover in ("move", "remap") and offers_move():
        pytest.fail(f"this kernel offers UFFDIO_MOVE, but there is no heap with it: {why}")
    pytest.skip(f"{mover}: {why}")
