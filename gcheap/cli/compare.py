"""``gcheap compare``: movers against each other on one object graph, on this machine."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from gcheap.cli._options import (
    InputError,
    drop_option,
    input_argument,
    live_option,
    make_console,
    output_path,
    policy_option,
    said,
    seed_option,
)

if TYPE_CHECKING:
    from gcheap.compare.session import Session, Settings

__all__ = ["command"]

DEFAULT_BUDGET_S = 140.0
"""With ``--repeat`` left alone, no repeat begins that would end later than this."""
PLAIN_WIDTH = 132
"""Columns where output is not a terminal."""
PICTURES = (".png", ".svg", ".pdf")
NO_MATPLOTLIB = "--plot needs matplotlib: pip install 'gcheap[plot]'"


def _movers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    from gcheap.compare.rows import parse_movers

    try:
        return parse_movers(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _has_matplotlib() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def _plot_path(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _has_matplotlib():
        raise click.UsageError(NO_MATPLOTLIB)
    if value is not None and not value.lower().endswith(PICTURES):
        raise click.BadParameter(f"{value!r} is no picture, expected {', '.join(PICTURES)}")
    return output_path(ctx, param, value)


@click.command("compare")
@input_argument
@click.option(
    "--movers",
    default="move,copy,simulated,memcpy,slide",
    show_default=True,
    callback=_movers,
    help="Comma-separated; also remap (move), memcpy-fresh (memcpy), memcpy-sliding (slide).",
)
@policy_option
@click.option(
    "--mode",
    type=click.Choice(["pause", "concurrent", "both"]),
    default="both",
    show_default=True,
    help="Move in the pause, or beside the running program.",
)
@click.option(
    "--faults",
    type=click.Choice(["thread", "signal", "both"]),
    default="both",
    show_default=True,
    help="Who answers a touch of a missing page.",
)
@drop_option
@live_option("256MiB")
@click.option(
    "--huge",
    type=click.Choice(["on", "off", "both"]),
    default="off",
    show_default=True,
    help="Huge pages.",
)
@click.option(
    "--repeat",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Runs of each row; if not given, fewer where they would take more than 140 s.",
)
@seed_option
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    callback=output_path,
    help="Write the result; - for stdout.",
)
@click.option(
    "--plot",
    "plot_path",
    metavar="FILE",
    callback=_plot_path,
    help="Draw the result (.png, .svg, .pdf).",
)
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Compact the same fragmented heap with each mover while a program goes on using it.

    INPUT is "interpreter" (default: this Python's own objects, repeated), the path of an .npz that
    ObjectGraph.save wrote or of a Java heap dump (.hprof, .hprof.gz), or synthetic:mixed,
    :clustered, :rmat, :tree, :list. Every run is a process of its own; every result is checked
    against a numpy shadow.

    Exit status: 0 all verified, 1 something did not, 2 wrong usage or input, 130 interrupted.
    """
    start = time.monotonic()
    click.echo(f"gcheap compare: preparing {options['input']}", err=True)
    session = _run(_settings(ctx, options))
    document = _report(session, to_stdout=options["json_path"] == "-")
    seconds = time.monotonic() - start
    click.echo(f"{len(session.runs)} runs in {seconds:.0f} s", err=True)
    _write(document, options["json_path"], options["plot_path"])
    raise SystemExit(0 if document["summary"]["verified"] and session.runs else 1)


def _settings(ctx: click.Context, options: dict[str, Any]) -> Settings:
    from gcheap.compare.rows import plan_rows
    from gcheap.compare.session import Settings

    rows = plan_rows(
        options["movers"],
        _both(options["mode"], "pause", "concurrent"),
        _both(options["faults"], "thread", "signal"),
        options["policy"],
        [value == "on" for value in _both(options["huge"], "off", "on")],
    )
    if all(row.policy == "release" for row in rows) and options["policy"] != "release":
        raise click.UsageError(
            f"{', '.join(options['movers'])} with --mode concurrent: works in the pause only"
        )
    chosen = ctx.get_parameter_source("repeat") is not click.core.ParameterSource.DEFAULT
    return Settings(
        source=options["input"],
        live_bytes=options["live"],
        drop=options["drop"],
        seed=options["seed"],
        rows=rows,
        repeat=options["repeat"],
        budget_s=0.0 if chosen else DEFAULT_BUDGET_S,
    )


def _both(value: str, first: str, second: str) -> tuple[str, ...]:
    return (first, second) if value == "both" else (value,)


def _run(settings: Settings) -> Session:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from gcheap.compare.rows import Row
    from gcheap.compare.session import Session

    session = Session(settings)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<36}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("preparing", total=len(settings.rows) * settings.repeat)
        last = -1

        def began(row: Row, repeat: int) -> None:
            nonlocal last
            progress.update(task, description=f"{row.label}, {row.mode}, {row.faults}")
            if repeat != last and not console.is_terminal:
                click.echo(f"repeat {repeat + 1} of {settings.repeat}", err=True)
            last = repeat

        def say(line: str) -> None:
            progress.console.print(f"gcheap compare: {line}", markup=False, soft_wrap=True)

        try:
            session.run(began, lambda: progress.advance(task), say)
        except (ValueError, OSError) as error:
            raise InputError(said(error)) from None
    return session


def _report(session: Session, *, to_stdout: bool) -> dict[str, Any]:
    from gcheap import _result
    from gcheap.compare.summary import summarise, summary_json
    from gcheap.report.table import print_comparison

    summaries = summarise(session.runs, session.settings.rows)
    console = make_console(PLAIN_WIDTH, stderr=to_stdout)
    if session.repeats < session.settings.repeat:
        console.print(f"{session.repeats} of {session.settings.repeat} repeats: time was up")
    print_comparison(console, summaries, session.unavailable)
    summary = summary_json(summaries, session.unavailable, session.repeats)
    return _result.result(_result.machine(), session.input, session.runs, summary)


def _write(document: dict[str, Any], json_path: str | None, plot_path: str | None) -> None:
    from gcheap import _result

    if json_path is not None:
        with _naming(json_path):
            _result.write_json(json_path, document)
    if plot_path is not None:
        from gcheap.report.plot import plot_comparison

        with _naming(plot_path):
            plot_comparison(document, plot_path)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Say what was written to a path, or that it could not be: a failed write does not name it."""
    try:
        yield
    except OSError as error:
        if path == "-":
            raise
        raise click.ClickException(f"{path}: {error.strerror or error}") from None
    if path != "-":
        click.echo(f"wrote {path}", err=True)
