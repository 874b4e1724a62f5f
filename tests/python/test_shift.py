"""Shift detection: distances to class means, and the two-sample Kolmogorov-Smirnov test on each.

Tolerances. A distance in d dimensions loses at most (d + 4) u relative, u = 2^-53, and the differences it is made of
the rounding of the means: 1e-12 of the size of the vectors. p-values: 1e-12, that of the series below x = 0.2.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import netassay as na
from netassay import persistence as stem


def vectors(seed: int, n: int, d: int = 6, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def labels(seed: int, n: int, classes: int = 3) -> np.ndarray:
    return np.random.default_rng([seed, 7]).permutation(np.arange(n) % classes)


def fitted(seed: int = 0, n: int = 300, classes: int = 3, **options: Any) -> stem.ShiftDetector:
    return stem.ShiftDetector(**options).fit(vectors(seed, n), labels(seed, n, classes))


# Features


def test_features_are_distances_to_the_mean_of_each_class() -> None:
    x, y, new = vectors(0, 60), 5 * labels(0, 60) - 5, vectors(1, 20)
    detector = stem.ShiftDetector().fit(x, y)
    assert detector.classes == (-5, 0, 5)
    assert all(type(g) is int for g in detector.classes)
    assert detector.means.shape == (3, 6)
    for k, g in enumerate(detector.classes):
        mean = [math.fsum(column) / len(column) for column in x[y == g].T]
        assert np.abs(detector.means[k] - mean).max() <= 1e-12
        for row, got in zip(new, detector.features(new), strict=True):
            assert got[k] == pytest.approx(math.dist(row, mean), rel=1e-12)


def test_a_class_of_one_sample_is_its_own_mean() -> None:
    detector = stem.ShiftDetector().fit(np.array([[1.0, 2.0], [4.0, 6.0]]), np.array([0, 1], np.uint8))
    assert detector.features(np.array([[1.0, 2.0]])).tolist() == [[0.0, 5.0]]


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_labels_may_be_torch_tensors_or_lists(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    x, y = vectors(0, 60), labels(0, 60)
    plain = stem.ShiftDetector().fit(x, y)
    tensors = stem.ShiftDetector().fit(torch.from_numpy(x).requires_grad_(), torch.from_numpy(y.astype(dtype)))
    listed = stem.ShiftDetector().fit(x, y.tolist())
    new = vectors(1, 30)
    for other in (tensors, listed):
        assert other.classes == plain.classes
        assert other.means.tobytes() == plain.means.tobytes()
        assert other.test(torch.from_numpy(new)).p_values.tobytes() == plain.test(new).p_values.tobytes()


def test_narrower_vectors_are_widened() -> None:
    x, y = vectors(0, 60).astype(np.float16), labels(0, 60)
    a, b = (stem.ShiftDetector().fit(v, y) for v in (x, x.astype(np.float64)))
    assert a.means.tobytes() == b.means.tobytes()
    torch = pytest.importorskip("torch")
    bits = torch.from_numpy(x.astype(np.float32)).bfloat16()
    c, d = (stem.ShiftDetector().fit(v, y) for v in (bits, bits.double()))
    assert c.means.tobytes() == d.means.tobytes()


# The test of two samples


def literal(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Kolmogorov-Smirnov statistic and its p-value, from the definitions: exact for n m <= 100,000, else asymptotic."""
    n, m = len(a), len(b)
    furthest = max(abs(int((a <= t).sum()) * m - int((b <= t).sum()) * n) for t in [*a, *b])
    statistic = furthest / (n * m)
    if n * m <= 100_000:
        return statistic, 1 - inside(n, m, furthest) / math.comb(n + m, n)
    x = statistic * math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    if x < 0.1:  # 2 sum (-1)^(k-1) exp(-2 k^2 x^2) = 1 - sqrt(2 pi) / x exp(-pi^2 / (8 x^2)) ...: 1 to 1e-50
        return statistic, 1.0
    return statistic, 2 * math.fsum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 200))


