"""Saturation, effective dimension and their relatives against the literal reference and the known answers.

Tolerances. Eigenvalues from a backward-stable solver: |l_i - ref_i| <= 8 d 2^-52 l_1 (`spectral`). Statistics
smooth in them (Hill numbers, ratios) are held to `smooth`: their derivatives in l_i / t are at most
ln(t / l_i) + 1 times their size, below 64 for every l_i that rounding leaves, summed over d eigenvalues.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netassay as na
from netassay import saturation as stem
from python.full import count
from reference import saturation as reference

pytestmark = pytest.mark.native

LAWS = settings(max_examples=count(80, 1600), deadline=None, derandomize=True)
SIZES = [2, 3, 15, 16, 17, 31, 33, 97, 1025]


def spectral(d: int) -> float:
    return 8 * d * 2.0**-52


def smooth(d: int) -> float:
    return 64 * d * spectral(d)


def rotated(eig: np.ndarray, seed: int = 0) -> np.ndarray:
    """A covariance with these eigenvalues in a random basis."""
    r, _ = np.linalg.qr(np.random.default_rng([seed, len(eig)]).standard_normal((len(eig),) * 2))
    q = (r * eig) @ r.T
    return (q + q.T) / 2


def rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    g = np.random.default_rng([seed, n, d])
    return g.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.7 + g.standard_normal(d)


def exact_rows(eig: np.ndarray) -> np.ndarray:
    """2 d rows whose covariance is diag(eig) but for the rounding of a square root."""
    half = np.diag(np.sqrt(eig * len(eig)))
    return np.concatenate([half, -half])


# Parity with the reference


@pytest.mark.parametrize("d", [1, 2, 3, 16, 33, 97])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_every_statistic_agrees_with_the_reference(d: int, dtype: str) -> None:
    for n in SIZES:
        x = rows(n, d).astype(dtype)
        m = stem.from_rows(x, precision="exact")
        eig = reference.eigenvalues(reference.covariance(x.astype(np.float64)))
        s, e = stem.saturation(m), stem.effective_dimension(m)
        assert np.abs(s.eigenvalues - eig).max() <= spectral(max(n, d)) * eig[0]
        tol = smooth(max(n, d))
        assert e.value == pytest.approx(reference.effective_dimension(eig), rel=tol)
        assert e.participation_ratio == pytest.approx(reference.participation_ratio(eig), rel=tol)
        assert e.stable_rank == pytest.approx(reference.stable_rank(eig), rel=tol)
        if n > d:  # a zero eigenvalue is known to 2^-52 l_1, its square root to 2^-26 only
            assert e.effective_rank == pytest.approx(reference.effective_rank(eig), rel=1e-9)
        for delta in (0.5, 0.9, 0.99, 0.999):
            k = stem.saturation(m, delta).dimension
            assert k == reference.dimension(eig, delta)
            assert stem.saturation(m, delta).value == k / d
        assert (s.rows, s.samples, s.width, e.rows, e.samples) == (n, n, d, n, n)


@pytest.mark.parametrize("d", [2, 17, 64])
def test_a_covariance_a_spectrum_and_a_state_give_the_same_numbers(d: int) -> None:
    m = stem.from_rows(rows(3000, d))
    spectrum = stem.spectrum(m)
    for source in (spectrum, m.covariance(), stem.spectrum(m.covariance())):
        a, b = stem.saturation(source), stem.saturation(m)
        assert (a.value, a.dimension, a.width, a.delta) == (b.value, b.dimension, b.width, b.delta)
        assert a.eigenvalues.tobytes() == b.eigenvalues.tobytes()
        assert stem.effective_dimension(source).value == stem.effective_dimension(m).value
        assert stem.spectrum_decay(source).slope == stem.spectrum_decay(m).slope
    assert stem.spectrum(spectrum) is spectrum
    assert (spectrum.rows, spectrum.samples) == (3000, 3000)
    bare = stem.saturation(m.covariance())
    assert (bare.rows, bare.samples) == (None, None)


@pytest.mark.parametrize(("n", "d"), [(2, 2), (33, 3), (200, 17), (1500, 64)])
def test_rankme_agrees_with_the_singular_values_of_the_uncentred_rows(n: int, d: int) -> None:
    x = rows(n, d)
    result = stem.rankme(stem.from_rows(x))
    assert result.value == pytest.approx(reference.rankme(x), rel=1e-9)
    assert (result.rows, result.samples) == (n, n)


@pytest.mark.parametrize(("n", "d"), [(20, 50), (100, 1024), (1000, 64)])
def test_rankme_sums_the_lesser_of_rows_and_units(n: int, d: int) -> None:
    x = np.random.default_rng(0).standard_normal((n, d))
    assert stem.rankme(stem.from_rows(x)).value == pytest.approx(reference.rankme(x), rel=1e-9)


def of_rank(rank: int, d: int, n: int = 2200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 rows of two blocks and a rest; the singular values of them, and of them centred, from their factors."""
    g = np.random.default_rng([rank, d])
    u, v = g.standard_normal((n, rank)), g.standard_normal((rank, d))
    inner = np.linalg.qr(v.T)[1].T
    both = [np.linalg.svd(np.linalg.qr(each)[1] @ inner, compute_uv=False) for each in (u, u - u.mean(axis=0))]
    return (u @ v).astype(np.float32), both[0], both[1]


