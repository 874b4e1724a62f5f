"""Numbers that are not numbers never enter what a watch measures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netassay as na
from python.models import data


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


def test_one_row_keeps_its_place_in_the_report_with_value_none() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with na.watch(model) as watch:
        model(data(1, 4))
    row = watch.report()["0"]
    assert (row.saturation.value, row.effective_dimension.value, row.saturation.samples) == (None, None, 1)
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
    assert {finding.layer for finding in report.findings if "zero variance" in finding.message} == {"0", "1"}


def test_a_layer_of_width_one_is_measured() -> None:
    model = nn.Sequential(nn.Linear(4, 1))
    with na.watch(model) as watch:
        model(data(100, 4))
    assert watch.report()["0"].saturation.value == 1.0
