"""A report from its JSON: every value is checked against the annotation of the field it goes to.

So the dataclasses are the only description of the structure; results are named in serial.MEASURES.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from netassay.report.encode import FLAG, MEASURES, SCHEMA, TOTALS, row_fields
from netassay.report.rows import Coverage, Finding, Row


def load(path: str | PathLike[str]) -> dict[str, Any]:
    """The fields of the Report in a file. Raises FileNotFoundError, StateError naming path and field."""
    data = Path(path).read_bytes()
    try:
        return decode_report(
            json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
        )
    except (ValueError, OverflowError, RecursionError) as error:
        from netassay.base.errors import StateError

        raise StateError(f"Report.load: {fspath(path)}: {error}") from error


def decode_report(data: Any) -> dict[str, Any]:
    """The fields of the Report. Raises ValueError naming the field."""
    members = _members(data, "report")
    if members.get("schema") != SCHEMA:
        raise _expected("schema", members.get("schema"), repr(SCHEMA))
    expected = ("schema", "provenance", "coverage", "totals", "layers", "findings")
    _complete(members, expected, expected, "report")
    rows = members["layers"]
    if not isinstance(rows, list):
        raise _expected("layers", rows, "a list")
    return {
        "layers": tuple(decode_row(row, f"layers[{i}]") for i, row in enumerate(rows)),
        "coverage": decode(Coverage, members["coverage"], "coverage"),
        "totals": {key: _total(key, value) for key, value in _members(members["totals"], "totals").items()},
        "findings": decode(tuple[Finding, ...], members["findings"], "findings"),
        "provenance": decode(Mapping[str, Any], members["provenance"], "provenance"),
    }


def decode_row(data: Any, where: str) -> Row:
    """A row; every member that is no field of Row must be a measure this version knows."""
    members = _members(data, where)
    own = row_fields()
    plain: dict[str, Any] = {}
    measures: dict[str, Any] = {}
    for key, value in members.items():
        if key in own:
            plain[key] = value
        elif key in MEASURES:
            measures[key] = _result(MEASURES[key], value, f"{where}.{key}")
        else:
            known = ", ".join((*own, *MEASURES))
            raise ValueError(f"{where}: got the field {key!r}, expected only {known}")
    return Row(**_decode_fields(Row, plain, where, own), measures=measures)


def _total(key: str, value: Any) -> Any:
    """A number of the whole network: a result where one goes by this name, else as it stands."""
    return _result(TOTALS[key], value, f"totals.{key}") if key in TOTALS else value


def _result(place: tuple[str, str], value: Any, where: str) -> Any:
    module, name = place
    return decode(getattr(import_module(module), name) | None, value, where)


def decode(kind: Any, value: Any, where: str) -> Any:
    """The JSON value as `kind`, an annotation. Raises ValueError: where, got, expected."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        (some,) = (arg for arg in args if arg is not NoneType)
        return None if value is None and NoneType in args else decode(some, value, where)
    if origin is Literal:
        if value not in args:
            raise _expected(where, value, f"one of {args}")
        return value
    if kind is np.ndarray or origin is np.ndarray:
        return _decode_array(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _expected(where, value, "a list")
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) != len(value):
            raise _expected(where, value, f"{len(kinds)} values")
        return tuple(decode(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is not None and issubclass(origin, Mapping):
        return {key: decode(args[1], item, f"{where}.{key}") for key, item in _members(value, where).items()}
    if is_dataclass(kind) and isinstance(kind, type):
        known = tuple(f.name for f in fields(kind))
        return kind(**_decode_fields(kind, _members(value, where), where, known))
    return _SCALARS[kind](value, where)


def _decode_fields(kind: Any, members: dict[str, Any], where: str, known: tuple[str, ...]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    _complete(members, known, needed, where)
    out = {}
    for key, value in members.items():
        if value is None and "flags" in known:
            # a result says by its flags why a number is absent: never measured, or not finite
            absent_as_nan = hints[key] is float and FLAG in (members.get("flags") or ())
            out[key] = math.nan if absent_as_nan else None
        else:
            out[key] = decode(hints[key], value, f"{where}.{key}")
    return out


def _decode_array(kind: Any, value: Any, where: str) -> np.ndarray[Any, Any]:
    if not isinstance(value, list):
        raise _expected(where, value, "a list")
    dtype = next((get_args(arg)[0] for arg in get_args(kind) if get_origin(arg) is np.dtype), np.float64)
    if not (isinstance(dtype, type) and issubclass(dtype, np.integer | np.floating)):
        dtype = np.float64
    scalar = _SCALARS[int if issubclass(dtype, np.integer) else float]

    def numbers(item: Any, inside: str) -> Any:
        if isinstance(item, list):
            if {*map(type, item)} == {float} and all(map(math.isfinite, item)):
                return item
            return [numbers(x, f"{inside}[{i}]") for i, x in enumerate(item)]
        return math.nan if item is None else scalar(item, inside)

    array = np.array(numbers(value, where), dtype=dtype)
    array.setflags(write=False)
    return array


def _decode_float(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _expected(where, value, "a finite number")
    return float(value)


def _decode_int(value: Any, where: str) -> int:
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _expected(where, value, "an integer")
    return value


def _decode_str(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _expected(where, value, "text")
    return value


def _decode_bool(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _expected(where, value, "true or false")
    return value


_SCALARS: dict[Any, Callable[[Any, str], Any]] = {
    float: _decode_float,
    int: _decode_int,
    str: _decode_str,
    bool: _decode_bool,
}


def _members(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _expected(where, value, "an object")
    return value


def _complete(members: Mapping[str, Any], known: Iterable[str], needed: Iterable[str], where: str) -> None:
    if missing := [name for name in needed if name not in members and name in known]:
        raise ValueError(f"{where}: expected the field {missing[0]!r}, which is missing")
    if unknown := [name for name in members if name not in known]:
        raise ValueError(f"{where}: got the field {unknown[0]!r}, expected only {', '.join(known)}")


def _expected(where: str, got: Any, expected: str) -> ValueError:
    return ValueError(f"{where}: got {reprlib.repr(got)}, expected {expected}")


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"got {text}, expected strict JSON, which has no such number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("got an object with a key twice, expected each key once")
    return members