@pytest.mark.parametrize("precision", ["high", "exact"])
@pytest.mark.parametrize("d", [16, 768, 2048][: count(2, 3)])
@pytest.mark.parametrize("rank", [1, 5])
def test_rounding_is_no_direction(rank: int, d: int, precision: str) -> None:
    """Collapsed embeddings: 763 directions of rounding made an effective rank of 1.07 of 1, at 2,048 units of 1.24."""
    x, raw, centred = of_rank(rank, d)
    m = stem.from_rows(x, precision=precision)
    spectrum, e, decay = stem.spectrum(m), stem.effective_dimension(m), None
    assert np.count_nonzero(spectrum.eigenvalues) == rank
    assert 0 < spectrum.floor < spectrum.eigenvalues[rank - 1]
    assert stem.saturation(m, 1.0).dimension == rank
    eig = centred**2
    for got, right in (
        (e.value, reference.effective_dimension(eig)),
        (e.participation_ratio, reference.participation_ratio(eig)),
        (e.stable_rank, reference.stable_rank(eig)),
        (e.effective_rank, reference.effective_rank(eig)),
    ):
        assert got == pytest.approx(right, rel=1e-5)
    p = np.concatenate([raw / raw.sum(), np.zeros(min(x.shape) - rank)]) + 1e-7
    assert stem.rankme(m).value == pytest.approx(math.exp(-math.fsum(p * np.log(p))), rel=1e-5)
    if rank > 1:
        decay = stem.spectrum_decay(m)
        assert decay.window == (1, rank)
        assert decay.slope == pytest.approx(reference.spectrum_decay(eig, 1, rank)[0], rel=1e-4)


def test_float64_rows_have_directions_far_below_the_floor_of_float32() -> None:
    x = np.random.default_rng(0).standard_normal((3000, 6)) * 10.0 ** -np.arange(6)
    high = stem.from_rows(x)
    assert (high.precision, high.single) == ("high", 0)
    assert np.count_nonzero(stem.spectrum(high).eigenvalues) == 6
    assert stem.from_rows(x.astype(np.float32)).single == 2048


def test_rankme_is_not_centred() -> None:
    x = rows(500, 5) + 1e3
    assert stem.rankme(stem.from_rows(x)).value < 1.1
    assert stem.rankme(stem.from_rows(x - x.mean(axis=0))).value > 2


