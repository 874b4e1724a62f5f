"""A report as strict JSON, schema `netassay.report/1` (schema.json); decode.py reads it back.

Non-finite numbers become null, and the object that held them gets the flag "nonfinite_value".
Integers beyond 2^53, which many readers would round, become decimal strings.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from netassay.report.rows import Row

if TYPE_CHECKING:
    from netassay.report.report import Report

SCHEMA = "netassay.report/1"
FLAG = "nonfinite_value"
EXACT = 2**53

# measure -> module and name of its result class
MEASURES = {
    "saturation": ("netassay.saturation", "Saturation"),
    "effective_dimension": ("netassay.saturation", "EffectiveDimension"),
    "persistence": ("netassay.persistence", "NeuralPersistence"),
    "complexity": ("netassay.complexity", "Complexity"),
    "neuron_strength": ("netassay.network", "Values"),
    "neuron_activation": ("netassay.network", "Values"),
    "network": ("netassay.network", "LayerLinks"),
    "algebra": ("netassay.algebra", "Algebra"),
}
# the same of whole networks: key of a report's totals -> module and name
TOTALS = {"deep_graph_persistence": ("netassay.persistence", "DeepGraphPersistence")}


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `netassay.report/1`."""
    text = resources.files(__package__).joinpath("schema.json").read_text("utf-8")
    return dict(json.loads(text))


def encode_report(report: Report, *, volatile: bool = True) -> dict[str, Any]:
    """The report as plain JSON values; volatile=False leaves out `created`."""
    kept = {key: value for key, value in report.provenance.items() if volatile or key != "created"}
    return {
        "schema": SCHEMA,
        "provenance": encode(kept),
        "coverage": encode(report.coverage),
        "totals": encode(report.totals),
        "layers": [encode_row(row) for row in report.layers],
        "findings": encode(report.findings),
    }


def encode_row(row: Row) -> dict[str, Any]:
    """A row, its measures standing beside its fields."""
    return {name: encode(getattr(row, name)) for name in row_fields()} | {
        measure: encode(result) for measure, result in row.measures.items()
    }


def encode(value: Any) -> Any:
    """A value as None, bool, int, float, str, list or dict. Raises TypeError for anything else."""
    match value:
        case None | bool():
            return value
        case str():
            return str(value)
        case int():
            return int(value) if abs(value) <= EXACT else str(int(value))
        case float() | np.floating():
            return float(value) if math.isfinite(value) else None
        case np.ndarray() if value.dtype.kind == "f" and np.isfinite(value).all():
            return value.astype(np.float64).tolist()
        case np.ndarray() | np.generic():
            return encode(value.tolist())
        case list() | tuple():
            return [encode(item) for item in value]
        case Mapping():
            return _encode_items(value.items())
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _encode_items((f.name, getattr(value, f.name)) for f in fields(value))
    raise TypeError(f"report: got {reprlib.repr(value)} of {type(value)}, expected a number, text or result")


def _encode_items(items: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    lost = False
    for key, value in items:
        if not isinstance(key, str):
            raise TypeError(f"report: got the key {key!r}, expected text")
        out[key] = encode(value)
        lost = lost or _nonfinite(value)
    if lost and FLAG not in out.setdefault("flags", []):
        out["flags"] = [*out["flags"], FLAG]
    return out


def _nonfinite(value: Any) -> bool:
    match value:
        case float() | np.floating():
            return not math.isfinite(value)
        case np.ndarray():
            return value.dtype.kind == "f" and not np.isfinite(value).all()
        case list() | tuple():
            return any(map(_nonfinite, value))
    return False


def dumps(value: Any) -> bytes:
    """UTF-8 JSON: one member per line, a list of scalars on one line, so that files diff and read well."""
    # the only characters UTF-8 cannot carry are lone surrogates, whose backslash form is their JSON form
    return (_lay_out(value, "\n") + "\n").encode("utf-8", "backslashreplace")


def _lay_out(value: Any, newline: str) -> str:
    inner = newline + "  "
    if isinstance(value, dict) and value:
        parts = [f"{_compact(key)}: {_lay_out(item, inner)}" for key, item in value.items()]
        return "{" + inner + ("," + inner).join(parts) + newline + "}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[" + inner + ("," + inner).join(_lay_out(item, inner) for item in value) + newline + "]"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@cache
def row_fields() -> tuple[str, ...]:
    """The members of a row in JSON that are no measure."""
    return tuple(f.name for f in fields(Row) if f.name != "measures")
