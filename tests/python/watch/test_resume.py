"""A watch that is saved and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netassay as na
from netassay.base import statefile
from python.models import ConvNet, Mlp, data, equal, same_states, seeded


def passes(model: nn.Module, seeds: range) -> None:
    for seed in seeds:
        model.train(seed % 3 != 0)
        torch.manual_seed(seed)
        model(data(5 + seed % 4, 2, 8, 8, seed=seed))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"precision": "exact", "every": 2},
    {"max_rows": 11, "seed": 3},
    {"positions": "flatten", "layers": ["conv*", "bn1"]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_resumed_watch_equals_the_uninterrupted_one_bit_for_bit(options: dict[str, Any], tmp_path: Path) -> None:
    model = seeded(ConvNet)
    with na.watch(model, **options) as whole:
        passes(model, range(10))
    model = seeded(ConvNet)
    with na.watch(model, **options) as half:
        passes(model, range(4))
        half.save(tmp_path / "state")
        assert same_states(half, half)
    with na.watch(model, **options) as rest:
        rest.restore(tmp_path / "state")
        assert same_states(half, rest)
        assert rest.report().to_dict(volatile=False) == half.report().to_dict(volatile=False)
        passes(model, range(4, 10))
    assert same_states(whole, rest)
    assert rest.report().to_dict(volatile=False) == whole.report().to_dict(volatile=False)


def test_restoring_replaces_what_the_watch_had_seen(tmp_path: Path) -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch:
        model(data(10, 6))
        watch.save(tmp_path / "state")
        kept = {key: state.copy() for key, state in watch.states.items()}
        model(data(9, 6, seed=1))
        watch.restore(tmp_path / "state")
        assert all(equal(kept[key], state) for key, state in watch.states.items())


def test_restoring_brings_the_history(tmp_path: Path) -> None:
    model = seeded(Mlp).eval()
    with na.watch(model, measures=("saturation", "complexity")) as watch:
        for step in range(3):
            model(data(20, 6, seed=step))
            watch.snapshot(step)
        model(data(20, 6, seed=3))
        watch.save(tmp_path / "state")
    with na.watch(model, measures=("saturation", "complexity")) as resumed:
        model(data(20, 6, seed=4))
        resumed.snapshot(17)
        resumed.restore(tmp_path / "state")
        assert resumed.history.steps == (0, 1, 2)
        assert [report.to_dict() for _, report in resumed.history] == [r.to_dict() for _, r in watch.history]
        resumed.snapshot(3)
        assert resumed.history.steps == (0, 1, 2, 3)
        assert len(resumed.history["saturation.eval"].steps) == 4


def test_a_history_that_is_none_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch:
        model(data(20, 6))
        watch.snapshot(1, reset=False)
        watch.save(tmp_path / "state")
        config, tensors = statefile.load(tmp_path / "state", kind="watch")
        for name, content in (("none", None), ("text", b"[]"), ("schema", b'{"schema": "x", "snapshots": []}')):
            forged = {key: value for key, value in tensors.items() if key != "history"}
            if content is not None:
                forged["history"] = np.frombuffer(content, dtype=np.uint8)
            statefile.save(tmp_path / name, kind="watch", config=config, tensors=forged)
            with pytest.raises(na.StateError, match=name):
                watch.restore(tmp_path / name)
        assert watch.history.steps == (1,)
        assert watch.states["fc1", "eval"].count == 20


CHANGES: dict[str, dict[str, Any]] = {
    "layers": {"layers": "fc*"},
    "positions": {"positions": "mean"},
    "max_rows": {"max_rows": 4},
    "every": {"every": 2},
    "precision": {"precision": "exact"},
    "seed": {"seed": 1},
    "mask": {"mask": lambda x: x},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_configuration_is_refused_by_name_and_nothing_changes(name: str, tmp_path: Path) -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch:
        model(data(10, 6))
        watch.save(tmp_path / "state")
    with na.watch(model, **CHANGES[name]) as other:
        with pytest.raises(na.StateError, match=name):
            other.restore(tmp_path / "state")
        assert not other.states


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    for make, other in ((lambda: nn.Linear(4, 3), lambda: nn.Linear(5, 3)), (Mlp, ConvNet)):
        with na.watch(make()) as watch:
            watch.save(tmp_path / "state")
        with na.watch(other()) as another, pytest.raises(na.StateError, match="model"):
            another.restore(tmp_path / "state")


def test_a_file_that_is_no_watchs_state_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch:
        model(data(10, 6))
        kept = {key: state.copy() for key, state in watch.states.items()}
        watch.save(tmp_path / "whole")
        content = (tmp_path / "whole").read_bytes()
        (tmp_path / "cut").write_bytes(content[:-8])
        (tmp_path / "flipped").write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])
        (tmp_path / "text").write_text("not a state")
        watch.states["fc1", "eval"].save(tmp_path / "moments")
        for name in ("cut", "flipped", "text", "moments"):
            with pytest.raises(na.StateError, match=name):
                watch.restore(tmp_path / name)
        with pytest.raises(FileNotFoundError):
            watch.restore(tmp_path / "missing")
        assert all(equal(kept[key], state) for key, state in watch.states.items())
