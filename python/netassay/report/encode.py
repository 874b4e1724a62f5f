"""Values as strict JSON; decode.py reads them back.

Non-finite numbers become null, and the object that held them gets the flag "nonfinite_value".
Integers beyond 2^53, which many readers would round, become decimal strings.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

FLAG = "nonfinite_value"
EXACT = 2**53


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


def encode_totals(totals: Mapping[str, Any]) -> dict[str, Any]:
    """Totals, whose flags go by the name of a number: {"saturation.eval": ["nonfinite_layers"]}."""
    out: dict[str, Any] = encode({key: None if _nonfinite(value) else value for key, value in totals.items()})
    for key, value in totals.items():
        if _nonfinite(value):
            out[key] = encode(value)
            flags = out.setdefault("flags", {})
            if FLAG not in (told := flags.setdefault(key, [])):
                flags[key] = [*told, FLAG]
    return out


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
