"""The demo, as a user runs it: one short epoch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from netassay import Report, cli

LAYERS = ["conv1", "conv2", "conv3", "conv4", "linear"]
SITES = ["relu1", "relu2", "relu3", "relu4"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def outcome(finished: Path) -> Any:
    from netassay.demo import run

    return run(epochs=1)


def test_the_demo_prints_its_table_and_writes_its_report(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--epochs", "1", "-o", str(finished / "new")]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no bar: this is no terminal
    assert out.startswith("accuracy on held-out digits: ")
    for heading in (
        "layer",
        "kind",
        "mode",
        "width",
        "rows",
        "dimension",
        "saturation",
        "effective dimension",
        "persistence",
        "bits/position",
        "fluct in",
        "region bits",
    ):
        assert heading in out
    assert "delta   mean saturation   leading directions   random subspaces\n  0.9  " in out
    report = Report.load(finished / "new" / "netassay-report.json")
    assert str(report) in out
    switching = [row for row in report if "complexity" in row.measures]
    assert [(row.name, row.mode) for row in switching] == [(name, m) for name in SITES for m in ("train", "eval")]
    assert all(0 < row.complexity.mean_position <= row.complexity.mean_channel <= 1 for row in switching)
    assert "epoch   accuracy   channels   positions\n    0  " in out
    watched = [row for row in report if "saturation" in row.measures]
    assert [(row.name, row.mode) for row in watched] == [(name, m) for name in LAYERS for m in ("train", "eval")]
    for row in watched:
        assert 0 < row.saturation.value <= 1
        assert 1 <= row.effective_dimension.value <= row.saturation.width
    train, held_out = 1347, 450
    assert report["conv1", "train"].saturation.rows == train * 64
    assert report["conv1", "eval"].saturation.rows == held_out * 64
    assert report["linear", "train"].saturation.rows == train
    assert report["linear", "eval"].saturation.rows == held_out
    assert {skipped.name.split(".")[0] for skipped in report.coverage.skipped} == {
        *(f"norm{i}" for i in (1, 2, 3, 4)),
        "linear",  # its bias
    }


def test_the_demo_measures_the_trained_networks_weights_once_on_the_eval_rows(outcome: Any) -> None:
    report = outcome.report
    assert report.totals["persistence"]["layers"] == len(LAYERS)
    for name in LAYERS:
        assert 0 < report[name].persistence.normalized < 1.01
        assert report[name].network.count > 0
        assert not {"persistence", "network"} & set(report[name, "train"].measures)


def test_the_demo_follows_complexity_over_training(outcome: Any) -> None:
    assert outcome.history.steps == (0, 1)
    assert len(outcome.accuracies) == 2
    for (_, report), accuracy in zip(outcome.history, outcome.accuracies, strict=True):
        assert {row.mode for row in report} == {"eval"}
        assert all(row.complexity.samples == 450 for row in report)
        assert 0 <= accuracy <= 1
    assert outcome.accuracies[-1] == outcome.accuracy


def test_the_demo_measures_the_structure_beside_the_rest(outcome: Any) -> None:
    report = outcome.report
    assert report["conv4"].algebra.receptive_field == (11, 11)
    assert report["relu1"].algebra.region_bits > 0
    assert report.totals["path_lengths"] == (0, 0, 0, 0, 0, 1)
    assert report.totals["output_cut"] == 10


def test_json_on_standard_output_is_all_there_is_on_it(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    before = sorted(finished.iterdir())
    assert cli.main(["demo", "--epochs", "1", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["schema"] == "netassay.report/1"
    assert "accuracy" in err
    assert sorted(finished.iterdir()) == before


def test_the_same_seed_gives_the_same_report(finished: Path) -> None:
    from netassay.demo import run

    first, again = run(epochs=1, seed=3), run(epochs=1, seed=3)
    assert (first.accuracy, first.projected) == (again.accuracy, again.projected)
    assert first.report.to_dict(volatile=False) == again.report.to_dict(volatile=False)


def test_the_leading_directions_carry_the_accuracy_and_random_ones_do_not(finished: Path) -> None:
    from netassay.demo import DELTAS, run

    outcome = run(epochs=2)
    assert [p.delta for p in outcome.projected] == list(DELTAS)
    saturations = [p.saturation for p in outcome.projected]
    assert sorted(saturations) == saturations
    report = [outcome.report[name, "eval"].saturation.value for name in LAYERS]
    assert outcome.projected[1].saturation == pytest.approx(sum(report) / len(report))  # delta 0.99, as in the report
    assert abs(outcome.projected[2].accuracy - outcome.accuracy) < 0.02
    assert all(p.random < p.accuracy - 0.1 for p in outcome.projected)


@pytest.mark.parametrize("package", ["torch", "sklearn"])
def test_a_missing_package_is_one_line_that_says_what_to_install(
    package: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main(["demo", "-o", str(tmp_path)]) == 1
    line = f"netassay: demo: {package} is not installed; pip install 'netassay[demo]'\n"
    assert capsys.readouterr().err == line
    assert list(tmp_path.iterdir()) == []
