"""The layer algebra on graphs that are written by hand: its laws on series-parallel graphs, known answers, the bounds
that hold for networks whose linear pieces can be counted.

Path counts in bits are compared within 1e-9: a sum of n terms is off by n units in the last place of values below 2^10.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netassay import algebra
from netassay.algebra import Call, Leaf, Tensor
from python.full import count
from python.nets import Net, mlp, of, weight
from reference import algebra as reference

pytestmark = pytest.mark.native

BITS = 1e-9


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
@settings(max_examples=count(60, 1200), deadline=None)
def test_series_multiplies_and_parallel_adds(block: Any) -> None:
    net = Net(WIDTH)
    network = net.measure(build(net, [block, "relu"], 0))
    assert network.log2_paths == pytest.approx(math.log2(paths_of(block)), abs=BITS)
    lengths = lengths_of(block)
    assert list(network.path_lengths) == list(np.trim_zeros(lengths, "b"))
    assert network.layer_paths == sum(lengths) == sum(network.path_lengths)
    assert network.output_cut == least_of(block)


@given(blocks)
@settings(max_examples=count(40, 800), deadline=None)
def test_of_every_call_the_bottleneck_is_at_most_the_cut_and_the_cut_at_most_its_units(block: Any) -> None:
    net = Net(WIDTH)
    network = net.measure(build(net, [block, "relu"], 0))
    for call, found in zip(net.calls, network.calls, strict=True):
        if found is not None:
            assert 0 < found.bottleneck <= found.cut <= min(call.size, WIDTH)
            assert found.intrinsic_power == pytest.approx(math.log2(WIDTH / found.cut))
            assert found.intrinsic_power >= 0


@given(blocks, st.integers(0, 7))
@settings(max_examples=count(40, 800), deadline=None)
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
@settings(max_examples=count(10, 200), deadline=None)
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
    slopes = Net(6)
    slopes.add("prelu", slopes.linear(0, 6), weight=weight(1))
    joined = Net(6)
    joined.add("clamp_min", joined.linear(0, 6), min=joined.tensor(joined.linear(0, 6)))
    for net in (pooled, scaled, twice, bent_input, affine, slopes, joined):
        assert net.measure().vc_bound is None


def test_a_weight_that_is_made_of_parameters_counts_like_one() -> None:
    """As pruning and parametrizations make them; added behind the layer it is none of a layer's."""
    masked, shifted = Net(6), Net(6)
    masked.calls.append(Call("mask", "mul", ((5, 6),), (30,), {"self": weight(5, 6), "other": Tensor((5, 6), 30)}))
    arguments = {"input": masked.tensor(0), "weight": Tensor((5, 6), 30, 1)}
    masked.calls.append(Call("layer", "linear", ((2, 5),), (5,), arguments))
    network = masked.measure(masked.linear(masked.add("relu", 2), 2))
    assert network.vc_bound == pytest.approx(algebra.vc_bound([5, 1], [6 * 5, 5]))
    shifted.calls.append(Call("made", "neg", ((5,),), (5,), {"self": weight(5)}))
    shifted.calls.append(Call("made", "exp", ((5,),), (5,), {"self": Tensor((5,), 5, 1)}))
    bias = shifted.tensor(2)
    shifted.add("relu", shifted.add("add", shifted.linear(0, 5), other=bias))
    assert shifted.measure().vc_bound is None


def test_a_bound_that_a_path_reaches_joins_like_the_maximum_that_it_is() -> None:
    """clamp(x, min=y) is maximum(x, y)."""
    found = []
    for op, other in (("clamp", "min"), ("clamp_min", "min"), ("clamp_max", "max"), ("maximum", "other")):
        net = Net(4)
        measured = net.measure(net.add(op, net.linear(0, 8), **{other: net.tensor(net.linear(0, 8))}))
        found.append((measured.log2_paths, measured.layer_paths, measured.region_bits))
    assert found == [found[0]] * 4
    assert found[0][:2] == (3, 2)


@pytest.mark.parametrize("what", ["output", "weight"])
def test_a_batch_norm_is_not_folded_into_a_layer_that_is_read_elsewhere(what: str) -> None:
    net = Net(6)
    at = net.linear(0, 6)
    norm = {"running_mean": Tensor((6,), 6), "running_var": Tensor((6,), 6), "weight": weight(6), "bias": weight(6)}
    net.calls.append(Call("norm", "batch_norm", ((2, 6),), (6,), {"input": net.tensor(at), **norm}))
    again = net.calls[at]
    if what == "weight":
        net.calls.append(again)
    other = at if what == "output" else len(net.calls) - 1
    assert net.measure(net.linear(net.add("relu", net.add("add", 2, other=net.tensor(other))), 2)).vc_bound is None


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
