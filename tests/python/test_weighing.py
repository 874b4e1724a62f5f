"""A measure of weights is one class: what measure_weights, plan and the command line ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netassay import NonFinite, cli, measure_weights, plan
from netassay.base.arrays import View
from netassay.sources.checkpoint.checkpoint import Stored
from netassay.verbs import weighing
from netassay.verbs.weighing import MEASURES, WEIGHINGS, Weighing
from python.checkpoints import network, write


class Sizes(Weighing):
    """How many elements a weight has: a measure that needs selected weights alone and has no scale."""

    measure = "sizes"

    def weigh(self, matrix: View, *, groups: int, threads: int) -> int:
        return int(matrix.array.size)

    def result(self, value: int, scale: float) -> int:
        assert scale == 0
        return value

    def totals(self, results: Sequence[int], scale: float, flags: tuple[str, ...]) -> dict[str, Any]:
        return {"sizes": {"sum": sum(results), "flags": flags}}

    def notes(self, measured: Sequence[Stored]) -> Iterator[str]:
        yield f"sizes of {', '.join(stored.layer for stored in measured)}"


class Largest(Sizes):
    """A measure over a scale of its own, which every weight of the source has a part in."""

    measure = "largest"
    whole_source = True
    scale_is = "the unit is the largest size"

    def glance(self, view: View, *, threads: int) -> int:
        return int(view.array.size)

    def scale(self, values: Any) -> float:
        return float(max(values, default=0))

    def result(self, value: int, scale: float) -> Any:
        return value / scale

    def totals(self, results: Sequence[Any], scale: float, flags: tuple[str, ...]) -> dict[str, Any]:
        return {"largest": {"scale": scale, "flags": flags}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors", network())


@pytest.fixture(autouse=True)
def two_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighing, "WEIGHINGS", (*WEIGHINGS, Sizes, Largest))
    monkeypatch.setattr(weighing, "MEASURES", (*MEASURES, "sizes", "largest"))


def test_a_measure_that_is_listed_is_measured_beside_the_others(path: Path) -> None:
    report = measure_weights(path, measures=("sizes", "network", "persistence"))
    assert [list(row.measures) for row in report] == [["persistence", "network", "sizes"]] * 3
    assert [row.measures["sizes"] for row in report] == [120, 432, 48]
    assert report.totals["sizes"] == {"sum": 600, "flags": ()}
    assert list(report.totals) == ["persistence", "deep_graph_persistence", "network", "sizes"]
    assert "sizes of embed, body.conv, head" in report.coverage.notes


def test_a_measure_of_selected_weights_reads_no_others(path: Path) -> None:
    read: list[str] = []
    report = measure_weights(path, measures=("sizes",), layers="head", track=lambda name, *_: read.append(name))
    assert read == ["head.weight", ""]
    assert report.totals["sizes"]["sum"] == 48
    assert plan(path, measures=("sizes",), layers="head").others == 0


def test_a_measure_with_a_scale_reads_the_whole_source(path: Path) -> None:
    report = measure_weights(path, measures=("sizes", "largest"), layers="head")
    assert report["head"].measures == {"sizes": 48, "largest": 48 / 432}
    assert report.totals["largest"]["scale"] == 432
    assert plan(path, measures=("largest",), layers="head").others == 2


def test_each_scale_reports_which_weights_are_not_in_it(tmp_path: Path) -> None:
    tensors = network()
    tensors["head.weight"][3, 7] = np.nan
    path = write(tmp_path / "broken.safetensors", tensors)
    with pytest.raises(NonFinite) as caught:
        measure_weights(path, measures=("persistence", "sizes", "largest"))
    report = caught.value.report  # type: ignore[attr-defined]
    assert report.coverage.notes[-2:] == (
        "the scale is the largest |w| of the weights that are finite",
        "the unit is the largest size of the weights that are finite",
    )
    assert report.totals["sizes"] == {"sum": 552, "flags": ("nonfinite",)}


def test_an_interruption_names_each_scale(path: Path) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if name == "head.weight":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        measure_weights(path, measures=("persistence", "largest"), track=stop)
    report = caught.value.report  # type: ignore[attr-defined]
    assert report.coverage.notes[-1] == (
        "interrupted: 2 of 3 weights were read, and the scale is the largest |w| of those,"
        " and the unit is the largest size of those"
    )


def test_the_command_line_knows_every_measure_of_the_list(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(path), "--measures", "sizes"]) == 0
    assert "measures: sizes" in capsys.readouterr().out
    assert cli.main(["plan", str(path), "--measures", "beauty"]) == 2
    assert "expected persistence or network or sizes or largest" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["weights", "plan"])
def test_the_help_names_every_measure(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    told = capsys.readouterr().out
    assert [measure for measure in MEASURES if measure not in told] == []
