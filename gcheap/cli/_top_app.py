"""The interactive view of ``gcheap top`` (needs the ``textual`` package)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from rich.console import Console
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from gcheap.live import Monitor, Snapshot
from gcheap.report.live import draw

__all__ = ["TopApp"]


class TopApp(App[None]):
    """Redraws a snapshot every so many seconds."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("p", "hold", "Hold"),
        Binding("m", "toggle_map", "Map"),
    ]
    TITLE = "gcheap top"

    def __init__(self, monitor: Monitor, interval: float) -> None:
        super().__init__()
        self.monitor = monitor
        self.interval = interval
        self.held = False
        self.with_map = True
        self.snapshot: Snapshot | None = None

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(id="heap")
        yield Footer()

    def on_mount(self) -> None:
        self.look()
        self.set_interval(self.interval, self.look)

    def on_resize(self) -> None:
        self.show()

    def look(self) -> None:
        """Read what is new, unless the view is held or the heap is gone."""
        ended = self.snapshot is not None and self.snapshot.state != "open"
        if not self.held and not ended:
            self.snapshot = self.monitor.look()
            self.show()

    def show(self) -> None:
        """Draw what was read last."""
        if self.snapshot is None:
            return
        shown = self.snapshot
        if not self.with_map:
            shown = replace(shown, arenas=shown.arenas[:0])
        width = max(20, self.size.width - 2)
        self.query_one("#heap", Static).update(draw(shown, Console(width=width), width))

    def action_hold(self) -> None:
        """Hold the view, or let it go on."""
        self.held = not self.held

    def action_toggle_map(self) -> None:
        """Show the map, or hide it."""
        self.with_map = not self.with_map
        self.show()
