"""The table of operations: what each rule answers for a call, and how the table is extended."""

from __future__ import annotations

import math
from typing import Any

import pytest

import netassay
from netassay import algebra
from netassay.algebra import Call, LayerGraph, Leaf, Tensor
from netassay.algebra.semantics import leaf_of
from python.nets import Net, of, weight

pytestmark = pytest.mark.native


def leaf(op: str, shape: tuple[int, ...] = (2, 4), **arguments: Any) -> Leaf:
    return leaf_of(Call("x", op, (shape,), (math.prod(shape[1:]),), arguments))


def entering(*shape: int) -> Tensor:
    return Tensor(shape, math.prod(shape[1:]), 0)


def test_a_convolution_mixes_its_kernel_and_the_channels_of_a_group() -> None:
    found = leaf("conv2d", (2, 8, 5, 5), input=entering(2, 6, 9, 9), weight=weight(8, 3, 3, 2), stride=[2], groups=2)
    assert (found.fan_in, found.macs, found.window) == (18, 200 * 18, ((3, 2), (2, 2)))
    dilated = leaf("conv2d", (2, 8, 5, 5), input=entering(2, 6, 9, 9), weight=weight(8, 6, 3, 3), dilation=[2, 3])
    assert dilated.window == ((5, 1), (7, 1))


def test_a_transposed_convolution_has_the_mean_of_its_outputs() -> None:
    found = leaf(
        "conv_transpose2d", (2, 8, 9, 9), input=entering(2, 6, 4, 4), weight=weight(6, 4, 3, 3), stride=[2], groups=2
    )
    assert found.fan_in == 3 * 9 / 4
    assert found.macs == 96 * 4 * 9
    assert found.window == ((2, 0.5), (2, 0.5))


def test_pools_have_their_windows_and_adaptive_ones_the_mean_of_theirs() -> None:
    found = leaf("max_pool2d", (2, 8, 3, 3), self=entering(2, 8, 7, 7), kernel_size=[3], stride=[2])
    assert (found.fan_in, found.planes) == (9, 72 * 36)
    assert leaf("avg_pool2d", (2, 8, 3, 3), self=entering(2, 8, 7, 7), kernel_size=[2, 3]).window == ((2, 2), (3, 3))
    adaptive = leaf("adaptive_avg_pool1d", (2, 8, 3), self=entering(2, 8, 7))
    assert adaptive.fan_in == (3 + 3 + 3) / 3  # positions 0-2, 2-4, 4-6
    uneven = leaf("adaptive_max_pool1d", (2, 1, 2), self=entering(2, 1, 4))
    assert (uneven.fan_in, uneven.planes) == (2, 2 * 1)


def test_a_maximum_over_k_has_a_plane_for_every_pair() -> None:
    assert leaf("amax", (2, 3), self=entering(2, 3, 4), dim=[2]).planes == 3 * 6
    assert leaf("max", (2, 3), self=entering(2, 3, 4), dim=2).planes == 3 * 6
    assert leaf("max", (2, 4), self=entering(2, 4), other=entering(2, 4)).planes == 4
    assert leaf("maximum", (2, 4), self=entering(2, 4), other=entering(2, 4)).planes == 4


@pytest.mark.parametrize(
    ("op", "arguments", "planes"),
    [
        ("relu", {}, 4),
        ("leaky_relu", {}, 4),
        ("abs", {}, 4),
        ("relu6", {}, 8),
        ("hardtanh", {}, 8),
        ("clamp", {"min": 0.0}, 4),
        ("clamp", {"min": 0.0, "max": 1.0}, 8),
        ("dropout", {}, 0),
        ("gelu", {}, None),
        ("softmax", {"dim": -1}, None),
        ("layer_norm", {}, None),
    ],
)
def test_hyperplanes_of_elementwise_functions(op: str, arguments: dict[str, Any], planes: int | None) -> None:
    assert leaf(op, self=entering(2, 4), **arguments).planes == planes


def test_a_softmax_depends_on_its_row() -> None:
    assert leaf("softmax", (2, 3, 5), self=entering(2, 3, 5), dim=-1).fan_in == 5


