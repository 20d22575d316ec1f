"""A garbage-collected heap that compacts by moving pages while the program runs.

The names below are loaded when they are first used, so that ``import gcheap`` is quick and the
parts that need no native module work without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcheap._errors import Corruption as Corruption
    from gcheap._errors import GcheapError as GcheapError
    from gcheap._errors import HeapClosedError as HeapClosedError
    from gcheap._errors import HeapExhausted as HeapExhausted
    from gcheap._errors import InvalidOperation as InvalidOperation
    from gcheap._errors import NullReferenceError as NullReferenceError
    from gcheap._errors import Unsupported as Unsupported
    from gcheap._graphcheck import GraphFormatError as GraphFormatError
    from gcheap.array import HeapArray as HeapArray
    from gcheap.graph import ObjectGraph as ObjectGraph
    from gcheap.heap import Heap as Heap
    from gcheap.refs import Ref as Ref
    from gcheap.refs import RefArray as RefArray
    from gcheap.stall_report import StallReport as StallReport
    from gcheap.stats import EVENT_DTYPE as EVENT_DTYPE
    from gcheap.stats import EVENT_KINDS as EVENT_KINDS
    from gcheap.stats import GCEvent as GCEvent
    from gcheap.stats import HeapStats as HeapStats
    from gcheap.stats import ThreadStalls as ThreadStalls
    from gcheap.struct import StructType as StructType
    from gcheap.weak import Ephemeron as Ephemeron
    from gcheap.weak import Finalizer as Finalizer
    from gcheap.weak import WeakRef as WeakRef
    from gcheap.weak import WeakRefArray as WeakRefArray

__all__ = [
    "EVENT_DTYPE",
    "EVENT_KINDS",
    "Corruption",
    "Ephemeron",
    "Finalizer",
    "GCEvent",
    "GcheapError",
    "GraphFormatError",
    "Heap",
    "HeapArray",
    "HeapClosedError",
    "HeapExhausted",
    "HeapStats",
    "InvalidOperation",
    "NullReferenceError",
    "ObjectGraph",
    "Ref",
    "RefArray",
    "StallReport",
    "StructType",
    "Unsupported",
    "WeakRef",
    "WeakRefArray",
    "__version__",
]

_WHERE = {
    "Corruption": "gcheap._errors",
    "GcheapError": "gcheap._errors",
    "HeapClosedError": "gcheap._errors",
    "HeapExhausted": "gcheap._errors",
    "InvalidOperation": "gcheap._errors",
    "NullReferenceError": "gcheap._errors",
    "Unsupported": "gcheap._errors",
    "GraphFormatError": "gcheap._graphcheck",
    "HeapArray": "gcheap.array",
    "ObjectGraph": "gcheap.graph",
    "Heap": "gcheap.heap",
    "Ref": "gcheap.refs",
    "RefArray": "gcheap.refs",
    "EVENT_DTYPE": "gcheap.stats",
    "EVENT_KINDS": "gcheap.stats",
    "GCEvent": "gcheap.stats",
    "HeapStats": "gcheap.stats",
    "StallReport": "gcheap.stall_report",
    "ThreadStalls": "gcheap.stats",
    "StructType": "gcheap.struct",
    "Ephemeron": "gcheap.weak",
    "Finalizer": "gcheap.weak",
    "WeakRef": "gcheap.weak",
    "WeakRefArray": "gcheap.weak",
}
"""Public name -> the module that defines it."""

_MODULES = frozenset({"bridge", "graph", "ring", "sources", "trace", "workloads"})
"""Modules that are attributes without having been imported."""


def _version() -> str:
    from gcheap import _ffi

    return _ffi.version()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"gcheap.{name}")
    else:
        raise AttributeError(f"module 'gcheap' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "__doc__", "__file__", "__name__", "__path__"})
