"""Deep graph persistence against the literal max-min product, the published values, and what must not change it.

Tolerances. Where edges are |w| nothing is rounded before Kruskal's algorithm, and both sides divide alike at the end:
tree weights agree to the bit. Standardized edges are rounded: `tolerance`. S and its sorted tree weights are made of
minima and maxima of edges, so they move no further than the edges do; over the peak they move further by 1 / peak.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netassay as na
from netassay import persistence as stem
from netassay.base.arrays import View
from python.devices import on
from python.matrices import DTYPES, Typed, make, scipy_tree, typed
from reference import persistence as reference

pytestmark = pytest.mark.native

DATA = json.loads((Path(__file__).parents[1] / "data" / "persistence.json").read_text(encoding="utf-8"))
DOCS = Path(__file__).parents[2] / "docs"
OPTIONS = list(itertools.product([True, False], [True, False]))  # standardize, rescale


def is_double(given: Any) -> bool:
    return not isinstance(given, View) and given.dtype == np.float64


def tolerance(weights: list[np.ndarray], double: bool) -> float:
    """Of edges |w - mean| / std over the largest edge of the network.

    float64: the mean and the sum of squares of n weights lose at most n u each, u = 2^-53, and a few operations more
    follow. float32: sums are float64; mean, difference, factor and product are rounded once each. The rounding of the
    mean has the size of the weights, which may be larger than their distances from it.
    """
    far = max([1.0, *(np.abs(w).max() / np.abs(w - w.mean()).max() for w in weights if w.min() < w.max())])
    return float(far * (2.0**-52 * (8 + max(w.size for w in weights)) if double else 2.0**-21))


def assert_parity(device: str, weights: list[Typed], standardize: bool, rescale: bool, p: float = 2) -> None:
    got = stem.deep_graph_persistence(
        [on(device, w.given) for w in weights], standardize=standardize, rescale=rescale, p=p
    )
    values = [w.values.astype(np.float64) for w in weights]
    *_, peak, tree = reference.deep_graph_persistence(values, standardize, rescale, p)
    away = tolerance(values, any(is_double(w.given) for w in weights)) if standardize else 0.0
    assert abs(got.peak - peak) <= away
    if rescale and peak > 0:
        away /= peak
    assert np.abs(got.weights - tree).max() <= away
    assert (got.total, got.normalized) == pytest.approx(reference.with_essential(got.weights, p), rel=1e-14)
    constant = any(v.min() == v.max() for v in values)
    assert got.flags == ("constant",) * constant + ("zero",) * (peak == 0)


def same(a: stem.DeepGraphPersistence, b: stem.DeepGraphPersistence) -> bool:
    scalars = (a.total, a.normalized, a.peak, a.flags) == (b.total, b.normalized, b.peak, b.flags)
    return scalars and a.weights.tobytes() == b.weights.tobytes()


def near(a: stem.DeepGraphPersistence, b: stem.DeepGraphPersistence, away: float) -> bool:
    return a.flags == b.flags and abs(a.peak - b.peak) <= away and np.abs(a.weights - b.weights).max() <= away / a.peak


def chain(*dims: int, kind: str = "normal", dtype: str = "float64") -> list[np.ndarray]:
    layers = itertools.count()
    return [make(kind, m, n, next(layers)).astype(dtype) for m, n in zip(dims[1:], dims, strict=False)]


# Parity with the reference

LAYERS: list[Callable[[np.random.Generator, int, int], np.ndarray]] = [
    lambda g, m, n: g.standard_normal((m, n)),
    lambda g, m, n: g.integers(-3, 4, (m, n)).astype(float),  # ties
    lambda g, m, n: g.choice([0.0, -0.5, 1.0], (m, n), p=[0.6, 0.3, 0.1]),  # and zeros
    lambda g, m, n: g.standard_normal((m, n)) * (g.random((m, n)) < 0.3),
    lambda g, m, n: g.standard_normal((m, n)) * (g.random((m, 1)) < 0.6),  # units that nothing enters
    lambda g, m, n: g.standard_normal((m, n)) * (g.random((1, n)) < 0.6),  # units that nothing leaves
    lambda g, m, n: np.full((m, n), g.choice([-2.0, 0.1, 3.0])),
    lambda g, m, n: np.zeros((m, n)),
    lambda g, m, n: g.lognormal(0, 2, (m, n)),
]
ODDS = np.array([5, 5, 4, 4, 3, 3, 1, 1, 2])


def network(seed: int) -> list[np.ndarray]:
    """One to four layers of any kinds between one to eight units."""
    g = np.random.default_rng(seed)
    dims = [int(d) for d in g.choice([1, 1, 2, 3, 4, 5, 6, 8], g.integers(2, 6))]
    kinds = g.choice(len(LAYERS), len(dims) - 1, p=ODDS / ODDS.sum())
    return [LAYERS[k](g, m, n) for k, m, n in zip(kinds, dims[1:], dims, strict=False)]


@pytest.mark.parametrize("first", range(0, 3000, 500))
def test_linear_time_equals_the_explicit_product_on_small_networks(device: str, first: int) -> None:
    for seed in range(first, first + 500):
        weights = [Typed(w, w) for w in network(seed)]
        for standardize, rescale in OPTIONS:
            assert_parity(device, weights, standardize, rescale)


def test_the_small_networks_have_every_difficulty() -> None:
    networks = [network(seed) for seed in range(3000)]
    assert sum(len(weights) == 1 for weights in networks) > 100
    assert sum(max(max(w.shape) for w in weights) == 1 for weights in networks) > 20
    assert sum(not any(w.any() for w in weights) for weights in networks) > 5
    assert sum(any(w.min() == w.max() != 0 for w in weights) for weights in networks) > 100
    products = [(weights, reference.bottlenecks(weights)) for weights in networks]
    assert sum(not s.any() and all(w.any() for w in weights) for weights, s in products) > 20  # no path has an edge
    assert sum(len(np.unique(s)) < s.size for _, s in products) > 1000
    hidden = sum(all(min(w.shape) == 1 for w in weights) and len(weights) > 1 for weights in networks)
    assert hidden > 20  # every path runs through the same unit


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize(
    "dtypes",
    [*((d,) * 3 for d in DTYPES), ("bfloat16", "float64", "int8"), ("float16", "uint8", "float8_e5m2")],
    ids=lambda dtypes: "-".join(dict.fromkeys(dtypes)),
)
def test_every_format_and_mixture_agrees_with_the_reference(
    device: str, dtypes: tuple[str, ...], standardize: bool
) -> None:
    for seed, dims in enumerate([(1, 1, 1, 1), (7, 5, 6, 3), (17, 33, 16, 15)]):
        for kind in ("normal", "cauchy", "half zero", "constant", "one-hot"):
            sides = zip(dtypes, dims[1:], dims, strict=False)
            weights = [typed(make(kind, m, n, seed) * (9 if d.endswith("int8") else 1), d) for d, m, n in sides]
            assert_parity(device, weights, standardize, True)


@pytest.mark.parametrize("kind", ["normal", "integers, many ties", "2 % dense", "dead rows and columns", "many blocks"])
@pytest.mark.parametrize("dims", [(260, 210, 230), (300, 3, 250), (2, 400, 170, 1), (200, 180, 160, 140)], ids=str)
def test_layers_large_enough_for_other_algorithms_agree_with_scipy(
    device: str, dims: tuple[int, ...], kind: str
) -> None:
    weights = chain(*dims, kind=kind)
    got = stem.deep_graph_persistence([on(device, w) for w in weights], standardize=False, rescale=False)
    tree = scipy_tree(reference.bottlenecks(weights)) / max(np.abs(w).max() for w in weights)
    assert got.weights.tobytes() == tree.tobytes()


@pytest.mark.parametrize("p", [0.5, 1, 2, 3.5, 10])
def test_every_power_agrees_with_the_reference(device: str, p: float) -> None:
    for seed in range(40):
        for standardize, rescale in OPTIONS:
            assert_parity(device, [Typed(w, w) for w in network(seed)], standardize, rescale, p)


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": np.asfortranarray,
    "every second row and column": lambda x: x.repeat(2, 0).repeat(2, 1)[::2, ::2],
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_equals_its_contiguous_copy_and_is_left_alone(view: str, dtype: str) -> None:
    weights = [typed(9 * w, dtype).given for w in chain(60, 50, 7)]
    arrays = [VIEWS[view](w.array if isinstance(w, View) else w) for w in weights]
    before = [y.tobytes() for y in arrays]
    given = [View(y, dtype) if isinstance(w, View) else y for y, w in zip(arrays, weights, strict=True)]
    for standardize, rescale in OPTIONS:
        options: dict[str, Any] = {"standardize": standardize, "rescale": rescale}
        assert same(stem.deep_graph_persistence(given, **options), stem.deep_graph_persistence(weights, **options))
    assert [y.tobytes() for y in arrays] == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_parameters_equal_their_bits(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    weights = [typed(9 * w, dtype) for w in chain(20, 30, 7)]
    tensors = [torch.from_numpy(w.values).to(getattr(torch, dtype)) for w in weights]
    tensors[0] = tensors[0].t().contiguous().t()
    given = [torch.nn.Parameter(t, requires_grad=t.is_floating_point()) for t in tensors]
    assert same(stem.deep_graph_persistence(given), stem.deep_graph_persistence([w.given for w in weights]))


# Published values: float64 to 1e-14; float32 to 2e-6, since the published code standardizes in float32


def mlp(dims: list[int], seed: int, dtype: str) -> list[np.ndarray]:
    g = np.random.default_rng(seed)
    sides = zip(dims[1:], dims, strict=False)
    return [(g.standard_normal((m, n)) * math.sqrt(2.0 / (m + n))).astype(dtype) for m, n in sides]


@pytest.mark.parametrize("entry", DATA["mlp"], ids=lambda e: "-".join(map(str, e["dims"])))
def test_the_published_values_hold(device: str, entry: dict[str, Any]) -> None:
    weights = [on(device, w) for w in mlp(entry["dims"], entry["seed"], entry["dtype"])]
    code = entry["dgp_code"]
    within = 1e-14 if entry["dtype"] == "float64" else 2e-6
    exact = stem.deep_graph_persistence(weights)
    assert exact.total == pytest.approx(code["dnp_exact"], rel=within)
    assert exact.normalized == pytest.approx(code["dnp_exact_norm"], rel=within)
    previous = stem.deep_graph_persistence(weights, rescale=False)
    assert previous.total == pytest.approx(code["dnp_prev"], rel=within)
    assert previous.normalized == pytest.approx(code["dnp_prev_norm"], rel=within)


def test_the_file_has_every_published_network() -> None:
    assert [e["dims"] for e in DATA["mlp"]][:3] == [[20, 15, 15, 5], [784, 100, 100, 10], [784, 650, 650, 10]]
    assert {key for e in DATA["mlp"] for key in e["dgp_code"]} == {
        "dnp_exact",
        "dnp_exact_norm",
        "dnp_prev",
        "dnp_prev_norm",
    }


# Known answers


def test_the_documentations_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "deep-graph-persistence.md").read_text(encoding="utf-8")
    [(example, shown)] = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert capsys.readouterr().out == shown
    assert names["rescaled"].total == pytest.approx(math.sqrt(68 / 49), rel=1e-15)
    figure = (DOCS / "deep-graph-persistence.svg").read_text(encoding="utf-8")
    assert "deep-graph-persistence.svg" in page
    assert "tree weights 7 6 4 4" in figure
    s = reference.bottlenecks([names["hidden"], names["out"]])
    panel = figure[figure.index("S, and its tree") :]
    assert [int(n) for n in re.findall(r">(\d)</text>", panel)] == [4, 3, 4, 7, 2, 6] == s.ravel().astype(int).tolist()
    assert reference.tree_weights(s) == [7, 6, 4, 4]


def naive(layers: list[np.ndarray], every: bool) -> list[float]:
    """Kruskal on the edges themselves: sizes of every merge, or of those of two components that hold an end."""
    starts = np.cumsum([0, *(w.shape[1] for w in layers), len(layers[-1])])
    edges = [
        (abs(x), starts[k] + u, starts[k + 1] + v) for k, w in enumerate(layers) for (v, u), x in np.ndenumerate(w)
    ]
    component = {unit: {unit} for unit in range(starts[-1])}
    ends = {*range(starts[1]), *range(starts[-2], starts[-1])}
    found = []
    for size, u, v in sorted(edges, reverse=True):
        a, b = component[u], component[v]
        if a is not b:
            if every or (a & ends and b & ends):
                found.append(float(size))
            component.update(dict.fromkeys(a | b, a | b))
    return found


def test_the_edges_themselves_would_give_other_weights() -> None:
    """The example of the page: inputs 1 and 2 are joined through a unit that nothing leaves as strongly."""
    layers = [np.array([[9.0, 5, 2], [3, 7, 6]]), np.array([[4.0, 1], [2, 8]])]
    got = 9 * stem.deep_graph_persistence(layers, standardize=False, rescale=False).weights
    assert got.round(9).tolist() == [7, 6, 4, 4]
    assert naive(layers, every=False) == [7, 6, 5, 4]
    assert naive(layers, every=True) == [9, 8, 7, 6, 5, 4]


def test_one_layer_has_the_tree_of_its_weight() -> None:
    for kind in ("normal", "half zero", "integers, many ties"):
        for m, n in ((1, 1), (1, 7), (9, 1), (12, 30), (200, 190)):
            w = make(kind, m, n)
            if w.any():
                got, layer = stem.deep_graph_persistence([w], standardize=False), stem.neural_persistence(w)
                assert got.weights.tobytes() == layer.weights.tobytes()
                assert (got.total, got.normalized, got.peak) == (layer.total, layer.normalized, 1)


def test_a_path_is_its_least_edge() -> None:
    got = stem.deep_graph_persistence([np.array([[w]]) for w in (0.5, -0.25, 1.0)], standardize=False, rescale=False)
    assert (got.weights.tolist(), got.peak, got.flags) == ([0.25], 0.25, ("constant",))
    assert got.total == got.normalized == pytest.approx(math.sqrt(1 + 0.75**2), rel=1e-15)
    rescaled = stem.deep_graph_persistence([np.array([[w]]) for w in (0.5, -0.25, 1.0)], standardize=False)
    assert (rescaled.weights.tolist(), rescaled.peak, rescaled.total) == ([1], 0.25, 1)


def test_peak_and_rescale() -> None:
    weights = chain(9, 8, 7)
    weights[1] *= 1e-3
    for standardize in (True, False):
        plain = stem.deep_graph_persistence(weights, standardize=standardize, rescale=False)
        scaled = stem.deep_graph_persistence(weights, standardize=standardize)
        assert plain.peak == scaled.peak == plain.weights[0]
        assert scaled.weights[0] == 1
        assert np.abs(scaled.weights * plain.peak - plain.weights).max() <= 2.0**-52
    assert plain.peak <= 1e-3 < stem.deep_graph_persistence(weights).peak


def test_a_constant_layer_has_no_edges_where_standardized_and_is_flagged() -> None:
    for value in (0.1, -3.0, 0.0):
        weights = chain(5, 6, 4)
        weights[1] = np.full((4, 6), value)
        got = stem.deep_graph_persistence(weights)
        assert got.flags == ("constant", "zero")
        assert (got.peak, got.weights.any(), len(got.weights)) == (0, False, 8)
        assert got.total == pytest.approx(3, rel=1e-15)  # as the all-zero matrix of 5 and 4 units
        raw = stem.deep_graph_persistence(weights, standardize=False)
        assert raw.flags == (("constant",) if value else ("constant", "zero"))
        assert raw.weights.any() == (value != 0)


def test_a_network_of_zeros_and_one_of_dead_ends_are_flagged_zero() -> None:
    ends = [np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 3.0]])]  # what leaves is never what is entered
    for weights, flags in (([np.zeros((4, 3)), np.zeros((2, 4))], ("constant", "zero")), (ends, ("zero",))):
        for rescale in (True, False):
            got = stem.deep_graph_persistence(weights, standardize=False, rescale=rescale)
            d = weights[0].shape[1] + weights[-1].shape[0]
            assert (got.flags, got.peak, got.weights.tolist()) == (flags, 0, [0.0] * (d - 1))
            assert got.total == pytest.approx(d**0.5, rel=1e-15)
            assert got.normalized == pytest.approx((d / (d - 1)) ** 0.5, rel=1e-15)


def test_weights_that_are_all_equal_in_size_have_total_1() -> None:
    g = np.random.default_rng(0)
    got = stem.deep_graph_persistence([g.choice([-2.0, 2.0], s) for s in ((7, 5), (6, 7))], standardize=False)
    assert (got.total, got.weights.tolist(), got.flags) == (1, [1.0] * 10, ())


def test_weights_of_any_size_have_a_value() -> None:
    """Their squares, or 1 / std, may be more or less than the format holds."""
    base = chain(6, 5, 4)
    expected, narrow = stem.deep_graph_persistence(base), [w.astype(np.float32) for w in base]
    for exponent in (-1000, -600, -300, 300, 600, 1000):
        scaled = [math.ldexp(1, exponent) * w for w in base]
        assert same(stem.deep_graph_persistence(scaled), expected)
        raw = [stem.deep_graph_persistence(w, standardize=False) for w in (scaled, base)]
        assert same(*raw)
    for exponent in (-120, -60, 60, 120):
        scaled = [np.float32(math.ldexp(1, exponent)) * w for w in narrow]
        assert same(stem.deep_graph_persistence(scaled), stem.deep_graph_persistence(narrow))
    denormal = [np.float32(2.0**-133) * w for w in narrow]  # to 2^-16: what is left of their digits
    assert near(stem.deep_graph_persistence(denormal), expected, 2.0**-13)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_differences_that_the_format_cannot_hold_are_refused(dtype: str) -> None:
    most = np.finfo(dtype).max
    weights = [np.array([[-most, most, most, most, most / 2]], dtype), np.array([[1], [2], [4]], dtype)]
    with pytest.raises(
        na.NonFinite, match="deep_graph_persistence: got weights whose differences their format cannot hold"
    ):
        stem.deep_graph_persistence(weights)
    assert stem.deep_graph_persistence(weights, standardize=False).peak == 4 / most


@pytest.mark.parametrize("place", [0, 7, -1])
def test_an_outlier_costs_no_digits_wherever_it_stands(place: int) -> None:
    weights = chain(150, 150, 3)
    weights[0].flat[place] = 1e6
    *_, tree = reference.deep_graph_persistence(weights, rescale=False)
    got = stem.deep_graph_persistence(weights, rescale=False)
    assert np.abs(got.weights / tree - 1).max() <= 1e-13


# Convolutions


def channel_graph(w: np.ndarray) -> np.ndarray:
    out = np.empty(w.shape[:2], w.dtype)
    for i, j in np.ndindex(out.shape):
        out[i, j] = max(w[i, j].ravel(), key=abs)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_convolution_is_a_graph_of_channels_with_its_largest_weights_and_is_flagged(dtype: str) -> None:
    shapes: list[tuple[int, ...]] = [(8, 3, 3, 3), (6, 8, 1, 1), (5, 6, 5), (4, 5), (3, 4, 2, 2, 2)]
    g = np.random.default_rng(0)
    weights = [typed(9 * np.abs(g.standard_normal(shape)), dtype) for shape in shapes]
    graphs = [channel_graph(w.values) if w.values.ndim > 2 else w.values for w in weights]
    for standardize, rescale in OPTIONS:
        options: dict[str, Any] = {"standardize": standardize, "rescale": rescale}
        got = stem.deep_graph_persistence([w.given for w in weights], **options)
        plain = stem.deep_graph_persistence([w.astype("f8" if dtype == "float64" else "f4") for w in graphs], **options)
        assert got.flags == (*plain.flags, "channel_graph")
        assert got.weights.tobytes() == plain.weights.tobytes()
        assert (got.total, got.normalized, got.peak) == (plain.total, plain.normalized, plain.peak)


def test_the_order_of_kernel_positions_changes_nothing() -> None:
    g = np.random.default_rng(0)
    for dtype in ("int8", "float32", "bfloat16"):  # small integers: 3 and -3 are both the largest
        kernels = [g.integers(-3, 4, shape) for shape in ((5, 4, 3, 3), (6, 5, 4))]
        flipped = [k[:, :, ::-1].copy() for k in kernels]
        a, b = ([typed(k, dtype).given for k in layers] for layers in (kernels, flipped))
        assert same(stem.deep_graph_persistence(a), stem.deep_graph_persistence(b))
    kernel = np.array([[[3, -3, 0], [1, 2, 0]]], np.int8)
    plain = stem.deep_graph_persistence([np.array([[3, 2]], np.int8)])
    assert stem.deep_graph_persistence([kernel]).weights.tobytes() == plain.weights.tobytes()


def test_a_convolution_of_one_position_is_a_linear_layer() -> None:
    weights = chain(6, 5, 4)
    kernels = [w[:, :, None, None] for w in weights]
    got, plain = stem.deep_graph_persistence(kernels), stem.deep_graph_persistence(weights)
    assert (got.flags, got.weights.tobytes()) == (("channel_graph",), plain.weights.tobytes())
    assert stem.deep_graph_persistence([kernels[0], weights[1]]).flags == ("channel_graph",)


# Invariances


@pytest.mark.parametrize("seed", range(60))
def test_the_order_of_units_signs_and_direction_change_nothing(seed: int) -> None:
    weights, g = network(seed), np.random.default_rng(seed)
    orders = [g.permutation(w.shape[1]) for w in weights] + [g.permutation(len(weights[-1]))]
    permuted = [w[into][:, out] for w, out, into in zip(weights, orders, orders[1:], strict=False)]
    backwards = [w.T for w in weights[::-1]]
    signs = [np.where(g.random(w.shape) < 0.5, -w, w) for w in weights]
    for rescale in (True, False):
        raw = stem.deep_graph_persistence(weights, standardize=False, rescale=rescale)
        for other in (permuted, backwards, signs):
            got = stem.deep_graph_persistence(other, standardize=False, rescale=rescale)
            assert (got.total, got.peak, got.weights.tobytes()) == (raw.total, raw.peak, raw.weights.tobytes())
    base = stem.deep_graph_persistence(weights, rescale=False)
    for other in (permuted, backwards):
        got = stem.deep_graph_persistence(other, rescale=False)
        assert np.abs(got.weights - base.weights).max() <= 2 * tolerance(weights, True)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scaling_negating_or_shifting_a_standardized_layer_changes_nothing(dtype: str) -> None:
    weights = chain(9, 30, 20, 5, dtype=dtype)
    base = stem.deep_graph_persistence(weights)
    first, middle, last = weights
    assert same(stem.deep_graph_persistence([first, -middle, last * 2**10]), base)
    assert same(stem.deep_graph_persistence([first / 2**20, middle, -last]), base)
    changed = [first * 3.7, middle, last + last.dtype.type(0.3)]
    away = tolerance(changed, dtype == "float64") + tolerance(weights, dtype == "float64")
    assert near(stem.deep_graph_persistence(changed), base, away)
    raw = [stem.deep_graph_persistence(w, standardize=False, rescale=False) for w in (weights, changed)]
    assert np.abs(raw[0].weights - raw[1].weights).max() > 0.01


def test_dead_units_and_wide_identities_change_nothing() -> None:
    first, last = chain(6, 7, 5)
    base = stem.deep_graph_persistence([first, last], standardize=False)
    dead = [np.vstack([first, np.zeros((2, 6))]), np.hstack([last, make("normal", 5, 2) * 9])]
    passing = [first, 100 * np.eye(7), last]
    for weights in (dead, passing):
        got = stem.deep_graph_persistence(weights, standardize=False)
        assert got.weights.tobytes() == base.weights.tobytes()


# Threads, memory, interruption


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int8"])
def test_any_number_of_threads_gives_the_same_bits(dtype: str) -> None:
    for dims in ((1, 9, 2), (700, 500, 600, 40)):
        weights = [typed(9 * w, dtype).given for w in chain(*dims)]
        for standardize in (True, False):
            one = stem.deep_graph_persistence(weights, standardize=standardize, threads=1)
            for threads in (2, 3, 7, None):
                assert same(stem.deep_graph_persistence(weights, standardize=standardize, threads=threads), one)


MEMORY = """
import resource, sys
import numpy as np
from netassay.persistence import deep_graph_persistence

