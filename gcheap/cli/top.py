"""``gcheap top``: a heap of another process, live."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from gcheap.cli._options import InputError, make_console

if TYPE_CHECKING:
    from gcheap.live import Monitor, Snapshot
    from gcheap.ring import RingFile

__all__ = ["command"]

PLAIN_WIDTH = 100
FIRST_RATES_S = 2.0
"""How long a single look waits for a second sample."""


@click.command("top")
@click.argument("target", metavar="[PID|FILE]", required=False)
@click.option("--once", is_flag=True, help="Look once and end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line a look.")
@click.option(
    "--interval",
    type=click.FloatRange(0.05, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between looks.",
)
@click.option("--plain", is_flag=True, help="Print lines, even to a terminal.")
@click.option("--prune", is_flag=True, help="Remove the files of processes that are gone.")
def command(
    target: str | None, once: bool, as_json: bool, interval: float, plain: bool, prune: bool
) -> None:
    """Show a heap of another process: its memory, what it does now, its pauses and rates.

    The process must write a ring file: GCHEAP_RING=auto in its environment (or a folder, or a
    path), or Heap(ring=...). PID finds the file in $XDG_RUNTIME_DIR/gcheap (/tmp/gcheap-UID where
    there is no such folder) and in the folder that GCHEAP_RING names here; FILE names it. Without
    either, the heaps there are are listed. The process notices nothing; the file that a killed one
    leaves is read, too.

    In a terminal the view is interactive if textual is there (pip install 'gcheap[top]'): q ends
    it, p holds it, m hides the map.
    """
    from gcheap import ring

    if prune:
        for file in ring.prune():
            click.echo(f"removed {file}")
        return
    if target is None:
        _list(as_json)
        return
    try:
        opened = ring.open_target(target)
    except ValueError as error:
        raise InputError(str(error)) from None
    with opened:
        try:
            _show(opened, once=once, as_json=as_json, interval=interval, plain=plain)
        except KeyboardInterrupt:
            return  # that is how one leaves


def _show(ring: RingFile, *, once: bool, as_json: bool, interval: float, plain: bool) -> None:
    from gcheap.live import Monitor

    monitor = Monitor(ring)
    console = make_console(PLAIN_WIDTH)
    if once:
        _print_once(_with_rates(monitor), as_json)
    elif as_json or plain or not console.is_terminal:
        _print_lines(monitor, as_json, interval)
    elif importlib.util.find_spec("textual") is not None and sys.stdin.isatty():
        from gcheap.cli._top_app import TopApp

        TopApp(monitor, interval).run()
    else:
        _redraw(monitor, interval)


def _with_rates(monitor: Monitor) -> Snapshot:
    snapshot = monitor.look()
    deadline = time.monotonic() + FIRST_RATES_S
    while snapshot.state == "open" and snapshot.rates is None and time.monotonic() < deadline:
        time.sleep(0.05)
        snapshot = monitor.look()
    return snapshot


def _print_once(snapshot: Snapshot, as_json: bool) -> None:
    from gcheap.report.live import draw

    if as_json:
        click.echo(json.dumps(snapshot.as_json(), allow_nan=False))
        return
    console = make_console(PLAIN_WIDTH)
    console.print(draw(snapshot, console, console.width), highlight=False)


def _print_lines(monitor: Monitor, as_json: bool, interval: float) -> None:
    from gcheap.report.live import HEADER, STATE_SAID, line

    if not as_json:
        click.echo(HEADER)
    while True:
        snapshot = monitor.look()
        document = json.dumps(snapshot.as_json(), allow_nan=False) if as_json else line(snapshot)
        click.echo(document)
        if snapshot.state != "open":
            click.echo(f"gcheap top: {STATE_SAID[snapshot.state]}", err=True)
            return
        time.sleep(interval)


def _redraw(monitor: Monitor, interval: float) -> None:
    from rich.live import Live

    from gcheap.report.live import draw

    console = make_console(PLAIN_WIDTH)
    with Live(console=console, screen=False, auto_refresh=False) as live:
        while True:
            snapshot = monitor.look()
            live.update(draw(snapshot, console, console.width), refresh=True)
            if snapshot.state != "open":
                return
            time.sleep(interval)


def _list(as_json: bool) -> None:
    heaps = _heaps()
    if as_json:
        click.echo(json.dumps(heaps))
        return
    if not heaps:
        from gcheap.ring import folder

        click.echo(f"No heap has a ring file in {folder()}.", err=True)
        return
    click.echo(f"{'PID':>8} {'state':<7} {'heap MiB':>9} file")
    for heap in heaps:
        used = "-" if heap["heap_bytes"] is None else f"{heap['heap_bytes'] / 2**20:.1f}"
        click.echo(f"{heap['pid']:>8} {heap['state']:<7} {used:>9} {heap['path']}")


def _heaps() -> list[dict[str, Any]]:
    from gcheap import ring

    heaps: list[dict[str, Any]] = []
    for file in ring.find():
        try:
            with ring.RingFile(file) as opened:
                live = opened.live()
                used = live.stats.heap_bytes if live else None
                known = {"pid": opened.info.pid, "state": opened.state, "heap_bytes": used}
                heaps.append(known | {"path": str(file)})
        except ValueError:
            continue  # it is being made, or of another version
    return heaps
