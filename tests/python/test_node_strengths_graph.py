"""Node strengths where the graph between the calls is more than a chain."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from python import architectures
from python.jacobians import (
    assert_external,
    assert_incoming,
    assert_outgoing,
    conv,
    drawn,
    jacobian,
    names,
    near,
    strengths,
)
from python.models import Wrap


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