deep_graph_persistence([np.eye(9)])
g, dims = np.random.default_rng(0), [int(d) for d in sys.argv[1].split("-")]
weights = [g.standard_normal((m, n), dtype=np.float32) for m, n in zip(dims[1:], dims)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(deep_graph_persistence(weights, threads=2).weights) == dims[0] + dims[-1] - 1
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in KiB")
@pytest.mark.parametrize("dims", ["20000-4-20000", "3000-3000-3000"])
def test_memory_is_linear_in_weights_and_units(dims: str) -> None:
    """Of the first chain S alone would take 1.6 GB in float32; of the second, a copy of one layer 36 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY, dims], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 18e6


INTERRUPTED = """
import signal
import numpy as np
from netassay import persistence

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
row = np.random.default_rng(0).standard_normal((1, 1000)).astype(np.float32)
huge = np.broadcast_to(row, (5_000_000, 1000))  # one row in memory, seconds of work
wide, samples = np.broadcast_to(row, (1000, 1000)), np.broadcast_to(row, (20000, 1000))
for threads in (1, 2):
    for work in (
        lambda: persistence.deep_graph_persistence([huge], threads=threads),
        lambda: persistence.sample_persistence([wide], [samples], threads=threads),
    ):
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            work()
        except KeyboardInterrupt:
            print("interrupted")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX timers")
def test_ctrl_c_stops_it() -> None:
    command = [sys.executable, "-W", "ignore", "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["interrupted"] * 4


# Results and bad input


def test_results_are_frozen_and_hold_a_read_only_array() -> None:
    weights = chain(5, 4, 3)
    got = stem.deep_graph_persistence(weights)
    for field in dataclasses.fields(got):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(got, field.name, None)
    with pytest.raises(ValueError, match="read-only"):
        got.weights[0] = 1
    assert (got.weights.dtype, got.weights.shape) == (np.float64, (7,))
    assert got == got != stem.deep_graph_persistence(weights)
    assert (np.diff(got.weights) <= 0).all()
    assert got.weights.min() >= 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_a_nan_or_an_infinity_is_named_by_layer_and_index(dtype: str, bad: float) -> None:
    bits = {"bfloat16": 0x7FC0 if math.isnan(bad) else 0x7F80, "float8_e4m3fn": 0x7F, "float8_e5m2": 0x7C}
    for layer, index in ((0, (0, 0)), (1, (3, 4)), (2, (1, 3))):
        weights = [typed(w, dtype).given for w in chain(6, 5, 4, 2)]
        if isinstance(weights[layer], View):
            weights[layer].array[index] = bits[dtype]
        else:
            weights[layer][index] = bad
        for standardize in (True, False):
            claim = (
                rf"deep_graph_persistence: layer {layer}: got (nan|-?inf) at \[{index[0]}, {index[1]}\] of the weight"
            )
            with pytest.raises(na.NonFinite, match=claim):
                stem.deep_graph_persistence(weights, standardize=standardize)


def test_layers_may_come_from_an_iterator() -> None:
    weights = chain(6, 5, 4)
    assert same(stem.deep_graph_persistence(iter(weights)), stem.deep_graph_persistence(weights))  # type: ignore[arg-type]
    weights[1][2, 3] = math.nan
    with pytest.raises(na.NonFinite, match=r"layer 1: got nan at \[2, 3\]"):
        stem.deep_graph_persistence(iter(weights))  # type: ignore[arg-type]


def test_a_nan_in_a_kernel_is_named_by_layer_and_index() -> None:
    kernel = np.ones((3, 2, 3, 3))
    kernel[2, 1, 0, 2] = math.nan
    with pytest.raises(na.NonFinite, match=r"deep_graph_persistence: layer 1: got nan at \[2, 1, 0, 2\]"):
        stem.deep_graph_persistence([np.ones((2, 2)), kernel])


def test_what_is_no_chain_is_refused() -> None:
    sizes = (
        r"got layer 2 with 5 inputs after one of 4 outputs, expected a chain: the outputs of each layer are the inputs"
    )
    for weights, claim in (
        ([], "deep_graph_persistence: got no layers, expected at least one"),
        ([*chain(9, 3, 4), np.ones((2, 5))], sizes),
        ([w.T for w in chain(9, 3, 4, 5)], "got layer 1 with 4 inputs after one of 9 outputs"),
        ([np.ones((2, 0))], r"deep_graph_persistence: layer 0: got a weight of shape \(2, 0\)"),
        ([np.ones((0, 2)), np.ones((2, 0))], r"deep_graph_persistence: layer 0: got a weight of shape \(0, 2\)"),
        ([np.ones((2, 2)), np.ones(2)], r"layer 1: got a weight of shape \(2,\), expected \(out, in, "),
        ([np.ones((2, 2, 0, 3))], r"deep_graph_persistence: layer 0: got a weight of shape \(2, 2, 0, 3\)"),
        ([np.ones((4, 3, 2, 2)), np.ones((5, 16))], "got layer 1 with 16 inputs after one of 4 outputs"),  # flattened
    ):
        with pytest.raises(na.ShapeError, match=claim):
            stem.deep_graph_persistence(weights)


@pytest.mark.parametrize("p", [0, -1, math.nan, math.inf, "2", None, 1j])
def test_a_power_that_is_no_number_above_zero_is_refused(p: Any) -> None:
    with pytest.raises(
        na.DomainError, match=r"deep_graph_persistence: got p.*expected a (finite number above 0|real number)"
    ):
        stem.deep_graph_persistence(chain(3, 2), p=p)


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint16", "complex128", "bool", "longdouble"])
def test_other_formats_are_refused(dtype: str) -> None:
    with pytest.raises(na.DTypeError, match=r"deep_graph_persistence: got dtype .*expected float64, float32"):
        stem.deep_graph_persistence([np.ones((3, 3)), np.ones((2, 3), dtype)])


def test_options_are_keyword_only_and_threads_are_at_least_one() -> None:
    with pytest.raises(TypeError):
        stem.deep_graph_persistence(chain(3, 2), True)  # type: ignore[misc]
    for threads in (0, -1):
        with pytest.raises(na.DomainError, match="threads"):
            stem.deep_graph_persistence(chain(3, 2), threads=threads)
