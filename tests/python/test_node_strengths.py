"""Strengths of the nodes of models: against the Jacobian of each affine call, the formula for chains, and laws.

A sum of n float64 products has an error of some n u of the sum of their magnitudes: 1e-12 of it here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import netassay as na
from netassay import NonFinite, ShapeError, UnsupportedLayout
from netassay.network import FLAGS, NodeLayer, NodeStrengths
from python import architectures
from python.models import ConvNet, Encoder, Recurrent, Wrap, one_thread, seeded, tokens  # noqa: F401

Affine = Callable[[Tensor], Tensor]
SIDES = ("", "_absolute", "_squared")


def jacobian(f: Affine, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Literally: T (outputs, inputs) and b of one sample, f(x) = T x + b."""
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(f, zero)
    b = f(zero).detach().flatten()
    return matrix.reshape(len(b), -1).detach().numpy(), b.numpy()


def powers(values: np.ndarray) -> list[np.ndarray]:
    return [values, np.abs(values), values**2]


def near(found: np.ndarray | None, expected: np.ndarray) -> None:
    assert found is not None
    np.testing.assert_allclose(
        found.ravel(), expected.ravel(), rtol=1e-10, atol=1e-12 * max(1.0, np.abs(expected).max())
    )


def assert_incoming(layer: NodeLayer, *terms: tuple[np.ndarray, np.ndarray]) -> None:
    """The sums over rows of every T, and of the biases."""
    for k, side in enumerate(SIDES):
        near(getattr(layer, f"incoming{side}"), sum(powers(t)[k].sum(1) + powers(b)[k] for t, b in terms))


def assert_outgoing(layer: NodeLayer, *matrices: np.ndarray) -> None:
    for k, side in enumerate(SIDES):
        near(getattr(layer, f"outgoing{side}"), sum(powers(t)[k].sum(0) for t in matrices))


def assert_external(layer: NodeLayer, side: str) -> None:
    for power in SIDES:
        values = getattr(layer, side + power)
        assert values is not None
        assert (values == 1).all()
        assert values.shape == layer.shape


def drawn(model: nn.Module, seed: int = 3) -> nn.Module:
    """In float64 and evaluation, with statistics of BatchNorm and norms' parameters that are not those of new ones."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
                module.running_var.uniform_(0.5, 2, generator=generator)
    return model


def strengths(model: nn.Module, *shapes: Sequence[int]) -> NodeStrengths:
    return na.node_strengths(model, tuple(torch.zeros(1, *shape, dtype=torch.float64) for shape in shapes))


def names(found: NodeStrengths) -> list[str]:
    return [layer.name for layer in found]


def mlp(*widths: int, bias: bool = True) -> nn.Sequential:
    layers = [part for i, o in pairwise(widths) for part in (nn.Linear(i, o, bias=bias), nn.ReLU(), nn.Dropout())]
    model = drawn(nn.Sequential(*layers[:-2]))
    assert isinstance(model, nn.Sequential)
    return model


# ---- chains ----


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [(3, 2), (1, 1), (5, 4, 3), (2, 7, 1, 5, 4)])
def test_a_chain_has_the_strengths_of_the_formula(widths: tuple[int, ...], bias: bool) -> None:
    """Input s_i = 1 + sum_j W1_ij; hidden (sum_i W^l_ik + b_k) + sum_j W^{l+1}_kj; output (sum_i W^L_ik + b_k) + 1."""
    model = mlp(*widths, bias=bias)
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    weights = [layer.weight.tolist() for layer in layers]
    biases = [layer.bias.tolist() if layer.bias is not None else [0.0] * layer.out_features for layer in layers]
    found = strengths(model, widths[:1])
    assert len(found) == len(widths)
    for level, (nodes, width) in enumerate(zip(found, widths, strict=True)):
        expected = []
        for k in range(width):
            into = 1.0 if level == 0 else sum(weights[level - 1][k]) + biases[level - 1][k]
            out = 1.0 if level == len(layers) else sum(row[k] for row in weights[level])
            expected.append(into + out)
        assert nodes.strength == pytest.approx(expected, rel=1e-12, abs=1e-12)
        mean = sum(expected) / width
        fluctuation = math.sqrt(sum((s - mean) ** 2 for s in expected) / width)
        assert nodes.fluctuation == pytest.approx(fluctuation, rel=1e-12, abs=1e-12)
        assert nodes.complete
    assert found.fluctuation == tuple(nodes.fluctuation for nodes in found)


def test_disparity_is_of_the_links_of_one_side_or_of_both() -> None:
    model = mlp(3, 4, 2, bias=False)
    found = strengths(model, (3,))
    into, out = (np.abs(model[k].weight.detach().numpy()) for k in (0, 3))
    layer = found["0"]
    near(layer.incoming_disparity, ((into / into.sum(1, keepdims=True)) ** 2).sum(1))
    near(layer.outgoing_disparity, ((out / out.sum(0)) ** 2).sum(0))
    both = np.concatenate([into, out.T], 1)
    near(layer.disparity, ((both / both.sum(1, keepdims=True)) ** 2).sum(1))


def test_a_node_without_weight_has_disparity_0() -> None:
    model = mlp(3, 4, 2)
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1], model[3].weight[:, 1] = 0, 0, 0
    layer = strengths(model, (3,))["0"]
    assert layer.disparity is not None
    assert layer.disparity[1] == 0
    assert (np.delete(layer.disparity, 1) > 0).all()


# ---- every affine operation against its Jacobian ----


def conv(*args: Any, transposed: bool = False, axes: int = 2, **kwargs: Any) -> nn.Module:
    return getattr(nn, f"Conv{'Transpose' if transposed else ''}{axes}d")(*args, **kwargs)


class Padded(nn.Module):
    """Zero padding on two sides only, before a convolution of a part of the channels and a linear layer of the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(F.pad(x[:, :2], (2, 0, 0, 1)))
        return torch.cat([y.flatten(1), self.fc(x[:, 2]).flatten(1)], 1)


