"""Neural persistence against the literal reference, the published values, and what must not change it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import netassay as na
from netassay import persistence as stem
from netassay.base.arrays import View
from python.devices import on
from python.matrices import DTYPES, FLOATS, KINDS, Typed, make, typed
from python.trees import LAWS, POWERS, close, divided, same, tolerance
from reference import persistence as reference

pytestmark = pytest.mark.native

ROOT = Path(__file__).parents[1]
DATA = json.loads((ROOT / "data" / "persistence.json").read_text(encoding="utf-8"))
SIZES = [(1, 1), (1, 2), (2, 1), (3, 15), (16, 17), (31, 33), (97, 2), (70, 64)]


# Parity with the reference


def assert_parity(device: str, w: Typed, scale: float | None, p: float, essential: bool) -> None:
    got = stem.neural_persistence(on(device, w.given), scale=scale, p=p, essential=essential)
    total, normalized = reference.neural_persistence(w.values, scale, p, essential)
    s = np.abs(w.values).max() if scale is None else scale
    assert close(got.total, total, p)
    assert math.isclose(got.normalized, normalized, rel_tol=2 * tolerance(p, total))
    tree = np.array(reference.tree_weights(w.values), w.values.dtype)
    assert np.array_equal(got.weights, divided(tree, s) if s else np.zeros(len(tree)))
    assert got.scale == s
    # a bound near zero is what is left of terms of the size of those of the maxima
    terms = [(1 - x) ** p for k in (0, 1) for x in divided(np.abs(w.values).max(axis=k), s or 1)]
    bound = reference.lower_bound(w.values, s or 1, p)
    assert abs(got.lower_bound**p - bound**p) <= 2.0**-49 * (math.fsum(terms) + 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["uniform", "lognormal", "cauchy", "constant", "one-hot", "all zero", "half zero"])
def test_every_format_and_distribution_agrees_with_the_reference(device: str, kind: str, dtype: str) -> None:
    for m, n in SIZES:
        w = typed(make(kind, m, n) * (9 if dtype.endswith("int8") else 1), dtype)
        assert_parity(device, w, None, 2, True)


@pytest.mark.parametrize("essential", [True, False])
@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_power_and_scale_agrees_with_the_reference(device: str, dtype: str, p: float, essential: bool) -> None:
    for m, n in ((1, 1), (5, 3), (33, 17)):
        w = typed(make("normal", m, n) * 10, dtype)
        most = float(np.abs(w.values).max())
        for scale in (None, most, 1.5 * most, 1000.0 * most):
            assert_parity(device, w, scale, p, essential)


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": np.asfortranarray,
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every second row and column of Fortran order": lambda x: np.asfortranarray(x.repeat(2, 0).repeat(2, 1))[::2, ::2],
    "columns of a wider array": lambda x: np.pad(x, ((3, 2), (5, 4)))[3:-2, 5:-4],
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "negative strides, Fortran": lambda x: np.asfortranarray(x[::-1, ::-1])[::-1, ::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "misaligned": lambda x: misaligned(x),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "misaligned, big-endian, Fortran": lambda x: misaligned(x.T.astype(x.dtype.newbyteorder(">"))).T,
}


def misaligned(x: np.ndarray) -> np.ndarray:
    buffer = np.empty(x.nbytes + 1, np.uint8)
    y = buffer[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_equals_its_contiguous_copy_and_is_left_alone(view: str, dtype: str) -> None:
    for m, n in ((1, 1), (7, 5), (300, 70)):
        x = typed(make("normal", m, n), dtype).given
        array = x.array if isinstance(x, View) else x
        y = VIEWS[view](array)
        before = y.tobytes()
        given_y = View(y, x.dtype) if isinstance(x, View) else y
        assert same(stem.neural_persistence(given_y), stem.neural_persistence(x))
        for function in (stem.largest, stem.variance, stem.sortedness):
            assert function(given_y) == function(x)
        draws = stem.shuffle_test(given_y, 2).draws
        assert draws.tobytes() == stem.shuffle_test(x, 2).draws.tobytes()
        assert y.tobytes() == before


def test_rows_and_columns_of_a_broadcast_array_are_each_read() -> None:
    x = make("normal", 1, 90)
    for y in (np.broadcast_to(x, (80, 90)), np.broadcast_to(x.T, (90, 80))):
        assert same(stem.neural_persistence(y), stem.neural_persistence(y.copy()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", ["contiguous", "transposed", "strided", "a parameter"])
def test_a_torch_tensor_equals_its_bits_and_is_left_alone(view: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    w = typed(make("normal", 70, 64) * 9, dtype)
    t = torch.from_numpy(w.values).to(getattr(torch, dtype))
    before = t.clone()
    y = {
        "contiguous": lambda: t,
        "transposed": lambda: t.t().contiguous().t(),
        "strided": lambda: torch.stack([t, t], 2).reshape(70, 128)[:, ::2],
        "a parameter": lambda: torch.nn.Parameter(t, requires_grad=t.is_floating_point()),
    }[view]()
    assert same(stem.neural_persistence(y), stem.neural_persistence(w.given))
    assert stem.variance(y) == stem.variance(w.given)
    assert torch.equal(t.view(torch.uint8), before.view(torch.uint8))
    assert y.grad is None


# Reference values: published code, and scipy's trees on exact ranks. float64 to 1e-14; float32 weights are divided in
# float32, which both sides do exactly alike, and summed in float64, so there is no more to allow.


def reference_weight(entry: dict[str, Any]) -> np.ndarray:
    if "matrix" in entry:
        return np.array(entry["matrix"])
    names = {"np": np, "seed": entry["seed"], "shape": entry["shape"], "dtype": entry["dtype"]}
    return np.asarray(eval(entry["expr"], names))


CASES = [(f"np {e['gen']} {e['seed']} {e['shape']}", e) for e in DATA["np"]] + [(e["name"], e) for e in DATA["edge"]]


@pytest.mark.parametrize("entry", [e for _, e in CASES], ids=[name for name, _ in CASES])
def test_the_published_values_hold(entry: dict[str, Any]) -> None:
    w = reference_weight(entry)
    whole, without = stem.neural_persistence(w), stem.neural_persistence(w, essential=False)
    expected = entry["indep"]
    assert np.sum(np.abs(w) > 0) >= 1
    for got, value in (
        (whole.total, expected["np2_with_essential"]),
        (whole.total, entry["code_total_persistence"]),
        (whole.normalized, expected["norm_with_essential"]),
        (whole.normalized, entry["code_total_persistence_normalized"]),
        (without.total, expected["np2_mst_only"]),
        (without.normalized, expected["norm_mst_only"]),
        (math.fsum(whole.weights), expected["mst_weight_sum"]),
        (whole.weights[-1], expected["mst_min"]),
        (whole.lower_bound, entry["lower_bound_rowcolmax"]),
        (without.lower_bound, entry["lower_bound_rowcolmax"]),
    ):
        assert got == pytest.approx(value, rel=1e-14, abs=0)
    assert len(whole.weights) == expected["mst_edges"] == sum(w.shape) - 1
    # |W| / max in the weight's own format, then a variance in float64: that of float32 weights is rounded there
    unit = 1e-14 if w.dtype == np.float64 else 2.0**-22
    assert stem.variance(w) == pytest.approx(entry["variance_of_normalised_abs"], rel=unit, abs=1e-17)


def test_the_published_value_of_a_large_matrix_holds() -> None:
    [entry] = DATA["large"]
    w = np.random.default_rng(3).standard_normal((4096, 4096)).astype(np.float32)
    assert entry["expr"].startswith("np.random.default_rng(3).standard_normal((4096,4096))")
    whole = stem.neural_persistence(w)
    assert whole.total == pytest.approx(entry["code_total_persistence"], rel=1e-14)
    assert whole.normalized == pytest.approx(entry["code_total_persistence_normalized"], rel=1e-14)
    without = stem.neural_persistence(w, essential=False)
    assert without.total == pytest.approx(entry["scipy_np2_mst_only"], rel=1e-14)


def mlp_weights(entry: dict[str, Any]) -> list[np.ndarray]:
    g, dims = np.random.default_rng(entry["seed"]), entry["dims"]
    scales = [math.sqrt(2.0 / (a + b)) for a, b in pairwise(dims)]
    shapes = zip(dims[1:], dims, scales, strict=False)
    return [(g.standard_normal((out, into)) * scale).astype(entry["dtype"]) for out, into, scale in shapes]


@pytest.mark.parametrize("entry", DATA["mlp"], ids=lambda e: f"{e['seed']}")
def test_the_published_values_of_whole_networks_hold(entry: dict[str, Any]) -> None:
    weights = mlp_weights(entry)
    result = stem.network_persistence(weights)
    assert result.scale == max(np.abs(w).max() for w in weights)
    for layer, code, independent in zip(
        result.layers, entry["np_layers_normalized"], entry["np_layers_indep"], strict=True
    ):
        assert layer.normalized == pytest.approx(code, rel=1e-14)
        assert layer.normalized == pytest.approx(independent, rel=1e-14)
        assert layer.scale == result.scale
    assert result.normalized == pytest.approx(entry["np_global_mean_normalized"], rel=1e-14)
    assert result.total == pytest.approx(math.fsum(layer.total for layer in result.layers), rel=1e-15)


# Known answers


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_weight_has_total_1_and_without_the_essential_class_0(dtype: str) -> None:
    for m, n in ((1, 1), (2, 1), (9, 17), (100, 90)):
        w = typed(np.full((m, n), 3.0), dtype).given
        assert stem.neural_persistence(w).total == 1
        assert math.isclose(stem.neural_persistence(w).normalized, (m + n - 1) ** -0.5, rel_tol=2.0**-51)
        without = stem.neural_persistence(w, essential=False)
        assert (without.total, without.normalized, without.lower_bound, without.flags) == (0, 0, 0, ())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [None, 0, 0.0, 1e-300, 1e-50, 1.0, 1e300])
def test_an_all_zero_weight_has_weights_of_zero_at_every_scale_and_is_flagged(dtype: str, scale: float | None) -> None:
    for m, n, p in ((1, 1, 2), (3, 4, 2), (90, 70, 3)):
        w = typed(np.zeros((m, n)), dtype).given
        result = stem.neural_persistence(w, scale=scale, p=p)
        assert result.flags == ("zero",)
        assert not result.weights.any()
        assert close(result.total, (m + n) ** (1 / p), p)
        assert math.isclose(result.normalized, ((m + n) / (m + n - 1)) ** (1 / p), rel_tol=1e-14)
        without = stem.neural_persistence(w, scale=scale, p=p, essential=False)
        assert math.isclose(without.normalized, 1, rel_tol=1e-15)
        assert result.scale == (scale or 0)
    assert stem.variance(w) == stem.sortedness(w) == 0


def test_a_weight_with_one_entry_is_not_flagged_zero() -> None:
    x = np.zeros((5, 6))
    x[4, 5] = -1e-300
    assert stem.neural_persistence(x).flags == ()
    assert stem.neural_persistence(np.array([[-0.0]])).flags == ("zero",)


def test_a_bias_is_one_more_input() -> None:
    x, b = make("normal", 30, 20), make("normal", 30, 1)[:, 0] * 5
    wide = np.concatenate([x, b[:, None]], axis=1)
    assert same(stem.neural_persistence(x, bias=b), stem.neural_persistence(wide))
    assert same(stem.spanning_tree(x, bias=b).persistence(scale=90), stem.neural_persistence(wide, scale=90))
    assert stem.neural_persistence(x, bias=b).scale == np.abs(b).max()
    assert len(stem.neural_persistence(x).weights) == 49
    bits = typed(wide, "bfloat16").given.array
    halves = View(bits[:, :20], "bfloat16"), View(bits[:, 20], "bfloat16")
    assert same(stem.neural_persistence(halves[0], bias=halves[1]), stem.neural_persistence(View(bits, "bfloat16")))


@pytest.mark.parametrize("shape", [(8, 3, 5, 5), (4, 6, 3), (2, 3, 4, 5, 6), (5, 1, 1, 1), (1, 9, 1)])
def test_a_convolution_is_a_matrix_of_outputs_and_all_their_inputs(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    expected = stem.neural_persistence(x.reshape(shape[0], -1))
    assert len(expected.weights) == shape[0] + math.prod(shape[1:]) - 1
    for y in (x, np.asfortranarray(x), np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1), x.astype(">f8")):
        assert same(stem.neural_persistence(y), expected)
    tree = stem.spanning_tree(x)
    assert (tree.rows, tree.cols) == (shape[0], math.prod(shape[1:]))


# Scale, power, essential class, bounds


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_scale_below_the_largest_weight_is_refused_after_conversion_to_the_format(dtype: str) -> None:
    w = typed(np.array([[90.0, 60.0], [10.0, 20.0]]), dtype)
    most = float(np.abs(w.values).max())
    single = dtype in FLOATS and dtype != "float64"
    barely = most * (1 - 2.0**-26)  # float32 has it equal to the largest weight
    assert np.float32(barely) == most
    if single:
        assert stem.neural_persistence(w.given, scale=barely).weights[0] == 1
    else:
        with pytest.raises(na.DomainError, match=r"neural_persistence: got scale=.*expected.*largest weight, 90"):
            stem.neural_persistence(w.given, scale=barely)
    for scale in (most * (1 - 2.0**-22), most / 2, 0, -most, -1, math.nan, math.inf, -math.inf):
        with pytest.raises(na.DomainError, match=r"neural_persistence: got scale=.*expected a finite number not below"):
            stem.neural_persistence(w.given, scale=scale)


@pytest.mark.parametrize("convert", [int, float, np.float32, np.float16, np.int64, np.uint8, np.array, Fraction])
def test_any_real_scalar_is_a_scale(convert: Any) -> None:
    x = make("uniform", 9, 8)
    assert same(stem.neural_persistence(x, scale=convert(2)), stem.neural_persistence(x, scale=2.0))


def test_a_torch_scalar_is_a_scale() -> None:
    torch = pytest.importorskip("torch")
    x = make("uniform", 9, 8)
    assert same(stem.neural_persistence(x, scale=torch.tensor(2.0)), stem.neural_persistence(x, scale=2.0))


@pytest.mark.parametrize("scale", [1j, "large", [1.0, 2.0], object()])
def test_what_is_no_real_number_is_no_scale(scale: Any) -> None:
    with pytest.raises(na.DomainError, match=r"got scale .*expected a real number"):
        stem.neural_persistence(make("uniform", 3, 3), scale=scale)
    with pytest.raises(na.DomainError, match=r"variance: got scale .*expected a real number"):
        stem.variance(make("uniform", 3, 3), scale=scale)


@pytest.mark.parametrize("p", [0, -1, -0.5, math.nan, math.inf])
def test_a_power_that_is_not_above_zero_is_refused(p: float) -> None:
    with pytest.raises(na.DomainError, match=r"neural_persistence: got p=.*expected a finite number above 0"):
        stem.neural_persistence(make("uniform", 3, 3), p=p)


def test_weights_are_divided_in_their_own_format() -> None:
    """One third of float32 is not that of float64."""
    for dtype, division in (("float32", np.float32), ("float64", np.float64), ("bfloat16", np.float32)):
        w = typed(np.array([[1.0, 3.0]]), dtype).given
        assert stem.neural_persistence(w).weights[1] == float(division(1) / division(3))
    assert stem.neural_persistence(np.array([[1, 3]], np.int8)).weights[1] == 1 / 3
    # the scale of a network is rounded to float32 before the division too
    w = np.array([[1.0, 0.5]], np.float32)
    assert stem.neural_persistence(w, scale=1.1).weights[0] == float(np.float32(1) / np.float32(1.1))


@LAWS
@given(
    m=st.integers(1, 40),
    n=st.integers(1, 40),
    kind=st.sampled_from(sorted(KINDS)),
    p=st.sampled_from([0.3, *POWERS, 30]),
    stretch=st.sampled_from([1.0, 1.3, 100.0]),
    seed=st.integers(0, 10**6),
)
def test_the_lower_bound_is_never_above_the_total_without_the_essential_class(
    m: int, n: int, kind: str, p: float, stretch: float, seed: int
) -> None:
    x = make(kind, m, n, seed)
    scale = stretch * float(np.abs(x).max())
    without = stem.neural_persistence(x, scale=scale, p=p, essential=False)
    whole = stem.neural_persistence(x, scale=scale, p=p)
    assert without.lower_bound <= without.total * (1 + tolerance(p, without.total))
    assert whole.lower_bound == without.lower_bound
    assert whole.total**p == pytest.approx(without.total**p + 1, rel=1e-11)
    # each is a norm of m + n - 1 numbers in [0, 1]
    assert 0 <= without.normalized <= 1 + 1e-12
    assert whole.normalized <= ((m + n) / (m + n - 1)) ** (1 / p) * (1 + 1e-12)


def test_the_lower_bound_is_the_total_where_one_row_or_column_has_every_maximum() -> None:
    for kind in ("one large row", "normal"):
        x = make(kind, 1 if kind == "normal" else 20, 30)
        x[len(x) // 2] = np.abs(x[len(x) // 2]) * 10
        without = stem.neural_persistence(x, essential=False)
        assert without.total >= without.lower_bound > 0
        if kind == "normal":
            assert close(without.lower_bound, without.total)


def test_the_normalized_value_of_a_very_small_power_is_a_number() -> None:
    """The total leaves the range of float64, (sum / count)^(1/p) does not."""
    result = stem.neural_persistence(make("uniform", 100, 100), p=1e-3)
    assert 0 < result.normalized <= (200 / 199) ** 1e3


# Invariances


@LAWS
@given(
    m=st.integers(1, 60),
    n=st.integers(1, 60),
    kind=st.sampled_from(sorted(KINDS)),
    dtype=st.sampled_from(["float64", "float32", "float16"]),
    seed=st.integers(0, 10**6),
)
def test_transposing_permuting_signs_and_powers_of_two_change_no_bit(
    m: int, n: int, kind: str, dtype: str, seed: int
) -> None:
    x, g = typed(make(kind, m, n, seed), dtype).given, np.random.default_rng(seed)
    base = stem.neural_persistence(x)
    shuffled = x[g.permutation(m)][:, g.permutation(n)]
    signs = np.where(g.random((m, n)) < 0.5, -x, x)
    for y in (x.T, -x, shuffled, signs):
        other = stem.neural_persistence(y)
        assert (other.total, other.normalized, other.scale, other.flags) == (
            base.total,
            base.normalized,
            base.scale,
            base.flags,
        )
        assert other.weights.tobytes() == base.weights.tobytes()
        assert other.lower_bound == pytest.approx(base.lower_bound, rel=1e-12, abs=1e-12)
    if dtype != "float16":  # whose small weights would be rounded
        twice = stem.neural_persistence(4 * x)
        assert (twice.total, twice.weights.tobytes()) == (base.total, base.weights.tobytes())


def test_a_wider_format_with_the_same_values_has_the_same_tree() -> None:
    for dtype in DTYPES:
        w = typed(make("normal", 70, 65) * 9, dtype)
        assert np.array_equal(stem.spanning_tree(w.given).weights, stem.spanning_tree(w.values).weights)
        if dtype != "float64" and dtype in FLOATS:
            assert same(stem.neural_persistence(w.given), stem.neural_persistence(w.values.astype(np.float32)))


# A tree, and a network at one scale


def test_a_tree_is_read_once_and_divided_by_any_scale_later() -> None:
    for dtype in DTYPES:
        w = typed(make("normal", 33, 70) * 9, dtype)
        tree = stem.spanning_tree(w.given)
        assert (tree.rows, tree.cols, tree.dtype) == (33, 70, dtype)
        assert tree.maximum == tree.weights[0] == np.abs(w.values).max() == stem.largest(w.given)
        assert np.array_equal(tree.row_max, np.abs(w.values).max(axis=1))
        assert np.array_equal(tree.col_max, np.abs(w.values).max(axis=0))
        for options in ({}, {"scale": 2000.0}, {"p": 3}, {"essential": False, "scale": 2000.0}):
            assert same(tree.persistence(**options), stem.neural_persistence(w.given, **options))


def test_a_network_has_one_scale_the_largest_of_all_and_one_mean() -> None:
    weights = [make("normal", m, n) for m, n in ((20, 30), (10, 20), (5, 10))]
    weights[1][3, 4] = -77
    result = stem.network_persistence(iter(weights), p=3, essential=False)
    assert result.scale == 77
    assert result.flags == ()
    for layer, w in zip(result.layers, weights, strict=True):
        assert same(layer, stem.neural_persistence(w, scale=77, p=3, essential=False))
    assert result.normalized == pytest.approx(np.mean([layer.normalized for layer in result.layers]), rel=1e-15)
    assert result.total == pytest.approx(np.sum([layer.total for layer in result.layers]), rel=1e-15)


def test_a_network_of_several_formats_shares_its_scale() -> None:
    weights = [typed(make("normal", 20, 9) * (k + 1), dtype).given for k, dtype in enumerate(DTYPES)]
    result = stem.network_persistence(weights)
    assert result.scale == max(stem.largest(w) for w in weights)
    assert [layer.scale for layer in result.layers] == [result.scale] * len(weights)


def test_a_dead_layer_and_a_dead_network_are_flagged() -> None:
    zero = np.zeros((4, 3))
    alive = stem.network_persistence([zero, np.eye(3)])
    assert (alive.flags, alive.layers[0].flags, alive.layers[1].flags) == ((), ("zero",), ())
    dead = stem.network_persistence([zero, zero])
    assert (dead.flags, dead.scale) == (("zero",), 0)
    assert dead.normalized == pytest.approx((7 / 6) ** 0.5, rel=1e-15)


# Results


def test_results_are_frozen_compare_by_identity_and_hold_read_only_arrays() -> None:
    x = make("normal", 9, 8)
    makers: list[Callable[[], Any]] = [
        lambda: stem.neural_persistence(x),
        lambda: stem.spanning_tree(x),
        lambda: stem.network_persistence([x]),
        lambda: stem.shuffle_test(x, 2),
    ]
    for function in makers:
        result = function()
        for field in dataclasses.fields(result):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(result, field.name, None)
            value = getattr(result, field.name)
            if isinstance(value, np.ndarray):
                assert value.dtype == np.float64
                with pytest.raises(ValueError, match="read-only"):
                    value[0] = 1
        assert result == result
        assert result != function()
        assert hash(result) is not None
        assert not hasattr(result, "__dict__")


def test_a_result_does_not_follow_its_input() -> None:
    x = make("normal", 9, 8)
    tree = stem.spanning_tree(x)
    before = tree.weights.tobytes(), tree.row_max.tobytes()
    x[...] = 0
    assert (tree.weights.tobytes(), tree.row_max.tobytes()) == before
