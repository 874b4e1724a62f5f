"""Words that the sentences of several measures share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netassay.report.about.cells import show
from netassay.report.rows import Row


def label(row: Row) -> str:
    """A layer by its name, or a call site by its name and number."""
    return row.name if row.call is None else f"{row.name} (call {row.call})"


def in_modes(rows: Sequence[Row]) -> str:
    """The modes of rows, as the end of a phrase."""
    modes = [row.mode for row in rows if row.mode is not None]
    return f" in {' and '.join(modes)}" if modes else ""


def percentage(share: float) -> str:
    """A share in percent to one decimal place, without the sign."""
    return f"{round(100 * share, 1):g}"


def and_flags(flags: Iterable[object]) -> str:
    """Flags, as the end of a sentence."""
    return "".join(f"; {flag}" for flag in map(show, flags))
