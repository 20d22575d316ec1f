"""Sizes as people write them."""

from __future__ import annotations

import re

__all__ = ["parse_size"]

_UNITS = {
    "": 1,
    "b": 1,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_size(size: int | str, name: str = "size") -> int:
    """Return a number of bytes.

    Args:
        size: an int, or text such as ``"2GiB"``, ``"1.5 MiB"``, ``"64KB"`` (decimal), ``"4096"``.
        name: what to call it in an error.

    Raises:
        ValueError: the text is no size, or the size is negative.
        TypeError: neither int nor str.
    """
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise TypeError(f'{name} is {size!r}, expected bytes or text such as "2GiB"')
    if isinstance(size, int):
        if size < 0:
            raise ValueError(f"{name} is {size}, expected 0 or more bytes")
        return size
    match = _PATTERN.fullmatch(size)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f'{name} is {size!r}, expected a size such as "2GiB", "512MiB" or "4096"')
    return int(float(match[1]) * _UNITS[match[2].lower()])
