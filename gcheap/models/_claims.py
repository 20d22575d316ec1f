"""The way in for who may hold something: native/src/gc/claims.h, shared by models.

The states have ``memory`` with a variable ``closed``, and ``inside``.
"""

from __future__ import annotations

from typing import Any

from gcheap.explore import Answer, Step, jump

__all__ = ["gate"]


def gate(who: int, then: str, mutant: str | None) -> list[Step[Any]]:
    """Return the steps of who counts itself, then looks; where claims are closed it comes again.

    ``then``: where it goes on, the step behind these.
    """

    def closed(s: Any) -> bool:
        return bool(s.memory.load(who, "closed") != 0)

    def claims_enter(s: Any) -> Any:
        return s._replace(inside=s.inside + 1)

    def look(s: Any) -> Answer[Any]:
        return s if closed(s) else jump(then, s)

    def gate(s: Any) -> Any:
        return s._replace(inside=s.inside - 1)

    def wait_open(s: Any) -> Answer[Any]:
        return None if closed(s) else jump("claims_enter", s)

    def look_first(s: Any) -> Answer[Any]:
        return None if closed(s) else s

    if mutant == "looks_before_it_counts":
        return [look_first, claims_enter]
    return [claims_enter, look, gate, wait_open]
