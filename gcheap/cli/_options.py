"""Options that commands share."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

__all__ = [
    "InputError",
    "drop_option",
    "input_argument",
    "live_option",
    "make_console",
    "output_path",
    "policy_option",
    "said",
    "seed_option",
]

if TYPE_CHECKING:
    from rich.console import Console

Decorator = Callable[[Any], Any]


class InputError(click.ClickException):
    """The input cannot be read, or not with these options."""

    exit_code = 2


def said(error: Exception) -> str:
    """Return the message of an error; of one of the system's without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def make_console(plain_width: int, *, stderr: bool = False) -> Console:
    """Return a console; where output is no terminal and COLUMNS does not say, of this width.

    What the encoding of the output does not have is written as question marks.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="replace")
    environ = dict(os.environ)
    if environ.get("COLUMNS", "").strip("0") == "":
        environ.pop("COLUMNS", None)  # some shells say 0; the console would print nothing
    console = Console(stderr=stderr, _environ=environ)
    if console.is_terminal or environ.get("COLUMNS", "").isdigit():
        return console
    return Console(stderr=stderr, width=plain_width, _environ=environ)


def output_path(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Check that a file can be written, before the work that leads to it."""
    if path is None or path == "-":
        return path
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise click.BadParameter(f"{path!r}: there is no folder {folder!r}")
    if os.path.isdir(path) or not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise click.BadParameter(f"{path!r} cannot be written")
    return path


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    from gcheap._units import parse_size

    try:
        size = None if value is None else parse_size(value, "--live")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if size == 0:
        raise click.BadParameter("--live is 0, expected at least a byte")
    return size


def _check_input(ctx: click.Context, param: click.Parameter, source: str) -> str:
    from gcheap.sources.generators import GENERATORS

    kind = source.removeprefix("synthetic:")
    if kind != source and kind not in GENERATORS:
        known = ", ".join(f"synthetic:{name}" for name in GENERATORS)
        raise click.BadParameter(f"{source!r} is none of {known}")
    if kind == source and source != "interpreter" and not os.path.isfile(source):
        raise click.BadParameter(f"{source!r} is no file, nor interpreter or synthetic:KIND")
    return source


def _share(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if value != value:  # not a number: no bound of click's refuses it
        raise click.BadParameter(f"{value} is not in the range 0<=x<=1.")
    return value


def live_option(default: str) -> Decorator:
    """Return the option --live; ``default`` is the size of the graph without it."""
    said = f"Bytes live when the collection starts.  [default: a graph of {default} before it ages]"
    return click.option("--live", metavar="SIZE", callback=_size, help=said)


input_argument: Decorator = click.argument(
    "input", metavar="[INPUT]", default="interpreter", callback=_check_input
)
drop_option: Decorator = click.option(
    "--drop",
    type=click.FloatRange(0, 1),
    default=0.6,
    show_default=True,
    callback=_share,
    help="Share of the objects that die; a tenth of all is made anew.",
)
policy_option: Decorator = click.option(
    "--policy",
    type=click.Choice(["needed", "all", "release"]),
    default="needed",
    show_default=True,
    help="Which live pages move: what is worth it, all, none.",
)
seed_option: Decorator = click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of all chance."
)
