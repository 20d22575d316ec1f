"""``gcheap trace``: a ring file, a process or a JSON log -> a trace for ui.perfetto.dev."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gcheap.cli._options import InputError, output_path, said

if TYPE_CHECKING:
    from gcheap.trace import Timeline

__all__ = ["command"]


@click.command("trace")
@click.argument("source", metavar="PID|FILE")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="-",
    callback=output_path,
    help="NAME.json, NAME.json.gz or NAME.pftrace.  [default: JSON to standard output]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 86400),
    default=0.0,
    help="Go on recording a live heap for so long.",
)
def command(source: str, output: str, seconds: float) -> None:
    """Turn what a heap has done into a trace that ui.perfetto.dev and chrome://tracing open.

    PID names a process with a ring file, FILE the ring file itself (of a live process, or what a
    killed one left), or a log that GCHEAP_LOG=json:FILE wrote. Perfetto's own format (.pftrace)
    needs the perfetto package: pip install 'gcheap[trace]'.
    """
    from gcheap import trace
    from gcheap._errors import Unsupported

    try:
        if output != "-":
            trace.format_of(output)
    except (ValueError, Unsupported) as error:
        raise click.UsageError(str(error)) from None
    try:
        timelines = _read(source, seconds)
    except (ValueError, OSError) as error:
        raise InputError(said(error)) from None
    if output == "-":
        trace.write_json_trace(timelines, sys.stdout.buffer)
    else:
        trace.write_trace(timelines, output)
    _tell(timelines, output)


def _read(source: str, seconds: float) -> list[Timeline]:
    from gcheap import ring, trace

    if _is_log(source):
        try:
            with open(source, encoding="utf-8", errors="replace") as lines:
                return trace.timelines_of_log(lines)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
    with ring.open_target(source) as opened:
        return [trace.record(opened, seconds)]


def _is_log(source: str) -> bool:
    path = Path(source)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) == b"{"


def _tell(timelines: list[Timeline], output: str) -> None:
    slices = sum(len(timeline.slices) for timeline in timelines)
    lost = sum(timeline.lost for timeline in timelines)
    where = "standard output" if output == "-" else output
    click.echo(f"gcheap trace: {slices} slices to {where}", err=True)
    if lost:
        click.echo(
            f"gcheap trace: {lost} events had been overwritten: the trace begins after them"
            " (Heap(event_capacity=...) keeps more)",
            err=True,
        )
