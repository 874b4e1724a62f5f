"""A report as text for people: the table, then totals, coverage and findings. Never coloured, never cut."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from .rows import Coverage, Finding, Row
from .tables import printable, scalars

if TYPE_CHECKING:
    from .report import Report

_NARROW, _WIDE = 80, 120
_ABSENT = "-"
_MOST_FINDINGS = 12


@dataclass(frozen=True, slots=True)
class _Column:
    """A heading and what stands under it; a column in which no row has anything is left out."""

    heading: str
    value: Callable[[Row], Any]
    form: str = ""


def _result(measure: str, field: str) -> Callable[[Row], Any]:
    return lambda row: getattr(row.measures.get(measure), field, None)


def _rows_used(row: Row) -> Any:
    used = (getattr(result, "samples", None) for result in row.measures.values())
    return next((n for n in used if n is not None), None)


def _flags(row: Row) -> str | None:
    flags = (flag for result in row.measures.values() for flag in getattr(result, "flags", ()))
    return ", ".join(dict.fromkeys(flags)) or None


_COLUMNS = (
    _Column("layer", lambda row: row.name),
    _Column("call", lambda row: row.call),
    _Column("kind", lambda row: row.kind),
    _Column("mode", lambda row: row.mode),
    _Column("width", _result("saturation", "width"), ","),
    _Column("rows", _rows_used, ","),
    _Column("dimension", _result("saturation", "dimension"), ","),
    _Column("saturation", _result("saturation", "value"), ".3f"),
    _Column("effective dimension", _result("effective_dimension", "value"), ",.2f"),
    _Column("flags", _flags),
)


def render(report: Report) -> str:
    """The whole report; as wide as the table needs, prose wrapped between 80 and 120 columns."""
    table = _table(report.layers) if report.layers else "no layers measured"
    width = min(max(_NARROW, *map(len, table.splitlines())), _WIDE)
    parts = [table]
    for heading, lines, hang in (
        ("totals", _totals(report.totals), 4),
        ("coverage", _coverage(report.coverage), 4),
        ("findings", _findings(report.findings), 11),
    ):
        if text := "\n".join(_wrap(line, width, hang) for line in lines):
            parts.append(f"{heading}\n{text}")
    return "\n\n".join(parts)


def _table(rows: tuple[Row, ...]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    cells: list[list[str]] = []
    for column in _COLUMNS:
        values = [column.value(row) for row in rows]
        if any(value is not None for value in values):
            numeric = all(value is None or isinstance(value, int | float) for value in values)
            table.add_column(column.heading, justify="right" if numeric else "left", no_wrap=True)
            absent = _ABSENT if numeric else ""
            cells.append([absent if value is None else _show(value, column.form) for value in values])
    for line in zip(*cells, strict=True):
        table.add_row(*map(Text, line))  # Text: a name such as [red] is no markup
    room = sum(2 * max(map(len, column)) + 24 for column in cells)
    out = io.StringIO()
    # every choice is given here, else the environment (FORCE_COLOR, COLUMNS, a notebook) would make it
    plain = Console(file=out, width=room, color_system=None, force_terminal=False, force_jupyter=False)
    plain.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def _show(value: Any, form: str = "") -> str:
    match value:
        case None:
            return _ABSENT
        case str():
            return printable(value)
        case bool() | int() | float():
            return format(value, form)
        case list() | tuple():
            return ", ".join(_show(item, form) for item in value) or _ABSENT
    return printable(str(value))


def _totals(totals: Mapping[str, Any]) -> Iterator[str]:
    flat = dict(_flatten(totals))
    room = max(map(len, flat), default=0)
    for name, value in flat.items():
        yield f"  {name:<{room}}  {value}"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = prefix + printable(key)
        if is_dataclass(value) and not isinstance(value, type):
            value = dict(scalars(value))
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}.")
        elif getattr(value, "ndim", 0):
            yield name, f"array of shape {value.shape}"
        else:
            number = value.item() if hasattr(value, "ndim") else value
            form = {float: ".6g", int: ","}.get(type(number), "")
            yield name, _show(number, form)


def _coverage(coverage: Coverage) -> Iterator[str]:
    line = f"  layers: {coverage.measured:,} measured, {len(coverage.skipped):,} skipped"
    if coverage.parameters_total:
        line += f"; parameters: {coverage.parameters_measured:,} of {coverage.parameters_total:,} measured"
    yield line
    reasons: dict[str, list[str]] = {}
    for layer in coverage.skipped:
        reasons.setdefault(layer.reason, []).append(layer.name)
    for reason, names in reasons.items():
        yield f"  skipped, {printable(reason)}: {', '.join(map(printable, names))}"
    for name, others in coverage.aliases.items():
        yield f"  {printable(name)} is also {', '.join(map(printable, others))}"
    for note in coverage.notes:
        yield f"  {printable(note)}"


def _findings(findings: tuple[Finding, ...]) -> Iterator[str]:
    told = sorted(findings, key=lambda finding: finding.layer is not None)  # those of the whole network first
    for finding in told[:_MOST_FINDINGS]:
        yield f"  {finding.level:<7}  {printable(finding.message)}"
    if len(told) > _MOST_FINDINGS:
        yield f"  and {len(told) - _MOST_FINDINGS} more: see report.findings"


def _wrap(line: str, width: int, hang: int) -> str:
    if len(line) <= width:
        return line
    lines = textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * hang,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)
