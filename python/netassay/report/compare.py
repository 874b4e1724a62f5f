"""Two networks side by side, in one value that prints and saves: every number of both, and what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from netassay.base.text import printable
from netassay.report.about.cells import Column, show
from netassay.report.measures import MEASURES
from netassay.report.rows import Row, UnknownLayer
from netassay.report.show.grid import table
from netassay.report.show.tables import csv_of, frame_of, scalars
from netassay.report.show.text import wrap

if TYPE_CHECKING:
    import pandas

SCHEMA = "netassay.comparison/1"
State = Literal["same", "reshaped", "renamed", "only_a", "only_b"]

_MOST_NAMES = 12


@dataclass(frozen=True, slots=True)
class Change:
    """A number of A and of B, and difference = b - a; None where there is none."""

    a: float | None
    b: float | None
    difference: float | None

    @classmethod
    def of(cls, a: Any, b: Any) -> Change:
        return cls(a, b, None if a is None or b is None else b - a)

    def text(self, form: str) -> str:
        if self.a == self.b:
            return f"{show(self.a, form)} ="
        difference = "" if self.difference is None else f" ({show(self.difference, '+' + form)})"
        return f"{show(self.a, form)} -> {show(self.b, form)}{difference}"


@dataclass(frozen=True, slots=True)
class Movement:
    """How far the weight of a layer has moved from A to B.

    Attributes:
        relative: |B - A| / |A|, Euclidean norms of all elements; None where A is 0 and B is not.
        cosine: <A, B> / (|A| |B|), in [-1, 1]; None where either is 0.
        rank: of B - A as an (out, the rest) matrix: singular values above what rounding in the format of the weights
            gives, eps max(|A|, |B|) (sqrt(out) + sqrt(rest)); None where it was not asked for, or is not finite.
    """

    relative: float | None
    cosine: float | None
    rank: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A layer of A and the one of B that it is compared with; one of them None where it has none.

    Attributes:
        a, b: the rows.
        state: "same" name and shape of the weight; "reshaped": same name, another shape; "renamed": same shape, another
            name; "only_a", "only_b".
        changes: by measure and field; numbers alone.
        divergence: of the two weights' distributions, a `netassay.network.Divergence`, where both rows have one.
        movement: of the weight itself, where both sides have weights of one shape.
    """

    a: Row | None
    b: Row | None
    state: State
    changes: Mapping[str, Mapping[str, Change]] = field(default_factory=dict)
    divergence: Any = None
    movement: Movement | None = None

    @property
    def row(self) -> Row:
        """That of A, else of B."""
        row = self.a or self.b
        assert row is not None
        return row

    @property
    def name(self) -> str:
        """In A, else in B."""
        return self.row.name


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparison:
    """Two networks, layer by layer; A is where changes start.

    Attributes:
        source_a, source_b: where they come from.
        measures: what is compared, in the order of A's rows.
        layers: pairs in the order of A, then what only B has.
        totals: numbers of the whole networks that both have, by name.
        missing: by side ("a", "b") and layer, why that side has no result of it, where it says so.
        notes: sentences about what could not be compared.
    """

    source_a: str
    source_b: str
    measures: tuple[str, ...]
    layers: tuple[Pair, ...]
    totals: Mapping[str, Change] = field(default_factory=dict)
    missing: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.layers)

    def __getitem__(self, name: str) -> Pair:
        """The first pair with a layer of this name, in A or in B. Raises UnknownLayer, a KeyError."""
        for side in ("a", "b"):
            for pair in self.layers:
                if getattr(getattr(pair, side), "name", None) == name:
                    return pair
        raise UnknownLayer(f"Comparison: got {name!r}, expected the name of a layer in either network")

    @property
    def equal(self) -> bool:
        """Whether all layers are of the same name and shape, and no number differs."""
        same = all(pair.state == "same" for pair in self.layers)
        moved = any(pair.movement is not None and pair.movement.relative != 0 for pair in self.layers)
        return same and not moved and not any(change.a != change.b for pair in self.layers for change in _changes(pair))

    def named(self, state: State) -> tuple[Pair, ...]:
        """The pairs of a state."""
        return tuple(pair for pair in self.layers if pair.state == state)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        both = sum(pair.a is not None and pair.b is not None for pair in self.layers)
        return f"<Comparison: layers {both}, only in A {len(self.named('only_a'))}, in B {len(self.named('only_b'))}>"

    def render(self, width: int | None = None) -> str:
        """As text, what moved most first; with the width of a terminal, columns that do not fit are left out."""
        both = sorted((pair for pair in self.layers if pair.a is not None and pair.b is not None), key=_rest)
        parts = [f"A  {printable(self.source_a)}\nB  {printable(self.source_b)}"]
        parts.append(table(_COLUMNS, both, width) if both else "no layer of A is one of B")
        wrapped = width or min(max(80, *map(len, "\n\n".join(parts).splitlines())), 120)
        notes = (f"  {note}" for note in self.notes)
        for heading, lines in (("totals", self._totals()), ("layers", self._differences()), ("notes", notes)):
            if text := wrap(lines, wrapped, 4):
                parts.append(f"{heading}\n{text}")
        return "\n\n".join(parts)

    def _totals(self) -> Iterator[str]:
        room = max(map(len, self.totals), default=0)
        for name, change in self.totals.items():
            whole = isinstance(change.a, int) and isinstance(change.b, int)
            yield f"  {name:<{room}}  {change.text(',' if whole else '.6g')}"

    def _differences(self) -> Iterator[str]:
        counts = {state: len(self.named(state)) for state in ("same", "renamed", "reshaped", "only_a", "only_b")}
        both = counts["same"] + counts["renamed"] + counts["reshaped"]
        yield f"  {both:,} in both, {counts['only_a']:,} only in A, {counts['only_b']:,} only in B" + (
            "; no number differs" if self.equal else ""
        )
        for state, heading, text in _DIFFERENCES:
            if pairs := self.named(state):
                told = ", ".join(text(pair, self) for pair in pairs[:_MOST_NAMES])
                more = f" and {len(pairs) - _MOST_NAMES:,} more" if len(pairs) > _MOST_NAMES else ""
                yield f"  {heading}: {told}{more}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, `netassay.comparison/1`; non-finite numbers are null, as in a report."""
        from netassay.report.encode import encode

        layers = [
            {**_fixed(pair), **pair.changes, "divergence": pair.divergence, "movement": pair.movement}
            for pair in self.layers
        ]
        found: dict[str, Any] = encode(
            {
                "schema": SCHEMA,
                "a": self.source_a,
                "b": self.source_b,
                "measures": self.measures,
                "totals": self.totals,
                "layers": layers,
                "missing": self.missing,
                "notes": self.notes,
            }
        )
        return found

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write strict JSON, whole or not at all."""
        from netassay.base import files
        from netassay.report.encode import dumps

        files.write(path, [dumps(self.to_dict())])

    def columns(self) -> dict[str, list[Any]]:
        """Column -> values, one per pair: what it is, then `measure.field.a`, `.b` and `.difference`."""
        found: dict[str, list[Any]] = {}
        for i, pair in enumerate(self.layers):
            cells = _fixed(pair)
            for measure, several in pair.changes.items():
                for name, change in several.items():
                    cells.update({f"{measure}.{name}.{key}": value for key, value in scalars(change)})
            if pair.divergence is not None:
                cells.update({f"divergence.{key}": value for key, value in scalars(pair.divergence)})
            if pair.movement is not None:
                cells.update({f"movement.{key}": value for key, value in scalars(pair.movement)})
            for key, value in cells.items():
                found.setdefault(key, [None] * len(self.layers))[i] = value
        return found

    def csv_text(self) -> str:
        """`columns` as CSV."""
        return csv_of(self.columns())

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write one line per pair."""
        from netassay.base import files

        files.write(path, [self.csv_text().encode("utf-8")])

    def to_frame(self) -> pandas.DataFrame:
        """The columns of `to_csv` as a pandas DataFrame. Raises ImportError without pandas."""
        return frame_of(self.columns(), "Comparison")


