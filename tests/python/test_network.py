"""Link weights and their sums: parity with the reference, known answers, merges, threads, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from netassay import _core
from netassay.base.arrays import View
from netassay.base.errors import DomainError, DTypeError, NonFinite, ShapeError
from netassay.network import grid, link_weights, sums, survey
from netassay.network.links import QUANTILES
from python.devices import on
from python.links import (
    EPSILON,
    EXACT,
    KINDS,
    SIZES,
    SUMS,
    assert_moments,
    assert_statistics,
    assert_sums,
    given,
    make,
    moment_tolerance,
    values,
)
from python.matrices import DTYPES
from reference import network as reference

pytestmark = pytest.mark.native

# ---- parity ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_the_references(device: str, dtype: str, kind: str) -> None:
    for m, n in SIZES:
        w, x = given(kind, dtype, m, n)
        assert_statistics(link_weights(on(device, w)), x, dtype in EXACT)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_the_references(device: str, dtype: str, kind: str) -> None:
    for m, n in SIZES:
        w, x = given(kind, dtype, m, n)
        assert_sums(sums(on(device, w)), x)


def layouts(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    m, n = x.shape
    yield "Fortran", np.asfortranarray(x)
    wide = np.zeros((2 * m, 3 * n), x.dtype)
    wide[::2, 1::3] = x
    yield "strided", wide[::2, 1::3]
    padded = np.zeros((m, n + 5), x.dtype)
    padded[:, :n] = x
    yield "padded rows", padded[:, :n]
    yield "backwards", x[::-1, ::-1].copy()[::-1, ::-1]
    read_only = x.copy()
    read_only.flags.writeable = False
    yield "read-only", read_only


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int8"])
def test_any_strides_describe_the_same_weights(device: str, dtype: str) -> None:
    for m, n in ((7, 33), (300, 5), (5, 300), (40, 1100)):
        w, x = given("normal", dtype, m, n)
        plain = w.array if isinstance(w, View) else w
        expected = link_weights(w)
        for name, y in layouts(plain):
            turned = on(device, View(y, dtype))
            got = link_weights(turned)
            assert (got.density == expected.density).all(), name
            assert (got.quantiles == expected.quantiles).all(), name
            if x.size < 2000:
                assert_moments(got, x)
            found = sums(turned)
            for what, k, axis in SUMS:
                size = np.abs(x.astype(np.float64)) ** (2 if k == 2 else 1)
                near = np.array([x.astype(np.float64), size, size][k].sum(axis))
                assert (np.abs(getattr(found, what) - near) <= 2 * (m + n) * EPSILON * size.sum(axis)).all(), name


def test_a_matrix_of_many_tiles_agrees_with_numpy(device: str) -> None:
    for shape in ((1500, 1100), (3, 40_000), (40_000, 3), (1, 70_001)):
        x = make("normal", *shape).astype(np.float32)
        got, y = link_weights(on(device, x)), x.astype(np.float64)
        d = y - y.mean()
        expected = y.mean(), y.var(), (d**3).mean() / y.std() ** 3, (d**4).mean() / y.var() ** 2 - 3
        found = (got.mean, got.variance, got.skewness, got.kurtosis)
        assert np.abs(np.subtract(found, expected)).max() <= 1e-12
        assert got.density.sum() == x.size
        assert np.abs(got.quantiles / np.quantile(y, QUANTILES) - 1)[[0, 1, 2, 4, 5, 6]].max() <= 2.0**-7
        s = sums(on(device, x))
        for axis, total, squares in ((1, s.row_sum, s.row_square), (0, s.column_sum, s.column_square)):
            assert np.abs(total - y.sum(axis)).max() <= 1e-9
            assert np.abs(squares - (y * y).sum(axis)).max() <= 1e-9


# ---- known answers ----


def test_two_by_two() -> None:
    got = link_weights(np.array([[0.0, 1.0], [2.0, 5.0]]), quantiles=(0, 0.5, 1))
    assert (got.count, got.mean, got.variance, got.minimum, got.maximum, got.zero_share) == (4, 2, 3.5, 0, 5, 0.25)
    assert abs(got.skewness - 4.5 / 3.5**1.5) <= 4 * EPSILON
    assert abs(got.kurtosis - (24.5 / 3.5**2 - 3)) <= 4 * EPSILON
    assert got.quantiles[0] == 0
    assert got.quantiles[2] == 5
    assert got.flags == ()


def test_what_a_constant_is_and_what_one_link_is() -> None:
    got = link_weights(np.full((30, 70), 0.1))
    assert (got.mean, got.variance, got.skewness, got.kurtosis) == (0.1, 0, 0, 0)
    assert got.flags == ("constant",)
    assert (got.quantiles == 0.1).all()
    one = link_weights(np.array([[-2.5]], np.float16))
    assert (one.count, one.mean, one.variance, one.flags) == (1, -2.5, 0, ("constant", "single"))
    zero = link_weights(np.array([[0.0, -0.0]]))
    assert (zero.zero_share, zero.flags) == (1, ("constant", "zero"))


def naive(x: np.ndarray) -> float:
    """Variance by the sums of w and w^2."""
    return float((x * x).mean() - x.mean() ** 2)


@pytest.mark.parametrize("mean", [1e6, 1e9])
def test_a_mean_far_from_zero_costs_nothing_where_the_naive_formula_fails(mean: float) -> None:
    x = make("normal", 300, 257) + mean
    got, expected = link_weights(x), reference.moments(x)
    assert abs(got.variance / expected[1] - 1) <= 1e-12
    assert abs(got.skewness - expected[2]) <= 1e-12
    assert abs(got.kurtosis - expected[3]) <= 1e-12
    assert abs(naive(x) / expected[1] - 1) > 1e-6


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_quantiles_of_weights_that_lie_close_together_are_as_fine_as_their_range(dtype: str) -> None:
    x = (make("normal", 300, 257) + 1e6).astype(dtype)
    got, range_ = link_weights(x), float(x.max()) - float(x.min())
    for q, value in zip(QUANTILES, got.quantiles, strict=True):
        assert abs(value - reference.quantile(x, q)) <= 2.0**-15 * range_
    both = link_weights(x, np.zeros(300, dtype), quantiles=(0, 0.5))  # merged with other bins
    assert both.quantiles[0] == 0
    assert (
        abs(both.quantiles[1] - reference.quantile(np.concatenate([x.ravel(), np.zeros(300)]), 0.5)) <= range_ / 2**15
    )


def test_a_pivot_that_is_an_outlier_is_not_taken() -> None:
    x = make("normal", 40, 50)
    x[0, 0] = 1e8  # first of the tile, and sampled
    assert_moments(link_weights(x), x)


@pytest.mark.parametrize("exponent", [-1000, -300, 300, 1000])
def test_shape_does_not_depend_on_scale(exponent: int) -> None:
    x = make("lognormal", 20, 30)
    got, scaled = link_weights(x), link_weights(np.ldexp(x, exponent))
    assert abs(scaled.skewness - got.skewness) <= 1e-12 * abs(got.skewness)
    assert abs(scaled.kurtosis - got.kurtosis) <= 1e-12 * abs(got.kurtosis)
    assert abs(np.ldexp(scaled.mean, -exponent) - got.mean) <= 1e-13 * got.mean


def test_a_bias_is_one_more_link_of_every_output() -> None:
    for dtype in DTYPES:
        w, x = given("normal", dtype, 7, 12)
        b, y = given("lognormal", dtype, 1, 7)
        bias = View(b.array[0], dtype) if isinstance(b, View) else b[0]
        assert_statistics(link_weights(w, bias), np.concatenate([x.ravel(), y.ravel()]), dtype in EXACT)
    other = link_weights(np.ones((3, 2), np.float32), np.full(3, 2.0, np.float16))
    assert (other.count, other.mean, other.maximum) == (9, 4 / 3, 2)


def test_a_convolutions_weight_is_read_as_out_by_the_rest() -> None:
    x = make("normal", 6, 36).astype(np.float32)
    assert values(link_weights(x.reshape(6, 4, 3, 3))) == values(link_weights(x))
    assert values(sums(x.reshape(6, 4, 3, 3))) == values(sums(x))


def test_one_read_for_both_gives_the_same_as_one_for_each() -> None:
    """But for the last bits of moments, whose first two powers are the rows' sums."""
    for dtype in DTYPES:
        for kind in ("normal", "many zeros", "constant"):
            w, x = given(kind, dtype, 33, 97)
            (links, both), alone = survey(w), link_weights(w)
            assert_moments(links, x)
            same = [name for name in links.__slots__ if name not in ("mean", "variance", "skewness", "kurtosis")]
            assert repr([getattr(links, name) for name in same]) == repr([getattr(alone, name) for name in same])
            assert_sums(both, x)
            if dtype != "float64":  # whose squares round, in a fused multiply-add or not
                assert values(both) == values(sums(w))


