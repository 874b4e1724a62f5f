"""The JSON Schema of a report, made from its dataclasses: annotations, docstrings and the metadata of fields.

`python -m netassay.report.schema` prints the text of schema.json, which ships beside this module.

A field's metadata may hold `minimum`, `maximum` and `exclusiveMinimum` of its numbers; `finite`: a float that is never
null; `nullable`: null in some files, though the annotation has no None; `axes` of an array, 1 where not given, None for
any number; `optional`: a member that files may lack.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from netassay.report.about import Total
from netassay.report.decode import dtype_of
from netassay.report.encode import EXACT, FLAG, dumps
from netassay.report.measures import MEASURES, TOTALS
from netassay.report.report import SCHEMA, Provenance, Report
from netassay.report.rows import Coverage, Finding, Row, Skipped

_LIMITS = ("minimum", "maximum", "exclusiveMinimum")
_KNOWN = {*_LIMITS, "finite", "nullable", "axes", "optional"}
_PLAIN = {float: "number", int: "integer", str: "string", bool: "boolean"}
#: Classes that are defined once, and the names of their definitions.
_DEFINED: dict[Any, str] = {Row: "layer", Coverage: "coverage", Skipped: "skipped", Finding: "finding"}
_NULL = {"type": "null"}
_COUNT = {"$ref": "#/$defs/count"}
_FLAGS = {"$ref": "#/$defs/flags"}


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `netassay.report/1`.

    Raises TypeError, naming class and field, for a field without a description or of a type that JSON does not hold.
    """
    properties = {"schema": {"const": SCHEMA}, **_properties(Report)}
    properties["provenance"]["properties"] = _open(Provenance)
    properties["totals"]["properties"] = {
        name: described for name, total in TOTALS.items() if (described := _total(total)) is not None
    }
    properties["totals"]["properties"]["flags"] = {"type": "object", "additionalProperties": _FLAGS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
        "title": "netassay report, version 1",
        "description": (
            "Strict JSON. A number that was not finite is null, and the object that held it has the flag"
            f" {FLAG}. An integer beyond 2^53 is a decimal string."
        ),
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "$defs": _definitions(),
    }


def _definitions() -> dict[str, Any]:
    whole = {"type": "integer", "minimum": 0, "maximum": EXACT}
    results = {name: measure.result for name, measure in MEASURES.items()}
    results |= {name: total.result for name, total in TOTALS.items() if total.result is not None}
    defined = {name: of_class(kind) for kind, name in _DEFINED.items()}
    layer = defined["layer"]
    del layer["properties"]["measures"]  # they are members of the row itself
    layer["required"].remove("measures")
    layer["properties"] |= {name: _or_null({"$ref": f"#/$defs/{name}"}) for name in MEASURES}
    return {
        "count": {"anyOf": [whole, {"type": "string", "pattern": "^[0-9]{16,}$"}]},
        "flags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        **defined,
        **{name: of_class(result.load()) for name, result in results.items()},
    }


def _total(total: Total) -> dict[str, Any] | None:
    """What is known of a number of the whole network."""
    if total.result is not None:
        return _or_null({"$ref": f"#/$defs/{total.name}"})
    if total.field_of is not None:
        return _properties(total.field_of.load(), [total.name])[total.name]
    if total.members_of is not None:
        made = of_class(total.members_of.load(), flagged=True)
        properties = {**made["properties"], "flags": _FLAGS}
        return made | {"properties": properties, "required": [*total.needed, "flags"]}
    return None


def of_class(kind: type, *, flagged: bool = False) -> dict[str, Any]:
    """The schema of a dataclass: all its fields are members, and there are no others.

    Args:
        flagged: as for `_properties`.

    Raises TypeError as `schema` does.
    """
    properties = _properties(kind, flagged=flagged)
    return {
        "type": "object",
        "description": inspect.cleandoc(kind.__doc__ or "").partition("\n")[0],
        "properties": properties,
        "required": [f.name for f in fields(kind) if not f.metadata.get("optional")],
        "additionalProperties": False,
    }


def _properties(kind: type, names: Iterable[str] | None = None, *, flagged: bool = False) -> dict[str, dict[str, Any]]:
    """Members by name, all fields of a dataclass or those that are named.

    Args:
        flagged: whether flags beside the members say that a number was not finite, where no field of that name does.
    """
    several = {f.name: f for f in fields(kind)}
    hints, texts = get_type_hints(kind), described(kind, several)
    flagged = flagged or "flags" in several
    made: dict[str, dict[str, Any]] = {}
    for name in several if names is None else names:
        where = f"schema: {kind.__name__}.{name}"
        if name not in texts:
            raise TypeError(f"{where}: got no description, expected one under Attributes in the docstring")
        if unknown := several[name].metadata.keys() - _KNOWN:
            raise TypeError(f"{where}: got the metadata {sorted(unknown)}, expected only {', '.join(sorted(_KNOWN))}")
        made[name] = {**_member(several[name], hints[name], flagged, where), "description": texts[name]}
    return made