class Matmul(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w + self.b


class Addmm(Matmul):
    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.b, x, self.w, beta=0.5, alpha=-2)


class Einsum(Matmul):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bti,io->bto", x, self.w)


def function(f: Affine) -> nn.Module:
    return Wrap(nn.Identity(), lambda inner, x: f(inner(x)))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "linear at positions": (lambda: nn.Linear(4, 3), (5, 4)),
    "conv1d": (lambda: conv(3, 4, 3, axes=1, padding=1), (3, 7)),
    "conv3d": (lambda: conv(2, 3, 2, axes=3, stride=2), (2, 3, 4, 5)),
    "conv of the page": (lambda: conv(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (4, 9, 8)),
    "conv of even kernel, same": (lambda: conv(2, 3, (2, 4), padding="same"), (2, 5, 6)),
    "conv of patches": (lambda: conv(3, 5, 4, stride=4), (3, 8, 12)),
    "conv of a long kernel": (lambda: conv(2, 3, 9, axes=1, stride=2, padding=5), (2, 12)),
    "conv along one axis": (lambda: conv(2, 3, (1, 3), padding=(0, 2), dilation=2), (2, 4, 9)),
    "conv, unread border": (lambda: conv(2, 2, 2, stride=3, bias=False), (2, 7, 7)),
    "conv, circular": (lambda: conv(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
    "depthwise": (lambda: conv(4, 8, 3, groups=4, padding=1), (4, 5, 6)),
    "transposed": (
        lambda: conv(4, 6, 3, transposed=True, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
        (4, 4, 3),
    ),
    "transposed, along one axis": (lambda: conv(4, 2, 5, transposed=True, axes=1, stride=3), (4, 6)),
    "batch norm": (lambda: nn.BatchNorm2d(3), (3, 2, 2)),
    "average pool": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 6, 7)),
    "average pool, padding counts": (lambda: nn.AvgPool1d(3, 2, 1), (2, 6)),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d((3, 2)), (2, 7, 5)),
    "mean": (lambda: function(lambda x: x.mean((2, 3))), (3, 4, 5)),
    "sum": (lambda: function(lambda x: x.sum(1)), (3, 4)),
    "cumsum": (lambda: function(lambda x: x.cumsum(1)), (5,)),
    "nearest": (lambda: nn.Upsample(scale_factor=2), (2, 3, 3)),
    "bilinear": (lambda: nn.Upsample(size=(5, 7), mode="bilinear"), (2, 3, 4)),
    "bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True), (1, 4, 4)),
    "fold": (lambda: nn.Fold((4, 4), 3), (9, 4)),
    "scaled": (lambda: function(lambda x: -(x * 3 - 1) / 2), (4,)),
    "scaled in place": (lambda: function(lambda x: x.clone().mul_(3).sub_(1).neg_().div_(2)), (4,)),
    "subtracted from": (lambda: function(lambda x: 2 - x), (4,)),
    "matmul and bias": (Matmul, (4,)),
    "addmm": (Addmm, (4,)),
    "einsum": (Einsum, (5, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_an_affine_call_has_the_sums_of_its_jacobian(case: str) -> None:
    make, shape = CASES[case]
    model = drawn(make())
    found = strengths(model, shape)
    first, last = found[0], found[-1]
    assert_external(first, "incoming")
    assert_external(last, "outgoing")
    matrix, b = jacobian(model, *shape)
    if case.startswith("scaled"):  # four layers of one link a node
        assert len(found) == 5
        near(first.outgoing, np.full(4, 3.0))
        near(last.incoming, np.full(4, 0.5))
        return
    assert len(found) == 2
    if case == "conv, circular":  # a node that a window reads twice has two links
        near(last.incoming, matrix.sum(1) + b)
        near(first.outgoing, matrix.sum(0))
        return
    assert_incoming(last, (matrix, b))
    assert_outgoing(first, matrix)
    assert last.shape == tuple(model(torch.zeros(1, *shape).double()).shape[1:])


def test_nodes_that_padding_or_another_branch_takes_have_no_links_there() -> None:
    model = drawn(Padded())
    found = strengths(model, (3, 4, 5))
    matrix, b = jacobian(model, 3, 4, 5)
    assert names(found) == ["x", "conv", "fc"]
    assert_outgoing(found["x"], matrix)
    near(found["conv"].incoming, (matrix.sum(1) + b)[: found["conv"].nodes])
    near(found["fc"].incoming, (matrix.sum(1) + b)[found["conv"].nodes :])


# ---- the graph between the calls ----


def test_flattening_orders_nodes_by_channel_row_column() -> None:
    model = drawn(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)))
    found = strengths(model, (2, 6, 6))
    assert [layer.shape for layer in found] == [(2, 6, 6), (3, 4, 4), (3, 2, 2), (4,)]
    pool, linear = jacobian(model[2], 3, 4, 4), jacobian(model[4], 12)
    assert_outgoing(found["0"], pool[0])
    assert_incoming(found["2"], pool)
    assert_outgoing(found["2"], linear[0])


class ResidualBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn(self.conv(x)), inplace=True)
        y += x
        return self.head(torch.relu_(y))


