"""The example hosts, built against an installed library, under every mover."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.examples, pytest.mark.timeout(170)]

ROOT = Path(__file__).parents[2]
SKIPPED = 77
SELFTEST_S = 1


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install as an embedder does."""
    folder = tmp_path_factory.mktemp("installed")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["make", "-C", ROOT / "native", "install", f"PREFIX={folder}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@pytest.mark.parametrize(
    "mover",
    [
        pytest.param("move", marks=pytest.mark.move),
        "copy",
        "simulated",
        "memcpy",
        "slide",
    ],
)
def test_cache_and_lisp(prefix: Path, mover: str) -> None:
    script = ROOT / "native" / "examples" / "run_tests.sh"
    done = subprocess.run(
        [script, prefix, str(SELFTEST_S), mover], capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    if done.returncode == SKIPPED:
        pytest.skip(said.strip())
    assert done.returncode == 0, said
    assert f"ok   {mover}" in said
