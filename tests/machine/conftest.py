"""The program that the machine tests drive, compiled once a session with the core's sources."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"


@pytest.fixture(scope="session")
def pressure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """native/tests/machine/pressure.c, in a place where every user may run it."""
    folder = tmp_path_factory.mktemp("pressure")
    for parent in (folder, *folder.parents):
        if parent.stat().st_mode & 0o5 == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o5)
    program = folder / "pressure"
    sources = [*sorted(NATIVE.glob("src/**/*.c")), NATIVE / "tests/machine/pressure.c"]
    includes = [f"-I{NATIVE / name}" for name in ("include", "src", "tests")]
    options = ["-O2", "-g", "-std=gnu11", "-D_GNU_SOURCE", "-UNDEBUG", "-pthread"]
    subprocess.run(["gcc", *options, *includes, *sources, "-o", program], check=True)
    program.chmod(0o755)
    return program
