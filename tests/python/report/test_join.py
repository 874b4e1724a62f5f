"""Two reports in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from netassay.report import Coverage, Report, Skipped, join
from python.reports import TOTALS, row, site, weight


def test_joined_rows_carry_weights_where_the_bare_name_leads(report: Report) -> None:
    both = join(report, Report((weight("conv"), weight("fc"), weight("new")), totals=TOTALS))
    assert [(r.name, r.mode) for r in both] == [
        *(("conv", "train"), ("conv", "eval"), ("fc", "train"), ("fc", "eval"), ("new", None)),
    ]
    assert set(both["fc"].measures) == {"saturation", "effective_dimension", "persistence"}
    assert "persistence" not in both["fc", "train"].measures
    assert both["fc"].kind == "Linear"
    assert both.totals == {**report.totals, **TOTALS}
    assert both.provenance == report.provenance


def test_a_layer_with_several_call_sites_keeps_its_weight_in_a_row_of_its_own() -> None:
    sites = Report((row("fc", "eval", call=0), row("fc", "eval", call=1)))
    both = join(sites, Report((weight("fc"),)))
    assert [(r.name, r.call, r.mode) for r in both] == [("fc", 0, "eval"), ("fc", 1, "eval"), ("fc", None, None)]
    assert both["fc", None, None].persistence.total == 3.25


def test_joined_coverage_skips_only_what_neither_measured(report: Report) -> None:
    skipped = (Skipped("fc", "one axis", 9), Skipped("norm", "one axis", 9))
    other = Coverage(3, skipped, 5000, 6000, {"a": ("b",)}, ("n",))
    coverage = join(report, Report((weight("head"),), other)).coverage
    assert [skipped.name for skipped in coverage.skipped] == ["big", "norm"]
    assert (coverage.measured, coverage.parameters_measured, coverage.parameters_total) == (3, 5000, 6000)
    assert (coverage.aliases, coverage.notes) == ({"a": ("b",), "fc": ("tied",)}, ("attached after 3 passes", "n"))


def test_sites_and_distributions_read_back_as_they_were_written_and_have_tables_of_their_own(tmp_path: Path) -> None:
    report = Report((site(), site("relu", mode="train"), site("gelu", call=1)))
    report.to_json(tmp_path / "report.json")
    loaded = Report.load(tmp_path / "report.json")
    assert loaded == report
    assert loaded["relu"].complexity.position_bits.shape == (3, 2)
    assert str(report).count("bits/position") == 1
    assert str(report).count("strength") == str(report).count("activation") == 3


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import netassay.report; "
        "print(sorted({'torch', 'numpy', 'pandas', 'rich', 'netassay._core'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
