"""From source distribution to wheel to a clean environment; the C library as its users meet it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(170)]

ROOT = Path(__file__).parents[2]
CONSUMER = ROOT / "native" / "tests" / "consumer"
ENV = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _run(*command: str | Path, cwd: Path | None = None, **env: str) -> str:
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env={**ENV, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    _run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", out, ROOT)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    _run(sys.executable, "-m", "pip", "wheel", "-q", *offline, "-w", out, sdist, cwd=out)
    (made,) = out.iterdir()
    return made


def test_sdist_holds_sources_only(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert "native/src/api.c" in names
    assert "native/include/gcheap/gcheap.h" in names
    assert "gcheap/py.typed" in names
    allowed = ("native/", "gcheap/", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")
    assert [n for n in names if not n.startswith((*allowed, "PKG-INFO"))] == []
    assert [n for n in names if n.endswith((".so", ".o", ".pyc"))] == []


def test_wheel_holds_the_package_only(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert {"gcheap/_native.abi3.so", "gcheap/py.typed", "gcheap/_native.pyi"} <= set(names)
    assert [n for n in names if not n.startswith(("gcheap/", "gcheap-"))] == []
    assert [n for n in names if n.endswith((".c", ".h", ".a", ".pc"))] == []


USE = """
import numpy as np
import gcheap.doctor
with gcheap.Heap("64MiB") as heap:
    node = heap.struct("Node", next=gcheap.Ref, tag="i8")
    nodes = heap.new(node, 20_000)
    nodes.tag = np.arange(20_000)
    nodes.next = nodes[::-1]
    majors = [heap.collect(policy="all", concurrent=c) for c in (False, True)]
    assert all(event.live_objects > 20_000 and event.units > 0 for event in majors)
    assert np.array_equal(nodes.next.tag, np.arange(20_000)[::-1])
    heap.verify()
    print(gcheap.doctor.examine().chosen, heap.stats.mover, majors[1].concurrent)
"""


def test_wheel_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """Only the dependencies are borrowed; gcheap itself comes from the wheel, and works."""
    environment = tmp_path / "environment"
    _run(ROOT / ".ci" / "borrow", environment, sys.executable)
    python = environment / "bin" / "python"
    _run(python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    code = "import gcheap, gcheap._native as n; print(gcheap.__version__, n.__file__)"
    version, where = _run(python, "-P", "-c", code, cwd=tmp_path).split()
    assert where.startswith(str(environment))
    for command in ([environment / "bin" / "gcheap"], [python, "-P", "-m", "gcheap"]):
        assert _run(*command, "--version", cwd=tmp_path).split() == ["gcheap", version]
    chosen, mover, concurrent = _run(python, "-P", "-c", USE, cwd=tmp_path).split()
    assert mover == chosen
    assert concurrent == str(mover in ("move", "copy", "simulated"))


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The installed C library, in a folder to which it was moved after the installation."""
    folder = tmp_path_factory.mktemp("library")
    build, first, moved = folder / "build", folder / "first", folder / "moved"
    _run("cmake", "-S", ROOT / "native", "-B", build, f"-DCMAKE_INSTALL_PREFIX={first}")
    _run("cmake", "--build", build, "--parallel", "2")
    _run("cmake", "--install", build)
    first.rename(moved)
    yield moved
    shutil.rmtree(folder)


def _pkg_config(prefix: Path, *arguments: str) -> list[str]:
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config here")
    (where,) = prefix.rglob("pkgconfig")
    return _run("pkg-config", *arguments, "gcheap", PKG_CONFIG_PATH=str(where)).split()


def _library_dir(prefix: Path) -> Path:
    (archive,) = prefix.rglob("libgcheap.a")
    return archive.parent


def test_pkg_config_shared(prefix: Path, tmp_path: Path) -> None:
    flags = _pkg_config(prefix, "--cflags", "--libs")
    program = tmp_path / "shared"
    _run("gcc", "-Wall", "-Werror", "-o", program, CONSUMER / "main.c", *flags)
    out = _run(program, LD_LIBRARY_PATH=str(_library_dir(prefix)))
    assert out.split()[1] == _pkg_config(prefix, "--modversion")[0]


def test_pkg_config_static(prefix: Path, tmp_path: Path) -> None:
    flags = _pkg_config(prefix, "--static", "--cflags", "--libs")
    flags = ["-l:libgcheap.a" if flag == "-lgcheap" else flag for flag in flags]
    program = tmp_path / "static"
    _run("gcc", "-Wall", "-Werror", "-o", program, CONSUMER / "main.c", *flags)
    assert "libgcheap" not in _run("ldd", program)
    assert _run(program).startswith("gcheap ")


def test_host_in_cxx(prefix: Path, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler here")
    flags = _pkg_config(prefix, "--cflags", "--libs")
    program = tmp_path / "cxx"
    warnings = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
    _run("g++", *warnings, "-o", program, CONSUMER / "main.cpp", *flags)
    out = _run(program, LD_LIBRARY_PATH=str(_library_dir(prefix)))
    assert out.split()[2:] == ["sum", str(sum(range(1000)))]


@pytest.mark.parametrize("target", ["gcheap", "static"])
def test_find_package(prefix: Path, tmp_path: Path, target: str) -> None:
    build = tmp_path / "build"
    options = [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DGCHEAP_TARGET=gcheap::{target}"]
    _run("cmake", "-S", CONSUMER, "-B", build, *options)
    _run("cmake", "--build", build)
    assert _run(build / "consumer").startswith("gcheap ")


def test_exports_have_the_prefix(prefix: Path) -> None:
    library = _library_dir(prefix) / "libgcheap.so"
    names = [line.split()[-1] for line in _run("nm", "-D", "--defined-only", library).splitlines()]
    assert names
    assert [name for name in names if not name.startswith("gch_")] == []
