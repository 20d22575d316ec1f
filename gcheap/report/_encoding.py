"""Which characters a console can write."""

from __future__ import annotations

from rich.console import Console

__all__ = ["can_write"]


def can_write(console: Console, text: str) -> bool:
    """Say whether the console's encoding has all of these characters."""
    try:
        text.encode(console.encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True
