"""Columns and tables: headings, and what is shown below them of a row. Rendering is done in report/show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from netassay.base.text import printable
from netassay.report.rows import Row

ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and the cells below it; a column in which no row has anything is left out.

    Attributes:
        right: aligned as numbers are, whatever the cells hold.
        rank: where the width is limited, the column with the highest rank is left out first; one of rank 0 never.
    """

    heading: str
    value: Callable[[Any], Any]
    form: str = ""
    rank: int = 0
    right: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and the lines that a table makes of a report's rows.

    Attributes:
        measures: those that the table is about.
    """

    measures: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: Callable[[Sequence[Row]], Sequence[Any]]


def having(measure: str) -> Callable[[Sequence[Row]], Sequence[Row]]:
    """Lines of a table: the rows that have a result of a measure."""
    return lambda rows: [row for row in rows if row.measures.get(measure) is not None]


def result(measure: str, field: str) -> Callable[[Row], Any]:
    """A cell: a field of a row's result, None without one."""
    return lambda row: getattr(row.measures.get(measure), field, None)


def share(measure: str, field: str) -> Callable[[Row], str | None]:
    """A cell: a field of a row's result as a percentage."""

    def cell(row: Row) -> str | None:
        value = getattr(row.measures.get(measure), field, None)
        return None if value is None else percent(value)

    return cell


def flags(measure: str, without: Iterable[str] = ()) -> Callable[[Row], str | None]:
    """A cell: the flags of a row's result, but those that another column shows."""
    hidden = set(without)
    return lambda row: listed(flag for flag in flags_of(row.measures.get(measure)) if flag not in hidden)


def flags_of(result: Any) -> Iterable[str]:
    """The flags of a result; none without one."""
    found: Iterable[str] = getattr(result, "flags", ())
    return found


def listed(flags: Iterable[str]) -> str | None:
    """Flags in one cell, each once."""
    return ", ".join(dict.fromkeys(flags)) or None


def rows_used(row: Row) -> Any:
    """A cell: rows of activations behind the first result that counts them."""
    used = (getattr(result, "rows", getattr(result, "samples", None)) for result in row.measures.values())
    return next((n for n in used if n is not None), None)


def weight_shape(row: Row) -> str | None:
    """A cell: the shape of the weight."""
    return "x".join(map(str, row.shape)) if row.shape else None


def stored_shape(row: Row) -> str | None:
    """A cell: the shape of the weight, of a row of weights; a row of something that ran is about activations."""
    return weight_shape(row) if row.calls is None else None


def show(value: Any, form: str = "") -> str:
    """A value as a cell or a sentence shows it."""
    match value:
        case None:
            return ABSENT
        case str():
            return printable(value)
        case bool() | int() | float():
            return format(value, form)
        case list() | tuple():
            return ", ".join(show(item, form) for item in value) or ABSENT
    return printable(str(value))


def percent(share: float) -> str:
    """A share as a percentage that shows small ones, and 100 only for the whole."""
    value = 100 * share
    if 0 < value < 0.001:
        return "< 0.001 %"
    if value < 1:
        return f"{value:.2g} %"
    return f"{value if share >= 1 else min(value, 99.9):.3g} %"
