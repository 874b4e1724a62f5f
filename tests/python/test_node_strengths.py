"""Strengths of the nodes of models: against the Jacobian of each affine call, the formula for chains, and laws.

A sum of n float64 products has an error of some n u of the sum of their magnitudes: 1e-12 of it here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netassay as na
from netassay import NonFinite, ShapeError, UnsupportedLayout
from netassay.network import FLAGS
from python import architectures
from python.jacobians import SIDES, assert_incoming, assert_outgoing, drawn, jacobian, mlp, names, near, strengths
from python.models import ConvNet, seeded

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
