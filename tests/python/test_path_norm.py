"""Path norms: against every path of small networks, against a model of |w|^q, and laws.

A sum of positive float64 products has a relative error of some n u for n terms; q and 1/q add some ulp: 1e-10.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from netassay import DomainError, NonFinite, UnsupportedLayout
from netassay.sources.passes.norm.norm import path_norm as path_norm_of
from netassay.sources.traced.graph import trace
from python import architectures
from python.test_path_counts import WindowSum, of

ORDERS = (1, 2, 1.5, 0.5)


def path_norm(model: nn.Module, *inputs: Tensor, q: float = 1) -> float:
    return path_norm_of(trace(model, inputs, function="test"), q, "test")


def near(expected: float) -> Any:
    return pytest.approx(expected, rel=1e-10)


def mlp(*widths: int, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(sum(widths))
    layers = [part for i, o in pairwise(widths) for part in (nn.Linear(i, o, bias=bias), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).double()


def every_path(model: nn.Sequential, q: float) -> float:
    """Literally: prod |w|^q along each path from an input, or from a bias, to an output."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    weights = [layer.weight.tolist() for layer in layers]
    biases = [layer.bias.tolist() if layer.bias is not None else [0.0] * layer.out_features for layer in layers]
    widths = [layers[0].in_features, *(layer.out_features for layer in layers)]
    total = 0.0
    for units in product(*map(range, widths)):
        total += math.prod(abs(w[o][i]) ** q for w, (i, o) in zip(weights, pairwise(units), strict=True))
    for first in range(len(layers)):
        for units in product(*map(range, widths[first + 1 :])):
            steps = zip(weights[first + 1 :], pairwise(units), strict=True)
            total += abs(biases[first][units[0]]) ** q * math.prod(abs(w[o][i]) ** q for w, (i, o) in steps)
    return total ** (1 / q)


class Average(WindowSum):
    """An average pool whose edges weigh 1 / k to the power of q."""

    q = 1.0

    def forward(self, x: Tensor) -> Tensor:
        total = super().forward(x)
        one = super().forward(torch.ones_like(x))
        share = self.pool(torch.ones_like(x))  # units in the window over the divisor
        return total * torch.where(one > 0, share / one.clamp(min=1), 0) ** self.q


def reference(model: nn.Module, *inputs: Tensor, q: float = 1) -> float:
    """The model in float64 on ones, with |w|^q for its weights; pools as loops, BatchNorm folded by torch."""
    model = copy.deepcopy(model).double().eval()
    for module in list(model.modules()):
        children = list(module.named_children())
        for (name, child), (after, norm) in pairwise([*children, ("", nn.Identity())]):
            if isinstance(norm, nn.BatchNorm2d) and isinstance(child, nn.Conv2d):
                setattr(module, name, nn.utils.fuse_conv_bn_eval(child, norm))
                setattr(module, after, nn.Identity())
            elif isinstance(child, (nn.MaxPool2d, nn.AdaptiveMaxPool2d)) and not isinstance(module, WindowSum):
                setattr(module, name, WindowSum(child))
            elif isinstance(child, (nn.AvgPool2d, nn.AdaptiveAvgPool2d)) and not isinstance(module, WindowSum):
                setattr(module, name, Average(child))
                getattr(module, name).q = q
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.abs() ** q)
        outputs = model(*(torch.ones_like(x, dtype=torch.float64) for x in inputs))
    return sum(float(out.sum()) for out in (outputs if isinstance(outputs, tuple) else (outputs,))) ** (1 / q)


def drawn(model: nn.Module) -> nn.Module:
    """With statistics of BatchNorm that are not those of a new one."""
    torch.manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.double().eval()


