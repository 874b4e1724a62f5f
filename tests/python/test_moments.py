"""Streaming moments against the reference: counts exact, sums within derived bounds, states bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import netassay as na
from python.devices import on
from python.full import count
from python.moments import (
    DTYPES,
    LAWS,
    PRECISIONS,
    SIZES,
    WIDTHS,
    assert_close,
    assert_same,
    bits,
    cut,
    future,
    moments,
    rows,
    scale,
    tolerance,
    typed,
    within,
)
from reference import saturation as reference

pytestmark = pytest.mark.native

# Parity with the reference


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_rows_agrees_with_the_reference(device: str, dtype: str, precision: str) -> None:
    for n in SIZES:
        given_x, x = typed(rows(n, 5), dtype)
        assert_close(moments(on(device, given_x), precision=precision), x, tolerance(dtype, precision, n))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_width_agrees_with_the_reference(device: str, dtype: str, precision: str) -> None:
    for d in WIDTHS:
        for n in (3, 97, 1100):
            given_x, x = typed(rows(n, d), dtype)
            assert_close(moments(on(device, given_x), precision=precision), x, tolerance(dtype, precision, n))


@pytest.mark.parametrize("distribution", ["uniform", "lognormal", "cauchy", "constant", "one-hot"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_distribution_agrees_with_the_reference(device: str, dtype: str, precision: str, distribution: str) -> None:
    for n, d in ((17, 33), (1500, 20)):
        given_x, x = typed(rows(n, d, distribution), dtype)
        assert_close(moments(on(device, given_x), precision=precision), x, tolerance(dtype, precision, n))


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_batches_agree_with_the_reference_on_all_rows(device: str, dtype: str) -> None:
    parts = [typed(rows(n, 19, seed=n), dtype) for n in (1, 700, 2, 1024, 33, 300)]
    x = np.concatenate([p[1] for p in parts])
    assert_close(moments(*(on(device, p[0]) for p in parts)), x, tolerance(dtype, "high", len(x)))


def test_batches_of_several_dtypes_add_up_in_one_state(device: str) -> None:
    parts = [typed(rows(n, 12, seed=n), dtype) for n, dtype in zip((50, 300, 900, 40), DTYPES, strict=True)]
    x = np.concatenate([p[1] for p in parts])
    assert_close(moments(*(on(device, p[0]) for p in parts)), x, tolerance("bfloat16", "high", len(x)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("power", [-70, 70])
def test_finite_values_whose_squares_leave_the_range_of_float32_are_no_matter(
    device: str, dtype: str, power: int
) -> None:
    x = np.ldexp(rows(1100, 9), power)
    given_x, x = typed(x, dtype)
    assert_close(moments(on(device, given_x)), x, tolerance(dtype, "high", len(x)))


# Known answers


def test_hand_computed_moments() -> None:
    m = moments(np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]]))
    assert m.count == 3
    assert m.mean.tolist() == [2.0, 2.0]
    assert m.scatter.tolist() == [[8.0, 4.0], [4.0, 8.0]]
    assert m.covariance().tolist() == (m.scatter / 3).tolist()
    assert m.covariance(ddof=1).tolist() == [[4.0, 2.0], [2.0, 4.0]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 3, 100, 1025, 2600])
def test_equal_rows_have_a_scatter_of_exactly_zero(dtype: str, n: int) -> None:
    """No residue of a rounded mean: such a layer must be recognised as constant. 0.1 is no dyadic number."""
    x = typed(np.broadcast_to(np.array([0.1, -1e3 / 3, 0.0]), (n, 3)), dtype)[0]
    for m in (
        moments(x),
        moments(x[:1], x[1:]),
        moments(x) + moments(x[: n // 2]),
        moments(x, precision="exact"),
    ):
        assert not m.scatter.any()


BAR_D, BAR_N = 64, 200_000


@pytest.fixture(scope="module")
def bar_rows() -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(g.standard_normal((BAR_D, BAR_D)))
    direction = g.standard_normal(BAR_D)
    x = g.standard_normal((BAR_N, BAR_D)) / np.arange(1, BAR_D + 1)  # eigenvalues i^-2, top standard deviation 1
    return x @ rotation.T, direction / np.linalg.norm(direction)


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1e2, 1e4, 1e6])
def test_accuracy_bars_hold_where_the_naive_formula_fails(
    bar_rows: tuple[np.ndarray, np.ndarray], ratio: float
) -> None:
    """Mean / top standard deviation = ratio; the reference centres the same float32 rows in long double."""
    x = (bar_rows[0] + ratio * bar_rows[1]).astype(np.float32)
    expected = reference.covariance(x)
    k = reference.dimension(reference.eigenvalues(expected))
    for precision in PRECISIONS:
        m = na.Moments(BAR_D, precision=precision)
        for batch in np.split(x, 50):
            m.update(batch)
        assert within(precision, m.covariance(), expected), precision
        assert na.saturation.saturation(m).dimension == k
    if ratio >= 1e2:
        assert not within("exact", reference.naive_covariance(x.astype(np.float64)), expected)
    if ratio >= 1e4:
        assert not within("high", reference.naive_covariance(x).astype(np.float64), expected)


@pytest.mark.parametrize("ratio", [0.0, 1e2, 1e4])
def test_random_merge_trees_stay_within_5e_12(ratio: float) -> None:
    g = np.random.default_rng(int(ratio))
    x = (g.standard_normal((240, 6)) + ratio * np.array([0.6, 0.8, 0, 0, 0, 0])).astype(np.float32)
    expected = reference.moments(x)
    for _ in range(count(100, 1000)):
        cuts = np.sort(g.integers(0, len(x) + 1, g.integers(1, 24)))
        nodes = [
            moments(p, precision="exact") if len(p) else na.Moments(6, precision="exact") for p in np.split(x, cuts)
        ]
        while len(nodes) > 1:
            nodes.append(nodes.pop(g.integers(len(nodes))) + nodes.pop(g.integers(len(nodes))))
        assert nodes[0].count == len(x)
        assert np.linalg.norm(nodes[0].scatter - expected[2]) <= 5e-12 * np.linalg.norm(expected[2])
        assert np.linalg.norm(nodes[0].mean - expected[1]) <= 2.0**-48 * (1 + np.linalg.norm(expected[1]))


# Invariances


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_translation_leaves_the_scatter_and_moves_the_mean(dtype: str) -> None:
    x, shift = (
        np.round(rows(1500, 11) * 1024) / 1024,
        2.0**8,
    )  # both exact in float32, so the data is just moved
    a, b = moments(x.astype(dtype)), moments((x + shift).astype(dtype))
    tol = tolerance(dtype, "high", len(x)) * scale(x)
    assert np.linalg.norm(a.scatter - b.scatter) <= 2 * tol
    assert np.allclose(b.mean - a.mean, shift, rtol=0, atol=2 * tolerance(dtype, "high", len(x)))


def test_rotation_rotates_the_scatter() -> None:
    x, (r, _) = rows(900, 11), np.linalg.qr(rows(11, 11))
    assert np.linalg.norm(moments(x @ r).scatter - r.T @ moments(x).scatter @ r) <= 1e-13 * scale(x) * 11


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaling_by_a_power_of_two_is_exact(dtype: str) -> None:
    x = np.round(rows(1500, 11) * 64) / 64
    a, b = moments(typed(x, dtype)[0]), moments(typed(4 * x, dtype)[0])
    assert (16 * a.scatter).tobytes() == b.scatter.tobytes()
    assert (4 * a.mean).tobytes() == b.mean.tobytes()


# Laws: a state is a function of the sequence of finite rows; merging is a commutative monoid within rounding


@LAWS
@given(
    n=st.integers(1, 2600),
    d=st.sampled_from([1, 3, 40]),
    points=st.lists(st.integers(1, 2599), max_size=12),
    dtype=st.sampled_from(DTYPES),
    precision=st.sampled_from(PRECISIONS),
    fourth=st.booleans(),
)
def test_batch_boundaries_do_not_matter_bit_for_bit(
    n: int, d: int, points: list[int], dtype: str, precision: str, fourth: bool
) -> None:
    x = typed(rows(n, d), dtype)[0]
    whole = moments(x, precision=precision, fourth=fourth)
    parts = moments(*cut(x, [p for p in points if p < n]), precision=precision, fourth=fourth)
    assert_same(whole, parts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_single_rows_equal_one_batch_bit_for_bit(dtype: str) -> None:
    x = typed(rows(1100, 5), dtype)[0]
    assert_same(moments(*cut(x, range(1, 1100))), moments(x))


def test_merging_an_empty_state_that_left_rows_out_adds_its_count() -> None:
    a, b = moments(rows(5, 3)), moments(np.full((4, 3), np.nan))
    assert (b.count, b.nonfinite) == (0, 4)
    for m in (a + b, b + a):
        assert (m.count, m.nonfinite) == (5, 4)
        assert m.scatter.tobytes() == a.scatter.tobytes()
        assert m.mean.tobytes() == a.mean.tobytes()


@LAWS
@given(
    sizes=st.tuples(*[st.integers(0, 60)] * 3),
    d=st.integers(1, 6),
    shift=st.sampled_from([0.0, 1.0, 1e3]),
    seed=st.integers(0, 10**6),
    fourth=st.booleans(),
)
def test_merging_is_commutative_and_associative_and_adds_batches(
    sizes: tuple[int, ...], d: int, shift: float, seed: int, fourth: bool
) -> None:
    parts = [rows(n, d, seed=seed + i) + shift * i for i, n in enumerate(sizes)]
    a, b, c = (moments(p, fourth=fourth) if len(p) else na.Moments(d, fourth=fourth) for p in parts)
    x = np.concatenate(parts)
    ways = [(a + b) + c, a + (b + c), (c + b) + a, b + (a + c)]
    assert [w.count for w in ways] == [len(x)] * 4
    if len(x) == 0:
        return
    y = x - x.mean(axis=0)  # each pivot lies among the rows: |p - m| <= max |y|
    spread = float(np.sum(y * y) + len(x) * np.max(np.sum(y * y, axis=1)))
    for way in ways:
        assert_close(way, x, 4 * tolerance("float64", "exact", len(x)), spread)
    whole = moments(*(p for p in parts if len(p)), fourth=fourth)
    assert_close(whole, x, 4 * tolerance("float64", "exact", len(x)), spread)


def test_the_merge_formula_is_that_of_chan() -> None:
    x, y = rows(40, 5), rows(70, 5, seed=1) + 3
    m, (n, mean, scatter) = (
        moments(x) + moments(y),
        reference.merge(reference.moments(x), reference.moments(y)),
    )
    assert m.count == n
    assert np.allclose(m.mean, mean, rtol=1e-14, atol=1e-14)
    assert np.linalg.norm(m.scatter - scatter) <= 1e-13 * np.linalg.norm(scatter)


# Rows with a NaN or an infinity


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_with_rows_left_out_equals_the_one_without_them_bit_for_bit(dtype: str, precision: str) -> None:
    g = np.random.default_rng(5)
    for n in (1, 2, 40, 1023, 1025, 2600):
        x = rows(n, 6)
        for where in ({0}, {n - 1}, set(g.integers(0, n, 1 + n // 3).tolist()), set(range(min(n, 300)))):
            bad = x.copy()
            for i in where:
                bad[i, g.integers(6)] = g.choice([np.nan, np.inf, -np.inf])
            good = np.delete(x, list(where), axis=0)
            m = moments(typed(bad, dtype)[0], precision=precision, fourth=True)
            assert m.nonfinite == len(where)
            assert m.count == n - len(where)
            clean = na.Moments(6, precision=precision, fourth=True)
            if len(good):
                clean.update(typed(good, dtype)[0])
            assert bits(m)[5:] == bits(clean)[5:]
            assert future(m)[5:] == future(clean)[5:]


def test_overlapping_nan_and_infinities_in_one_row_count_once() -> None:
    m = moments(np.array([[np.nan, np.inf], [np.inf, -np.inf], [1.0, 2.0]]))
    assert (m.count, m.nonfinite) == (1, 2)


def test_values_whose_sum_overflows_are_no_infinities() -> None:
    m = moments(np.array([[3e38, 3e38], [3e38, 3e38]], np.float32), precision="exact")
    assert (m.count, m.nonfinite) == (2, 0)
    assert np.isfinite(m.mean).all()


def test_rows_a_mask_leaves_out_are_not_counted_as_nonfinite() -> None:
    x, keep = rows(20, 3), np.arange(20) % 2 == 0
    x[1::2] = np.nan
    x[4, 0] = np.inf
    m = moments(x, mask=keep)
    assert (m.count, m.nonfinite) == (9, 1)
