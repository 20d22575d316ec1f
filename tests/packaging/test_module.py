"""What the native module shows to others: one symbol, one version, the limited API."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import gcheap
from gcheap import _native

ROOT = Path(__file__).parents[2]
MODULE = Path(_native.__file__ or "")


def test_only_the_init_function_is_exported() -> None:
    """A second copy of the library in the process must not bind to this one, nor this to it."""
    nm = shutil.which("nm")
    assert nm is not None
    out = subprocess.run(
        [nm, "-D", "--defined-only", str(MODULE)], capture_output=True, text=True, check=True
    ).stdout
    names = {line.split()[-1] for line in out.splitlines()}
    assert names - {"__odr_asan_gen_PyInit__native"} == {"PyInit__native"}


def test_stable_abi() -> None:
    assert MODULE.name == "_native.abi3.so"


def test_one_version() -> None:
    declared = re.search(
        r"(?m)^\s*VERSION (\d+\.\d+\.\d+)$", (ROOT / "native" / "CMakeLists.txt").read_text("utf-8")
    )
    assert declared is not None
    assert gcheap.__version__ == declared.group(1) == metadata.version("gcheap")


def test_import_is_light() -> None:
    """``import gcheap`` alone loads neither numpy nor the native module."""
    code = (
        "import sys, gcheap; print(sorted({'numpy', 'gcheap._native', 'rich'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert (out.stdout.strip(), out.stderr) == ("[]", "")


def test_public_names_resolve() -> None:
    for name in gcheap.__all__:
        assert getattr(gcheap, name) is not None
    assert set(gcheap.__all__) <= set(dir(gcheap))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gcheap.nothing  # type: ignore[attr-defined]
