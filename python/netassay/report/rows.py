"""What a report is made of: one row per layer and mode, what was covered, and what was found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Mode = Literal["train", "eval"]
Level = Literal["problem", "notice"]
Confidence = Literal["counted", "tested", "rule of thumb", "needs data"]
Key = str | tuple[Any, ...]

_PREFERRED: tuple[Mode | None, ...] = ("eval", "train", None)
_STANDING: tuple[Mode | None, ...] = ("train", "eval", None)
#: The names that `Row.measures` may have; measures.py, which every import of this package loads, lists them here.
KNOWN_MEASURES: list[str] = []


class UnknownLayer(KeyError):
    """A key of a report that names no row, or more than one call site."""

    def __str__(self) -> str:  # KeyError would show the message quoted
        return str(self.args[0]) if self.args else ""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One layer in one mode.

    Two rows are equal when they say the same in JSON.

    Attributes:
        name: qualified name of the layer; the root is "(root)".
        call: 0, 1, ... where a name has call sites of its own, else None.
        mode: the root's mode during the passes measured; None where nothing ran.
        kind: class name of the layer.
        shape: of the weight, (out, in, ...); None without one.
        parameters: a count of scalars.
        calls: how often the layer was called in the passes measured; None where nothing ran.
        measures: result of each measure by its name; also read as an attribute, `row.saturation`, which is None where
            the row has no such result.
    """

    name: str
    call: int | None
    mode: Mode | None
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    calls: int | None
    measures: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is no field; copy and pickle ask for dunders before `measures` is set.
        if not name.startswith("__") and name != "measures":
            if name in self.measures or name in KNOWN_MEASURES:
                return self.measures.get(name)
            raise AttributeError(f"Row: got {name!r}, expected a field or a measure ({', '.join(KNOWN_MEASURES)})")
        raise AttributeError(name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Row):
            return NotImplemented
        return encode_row(self) == encode_row(other)


#: The fields of a row that hold no measure, in the order in which outputs have them.
ROW_FIELDS = tuple(f.name for f in fields(Row) if f.name != "measures")


def encode_row(row: Row) -> dict[str, Any]:
    """A row as JSON values, its measures beside its fields."""
    from netassay.report.encode import encode  # which loads numpy

    return {name: encode(getattr(row, name)) for name in ROW_FIELDS} | {
        measure: encode(result) for measure, result in row.measures.items()
    }


@dataclass(frozen=True, slots=True)
class Skipped:
    """A layer, or a tensor of a checkpoint, that has no result, and why.

    Attributes:
        name: qualified name of the layer, or name of the tensor.
        reason: why it has no result.
        parameters: a count of the scalars in it; None where they were not counted.
    """

    name: str
    reason: str
    parameters: int | None = field(default=None, metadata={"optional": True})


@dataclass(frozen=True, slots=True)
class Coverage:
    """What of the model the report speaks about.

    Attributes:
        measured: number of distinct layers with a result.
        skipped: layers and tensors without one.
        parameters_measured, parameters_total: counts of scalars, shared storage counted once.
        aliases: the name that stands in the report -> the other names of the same layer.
        notes: sentences about what was left out or assumed.
    """

    measured: int = 0
    skipped: tuple[Skipped, ...] = ()
    parameters_measured: int = 0
    parameters_total: int = 0
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """A sentence that follows from the rows, and the numbers it rests on; one for all layers of its kind.

    Attributes:
        kind: what was found: a name of `netassay.report.kinds.KINDS`.
        level: "problem" where something is wrong, otherwise "notice".
        layer: name of the layer that it is about, the worst of several; None where it is about the network.
        message: the sentence.
        evidence: the numbers, by name; where layers are counted, "count" and "layers", at most 20 names.
        advice: what to do about it.
        confidence: "counted": it is an exact fact; "tested": experiments support the threshold; "rule of thumb": none
            do; "needs data": too little was seen to be sure.
        docs: page and section that explain it.
    """

    kind: str
    level: Level
    layer: str | None
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""
    confidence: Confidence = "counted"
    docs: str = ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Finding):
            return NotImplemented
        from netassay.report.encode import encode

        return bool(encode(self) == encode(other))


def arrange(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows in the order of first call: each layer (or call site) at its first place, train before eval."""
    rows = tuple(rows)
    place: dict[tuple[str, int | None], int] = {}
    for row in rows:
        place.setdefault((row.name, row.call), len(place))
    return tuple(sorted(rows, key=lambda row: (place[row.name, row.call], _STANDING.index(row.mode))))


def find(rows: Sequence[Row], key: Key, coverage: Coverage) -> Row:
    """The row of a key: name, (name, mode), (name, call) or (name, call, mode).

    Without a mode: the eval row, else train, else the one without a mode. Without a call: the row of all calls, where
    there is one.
    Raises UnknownLayer: no such row, or several call sites and no call given.
    """
    name, wanted = _parse(key)
    named = [row for row in rows if row.name == name]
    if not named:
        raise UnknownLayer(_no_such_name(name, rows, coverage))
    chosen = [row for row in named if all(getattr(row, part) == value for part, value in wanted.items())]
    if not chosen:
        raise UnknownLayer(f"Report: got {_show(key)}, expected one of {_keys(named)}")
    if "call" not in wanted:
        chosen = [row for row in chosen if row.call is None] or chosen
    if len({row.call for row in chosen}) > 1:
        raise UnknownLayer(f"Report: {name!r} has several call sites, expected one of {_keys(chosen)}")
    return min(chosen, key=lambda row: _PREFERRED.index(row.mode))


def _parse(key: Key) -> tuple[str, dict[str, Any]]:
    match key:
        case str(name) | (str(name),):
            return name, {}
        case (str(name), bool()) | (str(name), bool(), _):
            pass  # True would pass for call 1
        case (str(name), int(call)):
            return name, {"call": call}
        case (str(name), ("train" | "eval" | None) as mode):
            return name, {"mode": mode}
        case (str(name), (int() | None) as call, ("train" | "eval" | None) as mode):
            return name, {"call": call, "mode": mode}
    expected = "name, (name, mode), (name, call) or (name, call, mode) with mode 'train', 'eval' or None"
    raise UnknownLayer(f"Report: got {_show(key)}, expected {expected}")


def _no_such_name(name: str, rows: Sequence[Row], coverage: Coverage) -> str:
    for skipped in coverage.skipped:
        if skipped.name == name:
            return f"Report: layer {name!r} was not measured: {skipped.reason}"
    for standing, others in coverage.aliases.items():
        if name in others:
            return f"Report: layer {name!r} is the same as {standing!r}, which stands in the report"
    names = list(dict.fromkeys(row.name for row in rows))
    if not names:
        return f"Report: got {name!r}, but the report has no layers"
    (nearest,) = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f"Report: got {name!r}, expected one of {len(names)} layers; the nearest is {nearest!r}"


def _keys(rows: Sequence[Row]) -> str:
    keys = [tuple(p for p in (row.name, row.call, row.mode) if p is not None) for row in rows]
    return ", ".join(_show(key if len(key) > 1 else key[0]) for key in keys)


def _show(key: object) -> str:
    inside = ", ".join(map(repr, key)) if isinstance(key, tuple) else repr(key)
    return f"[{inside}]"
