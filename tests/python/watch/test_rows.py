"""Which rows a watch takes of an output, and in which mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netassay as na
from python.models import Encoder, Mlp, assert_is_state_of, data, recording, seeded, tokens
from reference import saturation as reference

pytestmark = pytest.mark.native

F64 = torch.float64


@pytest.mark.parametrize("fmt", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("positions", ["all", "mean", "flatten"])
def test_positions_of_a_convolution_are_rows_or_their_mean_or_one_flat_row(
    positions: str, fmt: torch.memory_format
) -> None:
    model = nn.Sequential(seeded(lambda: nn.Conv2d(2, 4, 3, dtype=F64))).to(memory_format=fmt)
    batch = data(9, 2, 6, 5, dtype=F64).to(memory_format=fmt)
    with na.watch(model, positions=positions, precision="exact") as watch, torch.no_grad():
        output = model(batch).contiguous().numpy()
    expected = {
        "all": reference.rows(output, "channels_first"),
        "mean": output.mean(axis=(2, 3)),
        "flatten": output.reshape(9, -1),
    }
    state = watch.states["0", "train"]
    assert state.width == expected[positions].shape[1]
    assert_is_state_of(state, expected[positions])


@pytest.mark.parametrize("positions", ["mean", "flatten"])
def test_positions_are_of_convolutions_and_leave_tokens_alone(positions: str) -> None:
    model = nn.Sequential(nn.Linear(5, 4, dtype=F64))
    with na.watch(model, positions=positions, precision="exact") as watch, torch.no_grad():
        output = model(data(3, 6, 5, dtype=F64))
    assert_is_state_of(watch.states["0", "train"], output.reshape(-1, 4).numpy())


def test_flat_rows_of_another_size_are_left_out_and_said() -> None:
    model = nn.Sequential(seeded(lambda: nn.Conv2d(2, 4, 3)))
    with na.watch(model, positions="flatten") as watch, torch.no_grad():
        model(data(3, 2, 6, 6))
        model(data(2, 2, 8, 8))
        model(data(3, 2, 6, 6, seed=1))
    assert watch.states["0", "train"].count == 6
    assert any("width" in note or "shape" in note for note in watch.report().coverage.notes)


def test_convolutions_of_any_input_size_share_one_state() -> None:
    model = nn.Sequential(seeded(lambda: nn.Conv2d(2, 4, 3)))
    with na.watch(model) as watch, torch.no_grad():
        model(data(3, 2, 6, 6))
        model(data(2, 2, 8, 8))
    assert watch.states["0", "train"].count == 3 * 16 + 2 * 36


class Powers(nn.Module):
    """Passes on 40 rows, 2^0 ... 2^39: any subset of them is told by its sum."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False, dtype=F64)
        nn.init.ones_(self.layer.weight)

    def forward(self) -> torch.Tensor:
        return self.layer(2.0 ** torch.arange(40, dtype=F64)[:, None])


def subset(watch: Any) -> list[int]:
    state = watch.states["layer", "train"]
    total = round(float(state.mean[0]) * state.count)
    return [i for i in range(40) if total >> i & 1]


def test_max_rows_takes_a_uniform_subset_of_the_rows_themselves() -> None:
    model = Powers()
    taken = np.zeros(40, dtype=int)
    for seed in range(200):
        with na.watch(model, max_rows=10, seed=seed) as watch:
            model()
        chosen = subset(watch)
        assert len(chosen) == watch.states["layer", "train"].count == 10
        taken[chosen] += 1
    # Binomial(200, 1/4): mean 50, standard deviation 6.1
    assert 20 < taken.min() <= taken.max() < 80


def test_max_rows_depends_on_the_seed_alone() -> None:
    model = Powers()
    chosen = []
    for seed in (0, 0, 1):
        torch.rand(3)
        np.random.random(3)
        with na.watch(model, max_rows=10, seed=seed) as watch:
            model()
        chosen.append(subset(watch))
    assert chosen[0] == chosen[1] != chosen[2]


def test_max_rows_draws_anew_at_every_call() -> None:
    model = Powers()
    with na.watch(model, max_rows=10) as watch:
        model()
        once = subset(watch)
        model()
    state = watch.states["layer", "train"]
    assert state.count == 20
    assert round(float(state.mean[0]) * 20) != 2 * sum(2**i for i in once)


def test_max_rows_is_flagged_only_where_it_left_rows_out() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(18, 3))
    with na.watch(model, max_rows=20) as watch, torch.no_grad():
        model(data(4, 1, 3, 3))
    report = watch.report()
    assert report["0"].saturation.rows == 20
    assert "sampled" in report["0"].saturation.flags
    assert report["2"].saturation.rows == 4
    assert "sampled" not in report["2"].saturation.flags


@pytest.mark.parametrize("every", [1, 2, 3])
def test_every_kth_pass_is_taken_counted_per_mode_from_the_first(every: int) -> None:
    model = seeded(Mlp)
    modes = [True, True, False, True, False, False, True, False, True, True]
    with recording(model) as seen, na.watch(model, every=every, precision="exact") as watch, torch.no_grad():
        for seed, training in enumerate(modes):
            model.train(training)
            model(data(3 + seed, 6, seed=seed))
    for key, state in watch.states.items():
        assert_is_state_of(state, np.concatenate(seen[key][::every]))


def test_a_mask_leaves_padding_out() -> None:
    model = seeded(Encoder).train()
    batch = tokens(4, 6)
    batch[:, 4:] = 0
    keep = batch != 0
    with recording(model) as seen, na.watch(model, mask=lambda x: x != 0, precision="exact") as watch:
        model(batch)
    kept = keep.reshape(-1).numpy()
    for key, state in watch.states.items():
        assert_is_state_of(state, seen[key][0][kept])
    assert all("unmasked" not in row.saturation.flags for row in watch.report().layers)


def test_a_layer_whose_rows_the_mask_does_not_fit_is_measured_whole_and_flagged() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.pooled = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pooled(self.tokens(x).mean(dim=1))

    model = Pooled()
    keep = torch.tensor([[True] * 4 + [False] * 2] * 5)
    with na.watch(model, mask=lambda x: keep) as watch:
        model(data(5, 6, 3))
    report = watch.report()
    assert (report["tokens"].saturation.rows, report["pooled"].saturation.rows) == (20, 5)
    assert "unmasked" in report["pooled"].saturation.flags
    assert "unmasked" not in report["tokens"].saturation.flags


def test_a_mask_sees_the_roots_inputs_positional_and_by_name() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor, *, keep: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    model = Masked()
    keep = torch.tensor([[True, False], [True, True], [False, False]])
    with na.watch(model, mask=lambda x, keep: keep) as watch:
        model(data(3, 2, 3), keep=keep)
    assert watch.states["layer", "train"].count == 3