@pytest.mark.parametrize("window", [(1, 40), (2, 7), (5, 40), (39, 40)])
def test_spectrum_decay_is_the_least_squares_line(window: tuple[int, int]) -> None:
    eig = np.sort(np.random.default_rng(2).lognormal(0, 1, 40))[::-1] / np.arange(1, 41)
    result = stem.spectrum_decay(rotated(eig), window)
    slope, r_squared = reference.spectrum_decay(eig, *window)
    assert result.window == window
    assert result.slope == pytest.approx(slope, rel=1e-9)
    assert result.r_squared == pytest.approx(r_squared, rel=1e-9)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_power_law_has_its_own_slope(power: float) -> None:
    result = stem.spectrum_decay(rotated(np.arange(1, 51.0) ** -power))
    assert result.slope == pytest.approx(-power, rel=1e-9)
    assert result.r_squared == pytest.approx(1, abs=1e-9)
    assert result.window == (1, 50)


# Known answers


@pytest.mark.parametrize("flat", [1, 2, 10, 64, 100, 1000])
def test_equal_eigenvalues_count_as_many_directions(flat: int) -> None:
    expected = {10: 10, 64: 64, 100: 99, 1000: 990}.get(flat, flat)
    assert expected == math.ceil(0.99 * flat)
    assert stem.saturation(np.eye(flat)).dimension == expected
    assert stem.saturation(3.7 * np.eye(flat)).dimension == expected
    e = stem.effective_dimension(np.eye(flat))
    for value in (e.value, e.participation_ratio, e.stable_rank, e.effective_rank):
        assert value == pytest.approx(flat, rel=1e-12)


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_k_equal_eigenvalues_among_more_are_k_directions(k: int) -> None:
    eig = np.r_[np.full(k, 2.0), np.zeros(28)]
    for q in (np.diag(eig), rotated(eig)):
        assert stem.effective_dimension(q).value == pytest.approx(k, rel=1e-10)
        assert stem.saturation(q).dimension == math.ceil(0.99 * k)
        assert stem.saturation(q).value == math.ceil(0.99 * k) / (k + 28)


