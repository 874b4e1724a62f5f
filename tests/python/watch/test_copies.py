"""Copies of a watched model."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import netassay as na
from python.models import ConvNet, Encoder, Mlp, Recurrent, data, seeded, tokens
from python.watching import child, counts


def hooks(model: nn.Module) -> list[Any]:
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    return [hook for module in model.modules() for kind in kinds for hook in getattr(module, kind).values()]


@pytest.mark.parametrize("make", [Mlp, ConvNet, Encoder, Recurrent])
def test_copies_of_a_watched_model_carry_no_live_hook_and_compute_the_same(
    make: Callable[[], nn.Module],
) -> None:
    model = seeded(make).eval()
    batch = {Mlp: data(3, 6), ConvNet: data(3, 2, 8, 8), Encoder: tokens(3, 4), Recurrent: data(3, 4, 5)}[make]
    buffer = io.BytesIO()
    with na.watch(model) as watch:
        expected = model(batch)
        before = counts(watch)
        torch.save(model, buffer)
        buffer.seek(0)
        copies = [
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
            torch.load(buffer, weights_only=False),
            copy.deepcopy(copy.deepcopy(model)),
        ]
        for other in copies:
            torch.testing.assert_close(other(batch), expected, rtol=1e-4, atol=1e-5)
            other.train()(batch)
            assert not any(type(hook).__module__.startswith("netassay") for hook in hooks(other))
        assert counts(watch) == before
        model(batch)
        assert counts(watch) != before


def test_a_copy_of_a_watched_model_can_be_watched_and_copied_in_its_turn() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU())).eval()
    with na.watch(model):
        other = copy.deepcopy(model)
    with na.watch(other) as watch:
        other(data(10, 6))
        pickle.loads(pickle.dumps(other))(data(10, 6))
    assert counts(watch) == {10}


def test_a_model_saved_while_watched_loads_where_netassay_is_not_installed(tmp_path: Path) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)))
    batch = data(10, 6)
    with na.watch(model, layers=["*", "(root)"]):
        torch.save(model, tmp_path / "model.pt")
        (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
        torch.save(model(batch), tmp_path / "expected.pt")
    torch.save(batch, tmp_path / "batch.pt")
    script = """
import pickle, sys
from pathlib import Path
sys.modules["netassay"] = None  # importing it raises ImportError
import torch
folder = Path(sys.argv[1])
batch, expected = torch.load(folder / "batch.pt"), torch.load(folder / "expected.pt")
for model in (
    torch.load(folder / "model.pt", weights_only=False),
    pickle.loads((folder / "model.pickle").read_bytes()),
):
    assert torch.equal(model(batch), expected)
    model.train()(batch).sum().backward()
assert sys.modules["netassay"] is None and not [name for name in sys.modules if name.startswith("netassay.")]
print("loaded")
"""
    assert child(script, str(tmp_path)).split() == ["loaded"]
