"""Report: what was measured, in one value that prints, indexes, saves and loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

from netassay.report.rows import Coverage, Finding, Key, Row, UnknownLayer, arrange, find

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Report:
    """The rows of every layer measured, with what was covered, what was found and where it came from.

    `report[name]` is the eval row of a layer, else train, else the one without a mode; `report[name, mode]`,
    `report[name, call]` and `report[name, call, mode]` say which. Two reports are equal when they say the
    same in JSON, so a report equals its own saved and loaded copy.

    Attributes:
        layers: rows in order of first call (else of storage); train before eval at the layer's first place.
        coverage: what was measured and what was skipped, with reasons.
        totals: numbers of the whole network.
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
        from netassay.report.encode import encode_report

        return encode_report(self, volatile=volatile)

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
        from netassay.report.decode import load

        return cls(**load(path))

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write one line per row; scalars of a measure are columns `measure.field`, arrays are left out."""
        from netassay.base import files
        from netassay.report.show.tables import csv_text

        files.write(path, [csv_text(self.layers).encode("utf-8")])

    def to_frame(self) -> pandas.DataFrame:
        """The columns of `to_csv` as a pandas DataFrame. Raises ImportError without pandas."""
        from netassay.report.show.tables import frame

        return frame(self.layers)
