"""The report of a structure: text, JSON, CSV, joined with what ran, and what follows from both."""

from __future__ import annotations

import csv
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from torch import nn

import netassay
from netassay import Report, measure_structure
from netassay.algebra import Algebra
from netassay.report import Row, findings, join
from netassay.report.schema import schema
from netassay.report.show.text import render
from netassay.saturation import Saturation
from python import llama
from python.architectures import Branches, Residual, SharedModules, TwoInputs, TwoOutputs
from python.models import ConvNet, Encoder, Mlp, Wrap, data, tokens


def tiny() -> Report:
    """2 -> 4 -> 2, small enough to check every number by hand."""
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    return measure_structure(model, data(1, 2))


REPORTS = {
    "chain": tiny,
    "cnn": lambda: measure_structure(ConvNet(), data(1, 2, 8, 8)),
    "branches": lambda: measure_structure(Branches(), data(1, 3, 8, 8)),
    "encoder": lambda: measure_structure(Encoder(), tokens(1, 4)),
    "two inputs": lambda: measure_structure(TwoInputs(), (data(1, 6), data(1, 4))),
    "two outputs": lambda: measure_structure(TwoOutputs(), data(1, 6)),
    "deep": lambda: measure_structure(Residual(blocks=60), data(1, 6)),
    "decoder": lambda: measure_structure(llama.small(), torch.ones(1, 5, dtype=torch.int64)),
}


@pytest.fixture(scope="module", params=REPORTS)
def report(request: pytest.FixtureRequest) -> Report:
    return REPORTS[request.param]()


# ---- files ----


def test_json_reads_back_as_the_same_report(report: Report, tmp_path: Path) -> None:
    report.to_json(tmp_path / "r.json")
    loaded = Report.load(tmp_path / "r.json")
    assert loaded == report
    assert str(loaded) == str(report)
    assert all(isinstance(row.algebra, Algebra) for row in loaded)


def test_json_is_valid_by_the_schema(report: Report) -> None:
    jsonschema.Draft202012Validator(schema()).validate(json.loads(json.dumps(report.to_dict(), allow_nan=False)))


def test_integers_that_readers_would_round_are_text_in_json_and_whole_when_read(tmp_path: Path) -> None:
    report = REPORTS["deep"]()
    totals = report.to_dict()["totals"]
    assert totals["layer_paths"] == str(2**60)
    assert totals["path_lengths"][:2] == [1, 60]
    assert totals["path_lengths"][30] == str(math.comb(60, 30))
    report.to_json(tmp_path / "r.json")
    read = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["totals"]
    assert sum(map(int, read["path_lengths"])) == int(read["layer_paths"]) == report.totals["layer_paths"]


def test_csv_has_one_line_per_row_and_a_column_per_number(report: Report, tmp_path: Path) -> None:
    report.to_csv(tmp_path / "r.csv")
    with open(tmp_path / "r.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == [row.name for row in report]
    for line, row in zip(lines, report, strict=True):
        for field in ("macs", "cut", "log2_paths", "log2_paths_exact", "path_share", "region_bits", "bottleneck"):
            value = getattr(row.algebra, field)
            assert line[f"algebra.{field}"] == ("" if value is None else str(value))


def test_every_number_of_a_report_is_finite_or_none_and_in_its_range(report: Report) -> None:
    for row in report:
        found = row.algebra
        for value in (found.log2_paths, found.log2_paths_exact, found.path_share, found.region_bits):
            assert value is None or math.isfinite(value)
        if "no_input_path" not in found.flags:
            assert found.intrinsic_power >= 0
            assert 0 < found.cut <= report.totals["input_units"]
            assert found.bottleneck <= found.cut
            assert found.intrinsic_power == pytest.approx(math.log2(report.totals["input_units"] / found.cut))
    assert sum(report.totals["path_lengths"]) == report.totals["layer_paths"]


def test_exact_counts_are_near_the_approximate_ones_and_below_them_only_at_borders(report: Report) -> None:
    """Padding is what the transfer functions leave out; without it both agree."""
    approximate, exact = report.totals["log2_paths"], report.totals["log2_paths_exact"]
    assert exact is not None
    padded = any((row.shape or ()) and len(row.shape) == 4 for row in report)
    assert exact <= approximate * (1 + 1e-12) if padded else exact == pytest.approx(approximate, rel=1e-9)


def test_a_decoder_without_convolutions_has_no_receptive_field() -> None:
    report = REPORTS["decoder"]()
    assert {row.algebra.receptive_field for row in report} == {None}
    assert "stride_mismatch" not in report.totals["flags"].get("algebra", ())


# ---- text ----


GOLDEN = """\
layer   kind     shape   parameters   macs   path bits   region bits   cut   power
----------------------------------------------------------------------------------
0       Linear   4x2             12      8        1.00             0     2    0.00
1       ReLU                      0      0        1.00             3     2    0.00
2       Linear   2x4             10      8        3.00             0     2    0.00

totals
  parameters        22
  macs              16
  log2_paths        3
  log2_paths_exact  3
  layer_paths       1
  path_lengths      2 weighted layers
  region_bits       3.45943
  intrinsic_power   0
  input_units       2
  output_units      2
  output_cut        2
  vc_bound          244.369
  serra_regions     11

coverage
  layers: 3 measured, 0 skipped; parameters: 22 of 22 measured"""


def test_the_text_of_a_small_network() -> None:
    """Regions: 1 + 4 + 6 = 11, log2 is 3.459; VC: 2 + 29 log2(24 e log2(12 e))."""
    text = str(tiny())
    assert text.replace("\u2500", "-") == GOLDEN
    bound = 2 + 29 * math.log2(24 * math.e * math.log2(12 * math.e))
    assert tiny().totals["vc_bound"] == pytest.approx(bound)


def test_a_narrow_terminal_leaves_columns_out_and_says_which() -> None:
    text = render(REPORTS["encoder"](), 80)
    assert "(not shown in 80 columns: " in text
    prose = text[text.index("\ntotals") :]
    assert max(map(len, prose.splitlines())) <= 80


def test_a_large_count_is_a_power_of_two_in_the_text() -> None:
    text = str(REPORTS["deep"]())
    assert "2^60\n" in text
    assert "0 to 60 weighted layers" in text


def test_a_field_is_one_number_where_the_axes_agree_and_all_where_it_covers_the_input() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, (3, 1)), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(96, 4))
    report = measure_structure(model, data(1, 2, 10, 10))
    fields = [line.split()[-1] for line in str(report).splitlines()[2:5]]
    assert fields == ["3x1", "5x3", "all"]
    assert [row.algebra.receptive_field for row in report] == [(3, 1), (5, 3), None]


