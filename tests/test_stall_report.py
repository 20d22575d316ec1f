"""The report of what threads waited for in a full collection; what it counts is tested in C."""

from __future__ import annotations

import numpy as np
import pytest

import gcheap
from gcheap import Heap
from gcheap.stall_report import ANSWERS, StallReport, Utilisation, unpack_utilisation


def test_there_is_none_before_the_first_major() -> None:
    with Heap("16MiB") as heap:
        assert heap.stall_report is None
        heap.collect(minor=True)
        assert heap.stall_report is None
        event = heap.collect()
        assert heap.stall_report is not None
        assert heap.stall_report.number == event.number


def check(report: StallReport) -> None:
    """What holds of every report."""
    waits = [w.count for (who, _), w in report.waits.items() if who == "mutator"]
    own = report.answers["self"].count if "self" in report.answers else 0
    assert sum(d.count for d in report.answers.values()) == report.touches.count
    assert sum(waits) + own == report.touches.count
    assert report.unlogged.count == 0
    phases = [(report.cycle, report.seconds)]
    if report.move is not None:
        phases.append((report.move, report.move_s))
    for windows, seconds in phases:
        for width, u in zip((0.001, 0.010, 0.100), windows.values(), strict=True):
            assert u.window_s == pytest.approx(min(width, seconds))
            assert 0 <= u.least <= 1
            assert (u.least == 1) == (u.thread == 0) == (not u.lost_s)
            assert sum(u.lost_s.values()) == pytest.approx((1 - u.least) * u.window_s)
            assert 0 <= u.begin_s <= report.seconds


@pytest.mark.parametrize("fault", ["thread", "signal"])
def test_touches_beside_a_move(mover: str, fault: str) -> None:
    with Heap("128MiB", mover=mover, fault=fault) as heap:
        node = heap.struct("Node", next=gcheap.Ref, weight="f8")
        nodes = heap.new(node, 300_000)
        nodes.next = nodes[::-1]
        nodes.weight = np.arange(300_000)
        heap.collect()
        for _ in range(20):
            before = heap.stats
            event = heap.collect(concurrent=True, policy="all", wait=False)
            assert nodes.next.weight[0] == 299_999
            heap.wait()
            after, report = heap.stats, heap.stall_report
            assert report is not None
            check(report)
            assert report.number == event.number
            assert (report.move is not None) == event.concurrent
            faults = after.stall_count["fault"] - before.stall_count["fault"]
            waited = after.stall_count["unit"] - before.stall_count["unit"]
            assert report.touches.count == faults + waited
            shown = str(report)
            for name in report.answers:
                assert name in ANSWERS
                assert name in shown
            if not event.concurrent or report.touches.count:
                break
        if event.concurrent:
            assert report.move is not None
            assert report.touches.max > 0
            assert "touches answered by" in shown
            assert min(u.least for u in report.move.values()) < 1
        else:
            assert "no touch of missing memory" in shown


def test_shares_in_an_event() -> None:
    assert unpack_utilisation(250_000 | 1_000_000 << 21 | 7 << 42) == (0.25, 1.0, 7e-6)
    assert unpack_utilisation((1 << 64) - 1) is None


def test_the_event_says_what_the_report_says() -> None:
    with Heap("16MiB") as heap:
        heap.collect()
        events = heap.events()
        report = heap.stall_report
    assert report is not None
    kind = {name: number for number, name in gcheap.EVENT_KINDS.items()}["utilisation"]
    (event,) = events[events["kind"] == kind]
    shares = unpack_utilisation(int(event["b"]))
    assert int(event["a"]) == report.number
    assert shares == pytest.approx([u.least for u in report.cycle.values()], abs=1e-5)
    assert unpack_utilisation(int(event["c"])) is None


def test_the_table_says_what_was_left_out() -> None:
    windows = {"1ms": Utilisation(0.25, 0.001, 0.5, 42, {"fault": 0.00075})}
    none = gcheap.stats.Distribution(0, 0, 0, 0, 0, 0, 0)
    lost = gcheap.stall_report.Waits(3, 0.002)
    report = StallReport(7, 1.0, 0.5, 2, none, {}, {}, windows, None, lost)
    lines = str(report).splitlines()
    assert lines[0].startswith("collection 7: 1000.00ms, of that 500.00ms moving")
    assert lines[3].startswith("  1ms windows")
    assert lines[3].endswith("0.250       42  fault 0.75ms")
    assert lines[-1] == "left out: 3 stalls, 2.00ms"
