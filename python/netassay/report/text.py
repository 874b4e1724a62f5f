"""A report as text for people: the table, then totals, coverage and findings. Never coloured, names never cut."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .grid import Column, table
from .rows import Coverage, Finding, Row, Skipped
from .tables import printable
from .totals import totals_lines

if TYPE_CHECKING:
    from .report import Report

_NARROW, _WIDE = 80, 120
_TIED = "\u00a0%"  # where no line breaks; what does not print has been escaped, so it comes from nowhere else
_MOST_FINDINGS = 12
_MOST_NAMES, _FIRST_NAMES = 8, 3
_STRUCTURE, _LINKS = "algebra", "network"  # each has a table of its own
_OWN_TABLES = {_STRUCTURE, _LINKS}
_SEEN_IN_COLUMNS = ("covers_input", "not_piecewise_linear")
_SEEN_IN_NOTES = ("kernel_level",)


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
    return _listed(flag for name, result in row.measures.items() if name not in _OWN_TABLES for flag in _of(result))


def _structure_flags(row: Row) -> str | None:
    return _listed(flag for flag in _of(row.measures.get(_STRUCTURE)) if flag not in _SEEN_IN_COLUMNS)


def _link_flags(row: Row) -> str | None:
    return _listed(flag for flag in _of(row.measures.get(_LINKS)) if flag not in _SEEN_IN_NOTES)


def _weight(row: Row) -> str | None:
    return "x".join(map(str, row.shape)) if row.shape else None


def _of(result: Any) -> Iterable[str]:
    flags: Iterable[str] = getattr(result, "flags", ())
    return flags


def _listed(flags: Iterable[str]) -> str | None:
    return ", ".join(dict.fromkeys(flags)) or None


def _zeros(row: Row) -> str | None:
    share = _result(_LINKS, "zero_share")(row)
    return None if share is None else percent(share)


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
    Column("shape", _weight, rank=1),
    Column("parameters", _result(_STRUCTURE, "parameters"), ",", rank=4),
    Column("macs", _result(_STRUCTURE, "macs"), ",", rank=5),
    Column("path bits", _result(_STRUCTURE, "log2_paths"), ",.2f"),
    Column("region bits", _result(_STRUCTURE, "region_bits"), ",.0f", rank=6),
    Column("cut", _result(_STRUCTURE, "cut"), ",", rank=7),
    Column("power", _result(_STRUCTURE, "intrinsic_power"), ".2f"),
    Column("field", _field, rank=2, right=True),
    Column("flags", _structure_flags),
)
_LINK_COLUMNS = (
    Column("layer", lambda row: row.name),
    Column("kind", lambda row: row.kind or None, rank=9),
    Column("shape", _weight, rank=3),
    Column("mean", _result(_LINKS, "mean"), ".2g", rank=5),
    Column("std", _result(_LINKS, "std"), ".3g"),
    Column("skew", _result(_LINKS, "skewness"), ".2f", rank=6),
    Column("kurtosis", _result(_LINKS, "kurtosis"), ".2f", rank=2),
    Column("zeros", _zeros, right=True, rank=4),
    Column("fluct in", _result(_LINKS, "incoming_fluctuation"), ".3g"),
    Column("norm in", _result(_LINKS, "incoming_normalized"), ".2f", rank=1),
    Column("fluct out", _result(_LINKS, "outgoing_fluctuation"), ".3g", rank=1),
    Column("norm out", _result(_LINKS, "outgoing_normalized"), ".2f", rank=1),
    Column("degree in", _result(_LINKS, "incoming_degree"), ",.1f", rank=7),
    Column("degree out", _result(_LINKS, "outgoing_degree"), ",.1f", rank=8),
    Column("flags", _link_flags),
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
        ("totals", totals_lines(report.totals), 4),
        ("coverage", _coverage(report.coverage), 4),
        ("findings", _findings(report.findings), 11),
    ):
        if text := wrap(lines, wrapped, hang):
            parts.append(f"{heading}\n{text}")
    return "\n\n".join(parts)


def _tables(rows: Sequence[Row], width: int | None) -> Iterator[str]:
    """One of what ran and of the persistence of weights, one of links, one of the structure."""
    others = [row for row in rows if not row.measures or not set(row.measures) <= _OWN_TABLES]
    links, structure = ([row for row in rows if row.measures.get(own) is not None] for own in (_LINKS, _STRUCTURE))
    for columns, chosen in ((_COLUMNS, others), (_LINK_COLUMNS, links), (_STRUCTURE_COLUMNS, structure)):
        if chosen:
            yield table(columns, chosen, width)


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
