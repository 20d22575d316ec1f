"""Each public header compiles alone, as C and as C++, and reads as a cdef."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

INCLUDE = Path(__file__).parents[2] / "native" / "include"
HEADERS = sorted(h.name for h in (INCLUDE / "gcheap").glob("*.h"))
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]


def _compile(language: list[str], header: str) -> None:
    source = f'#include "gcheap/{header}"\n' * 2 + "int main(void) { return 0; }\n"
    command = [language[0], *language[1:], *WARNINGS, "-fsyntax-only", f"-I{INCLUDE}", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("header", HEADERS)
def test_header_alone(header: str) -> None:
    _compile(["gcc", "-xc", "-std=c11", "-Wstrict-prototypes"], header)


@pytest.mark.parametrize("header", HEADERS)
def test_umbrella_includes_header(header: str) -> None:
    umbrella = (INCLUDE / "gcheap" / "gcheap.h").read_text(encoding="utf-8")
    assert header == "gcheap.h" or f'#include "gcheap/{header}"' in umbrella


@pytest.mark.parametrize("header", HEADERS)
def test_header_reads_as_cdef(header: str) -> None:
    """Nothing but declarations is left: no directive, no body, no attribute."""
    command = ["gcc", "-E", "-P", "-DGCHEAP_CDEF", f"-I{INCLUDE}", str(INCLUDE / "gcheap" / header)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for forbidden in ("#", "static inline", "__attribute__", "GCH_API", "_Static_assert", "return"):
        assert forbidden not in text, forbidden


@pytest.mark.parametrize("header", HEADERS)
def test_header_in_cxx(header: str) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler here")
    _compile(["g++", "-xc++", "-std=c++17"], header)
