"""A heap of another process, watched: ``Monitor`` turns its ring file into snapshots with rates.

Figures come from samples that the heap's process takes some ten times a second, pauses and the
present phase from its events, which are there at once. Rates are differences of samples over the
last seconds; there are none before two samples were seen, and none of a process that is gone.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gcheap._ffi import lib, text
from gcheap.ring import RingFile, State
from gcheap.stall_report import unpack_utilisation
from gcheap.stats import EVENT_KINDS, EventArray, HeapStats

__all__ = ["Monitor", "Pause", "Rates", "Snapshot"]

SCHEMA = 1
WINDOW_NS = 3_000_000_000
"""Rates are over so much time, or less."""
PAUSES_KEPT = 512
NS = 1e-9
_KIND = {name: kind for kind, name in EVENT_KINDS.items()}


@dataclass(frozen=True, slots=True)
class Rates:
    """What happens in a second; ``stalled`` is how many seconds mutators stood in it, by cause."""

    allocated_bytes: float
    promoted_bytes: float
    minors: float
    majors: float
    faults: float
    stalled: dict[str, float]


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause: its kind, when it ended (CLOCK_MONOTONIC, ns), its length."""

    kind: str
    time: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A heap at a moment.

    Attributes:
        state: open, closed, dead (its process is gone), truncated (the file is).
        process: name of the process.
        age_s: since the heap was made, by the machine's clock, or until its last sample.
        phase: of the running major collection.
        stats: as ``Heap.stats``, None before the first sample.
        rates: None if they are not known.
        pauses: the last ones, oldest first.
        arenas: those that have memory, ``gcheap.ring.ARENA_DTYPE``; ``unlisted`` more have.
        events_lost: overwritten before they were read.
        utilisation: the least share that a thread had to itself, of windows of 1, 10 and 100 ms, in
            the last major collection; None: it is not known.
    """

    path: str
    pid: int
    process: str
    state: State
    age_s: float
    phase: str
    stats: HeapStats | None
    rates: Rates | None
    pauses: tuple[Pause, ...]
    arenas: npt.NDArray[np.void]
    unlisted: int
    events_lost: int
    utilisation: tuple[float, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it in values that JSON can hold: gcheap/schema/top-1.json."""
        document: dict[str, Any] = {"schema": SCHEMA}
        for item in fields(self):
            document[item.name] = getattr(self, item.name)
        document["stats"] = asdict(self.stats) if self.stats else None
        document["rates"] = asdict(self.rates) if self.rates else None
        document["pauses"] = [asdict(pause) for pause in self.pauses]
        names = self.arenas.dtype.names or ()
        document["arenas"] = {name: self.arenas[name].tolist() for name in names}
        return document


class Monitor:
    """Watches a ring file; ``look`` returns what is there now."""

    def __init__(self, ring: RingFile) -> None:
        self.ring = ring
        self._sequence = 0
        self._samples: deque[tuple[int, HeapStats]] = deque()
        self._pauses: deque[Pause] = deque(maxlen=PAUSES_KEPT)
        self._phase: str | None = None
        self._utilisation: tuple[float, ...] | None = None
        self._process = f"process {ring.info.pid}"
        if ring.state == "open":
            with contextlib.suppress(OSError):
                comm = Path(f"/proc/{ring.info.pid}/comm")
                self._process = comm.read_text(errors="replace").strip()

    def look(self) -> Snapshot:
        """Read what is new."""
        state = self.ring.state
        self._take_events()
        live = self.ring.live()
        if live is not None and (not self._samples or live.time > self._samples[-1][0]):
            self._samples.append((live.time, live.stats))
            while live.time - self._samples[0][0] > WINDOW_NS and len(self._samples) > 2:
                self._samples.popleft()
        arenas, unlisted = self.ring.map()
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if state != "open":
            now = live.time if live else self.ring.info.monotonic_ns
        return Snapshot(
            path=self.ring.path,
            pid=self.ring.info.pid,
            process=self._process,
            state=state,
            age_s=max(0, now - self.ring.info.monotonic_ns) * NS,
            phase=self._phase or (live.phase if live else "idle"),
            stats=live.stats if live else None,
            rates=self._rates() if state == "open" else None,
            pauses=tuple(self._pauses),
            arenas=arenas,
            unlisted=unlisted,
            events_lost=self.ring.lost,
            utilisation=self._utilisation,
        )

    def _take_events(self) -> None:
        events, self._sequence = self.ring.events(self._sequence)
        phases = events[events["kind"] == _KIND["phase"]]
        if len(phases):
            self._phase = text(lib.gch_phase_name(int(phases[-1]["a"])))
        self._pauses.extend(_pauses(events))
        found = events[events["kind"] == _KIND["utilisation"]]
        if len(found):
            self._utilisation = unpack_utilisation(int(found[-1]["b"]))

    def _rates(self) -> Rates | None:
        if len(self._samples) < 2:
            return None
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        seconds = (end - start) * NS

        def rate(name: str) -> float:
            return float(getattr(after, name) - getattr(before, name)) / seconds

        stalled = {
            cause: (after.stall_s[cause] - before.stall_s[cause]) / seconds
            for cause in after.stall_s
        }
        return Rates(
            allocated_bytes=rate("allocated_bytes"),
            promoted_bytes=rate("promoted_bytes"),
            minors=rate("minor_count"),
            majors=rate("major_count"),
            faults=rate("faults"),
            stalled=stalled,
        )


def _pauses(events: EventArray) -> list[Pause]:
    found = events[events["kind"] == _KIND["pause"]][-PAUSES_KEPT:]
    return [
        Pause(text(lib.gch_pause_name(int(e["b"]))), int(e["time"]), int(e["a"]) * NS)
        for e in found
    ]
