"""The program of the machine tests, compiled once a session; what they change of the machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from groups import Group

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"
MIB = 1 << 20


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


@pytest.fixture(scope="module")
def swap() -> Iterator[None]:
    """A swap file of 512 MiB for as long as these tests run."""
    if os.geteuid() != 0 or shutil.which("mkswap") is None:
        pytest.skip("a swap file needs root and mkswap")
    if Path("/proc/swaps").read_text().count("\n") > 1:
        yield
        return
    path = Path(f"/var/tmp/gcheap-swap-{uuid.uuid4().hex}")
    try:
        with path.open("wb") as file:
            path.chmod(0o600)
            for _ in range(512):
                file.write(bytes(MIB))
        subprocess.run(["mkswap", path], check=True, capture_output=True)
        on = subprocess.run(["swapon", path], capture_output=True, text=True)
        if on.returncode != 0:
            pytest.skip(f"swapon: {on.stderr.strip()}")
        try:
            yield
        finally:
            subprocess.run(["swapoff", path], check=True)
    finally:
        path.unlink(missing_ok=True)


@pytest.fixture
def group() -> Iterator[Group]:
    """A memory cgroup of its own; the hierarchy is mounted for it where it is not."""
    if os.geteuid() != 0:
        pytest.skip("a memory cgroup needs root")
    mounted: Path | None = None
    roots = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
    root = next((r for r in roots if (r / "cgroup.procs").exists()), None)
    if root is None:
        mounted = root = Path(f"/tmp/gcheap-cgroup-{uuid.uuid4().hex}")
        root.mkdir()
        command = ["mount", "-t", "cgroup", "-o", "memory", "none", str(root)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            root.rmdir()
            pytest.skip(f"no memory cgroup can be mounted: {done.stderr.strip()}")
    path = root / f"gcheap-{uuid.uuid4().hex}"
    try:
        path.mkdir()
        if not any((path / n).exists() for n in ("memory.max", "memory.limit_in_bytes")):
            pytest.skip("the memory controller is not enabled here")
        yield Group(path)
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made: {error}")
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()
        if mounted is not None:
            subprocess.run(["umount", str(mounted)], check=False)
            with contextlib.suppress(OSError):
                mounted.rmdir()