def _member(one: Field[Any], kind: Any, flagged: bool, where: str) -> dict[str, Any]:
    if one.name == "flags":
        return _FLAGS
    value = _value(kind, one.metadata, where)
    lost = kind is float and flagged and not one.metadata.get("finite")
    return _or_null(value) if lost or one.metadata.get("nullable") else value


def _open(kind: type) -> dict[str, Any]:
    """Members of a TypedDict, beside which there may be others."""
    hints = get_type_hints(kind)
    texts = described(kind, hints)
    return {
        name: {
            **({} if hint is Any else _value(hint, {}, f"schema: {kind.__name__}.{name}")),
            "description": texts[name],
        }
        for name, hint in hints.items()
    }


def _value(kind: Any, about: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What is known of a value by its annotation, and by the metadata of its field."""
    origin, args = get_origin(kind), get_args(kind)
    limits = {key: about[key] for key in _LIMITS if key in about}
    if origin in (Union, UnionType):
        return _union(args, about, where)
    if origin is Literal:
        return {"enum": list(args)}
    if origin is np.ndarray:
        return _array(kind, about, limits)
    if origin is tuple and args[-1] is Ellipsis:
        return {"type": "array", "items": _value(args[0], about, where)}
    if origin is tuple and len(set(args)) == 1:
        return {"type": "array", "items": _value(args[0], about, where), "minItems": len(args), "maxItems": len(args)}
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        members = {} if args[1] is Any else {"additionalProperties": _value(args[1], about, where)}
        return {"type": "object", **members}
    if kind in _DEFINED:
        return {"$ref": f"#/$defs/{_DEFINED[kind]}"}
    if kind is int:
        return dict(_COUNT)
    if kind in _PLAIN:
        return {"type": _PLAIN[kind], **limits}
    expected = "a number, text, a Literal, an array or a tuple, a Mapping of such, or a class that is defined here"
    raise TypeError(f"{where}: got the type {kind}, expected {expected}")


def _union(args: tuple[Any, ...], about: Mapping[str, Any], where: str) -> dict[str, Any]:
    some = [arg for arg in args if arg is not NoneType]
    if len(some) > 1 and all(arg in _PLAIN for arg in some):
        value: dict[str, Any] = {"type": [_PLAIN[arg] for arg in some]}
    elif len(some) == 1:
        value = _value(some[0], about, where)
    else:
        raise TypeError(f"{where}: got {' | '.join(map(str, args))}, expected one type, or None beside it")
    return _or_null(value) if NoneType in args else value


def _array(kind: Any, about: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    axes = about.get("axes", 1)
    if axes is None:
        return {"type": "array"}
    number: Any = "number" if about.get("finite") else ["number", "null"]
    value = dict(_COUNT) if issubclass(dtype_of(kind), np.integer) else {"type": number, **limits}
    for _ in range(axes):
        value = {"type": "array", "items": value}
    return value


def _or_null(value: dict[str, Any]) -> dict[str, Any]:
    match value:
        case {"enum": [*several]}:
            return {**value, "enum": [*several, None]}
        case {"type": [*several]}:
            return {**value, "type": [*dict.fromkeys((*several, "null"))]}
        case {"type": "number" | "integer" | "string" | "boolean" as one}:
            return {**value, "type": [one, "null"]}
    return {"anyOf": [value, _NULL]}


def described(kind: type, names: Iterable[str]) -> dict[str, str]:
    """The texts of `names` under Attributes in the docstring of a class, and in those of its bases, None as null.

    An entry is "name: text" or "name, other: text", at the beginning of a line or behind the full stop of another one.
    """
    one = "|".join(map(re.escape, names))
    entry = re.compile(rf"(?:^ *|(?<=\. ))((?:{one})(?:, (?:{one}))*): ", re.MULTILINE)
    found: dict[str, str] = {}
    for owner in reversed(inspect.getmro(kind)):
        section = inspect.cleandoc(owner.__doc__ or "").partition("\nAttributes:\n")[2].partition("\n\n")[0]
        parts = entry.split(re.sub(r"\n {8,}", " ", section))  # lines that go on are indented further
        for several, text in zip(parts[1::2], parts[2::2], strict=True):
            found |= dict.fromkeys(several.split(", "), re.sub(r"\bNone\b", "null", text.strip()))
    return found


if __name__ == "__main__":
    sys.stdout.buffer.write(dumps(schema()))