def _rest(pair: Pair) -> float:
    """How little a pair has changed: by its weight, else by the distributions of its weights."""
    if pair.movement is not None:
        return -(float("inf") if pair.movement.relative is None else pair.movement.relative)
    return -float(getattr(pair.divergence, "value", None) or 0.0)


def _changes(pair: Pair) -> Iterator[Change]:
    return (change for several in pair.changes.values() for change in several.values())


def _fixed(pair: Pair) -> dict[str, Any]:
    a, b = pair.a, pair.b
    return {
        "name": None if a is None else a.name,
        "name_b": None if b is None else b.name,
        "call": pair.row.call,
        "mode": pair.row.mode,
        "state": pair.state,
        "shape": None if a is None else a.shape,
        "shape_b": None if b is None else b.shape,
    }


def _shown(measure: str, name: str, form: str) -> Callable[[Pair], str | None]:
    def cell(pair: Pair) -> str | None:
        sides = (None if row is None else row.measures.get(measure) for row in (pair.a, pair.b))
        a, b = (getattr(result, name, None) for result in sides)
        return None if a is None and b is None else Change.of(a, b).text(form)

    return cell


def _of_movement(name: str) -> Callable[[Pair], Any]:
    return lambda pair: getattr(pair.movement, name, None)


def _of_divergence(name: str) -> Callable[[Pair], Any]:
    return lambda pair: getattr(pair.divergence, name, None)


def _size(row: Row | None) -> str:
    return "-" if row is None or row.shape is None else "x".join(map(str, row.shape))


_COLUMNS = (
    Column("layer", lambda pair: pair.name),
    Column("call", lambda pair: pair.row.call),
    Column("mode", lambda pair: pair.row.mode),
    Column("shape", lambda pair: _size(pair.a) if pair.row.calls is None and pair.row.shape else None, rank=6),
    Column("moved by", _of_movement("relative"), ".3g"),
    Column("cosine", _of_movement("cosine"), ".4f", rank=1),
    Column("rank", _of_movement("rank"), ",", rank=5),
    *(
        Column(one.heading, _shown(measure.name, one.field, one.form), rank=one.rank, right=True)
        for measure in MEASURES.values()
        for one in measure.compared
    ),
    Column("divergence", _of_divergence("value"), ".4f", rank=4),
    Column("by chance", _of_divergence("null_mean"), ".4f", rank=7),
    Column("p", _of_divergence("p_value"), ".2g", rank=9),
)


def _reason(pair: Pair, comparison: Comparison) -> str:
    other = "b" if pair.b is None else "a"
    reason = comparison.missing.get(other, {}).get(pair.name)
    return printable(pair.name) + (f" (in {other.upper()}: {printable(reason)})" if reason else "")


def _names(pair: Pair, comparison: Comparison) -> str:
    assert pair.a is not None
    assert pair.b is not None
    return f"{printable(pair.a.name)} -> {printable(pair.b.name)}"


_DIFFERENCES: tuple[tuple[State, str, Callable[[Pair, Comparison], str]], ...] = (
    ("only_a", "only in A", _reason),
    ("only_b", "only in B", _reason),
    ("renamed", "renamed, taken for the same by shape and order", _names),
    ("reshaped", "another shape", lambda pair, _: f"{printable(pair.name)} {_size(pair.a)} -> {_size(pair.b)}"),
)