KNOWN = {
    ".995 + .005": (np.array([0.995, 0.005]), 1),
    ".985 + .015": (np.array([0.985, 0.015]), 2),
    "geometric .9": (0.9 ** np.arange(64), 43),
    "harmonic": (1 / np.arange(1, 513), 479),
    "rank 1": (np.r_[3.0, np.zeros(9)], 1),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_spectra_have_known_dimensions(name: str) -> None:
    eig, k = KNOWN[name]
    assert reference.dimension(eig) == k
    assert stem.saturation(np.diag(eig)).dimension == k
    assert stem.saturation(rotated(eig)).dimension == k
    assert stem.saturation(stem.from_rows(exact_rows(eig))).dimension == k


def test_the_threshold_forgives_a_rounding_of_1e_12_and_no_more() -> None:
    for slack, k in ((5e-13, 1), (2e-12, 2)):
        assert stem.saturation(np.diag([0.99 - slack, 0.01 + slack])).dimension == k


def test_isotropic_rows_in_batches_with_a_small_last_one_fill_the_width() -> None:
    g = np.random.default_rng(0)
    m = na.Moments(64)
    for n in [64] * 100 + [10]:
        m.update(g.standard_normal((n, 64)).astype(np.float32))
    assert m.count == 6410
    assert stem.saturation(m).dimension == 64
    assert stem.saturation(m).value == 1.0


def test_a_last_batch_of_one_row_adds_to_the_others() -> None:
    x = rows(2000, 20)
    m = stem.from_rows(x[:-1])
    m.update(x[-1:])
    assert stem.saturation(m).dimension == stem.saturation(stem.from_rows(x)).dimension > 1


@pytest.mark.parametrize("d", [2, 3, 17, 64])
def test_balanced_one_hot_rows_span_one_direction_less_than_units(d: int) -> None:
    m = stem.from_rows(np.tile(np.eye(d), (5, 1)).astype(np.float32))
    assert stem.effective_dimension(m).value == pytest.approx(d - 1, rel=1e-5)
    assert stem.saturation(m).dimension == math.ceil(0.99 * (d - 1))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_n_rows_span_at_most_n_less_one_directions(n: int) -> None:
    for dtype in ("float64", "float32"):
        m = stem.from_rows(rows(n, 40).astype(dtype))
        assert stem.effective_dimension(m).value <= (n - 1) * (1 + 1e-6)
        assert stem.saturation(m).dimension <= n - 1


def test_the_flagged_worst_case_of_means_leaves_the_dimension() -> None:
    """At |mean| / std = 1e6 the naive formula finds another dimension even in float64; the state does not."""
    eig, g = np.arange(1, 65.0) ** -2, np.random.default_rng(3)
    r, _ = np.linalg.qr(g.standard_normal((64, 64)))
    x = ((g.standard_normal((60_000, 64)) * np.sqrt(eig)) @ r + 1e6 * r[0]).astype(np.float32)
    k = reference.dimension(reference.eigenvalues(reference.covariance(x)))
    assert stem.saturation(stem.from_rows(x)).dimension == k
    naive = reference.naive_covariance(x.astype(np.float64))
    assert reference.dimension(reference.eigenvalues(naive)) != k


# The corrected participation ratio


def u_statistics(x: np.ndarray) -> tuple[float, float]:
    """tr(Sigma^2) and (tr Sigma)^2 as averages over quadruples of distinct rows: unbiased by construction."""
    squares, square = [], []
    for i, j, k, l in itertools.permutations(range(len(x)), 4):  # noqa: E741
        a, b = x[i] - x[j], x[k] - x[l]
        squares.append((a @ b) ** 2 / 4)
        square.append((a @ a) * (b @ b) / 4)
    return math.fsum(squares) / len(squares), math.fsum(square) / len(square)


@pytest.mark.parametrize("n", [4, 5, 7])
def test_the_reference_estimates_are_the_u_statistics(n: int) -> None:
    x = rows(n, 3)
    assert reference.corrected_traces(x)[:2] == pytest.approx(u_statistics(x), rel=1e-11)


def assert_corrected(m: na.Moments, x: np.ndarray, unit: float) -> None:
    """The error of each estimate is that of its terms: unit times their absolute sum."""
    squares, square, of_squares, of_square = reference.corrected_traces(x)
    got = stem.effective_dimension(m).participation_ratio_corrected
    relative = unit * (of_squares / abs(squares) + of_square / abs(square))
    assert relative < 0.1
    assert got == pytest.approx(min(max(square / squares, 1), m.width), rel=relative)
    assert stem.spectrum(m).participation_ratio_corrected == got


@pytest.mark.parametrize("d", [1, 2, 17, 64])
@pytest.mark.parametrize("n", [10, 12, 33, 1023, 1025, 3000])
def test_the_corrected_ratio_agrees_with_the_reference_from_raw_rows(n: int, d: int) -> None:
    x = rows(n, d)
    assert_corrected(stem.from_rows(x, fourth=True), x, 1e-12)
    y = x.astype(np.float32)
    assert_corrected(stem.from_rows(y, fourth=True, precision="exact"), y.astype(np.float64), 1e-12)
    assert_corrected(stem.from_rows(y, fourth=True), y.astype(np.float64), 2e-5)


def test_the_corrected_ratio_survives_merges_of_states_far_apart_and_a_large_mean() -> None:
    parts = [rows(n, 9, seed=n) + 5 * i for i, n in enumerate((1, 40, 1100, 3, 300))]
    for shift in (0.0, 1e3):
        x = np.concatenate(parts) + shift
        states = [stem.from_rows(p + shift, fourth=True) for p in parts]
        left = (((states[0] + states[1]) + states[2]) + states[3]) + states[4]
        right = states[4] + (states[3] + (states[2] + (states[1] + states[0])))
        for m in (left, right, stem.from_rows(x, fourth=True)):
            assert m.count == len(x)
            assert_corrected(m, x, 1e-10)
            y = (x - x.mean(axis=0)).astype(np.longdouble)
            assert m.fourth() == pytest.approx(float(((y * y).sum(axis=1) ** 2).sum()), rel=1e-10)


def test_the_corrected_ratio_is_nearly_unbiased_where_the_plain_one_is_not() -> None:
    """Means over 3,000 draws: plain 16.95, corrected 23.67; true 22.86. Fewer are within five standard errors."""
    g, draws = np.random.default_rng(11), count(40, 3000)
    std = 1 / np.sqrt(np.arange(1, 257))
    results = []
    for _ in range(draws):
        e = stem.effective_dimension(stem.from_rows(g.standard_normal((64, 256)) * std, fourth=True))
        results.append((e.participation_ratio, e.participation_ratio_corrected))
    means, errors = np.mean(results, axis=0), np.std(results, axis=0)
    for mean, error, expected in zip(means, errors, (16.95, 23.67), strict=True):
        assert abs(mean - expected) <= 5 * error * math.sqrt(1 / draws + 1 / 3000) + 0.005
    true = reference.participation_ratio(std**2)
    assert true == pytest.approx(22.86, abs=0.005)
    assert abs(means[0] - true) > 5 > 3 > abs(means[1] - true)


def test_the_corrected_ratio_of_few_rows_stays_between_1_and_the_width() -> None:
    """Means of 540 at width 64 came out of 4 to 8 rows."""
    for seed in range(60):
        x = np.random.default_rng(seed).standard_normal((10 + seed % 5, 64))
        ratio = stem.effective_dimension(stem.from_rows(x, fourth=True)).participation_ratio_corrected
        assert ratio is None or 1 <= ratio <= 64


def test_the_corrected_ratio_is_none_where_it_is_not_kept_or_has_too_few_rows() -> None:
    assert stem.effective_dimension(stem.from_rows(rows(50, 3))).participation_ratio_corrected is None
    for n in range(2, 12):
        e = stem.effective_dimension(stem.from_rows(rows(n, 3), fourth=True))
        assert (e.participation_ratio_corrected is None) == ("no_corrected_ratio" in e.flags) == (n < 10)
        assert "no_corrected_ratio" not in stem.saturation(stem.from_rows(rows(n, 3), fourth=True)).flags
    assert stem.effective_dimension(np.eye(3)).participation_ratio_corrected is None


# Degenerate input: a defined value and a flag


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1000 / 3])
@pytest.mark.parametrize("n", [2, 3, 1500])
def test_a_constant_layer_has_dimension_0_and_effective_dimension_1_and_is_flagged(
    n: int, value: float, dtype: str
) -> None:
    x = np.full((n, 5), value, dtype)
    for m in (stem.from_rows(x), stem.from_rows(x) + stem.from_rows(x[:1]), stem.from_rows(x, fourth=True)):
        s, e = stem.saturation(m), stem.effective_dimension(m)
        assert (s.value, s.dimension, e.value) == (0.0, 0, 1.0)
        assert not s.eigenvalues.any()
        assert "constant" in s.flags
        assert "constant" in e.flags
        others = (e.participation_ratio, e.participation_ratio_corrected, e.stable_rank, e.effective_rank)
        assert all(v is None or math.isfinite(v) for v in others)


