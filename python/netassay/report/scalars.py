"""The numbers of a report by name, flat: what a history keeps and a logger takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from typing import Any

from netassay.report.measures import MEASURES
from netassay.report.rows import Row


def several_calls(rows: Iterable[Row]) -> frozenset[str]:
    """Names of the layers whose calls are numbered."""
    return frozenset(row.name for row in rows if row.call is not None)


def numbers(rows: Iterable[Row], totals: Mapping[str, Any], several: Set[str]) -> Iterator[tuple[str, float]]:
    """Every finite number of a report by its name: those of the network, then those of each row.

    Args:
        several: names whose calls are numbered, also where there is only one.
    """
    yield from _flat("", totals)
    for row in rows:
        for measure, result in row.measures.items():
            first = row.call is None and row.name in several and measure in MEASURES and MEASURES[measure].by_call
            call = 0 if first else row.call
            place = "/".join(str(part) for part in (row.name, call, row.mode) if part is not None)
            yield from _flat(f"{place}/{measure}.", result)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, float]]:
    if is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{prefix}{key}.", item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = _float(value)
        if number is not None:
            yield prefix.removesuffix("."), number


def _float(value: int | float) -> float | None:
    """A finite float64, or None: path counts may be integers beyond it."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