def test_a_residual_addition_is_unit_links_from_both_branches() -> None:
    model = drawn(ResidualBlock())
    found = strengths(model, (3, 4, 5))
    assert names(found) == ["x", "conv", "(root):add", "head"]
    folded, head = jacobian(nn.utils.fuse_conv_bn_eval(model.conv, model.bn), 3, 4, 5), jacobian(model.head, 3, 4, 5)
    unit = np.eye(60)
    assert_outgoing(found["x"], folded[0], unit)
    assert_incoming(found["conv"], folded)
    assert_outgoing(found["conv"], unit)
    assert_incoming(found["(root):add"], (unit, np.zeros(60)), (unit, np.zeros(60)))
    assert_outgoing(found["(root):add"], head[0])
    assert_incoming(found["head"], head)
    assert found["conv"].flags == ("folded_batchnorm",)


@pytest.mark.parametrize("transposed", [False, True])
def test_batchnorm_is_folded_into_the_weights_and_biases_before_it(transposed: bool) -> None:
    layer = conv(4, 6, 3, groups=2, stride=2, transposed=transposed)
    model = drawn(nn.Sequential(layer, nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)))
    found = strengths(model, (4, 5, 5))
    assert names(found)[1:] == ["0", "3"]
    folded = jacobian(model[:2], 4, 5, 5)
    assert_outgoing(found[0], folded[0])
    assert_incoming(found["0"], folded)
    if not transposed:
        by_hand = jacobian(nn.utils.fuse_conv_bn_eval(model[0], model[1]), 4, 5, 5)
        assert_incoming(found["0"], by_hand)


def test_batchnorm_is_a_layer_of_its_own_where_something_else_reads_the_layer_before_it() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.bn(y) + y

    model = drawn(Both())
    found = strengths(model, (2, 3, 3))
    assert names(found) == ["x", "conv", "bn", "(root):add"]
    diagonal = jacobian(model.bn, 3, 3, 3)
    assert_incoming(found["bn"], diagonal)
    assert_outgoing(found["conv"], diagonal[0], np.eye(27))
    assert found["conv"].flags == ()


def test_concatenated_nodes_have_links_of_their_own_place() -> None:
    model = drawn(architectures.Dense(3, 2))
    found = strengths(model, (3,))
    first, second = (layer.weight.detach().numpy() for layer in model.layers)
    external = np.eye(3)  # the output has x too
    assert_outgoing(found["x"], first, second[:, :3], external)
    assert_outgoing(found["layers.0"], second[:, 3:], np.eye(4))


