"""Sizes as people write them."""

from __future__ import annotations

import operator
import re
import reprlib
from typing import SupportsIndex

__all__ = ["parse_size"]

_UNITS = {
    "": 1,
    "b": 1,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
    "pib": 1 << 50,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "pb": 10**15,
}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


LIMIT = 1 << 63
"""Sizes are less than this: signed 64-bit integers hold them."""


def parse_size(size: SupportsIndex | str, name: str = "size") -> int:
    """Return a number of bytes.

    Args:
        size: an integer, or text such as ``"2GiB"``, ``"1.5 MiB"``, ``"64KB"`` (decimal),
            ``"4096"``.
        name: what to call it in an error.

    Raises:
        ValueError: the text is no size, or the size is negative or beyond any memory.
        TypeError: neither integer nor str.
    """
    if isinstance(size, str):
        count = _parse_text(size, name)
    elif isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f'{name} is {size!r}, expected bytes or text such as "2GiB"')
    else:
        count = operator.index(size)
    if not 0 <= count < LIMIT:
        raise ValueError(f"{name} is {size!r}, expected 0 to {LIMIT - 1} bytes")
    return count


def _parse_text(size: str, name: str) -> int:
    match = _PATTERN.fullmatch(size)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f'{name} is {size!r}, expected a size such as "2GiB", "512MiB" or "4096"')
    number, unit = match[1], _UNITS[match[2].lower()]
    if float(number) >= LIMIT:  # of hundreds of digits neither int nor float makes a number
        raise ValueError(f"{name} is {reprlib.repr(size)}, expected 0 to {LIMIT - 1} bytes")
    return int(number) * unit if number.isdecimal() else int(float(number) * unit)
