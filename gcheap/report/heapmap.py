"""A heap's blocks as characters: a cell a block, an arena a group of 32 cells, spaces apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.text import Text

from gcheap.report._encoding import can_write

__all__ = ["ARENA_SHIFT", "BLOCK_BYTES", "SPACES", "print_legend", "print_map", "space_figures"]

BLOCK_BYTES = 64 << 10
ARENA_SHIFT = 21
ARENA_BLOCKS = (1 << ARENA_SHIFT) // BLOCK_BYTES
SPACES = ("old", "large", "leaf", "large leaf", "young")
"""Space by the number that ``Heap.map`` gives it."""
STYLES = ("blue", "magenta", "green", "yellow", "cyan")
INDENT = "  "
SHADES = "░▒▓█"
GARBAGE, FREE, ABSENT, PINNED = "x", "·", " ", "◆"
PLAIN = str.maketrans(SHADES + FREE + PINNED, ".:+#-@")
"""What stands for characters that an encoding may not have."""

Blocks = npt.NDArray[np.void]


def space_figures(blocks: Blocks) -> list[dict[str, Any]]:
    """Return what each space that has arenas holds, in values that JSON can hold."""
    figures = []
    for number, name in enumerate(SPACES):
        mine = blocks[blocks["space"] == number]
        if len(mine):
            figures.append(
                {
                    "space": name,
                    "arenas": len(np.unique(mine["address"] >> ARENA_SHIFT)),
                    "blocks": len(mine),
                    "free": int(np.count_nonzero(mine["free"])),
                    "populated": int(np.count_nonzero(mine["populated"])),
                    "pinned": int(np.count_nonzero(mine["pinned"])),
                    "used_bytes": int(mine["used_bytes"].sum()),
                    "live_bytes": int(mine["live_bytes"].sum()),
                }
            )
    return figures


def print_legend(console: Console) -> None:
    """Print what the characters mean."""
    legend = (
        f"a cell: a block of 64 KiB; {ARENA_BLOCKS} cells: an arena; live share up to a quarter "
        f"{SHADES[0]}, half {SHADES[1]}, three quarters {SHADES[2]}, more {SHADES[3]}; "
        f"nothing live {GARBAGE}, pinned {PINNED}, free {FREE}, free and without memory: blank"
    )
    console.print(_drawn(console, legend), highlight=False)


def _drawn(console: Console, cells: str) -> str:
    is_plain = not can_write(console, SHADES + FREE + PINNED)
    return cells.translate(PLAIN) if is_plain else cells


def print_map(console: Console, title: str, blocks: Blocks) -> None:
    """Print the blocks, space by space."""
    console.print(Text(f"\n{title}", style="bold"))
    a_line = max(1, (console.width - len(INDENT) + 1) // (ARENA_BLOCKS + 1))
    for figures in space_figures(blocks):
        number = SPACES.index(figures["space"])
        console.print(Text(f"{figures['space']}: {_said(figures)}", style=STYLES[number]))
        for line in _lines(blocks[blocks["space"] == number], a_line):
            cells = Text(INDENT + _drawn(console, line), style=STYLES[number])
            console.print(cells, no_wrap=True, soft_wrap=True)


def _said(figures: dict[str, Any]) -> str:
    arenas = f"{figures['arenas']} arena{'s' if figures['arenas'] != 1 else ''}"
    if figures["space"] == "young":  # nothing is known of what lives there
        return f"{arenas}, {figures['used_bytes'] / 2**20:.1f} MiB used"
    held = figures["populated"] * BLOCK_BYTES
    share = figures["live_bytes"] / held if held else 0.0
    return (
        f"{arenas}, {held / 2**20:.1f} MiB of memory, "
        f"{figures['live_bytes'] / 2**20:.1f} MiB live ({share:.0%}), {figures['pinned']} pinned"
    )


def _lines(blocks: Blocks, a_line: int) -> Iterator[str]:
    cells = _cells(blocks)
    for start in range(0, len(cells), a_line * ARENA_BLOCKS):
        arenas = cells[start : start + a_line * ARENA_BLOCKS].reshape(-1, ARENA_BLOCKS)
        yield "|".join("".join(arena) for arena in arenas)


def _cells(blocks: Blocks) -> npt.NDArray[np.str_]:
    """Return a character for each block. Of young ones the share used stands for that live."""
    young = blocks["space"] == SPACES.index("young")
    share = np.where(young, blocks["used_bytes"], blocks["live_bytes"]) / BLOCK_BYTES
    shade = np.clip(np.ceil(share * len(SHADES)).astype(np.int64) - 1, 0, len(SHADES) - 1)
    cells = np.array(list(SHADES))[shade]
    cells[share == 0] = GARBAGE
    free = blocks["free"] != 0
    cells[free] = FREE
    cells[free & (blocks["populated"] == 0)] = ABSENT
    cells[blocks["pinned"] != 0] = PINNED
    return cells