def test_hostile_names_of_parameters_and_modules_are_escaped() -> None:
    model = nn.Sequential()
    model.add_module("\x1b[31mred", nn.Linear(2, 2))
    text = str(measure_structure(model, data(1, 2)))
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text


# ---- joined with what ran ----


def watched(model: nn.Module, *shape: int) -> Report:
    watch = netassay.watch(model)
    for mode in (True, False):
        model.train(mode)(data(*shape))
    report = watch.report()
    watch.close()
    return report


def test_structure_goes_to_the_row_of_what_ran_and_keeps_rows_of_its_own() -> None:
    model = Mlp()
    ran, structure = watched(model, 700, 6), measure_structure(model, data(1, 6))
    both = join(ran, structure)
    assert both["fc1"].saturation.value == ran["fc1"].saturation.value
    assert both["fc1"].algebra is structure["fc1"].algebra
    assert both["fc1"].mode == "eval"
    assert "algebra" not in both["fc1", "train"].measures
    assert both["(root):relu"].algebra is structure["(root):relu"].algebra
    assert both.totals == {**ran.totals, **structure.totals}
    assert both.coverage.parameters_measured == both.coverage.parameters_total == 368
    assert {row.name for row in both} == {row.name for row in ran} | {row.name for row in structure}
    assert both.provenance == ran.provenance


def test_a_layer_that_was_called_twice_keeps_its_rows_and_gets_its_call_sites() -> None:
    model = SharedModules()
    ran, structure = watched(model, 700, 6), measure_structure(model, data(1, 6))
    both = join(ran, structure)
    assert both["shared", "eval"].saturation.value == ran["shared"].saturation.value
    for site in (0, 1):
        assert both["shared", site].algebra is structure["shared", site].algebra
    assert both["first"].algebra is structure["first"].algebra


def test_what_could_be_read_by_name_before_still_can() -> None:
    model = SharedModules()
    ran = watched(model, 700, 6)
    assert ran["shared"].saturation.value == join(ran, measure_structure(model, data(1, 6)))["shared"].saturation.value


