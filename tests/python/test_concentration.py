"""Disparity, effective degree and Gini's coefficient: the reference, exact extremes, invariances, errors.

Tolerance: a quotient of sums of n non-negative terms, each rounded a few times: within 4 (n + 4) 2^-53 of itself.
Gini's numerator is a sum of terms of both signs that come to at most n sum x, so that it is off by that of 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netassay.base.arrays import View
from netassay.base.errors import DomainError, DTypeError, NonFinite, ShapeError
from netassay.network import Concentration, disparity, effective_degree, gini
from python.full import count
from python.matrices import DTYPES, make, typed
from reference import network as reference

MEASURES = (disparity, effective_degree, gini)
SIZES = [(1, 1), (1, 2), (3, 15), (16, 17), (33, 31), (97, 2)]


def tolerance(n: int) -> float:
    return 4 * (n + 4) * 2.0**-53


# ---- parity ----


KINDS = [
    "normal",
    "lognormal",
    "cauchy",
    "constant",
    "all zero",
    "one-hot",
    "half zero",
    "dead rows and columns",
    "levels",
]


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_the_references(kind: str) -> None:
    for m, n in SIZES:
        x = make(kind, m, n)
        for axis in (0, 1):
            links = x.shape[axis]
            expected = np.array(reference.disparity(x, axis))
            got = disparity(x, axis)  # type: ignore[arg-type]
            assert (np.abs(got.values - expected) <= tolerance(links) * expected).all()
            assert (got.empty == (expected == 0)).all()
            assert got.links == links
            assert got.flags == (("empty_nodes",) if (expected == 0).any() else ())
            degree = np.divide(1, expected, out=np.zeros_like(expected), where=expected > 0)
            found = effective_degree(x, axis).values  # type: ignore[arg-type]
            assert (np.abs(found - degree) <= 2 * tolerance(links) * degree).all()
            inequality = gini(x, axis).values  # type: ignore[arg-type]
            assert np.abs(inequality - reference.gini(x, axis)).max() <= tolerance(links)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_format_is_read_as_its_values(dtype: str) -> None:
    w, x = typed(make("normal", 12, 31) * (40 if dtype.endswith("int8") else 1), dtype)
    if dtype == "int8":  # |-128| is no int8
        w[0, 0] = x[0, 0] = -128
    for measure in MEASURES:
        for axis in (0, 1):
            got, expected = measure(w, axis), measure(x.astype(np.float64), axis)  # type: ignore[arg-type]
            assert got.values.tobytes() == expected.values.tobytes()


def test_any_strides_describe_the_same_weights() -> None:
    x = make("lognormal", 40, 33)
    for turned in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1, ::-1].copy()[::-1, ::-1]):
        for measure in MEASURES:
            for axis in (0, 1):
                got, expected = measure(turned, axis), measure(x, axis)  # type: ignore[arg-type]
                assert got.values.tobytes() == expected.values.tobytes()


def test_a_matrix_of_many_blocks_is_the_matrix() -> None:
    x = make("normal", 700, 1100)
    y = np.abs(x)
    for axis in (0, 1):
        shares = y / y.sum(axis=axis, keepdims=True)
        got = disparity(x, axis).values  # type: ignore[arg-type]
        assert np.abs(got / (shares**2).sum(axis=axis) - 1).max() <= tolerance(1100)
        assert np.array_equal(gini(x, axis).values, [gini(line[None], 1).values[0] for line in (x if axis else x.T)])  # type: ignore[arg-type]


# ---- known answers ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 49, 100, 1000])
def test_the_extremes_are_exact(n: int, dtype: str) -> None:
    uniform = np.where(np.arange(n) % 2, -1, 1) * np.full((2, n), 0.7 if dtype[0] == "f" or dtype[0] == "b" else 7)
    one = np.zeros((2, n))
    one[0, n // 2] = one[1, 0] = -3
    if dtype == "uint8":
        uniform, one = np.abs(uniform), np.abs(one)
    for x, shares, degree, inequality in ((uniform, 1 / n, n, 0), (one, 1, 1, (n - 1) / n)):
        for axis in (0, 1):
            w = typed(x.T.copy() if axis == 0 else x, dtype).given
            assert disparity(w, axis).values.tolist() == [shares] * 2  # type: ignore[arg-type]
            assert effective_degree(w, axis).values.tolist() == [degree] * 2  # type: ignore[arg-type]
            assert gini(w, axis).values.tolist() == [inequality] * 2  # type: ignore[arg-type]


def test_a_node_without_weight_is_0_and_flagged() -> None:
    x = np.array([[1.0, 2.0, 0.0], [0.0, -0.0, 0.0]])
    for measure in MEASURES:
        outputs, inputs = measure(x, 1), measure(x, 0)
        assert outputs.values[1] == 0
        assert outputs.empty.tolist() == [False, True]
        assert inputs.empty.tolist() == [False, False, True]
        assert inputs.values[2] == 0
        assert outputs.flags == inputs.flags == ("empty_nodes",)
        assert measure(x[:1, :2], 1).flags == ()


def test_one_and_two() -> None:
    x = np.array([[1.0, -2.0]])
    assert disparity(x, 1).values[0] == 5 / 9
    assert effective_degree(x, 1).values[0] == 9 / 5
    assert gini(x, 1).values[0] == 1 / 6


def test_the_links_of_a_channel_are_the_entries_of_its_kernels() -> None:
    w = make("normal", 6, 2 * 9).reshape(6, 2, 3, 3)
    for measure in MEASURES:
        assert measure(w, 1, groups=3).values.tobytes() == measure(w.reshape(6, 18), 1).values.tobytes()
        whole = measure(w, 0)
        assert whole.links == 54
        assert whole.values.tobytes() == measure(w.transpose(1, 0, 2, 3).reshape(2, 54), 1).values.tobytes()
        parted = measure(w, 0, groups=3)
        assert parted.links == 18
        assert parted.values.tobytes() == b"".join(measure(w[g : g + 2], 0).values.tobytes() for g in (0, 2, 4))


# ---- invariances ----


def naive(x: np.ndarray) -> np.ndarray:
    y = np.abs(x)
    with np.errstate(all="ignore"):
        return (y * y).sum(axis=1) / y.sum(axis=1) ** 2


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_the_scale_of_a_node_changes_nothing_where_the_naive_formula_fails(scale: float) -> None:
    x = make("lognormal", 20, 31)
    scales = np.where(np.arange(20) % 2, scale, 1.0)[:, None]
    for measure in MEASURES:
        expected = measure(x, 1).values
        assert np.abs(measure(x * scales, 1).values - expected).max() <= tolerance(31)
    assert not np.abs(naive(x * scale) - disparity(x, 1).values).max() <= 1e-9


@pytest.mark.parametrize("exponent", [-1000, 1000])
def test_powers_of_two_do_not_change_a_bit(exponent: int) -> None:
    x = make("uniform", 20, 31)
    for measure in MEASURES:
        for axis in (0, 1):
            got = measure(np.ldexp(x, exponent), axis)  # type: ignore[arg-type]
            assert got.values.tobytes() == measure(x, axis).values.tobytes()  # type: ignore[arg-type]


def test_the_smallest_and_the_largest_float64_are_weights_like_others() -> None:
    for value in (5e-324, 2.3e-308, np.finfo(np.float64).max):
        x = np.full((1, 10), value)
        assert disparity(x, 1).values[0] == 0.1
        assert effective_degree(x, 1).values[0] == 10
        assert gini(x, 1).values[0] == 0
        x[0, 1:] = 0
        assert disparity(x, 1).values[0] == 1


@settings(max_examples=count(60, 1200), deadline=None, derandomize=True)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_values_are_within_their_bounds_and_know_neither_sign_nor_order(x: list[float], random: Any) -> None:
    w, n = np.array([x]), len(x)
    moved = np.abs(w[:, random.sample(range(n), n)])
    if w.any():
        assert 1 / n <= disparity(w, 1).values[0] <= 1
        assert 1 <= effective_degree(w, 1).values[0] <= n
        assert 0 <= gini(w, 1).values[0] <= (n - 1) / n
    for measure in MEASURES:
        expected = measure(w, 1).values[0]
        assert abs(measure(moved, 1).values[0] - expected) <= 2 * tolerance(n) * max(1, expected)


@settings(max_examples=count(40, 800), deadline=None, derandomize=True)
@given(st.integers(2, 30), st.integers(0, 99))
def test_weight_that_moves_to_a_heavier_link_concentrates(n: int, seed: int) -> None:
    x = np.sort(np.random.default_rng(seed).uniform(1, 2, (1, n)))
    moved = x.copy()
    moved[0, 0], moved[0, -1] = x[0, 0] - 0.5, x[0, -1] + 0.5
    assert disparity(moved, 1).values[0] > disparity(x, 1).values[0]
    assert gini(moved, 1).values[0] > gini(x, 1).values[0]
    assert effective_degree(moved, 1).values[0] < effective_degree(x, 1).values[0]


def test_results_cannot_be_written_to_and_what_is_given_is_left_alone() -> None:
    x = np.array([[3.0, -1.0], [2.0, 5.0]])
    for measure in MEASURES:
        got: Concentration = measure(x, 0)
        assert not got.values.flags.writeable
        assert not got.empty.flags.writeable
    assert x.tolist() == [[3, -1], [2, 5]]


# ---- errors ----


@pytest.mark.parametrize("measure", MEASURES, ids=lambda f: f.__name__)
def test_errors_say_what_was_given_and_what_is_expected(measure: Any) -> None:
    name = measure.__name__
    for axis in (2, -1, None, "rows"):
        with pytest.raises(DomainError, match=rf"^{name}: got axis .*, expected 0 or 1$"):
            measure(np.ones((2, 2)), axis)
    for shape in ((3,), (0, 3), (2, 0)):
        with pytest.raises(ShapeError, match=rf"^{name}: got a weight of shape .*, expected \(out, in, \.\.\.\), none"):
            measure(np.ones(shape), 1)
    with pytest.raises(ShapeError, match=rf"^{name}: got 2 groups of 3 channels, expected a divisor$"):
        measure(np.ones((3, 2)), 0, groups=2)
    with pytest.raises(DTypeError, match=rf"^{name}: got dtype int64"):
        measure(np.ones((2, 2), np.int64), 1)
    for bad in (np.nan, np.inf):
        x = np.ones((3, 700, 2, 500))
        x[2, 650, 1, 3] = bad
        for axis in (0, 1):
            with pytest.raises(
                NonFinite, match=rf"^{name}: got {bad} at \[2, 650, 1, 3\] of the weight, expected finite"
            ):
                measure(x, axis)
    bits = np.full((2, 2), 0x7F80, np.uint16)
    with pytest.raises(NonFinite, match=rf"^{name}: got inf at \[0, 0\] of the weight and 3 more, expected finite"):
        measure(View(bits, "bfloat16"), 1)