# ---- parity ----


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("widths", [(1, 1), (3, 4), (2, 3, 2), (3, 2, 4, 2), (2, 1, 3, 2, 2)])
def test_the_norm_sums_every_path(widths: tuple[int, ...], q: float) -> None:
    x = torch.zeros(1, widths[0], dtype=torch.float64)
    for bias in (True, False):
        model = mlp(*widths, bias=bias)
        assert path_norm(model, x, q=q) == near(every_path(model, q))


def test_one_path_norm_is_a_product_of_absolute_matrices() -> None:
    model = mlp(5, 7, 6, 4, bias=False)
    first, second, third = (layer.weight.detach().abs() for layer in model if isinstance(layer, nn.Linear))
    assert path_norm(model, torch.zeros(1, 5).double()) == near(float((third @ second @ first).sum()))


def conv_net(pool: nn.Module) -> nn.Module:
    first, last = nn.Conv2d(2, 4, 3, 2, 1, groups=2), nn.Conv2d(4, 3, 2, padding="same")
    return drawn(nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), pool, nn.Dropout(), last))


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(3, 1, divisor_override=2),
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.AdaptiveMaxPool2d((3, 4)),
    ],
)
def test_convolutions_and_pools(pool: nn.Module, q: float) -> None:
    x = torch.zeros(1, 2, 13, 12, dtype=torch.float64)
    model = conv_net(pool)
    assert path_norm(model, x, q=q) == near(reference(model, x, q=q))


@pytest.mark.parametrize("make", [architectures.Residual, architectures.Dense, architectures.SharedModules])
@pytest.mark.parametrize("q", ORDERS)
def test_joints(make: Callable[[], nn.Module], q: float) -> None:
    model = make().double()
    x = torch.zeros(1, 6, dtype=torch.float64)
    assert path_norm(model, x, q=q) == near(reference(model, x, q=q))


def test_outputs_are_summed_over_and_samples_are_not() -> None:
    model = architectures.TwoOutputs().double()
    x = torch.zeros(1, 6, dtype=torch.float64)
    assert path_norm(model, x, q=2) == near(reference(model, x, q=2))
    assert path_norm(model, x.repeat(5, 1), q=2) == near(reference(model, x, q=2))


def test_a_resnet_block() -> None:
    model = drawn(architectures.Block(4, 8, 2, bottleneck=False))
    x = torch.zeros(1, 4, 9, 9, dtype=torch.float64)
    for q in ORDERS:
        assert path_norm(model, x, q=q) == near(reference(model, x, q=q))


# ---- BatchNorm ----


def test_a_norm_that_is_not_behind_a_layer_alone_is_a_layer_of_its_own() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.last(self.norm(y) + y)

    model = drawn(Net())
    scale = model.norm.weight / (model.norm.running_var + model.norm.eps).sqrt()
    shift = model.norm.bias - model.norm.running_mean * scale
    for q in ORDERS:
        entering = (model.first.weight.abs() ** q).sum(1) + model.first.bias.abs() ** q
        middle = entering * (1 + scale.abs() ** q) + shift.abs() ** q
        expected = float(((model.last.weight.abs() ** q) @ middle).sum().detach()) ** (1 / q)
        assert path_norm(model, torch.zeros(1, 3).double(), q=q) == near(expected)


@pytest.mark.parametrize("affine", [False, True])
def test_a_norm_behind_a_linear_layer_is_folded(affine: bool) -> None:
    linear, norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
    drawn(nn.Sequential(linear, norm))
    if not affine:
        statistics = norm.running_mean, norm.running_var
        norm = nn.BatchNorm1d(4, affine=False).double()
        norm.running_mean, norm.running_var = statistics
    model = nn.Sequential(linear, norm, nn.ReLU(), nn.Linear(4, 2).double()).eval()
    folded = nn.Sequential(nn.Linear(3, 4).double(), nn.ReLU(), model[3])
    with torch.no_grad():
        shift = norm(torch.zeros(1, 4).double())
        scale = norm(torch.ones(1, 4).double()) - shift
        folded[0].weight.copy_(linear.weight * scale.T)
        folded[0].bias.copy_(linear.bias * scale[0] + shift[0])
    for q in ORDERS:
        assert path_norm(model, torch.zeros(1, 3).double(), q=q) == near(every_path(folded, q))


