"""``gcheap explore``: every interleaving of the models of the collector's cycle."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from gcheap.cli._options import make_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gcheap.explore import Result
    from gcheap.models import Case

__all__ = ["command"]

PLAIN_WIDTH = 120
"""Columns where output is not a terminal."""


def _model(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from gcheap.models import MODULES

    if value is not None and value not in MODULES:
        raise click.BadParameter(f"{value!r} is none of {', '.join(MODULES)}")
    return value


@click.command("explore")
@click.argument("model", metavar="[MODEL]", required=False, callback=_model)
@click.option("--list", "listed", is_flag=True, help="List models, or the mutants of MODEL.")
@click.option("--mutant", metavar="NAME", help="Explore this broken form of MODEL, tell its trace.")
def command(model: str | None, listed: bool, mutant: str | None) -> None:
    """Try every order of steps in models of the collector's cycle.

    A model mirrors the rule of the C code that threads keep; each of its mutants breaks one part
    of the rule, and is to be caught. MODEL: only this one. Exit status 1: a rule is broken in what
    was explored, or a mutant is not caught; the shortest way there is told.
    """
    from gcheap.models import case, cases

    if mutant is not None and (model is None or listed):
        raise click.UsageError("--mutant needs a MODEL, and no --list")
    chosen = cases() if model is None else [case(model)]
    console = make_console(PLAIN_WIDTH)
    if listed:
        console.print(_list(chosen) if model is None else _list_mutants(chosen[0]))
        return
    if mutant is not None:
        ok = _tell_mutant(console, chosen[0], mutant)
    else:
        ok = _explore_all(console, chosen)
    raise SystemExit(0 if ok else 1)


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        right = column in ("states", "transitions", "seconds")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _list(cases: list[Case]) -> Table:
    table = _table("model", "mutants", "what")
    for one in cases:
        table.add_row(one.name, str(len(one.mutants)), one.about)
    return table


def _list_mutants(one: Case) -> Table:
    table = _table("mutant", "what is wrong with it")
    for name, about in one.mutants.items():
        table.add_row(name, about)
    return table


def _explored(one: Case, mutant: str | None = None) -> Result[Any]:
    from gcheap.explore import explore

    return explore(one.model(mutant))


def _tell_mutant(console: Console, one: Case, mutant: str) -> bool:
    try:
        result = _explored(one, mutant)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--mutant") from None
    console.print(f"{one.name}, mutant {mutant}: {one.mutants[mutant]}", highlight=False)
    if result.violation is None:
        console.print(f"not caught in {result.states:,} states", highlight=False)
        return True
    console.print(str(result.violation), highlight=False, markup=False, soft_wrap=True, end="")
    return False


def _explore_all(console: Console, cases: list[Case]) -> bool:
    table = _table("model", "states", "transitions", "verdict", "mutants caught", "seconds")
    said: list[str] = []
    for one in cases:
        click.echo(f"gcheap explore: {one.name}", err=True)
        start = time.perf_counter()
        result = _explored(one)
        missed = [name for name in one.mutants if _explored(one, name).ok]
        caught = f"{len(one.mutants) - len(missed)} of {len(one.mutants)}"
        if result.violation is not None:
            said.append(f"{one.name}: {result.violation}")
        if missed:
            said.append(f"{one.name}: mutants not caught: {', '.join(missed)}\n")
        table.add_row(
            one.name,
            f"{result.states:,}",
            f"{result.transitions:,}",
            "holds" if result.ok else "[red]broken[/red]",
            f"[red]{caught}[/red]" if missed else caught,
            f"{time.perf_counter() - start:.1f}",
        )
    console.print(table)
    for text in said:
        console.print(f"\n{text}", highlight=False, markup=False, soft_wrap=True, end="")
    return not said
