"""Which layer of one report is which of the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

from netassay.report.compare import Change, Comparison, Pair, State
from netassay.report.measures import MEASURES
from netassay.report.report import Report
from netassay.report.rows import Row
from netassay.report.show.tables import scalars


def side_by_side(a: Report, b: Report, measures: Sequence[str], names: tuple[str, str]) -> Comparison:
    """Rows of two reports that have one of `measures`, aligned, with every number that both have.

    By name, call and mode; by name and call where that leaves one row on either side, one of which has no mode, as
    weights and structure have none; then, of what is left, by the shape of the weight in order, where both sides have
    as many of it.
    """
    pairs = tuple(_aligned(_of(a, measures), _of(b, measures)))
    alone = {pair.name for pair in pairs if pair.a is None or pair.b is None}
    return Comparison(
        *names,
        measures=tuple(measures),
        layers=tuple(replace(pair, changes=_changed(pair, measures)) for pair in pairs),
        totals=_totals(a.totals, b.totals, measures),
        missing={side: _reasons(report, alone) for side, report in (("a", a), ("b", b))},
    )


def _reasons(report: Report, names: set[str]) -> dict[str, str]:
    return {skip.name: skip.reason for skip in report.coverage.skipped if skip.name in names}


def _of(report: Report, measures: Sequence[str]) -> list[Row]:
    return [row for row in report if any(row.measures.get(measure) is not None for measure in measures)]


def _aligned(a: list[Row], b: list[Row]) -> Iterator[Pair]:
    partner: dict[int, int] = {}  # place in a -> place in b

    def left(rows: list[Row], taken: Iterable[int]) -> list[tuple[int, Row]]:
        gone = set(taken)
        return [(place, row) for place, row in enumerate(rows) if place not in gone]

    def match(key: Callable[[Row], Any], fit: Callable[[list[Row], list[Row]], bool]) -> None:
        groups: dict[Any, tuple[list[int], list[int]]] = {}
        for side, rows in enumerate((left(a, partner), left(b, partner.values()))):
            for place, row in rows:
                groups.setdefault(key(row), ([], []))[side].append(place)
        for ours, theirs in groups.values():
            if len(ours) == len(theirs) and fit([a[i] for i in ours], [b[j] for j in theirs]):
                partner.update(zip(ours, theirs, strict=True))

    match(lambda row: (row.name, row.call, row.mode), lambda ours, theirs: True)
    match(
        lambda row: (row.name, row.call), lambda ours, theirs: len(ours) == 1 and None in (ours[0].mode, theirs[0].mode)
    )
    match(lambda row: (row.shape, row.call, row.mode), lambda ours, theirs: ours[0].shape is not None)
    for place, row in enumerate(a):
        if place in partner:
            other = b[partner[place]]
            state: State = "renamed" if row.name != other.name else "same" if row.shape == other.shape else "reshaped"
            yield Pair(row, other, state)
        else:
            yield Pair(row, None, "only_a")
    for _, other in left(b, partner.values()):
        yield Pair(None, other, "only_b")


def _changed(pair: Pair, measures: Sequence[str]) -> dict[str, dict[str, Change]]:
    found = {}
    for measure in measures:
        a, b = (None if row is None else row.measures.get(measure) for row in (pair.a, pair.b))
        if a is not None or b is not None:
            ours, theirs = _numbers(a), _numbers(b)
            found[measure] = {key: Change.of(ours.get(key), theirs.get(key)) for key in {**ours, **theirs}}
    return found


def _numbers(result: Any) -> dict[str, Any]:
    """The fields of a result that are numbers, or may be one and are None."""
    several = {} if result is None else dict(scalars(result))
    return {key: value for key, value in several.items() if value is None or _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _totals(a: Mapping[str, Any], b: Mapping[str, Any], measures: Sequence[str]) -> dict[str, Change]:
    ours, theirs = dict(_flat(a)), dict(_flat(b))
    return {
        name: Change.of(ours[name], theirs[name])
        for name in ours
        if name in theirs and (name.split(".")[0] not in MEASURES or name.split(".")[0] in measures)
    }


def _flat(totals: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    members = dict(scalars(totals)) if is_dataclass(totals) else totals
    for name, value in members.items():
        if isinstance(value, Mapping) or is_dataclass(value):
            yield from _flat(value, f"{prefix}{name}.")
        elif _is_number(value):
            yield prefix + name, value