def test_a_mean_has_what_it_reduces() -> None:
    assert leaf("mean", (2, 8), self=entering(2, 8, 6, 7), dim=[2, 3]).fan_in == 42
    assert leaf("mean", (2, 6), self=entering(2, 6, 8), dim=[-1]).fan_in == 8


@pytest.mark.parametrize(("state", "steps"), [(1, 5), (3, 1), (3, 4)])
def test_a_recurrence_has_the_gain_of_its_last_state(state: int, steps: int) -> None:
    expected = sum(7 * state**k for k in range(steps))
    params = (weight(state, 7), weight(state, state))
    found = leaf("rnn_tanh", (2, steps, state), input=entering(2, steps, 7), params=params, num_layers=1)
    assert found.fan_in == expected
    assert found.macs == steps * (7 * state + state * state)
    assert found.flags == ("approximate",)


def test_gated_layers_are_flagged_and_their_products_counted() -> None:
    params = (weight(20, 8), weight(20, 5), weight(20), weight(20))
    found = leaf("lstm", (2, 6, 5), input=entering(2, 6, 8), params=params, num_layers=1)
    assert found.flags == ("approximate", "gated")
    assert found.macs == 6 * 20 * 13


def test_attention_is_two_contractions_and_a_row() -> None:
    q, k, v = entering(2, 4, 6, 8), entering(2, 4, 10, 8), entering(2, 4, 10, 8)
    found = leaf("scaled_dot_product_attention", (2, 4, 6, 8), query=q, key=k, value=v)
    assert found.fan_in == 8 * 10 * 10
    assert found.macs == 2 * 4 * 6 * 10 * 8


def test_einsum_sums_over_the_letters_that_the_result_lacks() -> None:
    a, b = entering(2, 3, 4), entering(2, 4, 5)
    found = leaf("einsum", (2, 3, 5), equation="bij,bjk->bik", tensors=(a, b))
    assert (found.form, found.fan_in, found.macs) == ("product", 4, 15 * 4)
    assert leaf("einsum", (2, 3), equation="bij->bi", tensors=(a,)).fan_in == 4


# ---- the table ----


def test_an_unknown_operation_is_a_counted_leaf_and_an_error_when_strict() -> None:
    net = Net(8)
    place = net.add("nobody::knows", net.linear(0, 4))
    network = net.measure(place)
    assert (network.unknown, network.unknown_operations) == (1, {"nobody::knows": 1})
    assert "unknown" in of(network, place).flags
    assert network.log2_paths == 3
    assert network.region_bits is None
    with pytest.raises(
        netassay.UnsupportedLayout, match=r"'nobody::knows' in 'nobody::knows2', expected one of the table"
    ):
        algebra.measure(net.graph(place), strict=True)


def test_a_registered_operation_is_known() -> None:
    net = Net(8)
    place = net.add("tests::doubled", 0, units=16)
    algebra.register("tests::doubled", lambda call: Leaf("mix", 3, weighted=True, macs=5 * call.size))
    network = net.measure(place)
    assert (network.unknown, network.macs, network.path_lengths) == (0, 80, (0, 1))
    assert network.log2_paths == pytest.approx(math.log2(3))


@pytest.mark.parametrize(("op", "rule"), [("", Leaf()), (3, Leaf()), ("tests::x", 3)])
def test_what_is_no_rule_is_refused(op: Any, rule: Any) -> None:
    with pytest.raises(TypeError, match="register: got"):
        algebra.register(op, rule)


def test_a_rule_that_answers_no_leaf_is_told() -> None:
    algebra.register("tests::wrong", lambda call: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"the rule of 'tests::wrong' answered 3, expected a Leaf"):
        Net(4).graph() and algebra.measure(_with(Net(4), "tests::wrong"))


def _with(net: Net, op: str) -> LayerGraph:
    return net.graph(net.add(op, 0))


def test_a_graph_whose_calls_stand_out_of_order_is_refused() -> None:
    with pytest.raises(
        netassay.ShapeError, match=r"call 0 \('a'\) with an input from call 1, expected one that stands"
    ):
        LayerGraph((Call("a", "relu", ((2, 3),), (3,), {"self": Tensor((2, 3), 3, 1)}),), (0,))
    with pytest.raises(netassay.ShapeError, match="got the output 1, expected one of 1 calls"):
        LayerGraph((Call("x", "input", ((2, 3),), (3,)),), (1,))
