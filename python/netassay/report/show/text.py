"""A report as text for people: the table, then totals, coverage and findings. Never coloured, names never cut."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from netassay.base.text import printable
from netassay.report.about.cells import percent
from netassay.report.measures import TABLES
from netassay.report.rows import Coverage, Finding, Row, Skipped
from netassay.report.show.grid import table
from netassay.report.show.totals import totals_lines

_NARROW, _WIDE = 80, 120
_TIED = "\u00a0%"  # where no line breaks; what does not print has been escaped, so it comes from nowhere else
_MOST_FINDINGS = 12
_MOST_NAMES, _FIRST_NAMES = 8, 3


class Shown(Protocol):
    """The parts of a Report that its text is made of."""

    @property
    def layers(self) -> tuple[Row, ...]: ...
    @property
    def coverage(self) -> Coverage: ...
    @property
    def totals(self) -> Mapping[str, Any]: ...
    @property
    def findings(self) -> tuple[Finding, ...]: ...


def render(report: Shown, width: int | None = None) -> str:
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
    """One for each kind of measure that some row has."""
    for one in TABLES:
        if chosen := one.lines(rows):
            yield table(one.columns, chosen, width)


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


def _findings(findings: tuple[Finding, ...]) -> Iterator[str]:
    ordered = sorted(findings, key=lambda finding: finding.level != "problem")
    for finding in ordered[:_MOST_FINDINGS]:
        yield f"  {finding.level:<7}  {printable(finding.message)}"
        if finding.advice:
            yield f"  {'':<7}  {printable(finding.advice)}"
    if len(ordered) > _MOST_FINDINGS:
        yield f"  and {len(ordered) - _MOST_FINDINGS} more: see report.findings"


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