@pytest.mark.parametrize("d", [1, 4])
def test_a_zero_covariance_is_constant(d: int) -> None:
    s, e = stem.saturation(np.zeros((d, d))), stem.effective_dimension(np.zeros((d, d)))
    assert (s.value, s.dimension, e.value) == (0.0, 0, 1.0)
    assert s.flags.count("constant") == e.flags.count("constant") == 1


def test_one_unit_is_one_direction() -> None:
    m = stem.from_rows(rows(100, 1))
    assert (stem.saturation(m).value, stem.saturation(m).dimension) == (1.0, 1)
    assert stem.effective_dimension(m).value == 1.0


@pytest.mark.parametrize("function", [stem.spectrum, stem.saturation, stem.effective_dimension, stem.spectrum_decay])
def test_fewer_than_two_rows_are_refused(function: Any) -> None:
    for m in (na.Moments(4), stem.from_rows(rows(1, 4)), stem.from_rows(np.full((3, 4), np.nan))):
        before = m.count, m.nonfinite, m.scatter.tobytes()
        with pytest.raises(na.TooFewRows, match=rf"(?s)got {m.count} row.*expected at least 2") as caught:
            function(m)
        assert isinstance(caught.value, ValueError)
        assert (m.count, m.nonfinite, m.scatter.tobytes()) == before
    with pytest.raises(na.TooFewRows):
        stem.rankme(na.Moments(4))