# ---- laws ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_of_parts_are_the_counts_of_the_whole(dtype: str) -> None:
    w, x = given("normal", dtype, 60, 41)
    plain = w.array if isinstance(w, View) else w
    whole = _core.network.link_weights([(plain, dtype)], quantiles=QUANTILES)
    for cuts in ([20], [1, 59], [10, 20, 30]):
        parts = [(part, dtype) for part in np.split(plain, cuts)]
        for order in (parts, parts[::-1]):
            got = _core.network.link_weights(order, quantiles=QUANTILES)
            assert (got[0], got[5:8]) == (whole[0], whole[5:8])
            assert (got[8] == whole[8]).all()
            assert (got[9] == whole[9]).all()
            assert np.abs(np.subtract(got[1:5], whole[1:5])).max() <= max(moment_tolerance(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_a_bit(dtype: str) -> None:
    for m, n in ((900, 1200), (70_000, 7), (5, 33_000)):
        w, _ = given("Cauchy", dtype, m, n)
        links, total = values(link_weights(w, threads=1)), values(sums(w, threads=1))
        both = [values(part) for part in survey(w, threads=1)]
        for threads in (2, 3, 7):
            assert values(link_weights(w, threads=threads)) == links
            assert values(sums(w, threads=threads)) == total
            assert [values(part) for part in survey(w, threads=threads)] == both


def test_results_cannot_be_written_to() -> None:
    got, total = link_weights(np.ones((2, 2))), sums(np.ones((2, 2)))
    for array in (got.quantiles, got.density, *(getattr(total, name) for name in total.__slots__)):
        assert not array.flags.writeable


def test_the_grid_is_the_references() -> None:
    assert grid().tolist() == reference.grid()


# ---- errors ----


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (4,), (), (2, 0, 3)])
@pytest.mark.parametrize("function", [link_weights, sums, survey])
def test_a_weight_without_weights_is_refused(function: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as error:
        function(np.ones(shape))
    assert str(error.value) == (
        f"{function.__name__}: got a weight of shape {shape}, expected (out, in, ...), none of them 0"
    )


NOT_NUMBERS = {"bfloat16": [0x7F80, 0xFFC0], "float8_e4m3fn": [0x7F, 0xFF], "float8_e5m2": [0x7C, 0xFE]}


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if "int" not in dtype])
@pytest.mark.parametrize("function", [link_weights, sums, survey])
def test_the_first_nan_or_infinity_is_named(function: Any, dtype: str) -> None:
    for bad in range(2):
        for m, n in ((4, 5), (300, 70)):
            w, _ = given("normal", dtype, m, n)
            plain = (w.array if isinstance(w, View) else w).copy()
            for i, j in ((m - 1, 0), (2, 3)):
                plain[i, j] = NOT_NUMBERS[dtype][bad] if dtype in NOT_NUMBERS else (np.nan, -np.inf)[bad]
            for y in (plain, np.asfortranarray(plain)):
                with pytest.raises(
                    NonFinite, match=rf"^{function.__name__}: got .* at \[2, 3\] of the weight and 1 more"
                ):
                    function(View(y, dtype))


def test_what_else_is_refused() -> None:
    w = np.ones((2, 3))
    with pytest.raises(NonFinite, match=r"^link_weights: got nan at \[1\] of the bias, expected finite values$"):
        link_weights(w, np.array([0, np.nan]))
    with pytest.raises(NonFinite, match=r"^sums: got inf at \[1, 0, 2\] of the weight, expected finite values$"):
        sums(np.array([[[1.0, 2, 3]], [[4, 5, np.inf]]]))
    with pytest.raises(ShapeError, match=r"^link_weights: got a bias of shape \(3,\), expected \(2,\)$"):
        link_weights(w, np.ones(3))
    with pytest.raises(DomainError, match=r"^link_weights: got quantile 1.5, expected a share from 0 to 1$"):
        link_weights(w, quantiles=(0.5, 1.5))
    with pytest.raises(DomainError, match="got quantile nan"):
        link_weights(w, quantiles=(float("nan"),))
    with pytest.raises(DTypeError, match=r"^sums: got dtype int64"):
        sums(np.ones((2, 2), np.int64))
    with pytest.raises(DomainError, match="threads"):
        sums(w, threads=0)
