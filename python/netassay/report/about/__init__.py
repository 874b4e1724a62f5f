"""What a report holds of each measure: one module a stem, each with one `ABOUT`; measures.py lists them.

Nothing here loads numpy or torch: result classes go by module and name until one is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from netassay.report.about.cells import Column, Table
from netassay.report.rows import Finding, Row

#: What a measure is made of, in the order in which measures are listed and compared.
Source = Literal["activations", "weights", "structure"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a result class is defined."""

    module: str
    name: str

    def load(self) -> Any:
        """The class."""
        return getattr(import_module(self.module), self.name)


@dataclass(frozen=True, slots=True)
class Compared:
    """A number of a result that the table of a comparison shows: its field and its column."""

    field: str
    heading: str
    form: str
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure that rows of a report may hold.

    Attributes:
        name: its key in `row.measures` and in JSON.
        result: class of its results.
        source: what it is made of.
        compared: the numbers that a comparison shows.
        by_call: whether its results are of single calls: a row without a number of the call is then of the first one.
    """

    name: str
    result: Place
    source: Source
    compared: tuple[Compared, ...] = ()
    by_call: bool = False


@dataclass(frozen=True, slots=True)
class Total:
    """A number of the whole network, or several under one name.

    Attributes:
        name: its key in `report.totals` and in JSON.
        say: puts a value into words; where it returns None, and without it, numbers are shown one by one.
        by_mode: whether the value has a member for each mode, and `say` takes one member.
        heading: name of the line in words; None: `name`.
        shown: "filled": only where the value is neither empty nor 0; "never": in files alone.
        result: class that a file's value is read back as.
        field_of: class whose field of the same name describes the value in the JSON Schema.
        members_of: class whose fields describe the value's members in the JSON Schema, beside its flags.
        needed: those members that are never left out.
    """

    name: str
    say: Callable[[Any], str | None] | None = None
    by_mode: bool = False
    heading: str | None = None
    shown: Literal["always", "filled", "never"] = "always"
    result: Place | None = None
    field_of: Place | None = None
    members_of: Place | None = None
    needed: tuple[str, ...] = ()


def _nothing(rows: Sequence[Row], totals: Mapping[str, Any]) -> tuple[Finding, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class About:
    """Everything that a report holds of the measures of one stem.

    Attributes:
        measures: what rows may hold.
        totals: what the whole network may hold.
        columns: what the stem adds to the table that measures share, in order.
        tables: those of its own; a measure of theirs is not shown in the shared one.
        findings: what follows from the rows and the totals of a report.
    """

    measures: tuple[Measure, ...]
    totals: tuple[Total, ...] = ()
    columns: tuple[Column, ...] = ()
    tables: tuple[Table, ...] = ()
    findings: Callable[[Sequence[Row], Mapping[str, Any]], tuple[Finding, ...]] = _nothing
