"""The direction of includes: a file of native/src includes only its own layer and those below."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "native" / "src"
LAYERS = ("base", "os", "object", "heap", "mover", "gc", "diag")
"""Lowest first; files in native/src itself (api.c) are above all of them."""
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def _rank(path: str) -> int:
    folder, slash, _ = path.partition("/")
    if not slash:
        return len(LAYERS)
    if folder == "gcheap":
        return -1  # the public headers are below everything
    return LAYERS.index(folder)


def _wrong_includes(name: str, text: str) -> list[str]:
    """Return the includes of file ``name`` (relative to native/src) that point upwards."""
    return [target for target in INCLUDE.findall(text) if _rank(target) > _rank(name)]


@pytest.mark.parametrize(
    "name", sorted(str(f.relative_to(SRC)) for f in SRC.rglob("*.[ch]")), ids=str
)
def test_includes_point_downwards(name: str) -> None:
    text = (SRC / name).read_text(encoding="utf-8")
    assert _wrong_includes(name, text) == []


def test_include_names_its_folder() -> None:
    """An include without a folder would be found beside the file, and the layer not be seen."""
    bare = [
        (str(f.relative_to(SRC)), target)
        for f in SRC.rglob("*/*.[ch]")
        for target in INCLUDE.findall(f.read_text(encoding="utf-8"))
        if "/" not in target and not target.endswith(".def")
    ]
    assert bare == []


def test_upward_include_is_found() -> None:
    text = '#include "base/bits.h"\n#include "gc/plan.h"\n#include "gcheap/types.h"\n'
    assert _wrong_includes("heap/small.c", text) == ["gc/plan.h"]
    assert _wrong_includes("api.c", text) == []


def test_public_headers_include_public_headers_only() -> None:
    for header in (ROOT / "native" / "include" / "gcheap").glob("*.h"):
        for target in INCLUDE.findall(header.read_text(encoding="utf-8")):
            assert target.startswith("gcheap/"), f"{header.name} includes {target}"
