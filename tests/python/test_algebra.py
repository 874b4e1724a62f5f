"""The layer algebra on graphs that are written by hand: its laws on series-parallel graphs, known answers, the bounds
that hold for networks whose linear pieces can be counted.

Path counts in bits are compared within 1e-9: a sum of n terms is off by n units in the last place of values below 2^10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netassay
from netassay import algebra
from netassay.algebra import Call, LayerGraph, Leaf, Tensor
from netassay.algebra.semantics import leaf_of
from reference import algebra as reference

BITS = 1e-9


@dataclass
class Net:
    """A graph in the making; every method adds a call and returns its place."""

    units: int
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.calls.append(Call("x", "input", ((2, self.units),), (self.units,)))

    def tensor(self, place: int) -> Tensor:
        return Tensor(self.calls[place].shape, self.calls[place].size, place)

    def add(self, op: str, *inputs: int, units: int | None = None, **arguments: Any) -> int:
        given = {"self": self.tensor(inputs[0])} | {f"other{k}": self.tensor(i) for k, i in enumerate(inputs[1:])}
        units = self.calls[inputs[0]].size if units is None else units
        name = f"{op}{len(self.calls)}"
        self.calls.append(Call(name, op, ((2, units),), (units,), {**given, **arguments}, kind=op))
        return len(self.calls) - 1

    def linear(self, before: int, units: int) -> int:
        weight = Tensor((units, self.calls[before].size), 0, None, f"w{len(self.calls)}", True)
        name = f"linear{len(self.calls)}"
        arguments = {"input": self.tensor(before), "weight": weight}
        self.calls.append(Call(name, "linear", ((2, units),), (units,), arguments, kind="Linear"))
        return len(self.calls) - 1

    def cat(self, *inputs: int) -> int:
        units = sum(self.calls[place].size for place in inputs)
        arguments = {"tensors": tuple(map(self.tensor, inputs))}
        self.calls.append(Call(f"cat{len(self.calls)}", "cat", ((2, units),), (units,), arguments))
        return len(self.calls) - 1

    def graph(self, *outputs: int) -> LayerGraph:
        return LayerGraph(tuple(self.calls), outputs or (len(self.calls) - 1,))

    def measure(self, *outputs: int) -> algebra.NetworkAlgebra:
        return algebra.measure(self.graph(*outputs))


def of(network: algebra.NetworkAlgebra, place: int) -> algebra.Algebra:
    found = network.calls[place]
    assert found is not None
    return found


def mlp(widths: Sequence[int], activation: str = "relu") -> Net:
    """[n_0, n_1, ..., n_L]: linear layers, each with its activation."""
    net = Net(widths[0])
    for units in widths[1:]:
        net.add(activation, net.linear(len(net.calls) - 1, units))
    return net


# ---- laws, on random series-parallel graphs ----

#: A block: the fan-out of a linear layer, "relu", a sequence of blocks, or a tuple of parallel branches that are added.
blocks = st.recursive(
    st.sampled_from([3, 5, "relu"]),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.lists(inner, min_size=2, max_size=3).map(tuple),
    max_leaves=8,
)
WIDTH = 4


def build(net: Net, block: Any, before: int) -> int:
    """Adds a block that keeps WIDTH units."""
    match block:
        case "relu":
            return net.add("relu", before)
        case int(hidden):
            return net.linear(net.linear(before, hidden), WIDTH)
        case list():
            for part in block:
                before = build(net, part, before)
            return before
        case _:
            return net.add("add", *[build(net, part, before) for part in block])


def paths_of(block: Any) -> float:
    """Unit paths through a block, by the laws alone: fan-ins multiply in series, branches add."""
    match block:
        case "relu":
            return 1
        case int(hidden):
            return WIDTH * hidden
        case list():
            return math.prod(map(paths_of, block))
        case _:
            return sum(map(paths_of, block))


def lengths_of(block: Any) -> np.ndarray:
    """The polynomial of path lengths, by the laws alone."""
    match block:
        case "relu":
            return np.array([1], dtype=object)
        case int():
            return np.array([0, 0, 1], dtype=object)
        case list():
            product = np.array([1], dtype=object)
            for part in block:
                product = np.convolve(product, lengths_of(part))
            return product
        case _:
            parts = [lengths_of(part) for part in block]
            total = np.zeros(max(map(len, parts)), dtype=object)
            for part in parts:
                total[: len(part)] += part
            return total


def least_of(block: Any) -> int:
    """The least units that a block can be cut at: parallel branches that are added leave WIDTH units at most."""
    match block:
        case "relu":
            return WIDTH
        case int(hidden):
            return min(hidden, WIDTH)
        case list():
            return min(map(least_of, block))
        case _:
            return min(WIDTH, sum(map(least_of, block)))


@given(blocks)
@settings(max_examples=60, deadline=None)
def test_series_multiplies_and_parallel_adds(block: Any) -> None:
    net = Net(WIDTH)
    network = net.measure(build(net, [block, "relu"], 0))
    assert network.log2_paths == pytest.approx(math.log2(paths_of(block)), abs=BITS)
    lengths = lengths_of(block)
    assert list(network.path_lengths) == list(np.trim_zeros(lengths, "b"))
    assert network.layer_paths == sum(lengths) == sum(network.path_lengths)
    assert network.output_cut == least_of(block)


@given(blocks)
@settings(max_examples=40, deadline=None)
def test_of_every_call_the_bottleneck_is_at_most_the_cut_and_the_cut_at_most_its_units(block: Any) -> None:
    net = Net(WIDTH)
    network = net.measure(build(net, [block, "relu"], 0))
    for call, found in zip(net.calls, network.calls, strict=True):
        if found is not None:
            assert 0 < found.bottleneck <= found.cut <= min(call.size, WIDTH)
            assert found.intrinsic_power == pytest.approx(math.log2(WIDTH / found.cut))
            assert found.intrinsic_power >= 0


@given(blocks, st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_the_share_of_a_call_is_what_the_total_gains_with_its_fan_in(block: Any, which: int) -> None:
    net = Net(WIDTH)
    build(net, [block, "relu", 3], 0)
    network = net.measure()
    linear = [place for place, call in enumerate(net.calls) if call.op == "linear"]
    place = linear[which % len(linear)]
    step = 1e-6
    algebra.register("scaled", lambda call: Leaf("mix", call["weight"].shape[-1] * 2**step, weighted=True))
    old = net.calls[place]
    net.calls[place] = Call(
        old.name, "scaled", old.shapes, old.elements, {"self": old["input"], "weight": old["weight"]}
    )
    slope = (net.measure().log2_paths - network.log2_paths) / step  # type: ignore[operator]
    assert slope == pytest.approx(of(network, place).path_share, abs=1e-6)


@given(st.integers(1, 80))
@settings(max_examples=10, deadline=None)
def test_residual_blocks_of_one_layer_have_binomial_path_lengths(n: int) -> None:
    net = Net(WIDTH)
    at = 0
    for _ in range(n):
        at = net.add("add", at, net.linear(at, WIDTH))
    network = net.measure(at)
    assert network.layer_paths == 2**n
    assert network.path_lengths == tuple(math.comb(n, k) for k in range(n + 1))
    assert network.log2_paths == pytest.approx(n * math.log2(1 + WIDTH))


def test_no_loop_over_paths_a_thousand_blocks_are_exact() -> None:
    net = Net(WIDTH)
    at = 0
    for _ in range(1000):
        at = net.add("add", at, net.linear(at, WIDTH))
    assert net.measure(at).layer_paths == 2**1000


# ---- joins ----


def test_a_concatenation_has_the_mean_of_its_units_and_the_sum_of_its_layer_paths() -> None:
    net = Net(8)
    wide, narrow = net.linear(0, 12), net.add("relu", 0)
    network = net.measure(net.cat(wide, narrow))
    assert network.log2_paths == pytest.approx(math.log2((12 * 8 + 8 * 1) / 20))
    assert network.layer_paths == 2


def test_views_keep_what_reaches_a_unit() -> None:
    net = Net(8)
    part = net.add("slice", net.linear(0, 12), units=3)
    network = net.measure(net.add("relu", part))
    assert network.log2_paths == pytest.approx(3)
    assert network.calls[part] is None
    assert network.output_cut == 3


def test_a_product_multiplies_unit_paths_and_adds_layer_paths() -> None:
    net = Net(8)
    a, b = net.linear(0, 6), net.linear(net.linear(0, 4), 6)
    place = net.add("mul", a, b)
    network = net.measure(place)
    assert network.log2_paths == pytest.approx(3 + 3 + 2)
    assert network.layer_paths == 2
    assert of(network, place).region_bits is None
    assert "not_piecewise_linear" in of(network, place).flags
    assert network.region_bits is None


def test_a_matrix_product_of_two_factors_counts_its_contraction() -> None:
    net = Net(12)
    q, k = net.linear(0, 12), net.linear(0, 12)
    arguments = {"self": Tensor((2, 3, 4), 12, q), "other": Tensor((2, 4, 3), 12, k)}
    net.calls.append(Call("scores", "matmul", ((2, 3, 3),), (9,), arguments))
    network = net.measure()
    assert network.log2_paths == pytest.approx(2 * math.log2(12) + 2)
    assert of(network, 3).macs == 9 * 4


@pytest.mark.parametrize(("op", "bits"), [("mul", 3), ("add", 3)])
def test_a_factor_that_no_path_reaches_is_one_in_a_product_and_nothing_in_a_sum(op: str, bits: float) -> None:
    net = Net(8)
    scale = Tensor((6,), 6, None, "scale", True)
    place = net.linear(0, 6)
    network = net.measure(net.add(op, place, other=scale))
    assert network.log2_paths == pytest.approx(bits)
    assert of(network, 2).region_bits == 0
    assert of(network, 2).parameters == 6


def test_two_branches_from_one_bottleneck_do_not_widen_it() -> None:
    for join in ("add", "cat"):
        net = Net(64)
        code = net.linear(0, 8)
        branches = net.linear(code, 32), net.linear(code, 32)
        place = net.cat(*branches) if join == "cat" else net.add("add", *branches)
        assert net.measure(place).output_cut == 8
        assert net.measure(place).intrinsic_power == 3


def test_a_call_twice_on_one_tensor_is_two_paths() -> None:
    net = Net(8)
    network = net.measure(net.add("add", 0, 0))
    assert network.layer_paths == 2
    assert network.log2_paths == 1


def test_a_comparison_ends_paths_and_piecewise_linearity() -> None:
    net = Net(8)
    hidden = net.linear(0, 6)
    gate = net.add("gt", hidden)
    place = net.add("mul", hidden, gate)  # a ReLU by hand
    network = net.measure(place)
    assert network.log2_paths == pytest.approx(3)
    assert network.region_bits is None
    assert of(network, gate).region_bits is None


def test_what_only_comparisons_read_is_no_input() -> None:
    net = Net(8)
    net.calls.append(Call("mask", "input", ((2, 6),), (6,)))
    hidden = net.linear(0, 6)
    network = net.measure(net.add("where", hidden, condition=net.tensor(net.add("ne", 1))))
    assert network.input_units == 8
    assert network.region_bits == 0


def test_an_output_that_no_path_reaches_is_reported() -> None:
    net = Net(8)
    constant = Call("c", "arange", ((4,),), (4,))
    net.calls.append(constant)
    weighted = Call("c", "mul", ((4,),), (4,), {"self": Tensor((4,), 4, 1), "other": Tensor((4,), 4, None, "w", True)})
    net.calls.append(weighted)
    network = net.measure(2)
    assert of(network, 2).flags == ("no_input_path",)
    assert of(network, 2).log2_paths is None
    assert (network.log2_paths, network.layer_paths, network.intrinsic_power) == (None, 0, None)


def test_two_outputs_are_one_by_the_mean_of_their_units() -> None:
    net = Net(8)
    a, b = net.linear(0, 2), net.linear(net.linear(0, 4), 6)
    network = net.measure(a, b)
    assert network.log2_paths == pytest.approx(math.log2((2 * 8 + 6 * 32) / 8))
    assert network.layer_paths == 2
    assert (network.output_units, network.output_cut) == (8, 6)


def test_two_inputs_are_one_source() -> None:
    net = Net(8)
    net.calls.append(Call("y", "input", ((2, 4),), (4,)))
    network = net.measure(net.cat(0, 1))
    assert (network.input_units, network.output_cut) == (12, 12)
    assert network.log2_paths == pytest.approx(0, abs=BITS)


def test_an_embedding_begins_paths_and_its_indices_are_no_units() -> None:
    net = Net(5)
    table = Tensor((100, 16), 1600, None, "table", True)
    place = net.add("embedding", net.add("view", 0), units=80, weight=table)
    network = net.measure(net.linear(place, 10))
    assert network.input_units == 80
    assert network.log2_paths == pytest.approx(math.log2(80))
    assert of(network, place).log2_paths == 0


# ---- leaves ----


def leaf(op: str, shape: tuple[int, ...] = (2, 4), **arguments: Any) -> Leaf:
    return leaf_of(Call("x", op, (shape,), (math.prod(shape[1:]),), arguments))


def weight(*shape: int) -> Tensor:
    return Tensor(shape, math.prod(shape), None, "weight", True)


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


# ---- bounds ----


@pytest.mark.parametrize(
    ("widths", "montufar", "serra"),
    [([1, 3, 3], 16, 16), ([2, 4, 4], 121, 121), ([2, 4, 3, 2], 308, 275), ([3, 5, 2, 5], 1664, 754)],
)
def test_region_bits_of_a_plain_chain_are_montufars_product(widths: list[int], montufar: int, serra: int) -> None:
    net = mlp(widths)
    headed = net.measure(net.linear(len(net.calls) - 1, 3))
    for network in (mlp(widths).measure(), headed):
        assert 2**network.region_bits == pytest.approx(montufar)  # type: ignore[operator]
        assert network.serra_regions == serra
        assert algebra.montufar_bound(widths) == montufar


def test_serra_is_for_plain_chains_only() -> None:
    assert mlp([4, 5, 5], "tanh").measure().serra_regions is None
    net = Net(4)
    assert net.measure(net.add("add", 0, net.add("relu", net.linear(0, 4)))).serra_regions is None
    assert mlp([4]).measure().serra_regions is None


def test_the_vc_bound_of_a_chain_is_that_of_its_layers() -> None:
    net = mlp([8, 6, 5])
    for call in list(net.calls):
        if call.op == "linear":
            bias = Tensor((call.size,), call.size, None, f"{call.name}.bias", True)
            net.calls[net.calls.index(call)] = Call(
                call.name, "linear", call.shapes, call.elements, {**call.arguments, "bias": bias}
            )
    network = net.measure(net.linear(len(net.calls) - 1, 3))
    assert network.vc_bound == pytest.approx(algebra.vc_bound([6, 5, 1], [9 * 6, 7 * 5, 5]))
    assert mlp([8, 6, 5], "gelu").measure().vc_bound is None


def test_the_vc_bound_is_not_given_where_its_theorem_does_not_hold() -> None:
    pooled = Net(6)
    arguments = {"self": Tensor((2, 1, 6), 6, pooled.linear(0, 6)), "kernel_size": (2,), "stride": (2,)}
    pooled.calls.append(Call("pool", "max_pool1d", ((2, 1, 3),), (3,), arguments))
    scaled = Net(6)
    scaled.add("mul", scaled.add("relu", scaled.linear(0, 6)), other=weight(6))
    twice = Net(6)
    twice.add("relu", twice.add("relu", twice.linear(0, 6)))
    bent_input = Net(6)
    bent_input.linear(bent_input.add("relu", 0), 6)
    affine = Net(6)
    affine.linear(0, 6)
    for net in (pooled, scaled, twice, bent_input, affine):
        assert net.measure().vc_bound is None


@pytest.mark.parametrize("first", [True, False])
def test_a_batch_norm_adds_a_bias_to_the_layer_it_is_folded_into(first: bool) -> None:
    """Behind a ReLU there is no such layer."""
    net = Net(6)
    norm = {"weight": weight(5), "bias": weight(5), "running_mean": Tensor((5,), 5), "running_var": Tensor((5,), 5)}
    at = net.linear(0, 5)
    at = net.add("relu", at) if not first else at
    net.calls.append(Call("norm", "batch_norm", ((2, 5),), (5,), {"input": net.tensor(at), **norm}))
    network = net.measure(net.linear(net.add("relu", len(net.calls) - 1) if first else len(net.calls) - 1, 2))
    expected = algebra.vc_bound([5, 1], [6 * 5 + 5, 5]) if first else None
    assert network.vc_bound == (pytest.approx(expected) if first else None)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("seed", range(4))
def test_region_bits_are_never_below_the_pieces_that_a_network_has(activation: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    widths = [2, 3, 3]
    weights = [rng.standard_normal((m, n)) for n, m in pairwise(widths)]
    biases = [rng.standard_normal(m) for m in widths[1:]]
    counted = reference.count_regions(weights, biases, [activation] * 2)
    network = mlp(widths, activation).measure()
    assert counted <= 2**network.region_bits + 1e-9  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(4))
def test_region_bits_of_a_max_pool_are_never_below_its_pieces(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, biases = [rng.standard_normal((6, 2))], [rng.standard_normal(6)]
    counted = reference.count_regions(weights, biases, [3])
    net = Net(2)
    hidden = net.linear(0, 6)
    arguments = {"self": Tensor((2, 1, 6), 6, hidden), "kernel_size": (3,), "stride": (3,)}
    net.calls.append(Call("pool", "max_pool1d", ((2, 1, 2),), (2,), arguments))
    assert 1 < counted <= 2 ** net.measure().region_bits + 1e-9  # type: ignore[operator]


# ---- receptive fields ----


def chain(steps: Sequence[tuple[int, int, int]], extent: int = 64) -> LayerGraph:
    """Convolutions of (kernel, stride, dilation) over one axis."""
    calls = [Call("x", "input", ((2, 1, extent),), (extent,))]
    for k, s, d in steps:
        extent = (extent - d * (k - 1) - 1) // s + 1
        arguments = {"input": Tensor(calls[-1].shape, calls[-1].size, len(calls) - 1), "weight": weight(1, 1, k)}
        arguments |= {"stride": [s], "dilation": [d], "groups": 1}  # type: ignore[dict-item]
        calls.append(Call(f"conv{len(calls)}", "conv1d", ((2, 1, extent),), (extent,), arguments))
    return LayerGraph(tuple(calls), (len(calls) - 1,))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 2)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_receptive_field_is_what_the_positions_reached_span(steps: list[tuple[int, int, int]]) -> None:
    def seen(position: int, layer: int) -> set[int]:
        if layer == 0:
            return {position}
        k, s, d = steps[layer - 1]
        return {q for i in range(k) for q in seen(position * s + i * d, layer - 1)}

    network = algebra.measure(chain(steps, extent=200))
    for layer in range(1, len(steps) + 1):
        found = of(network, layer)
        first, second = seen(0, layer), seen(1, layer)
        assert found.receptive_field == (max(first) - min(first) + 1,)
        assert found.stride == (min(second) - min(first),)
        assert ("covers_input" in found.flags) == (found.receptive_field[0] >= 200)


def test_receptive_fields_are_those_of_a_graphs_calls() -> None:
    fields = algebra.receptive_fields(chain([(3, 2, 1), (3, 1, 1)], 20))
    assert {place: (field.size, field.stride) for place, field in fields.items()} == {
        0: ((1,), (1,)),
        1: ((3,), (2,)),
        2: ((7,), (2,)),
    }
    assert algebra.receptive_fields(mlp([4, 5]).graph()) == {}


def test_branches_have_the_larger_field_and_tell_strides_that_differ() -> None:
    graph = chain([(3, 1, 1), (5, 2, 1)], 20)
    a, b = graph.calls[1:]
    arguments = {"self": Tensor(a.shape, a.size, 1), "other": Tensor(b.shape, b.size, 2)}
    joined = LayerGraph((*graph.calls, Call("add", "add", (a.shape,), a.elements, arguments)), (3,))
    found = of(algebra.measure(joined), 3)
    assert (found.receptive_field, found.stride) == ((7,), (2,))
    assert "stride_mismatch" in found.flags


@pytest.mark.parametrize(("dims", "size"), [([2], 20), ([1], 3), ([1, 2], 20)])
def test_a_mean_over_positions_has_a_window_over_them(dims: list[int], size: int) -> None:
    graph = chain([(3, 1, 1)], 20)
    shape = {2: (2, 1), 1: (2, 18)}[dims[-1]] if len(dims) == 1 else (2,)
    arguments = {"self": Tensor((2, 1, 18), 18, 1), "dim": dims}
    units = math.prod(shape[1:])
    mean = Call("mean", "mean", (shape,), (units,), arguments)
    found = of(algebra.measure(LayerGraph((*graph.calls, mean), (2,))), 2)
    assert found.receptive_field == (size,)


def test_a_mean_over_channels_last_is_no_window() -> None:
    """(n, positions, channels), as a norm of tokens takes it."""
    graph = chain([(3, 1, 1)], 20)
    tokens = Call("tokens", "transpose", ((2, 18, 1),), (18,), {"self": Tensor((2, 1, 18), 18, 1)})
    mean = Call("mean", "mean", ((2, 18, 1),), (18,), {"self": Tensor((2, 18, 1), 18, 2), "dim": [-1]})
    found = of(algebra.measure(LayerGraph((*graph.calls, tokens, mean), (3,))), 3)
    assert (found.receptive_field, found.stride) == ((3,), (1,))


def test_a_linear_layer_on_flattened_positions_sees_the_whole_input() -> None:
    graph = chain([(3, 1, 1)], 20)
    flat = Call("flatten", "flatten", ((2, 18),), (18,), {"self": Tensor((2, 1, 18), 18, 1)})
    head = Call("head", "linear", ((2, 4),), (4,), {"input": Tensor((2, 18), 18, 2), "weight": weight(4, 18)})
    found = of(algebra.measure(LayerGraph((*graph.calls, flat, head), (3,))), 3)
    assert found.receptive_field is None
    assert "covers_input" in found.flags


def test_without_a_window_there_is_no_receptive_field() -> None:
    found = of(mlp([4, 5]).measure(), 1)
    assert (found.receptive_field, found.stride) == (None, None)
    assert "covers_input" not in found.flags