def test_a_module_called_twice_is_two_node_layers() -> None:
    model = drawn(architectures.SharedModules())
    found = strengths(model, (6,))
    assert [(layer.name, layer.call) for layer in found][2:4] == [("shared", 0), ("shared", 1)]
    shared, last = model.shared.weight.detach().numpy(), model.last.weight.detach().numpy()
    assert_outgoing(found["shared", 0], shared)
    assert_outgoing(found["shared", 1], last)
    with pytest.raises(KeyError, match=r"got 'shared', expected one of its calls: \('shared', 0\), \('shared', 1\)"):
        found["shared"]


def test_every_input_and_every_output_has_its_link_to_the_outside() -> None:
    two = strengths(drawn(architectures.TwoInputs()), (6,), (4,))
    assert [layer.name for layer in two if "input" in layer.flags] == ["x", "y"]
    model = drawn(architectures.TwoOutputs())
    found = strengths(model, (6,))
    assert [layer.name for layer in found if "output" in layer.flags] == ["label", "score"]
    heads = [layer.weight.detach().numpy() for layer in (model.label, model.score)]
    assert_outgoing(found["body"], *heads)


def test_elementwise_functions_and_views_keep_nodes() -> None:
    def f(inner: nn.Module, x: Tensor) -> Tensor:
        y = F.gelu(torch.tanh(inner(x)))
        x = y.view_as(x).pow(2).transpose(1, 2).reshape(-1, 6).clone()
        return x.masked_fill(x > 1, 0.0) + 0

    model = drawn(Wrap(nn.Linear(3, 3), f))
    found = strengths(model, (2, 3))
    assert names(found) == ["args_0", "inner"]
    assert_external(found["inner"], "outgoing")


def test_a_node_that_is_repeated_has_the_links_of_every_copy() -> None:
    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).repeat(1, 3))

    model = drawn(Repeated())
    weight = model.b.weight.detach().numpy()
    assert_outgoing(strengths(model, (3,))["a"], weight[:, :2], weight[:, 2:4], weight[:, 4:])


def test_of_positions_and_samples_on_one_axis_those_of_the_first_sample_are_taken() -> None:
    def positions_first(inner: nn.Module, x: Tensor) -> Tensor:
        return inner(x.transpose(0, 1).reshape(-1, 3)).reshape(4, -1, 2)[1:].transpose(0, 1)

    def samples_first(inner: nn.Module, x: Tensor) -> Tensor:
        return inner(x.reshape(-1, 3)).reshape(-1, 4, 2)[:, 1:]

    for function in (positions_first, samples_first):
        model = drawn(Wrap(nn.Linear(3, 2), function))
        found = strengths(model, (4, 3))
        assert [layer.shape for layer in found] == [(4, 3), (4, 2)]
        near(found["inner"].outgoing, np.repeat([[0.0], [1.0], [1.0], [1.0]], 2, axis=1))
        weight = model.inner.weight.detach().numpy()
        near(found[0].outgoing, np.tile(weight.sum(0), (4, 1)))


def test_what_is_written_into_a_part_of_a_tensor_is_read_there() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = x.clone()
            y[:, :2] = self.a(x)
            return self.b(y)

    model = drawn(Written())
    found = strengths(model, (4,))
    first, second = (layer.weight.detach().numpy() for layer in (model.a, model.b))
    assert_outgoing(found["x"], first, np.pad(second[:, 2:], ((0, 0), (2, 0))))
    assert_outgoing(found["a"], second[:, :2])


def test_a_parameter_that_is_written_over_nodes_is_nodes_there() -> None:
    class Written(nn.Module):
        def __init__(self, value: float | None) -> None:
            super().__init__()
            self.first, self.token, self.last = nn.Linear(3, 4), nn.Parameter(torch.ones(2)), nn.Linear(4, 2)
            self.value = value

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            y[:, 1:3] = self.token if self.value is None else self.value
            return self.last(y)

    model = drawn(Written(None))
    found, out = strengths(model, (3,)), model.last.weight.detach().numpy().sum(0)
    assert names(found) == ["x", "first", "token", "last"]
    near(found["first"].outgoing, np.array([out[0], 0, 0, out[3]]))
    near(found["token"].outgoing, out[1:3])
    assert not found.data_dependent
    masked = strengths(drawn(Written(-math.inf)), (3,))  # no nodes
    assert names(masked) == ["x", "first", "last"]
    assert (masked["first"].outgoing != 0).tolist() == [True, False, False, True]  # type: ignore[union-attr]


