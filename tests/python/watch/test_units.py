"""The units of a layer lie where its output has as many as the layer declares, whatever its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import netassay as na
from python.models import Wrap, data, reasons, seeded

pytestmark = pytest.mark.native


class Linear2d(nn.Linear):
    """A linear layer of channels, as state-space vision models have it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class LayerNorm2d(nn.LayerNorm):
    """The norm of channels of ConvNeXt."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Toeplitz(nn.Conv1d):
    """A convolution that takes rows, and gives its one channel away."""

    def __init__(self) -> None:
        super().__init__(1, 1, 23, padding=7, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(-2)).squeeze(-2)


class Patches(nn.Conv2d):
    """Patches as tokens: (N, L, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(2).transpose(1, 2)


class Score(nn.Linear):
    """One number a sample, (N,)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(-1)


class Conv1D(nn.Module):
    """GPT-2's linear layer, stored as (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(data(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class TimeLast(nn.LSTM):
    """(N, H, T), as some speech models keep their features."""

    def forward(self, *args: Any) -> Any:
        output, state = super().forward(*args)
        return output.transpose(1, 2), state


class Middle(nn.Linear):
    """Units on the third of four axes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).movedim(-1, 2)


def pruned() -> nn.Module:
    """A layer of 5 whose attribute still says 8, beside a sequence of 8."""
    layer = seeded(lambda: nn.Linear(6, 8))
    layer.weight, layer.bias = nn.Parameter(layer.weight[:5].detach()), nn.Parameter(layer.bias[:5].detach())
    return layer


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, bool]] = {
    # layer, shape of its input, axis of the units, whether that is a guess
    "linear of channels": (lambda: Linear2d(3, 8), (64, 3, 10, 14), 1, False),
    "norm of channels": (lambda: LayerNorm2d(8), (64, 8, 10, 14), 1, False),
    "norm of channels-last maps": (lambda: nn.LayerNorm(8), (16, 8, 4, 8), 3, False),
    "linear of channels-last maps": (lambda: nn.Linear(3, 8), (16, 8, 4, 3), 3, False),
    "squeezed channel": (Toeplitz, (500, 16), 1, True),
    "patches": (lambda: Patches(3, 8, 4, 4), (5, 3, 16, 12), 2, False),
    "as many patches as channels": (lambda: Patches(3, 8, 4, 4), (5, 3, 16, 8), 2, True),
    "as many samples as channels": (lambda: Patches(3, 8, 4, 4), (8, 3, 16, 12), 2, False),
    "channels as wide as the map": (lambda: Linear2d(3, 8), (64, 3, 10, 8), 3, True),
    "one sample of a convolution": (lambda: nn.Conv2d(3, 8, 3), (3, 9, 7), 0, False),
    "as many positions as channels": (lambda: nn.Conv1d(3, 8, 3), (20, 3, 10), 1, False),
    "transposed, in groups": (lambda: nn.ConvTranspose2d(4, 6, 2, groups=2), (12, 4, 5, 6), 1, False),
    "norm of maps": (lambda: nn.LayerNorm([4, 5, 6]), (12, 4, 5, 6), 1, True),
    "group norm": (lambda: nn.GroupNorm(2, 6), (12, 6, 5, 7), 1, False),
    "batch norm without weights": (lambda: nn.BatchNorm2d(6, affine=False), (12, 6, 5, 6), 1, False),
    "recurrent": (lambda: nn.GRU(3, 4, bidirectional=True, batch_first=True), (6, 7, 3), 2, False),
    "projected": (lambda: nn.LSTM(3, 8, proj_size=5, batch_first=True), (6, 8, 3), 2, False),
    "time last": (lambda: TimeLast(3, 5, batch_first=True), (6, 7, 3), 1, False),
    "middle": (lambda: Middle(3, 5), (6, 4, 7, 3), 2, False),
    "pruned, with the attribute of before": (pruned, (9, 8, 6), 2, False),
    "masked": (lambda: prune.random_unstructured(nn.Linear(6, 5), "weight", 0.4), (9, 6, 6), 2, False),
    "parametrized": (lambda: parametrizations.weight_norm(nn.Linear(6, 5)), (9, 6, 6), 2, False),
    "lazy": (lambda: nn.LazyLinear(5), (9, 6, 6), 2, False),
    "Conv1D of transformers": (lambda: Conv1D(7, 6), (9, 5, 6), 2, False),
}


@pytest.mark.parametrize("name", CASES)
def test_the_units_are_on_the_axis_that_has_as_many_as_the_layer_declares(name: str) -> None:
    make, shape, axis, guessed = CASES[name]
    model = nn.Sequential(seeded(make)).eval()
    x = data(*shape)
    with na.watch(model, layers="0") as watch, torch.no_grad():
        output = model(x)
    output = output[0] if isinstance(output, tuple) else output
    rows = output.movedim(axis, -1).reshape(-1, output.shape[axis]).double().numpy()
    state = watch.states["0", "eval"]
    assert (state.width, state.count) == (rows.shape[1], len(rows))
    assert np.allclose(state.mean, rows.mean(0), atol=1e-5)
    assert np.allclose(state.covariance(), np.atleast_2d(np.cov(rows, rowvar=False, ddof=0)), atol=1e-4)
    assert ("layout_guessed" in watch.report()["0", "eval"].saturation.flags) is guessed


@pytest.mark.parametrize("name", ["linear of channels", "norm of channels", "patches", "middle", "time last"])
def test_project_cuts_along_the_axis_that_was_watched(name: str) -> None:
    make, shape, axis, _ = CASES[name]
    model = nn.Sequential(seeded(make)).double().eval()
    x = data(*shape, dtype=torch.float64)
    with na.watch(model, layers="0", precision="exact") as watch, torch.no_grad():
        plain = model(x)
    plain = plain[0] if isinstance(plain, tuple) else plain
    with na.project(model, watch, delta=0.6) as projections, torch.no_grad():
        cut = model(x)
    cut = cut[0] if isinstance(cut, tuple) else cut
    rows = plain.movedim(axis, -1).reshape(-1, plain.shape[axis]).numpy()
    vectors = np.linalg.eigh(np.cov(rows, rowvar=False))[1][:, -projections.layers["0"].dimension :]
    expected = (rows - rows.mean(0)) @ vectors @ vectors.T + rows.mean(0)
    assert 0 < projections.layers["0"].dimension < plain.shape[axis]
    assert cut.shape == plain.shape
    assert np.allclose(cut.movedim(axis, -1).reshape(rows.shape).numpy(), expected, atol=1e-9)


def test_the_batch_is_never_taken_for_units() -> None:
    model = nn.Sequential(nn.Linear(4, 3), Score(3, 1)).eval()
    with na.watch(model) as watch, torch.no_grad():
        model(data(50, 4))
    report = watch.report()
    assert [row.name for row in report.layers] == ["0"]
    assert reasons(report)["1"] == "its output of shape (50,) has no axis for its 1 units"
    mean = na.Moments(1)
    mean.update(np.arange(5.0)[:, None])
    with (
        na.project(model, {"1": mean}),
        pytest.raises(na.UnsupportedLayout, match=r"'1': its output of shape \(50,\) has no axis"),
    ):
        model(data(50, 4))


class Features(nn.Module):
    """A layer whose output has the units where no function has put them, before a nonlinearity."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.act = layer, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        output = self.layer(x)
        return self.act(output[0] if isinstance(output, tuple) else output)


@pytest.mark.parametrize("measures", [("complexity",), ("complexity", "saturation")], ids=str)
@pytest.mark.parametrize("name", ["linear of channels", "norm of channels", "patches", "recurrent", "time last"])
def test_a_nonlinearity_has_its_units_where_the_layer_before_it_put_them(name: str, measures: tuple[str, ...]) -> None:
    make, shape, axis, _ = CASES[name]
    model = Features(seeded(make)).eval()
    with na.watch(model, layers="layer", measures=measures) as watch, torch.no_grad():
        output = model(data(*shape))
    on = (output.movedim(axis, -1).reshape(-1, output.shape[axis]) > 0).double().mean(0).numpy()
    p = np.stack([on, 1 - on])
    bits = -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0).sum(0)
    result = watch.report()["act", "eval"].complexity
    assert np.allclose(result.channel_bits, bits, atol=1e-12)
    assert "layout_guessed" not in result.flags


def test_a_wrapped_output_leaves_its_layer_where_it_was() -> None:
    model = nn.Sequential(Wrap(nn.Linear(3, 8), lambda layer, x: layer(x).transpose(1, 2)), nn.ReLU()).eval()
    with na.watch(model) as watch, torch.no_grad():
        model(data(6, 5, 3))
    (name,) = {name for name, _ in watch.states}
    assert watch.states[name, "eval"].width == 8
