"""Two reports of one model in one: what ran, and what its weights or its structure say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .report import Report
from .rows import Coverage, Row, UnknownLayer


def join(report: Report, other: Report) -> Report:
    """`report` with the numbers of `other`, whose rows stand once per layer (weights, structure).

    They go to the row that `report[name]` is: eval, else train; a layer without a row, or with several call sites, gets
    a row of its own at the end. Coverage, totals and findings are those of both; provenance is that of `report`.
    """
    rows = {(row.name, row.call, row.mode): row for row in report.layers}
    for row in other.layers:
        try:
            at = report[row.name]
        except UnknownLayer:
            at = row
        key = (at.name, at.call, at.mode)
        standing = rows.get(key, at)
        rows[key] = replace(standing, measures={**standing.measures, **row.measures})
    return replace(
        report,
        layers=tuple(rows.values()),
        coverage=_coverage(report.coverage, other.coverage, rows.values()),
        totals={**report.totals, **other.totals},
        findings=report.findings + other.findings,
    )


def _coverage(one: Coverage, two: Coverage, rows: Iterable[Row]) -> Coverage:
    names = {row.name for row in rows}
    return Coverage(
        measured=len(names),
        skipped=tuple(dict.fromkeys(s for s in (*one.skipped, *two.skipped) if s.name not in names)),
        # of one model: what a layer's activations cover includes its weight
        parameters_measured=max(one.parameters_measured, two.parameters_measured),
        parameters_total=max(one.parameters_total, two.parameters_total),
        aliases={**two.aliases, **one.aliases},
        notes=tuple(dict.fromkeys((*one.notes, *two.notes))),
    )
