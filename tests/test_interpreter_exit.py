"""The interpreter ends while a collection runs: quietly, with its own exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest
from offered import not_here, trial_rules

import gcheap

BEGIN = """
import atexit, contextlib, os, sys, threading, time
if {order} == "first":
    atexit.register(lambda: heap.closed or nodes.tag)  # runs last
import gcheap
heap = gcheap.Heap("64MiB", fault={fault}, mover={mover})
node = heap.struct("Node", next=gcheap.Ref, tag="i8")
nodes = heap.new(node, 150_000)
blob = heap.array("f8", 100_000)
def spin():
    while True:
        heap.new(node, 1000).tag = 3
def collect():
    while not heap.closed:
        with contextlib.suppress(gcheap.HeapClosedError):
            heap.collect(concurrent=True, policy="all")
if {major} == "again":
    threading.Thread(target=collect, daemon=True).start()
    time.sleep(0.05)
else:
    heap.collect(concurrent=True, background=True, policy="all")
"""
ENDINGS = [
    ("pass", 0),
    ("sys.exit(3)", 3),
    ("os._exit(4)", 4),
    ("threading.Thread(target=sys.exit, args=(5,)).start()", 0),
    ("threading.Thread(target=spin, daemon=True).start()", 0),
    ("threading.Thread(target=lambda: (time.sleep(0.05), nodes.tag)).start()", 0),
    ("atexit.register(heap.close)", 0),
    ("atexit.register(lambda: heap.collect(concurrent=True))", 0),
    ("heap.close() if {major} != 'again' else None", 0),
    ("view = blob.view(); a = view.__enter__()", 0),
    ("del heap, node", 0),
]


@pytest.mark.parametrize("fault", ["thread", "signal"])
@pytest.mark.parametrize("major", ["once", "again"])
@pytest.mark.parametrize(("ending", "code"), ENDINGS, ids=[ending for ending, _ in ENDINGS])
def test_exit_during_a_cycle(ending: str, code: int, major: str, fault: str) -> None:
    order = "first" if "atexit" in ending else "not"
    words = {"order": repr(order), "fault": repr(fault), "mover": "'auto'", "major": repr(major)}
    assert run((BEGIN + ending).format(**words)) == (code, "", "")


@pytest.mark.parametrize("mover", ["copy", "simulated"])
@pytest.mark.parametrize("ending", ["pass", "threading.Thread(target=spin, daemon=True).start()"])
def test_exit_with_other_movers(mover: str, ending: str) -> None:
    try:
        gcheap.Heap("4MiB", mover=mover, inject=trial_rules()).close()
    except gcheap.Unsupported as error:
        not_here(mover, error)
    words = {"order": "'not'", "fault": "'thread'", "mover": repr(mover), "major": "'again'"}
    assert run((BEGIN + ending).format(**words)) == (0, "", "")


def run(program: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", "-c", program],
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_subinterpreter_works_or_says_that_it_cannot() -> None:
    """With a GIL that is shared a heap is used there like anywhere, if numpy lets itself be loaded
    there; else the import is refused."""
    program = """
import warnings
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
import gcheap
heap = gcheap.Heap("16MiB")
nodes = heap.new(heap.struct("Node", tag="i8"), 1000)
nodes.tag = 7
code = '''
import warnings
warnings.simplefilter("ignore")
try:
    import gcheap
    heap = gcheap.Heap("16MiB")
    nodes = heap.new(heap.struct("Node", next=gcheap.Ref, tag="i8"), 30_000)
    nodes.tag = 5
    heap.collect(concurrent=True, background=True)
    assert int(nodes.tag.sum()) == 150_000
except ImportError as error:  # numpy's, some of it when it is first used
    assert "interpreter" in str(error) or "once per process" in str(error), error
'''
for _ in range(3):
    one = interpreters.create()
    interpreters.run_string(one, code)
    interpreters.destroy(one)
    heap.collect(concurrent=True, policy="all")
    assert int(nodes.tag.sum()) == 7000
heap.verify()
"""
    assert run(program) == (0, "", "")
