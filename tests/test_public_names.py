"""What ``import gcheap`` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gcheap


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", gcheap.__all__)
def test_every_public_name_is_there_at_once(name: str) -> None:
    assert run(f"import gcheap; print(gcheap.{name} is not None)") == "True\n"


def test_modules_are_attributes_without_an_import() -> None:
    assert run("import gcheap; print(gcheap.graph.ObjectGraph is gcheap.ObjectGraph)") == "True\n"
    assert run("import gcheap; print(gcheap.sources.__name__)") == "gcheap.sources\n"


def test_dir_lists_public_names_only() -> None:
    listed = {name for name in dir(gcheap) if not name.startswith("__")}
    assert (
        listed == {name for name in gcheap.__all__ if not name.startswith("__")} | gcheap._MODULES
    )


def test_importing_is_quick() -> None:
    assert run("import sys, gcheap; print('numpy' in sys.modules)") == "False\n"


def test_unknown_names_are_told() -> None:
    with pytest.raises(AttributeError, match="'gcheap' has no attribute 'heaps'"):
        _ = gcheap.heaps
