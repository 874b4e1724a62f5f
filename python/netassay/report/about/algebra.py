"""Structural counts and bounds in a report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netassay.report.about import About, Compared, Measure, Place, Total
from netassay.report.about.cells import Column, Table, flags, having, result, weight_shape
from netassay.report.about.wording import Case, grouped, label
from netassay.report.kinds import finding
from netassay.report.rows import Finding, Row, arrange

_NAME = "algebra"
_MOST_DIGITS = 15  # of an integer that is shown whole


def algebra_findings(rows: Sequence[Row], totals: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Operations that are not known, and an output that depends on fewer units than it has.

    How narrow a network is cannot be said behind an operation that is not known.
    """
    measured = [row for row in arrange(rows) if row.algebra is not None]
    unknown = [row for row in measured if "unknown" in row.algebra.flags]
    return (*grouped("unknown_operations", map(_unknown, unknown)), *(() if unknown else _narrow(measured, totals)))


def _unknown(row: Row) -> Case:
    message = (
        f"{label(row)}: an operation that is not in the table, taken as elementwise; path counts, fields and cost"
        " behind it may be wrong, and MACs are a lower bound"
    )
    return Case(row, message, {})


def _narrow(measured: Sequence[Row], totals: Mapping[str, Any]) -> Iterator[Finding]:
    cut, units, entering = (totals.get(name) for name in ("output_cut", "output_units", "input_units"))
    if not (isinstance(cut, int) and isinstance(units, int) and isinstance(entering, int)) or cut >= min(
        units, entering
    ):
        return
    where = next((row for row in measured if row.algebra.cut == cut), None)
    if where is None:
        return
    message = (
        f"the output's {units:,} units depend on {cut:,} units at most, of {entering:,} that enter; the network is"
        f" that narrow at {label(where)}"
    )
    yield finding("narrow_output", where.name, message, {"cut": cut, "units": units, "entering": entering})


def _lengths(value: Any) -> str | None:
    """The histogram of path lengths in words."""
    match value:
        case [*listed] if listed and None not in (counts := list(map(_whole, listed))):
            held = [k for k, count in enumerate(counts) if count]
            if not held:
                return "no path"
            most = max(held, key=lambda k: counts[k] or 0)
            if held[0] == held[-1]:
                return f"{held[0]} weighted layer{'s' if held[0] != 1 else ''}"
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


def _field(row: Row) -> str | None:
    """The receptive field, one number where all axes agree; "all" where a position depends on the whole input."""
    found = row.measures.get(_NAME)
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
    Column("shape", weight_shape, rank=1),
    Column("parameters", result(_NAME, "parameters"), ",", rank=4),
    Column("macs", result(_NAME, "macs"), ",", rank=5),
    Column("path bits", result(_NAME, "log2_paths"), ",.2f"),
    Column("region bits", result(_NAME, "region_bits"), ",.0f", rank=6),
    Column("cut", result(_NAME, "cut"), ",", rank=7),
    Column("power", result(_NAME, "intrinsic_power"), ".2f"),
    Column("field", _field, rank=2, right=True),
    Column("flags", flags(_NAME, without=("covers_input", "not_piecewise_linear"))),  # which columns show
)

_WHOLE = Place("netassay.algebra", "NetworkAlgebra")

ABOUT = About(
    measures=(
        Measure(
            _NAME,
            Place("netassay.algebra", "Algebra"),
            "structure",
            (Compared("log2_paths", "path bits", ",.2f"), Compared("macs", "macs", ",", rank=2)),
        ),
    ),
    totals=(
        Total("parameters", field_of=_WHOLE),
        Total("macs", field_of=_WHOLE),
        Total("log2_paths", field_of=_WHOLE),
        Total("log2_paths_exact", shown="filled", field_of=_WHOLE),
        Total("layer_paths", _integer, field_of=_WHOLE),
        Total("path_lengths", _lengths, field_of=_WHOLE),
        Total("region_bits", shown="filled", field_of=_WHOLE),
        Total("intrinsic_power", field_of=_WHOLE),
        Total("input_units", field_of=_WHOLE),
        Total("output_units", field_of=_WHOLE),
        Total("output_cut", field_of=_WHOLE),
        Total("vc_bound", shown="filled", field_of=_WHOLE),
        Total("serra_regions", _integer, shown="filled", field_of=_WHOLE),
        Total("unknown", shown="filled", field_of=_WHOLE),
        Total("unknown_operations", shown="never"),
    ),
    tables=(Table((_NAME,), _COLUMNS, having(_NAME)),),
    findings=algebra_findings,
)
