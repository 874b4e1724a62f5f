"""Report: what was measured, in one value that prints, indexes, saves and loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from netassay.report.measures import MEASURES, TOTALS
from netassay.report.rows import ROW_FIELDS, Coverage, Finding, Key, Row, UnknownLayer, arrange, encode_row, find

if TYPE_CHECKING:
    import pandas

    from netassay.report.about import Place

SCHEMA = "netassay.report/1"


class Provenance(TypedDict, total=False):
    """The provenance that verbs give a report; there may be other members.

    Attributes:
        netassay, python, numpy, torch: versions; None where torch is not loaded.
        lapack: whose LAPACK made the eigenvalues.
        isa: instruction set of the kernels.
        threads: how many.
        seed: of what is drawn at random.
        created: when; the one member that differs between equal runs, and may be left out.
        source: where the numbers come from.
        wrappers: prefixes stripped from the names.
        fingerprint: hash of names, dtypes and shapes, never of the data.
    """

    netassay: str | None
    python: str | None
    numpy: str | None
    torch: str | None
    lapack: str | None
    isa: str | None
    threads: int | None
    seed: int | str | None
    created: str
    source: Any
    wrappers: Any
    fingerprint: str | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Report:
    """The rows of every layer measured, with what was covered, what was found and where it came from.

    `report[name]` is the eval row of a layer, else train, else the one without a mode; `report[name, mode]`,
    `report[name, call]` and `report[name, call, mode]` say which. Two reports are equal when they say the
    same in JSON, so a report equals its own saved and loaded copy.

    Attributes:
        layers: rows in order of first call (else of storage); train before eval at the layer's first place.
        coverage: what was measured and what was skipped, with reasons.
        totals: numbers of the whole network; "flags" holds, by the name of a number, what to know of it
            (docs/flags.md), {"saturation.eval": ("nonfinite_layers",)}.
        findings: sentences that follow from the rows.
        provenance: versions, seed, source; `created` alone differs between equal runs.
    """

    layers: tuple[Row, ...] = ()
    coverage: Coverage = field(default_factory=Coverage)
    totals: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", arrange(self.layers))

    def __getitem__(self, key: Key) -> Row:
        """The row of a key. Raises UnknownLayer, a KeyError, which lists or suggests what exists."""
        return find(self.layers, key, self.coverage)

    def __contains__(self, key: Key) -> bool:
        try:
            self[key]
        except UnknownLayer:
            return False
        return True

    def __iter__(self) -> Iterator[Row]:
        return iter(self.layers)

    def rows(self, measure: str) -> tuple[Row, ...]:
        """The rows that have a result of a measure, in order. Raises SelectionError: there is no such measure."""
        from netassay.base.errors import SelectionError

        if measure not in MEASURES:
            raise SelectionError(f"Report.rows: got {measure!r}, expected one of {', '.join(MEASURES)}")
        return tuple(row for row in self.layers if row.measures.get(measure) is not None)

    def scalars(self) -> dict[str, float]:
        """Every finite number by its name, flat, as loggers of training runs take them.

        Totals come first, "complexity.eval.mean_position", then what rows have, "relu1/eval/complexity.mean_channel",
        or "relu/1/eval/..." for a layer of several calls: the names of `History.quantities`.
        """
        from netassay.report.scalars import numbers, several_calls

        return dict(numbers(self.layers, self.totals, several_calls(self.layers)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Report):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __str__(self) -> str:
        from netassay.report.show.text import render

        return render(self)

    def __repr__(self) -> str:
        names = len({row.name for row in self.layers})
        return f"<Report: layers {names}, rows {len(self.layers)}, findings {len(self.findings)}>"

    def to_dict(self, *, volatile: bool = True) -> dict[str, Any]:
        """The report as plain JSON values (`netassay.report/1`); volatile=False leaves out `created`."""
        from netassay.report.encode import encode, encode_totals

        kept = {key: value for key, value in self.provenance.items() if volatile or key != "created"}
        return {
            "schema": SCHEMA,
            "provenance": encode(kept),
            "coverage": encode(self.coverage),
            "totals": encode_totals(self.totals),
            "layers": [encode_row(row) for row in self.layers],
            "findings": encode(self.findings),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Report:
        """The report that `to_dict` made the values of. Raises ValueError naming the field."""
        from netassay.report.decode import complete, decode, expected, members_of

        members = members_of(data, "report")
        if members.get("schema") != SCHEMA:
            raise expected("schema", members.get("schema"), repr(SCHEMA))
        names = ("schema", "provenance", "coverage", "totals", "layers", "findings")
        complete(members, names, names, "report")
        rows = members["layers"]
        if not isinstance(rows, list):
            raise expected("layers", rows, "a list")
        return cls(
            layers=tuple(_decode_row(row, f"layers[{i}]") for i, row in enumerate(rows)),
            coverage=decode(Coverage, members["coverage"], "coverage"),
            totals={key: _decode_total(key, value) for key, value in members_of(members["totals"], "totals").items()},
            findings=decode(tuple[Finding, ...], members["findings"], "findings"),
            provenance=decode(Mapping[str, Any], members["provenance"], "provenance"),
        )

    def to_json(self, path: str | PathLike[str], *, volatile: bool = True) -> None:
        """Write strict JSON, whole or not at all; volatile=False leaves out `created`, so that files diff."""
        from netassay.base import files
        from netassay.report.encode import dumps

        files.write(path, [dumps(self.to_dict(volatile=volatile))])

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Report:
        """Read a report written by `to_json`.

        Raises FileNotFoundError, and StateError where the file is no report of this schema, naming the field.
        """
        from netassay.base.errors import StateError
        from netassay.report.decode import loads

        data = Path(path).read_bytes()
        try:
            return cls.from_dict(loads(data))
        except (ValueError, OverflowError, RecursionError) as error:
            raise StateError(f"Report.load: {fspath(path)}: {error}") from error

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write one line per row; scalars of a measure are columns `measure.field`, arrays are left out."""
        from netassay.base import files
        from netassay.report.show.tables import csv_text

        files.write(path, [csv_text(self.layers).encode("utf-8")])

    def to_frame(self) -> pandas.DataFrame:
        """The columns of `to_csv` as a pandas DataFrame. Raises ImportError without pandas."""
        from netassay.report.show.tables import frame

        return frame(self.layers)


def _decode_row(data: Any, where: str) -> Row:
    """A row; every member that is no field of Row must be a measure this version knows."""
    from netassay.report.decode import decode_fields, members_of

    plain: dict[str, Any] = {}
    measures: dict[str, Any] = {}
    for key, value in members_of(data, where).items():
        if key in ROW_FIELDS:
            plain[key] = value
        elif key in MEASURES:
            measures[key] = _decode_result(MEASURES[key].result, value, f"{where}.{key}")
        else:
            known = ", ".join((*ROW_FIELDS, *MEASURES))
            raise ValueError(f"{where}: got the field {key!r}, expected only {known}")
    return Row(**decode_fields(Row, plain, where, ROW_FIELDS), measures=measures)


def _decode_total(key: str, value: Any) -> Any:
    """A number of the whole network: a result where one goes by this name, else as the file has it."""
    result = TOTALS[key].result if key in TOTALS else None
    return value if result is None else _decode_result(result, value, f"totals.{key}")


def _decode_result(place: Place, value: Any, where: str) -> Any:
    from netassay.report.decode import decode

    return decode(place.load() | None, value, where)