# ---- operations ----


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda m, x: 3 * x - 2, lambda w, q: 4 * 3**q + 4 * 2**q),
        (lambda m, x: torch.add(x, w_of(m)[0], alpha=-2), lambda w, q: 4 + (2 * w[0]).pow(q).sum()),
        (lambda m, x: 1 - x / 4, lambda w, q: 4 + 4 * 4**-q),
        (lambda m, x: x * w_of(m)[1], lambda w, q: w[1].pow(q).sum()),
        (lambda m, x: x @ w_of(m), lambda w, q: w.pow(q).sum()),
        (lambda m, x: torch.einsum("bi,ij->bj", x, w_of(m)), lambda w, q: w.pow(q).sum()),
        (
            lambda m, x: torch.addmm(w_of(m)[0], x, w_of(m), beta=3, alpha=2),
            lambda w, q: ((3 * w[0]).pow(q).sum()) + (2 * w).pow(q).sum(),
        ),
        (lambda m, x: torch.cat([x, w_of(m)[:1].expand(len(x), 4)], 1), lambda w, q: 4 + w[0].pow(q).sum()),
        (lambda m, x: F.pad(x, (1, 2), value=-3.0), lambda w, q: 4 + 3 * 3**q),
        (lambda m, x: x.mean(1), lambda w, q: 4 * 4**-q),
        (lambda m, x: x.sum(1), lambda w, q: 4),
        (lambda m, x: x.amax(1), lambda w, q: 4),
        (lambda m, x: x.max(1).values, lambda w, q: 4),
        (lambda m, x: torch.maximum(x, w_of(m)[0]), lambda w, q: 4 + w[0].pow(q).sum()),
        (lambda m, x: F.leaky_relu(x, 0.5).abs().clamp(min=0), lambda w, q: 4),
        (lambda m, x: F.interpolate(x[None], 8, mode="linear"), lambda w, q: 2 + 6 * (0.75**q + 0.25**q)),
        (lambda m, x: w_of(m).exp().sum() * x, lambda w, q: 4 * w.exp().sum() ** q),
    ],
)
@pytest.mark.parametrize("q", [1, 2])
def test_operations(function: Callable[..., Any], expected: Callable[..., Any], q: float) -> None:
    model = of(lambda m, x, y: function(m, x)).double()
    with torch.no_grad():
        model.weight.abs_()
    value = float(expected(model.weight.detach(), q)) ** (1 / q)
    assert path_norm(model, torch.zeros(1, 4).double(), q=q) == near(value)


def w_of(module: Any) -> Tensor:
    return module.weight


def test_writes_in_place_are_sums_and_biases() -> None:
    def function(m: Any, x: Tensor, y: Tensor) -> Tensor:
        whole = torch.zeros_like(x)
        whole[:, :2] = 2 * x[:, 1:3]
        whole[:, 2] = 7
        return whole

    assert path_norm(of(function).double(), torch.zeros(1, 4).double()) == near(2 + 2 + 7)


def test_parametrized_weights_have_the_values_the_model_computes() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    parametrized = copy.deepcopy(model)
    nn.utils.parametrizations.weight_norm(parametrized[0])
    x = torch.zeros(1, 3).double()
    assert path_norm(parametrized, x, q=2) == near(every_path(model, 2))
    with torch.no_grad():
        parametrized[0].parametrizations.weight.original0.mul_(3)
        model[0].weight.mul_(3)
    assert path_norm(parametrized, x, q=2) == near(every_path(model, 2))


# ---- laws ----


