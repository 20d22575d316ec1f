"""The ``gcheap`` command: a click group whose commands are loaded when they are used.

A command NAME lives in ``gcheap/cli/NAME.py`` and is called ``command`` there. It is listed in
``COMMANDS`` with the one line that ``gcheap --help`` shows, so that help imports none of them.

Exit codes: 0 done; 1 the command found something wrong; 2 wrong usage. Data goes to standard
output, talk to standard error.
"""

from __future__ import annotations

import importlib
import importlib.util

import click

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "compare": "Compare compaction by moving pages with its alternatives, on this machine.",
    "doctor": "Say what this kernel and these permissions allow, and what gcheap makes of it.",
    "map": "Draw where a heap's memory is and what fills it.",
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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


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
