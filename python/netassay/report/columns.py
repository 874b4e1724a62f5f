"""What a report's tables show of its rows: for each table its rows, its headings and what stands under them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from netassay.report.rows import Row
from netassay.report.show.grid import Column, percent

_SWITCHING, _LINKS, _STRUCTURE = "complexity", "network", "algebra"
_VALUES = {"neuron_strength": "strength", "neuron_activation": "activation"}
#: Measures with a table of their own.
_OWN = {_SWITCHING, *_VALUES, _LINKS, _STRUCTURE}
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
    return _listed(flag for name, result in row.measures.items() if name not in _OWN for flag in _of(result))


def _structure_flags(row: Row) -> str | None:
    return _listed(flag for flag in _of(row.measures.get(_STRUCTURE)) if flag not in _SEEN_IN_COLUMNS)


def _switching_flags(row: Row) -> str | None:
    return _listed(_of(row.measures.get(_SWITCHING)))


def _share(measure: str, field: str) -> Callable[[Row], str | None]:
    def cell(row: Row) -> str | None:
        share = _result(measure, field)(row)
        return None if share is None else percent(share)

    return cell


def _link_flags(row: Row) -> str | None:
    return _listed(flag for flag in _of(row.measures.get(_LINKS)) if flag not in _SEEN_IN_NOTES)


def _weight(row: Row) -> str | None:
    return "x".join(map(str, row.shape)) if row.shape else None


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
    Column("zeros", _share(_LINKS, "zero_share"), right=True, rank=4),
    Column("fluct in", _result(_LINKS, "incoming_fluctuation"), ".3g"),
    Column("norm in", _result(_LINKS, "incoming_normalized"), ".2f", rank=1),
    Column("fluct out", _result(_LINKS, "outgoing_fluctuation"), ".3g", rank=1),
    Column("norm out", _result(_LINKS, "outgoing_normalized"), ".2f", rank=1),
    Column("degree in", _result(_LINKS, "incoming_degree"), ",.1f", rank=7),
    Column("degree out", _result(_LINKS, "outgoing_degree"), ",.1f", rank=8),
    Column("flags", _link_flags),
)
_SWITCHING_COLUMNS = (
    Column("site", lambda row: row.name),
    Column("call", lambda row: row.call),
    Column("kind", lambda row: row.kind or None, rank=4),
    Column("mode", lambda row: row.mode),
    Column("channels", lambda row: _length(_result(_SWITCHING, "channel_bits")(row)), ",", rank=1),
    Column("positions", _result(_SWITCHING, "positions"), ",", rank=5),
    Column("samples", _result(_SWITCHING, "samples"), ",", rank=3),
    Column("bits/channel", _result(_SWITCHING, "mean_channel"), ".3f"),
    Column("bits/position", _result(_SWITCHING, "mean_position"), ".3f"),
    Column("total bits", _result(_SWITCHING, "total_position"), ",.0f", rank=6),
    Column("dead", _share(_SWITCHING, "dead"), right=True),
    Column("linear", _share(_SWITCHING, "linear"), right=True, rank=2),
    Column("flags", _switching_flags),
)


@dataclass(frozen=True, slots=True)
class _Line:
    """One distribution of a row."""

    row: Row
    of: str
    values: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.values, name)


def _length(values: Any) -> int | None:
    return None if values is None else len(values)


_VALUE_COLUMNS = (
    Column("layer", lambda line: line.row.name),
    Column("call", lambda line: line.row.call),
    Column("kind", lambda line: line.row.kind or None, rank=7),
    Column("mode", lambda line: line.row.mode),
    Column("neuron", lambda line: line.of),
    Column("values", lambda line: line.count, ",", rank=3),
    Column("mean", lambda line: line.mean, ".3g"),
    Column("std", lambda line: line.std, ".3g"),
    Column("skew", lambda line: line.skewness, ".2f", rank=2),
    Column("kurtosis", lambda line: line.kurtosis, ".2f", rank=1),
    Column("least", lambda line: line.minimum, ".3g", rank=5),
    Column("most", lambda line: line.maximum, ".3g", rank=4),
    Column("positive", lambda line: percent(line.positive_share), right=True, rank=6),
    Column("flags", lambda line: _listed(_of(line.values))),
)


@dataclass(frozen=True, slots=True)
class Table:
    """Its columns, and what its lines are of a report's rows."""

    columns: tuple[Column, ...]
    lines: Callable[[Sequence[Row]], Sequence[Any]]


def _with(measure: str) -> Callable[[Sequence[Row]], Sequence[Row]]:
    return lambda rows: [row for row in rows if row.measures.get(measure) is not None]


def _without_own(rows: Sequence[Row]) -> Sequence[Row]:
    return [row for row in rows if not row.measures or not set(row.measures) <= _OWN]


def _values(rows: Sequence[Row]) -> Sequence[_Line]:
    return [
        _Line(row, of, row.measures[measure])
        for row in rows
        for measure, of in _VALUES.items()
        if row.measures.get(measure) is not None
    ]


TABLES = (
    Table(_COLUMNS, _without_own),
    Table(_SWITCHING_COLUMNS, _with(_SWITCHING)),
    Table(_VALUE_COLUMNS, _values),
    Table(_LINK_COLUMNS, _with(_LINKS)),
    Table(_STRUCTURE_COLUMNS, _with(_STRUCTURE)),
)
