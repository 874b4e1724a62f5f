"""How much of a long test runs: its share, or all of it with `pytest --full`."""

from __future__ import annotations

import pytest

_all = False


def choose(everything: bool) -> None:
    """Takes the option before any test is imported; conftest calls it."""
    global _all
    _all = everything


def count(share: int, full: int) -> int:
    """`share`, or `full` with --full."""
    return full if _all else share


def needs_memory(size: float) -> None:
    """Skips a test that takes `size` bytes where fewer are available."""
    from netassay.base import memory

    free = memory.available()
    if free < size:
        pytest.skip(f"needs {size / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available")
