"""Rows and measures of reports, made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from netassay.algebra import Algebra
from netassay.complexity import complexity
from netassay.network import Distribution
from netassay.persistence import NeuralPersistence
from netassay.report import Report, Row
from netassay.saturation import EffectiveDimension, Saturation

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "[red]markup[/red]",
    ":smile:",
    "<script>alert(1)</script>",
    "two\nlines\r\n",
    "tab\tbell\x07",
    "=1+1",
    '@SUM(A1)","x',
    "-2+3|cmd",
    "\u202eright to left",
    "\ud800 lone surrogate",
    "\u2028 line separator",
    "漢字",
    " spaces ",
    "",
]


def saturation(value: float | None = 0.5, *, width: int = 64, n: int = 4096, **other: Any) -> Saturation:
    fields: dict[str, Any] = {
        "value": value,
        "dimension": None if value is None else 32,
        "width": width,
        "delta": 0.99,
        "eigenvalues": np.linspace(1.0, 0.1, width),
        "rows": n,
        "samples": n,
        "flags": (),
    }
    return Saturation(**(fields | other))


def dimension(value: float = 12.25, *, n: int = 4096, **other: Any) -> EffectiveDimension:
    fields: dict[str, Any] = {
        "value": value,
        "participation_ratio": 9.0,
        "participation_ratio_corrected": None,
        "stable_rank": 3.0,
        "effective_rank": 20.0,
        "rows": n,
        "samples": n,
        "flags": (),
    }
    return EffectiveDimension(**(fields | other))


def row(name: str = "fc", mode: Any = "eval", *, call: int | None = None, **other: Any) -> Row:
    fields: dict[str, Any] = {
        "kind": "Linear",
        "shape": (64, 32),
        "parameters": 2112,
        "calls": 7,
        "measures": {"saturation": saturation(), "effective_dimension": dimension()},
    }
    return Row(name=name, call=call, mode=mode, **(fields | other))


def persistence(largest: float = 1.0, **other: Any) -> NeuralPersistence:
    fields: dict[str, Any] = {
        "total": 3.25,
        "normalized": 0.8125,
        "lower_bound": 2.5,
        "weights": np.linspace(largest, 0.0, 16),
        "scale": 2.0,
        "flags": (),
    }
    return NeuralPersistence(**(fields | other))


def weight(name: str = "fc", largest: float = 1.0, **other: Any) -> Row:
    """A row as measure_weights makes it."""
    fields: dict[str, Any] = {"kind": "", "shape": (9, 8), "parameters": 72, "calls": None}
    return row(name, None, measures={"persistence": persistence(largest, **other)}, **fields)


def algebra(**other: Any) -> Algebra:
    fields: dict[str, Any] = {
        "log2_paths": 12.5,
        "log2_paths_exact": 12.25,
        "path_share": 1.0,
        "region_bits": 64.0,
        "cut": 16,
        "intrinsic_power": 2.0,
        "local_power": 1.0,
        "bottleneck": 32,
        "receptive_field": (7, 5),
        "stride": (2.0, 0.5),
        "macs": 2**60,
        "parameters": 72,
        "flags": (),
    }
    return Algebra(**(fields | other))


def call(name: str = "fc", site: int | None = None, **other: Any) -> Row:
    """A row as measure_structure makes it."""
    return row(name, None, call=site, calls=None, measures={"algebra": algebra(**other)})


def site(name: str = "relu", **other: Any) -> Row:
    """A row as a watch makes it of a nonlinearity."""
    values = Distribution()
    values.update(np.linspace(-1.0, 2.0, 24))
    measures = {
        "complexity": complexity(np.linspace(-1.0, 2.0, 24).reshape(4, 3, 2), sums=True),
        "neuron_strength": values.result(),
        "neuron_activation": values.result(),
    }
    return row(name, kind="ReLU", shape=None, parameters=0, measures=measures, **other)


TOTALS = {"persistence": {"normalized": 0.8125, "total": 6.5, "scale": 2.0, "layers": 2, "flags": ()}}


def with_saturation(name: str, value: float | None, mode: Any = "eval", **other: Any) -> Row:
    return row(name, mode, measures={"saturation": saturation(value, **other)})


#: By name: a place in a report, what is put there (...: it is removed), and what reading it says.
BREAKS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "other schema": (
        ("schema",),
        "netassay.report/2",
        r"schema: got 'netassay.report/2', expected 'netassay",
    ),
    "missing layers": (("layers",), ..., "report: expected the field 'layers', which is missing"),
    "layers no list": (("layers",), {}, "layers: got {}, expected a list"),
    "row no object": (("layers", 1), 3, r"layers\[1\]: got 3, expected an object"),
    "mode": (("layers", 0, "mode"), "test", r"layers\[0\].mode: got 'test', expected one of"),
    "name": (("layers", 0, "name"), None, r"layers\[0\].name: got None, expected text"),
    "float for int": (("layers", 0, "parameters"), 1.5, r"parameters: got 1.5, expected an integer"),
    "bool for int": (("layers", 0, "calls"), True, r"calls: got True, expected an integer"),
    "no digits": (("layers", 0, "parameters"), "12e3", r"parameters: got '12e3', expected an integer"),
    "text for number": (("layers", 0, "saturation", "value"), "x", r"layers\[0\].saturation.value: got 'x'"),
    "array item": (
        ("layers", 0, "saturation", "eigenvalues", 2),
        "x",
        r"eigenvalues\[2\]: got 'x', expected a",
    ),
    "no array": (("layers", 0, "saturation", "eigenvalues"), 1.0, r"eigenvalues: got 1.0, expected a list"),
    "missing field": (("layers", 0, "saturation", "delta"), ..., r"saturation: expected the field 'delta'"),
    "unknown field": (
        ("layers", 0, "saturation", "more"),
        1,
        r"saturation: got the field 'more', expected only",
    ),
    "unknown measure": (("layers", 0, "beauty"), {}, r"layers\[0\]: got the field 'beauty', expected only"),
    "skipped": (
        ("coverage", "skipped", 0, "reason"),
        1,
        r"coverage.skipped\[0\].reason: got 1, expected text",
    ),
    "finding level": (
        ("findings", 0, "level"),
        "panic",
        r"findings\[0\].level: got 'panic', expected one of",
    ),
}


def broken(report: Report, case: str) -> tuple[Any, str]:
    """The JSON of a report with one of BREAKS, and what reading it says."""
    steps, value, message = BREAKS[case]
    data: Any = report.to_dict()
    place = data
    for step in steps[:-1]:
        place = place[step]
    if value is ...:
        del place[steps[-1]]
    else:
        place[steps[-1]] = value
    return data, message