def test_flags_tell_few_rows_and_rows_left_out() -> None:
    for n, few in ((32 * 5 - 1, True), (32 * 5, False)):
        m = stem.from_rows(rows(n, 5))
        for result in (
            stem.saturation(m),
            stem.effective_dimension(m),
            stem.rankme(m),
            stem.spectrum_decay(m),
        ):
            assert ("few_rows" in result.flags) == few
            assert "nonfinite" not in result.flags
        m.update(np.full((1, 5), np.inf))
        for result in (
            stem.saturation(m),
            stem.effective_dimension(m),
            stem.rankme(m),
            stem.spectrum_decay(m),
        ):
            assert "nonfinite" in result.flags
    assert stem.saturation(np.eye(5)).flags == ()


# Invariances and laws


@LAWS
@given(d=st.integers(1, 12), n=st.integers(2, 80), seed=st.integers(0, 10**6), power=st.integers(-20, 20))
def test_rotation_translation_and_scaling_leave_every_centred_result(d: int, n: int, seed: int, power: int) -> None:
    x, (r, _) = rows(n, d, seed), np.linalg.qr(rows(d, d, seed + 1))
    base, tol = stem.effective_dimension(stem.from_rows(x)), 1e-9
    for y in (x @ r, x + 100.0, x * 2.0**power, -x, x[::-1]):
        m = stem.from_rows(y)
        e = stem.effective_dimension(m)
        for name in ("value", "participation_ratio", "stable_rank"):
            assert getattr(e, name) == pytest.approx(getattr(base, name), rel=tol)
        # The dimension may only differ where the cumulated share meets delta within rounding.
        share = np.cumsum(stem.saturation(m).eigenvalues) / stem.saturation(m).eigenvalues.sum()
        if np.abs(share - 0.99).min() > tol:
            assert stem.saturation(m).dimension == stem.saturation(stem.from_rows(x)).dimension


@LAWS
@given(d=st.integers(1, 40), seed=st.integers(0, 10**6), spread=st.sampled_from([0.0, 0.5, 2.0, 8.0]))
def test_hill_numbers_fall_with_their_order_and_stay_between_1_and_d(d: int, seed: int, spread: float) -> None:
    eig = np.sort(np.random.default_rng(seed).lognormal(0, spread, d))[::-1]
    e = stem.effective_dimension(rotated(eig, seed))
    slack = 1 + 1e-12
    assert d * slack >= e.effective_rank
    assert d * slack >= e.value
    assert e.value * slack >= e.participation_ratio
    assert e.participation_ratio * slack >= e.stable_rank
    assert e.stable_rank * slack >= 1


@LAWS
@given(d=st.integers(1, 30), seed=st.integers(0, 10**6), deltas=st.tuples(*[st.floats(1e-3, 1.0)] * 2))
def test_the_dimension_grows_with_delta(d: int, seed: int, deltas: tuple[float, float]) -> None:
    q = rotated(np.random.default_rng(seed).lognormal(0, 2, d), seed)
    low, high = sorted(deltas)
    assert 1 <= stem.saturation(q, low).dimension <= stem.saturation(q, high).dimension <= d


