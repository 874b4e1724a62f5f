"""Numbers that are not numbers never enter what a watch measures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netassay as na
from netassay.report import Report
from python.models import data, seeded


class Spoil(nn.Module):
    """Puts a value into one unit of one row of what passes."""

    def __init__(self, row: int, value: float) -> None:
        super().__init__()
        self.row, self.value = row, value

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[self.row, 1] = self.value
        return x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_a_row_with_a_nan_leaves_the_state_as_without_it_bit_for_bit(value: float, dtype: torch.dtype) -> None:
    batch = data(20, 6, dtype=dtype)
    bad, good = Spoil(7, value), nn.Identity()
    with na.watch(bad, layers="(root)") as spoiled, na.watch(good, layers="(root)") as clean:
        bad(batch)
        good(batch[torch.arange(20) != 7])
    ours, theirs = spoiled.states["(root)", "train"], clean.states["(root)", "train"]
    assert ours.nonfinite == 1
    assert ours.count == 19
    np.testing.assert_array_equal(ours.scatter, theirs.scatter)
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    row = spoiled.report()["(root)"]
    assert "nonfinite" in row.saturation.flags
    assert any("NaN" in finding.message for finding in spoiled.report().findings)


def test_a_layer_of_nothing_but_nans_keeps_its_row_without_a_value() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with na.watch(model) as watch:
        model(torch.full((10, 4), float("nan")))
    row = watch.report()["0"]
    assert row.saturation.value is None
    assert {"too_few_rows", "nonfinite"} <= set(row.saturation.flags)
    assert watch.states["0", "train"].nonfinite == 10


class Burst(nn.Module):
    """Puts NaNs into rows of its input in some of its calls."""

    def __init__(self, rows: dict[int, int]) -> None:
        super().__init__()
        self.rows, self.call = rows, 0

    def forward(self, x: Tensor) -> Tensor:
        self.call += 1
        x = x.clone()
        x[: self.rows.get(self.call, 0)] = float("nan")
        return x


def test_the_first_layer_and_pass_with_a_nan_are_named_with_the_share_of_its_rows(tmp_path: Path) -> None:
    def build() -> nn.Sequential:
        return seeded(lambda: nn.Sequential(Burst({5: 4}), nn.Linear(4, 4), Burst({3: 2}), nn.Linear(4, 2)))

    model = build()
    watch = na.watch(model, layers=["0", "1", "2", "3"])
    for _ in range(2):
        model(data(10, 4))
    watch.save(tmp_path / "w.safetensors")
    again = na.watch(other := build(), layers=["0", "1", "2", "3"])
    again.restore(tmp_path / "w.safetensors")
    for module, twin in zip(model, other, strict=True):
        if isinstance(module, Burst):
            twin.call = module.call
    for _ in range(3):
        model(data(10, 4))
        other(data(10, 4))
    for one in (watch, again):
        report = one.report()
        (found,) = (f for f in report.findings if f.kind == "nonfinite_activations")
        assert found.message.startswith(
            "2: 12 % of its rows hold a NaN or an infinity, first in pass 3 (train); 3 more"
        )
        assert found.evidence["layers"] == ["0", "1", "2", "3"]
        assert (found.layer, found.evidence["pass"], found.evidence["share"]) == ("2", 3, 6 / 50)
        assert "flags" not in report.totals  # every layer has rows left
        assert Report.from_dict(report.to_dict()) == report


def test_totals_that_would_miss_layers_of_nothing_but_nans_are_null_and_flagged() -> None:
    layers = [nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)]
    model = seeded(lambda: nn.Sequential(*layers)).eval()
    with torch.no_grad():
        model[2].weight.fill_(float("nan"))
    with na.watch(model, measures=("saturation", "complexity")) as watch:
        model(data(400, 8))
    report = watch.report()
    assert report["0"].saturation.value is not None
    assert report.totals["saturation"] == report.totals["effective_dimension"] == {"eval": None}
    assert report.totals["complexity"]["eval"]["mean_channel"] is None
    nulls = ("saturation.eval", "effective_dimension.eval", "complexity.eval")
    assert report.totals["flags"] == dict.fromkeys(nulls, ("nonfinite_layers",))
    assert re.search(r"saturation.eval +- \(nonfinite_layers\)\n", str(report))
    assert re.search(r"complexity.eval +not known: some of its 2 sites met a NaN", str(report))
    assert [f.kind for f in report.findings] == ["nonfinite_activations"]
    assert report.findings[0].layer == "2"
    assert not any(name.startswith("saturation.eval") for name in report.scalars())


def test_one_row_keeps_its_place_in_the_report_with_value_none() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with na.watch(model) as watch:
        model(data(1, 4))
    row = watch.report()["0"]
    assert (row.saturation.value, row.effective_dimension.value, row.saturation.rows) == (None, None, 1)
    assert row.saturation.flags == ("too_few_rows",)
    assert "0" in str(watch.report())


def test_few_rows_for_the_width_are_flagged_and_found() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with na.watch(model) as watch:
        model(data(95, 4))
        assert "few_rows" in watch.report()["0"].saturation.flags
        assert any("32 x width" in finding.message for finding in watch.report().findings)
        model(data(1, 4))
        assert "few_rows" not in watch.report()["0"].saturation.flags


def test_an_empty_batch_is_no_row_and_no_fault() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with na.watch(model) as watch:
        model(data(0, 4))
        model(data(5, 4))
    assert {state.count for state in watch.states.values()} == {5}
    assert not watch.report().coverage.skipped


def test_a_constant_layer_is_0_flagged_and_found() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    nn.init.zeros_(model[0].weight)
    with na.watch(model) as watch:
        model(data(100, 4))
    report = watch.report()
    for row in report.layers:
        assert (row.saturation.value, row.saturation.dimension, row.effective_dimension.value) == (
            0.0,
            0,
            1.0,
        )
        assert "constant" in row.saturation.flags
    (found,) = (finding for finding in report.findings if finding.kind == "constant")
    assert (found.level, found.layer, found.evidence["layers"]) == ("problem", "0", ["0", "1"])


def test_a_layer_of_width_one_is_measured() -> None:
    model = nn.Sequential(nn.Linear(4, 1))
    with na.watch(model) as watch:
        model(data(100, 4))
    assert watch.report()["0"].saturation.value == 1.0