def test_nodes_that_are_written_where_nothing_is_known_are_not_called_unread() -> None:
    def placed(inner: nn.Module, x: Tensor) -> Tensor:
        y = x.new_zeros(len(x), 2, 3)
        y[:, 0] = torch.ones(3)
        y[:, 1] = x
        return inner(y)

    found = strengths(drawn(Wrap(nn.Linear(3, 2), placed)), (3,))
    assert found[0].flags == ("input", "unknown_out")
    assert [one.op for one in found.unknown] == ["copy"]


def test_a_class_token_is_nodes_and_a_position_a_bias() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.position = nn.Parameter(torch.ones(1, 1, 3)), nn.Parameter(torch.ones(1, 3, 3))
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
            return self.fc(x)

    model = drawn(Tokens())
    found = strengths(model, (2, 3))
    assert [(n.name, n.shape) for n in found] == [
        *(("x", (2, 3)), ("token", (1, 3))),
        *(("position", (3, 3)), ("fc", (3, 2))),
    ]
    assert found["token"].flags == ("constant",)
    near(found["token"].strength, np.full(3, 2.0))
    added = found["position"]
    near(added.incoming, 1 + model.position.detach().numpy())
    near(added.outgoing, np.tile(model.fc.weight.detach().numpy().sum(0), (3, 1)))


# ---- what depends on values ----


def test_max_pooling_is_listed_and_nothing_is_guessed_around_it() -> None:
    model = drawn(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)))
    found = strengths(model, (1, 6, 6))
    assert [(one.name, one.op) for one in found.data_dependent] == [("2", "max_pool2d")]
    before, behind = found["0"], found["2"]
    assert before.outgoing is None
    assert before.flags == ("data_dependent_out",)
    assert not before.complete
    assert behind.incoming is None
    assert behind.flags == ("data_dependent_in",)
    assert behind.shape == (2, 2, 2)
    assert_incoming(before, jacobian(model[0], 1, 6, 6))
    assert_outgoing(behind, model[4].weight.detach().numpy())
    near(before.strength, before.incoming)
    near(behind.strength, behind.outgoing)


def test_a_transformer_encoder_is_dense_layers_around_attention_and_norms() -> None:
    model = drawn(seeded(Encoder))
    found = na.node_strengths(model, tokens(1, 3))
    assert found.unknown == ()
    assert {one.op for one in found.data_dependent} == {"scaled_dot_product_attention", "layer_norm"}
    layer = model.encoder.layers[0]
    projection = found["encoder.layers.0.self_attn.in_proj_weight"]
    into, bias = layer.self_attn.in_proj_weight.detach().numpy(), layer.self_attn.in_proj_bias.detach().numpy()
    assert projection.outgoing is None
    assert projection.shape == (3, 24)
    near(projection.incoming, np.tile(into.sum(1) + bias, (3, 1)))
    heads = found["encoder.layers.0.self_attn:scaled_dot_product_attention"]
    assert heads.incoming is None
    assert heads.shape == (2, 3, 4)
    columns = layer.self_attn.out_proj.weight.detach().numpy().sum(0).reshape(2, 1, 4)
    near(heads.outgoing, np.tile(columns, (1, 3, 1)))
    residual = found["encoder.layers.0:add", 0]
    assert (residual.incoming == 2).all()
    assert residual.outgoing is None
    norm = found["encoder.layers.0.norm1"]
    near(norm.incoming, np.tile((layer.norm1.weight + layer.norm1.bias).detach().numpy(), (3, 1)))
    near(norm.outgoing, np.tile(1 + layer.linear1.weight.detach().numpy().sum(0), (3, 1)))
    assert norm.flags == ("data_dependent_in",)
    table = model.embed.weight.detach().numpy()
    near(found["embed:tokens"].outgoing, table.sum(1))
    near(found["embed"].incoming, np.tile(table.sum(0), (3, 1)))
    near(found["embed"].outgoing, np.tile(1 + into.sum(0), (3, 1)))


