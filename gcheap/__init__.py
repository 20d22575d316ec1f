"""A garbage-collected heap that compacts by moving pages while the program runs.

The names below are loaded when they are first used, so that ``import gcheap`` is quick and the
parts that need no native module work without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcheap.graph import ObjectGraph as ObjectGraph

__all__ = ["ObjectGraph", "__version__"]

_WHERE = {"ObjectGraph": "gcheap.graph"}
"""Public name -> the module that defines it."""


def _version() -> str:
    from gcheap import _ffi

    return _ffi.version()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module 'gcheap' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
