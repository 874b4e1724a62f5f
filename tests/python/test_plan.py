"""plan and `netassay plan`: what would be measured and what it would take, without reading the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netassay import NothingObserved, Plan, SelectionError, cli, measure_weights, plan
from netassay.sources.checkpoint.checkpoint import Checkpoint
from netassay.verbs.plan import duration, size
from python.checkpoints import network, tagged, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors", network())


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*args: object, **options: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(Checkpoint, "read", read)


@pytest.mark.parametrize("layers", ["*", "!embed", "body.conv"])
def test_a_plan_is_what_measure_weights_then_does(layers: str, path: Path) -> None:
    planned, report = plan(path, layers=layers), measure_weights(path, layers=layers)
    assert [weight.layer for weight in planned.weights] == [row.name for row in report]
    assert [weight.shape for weight in planned.weights] == [row.shape for row in report]
    assert sorted(planned.skipped, key=str) == sorted(report.coverage.skipped, key=str)
    assert planned.parameters == report.coverage.parameters_total
    assert planned.others == 3 - len(report.layers)


@pytest.mark.usefixtures("unread")
def test_no_weight_is_read_and_bytes_are_those_of_all_weights(path: Path) -> None:
    planned = plan(path, layers="head")
    assert planned.nbytes == sum(tagged(network()[f"{n}.weight"]).array.nbytes for n in ("embed", "body.conv", "head"))
    assert planned.memory >= 8 * 6 * 9 * 4
    assert 0 < planned.seconds[0] <= planned.seconds[1]
    assert planned.threads >= 1


def test_a_budget_that_is_too_small_is_told_not_raised(path: Path) -> None:
    planned = plan(path, memory=10)
    assert planned.available == 10 < planned.memory
    assert "10 bytes that may be taken: too little" in str(planned)


@pytest.mark.usefixtures("unread")
def test_the_command_prints_the_table_and_what_is_skipped_why(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(path), "--layers", "!head", "--threads", "1", "--memory", "1GB"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    header, _, embed, conv = out.splitlines()[:4]
    assert header.split() == ["layer", "dtype", "shape", "parameters", "size"]
    assert embed.split() == ["embed", "bfloat16", "20x6", "120", "240", "bytes"]
    assert conv.split() == ["body.conv", "float32", "8x6x3x3", "432", "1.7", "kB"]
    told = " ".join(out.split())
    assert "weights: 2 to measure, 1 more to read for the scale; parameters: 552 of 620 to measure (89 %)" in told
    assert "not selected (7.74 % of parameters): head" in told
    assert "body.conv.bias" in told
    assert " of the 1 GB that may be taken time: " in told
    assert told.endswith(" with 1 thread; where the 2.2 kB come from disk, reading them comes on top")


def test_names_in_the_table_are_escaped(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {"a\x1b[2J\n": np.eye(2, dtype=np.float32)})
    assert r"a\x1b[2J\n" in str(plan(path))
    assert "\x1b" not in str(plan(path))


def test_a_source_without_weights_and_a_pattern_without_a_match_are_errors_of_plan(tmp_path: Path, path: Path) -> None:
    none = write(tmp_path / "none.safetensors", {"norm.weight": np.ones(3, np.float32)})
    with pytest.raises(NothingObserved, match=r"^plan: .*none\.safetensors: got no weight matrix"):
        plan(none)
    with pytest.raises(SelectionError, match="matches no weight"):
        plan(path, layers="tail")


@pytest.mark.parametrize(("words", "status"), [(["plan"], 2), (["plan", "no such file"], 1)])
def test_wrong_usage_is_status_2_and_a_missing_file_status_1(words: list[str], status: int) -> None:
    assert cli.main(words) == status


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1536, "1.5 kB"), (12_300_000, "12 MB"), (4.5e11, "450 GB"), (3e13, "30 TB")],
)
def test_sizes_are_for_people(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1e-5, "0.01 s"), (0.234, "0.2 s"), (4.4, "4 s"), (34, "30 s"), (600, "10 min"), (9000, "2 h")],
)
def test_times_are_of_one_digit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_plan_is_a_public_value(path: Path) -> None:
    assert isinstance(plan(path), Plan)