def test_an_lstm_is_unrolled_over_steps_and_gates() -> None:
    model = drawn(seeded(Recurrent))
    found = strengths(model, (4, 5))
    lstm = {name: value.detach().numpy() for name, value in model.lstm.named_parameters()}
    gates, hidden = found["lstm:gates_l0"], found["lstm:hidden_l0"]
    assert gates.shape == (4, 28)
    assert hidden.shape == (4, 7)
    assert gates.incoming is not None
    bias = lstm["bias_ih_l0"] + lstm["bias_hh_l0"]
    first = lstm["weight_ih_l0"].sum(1) + bias
    near(gates.incoming[0], first)
    near(gates.incoming[1:], np.tile(first + lstm["weight_hh_l0"].sum(1), (3, 1)))
    assert gates.outgoing is None
    assert hidden.incoming is None
    assert hidden.outgoing is not None
    near(hidden.outgoing[:-1], np.tile((lstm["weight_hh_l0"].sum(0) + lstm["weight_ih_l1"].sum(0)), (3, 1)))
    near(hidden.outgoing[-1], lstm["weight_ih_l1"].sum(0))
    near(found["x"].outgoing, np.tile(lstm["weight_ih_l0"].sum(0), (4, 1)))
    near(found["lstm:hidden_l1"].outgoing[-1], model.fc.weight.detach().numpy().sum(0))  # type: ignore[index]
    assert found["x"].complete
    assert [one.name for one in found.data_dependent] == ["lstm"]
    assert found.unknown == ()


def test_both_directions_of_a_plain_recurrence_are_the_jacobians_of_its_cells() -> None:
    model = drawn(nn.RNN(2, 3, batch_first=True, bidirectional=True))
    found = strengths(model, (4, 2))
    into, state = model.weight_ih_l0_reverse.detach().numpy(), model.weight_hh_l0_reverse.detach().numpy()
    bias = (model.bias_ih_l0_reverse + model.bias_hh_l0_reverse).detach().numpy()
    backward = found["(root):hidden_l0_reverse"]
    assert backward.complete
    assert backward.incoming is not None
    assert found.data_dependent == ()
    near(backward.incoming[-1], into.sum(1) + bias)
    near(backward.incoming[:-1], np.tile(into.sum(1) + state.sum(1) + bias, (3, 1)))
    near(backward.outgoing_absolute, np.array([[1.0] * 3] + [list(1 + np.abs(state).sum(0))] * 3))


def test_projected_states_are_a_dense_layer_behind_the_gates_and_time_may_come_first() -> None:
    model = drawn(nn.LSTM(3, 4, proj_size=2))
    found = na.node_strengths(model, torch.zeros(5, 1, 3).double(), batch_axis=1)
    projection = model.weight_hr_l0.detach().numpy()
    assert [layer.shape for layer in found] == [(5, 3), (5, 16), (5, 4), (5, 2)]
    near(found["(root):outputs_l0"].outgoing, np.tile(projection.sum(0), (5, 1)))
    near(found["(root):hidden_l0"].incoming, np.tile(projection.sum(1), (5, 1)))
    assert found["(root):hidden_l0"].complete
    assert [one.op for one in na.node_strengths(model, torch.zeros(5, 1, 3).double()).unknown] == ["lstm"]


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_a_cell_is_one_step(kind: Any) -> None:
    model = drawn(kind(3, 2))
    found = strengths(model, (3,), (2,)) if kind is not nn.LSTMCell else strengths(model, (3,))
    units = found["(root):hidden" if kind is nn.RNNCell else "(root):gates"]
    expected = model.weight_ih.sum(1) + model.bias_ih + model.bias_hh
    near(units.incoming, (expected if kind is nn.LSTMCell else expected + model.weight_hh.sum(1)).detach().numpy())
    near(found[0].outgoing, model.weight_ih.sum(0).detach().numpy())
    if kind is not nn.LSTMCell:
        near(found[1].outgoing, model.weight_hh.sum(0).detach().numpy())


def test_products_gates_and_selections_are_listed_by_name_and_reason() -> None:
    found = strengths(drawn(architectures.SqueezeExcite()), (3, 8, 8))
    assert [one.name for one in found.data_dependent] == ["(root):mul"]
    assert found.data_dependent[0].reason == "it multiplies tensors that depend on the input"
    assert found["conv"].outgoing is not None
    assert "data_dependent_out" in found["conv"].flags

    def chosen(inner: nn.Module, x: Tensor) -> Tensor:
        y = inner(x)
        return torch.where(y > 0, y, 0.5 * y)

    listed = strengths(drawn(Wrap(nn.Linear(3, 2), chosen)), (3,)).data_dependent
    assert [one.op for one in listed] == ["where"]


