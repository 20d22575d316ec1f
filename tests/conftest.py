"""Shared by all tests: the seed policy, and what .ci/skips reads from the JUnit report."""

from __future__ import annotations

import pytest
from hypothesis import settings
from offered import not_here, trial_rules

settings.register_profile("gcheap", deadline=None, print_blob=True)
settings.load_profile("gcheap")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note the ``move`` marker in the JUnit report: such a test may not be skipped everywhere."""
    for item in items:
        if item.get_closest_marker("move"):
            item.user_properties.append(("marker", "move"))


@pytest.fixture(
    params=[
        pytest.param("move", marks=pytest.mark.move),
        "copy",
        "simulated",
        "memcpy-fresh",
        "memcpy-sliding",
    ]
)
def mover(request: pytest.FixtureRequest) -> str:
    """Every mover that works here; that `move` does is a must where the kernel offers it."""
    import gcheap

    name: str = request.param
    try:
        gcheap.Heap("4MiB", mover=name, inject=trial_rules()).close()
    except gcheap.Unsupported as error:
        not_here(name, error)
    return name
