"""What a watch counts over a training: snapshots and their history."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

import netassay as na
from python.models import data, seeded
from python.sums import ALL, COMPLEXITY, Sums

pytestmark = pytest.mark.native


def snapshots(reset: bool) -> na.History:
    model = seeded(Sums).eval()
    with na.watch(model, **COMPLEXITY) as watch:
        for step in range(1, 5):
            model(data(4, 2, 8, 8, seed=step))
            report = watch.snapshot(step, reset=reset)
            assert report["pool"].complexity.samples == (4 if reset else 4 * step)
    return watch.history


def test_a_snapshot_is_of_what_was_seen_since_the_last_one_or_since_the_beginning() -> None:
    assert len(snapshots(reset=True)) == len(snapshots(reset=False)) == 4


def test_a_history_gives_quantities_of_the_network_and_of_rows_against_the_step(tmp_path: Path) -> None:
    history = snapshots(reset=True)
    assert history.steps == (1, 2, 3, 4)
    series = history["complexity.eval.mean_position"]
    assert series.steps.tolist() == [1, 2, 3, 4]
    assert series.values[2] == [report for _, report in history][2].totals["complexity"]["eval"]["mean_position"]
    assert history["act/1/eval/complexity.mean_channel"].values.shape == (4,)
    frame = history.to_frame()
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert list(frame.columns) == list(history.quantities)
    np.testing.assert_array_equal(frame["complexity.eval.mean_position"], series.values)
    history.to_json(tmp_path / "history.json")
    loaded = na.History.load(tmp_path / "history.json")
    assert loaded.steps == history.steps
    assert loaded.quantities == history.quantities
    with pytest.raises(na.SelectionError, match=r"nearest is 'complexity\.eval\.mean_position'"):
        history["complexity.eval.mean_positions"]


def test_a_history_keeps_no_watch_and_no_model_alive() -> None:
    model = nn.Sequential(nn.ReLU())
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(4, 5))
        watch.snapshot(1)
    history, gone = watch.history, weakref.ref(model)
    del model, watch
    gc.collect()
    assert gone() is None
    assert len(history) == 1


def test_a_step_that_does_not_rise_is_an_error_and_forgets_nothing() -> None:
    model = nn.Sequential(nn.ReLU())
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(4, 5))
        watch.snapshot(2)
        model(data(4, 5))
        for step in (2, 1.5, float("nan"), True, "3"):
            with pytest.raises(na.DomainError, match="above the last one, 2"):
                watch.snapshot(step)  # type: ignore[arg-type]
        assert watch.report()["0"].complexity.samples == 4
        assert watch.snapshot(3)["0"].complexity.samples == 4
        with pytest.raises(na.NothingObserved):
            watch.snapshot(4)
    assert watch.history.steps == (2, 3)


def test_a_step_may_be_a_number_of_numpys_and_an_int_stays_one(tmp_path: Path) -> None:
    report = snapshots(reset=True)._reports[0]
    history = na.History()
    for step in (np.int64(1), np.float32(1.5), 2):
        history.append(step, report)
    assert [(type(step), step) for step in history.steps] == [(int, 1), (float, 1.5), (int, 2)]
    history.to_json(tmp_path / "history.json")
    assert na.History.load(tmp_path / "history.json").steps == history.steps
    with pytest.raises(na.DomainError, match="expected a number above"):
        history.append(10**400, report)
    with pytest.raises(TypeError, match="got dict, expected a Report"):
        history.append(3, report.to_dict())  # type: ignore[arg-type]
    assert len(history) == 3


def test_the_first_call_keeps_its_name_whether_or_not_there_were_others() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.linear = nn.ReLU(), nn.Linear(5, 5)

        def forward(self, x: Tensor, calls: int) -> Tensor:
            for _ in range(calls):
                x = self.linear(self.act(x))
            return x

    model = seeded(Model)
    with na.watch(model, layers=["*", "act"], **ALL) as watch:
        for step, calls in enumerate((1, 2, 1, 3), start=1):
            model(data(4, 5), calls)
            watch.snapshot(step)
    history = watch.history
    for measure in ("complexity.mean_channel", "neuron_activation.mean"):
        found = {name: history[name].steps.tolist() for name in history.quantities if name.endswith(measure)}
        found = {name: steps for name, steps in found.items() if "/" in name}
        assert found == {
            f"act/0/train/{measure}": [1, 2, 3, 4],
            f"act/1/train/{measure}": [2, 4],
            f"act/2/train/{measure}": [4],
        }
    assert history["act/train/saturation.value"].steps.tolist() == [1, 2, 3, 4]
    with pytest.raises(
        na.SelectionError, match=r"got 'nothing like it', expected one of the \d+ in history\.quantities$"
    ):
        history["nothing like it"]


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"schema": "netassay.report/1"}', b"no"])
def test_what_is_no_history_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(na.StateError, match=r"History\.load"):
        na.History.load(tmp_path / "file")


def test_a_history_plots_a_line_per_quantity() -> None:
    pytest.importorskip("matplotlib")
    history = snapshots(reset=True)
    axes = history.plot("complexity.eval.mean_position", "complexity.eval.mean_channel")
    assert [line.get_label() for line in axes.lines] == [
        "complexity.eval.mean_position",
        "complexity.eval.mean_channel",
    ]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2, 3, 4])
    assert len(history.plot().lines) == len([name for name in history.quantities if "/" not in name])


def test_a_power_law_is_fitted_to_a_quantity_in_a_window() -> None:
    growth = snapshots(reset=True).power_law("complexity.eval.total_position", window=(1, 4))
    assert growth.points == 4
