"""Rows as a table: CSV and pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from types import NoneType
from typing import TYPE_CHECKING, Any

from netassay.base.text import printable
from netassay.report.rows import ROW_FIELDS, Row

if TYPE_CHECKING:
    import pandas

_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # the last four are the full-width forms


def scalars(result: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a result that fit in a cell: numbers, strings, None and tuples of them; no arrays."""
    for f in fields(result):
        value = getattr(result, f.name)
        if hasattr(value, "ndim") and value.ndim == 0:
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str | tuple):
            yield f.name, value


def columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Column name -> values: the fields of a row, then `measure.field` in order of first appearance."""
    table: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in ROW_FIELDS}
    for i, row in enumerate(rows):
        for measure, result in row.measures.items():
            for name, value in scalars(result) if result is not None else ():
                table.setdefault(f"{measure}.{name}", [None] * len(rows))[i] = value
    return table


def csv_text(rows: Sequence[Row]) -> str:
    """`columns` as CSV; see `csv_of`."""
    return csv_of(columns(rows))


def csv_of(table: Mapping[str, Sequence[Any]]) -> str:
    """RFC 4180 with "\\n"; tuples are joined by spaces, None is empty, floats are exact."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, table))
    for line in zip(*table.values(), strict=True):
        writer.writerow(map(_cell, line))
    return out.getvalue()


def frame(rows: Sequence[Row]) -> pandas.DataFrame:
    """A DataFrame of `columns`; see `frame_of`."""
    return frame_of(columns(rows), "Report")


def frame_of(table: Mapping[str, Sequence[Any]], owner: str) -> pandas.DataFrame:
    """A DataFrame; integers with gaps become Int64, so that counts stay exact. `owner` begins the message."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(f"{owner}.to_frame: expected pandas to be installed (pip install pandas)") from error
    made: pandas.DataFrame = pandas.DataFrame({name: _series(values) for name, values in table.items()})
    return made


def _series(values: Sequence[Any]) -> Any:
    import pandas

    gaps = {type(value) for value in values} == {int, NoneType}
    return pandas.Series(values, dtype="Int64") if gaps else pandas.Series(values)


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        value = " ".join(map(str, value))
    if not isinstance(value, str):
        return value
    text = printable(value)
    # a spreadsheet runs a cell that begins so as a formula; the apostrophe marks it as text
    return "'" + text if text.lstrip().startswith(_FORMULA) else text
