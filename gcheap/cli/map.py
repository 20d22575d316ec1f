"""``gcheap map``: the blocks of a fragmented heap, before and after a compaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gcheap.cli._options import (
    InputError,
    drop_option,
    input_argument,
    live_option,
    make_console,
    policy_option,
    said,
    seed_option,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gcheap.stats import GCEvent

__all__ = ["command"]

DEFAULT_BYTES = 32 << 20
PLAIN_WIDTH = 100
"""Columns where output is not a terminal: three arenas."""


@click.command("map")
@input_argument
@click.option(
    "--mover",
    type=click.Choice(["auto", "move", "remap", "copy", "simulated", "memcpy", "slide"]),
    default="auto",
    show_default=True,
    help="What moves; remap is another name of move.",
)
@policy_option
@click.option("--concurrent", is_flag=True, help="Move while programs may run.")
@drop_option
@live_option("32MiB")
@click.option(
    "--huge",
    type=click.Choice(["on", "off"]),
    default="off",
    show_default=True,
    help="Huge pages.",
)
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a picture.")
def command(**options: Any) -> None:
    """Draw where a fragmented heap's memory is, and where it is after a compaction.

    INPUT is "interpreter" (default: this Python's own objects), the path of an .npz that
    ObjectGraph.save wrote or of a Java heap dump (.hprof, .hprof.gz), or synthetic:mixed,
    :clustered, :rmat, :tree, :list. Spaces have colours in a terminal and headings everywhere.
    """
    from gcheap._errors import GcheapError

    click.echo(f"gcheap map: preparing {options['input']}", err=True)
    try:
        before, after, event, described = _compacted(options)
    except GcheapError as error:
        raise click.ClickException(str(error)) from None
    except (ValueError, OSError) as error:
        raise InputError(said(error)) from None
    if options["as_json"]:
        _print_json(before, after, event, described)
    else:
        _print_maps(before, after, event, described)


def _compacted(
    options: dict[str, Any],
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void], GCEvent, dict[str, Any]]:
    from gcheap import bridge
    from gcheap.compare.inputs import prepare
    from gcheap.compare.worker import heap_limit
    from gcheap.heap import Heap

    prepared, described = prepare(
        options["input"],
        options["live"],
        options["drop"],
        options["seed"],
        default_bytes=DEFAULT_BYTES,
        log=lambda line: click.echo(f"gcheap map: {line}", err=True),
    )
    plan = prepared.ageing
    with Heap(heap_limit(plan.graph.nbytes), mover=options["mover"], huge=options["huge"]) as heap:
        table = bridge.load(heap, plan.graph)
        bridge.drop(table, plan)
        bridge.refill(heap, table, plan)
        heap.collect(policy="release")  # marks, so that the map knows what lives
        before = heap.map()
        event = heap.collect(policy=options["policy"], concurrent=options["concurrent"])
        heap.verify()
        return before, heap.map(), event, described


def _print_maps(
    before: npt.NDArray[np.void],
    after: npt.NDArray[np.void],
    event: GCEvent,
    described: dict[str, Any],
) -> None:
    from gcheap.report.heapmap import print_legend, print_map

    console = make_console(PLAIN_WIDTH)
    console.print(
        f"{described['source']}: {described['objects']:,} objects, "
        f"{described['bytes'] / 2**20:.0f} MiB, {described['drop']:.0%} of them dropped",
        highlight=False,
    )
    print_legend(console)
    print_map(console, "Before (a collection that moves nothing)", before)
    how = "beside mutators" if event.concurrent else "in the pause"
    title = (
        f"After ({event.mover}, {event.policy}, {how}: {event.cycle_s * 1e3:.1f} ms, "
        f"{event.pages_moved} pages moved, {event.bytes_copied / 2**20:.1f} MiB copied)"
    )
    if event.reason:
        console.print(f"Less was done than asked for: {event.reason}", highlight=False)
    print_map(console, title, after)


def _print_json(
    before: npt.NDArray[np.void],
    after: npt.NDArray[np.void],
    event: GCEvent,
    described: dict[str, Any],
) -> None:
    from dataclasses import asdict

    from gcheap import _result
    from gcheap.report.heapmap import space_figures

    runs = [
        {
            "when": when,
            "spaces": space_figures(blocks),
            "blocks": {name: blocks[name].tolist() for name in blocks.dtype.names or ()},
        }
        for when, blocks in (("before", before), ("after", after))
    ]
    summary = {"collection": asdict(event)}
    _result.write_json("-", _result.result(_result.machine(), described, runs, summary))
