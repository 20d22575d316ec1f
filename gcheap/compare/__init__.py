"""Comparing compaction by moving pages with its alternatives.

One *row* of a comparison is a mover, a mode (in the pause, or concurrent), who answers faults, a
policy and a page size; a *run* is one repeat of a row in a process of its own: load an object
graph, age it, compact it beside a mutator, measure, verify against a numpy shadow. Runs of
different rows are interleaved.

``rows`` what is compared; ``inputs`` the graph and how it ages, prepared once and shared through a
folder; ``worker`` one run; ``measure`` and ``memory`` its figures; ``check`` its verification;
``session`` starts the workers; ``summary`` medians. Reports are in gcheap.report.
"""
