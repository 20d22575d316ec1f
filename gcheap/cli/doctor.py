"""``gcheap doctor``: what works here, what is used, what to change."""

from __future__ import annotations

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gcheap import _result
from gcheap.cli._options import make_console
from gcheap.compare.rows import PAUSE_ONLY
from gcheap.doctor import COSTS, Diagnosis, Item, advice, examine

__all__ = ["command"]

PLAIN_WIDTH = 100
"""Columns where output is not a terminal."""


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(as_json: bool) -> None:
    """Say what this kernel and these permissions allow, and what gcheap makes of it.

    Everything is tried on small mappings; nothing is changed. Exit status 0: a mover that lets the
    program run while memory moves is available; 1: only pauses are.
    """
    found = examine(install_sigbus=True)
    if as_json:
        _result.write_json("-", _document(found))
    else:
        _show(found, make_console(PLAIN_WIDTH))
    concurrent = any(mover.works for mover in found.movers if mover.name not in PAUSE_ONLY)
    raise SystemExit(0 if concurrent else 1)


def _document(found: Diagnosis) -> dict[str, object]:
    summary = found.as_json() | {"advice": advice(found)}
    return _result.result(_result.machine(), {}, [], summary)


def _show(found: Diagnosis, console: Console) -> None:
    console.print(
        f"Linux {found.kernel_release}, {found.cpus} CPUs, pages of {_size(found.page_bytes)}, "
        f"huge pages of {_size(found.huge_bytes)} ({found.huge_policy})",
        highlight=False,
    )
    _show_items(console, "Ways to open userfaultfd", found.openings)
    console.print(Padding(Text(_setting(found)), (0, 0, 0, 2)))
    features = ", ".join(found.features) or "none: no way to open it works"
    console.print(Text.assemble("\n", ("Its features: ", "bold"), features))
    _show_items(console, "Calls", found.calls)
    _show_items(console, "Movers", found.movers)
    console.print(
        Text.assemble(
            "\n", ("Default: ", "bold"), (found.chosen, "bold green"), f". {found.chosen_reason}"
        )
    )
    _show_costs(console, found)
    _show_advice(console, found)


def _setting(found: Diagnosis) -> str:
    if found.unprivileged < 0:
        return "vm.unprivileged_userfaultfd: this kernel has no such setting."
    meaning = (
        "any user may serve faults of system calls"
        if found.unprivileged
        else "without privileges only /dev/userfaultfd does, or user mode only"
    )
    return f"vm.unprivileged_userfaultfd = {found.unprivileged}: {meaning}."


def _show_items(console: Console, title: str, items: tuple[Item, ...]) -> None:
    console.print(Text(f"\n{title}", style="bold"))
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 1))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in items:
        mark = Text("yes", style="green") if item.works else Text("no", style="red")
        error = f" ({item.error})" if item.error and not item.works else ""
        plain = item.works and item.text == f"{item.name} works."
        table.add_row(mark, item.name, "" if plain else Text(item.text + error))
    console.print(table)


def _show_costs(console: Console, found: Diagnosis) -> None:
    title = f"\nWhat calls cost here (medians, measured in {found.calibration_s * 1e3:.0f} ms)"
    console.print(Text(title, style="bold"))
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for name, what in COSTS.items():
        cost = found.costs_ns.get(name)
        table.add_row("not measurable" if cost is None else _time(cost), what)
    console.print(table)


def _show_advice(console: Console, found: Diagnosis) -> None:
    console.print(Text("\nTo get more", style="bold"))
    for line in advice(found) or ["Nothing: everything that gcheap can use is there."]:
        console.print(Padding(Text(line), (0, 0, 0, 2)))


def _time(ns: float) -> str:
    return f"{ns / 1000:.1f} us" if ns >= 1000 else f"{ns:.0f} ns"


def _size(nbytes: int) -> str:
    return f"{nbytes >> 20} MiB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KiB"
