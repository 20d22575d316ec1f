"""The examples of README.md do what they say: each is run as a reader would run it.

An example says what it prints in its last comment, ``prints: ...``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES, COLUMNS = 20, 120
TOOLS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def example(language: str) -> tuple[str, str]:
    """Return the only fenced block of a language, and what it says that it prints."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (said,) = re.findall(r"prints: (.*?)(?: \*/)?$", code, re.MULTILINE)
    return code, said


def _run(*command: str | Path, cwd: Path | None = None, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PATH": TOOLS, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_python_example(tmp_path: Path) -> None:
    code, said = example("python")
    program = tmp_path / "example.py"
    program.write_text(code, encoding="utf-8")
    assert _run(sys.executable, "-P", program, cwd=tmp_path).strip() == said


@pytest.mark.examples
@pytest.mark.timeout(170)
@pytest.mark.skipif(
    not all(map(shutil.which, ("gcc", "pkg-config"))), reason="no gcc or no pkg-config here"
)
def test_c_example(tmp_path: Path, prefix: Path) -> None:
    """Built against an installed tree: the command of the README, with another prefix."""
    assert "make -C native install PREFIX=" in README
    code, said = example("c")
    source, program = tmp_path / "host.c", tmp_path / "host"
    source.write_text(code, encoding="utf-8")
    (found,) = prefix.rglob("pkgconfig")
    flags = _run("pkg-config", "--cflags", "--libs", "gcheap", PKG_CONFIG_PATH=str(found)).split()
    _run("gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", source, *flags, "-o", program)
    assert _run(program, LD_LIBRARY_PATH=str(found.parent)).strip() == said


@pytest.mark.parametrize("language", ["c", "python"])
def test_examples_are_short(language: str) -> None:
    code, _ = example(language)
    lines = code.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS


def test_every_bar_names_benchmarks() -> None:
    """The table of bars: each KEY is made of words that names of benchmarks have."""
    (table,) = re.findall(r"^\| what \| bar \|.*\n\| ---.*\n((?:\|.*\n)+)", README, re.MULTILINE)
    keys = re.findall(r"`([^`]+)` (?:\(4GiB\) )?\|$", table, re.MULTILINE)
    assert len(keys) == len(table.splitlines())
    files = list((ROOT / "benchmarks").glob("bench_*.py"))
    known = "".join(f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in files)
    for key in keys:
        for word in set(key.split()) - {"and", "or", "not"}:
            assert word in known, key


def test_documents_exist() -> None:
    """Links into the repository lead somewhere."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target
