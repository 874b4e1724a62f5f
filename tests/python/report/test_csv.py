"""A report in CSV and in pandas."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from netassay.report import Report
from python.reports import HOSTILE, row, saturation


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_one_line_a_row_of_exact_scalars_without_arrays(report: Report, tmp_path: Path) -> None:
    value = 0.1 + 0.2
    rows = (
        row("a", measures={"saturation": saturation(value, flags=("few_rows", "sampled"))}),
        *report.layers,
    )
    Report(rows).to_csv(tmp_path / "r.csv")
    lines = read_csv(tmp_path / "r.csv")
    assert len(lines) == 5 == len((tmp_path / "r.csv").read_text().splitlines()) - 1
    first, second = lines[:2]
    assert float(first["saturation.value"]) == value
    assert first["saturation.flags"] == "few_rows sampled"
    assert first["shape"] == "64 32"
    assert first["effective_dimension.value"] == ""
    assert second["effective_dimension.value"] == "12.25"
    assert not any("eigenvalues" in name for name in first)


def test_csv_cells_are_no_formulas_and_hold_no_control_characters(tmp_path: Path) -> None:
    names = [*HOSTILE, "+1", "\t=1", "  =1", "\uff1d1"]
    Report(tuple(row(name, measures={}) for name in names)).to_csv(tmp_path / "r.csv")
    text = (tmp_path / "r.csv").read_text("utf-8")
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(text.splitlines()) == len(names) + 1
    cells = [line["name"] for line in read_csv(tmp_path / "r.csv")]
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))]
    assert cells[HOSTILE.index("=1+1")] == "'=1+1"
    assert cells[HOSTILE.index("two\nlines\r\n")] == r"two\nlines\r\n"


def test_frame_has_the_columns_of_csv_with_typed_values(report: Report, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    rows = (row("a", measures={"saturation": saturation(n=2**60 + 1)}), row("b", measures={}))
    table = Report(rows).to_frame()
    assert table["saturation.rows"].tolist()[0] == 2**60 + 1
    assert table["saturation.value"].tolist()[0] == 0.5
    assert table["shape"].tolist() == [(64, 32), (64, 32)]
    report.to_csv(tmp_path / "r.csv")
    assert list(report.to_frame().columns) == list(read_csv(tmp_path / "r.csv")[0])
    assert len(Report().to_frame()) == 0


def test_frame_without_pandas_says_what_to_install(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"^Report.to_frame: expected pandas"):
        report.to_frame()