def inside(n: int, m: int, furthest: int) -> int:
    """How many orders of n and m values have every |i m - j n| below `furthest`: counted, in integers."""
    ways = [0] * (m + 1)
    for i in range(n + 1):
        for j in range(m + 1):
            before = (ways[j] if i else 0) + (ways[j - 1] if j else 0) + (i == j == 0)
            ways[j] = before if abs(i * m - j * n) < furthest else 0
    return ways[m]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "m"), [(3, 1), (3, 50), (40, 40), (100, 37), (30, 500), (400, 300)])
def test_statistics_and_p_values_are_those_of_the_definition(n: int, m: int, ties: bool) -> None:
    for seed in range(4):
        x, y, new = vectors(seed, n), labels(seed, n), vectors(seed + 99, m, shift=0.1 * (seed % 4))
        if ties:
            x, new = np.rint(x), np.rint(new)
        detector = stem.ShiftDetector().fit(x, y)
        got = detector.test(new)
        known, features = detector.features(x), detector.features(new)
        for k in range(len(detector.classes)):
            statistic, p_value = literal(features[:, k], known[:, k])
            assert got.statistics[k] == pytest.approx(statistic, abs=1e-14)
            assert got.p_values[k] == pytest.approx(p_value, rel=1e-10, abs=1e-12)
        assert got.p_value == pytest.approx(min(1, got.p_values.min() * len(detector.classes)), rel=1e-15)
        assert got.shifted == (got.p_values.min() < 0.05 / len(detector.classes))


