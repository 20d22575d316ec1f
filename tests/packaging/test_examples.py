"""The example hosts, built against an installed library, under every mover."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.examples, pytest.mark.timeout(170)]

ROOT = Path(__file__).parents[2]
SKIPPED = 77
SELFTEST_S = 1


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
