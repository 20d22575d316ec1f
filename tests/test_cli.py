"""The command group: commands are listed without being imported, and imported when named."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import gcheap
from gcheap import cli


@pytest.fixture
def fake_command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A command ``fake`` of a module that says when it runs."""
    module = types.ModuleType("gcheap.cli.fake")
    module.__spec__ = importlib.util.spec_from_loader("gcheap.cli.fake", loader=None)

    @click.command()
    def command() -> None:
        click.echo("it ran")

    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gcheap.cli.fake", module)
    monkeypatch.setitem(cli.COMMANDS, "fake", "Do as if.")
    return module


def test_help_lists_commands_with_a_module(fake_command: types.ModuleType) -> None:
    result = CliRunner().invoke(cli.main, ["--help"])
    assert result.exit_code == 0
    assert "Do as if." in result.output
    for name, line in cli.COMMANDS.items():
        exists = importlib.util.find_spec(f"gcheap.cli.{name}") is not None
        assert (line[:40] in result.output) == exists


def test_command_runs(fake_command: types.ModuleType) -> None:
    result = CliRunner().invoke(cli.main, ["fake"])
    assert (result.exit_code, result.output) == (0, "it ran\n")


def test_unknown_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(cli.main, ["no-such-command"])
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_module_without_a_command_is_reported(fake_command: types.ModuleType) -> None:
    fake_command.command = None  # type: ignore[attr-defined]
    result = CliRunner().invoke(cli.main, ["fake"])
    assert isinstance(result.exception, TypeError)


def test_version() -> None:
    result = CliRunner().invoke(cli.main, ["--version"])
    assert result.output == f"gcheap {gcheap.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, gcheap.cli as c; c.main(['--help'], standalone_mode=False); "
        "heavy = {'numpy', 'rich', 'matplotlib', 'gcheap._native'}; "
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError("unable to take 9 PiB"), 1, "no memory left: unable to take 9 PiB"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "Error: No space left on device"),
        (PermissionError(errno.EACCES, "Denied", "a.npz"), 1, "Error: a.npz: Denied"),
    ],
)
def test_what_a_command_raises_is_said_without_a_traceback(
    fake_command: types.ModuleType, raised: BaseException, status: int, said: str
) -> None:
    @click.command()
    def command() -> None:
        raise raised

    fake_command.command = command  # type: ignore[attr-defined]
    result = CliRunner().invoke(cli.main, ["fake"])
    assert result.exit_code == status
    assert said in result.output


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_comparison_that_is_stopped_leaves_nothing(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "gcheap", "compare", "synthetic:list", "--live", "1MiB"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("repeat 1"):
            break
    child.send_signal(number)
    _, said = child.communicate()
    assert child.returncode == status
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_under_the_output_is_said() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gcheap", "doctor"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
