"""An ordinary user, with vm.unprivileged_userfaultfd=0: the C library, Python, and the doctor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from offered import offers_move

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(120),
    pytest.mark.move,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user"),
]

SETTING = Path("/proc/sys/vm/unprivileged_userfaultfd")
NOBODY = 65534
MOVERS = ["auto", "move", "copy"]
FAULTS = ["thread", "signal"]

# All modules first: another user might not be allowed to read them. Then no group and no privilege,
# but /proc of its own.
BECOME_NOBODY = f"""
import contextlib, ctypes, encodings, importlib, os, pkgutil, sys
import numpy as np
import gcheap, rich
for package in (encodings, gcheap, rich):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        with contextlib.suppress(ImportError):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
for name in ("ascii", "utf-8"):
    "".encode(name)
np.random.default_rng()
os.setgroups([])
os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
PR_SET_DUMPABLE = 4
assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
status = open("/proc/self/status").read()
for name in ("CapEff", "CapPrm"):
    assert name + ":\\t0000000000000000\\n" in status, status
assert open("{SETTING}").read() == "0\\n"
"""

COLLECT = """
import threading
mover, fault = sys.argv[1:]
with gcheap.Heap("64MiB", mover=mover, fault=fault, nursery="512KiB") as heap:
    node = heap.struct("Node", next=gcheap.Ref, tag="i8")
    nodes = heap.new(node, 50_000)
    nodes.tag = np.arange(50_000)
    nodes.next = nodes[::-1]
    flips = []
    def collect():
        while len(flips) < 8:
            flips.append(heap.collect(policy="all", concurrent=True).concurrent)
    thread = threading.Thread(target=collect)
    thread.start()
    while thread.is_alive():
        at = np.random.default_rng(len(flips)).permutation(50_000)
        assert np.array_equal(nodes[at].next.tag, 49_999 - at)
        heap.new(node, 2000).next = nodes[:2000]
    thread.join()
    heap.verify()
    assert all(flips), flips
    print(heap.stats.mover, heap.stats.fault_mode)
"""

DOCTOR = """
from gcheap.cli import main
main(["doctor", *sys.argv[1:]])
"""


@pytest.fixture(scope="module", autouse=True)
def setting_is_off() -> Iterator[None]:
    """vm.unprivileged_userfaultfd is 0 for as long as these tests run."""
    if not SETTING.exists():
        pytest.skip(f"this kernel has no {SETTING}")
    before = SETTING.read_text()
    try:
        if before.strip() != "0":
            SETTING.write_text("0")
        assert SETTING.read_text().strip() == "0"
        yield
        assert SETTING.read_text().strip() == "0", "something else has changed the setting"
    finally:
        if before.strip() != "0":
            SETTING.write_text(before)


def run_python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", BECOME_NOBODY + code, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        cwd="/",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def check_mover(asked: str, got: str, chosen: str) -> None:
    """``auto`` takes what the doctor says, and that is one that moves beside the program."""
    assert got == (chosen if asked == "auto" else asked)
    assert got in ("move", "copy")


@pytest.fixture(scope="module")
def doctor(setting_is_off: None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_python(DOCTOR, "--json"))["summary"]
    return found


@pytest.mark.parametrize("faults", FAULTS)
@pytest.mark.parametrize("mover", MOVERS)
def test_in_c(pressure: Path, doctor: dict[str, Any], mover: str, faults: str) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv")
    command = [
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
        "--bounding-set=-all", pressure, mover, faults, "32", "2", "none",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    result = json.loads(done.stdout.splitlines()[-1])
    check_mover(mover, result["mover"], doctor["chosen"])
    assert result["majors"] > 3


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mover", MOVERS)
def test_in_python(doctor: dict[str, Any], mover: str, fault: str) -> None:
    got, mode = run_python(COLLECT, mover, fault).split()
    check_mover(mover, got, doctor["chosen"])
    assert mode == fault


def test_doctor(doctor: dict[str, Any]) -> None:
    """Its exit status 0 says that a mover which works beside the program is there."""
    assert doctor["unprivileged"] == 0
    movers = {mover["name"]: mover["works"] for mover in doctor["movers"]}
    assert movers["copy"]
    assert movers["move"] or not offers_move()
    said = run_python(DOCTOR)
    assert "vm.unprivileged_userfaultfd = 0: without privileges" in said
