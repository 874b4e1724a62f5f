"""A report as text for people: the table, then totals, coverage and findings. Never coloured, names never cut."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from .rows import Coverage, Finding, Row, Skipped
from .tables import printable, scalars

if TYPE_CHECKING:
    from .report import Report

_NARROW, _WIDE = 80, 120
_GAP = 3  # between two columns
_ABSENT = "-"
_TIED = "\u00a0%"  # where no line breaks; what does not print has been escaped, so it comes from nowhere else
_MOST_FINDINGS = 12
_MOST_NAMES, _FIRST_NAMES = 8, 3
_MOST_DIGITS = 15  # of an integer that is shown whole
_STRUCTURE = "algebra"  # has a table of its own
_SEEN_IN_COLUMNS = ("covers_input", "not_piecewise_linear")


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and what stands under it; a column in which no row has anything is left out.

    Attributes:
        right: aligned as numbers are, whatever stands there.
        rank: where the width is limited, the column with the highest rank is left out first; one of rank 0 never.
    """

    heading: str
    value: Callable[[Any], Any]
    form: str = ""
    rank: int = 0
    right: bool = False


def _result(measure: str, field: str) -> Callable[[Row], Any]:
    return lambda row: getattr(row.measures.get(measure), field, None)


def _shape(row: Row) -> str | None:
    """Of a weight; where something ran, the table is about activations."""
    return "x".join(map(str, row.shape)) if row.calls is None and row.shape else None


def _parameters(row: Row) -> int | None:
    return None if _shape(row) is None else row.parameters


def _largest(row: Row) -> float | None:
    weights = _result("persistence", "weights")(row)
    return None if _shape(row) is None or weights is None or not len(weights) else float(weights[0])


def _rows_used(row: Row) -> Any:
    used = (getattr(result, "samples", None) for result in row.measures.values())
    return next((n for n in used if n is not None), None)


def _flags(row: Row) -> str | None:
    return _listed(flag for measure, result in row.measures.items() if measure != _STRUCTURE for flag in _of(result))


def _structure_flags(row: Row) -> str | None:
    return _listed(flag for flag in _of(row.measures.get(_STRUCTURE)) if flag not in _SEEN_IN_COLUMNS)


def _of(result: Any) -> Iterable[str]:
    flags: Iterable[str] = getattr(result, "flags", ())
    return flags


def _listed(flags: Iterable[str]) -> str | None:
    return ", ".join(dict.fromkeys(flags)) or None


def _field(row: Row) -> str | None:
    """The receptive field, one number where all axes agree; "all" where a position depends on the whole input."""
    found = row.measures.get(_STRUCTURE)
    if found is None or (found.receptive_field is None and "covers_input" not in found.flags):
        return None
    if found.receptive_field is None:
        return "all"
    sizes = tuple(dict.fromkeys(found.receptive_field))
    return "x".join(f"{size:,}" for size in (sizes if len(sizes) == 1 else found.receptive_field))


_COLUMNS = (
    Column("layer", lambda row: row.name),
    Column("call", lambda row: row.call),
    Column("kind", lambda row: row.kind or None, rank=3),
    Column("mode", lambda row: row.mode),
    Column("shape", _shape, rank=1),
    Column("parameters", _parameters, ",", rank=4),
    Column("width", _result("saturation", "width"), ","),
    Column("rows", _rows_used, ","),
    Column("dimension", _result("saturation", "dimension"), ","),
    Column("saturation", _result("saturation", "value"), ".3f"),
    Column("effective dimension", _result("effective_dimension", "value"), ",.2f"),
    Column("persistence", _result("persistence", "normalized"), ".3f"),
    Column("max/scale", _largest, ".3f", rank=2),
    Column("flags", _flags),
)
_STRUCTURE_COLUMNS = (
    Column("layer", lambda row: row.name),
    Column("call", lambda row: row.call),
    Column("kind", lambda row: row.kind or None, rank=3),
    Column("shape", lambda row: "x".join(map(str, row.shape)) if row.shape else None, rank=1),
    Column("parameters", _result(_STRUCTURE, "parameters"), ",", rank=4),
    Column("macs", _result(_STRUCTURE, "macs"), ",", rank=5),
    Column("path bits", _result(_STRUCTURE, "log2_paths"), ",.2f"),
    Column("region bits", _result(_STRUCTURE, "region_bits"), ",.0f", rank=6),
    Column("cut", _result(_STRUCTURE, "cut"), ",", rank=7),
    Column("power", _result(_STRUCTURE, "intrinsic_power"), ".2f"),
    Column("field", _field, rank=2, right=True),
    Column("flags", _structure_flags),
)


def render(report: Report, width: int | None = None) -> str:
    """The whole report.

    Args:
        width: of a terminal, to which prose is wrapped and for which columns are left out; None: the table is as wide
            as it needs to be, prose is wrapped between 80 and 120 columns.
    """
    body = "\n\n".join(_tables(report.layers, width)) or "no layers measured"
    wrapped = width or min(max(_NARROW, *map(len, body.splitlines())), _WIDE)
    parts = [body]
    for heading, lines, hang in (
        ("totals", _totals(report.totals), 4),
        ("coverage", _coverage(report.coverage), 4),
        ("findings", _findings(report.findings), 11),
    ):
        if text := wrap(lines, wrapped, hang):
            parts.append(f"{heading}\n{text}")
    return "\n\n".join(parts)