def test_merged_states_have_the_results_of_all_rows() -> None:
    parts = [rows(n, 24, seed=n) for n in (700, 5, 1300)]
    merged = sum((stem.from_rows(p) for p in parts[1:]), start=stem.from_rows(parts[0]))
    whole = stem.from_rows(np.concatenate(parts))
    assert stem.saturation(merged).dimension == stem.saturation(whole).dimension
    assert stem.effective_dimension(merged).value == pytest.approx(stem.effective_dimension(whole).value, rel=1e-12)


def test_from_rows_is_an_update_of_a_new_state() -> None:
    x = rows(4 * 30, 6).reshape(4, 30, 6)
    keep = np.random.default_rng(0).random((4, 30)) < 0.5
    m = na.Moments(6, precision="exact", fourth=True)
    m.update(x, mask=keep)
    first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    for made in (
        stem.from_rows(x, mask=keep, precision="exact", fourth=True, threads=1),
        stem.from_rows(first, mask=keep, layout="channels_first", precision="exact", fourth=True),
    ):
        assert (made.count, made.precision, made.keeps_fourth) == (m.count, "exact", True)
        assert made.scatter.tobytes() == m.scatter.tobytes()
        assert made.mean.tobytes() == m.mean.tobytes()


# Results


@pytest.mark.parametrize(
    "function", [stem.spectrum, stem.saturation, stem.effective_dimension, stem.spectrum_decay, stem.rankme]
)
def test_results_are_frozen_and_compare_by_identity(function: Any) -> None:
    m = stem.from_rows(rows(500, 6))
    result = function(m)
    for field in dataclasses.fields(result):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, field.name, None)
    assert result == result
    assert result != function(m)
    assert hash(result) is not None
    assert not hasattr(result, "__dict__")