@pytest.mark.parametrize("q", ORDERS)
def test_rescaling_a_unit_changes_nothing(q: float) -> None:
    model = mlp(4, 5, 6, 3)
    x = torch.zeros(1, 4).double()
    before = path_norm(model, x, q=q)
    factors = torch.logspace(-3, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        model[0].weight.mul_(factors[:, None])
        model[0].bias.mul_(factors)
        model[2].weight.div_(factors)
    assert path_norm(model, x, q=q) == near(before)


@pytest.mark.parametrize("q", ORDERS)
def test_an_average_is_a_convolution_with_equal_weights(q: float) -> None:
    conv = nn.Conv2d(3, 3, 2, 2, groups=3, bias=False).double()
    with torch.no_grad():
        conv.weight.fill_(1 / 4)
    first = nn.Conv2d(2, 3, 3).double()
    x = torch.zeros(1, 2, 8, 8).double()
    pooled = path_norm(nn.Sequential(first, nn.AvgPool2d(2)), x, q=q)
    assert path_norm(nn.Sequential(first, conv), x, q=q) == near(pooled)
    largest = path_norm(nn.Sequential(first, nn.MaxPool2d(2)), x, q=q)
    assert pooled**q == near(largest**q * 4**-q)


def test_the_one_norm_bounds_what_the_network_answers() -> None:
    model = conv_net(nn.MaxPool2d(2))
    x = torch.rand(64, 2, 13, 12, dtype=torch.float64) * 2 - 1
    assert float(model(x).detach().abs().sum((1, 2, 3)).max()) <= path_norm(model, x)


def test_norms_exceed_float64_on_the_way() -> None:
    """8 units a layer, so that n layers have 8^(n + 1) paths."""
    layers = [nn.Linear(8, 8, bias=False).double() for _ in range(14)]
    with torch.no_grad():
        for k, layer in enumerate(layers):
            layer.weight.fill_(2.0**200 if k < 7 else 2.0**-200)
    x = torch.zeros(1, 8).double()
    assert path_norm(nn.Sequential(*layers), x) == near(2.0 ** (3 * 15))
    beyond = nn.Sequential(*layers[:7])
    assert path_norm(beyond, x) == math.inf
    assert path_norm(beyond, x, q=4) == math.inf
    assert path_norm(nn.Sequential(*layers[:4], *layers[7:8]), x, q=3) == near(2.0 ** (600 + 3 * 6 / 3))


def test_weights_of_any_magnitude_and_layout() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1e300, 2e300], [3e300, 0]], dtype=torch.float64))
        model[1].weight.copy_(torch.tensor([[1e-300, 0], [0, 2e-300]], dtype=torch.float64))
    assert path_norm(model, torch.zeros(1, 2).double(), q=2) == near(math.sqrt(1 + 4 + 36))
    strided = mlp(4, 5, 2)
    expected = every_path(strided, 1.5)
    strided[0].weight = nn.Parameter(strided[0].weight.detach().T.contiguous().T)
    strided[2].weight = nn.Parameter(strided[2].weight.detach().repeat_interleave(2, 1)[:, ::2])
    assert path_norm(strided, torch.zeros(1, 4).double(), q=1.5) == near(expected)
    low = mlp(4, 5, 2).bfloat16()
    assert path_norm(low, torch.zeros(1, 4).bfloat16()) == near(every_path(low, 1))