def test_a_joined_report_prints_saves_and_reads_back(tmp_path: Path) -> None:
    model = ConvNet()
    both = join(watched(model, 40, 2, 8, 8), measure_structure(model, data(1, 2, 8, 8)))
    both.to_json(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == both
    jsonschema.Draft202012Validator(schema()).validate(both.to_dict())
    text = str(both)
    assert "saturation" in text
    assert "path bits" in text


# ---- findings ----


def described(**fields: Any) -> Algebra:
    values = dict.fromkeys(Algebra.__dataclass_fields__)
    return Algebra(**{**values, "macs": 0, "parameters": 0, "flags": (), **fields})


def ran(name: str, saturation: float, **algebra: Any) -> Row:
    found = Saturation(
        value=saturation,
        dimension=round(64 * saturation),
        width=64,
        delta=0.99,
        eigenvalues=np.linspace(1.0, 0.1, 64),
        rows=4096,
        samples=4096,
        flags=(),
    )
    measures = {"saturation": found, **({"algebra": described(**algebra)} if algebra else {})}
    return Row(name, None, "eval", "Conv2d", (64, 64, 3, 3), 36928, 7, measures)


def tail(covering: int | None) -> str:
    """The tail finding of five layers of which the last two before the classifier are a tail."""
    covers = [covering is not None and place >= covering for place in range(5)]
    options = [
        {} if covering is None else {"flags": ("covers_input",) if covered else (), "receptive_field": (9, 9)}
        for covered in covers
    ]
    values = (0.6, 0.5, 0.1, 0.1, 0.9)
    rows = [ran(f"conv{i}", value, **options[i]) for i, value in enumerate(values)]
    (finding,) = findings(rows)
    assert finding.evidence["first"] == "conv2"
    return finding.message


def test_the_tail_says_from_where_its_layers_see_the_whole_input() -> None:
    assert "; one position of theirs depends on the whole input already" in tail(2)
    assert "; one position depends on the whole input from conv3 on" in tail(3)
    assert "whole input" not in tail(4)
    assert "whole input" not in tail(None)
    assert tail(None) == tail(4)


def test_findings_of_a_joined_report_are_made_of_both() -> None:
    def plain(rows: list[Row]) -> Report:
        return Report(tuple(rows), findings=findings(rows))

    alone = plain([ran(f"conv{i}", value) for i, value in enumerate((0.6, 0.5, 0.1, 0.1, 0.9))])
    structure = [
        Row(f"conv{i}", None, None, "Conv2d", None, 0, None, {"algebra": described(flags=("covers_input",))})
        for i in range(5)
    ]
    both = join(alone, plain(structure))
    assert "whole input" not in alone.findings[0].message
    assert "depends on the whole input already" in both.findings[0].message


def test_an_output_that_is_narrower_than_its_units_is_found_where_it_is_narrow() -> None:
    model = nn.Sequential(nn.Linear(16, 2), nn.ReLU(), nn.Linear(2, 12))
    (finding,) = measure_structure(model, data(1, 16)).findings
    assert finding.message == (
        "the output's 12 units depend on 2 units at most, of 16 that enter; the network is that narrow at 0"
    )
    assert (finding.kind, finding.level, finding.layer) == ("narrow_output", "notice", "0")
    assert finding.evidence == {"cut": 2, "units": 12, "entering": 16}


def test_two_branches_of_one_bottleneck_are_as_narrow_as_it_is() -> None:
    def run(m: Any, x: Any) -> Any:
        x = m["narrow"](x)
        return torch.cat([m["left"](x), m["right"](x)], 1)

    layers = {"narrow": nn.Linear(32, 8), "left": nn.Linear(8, 8), "right": nn.Linear(8, 8)}
    report = measure_structure(Wrap(nn.ModuleDict(layers), run), data(1, 32))
    assert report.totals["output_cut"] == 8
    assert report["(root):cat"].algebra.cut == 8
    assert report.findings[0].layer == "inner.narrow"


def test_a_network_that_only_narrows_or_widens_has_nothing_to_be_found() -> None:
    for widths in ((16, 8, 4), (4, 8, 16)):
        model = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))
        assert measure_structure(model, data(1, widths[0])).findings == ()


# ---- what is not counted, and why ----


class Normalized(nn.Module):
    """A layer behind which paths are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(self.l(x), dim=-1).relu()


def test_an_exact_path_count_that_is_none_says_where_paths_were_lost_and_why() -> None:
    report = measure_structure(Normalized(), data(1, 5, 4))
    assert (report.totals["log2_paths_exact"], report["l"].algebra.log2_paths_exact) == (None, 2.0)
    (note,) = report.coverage.notes
    assert note == (
        "log2_paths_exact: the paths to the output are not counted: (root):expand_as: it depends on values that only"
        " the input gives"
    )
    assert measure_structure(Normalized(), data(1, 5, 4), exact=False).coverage.notes == ()
    assert measure_structure(nn.Linear(4, 6), data(1, 4)).coverage.notes == ()


def test_flags_of_totals_are_joined() -> None:
    one = Report(totals={"saturation": {"eval": None}, "flags": {"saturation.eval": ("nonfinite_layers",)}})
    two = Report(totals={"macs": 3, "flags": {"macs": ("lower_bound",)}})
    assert join(one, two).totals["flags"] == {"saturation.eval": ("nonfinite_layers",), "macs": ("lower_bound",)}