def test_eigenvalues_are_read_only_descending_not_negative_and_of_the_covariance_with_divisor_n() -> None:
    m = stem.from_rows(rows(10, 30))
    eig = stem.saturation(m).eigenvalues
    assert eig.dtype == np.float64
    assert eig.shape == (30,)
    assert (np.diff(eig) <= 0).all()
    assert (eig >= 0).all()
    assert eig.sum() == pytest.approx(np.trace(m.scatter) / 10, rel=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        eig[0] = 1


def test_a_covariance_is_left_alone() -> None:
    q = rotated(np.arange(1, 9.0))
    before = q.tobytes()
    eig = stem.saturation(q).eigenvalues
    q[...] = 0
    assert eig[0] == pytest.approx(8)
    q = np.frombuffer(before).reshape(8, 8)  # read-only
    assert stem.saturation(q).eigenvalues.tobytes() == eig.tobytes()


@pytest.mark.parametrize("form", ["float32", "fortran", "strided", "negative", "big-endian", "torch", "torch float32"])
def test_a_covariance_of_any_layout_is_read(form: str) -> None:
    q = rotated(np.arange(1, 9.0))
    torch = pytest.importorskip("torch") if "torch" in form else None
    given_q: Any = {
        "float32": lambda: q.astype(np.float32),
        "fortran": lambda: np.asfortranarray(q),
        "strided": lambda: np.repeat(np.repeat(q, 2, 0), 3, 1)[::2, ::3],
        "negative": lambda: q[::-1, ::-1].copy()[::-1, ::-1],
        "big-endian": lambda: q.astype(">f8"),
        "torch": lambda: torch.from_numpy(q),
        "torch float32": lambda: torch.from_numpy(q).float().requires_grad_(),
    }[form]()
    tol = 1e-6 if "float32" in form else 1e-13
    assert np.allclose(stem.saturation(given_q).eigenvalues, np.arange(8, 0, -1.0), rtol=tol)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_covariance_of_low_rank_with_negative_rounding_is_accepted(dtype: str) -> None:
    q = rotated(np.r_[np.ones(3), np.zeros(60)]).astype(dtype)
    assert np.linalg.eigvalsh(q.astype(np.float64))[0] < 0
    s = stem.saturation(q)
    assert s.dimension == 3
    assert (s.eigenvalues >= 0).all()


# Bad input


ACTIVATIONS = rows(8, 8)
NEGATIVE = rotated(np.r_[np.ones(5), -0.1])


@pytest.mark.parametrize(
    ("q", "error"),
    [
        (rows(20, 8), na.ShapeError),
        (rows(8, 20), na.ShapeError),
        (rows(1, 8)[0], na.ShapeError),
        (np.zeros(()), na.ShapeError),
        (np.zeros((2, 3, 3)), na.ShapeError),
        (np.zeros((0, 0)), na.ShapeError),
        (ACTIVATIONS, ValueError),
        (NEGATIVE, ValueError),
        (-np.eye(3), ValueError),
        (np.eye(3) + np.diag([1e-3, 0], 1), ValueError),
        (np.eye(3, dtype=np.float32) + np.diag([1e-3, 0], 1).astype(np.float32), ValueError),
    ],
)
@pytest.mark.parametrize("function", [stem.spectrum, stem.saturation, stem.effective_dimension, stem.spectrum_decay])
def test_an_array_that_is_no_covariance_is_refused_and_from_rows_is_named(
    function: Any, q: np.ndarray, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"(?s)got.*expected.*from_rows") as caught:
        function(q)
    assert isinstance(caught.value, na.NetassayError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_covariance_that_is_not_finite_is_refused(value: float) -> None:
    q = np.eye(4)
    q[1, 2] = q[2, 1] = value
    with pytest.raises(na.NonFinite, match=r"(?s)got.*expected"):
        stem.saturation(q)


@pytest.mark.parametrize("dtype", ["i8", "?", "c16", "O", "U3"])
def test_a_covariance_of_another_dtype_is_refused(dtype: str) -> None:
    with pytest.raises(na.DTypeError, match=r"(?s)got.*expected.*float64"):
        stem.saturation(np.zeros((3, 3), dtype))


@pytest.mark.parametrize("source", [None, "text", object()])
def test_what_is_no_source_is_refused(source: Any) -> None:
    for function in (stem.saturation, stem.effective_dimension, stem.rankme, stem.spectrum_decay):
        with pytest.raises(TypeError, match=r"(?s)got.*expected"):
            function(source)


@pytest.mark.parametrize("delta", [0.0, -0.1, 1.0000001, 99, math.nan, math.inf])
def test_a_delta_outside_0_to_1_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match=r"(?s)delta.*expected"):
        stem.saturation(np.eye(3), delta)


def test_a_delta_of_1_asks_for_every_direction() -> None:
    assert stem.saturation(np.eye(10), 1.0).dimension == 10
    assert stem.saturation(np.diag([1.0, 1.0, 0.0]), 1.0).dimension == 2


@pytest.mark.parametrize("window", [(0, 5), (5, 4), (3, 3), (1, 9), (-3, 4), (9, 12)])
def test_a_window_outside_the_spectrum_is_refused(window: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"(?s)spectrum_decay.*got.*expected"):
        stem.spectrum_decay(np.diag(np.arange(1, 9.0)), window)


def test_rankme_of_a_covariance_is_refused_since_it_needs_the_mean() -> None:
    with pytest.raises(TypeError, match=r"(?s)rankme.*got ndarray.*expected Moments"):
        stem.rankme(np.eye(3))


@pytest.mark.parametrize(
    ("x", "layout", "error"),
    [
        (np.zeros(()), "rows", na.ShapeError),
        (np.zeros((0, 4)), "rows", na.ShapeError),
        (np.zeros((4, 0)), "rows", na.ShapeError),
        (np.zeros(4), "channels_first", na.ShapeError),
        (np.zeros((3, 4), int), "rows", na.DTypeError),
        (np.zeros((3, 4), complex), "rows", na.DTypeError),
        (np.zeros((3, 4)), "nchw", na.LayoutError),
    ],
)
def test_from_rows_refuses_what_update_refuses(x: np.ndarray, layout: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"(?s)got.*expected"):
        stem.from_rows(x, layout=layout)
