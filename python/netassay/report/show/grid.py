"""Rows under headings, as plain text for a terminal of any width: no colour, no markup, no name cut."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from netassay.report.about.cells import ABSENT, Column, show

_GAP = 3  # between two columns


def table(columns: Sequence[Column], rows: Iterable[Any], width: int | None = None) -> str:
    """Rows under their headings; with a width, columns that do not fit are left out and named below."""
    rows = tuple(rows)
    filled = {column: cells for column in columns if (cells := _cells(column, rows)) is not None}
    shown = _fit(filled, width)
    text = _grid({column: filled[column] for column in shown})
    if left_out := [column.heading for column in filled if column not in shown]:
        text += f"\n(not shown in {width} columns: {', '.join(left_out)})"
    return text


def _cells(column: Column, rows: Sequence[Any]) -> tuple[bool, list[str]] | None:
    """Whether the column is of numbers, and its cells; None where no row has anything."""
    values = [column.value(row) for row in rows]
    if all(value is None for value in values):
        return None
    numeric = column.right or all(value is None or isinstance(value, int | float) for value in values)
    absent = ABSENT if numeric else ""
    return numeric, [absent if value is None else show(value, column.form) for value in values]


def _fit(filled: Mapping[Column, tuple[bool, list[str]]], width: int | None) -> list[Column]:
    from rich.cells import cell_len

    rooms = {column: max(map(cell_len, (column.heading, *cells))) for column, (_, cells) in filled.items()}
    shown = list(filled)
    while width is not None and sum(rooms[column] + _GAP for column in shown) - _GAP > width:
        last = max(shown, key=lambda column: column.rank, default=None)
        if last is None or last.rank == 0:
            break
        shown.remove(last)
    return shown


def _grid(columns: Mapping[Column, tuple[bool, list[str]]]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, (numeric, _) in columns.items():
        grid.add_column(column.heading, justify="right" if numeric else "left", no_wrap=True)
    cells = [cells for _, cells in columns.values()]
    for line in zip(*cells, strict=True):
        grid.add_row(*map(Text, line))  # Text: a name such as [red] is no markup
    room = sum(2 * max(map(len, column)) + 24 for column in cells)
    out = io.StringIO()
    # every choice is given here, else the environment (FORCE_COLOR, COLUMNS, a notebook) would make it
    plain = Console(file=out, width=room, color_system=None, force_terminal=False, force_jupyter=False)
    plain.print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())