def test_an_operation_without_a_rule_is_unknown_and_what_is_behind_it_known() -> None:
    model = drawn(Wrap(nn.Linear(9, 2), lambda inner, x: inner(torch.linalg.matrix_exp(x).flatten(1))))
    found = strengths(model, (3, 3))
    assert [one.op for one in found.unknown] == ["linalg_matrix_exp"]
    assert found[1].flags == ("unknown_in",)
    assert found[1].incoming is None
    assert found[0].outgoing is None
    assert_outgoing(found[1], model.inner.weight.detach().numpy())


# ---- whole networks ----


def test_a_resnet_is_known_but_for_its_max_pool() -> None:
    blocks = [architectures.Block(4, 4, 1, False), architectures.Block(4, 6, 2, False)]
    stem = [architectures.conv_norm(3, 4, 3), nn.MaxPool2d(2)]
    model = drawn(architectures.Classifier(nn.Sequential(*stem, *blocks), 1, nn.Linear(6, 5)))
    found = strengths(model, (3, 8, 8))
    assert [one.name for one in found.data_dependent] == ["features.1"]
    assert found.unknown == ()
    assert [layer.name for layer in found if not layer.complete] == ["features.0.conv", "features.1"]
    first, second = model.features[2].body[0], model.features[3]
    body, down = (
        jacobian(nn.utils.fuse_conv_bn_eval(part.conv, part.norm), 4, 4, 4)
        for part in (second.body[0], second.downsample)
    )
    assert_outgoing(found["features.2:add"], body[0], down[0])
    assert_incoming(found["features.3.downsample.conv"], down)
    assert_outgoing(
        found["features.1"], np.eye(64), jacobian(nn.utils.fuse_conv_bn_eval(first.conv, first.norm), 4, 4, 4)[0]
    )
    assert set().union(*(layer.flags for layer in found)) <= set(FLAGS)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (architectures.Branches, (3, 8, 8)),
        (architectures.Depthwise, (4, 8, 8)),
        (ConvNet, (2, 8, 8)),
        (architectures.lenet5, (1, 32, 32)),
    ],
)
def test_all_links_that_leave_arrive(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """Biases, and what comes in from outside, are no links that leave a node."""
    model = drawn(make())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.zero_()
    found = strengths(model, shape)
    for side in SIDES:
        out = sum(
            v.sum() for n in found if "output" not in n.flags and (v := getattr(n, f"outgoing{side}")) is not None
        )
        into = sum(
            v.sum() for n in found if "input" not in n.flags and (v := getattr(n, f"incoming{side}")) is not None
        )
        assert out == pytest.approx(into, rel=1e-10)


# ---- laws ----


def test_permuting_hidden_units_permutes_their_strengths_and_no_others() -> None:
    model = mlp(5, 6, 4, 3)
    other = copy.deepcopy(model)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        other[0].weight.copy_(model[0].weight[order])
        other[0].bias.copy_(model[0].bias[order])
        other[3].weight.copy_(model[3].weight[:, order])
    a, b = strengths(model, (5,)), strengths(other, (5,))
    near(b["0"].strength, a["0"].strength[order.numpy()])  # type: ignore[index]
    for name in (0, "3", "6"):
        near(b[name].strength, a[name].strength)  # type: ignore[arg-type]
    assert b["0"].fluctuation == pytest.approx(a["0"].fluctuation)


def test_the_values_of_the_input_and_its_batch_do_not_matter() -> None:
    model = drawn(ConvNet())
    a = na.node_strengths(model, torch.zeros(1, 2, 8, 8).double())
    b = na.node_strengths(model, torch.randn(5, 2, 8, 8).double())
    assert names(a) == names(b)
    assert all(np.array_equal(x.strength, y.strength) for x, y in zip(a, b, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_of_any_format_are_summed_in_float64(dtype: torch.dtype) -> None:
    model = drawn(ConvNet()).to(dtype)
    a = na.node_strengths(model, torch.zeros(1, 2, 8, 8, dtype=dtype))
    b = na.node_strengths(model.double(), torch.zeros(1, 2, 8, 8).double())
    for x, y in zip(a, b, strict=True):
        near(x.strength, y.strength)  # type: ignore[arg-type]


def test_the_default_device_does_not_matter() -> None:
    model = drawn(ConvNet())
    a = na.node_strengths(model, torch.zeros(1, 2, 8, 8).double())
    x = torch.zeros(1, 2, 8, 8).double()
    with torch.device("meta"):
        b = na.node_strengths(model, x)
    assert all(np.array_equal(x.strength, y.strength) for x, y in zip(a, b, strict=True))  # type: ignore[arg-type]


def test_nothing_of_the_model_changes() -> None:
    model = seeded(ConvNet).train()
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    with torch.inference_mode():
        inside = na.node_strengths(model, torch.zeros(2, 2, 8, 8))
    outside = na.node_strengths(model, torch.zeros(2, 2, 8, 8))
    assert all(np.array_equal(x.strength, y.strength) for x, y in zip(inside, outside, strict=True))  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(module.training for module in model.modules())
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(model.fc.weight.grad, torch.ones_like(model.fc.weight))
    assert model.conv1.weight.grad is None
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_several_threads_may_follow_one_model() -> None:
    model = drawn(ConvNet()).train()
    x = torch.zeros(1, 2, 8, 8).double()
    expected = na.node_strengths(model, x)
    with ThreadPoolExecutor(3) as pool:
        several = list(pool.map(lambda _: na.node_strengths(model, x), range(3)))
    for found in several:
        assert names(found) == names(expected)
        assert all(np.array_equal(a.strength, b.strength) for a, b in zip(found, expected, strict=True))  # type: ignore[arg-type]
    assert model.training


# ---- the result ----


def test_layers_are_found_by_place_and_name_and_are_read_only() -> None:
    found = strengths(mlp(3, 4, 2), (3,))
    assert found[0] is found.layers[0]
    assert found["0"] is found[1]
    assert "0" in found
    assert "9" not in found
    with pytest.raises(KeyError, match="got 'fc', expected one of 3 node layers; the nearest is"):
        found["fc"]
    with pytest.raises(ValueError, match="read-only"):
        found["0"].incoming[0] = 1  # type: ignore[index]
    assert repr(found) == "<NodeStrengths of Sequential: 3 node layers, 9 nodes>"
    lines = str(found).splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["node", "layer", "nodes", "strength", "fluctuation", "disparity"]


def test_bad_models_and_weights_are_named() -> None:
    with torch.device("meta"):
        model = nn.Linear(3, 2)
    with pytest.raises(UnsupportedLayout, match="node_strengths: got Linear on the meta device, expected a model with"):
        na.node_strengths(model, torch.zeros(1, 3))
    broken = mlp(3, 4, 2)
    with torch.no_grad():
        broken[3].weight[0, 1] = math.nan
    with pytest.raises(NonFinite, match=r"node_strengths: got a NaN or an infinity in '3\.weight', expected finite"):
        strengths(broken, (3,))
    for buffer, value, message in (
        ("running_var", math.nan, r"got a NaN or an infinity in '1\.running_var', expected finite values$"),
        ("running_var", -1.0, r"got a variance of -1\.0 in '1\.running_var', expected numbers above -1e-05$"),
        ("running_mean", math.inf, r"got a NaN or an infinity in '1\.running_mean', expected finite values$"),
    ):
        norm = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        getattr(norm[1], buffer)[1] = value
        with pytest.raises(NonFinite, match="^node_strengths: " + message):
            na.node_strengths(norm, torch.zeros(1, 3))
    with pytest.raises(TypeError, match=r"node_strengths: got int, expected a torch.nn.Module"):
        na.node_strengths(3, torch.zeros(1, 3))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="node_strengths: got an example input of shape"):
        na.node_strengths(nn.Linear(3, 2), torch.zeros(1, 3), batch_axis=4)


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 2), lambda: nn.Conv1d(3, 2, 1), lambda: nn.LSTM(3, 2)])
def test_sums_that_float64_does_not_hold_are_refused(make: Callable[[], nn.Module]) -> None:
    model = make().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1e160)  # squares, and with them disparities, are beyond it
    shape = (1, 3, 4) if isinstance(model, nn.Conv1d) else (4, 1, 3) if isinstance(model, nn.LSTM) else (1, 3)
    with pytest.raises(
        NonFinite, match=r"^node_strengths: got links of '.*' whose sums lie beyond float64, expected sm"
    ):
        na.node_strengths(model, torch.zeros(*shape).double(), batch_axis=int(isinstance(model, nn.LSTM)))


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_quantised_layer_has_no_rule() -> None:
    class Packed(nn.Module):
        """What nn.quantized.dynamic.Linear does: its weights are no tensor."""

        def __init__(self) -> None:
            super().__init__()
            weight = torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8)
            self.packed = torch.ops.quantized.linear_prepack(weight, None)

        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.quantized.linear_dynamic(x, self.packed)

    found = na.node_strengths(Packed(), torch.zeros(1, 3))
    assert [one.op for one in found.unknown] == ["quantized::linear_dynamic"]
    assert [layer.flags for layer in found] == [("input", "unknown_out"), ("output", "unknown_in")]
