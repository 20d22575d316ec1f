"""The ``gcheap`` command: a click group whose commands are loaded when they are used.

A command NAME lives in ``gcheap/cli/NAME.py`` and is called ``command`` there. It is listed in
``COMMANDS`` with the one line that ``gcheap --help`` shows, so that help imports none of them.

Exit codes: 0 done; 1 the command found something wrong, or could not finish; 2 wrong usage, or an
input that cannot be read; 130 and 143 interrupted and terminated, with nothing left behind. Data
goes to standard output, talk to standard error.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

__all__ = ["COMMANDS", "main"]

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

COMMANDS = {
    "compare": "Compare compaction by moving pages with its alternatives, on this machine.",
    "doctor": "Say what this kernel and these permissions allow, and what gcheap makes of it.",
    "explore": "Try every order of steps in models of the collector's cycle.",
    "map": "Draw where a heap's memory is and what fills it.",
    "top": "Show a heap of another process: memory, pauses and rates, live.",
    "trace": "Turn what a heap has done into a trace for ui.perfetto.dev.",
}
"""Command -> its line of help. Those without a module in this version are not listed."""


class LazyGroup(click.Group):
    """Import a command's module when the command is named, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if importlib.util.find_spec(f"{__name__}.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{__name__}.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"gcheap.cli.{cmd_name}.command is no click command: {command!r}")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _cleaning_up_when_terminated():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("gcheap: interrupted", err=True)
            raise SystemExit(INTERRUPTED) from None
        except MemoryError as error:
            raise click.ClickException(f"no memory left: {error}") from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly
            from gcheap.cli._options import said

            raise click.ClickException(said(error)) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


@contextmanager
def _cleaning_up_when_terminated() -> Iterator[None]:
    """Turn SIGTERM into an exception meanwhile, so that files and processes go."""

    def terminate(_number: int, _frame: object) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from gcheap import __version__

        click.echo(f"gcheap {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """A garbage-collected heap that compacts by moving pages while the program runs."""