def test_zero_weights_have_norm_zero() -> None:
    model = nn.Linear(3, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    assert path_norm(model, torch.zeros(1, 3)) == 0


def test_the_model_is_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.Flatten(), nn.Linear(16, 2))
    model[0].train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    path_norm(model, torch.zeros(1, 2, 4, 4), q=2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_buffer_that_the_model_writes_to_is_left_alone() -> None:
    def function(m: Any, x: Tensor, y: Tensor) -> Tensor:
        m.places.zero_()
        m.places[0] = 1
        return x + m.weight[0].clone().fill_(2)

    model = of(function)
    weight = model.weight.detach().clone()
    assert path_norm(model, torch.zeros(1, 4)) == near(12)
    assert model.places.tolist() == [2, 0, 2]
    assert torch.equal(model.weight, weight)


# ---- refusals ----


@pytest.mark.parametrize("q", [0, -1, math.nan, math.inf, True, "2", None])
def test_q_is_a_finite_number_above_zero(q: Any) -> None:
    with pytest.raises(DomainError, match=r"test: got q=.*, expected a finite number above 0"):
        path_norm(nn.Linear(2, 2), torch.zeros(1, 2), q=q)


@pytest.mark.parametrize(
    ("layer", "op", "why"),
    [
        (nn.GELU(), "gelu", "not piecewise linear"),
        (nn.Tanh(), "tanh", "not piecewise linear"),
        (nn.Sigmoid(), "sigmoid", "not piecewise linear"),
        (nn.ReLU6(), "relu6|hardtanh", "not positively homogeneous"),
        (nn.Hardtanh(), "hardtanh", "not positively homogeneous"),
        (nn.Softmax(-1), "softmax", "divides by a sum that depends on the input"),
        (nn.LayerNorm(4), "layer_norm", "its statistics depend on the input"),
        (nn.LeakyReLU(2), "leaky_relu", "its slope 2 is above 1"),
        (nn.Threshold(1, 0), "threshold", "not positively homogeneous"),
        (nn.BatchNorm1d(4, track_running_stats=False), "batch_norm", "its statistics are the batch's"),
    ],
)
def test_layers_without_a_path_norm_are_refused_by_name(layer: nn.Module, op: str, why: str) -> None:
    model = nn.Sequential()
    model.add_module("head", nn.Linear(4, 4))
    model.add_module("odd", layer)
    with pytest.raises(UnsupportedLayout, match=rf"test: got ({op}) in 'odd' \(.*{why}.*\), expected a network of"):
        path_norm(model, torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda m, x, y: x * y, "multiplies what depends on the input"),
        (lambda m, x, y: y @ y.mT, "multiplies what depends on the input"),
        (lambda m, x, y: F.linear(x, y), "weights depend on the input"),
        (lambda m, x, y: torch.ones_like(y) / y, "divides by what depends on the input"),
        (lambda m, x, y: y.sort(1).values, "not piecewise linear"),
        (lambda m, x, y: x[:, y.max(1).indices], "depends on values"),
        (lambda m, x, y: F.scaled_dot_product_attention(y, y, y), "multiplies what depends on the input"),
        (lambda m, x, y: y.long(), "rounds"),
    ],
)
def test_operations_without_a_path_norm_are_refused(function: Callable[..., Any], why: str) -> None:
    with pytest.raises(UnsupportedLayout, match=why):
        path_norm(of(function), torch.zeros(1, 4))


def test_recurrence_and_embeddings_are_refused() -> None:
    with pytest.raises(UnsupportedLayout, match=r"gru .*recurrent"):
        path_norm(nn.GRU(4, 3), torch.zeros(2, 1, 4))
    with pytest.raises(UnsupportedLayout, match=r"embedding .*its input is indices"):
        path_norm(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)), torch.zeros(1, 3, dtype=torch.int64))


def test_models_without_values_are_refused() -> None:
    with pytest.raises(UnsupportedLayout, match="test: got Linear on the meta device, expected a model with values"):
        path_norm(nn.Linear(3, 2, device="meta"), torch.zeros(1, 3))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    with torch.no_grad():
        model[1][1].weight[0, 1] = value
    with pytest.raises(NonFinite, match=r"test: got a NaN or an infinity in '1.1.weight', expected finite values"):
        path_norm(model, torch.zeros(1, 3))


def test_statistics_that_are_not_finite_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[1].running_var[2] = math.nan
    with pytest.raises(NonFinite, match=r"test: got a NaN or an infinity in '1.running_var', expected finite values"):
        path_norm(model, torch.zeros(1, 3))