def _tables(rows: Sequence[Row], width: int | None) -> Iterator[str]:
    """One of what ran and of weights, one of the structure."""
    others = [row for row in rows if not row.measures or set(row.measures) != {_STRUCTURE}]
    structure = [row for row in rows if row.measures.get(_STRUCTURE) is not None]
    for columns, chosen in ((_COLUMNS, others), (_STRUCTURE_COLUMNS, structure)):
        if chosen:
            yield table(columns, chosen, width)


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
    absent = _ABSENT if numeric else ""
    return numeric, [absent if value is None else _show(value, column.form) for value in values]


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
    flat: dict[str, str] = {}
    for name, value in totals.items():
        if name == "deep_graph_persistence" and (value is None or hasattr(value, "peak")):
            flat.update({} if value is None else {"deep graph persistence": _deep(value)})  # the notes say why not
            continue
        if name in _ONLY_IN_FILES or (name in _OPTIONAL and not value):
            continue
        say = _SENTENCES.get(name)
        sentence = say(value) if say else None
        flat.update({name: sentence} if sentence else _flatten({name: value}))
    room = max(map(len, flat), default=0)
    for name, text in flat.items():
        yield f"  {name:<{room}}  {text}"


def _persistence(value: Any) -> str | None:
    """The network's value in words; None for what measure_weights did not make (a file may hold anything)."""
    match value:
        case {"normalized": float(mean), "total": float(total), "scale": float(scale), "layers": int(layers)}:
            flags = "".join(f"; {flag}" for flag in map(_show, value.get("flags", ())))
            return f"{mean:.3f}, mean of {layers:,} layers; scale {scale:.6g}; sum of totals {total:.6g}{flags}"
    return None


def _lengths(value: Any) -> str | None:
    """The histogram of path lengths in words."""
    match value:
        case [*listed] if listed and None not in (counts := list(map(_whole, listed))):
            held = [k for k, count in enumerate(counts) if count]
            if not held:
                return "no path"
            most = max(held, key=lambda k: counts[k] or 0)
            if held[0] == held[-1]:
                return f"{held[0]} weighted layers"
            return f"{held[0]} to {held[-1]} weighted layers, most often {most}"
    return None


def _integer(value: Any) -> str | None:
    """A count, as a power of two where it has many digits."""
    count = _whole(value)
    if count is None or count < 10**_MOST_DIGITS:
        return None
    bits = math.log2(count)
    return f"2^{bits:,.0f}" if count & (count - 1) == 0 else f"about 2^{bits:,.2f}"


def _whole(value: Any) -> int | None:
    """An integer, also as a report's file has large ones."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


#: Totals that are said in words, those that are nothing to look at, and those of some networks only.
_SENTENCES: dict[str, Callable[[Any], str | None]] = {
    "persistence": _persistence,
    "path_lengths": _lengths,
    "layer_paths": _integer,
    "serra_regions": _integer,
}
_ONLY_IN_FILES = ("unknown_operations", "flags")
_OPTIONAL = ("log2_paths_exact", "region_bits", "vc_bound", "serra_regions", "unknown")


def _deep(value: Any) -> str:
    """As measure_weights asks for it, standardized and rescaled."""
    flags = "".join(f"; {printable(flag)}" for flag in value.flags)
    return f"{_show(value.normalized, '.3f')} (peak {_show(value.peak, '.2f')}, standardized, rescaled){flags}"


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
    measured, total = coverage.parameters_measured, coverage.parameters_total
    if total:
        line += f"; parameters: {measured:,} of {total:,} measured"
        line += f" ({percent(measured / total)})" if 0 < measured < total else ""
    yield line
    yield from skipped_lines(coverage.skipped, total)
    for name, others in coverage.aliases.items():
        yield f"  {printable(name)} is also {', '.join(map(printable, others))}"
    for note in coverage.notes:
        yield f"  {printable(note)}"


def skipped_lines(skipped: Sequence[Skipped], total: int) -> Iterator[str]:
    """One line per reason: how many, their share of `total` parameters where it is known, and the first names."""
    reasons: dict[str, list[Skipped]] = {}
    for one in skipped:
        reasons.setdefault(one.reason, []).append(one)
    for reason, several in reasons.items():
        count = sum(one.parameters or 0 for one in several)
        many = f" {len(several):,}" if len(several) > 1 else ""
        share = f" ({percent(count / total)} of parameters)" if count and total else ""
        shown = several if len(several) <= _MOST_NAMES else several[:_FIRST_NAMES]
        names, more = ", ".join(printable(one.name) for one in shown), len(several) - len(shown)
        yield f"  skipped{many}, {printable(reason)}{share}: {names}" + (f" and {more:,} more" if more else "")


def percent(share: float) -> str:
    """A share as a percentage that shows small ones, and 100 only for the whole."""
    value = 100 * share
    if 0 < value < 0.001:
        return "< 0.001 %"
    if value < 1:
        return f"{value:.2g} %"
    return f"{value if share >= 1 else min(value, 99.9):.3g} %"


def _findings(findings: tuple[Finding, ...]) -> Iterator[str]:
    told = sorted(findings, key=lambda finding: finding.layer is not None)  # those of the whole network first
    for finding in told[:_MOST_FINDINGS]:
        yield f"  {finding.level:<7}  {printable(finding.message)}"
    if len(told) > _MOST_FINDINGS:
        yield f"  and {len(told) - _MOST_FINDINGS} more: see report.findings"


def wrap(lines: Iterable[str], width: int, hang: int) -> str:
    """Lines broken between words at `width`, the rest of each indented by `hang`."""
    return "\n".join(_wrap(line, width, hang) for line in lines)


def _wrap(line: str, width: int, hang: int) -> str:
    if len(line) <= width:
        return line
    lines = textwrap.wrap(
        line.replace(" %", _TIED),
        width,
        subsequent_indent=" " * hang,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace(_TIED, " %")