@pytest.mark.parametrize(("n", "m"), [(3, 5), (5, 5), (57, 311), (316, 316), (1000, 100)])
def test_small_samples_have_scipys_exact_p_values(n: int, m: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    for seed in range(8):
        detector = fitted(seed, n)
        new = vectors(seed + 99, m, shift=0.1 * seed)
        known, features = detector.features(vectors(seed, n)), detector.features(new)
        got = detector.test(new)
        for k in range(3):
            exact = stats.ks_2samp(features[:, k], known[:, k], method="exact")
            assert got.p_values[k] == pytest.approx(exact.pvalue, rel=1e-11)


def test_a_batch_of_five_is_seen_as_often_as_its_level_allows() -> None:
    """5 against 5: p <= 2 / 252 = 0.0079 only where they do not touch; the asymptotic p is 0.0135 there."""
    detector = stem.ShiftDetector().fit(np.arange(5.0)[:, None], np.zeros(5, int))
    far = detector.test(np.arange(100.0, 105.0)[:, None])
    assert far.p_values[0] == pytest.approx(2 / math.comb(10, 5), rel=1e-14)


def test_larger_samples_have_the_asymptotic_p_value() -> None:
    stats = pytest.importorskip("scipy.stats")
    for seed in range(12):
        n, m = (400, 300) if seed % 2 else (301, 400)
        detector = fitted(seed, n)
        new = vectors(seed + 99, m, shift=0.1 * (seed % 8))
        known, features = detector.features(vectors(seed, n)), detector.features(new)
        got = detector.test(new)
        for k in range(3):
            exact = stats.ks_2samp(features[:, k], known[:, k], method="asymp")
            assert got.statistics[k] == pytest.approx(exact.statistic, abs=1e-14)
            # scipy's is Kolmogorov's distribution at n m / (n + m), not yet at infinity
            x = got.statistics[k] * math.sqrt(n * m / (n + m))
            assert got.p_values[k] == pytest.approx(stats.kstwobign.sf(x), rel=1e-10, abs=1e-12)
            assert got.p_values[k] == pytest.approx(exact.pvalue, rel=0.35, abs=0.03)


def test_the_statistic_has_its_ends() -> None:
    detector = fitted()
    same = detector.test(vectors(0, 300))
    assert (same.statistics.tolist(), same.p_values.tolist(), same.p_value, same.shifted) == (
        [0] * 3,
        [1] * 3,
        1,
        False,
    )
    far = detector.test(vectors(1, 300, shift=100.0))
    assert (far.statistics.tolist(), far.shifted) == ([1, 1, 1], True)
    assert 0 <= far.p_value < 1e-60


# Alarms


def test_false_alarms_stay_at_the_level_and_shifts_are_seen() -> None:
    """400 batches: at a level of 0.05, more than 36 false alarms have a chance below 2e-4 (binomial)."""
    detector = fitted(0, 3000)
    alarms = sum(detector.test(vectors(1000 + k, 100)).shifted for k in range(400))
    assert alarms <= 36
    strict = fitted(0, 3000, level=0.001)
    assert sum(strict.test(vectors(1000 + k, 100)).shifted for k in range(400)) <= 4 < alarms + 5
    seen = [sum(detector.test(vectors(5000 + k, 100, shift=s)).shifted for k in range(40)) for s in (0.0, 0.5, 1.0)]
    assert seen[0] <= 6
    assert seen[2] == 40
    assert seen[0] < seen[1] <= seen[2]


def test_one_feature_that_shifts_is_enough_and_many_classes_are_corrected_for() -> None:
    g = np.random.default_rng(0)
    y = np.arange(400) % 4
    centers = 50 * np.eye(4)
    x = centers[y] + g.normal(size=(400, 4))
    detector = stem.ShiftDetector().fit(x, y)
    batch = centers[np.arange(200) % 4] + g.normal(size=(200, 4))
    assert not detector.test(batch).shifted
    got = detector.test(batch * 1.05)
    assert got.shifted
    assert got.p_value == min(1, 4 * got.p_values.min()) < 0.05


def test_a_reference_takes_the_place_of_what_was_fitted() -> None:
    x, y, held = vectors(0, 200), labels(0, 200), vectors(1, 150, shift=3.0)
    plain, other = stem.ShiftDetector().fit(x, y), stem.ShiftDetector().fit(x, y, reference=held)
    assert plain.means.tobytes() == other.means.tobytes()
    new = vectors(2, 100, shift=3.0)
    assert plain.test(new).shifted
    assert not other.test(new).shifted
    assert other.test(held).statistics.tolist() == [0, 0, 0]
    assert other.test(x).shifted


def test_samples_few_to_their_class_lie_closer_to_their_mean_and_a_reference_mends_it() -> None:
    """Why there is a reference: 100 classes of 3 samples in 30 dimensions are not what new samples look like."""
    x, y = vectors(0, 300, 30), np.arange(300) // 3
    naive, held = stem.ShiftDetector().fit(x, y), stem.ShiftDetector().fit(x, y, reference=vectors(1, 300, 30))
    own = [naive.features(x)[i, g] for i, g in enumerate(y)]
    assert np.mean(own) < 0.9 * naive.features(vectors(2, 300, 30)).mean()
    assert not any(held.test(vectors(3 + k, 100, 30)).shifted for k in range(5))


def test_fitting_again_forgets_and_the_input_is_kept_apart() -> None:
    x, y = vectors(0, 90), labels(0, 90)
    detector = stem.ShiftDetector().fit(vectors(5, 40, 3), labels(5, 40, 2))
    before = detector.fit(x, y).test(vectors(1, 50))
    assert before.p_values.tobytes() == stem.ShiftDetector().fit(x, y).test(vectors(1, 50)).p_values.tobytes()
    x[...] = 0
    assert detector.test(vectors(1, 50)).p_values.tobytes() == before.p_values.tobytes()
    with pytest.raises(na.ShapeError, match="expected"):
        detector.fit(x, y[:5])
    assert detector.test(vectors(1, 50)).p_values.tobytes() == before.p_values.tobytes()
    with pytest.raises(na.NonFinite, match=r"ShiftDetector.fit"):
        detector.fit(vectors(7, 90), y, reference=np.full((4, 6), math.nan))
    assert detector.test(vectors(1, 50)).p_values.tobytes() == before.p_values.tobytes()


def test_it_sees_a_shift_in_the_persistence_of_samples() -> None:
    g = np.random.default_rng(0)
    weights = [g.standard_normal((m, n)) / math.sqrt(n) for m, n in ((16, 20), (10, 16), (3, 10))]

    def forward(n: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
        inputs = [g.random((n, 20)) + noise * g.standard_normal((n, 20))]
        for w in weights:
            inputs.append(np.maximum(inputs[-1] @ w.T, 0))
        return stem.sample_persistence(weights, inputs[:-1]), inputs[-1].argmax(axis=1)

    detector = stem.ShiftDetector().fit(*forward(600, 0.0), reference=forward(600, 0.0)[0])
    assert not detector.test(forward(100, 0.0)[0]).shifted
    assert detector.test(forward(100, 1.0)[0]).shifted


# Results and bad input


def test_a_result_is_frozen_with_read_only_arrays() -> None:
    got = fitted().test(vectors(1, 20))
    for field in dataclasses.fields(got):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(got, field.name, None)
    assert (type(got.shifted), type(got.p_value)) == (bool, float)
    for array in (got.statistics, got.p_values, fitted().means):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("level", [0, 1, -0.1, 1.5, math.nan, math.inf])
def test_a_level_outside_0_to_1_is_refused(level: float) -> None:
    with pytest.raises(na.DomainError, match=r"ShiftDetector: got level=.*expected a number between 0 and 1"):
        stem.ShiftDetector(level)


def test_what_does_not_fit_is_refused() -> None:
    x, y = vectors(0, 30), labels(0, 30)
    detector = stem.ShiftDetector()
    for call in (lambda: detector.test(x), lambda: detector.features(x)):
        with pytest.raises(na.DomainError, match="got a detector that was not fitted, expected fit"):
            call()
    fit, test = "ShiftDetector.fit: got ", "ShiftDetector.features: got vectors of shape "
    with pytest.raises(na.ShapeError, match=fit + r"labels of shape \(29,\), expected \(30,\)"):
        detector.fit(x, y[1:])
    with pytest.raises(na.ShapeError, match=fit + r"labels of shape \(30, 1\), expected \(30,\)"):
        detector.fit(x, y[:, None])
    with pytest.raises(na.DomainError, match=fit + "labels of dtype float64, expected integers"):
        detector.fit(x, y.astype(float))
    with pytest.raises(na.DomainError, match=fit + "labels of dtype bool, expected integers"):
        detector.fit(x, y > 0)
    for bad in (x[0], x[:0], x[None]):
        with pytest.raises(na.ShapeError, match=fit + r"vectors of shape \(.*\), expected \(n, d\), n at least 1"):
            detector.fit(bad, y)
    with pytest.raises(na.ShapeError, match=fit + r"vectors of shape \(30, 5\), expected \(n, 6\)"):
        detector.fit(x, y, reference=x[:, :5])
    detector.fit(x, y)
    for bad in (x[:, :5], x[:0], x[0]):
        with pytest.raises(na.ShapeError, match=test + r"\(.*\), expected \(n, 6\), n at least 1"):
            detector.test(bad)
    with pytest.raises(na.DTypeError, match=r"ShiftDetector.fit: got dtype int64, expected"):
        detector.fit(y[:, None], y)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_nan_or_an_infinity_is_refused(bad: float) -> None:
    x, y = vectors(0, 30), labels(0, 30)
    broken = x.copy()
    broken[3, 2] = bad
    with pytest.raises(
        na.NonFinite, match=r"ShiftDetector.fit: got vectors with a NaN or an infinity, expected finite"
    ):
        stem.ShiftDetector().fit(broken, y)
    with pytest.raises(na.NonFinite, match=r"ShiftDetector.fit"):
        stem.ShiftDetector().fit(x, y, reference=broken)
    with pytest.raises(na.NonFinite, match=r"ShiftDetector.features"):
        stem.ShiftDetector().fit(x, y).test(broken)
