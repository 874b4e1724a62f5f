"""Links, node strengths and activations in a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from netassay.report.about import About, Compared, Measure, Place, Total
from netassay.report.about.cells import (
    Column,
    Table,
    flags,
    flags_of,
    having,
    listed,
    percent,
    result,
    share,
    show,
    weight_shape,
)
from netassay.report.about.wording import Case, and_flags, grouped, label, zero_case
from netassay.report.rows import Finding, Row, arrange

_LINKS = "network"
_VALUES = {"neuron_strength": "strength", "neuron_activation": "activation"}


def network_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Layers whose weights are all equal, and units whose weights are all 0: nothing enters or leaves them.

    All zero is a finding of persistence where that was measured.
    """
    measured = [row for row in arrange(rows) if row.network is not None and "not_a_layer" not in row.network.flags]
    zero = [row for row in measured if "zero" in row.network.flags and row.persistence is None]
    other = [row for row in measured if "zero" not in row.network.flags]
    equal = [row for row in other if _equal(row)]
    dead = [row for row in other if not _equal(row) and (row.network.dead_outputs or row.network.dead_inputs)]
    return (
        *grouped("zero_weights", map(zero_case, zero)),
        *grouped("equal_weights", map(_equal_case, equal)),
        *grouped("dead_links", map(_dead_case, dead)),
    )


def _equal(row: Row) -> bool:
    return "constant" in row.network.flags and "single" not in row.network.flags


def _equal_case(row: Row) -> Case:
    value = row.network.mean
    return Case(row, f"{label(row)}: every weight is {value:.6g}, so its units are all alike", {"value": value})


def _dead_case(row: Row) -> Case:
    links = row.network
    sides = (("output", links.dead_outputs, len(links.incoming)), ("input", links.dead_inputs, len(links.outgoing)))
    counted = [f"{dead:,} of {units:,} {side} units" for side, dead, units in sides if dead]
    message = f"{label(row)}: {' and '.join(counted)} have no weight other than 0"
    share = max(dead / units for _, dead, units in sides)
    return Case(row, message, {f"dead_{side}s": dead for side, dead, _ in sides}, share)


def _weights(value: Any) -> str | None:
    """The distribution of all weights in words."""
    match value:
        case {"count": int(count), "layers": int(layers), "mean": float(mean), "std": float(std)}:
            low, high, zeros = (show(value.get(name), ".4g") for name in ("minimum", "maximum", "zero_share"))
            spread = f"mean {mean:.3g}, std {std:.4g}, from {low} to {high}, zeros {zeros}"
            return f"{count:,} weights of {layers:,} layers: {spread}{and_flags(value.get('flags', ()))}"
    return None


_LINK_COLUMNS = (
    Column("layer", lambda row: row.name),
    Column("kind", lambda row: row.kind or None, rank=9),
    Column("shape", weight_shape, rank=3),
    Column("mean", result(_LINKS, "mean"), ".2g", rank=5),
    Column("std", result(_LINKS, "std"), ".3g"),
    Column("skew", result(_LINKS, "skewness"), ".2f", rank=6),
    Column("kurtosis", result(_LINKS, "kurtosis"), ".2f", rank=2),
    Column("zeros", share(_LINKS, "zero_share"), right=True, rank=4),
    Column("fluct in", result(_LINKS, "incoming_fluctuation"), ".3g"),
    Column("norm in", result(_LINKS, "incoming_normalized"), ".2f", rank=1),
    Column("fluct out", result(_LINKS, "outgoing_fluctuation"), ".3g", rank=1),
    Column("norm out", result(_LINKS, "outgoing_normalized"), ".2f", rank=1),
    Column("degree in", result(_LINKS, "incoming_degree"), ",.1f", rank=7),
    Column("degree out", result(_LINKS, "outgoing_degree"), ",.1f", rank=8),
    Column("flags", flags(_LINKS, without=("kernel_level",))),  # which the notes explain
)


@dataclass(frozen=True, slots=True)
class _Line:
    """One distribution of a row: what it is of, and its values."""

    row: Row
    neuron: str
    values: Any


def _lines(rows: Sequence[Row]) -> Sequence[_Line]:
    return [
        _Line(row, neuron, row.measures[measure])
        for row in rows
        for measure, neuron in _VALUES.items()
        if row.measures.get(measure) is not None
    ]


def _value(field: str) -> Callable[[_Line], Any]:
    return lambda line: getattr(line.values, field)


_VALUE_COLUMNS = (
    Column("layer", lambda line: line.row.name),
    Column("call", lambda line: line.row.call),
    Column("kind", lambda line: line.row.kind or None, rank=7),
    Column("mode", lambda line: line.row.mode),
    Column("neuron", lambda line: line.neuron),
    Column("values", _value("count"), ",", rank=3),
    Column("mean", _value("mean"), ".3g"),
    Column("std", _value("std"), ".3g"),
    Column("skew", _value("skewness"), ".2f", rank=2),
    Column("kurtosis", _value("kurtosis"), ".2f", rank=1),
    Column("least", _value("minimum"), ".3g", rank=5),
    Column("most", _value("maximum"), ".3g", rank=4),
    Column("positive", lambda line: percent(line.values.positive_share), right=True, rank=6),
    Column("flags", lambda line: listed(flags_of(line.values))),
)

_DISTRIBUTION = Place("netassay.network", "Values")

ABOUT = About(
    measures=(
        Measure(
            "neuron_strength",
            _DISTRIBUTION,
            "activations",
            (Compared("std", "strength std", ".3g"),),
        ),
        Measure(
            "neuron_activation",
            _DISTRIBUTION,
            "activations",
            (Compared("std", "activation std", ".3g", rank=2),),
            by_call=True,
        ),
        Measure(
            _LINKS,
            Place("netassay.network", "LayerLinks"),
            "weights",
            (
                Compared("std", "std", ".3g", rank=3),
                Compared("incoming_fluctuation", "fluct in", ".3g", rank=5),
                Compared("outgoing_fluctuation", "fluct out", ".3g", rank=8),
            ),
        ),
    ),
    totals=(
        Total(
            _LINKS,
            _weights,
            members_of=Place("netassay.network", "NetworkLinks"),
            needed=("layers", "count"),
        ),
    ),
    tables=(
        Table(tuple(_VALUES), _VALUE_COLUMNS, _lines),
        Table((_LINKS,), _LINK_COLUMNS, having(_LINKS)),
    ),
    findings=lambda rows, totals: network_findings(rows),
)
