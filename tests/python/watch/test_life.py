"""What a watch reports, and how it pauses, clears and ends."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netassay as na
from python.models import EXACT, ConvNet, Mlp, assert_is_state_of, data, equal, recording, same_states, seeded
from reference import saturation as reference

pytestmark = pytest.mark.native

F64 = torch.float64


# --- the report ---------------------------------------------------------------------------------------


def test_a_report_has_the_reference_values_of_each_layer_and_mode() -> None:
    model = seeded(ConvNet)
    with recording(model) as seen, na.watch(model, precision="exact", delta=0.9) as watch:
        for training in (True, False):
            model.train(training)
            model(data(40, 2, 8, 8))
    report = watch.report()
    assert [(row.name, row.mode) for row in report.layers] == [
        (name, mode) for name in ("conv1", "conv2", "fc") for mode in ("train", "eval")
    ]
    for row in report.layers:
        eig = reference.eigenvalues(reference.covariance(np.concatenate(seen[row.name, row.mode])))
        assert row.saturation.delta == 0.9
        assert row.saturation.dimension == reference.dimension(eig, 0.9)
        assert row.saturation.value == reference.saturation(eig, 0.9)
        assert row.effective_dimension.value == pytest.approx(reference.effective_dimension(eig), rel=1e-8)
        assert row.effective_dimension.stable_rank == pytest.approx(reference.stable_rank(eig), rel=1e-8)
    assert report["conv1"].mode == "eval"
    assert report["conv1"].shape == (6, 2, 3, 3)
    assert report["fc"].parameters == 27


def test_coverage_counts_layers_and_parameters() -> None:
    model = seeded(ConvNet)
    with na.watch(model, layers=["*", "!conv2"]) as watch:
        model(data(4, 2, 8, 8))
    coverage = watch.report().coverage
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in model.named_children()}
    assert coverage.measured == 2
    assert coverage.parameters_measured == counts["conv1"] + counts["fc"]
    assert coverage.parameters_total == sum(counts.values())


def test_a_report_changes_nothing_and_can_be_had_at_any_time() -> None:
    def run(reports: bool) -> Any:
        model = seeded(Mlp)
        watch = na.watch(model)
        for seed in range(4):
            model(data(5, 6, seed=seed))
            if reports:
                first_time, again = watch.report(), watch.report()
                assert first_time.to_dict(volatile=False) == again.to_dict(volatile=False)
        watch.close()
        return watch

    torch.manual_seed(0)
    asked = run(reports=True)
    torch.manual_seed(0)
    silent = run(reports=False)
    assert same_states(asked, silent)


def test_equal_runs_write_equal_files(tmp_path: Any) -> None:
    for name in ("a.json", "b.json"):
        torch.manual_seed(0)
        model = seeded(ConvNet)
        with na.watch(model, max_rows=7) as watch:
            model(data(4, 2, 8, 8))
        watch.report().to_json(tmp_path / name, volatile=False)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["schema"] == "netassay.report/1"
    assert na.Report.load(tmp_path / "a.json")["fc"].saturation.width == 3


def test_a_report_prints_every_layer() -> None:
    model = seeded(ConvNet)
    with na.watch(model) as watch:
        model(data(4, 2, 8, 8))
    text = str(watch.report())
    assert all(name in text for name in ("conv1", "conv2", "fc"))


def test_a_report_outlives_the_watch_and_does_not_follow_it() -> None:
    model = seeded(Mlp)
    with na.watch(model) as watch:
        model(data(4, 6))
        report = watch.report()
        model(data(4, 6, seed=1))
    assert report["fc1"].saturation.rows == 4
    assert watch.report()["fc1"].saturation.rows == 8


# --- the life of a watch ------------------------------------------------------------------------------


def test_nothing_is_recorded_while_paused_and_after_closing() -> None:
    model = seeded(Mlp)
    watch = na.watch(model)
    model(data(4, 6))
    watch.pause()
    model(data(5, 6))
    watch.resume()
    model(data(6, 6))
    watch.close()
    model(data(7, 6))
    assert {state.count for state in watch.states.values()} == {10}
    watch.close()
    assert watch.report()["fc1"].saturation.rows == 10
    with pytest.raises(RuntimeError, match="closed"):
        watch.resume()


def test_reset_forgets_everything() -> None:
    torch.manual_seed(0)
    model = seeded(lambda: Mlp(dropout=0.0))
    with na.watch(model, max_rows=3) as watch, na.watch(model, max_rows=3) as other:
        model(data(4, 6))
        watch.reset()
        with pytest.raises(na.NothingObserved):
            watch.report()
        model(data(5, 6, seed=1))
    assert watch.states["fc1", "train"].count == 3
    assert other.states["fc1", "train"].count == 6


def test_a_watch_is_attached_from_construction_and_closed_by_the_with_block_even_on_an_error() -> None:
    model = seeded(Mlp)
    watch = na.watch(model)
    model(data(4, 6))
    with pytest.raises(ZeroDivisionError), watch:
        model(data(4, 6))
        _ = 1 / 0
    model(data(4, 6))
    assert watch.states["fc1", "train"].count == 8


def test_states_can_be_merged_and_used_on_their_own() -> None:
    model = seeded(Mlp).eval()
    with na.watch(model, precision="exact") as first_half:
        model(data(30, 6))
    with na.watch(model, precision="exact") as second_half:
        model(data(50, 6, seed=1))
    with na.watch(model, precision="exact") as whole:
        model(data(30, 6))
        model(data(50, 6, seed=1))
    both = first_half.states["fc1", "eval"] + second_half.states["fc1", "eval"]
    expected = whole.states["fc1", "eval"].scatter
    assert np.linalg.norm(both.scatter - expected) <= EXACT * np.linalg.norm(expected)
    assert na.saturation.saturation(both).rows == 80


def test_a_state_handed_out_does_not_disturb_the_watch() -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch, na.watch(model) as other:
        model(data(4, 6))
        kept = watch.states["fc1", "eval"].copy()
        model(data(4, 6, seed=1))
    assert kept.count == 4
    assert equal(watch.states["fc1", "eval"], other.states["fc1", "eval"])


def test_measuring_under_no_grad_and_inference_mode_gives_the_same() -> None:
    model = seeded(Mlp).eval()
    watches = []
    for context in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with na.watch(model) as watch, context:
            model(data(20, 6))
        watches.append(watch)
    assert same_states(watches[0], watches[1])
    assert same_states(watches[0], watches[2])


def test_calls_are_counted_over_the_passes_measured_and_several_in_one_pass_are_flagged() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.once, self.twice = nn.Linear(4, 4, dtype=F64), nn.Linear(4, 4, dtype=F64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.twice(torch.tanh(self.twice(self.once(x))))

    model = Twice()
    with recording(model) as seen, na.watch(model, precision="exact") as watch, torch.no_grad():
        for seed in range(3):
            model(data(10, 4, dtype=F64, seed=seed))
    assert_is_state_of(watch.states["twice", "train"], np.concatenate(seen["twice", "train"]))
    report = watch.report()
    assert (report["once"].calls, report["twice"].calls) == (3, 6)
    assert "several_calls" in report["twice"].saturation.flags
    assert "several_calls" not in report["once"].saturation.flags


def test_before_the_first_pass_there_is_nothing_to_report_and_the_error_says_so() -> None:
    with na.watch(seeded(Mlp)) as watch, pytest.raises(na.NothingObserved, match="no forward pass"):
        watch.report()
    assert not watch.states
