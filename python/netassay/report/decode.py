"""Values from strict JSON, as encode.py wrote them: each is checked against the annotation of the field it goes to.

So the dataclasses are the only description of the structure.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from netassay.report.encode import FLAG


def loads(data: bytes) -> Any:
    """The value of strict JSON. Raises ValueError for other text, NaN, infinities and a key given twice."""
    return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)


def decode(kind: Any, value: Any, where: str) -> Any:
    """The JSON value as `kind`, an annotation. Raises ValueError: where, got, expected."""
    return _READERS.get(get_origin(kind) or kind, _object)(kind, value, where)


def decode_fields(kind: Any, members: Mapping[str, Any], where: str, known: Iterable[str]) -> dict[str, Any]:
    """The members of an object as those fields of a dataclass that are `known`."""
    known = tuple(known)
    hints = get_type_hints(kind)
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    complete(members, known, needed, where)
    out = {}
    for key, value in members.items():
        if value is None and "flags" in known:
            # a result says by its flags why a number is absent: never measured, or not finite
            absent_as_nan = hints[key] is float and FLAG in (members.get("flags") or ())
            out[key] = math.nan if absent_as_nan else None
        else:
            out[key] = decode(hints[key], value, f"{where}.{key}")
    return out


def members_of(value: Any, where: str) -> dict[str, Any]:
    """The members of an object."""
    if not isinstance(value, dict):
        raise expected(where, value, "an object")
    return value


def complete(members: Mapping[str, Any], known: Iterable[str], needed: Iterable[str], where: str) -> None:
    """Raises ValueError where a needed member is missing, or one is not known."""
    if missing := [name for name in needed if name not in members and name in known]:
        raise ValueError(f"{where}: expected the field {missing[0]!r}, which is missing")
    if unknown := [name for name in members if name not in known]:
        raise ValueError(f"{where}: got the field {unknown[0]!r}, expected only {', '.join(known)}")


def expected(where: str, got: Any, expected: str) -> ValueError:
    """The error of a value: where, got, expected."""
    return ValueError(f"{where}: got {reprlib.repr(got)}, expected {expected}")


def dtype_of(kind: Any) -> type[np.integer[Any] | np.floating[Any]]:
    """The numbers of an array, by its annotation; float64 where it does not say."""
    dtype = next((get_args(arg)[0] for arg in get_args(kind) if get_origin(arg) is np.dtype), None)
    known = isinstance(dtype, type) and issubclass(dtype, np.integer | np.floating)
    return dtype if known and dtype is not None else np.float64


def _anything(kind: Any, value: Any, where: str) -> Any:
    return value


def _optional(kind: Any, value: Any, where: str) -> Any:
    (some,) = (arg for arg in get_args(kind) if arg is not NoneType)
    return None if value is None and NoneType in get_args(kind) else decode(some, value, where)


def _choice(kind: Any, value: Any, where: str) -> Any:
    if value not in get_args(kind):
        raise expected(where, value, f"one of {get_args(kind)}")
    return value


def _tuple(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    args = get_args(kind)
    if not isinstance(value, list):
        raise expected(where, value, "a list")
    kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
    if len(kinds) != len(value):
        raise expected(where, value, f"{len(kinds)} values")
    return tuple(decode(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))


def _mapping(kind: Any, value: Any, where: str) -> dict[str, Any]:
    _, values = get_args(kind)
    return {key: decode(values, item, f"{where}.{key}") for key, item in members_of(value, where).items()}


def _object(kind: Any, value: Any, where: str) -> Any:
    """A dataclass of that kind."""
    members = members_of(value, where)
    return kind(**decode_fields(kind, members, where, (f.name for f in fields(kind))))


def _array(kind: Any, value: Any, where: str) -> np.ndarray[Any, Any]:
    if not isinstance(value, list):
        raise expected(where, value, "a list")
    dtype = dtype_of(kind)
    scalar, number = (_integer, int) if issubclass(dtype, np.integer) else (_float, float)

    def numbers(item: Any, inside: str) -> Any:
        if isinstance(item, list):
            if {*map(type, item)} == {float} and all(map(math.isfinite, item)):
                return item
            return [numbers(x, f"{inside}[{i}]") for i, x in enumerate(item)]
        return math.nan if item is None else scalar(number, item, inside)

    array = np.array(numbers(value, where), dtype=dtype)
    array.setflags(write=False)
    return array


def _float(kind: Any, value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise expected(where, value, "a finite number")
    return float(value)


def _integer(kind: Any, value: Any, where: str) -> int:
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise expected(where, value, "an integer")
    return value


def _text(kind: Any, value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise expected(where, value, "text")
    return value


def _truth(kind: Any, value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise expected(where, value, "true or false")
    return value


#: By the origin of an annotation, else by the annotation itself; every other one is a dataclass.
_READERS: dict[Any, Callable[[Any, Any, str], Any]] = {
    Any: _anything,
    Union: _optional,
    UnionType: _optional,
    Literal: _choice,
    np.ndarray: _array,
    tuple: _tuple,
    Mapping: _mapping,
    float: _float,
    int: _integer,
    str: _text,
    bool: _truth,
}


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"got {text}, expected strict JSON, which has no such number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("got an object with a key twice, expected each key once")
    return members
