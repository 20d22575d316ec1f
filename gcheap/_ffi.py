"""The native module: the only place that imports it."""

from __future__ import annotations

from typing import Any

from gcheap._native import ffi, lib

__all__ = ["ffi", "lib", "text", "version"]


def text(pointer: Any) -> str:
    """Return a C string, decoded from UTF-8; bytes that are none are replaced."""
    return bytes(ffi.string(pointer)).decode("utf-8", "replace")


def version() -> str:
    """Return the version of the native library, "major.minor.patch"."""
    return text(lib.gch_version())
