"""The measures that a report may hold. A new measure is one module in report/about and its name below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, get_args

from netassay.report.about import Source, activations, algebra, complexity, network, persistence, saturation
from netassay.report.about.cells import Column, Table, flags_of, listed, stored_shape
from netassay.report.rows import KNOWN_MEASURES, Finding, Row

ABOUT = tuple(stem.ABOUT for stem in (activations, saturation, complexity, persistence, network, algebra))

_order = get_args(Source).index
#: By name: what rows may hold, those of activations first, then of weights, then of the structure.
MEASURES = {
    measure.name: measure
    for measure in sorted(chain.from_iterable(about.measures for about in ABOUT), key=lambda m: _order(m.source))
}
KNOWN_MEASURES[:] = MEASURES
#: By name: what is known of the numbers of the whole network.
TOTALS = {total.name: total for about in ABOUT for total in about.totals}

_OWN = {name for about in ABOUT for table in about.tables for name in table.measures}


def findings(rows: Sequence[Row], totals: Mapping[str, Any] | None = None) -> tuple[Finding, ...]:
    """What follows from the rows of a report and its totals: problems first, then measure by measure."""
    found = [finding for about in ABOUT for finding in about.findings(rows, totals or {})]
    return tuple(sorted(found, key=lambda finding: finding.level != "problem"))


def _flags(row: Row) -> str | None:
    return listed(flag for name, result in row.measures.items() if name not in _OWN for flag in flags_of(result))


def _shared(rows: Sequence[Row]) -> Sequence[Row]:
    return [row for row in rows if not row.measures or not set(row.measures) <= _OWN]


_COLUMNS = (
    Column("layer", lambda row: row.name),
    Column("call", lambda row: row.call),
    Column("kind", lambda row: row.kind or None, rank=3),
    Column("mode", lambda row: row.mode),
    Column("shape", stored_shape, rank=1),
    Column("parameters", lambda row: None if stored_shape(row) is None else row.parameters, ",", rank=4),
    *(column for about in ABOUT for column in about.columns),
    Column("flags", _flags),
)
#: The table that measures share, then those of their own.
TABLES = (
    Table(tuple(name for name in MEASURES if name not in _OWN), _COLUMNS, _shared),
    *(table for about in ABOUT for table in about.tables),
)
