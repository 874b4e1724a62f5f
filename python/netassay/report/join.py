"""Two reports of one model in one: what ran, and what its weights or its structure say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from netassay.report.measures import findings
from netassay.report.report import Report
from netassay.report.rows import Coverage, Row, UnknownLayer


def join(report: Report, other: Report) -> Report:
    """`report` with the numbers of `other`, whose rows stand once per layer (weights, structure).

    They go to the row that `report[name]` is, eval, else train, and those of a call site to that of the site. A layer
    without such a row gets one of its own, behind that of the layer before it in `other`. Coverage and totals are those
    of both, findings follow from what is joined; provenance is that of `report`.
    """
    rows = {_key(row): row for row in report.layers}
    order = list(rows)
    behind = len(order)
    for row in other.layers:
        try:
            at = report[row.name] if row.call is None else report[row.name, row.call]
        except UnknownLayer:
            at = row
        key = _key(at)
        if key not in rows:
            order.insert(behind, key)
        behind = order.index(key) + 1
        standing = rows.get(key, at)
        rows[key] = replace(standing, measures={**standing.measures, **row.measures})
    joined = tuple(rows[key] for key in order)
    totals = {**report.totals, **other.totals}
    flags = {**report.totals.get("flags", {}), **other.totals.get("flags", {})}
    if flags:
        totals["flags"] = flags
    return replace(
        report,
        layers=joined,
        coverage=_coverage(report.coverage, other.coverage, joined),
        totals=totals,
        findings=findings(joined, totals),
    )


def _key(row: Row) -> tuple[str, int | None, str | None]:
    return row.name, row.call, row.mode


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
