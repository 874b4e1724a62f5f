"""Early stopping by neural persistence, and diagnostics of weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import netassay as na
from netassay import persistence as stem
from netassay.base.arrays import View
from python.matrices import DTYPES, make, typed
from python.trees import LAWS
from reference import persistence as reference

pytestmark = pytest.mark.native

# Early stopping


def literal_stopping(values: list[float], patience: int, min_delta: float) -> list[bool]:
    best, waited, stops = 0.0, 0, []
    for value in values:
        if value > best + min_delta:
            best, waited = value, 0
        else:
            waited += 1
        stops.append(waited >= patience)
    return stops


@LAWS
@given(
    values=st.lists(st.integers(0, 8).map(lambda k: k / 8), max_size=20),
    patience=st.integers(1, 5),
    min_delta=st.sampled_from([0.0, 0.125, 0.3]),
)
def test_stopping_follows_its_two_counters(values: list[float], patience: int, min_delta: float) -> None:
    stopping = stem.EarlyStopping(patience, min_delta)
    assert [stopping.update(v) for v in values] == literal_stopping(values, patience, min_delta)


def test_stopping_takes_a_network_and_keeps_the_best_mean() -> None:
    network = stem.network_persistence([make("normal", 9, 7), make("normal", 5, 9)])
    stopping = stem.EarlyStopping(2)
    assert not stopping.update(network)
    assert (stopping.best, stopping.waited) == (network.normalized, 0)
    assert not stopping.update(network)
    assert stopping.update(network)
    assert (stopping.best, stopping.waited) == (network.normalized, 2)


def test_stopping_refuses_what_makes_no_sense() -> None:
    for patience in (0, -1):
        with pytest.raises(na.DomainError, match=rf"EarlyStopping: got patience={patience}, expected at least 1"):
            stem.EarlyStopping(patience)
    for delta in (-0.1, math.nan, math.inf):
        with pytest.raises(na.DomainError, match=r"EarlyStopping: got min_delta=.*expected"):
            stem.EarlyStopping(3, delta)
    stopping = stem.EarlyStopping(3)
    with pytest.raises(na.DomainError, match=r"EarlyStopping.update: got nan, expected a number"):
        stopping.update(math.nan)
    assert (stopping.best, stopping.waited) == (0, 0)


# Diagnostics


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_variance_is_that_of_magnitudes_over_the_scale(dtype: str) -> None:
    w = typed(make("normal", 31, 17) * 9, dtype)
    x = np.abs(w.values.astype(np.float64))
    for scale in (None, 5000.0):
        y = [v / (scale or x.max()) for v in x.ravel()]
        mean = math.fsum(y) / len(y)
        expected = math.fsum((v - mean) ** 2 for v in y) / len(y)
        assert stem.variance(w.given, scale=scale) == pytest.approx(expected, rel=1e-12)
    assert stem.variance(np.array([[0.0, 1.0], [1.0, 0.0]])) == 0.25
    with pytest.raises(na.DomainError, match=r"variance: got scale=.*expected a finite number not below"):
        stem.variance(w.given, scale=x.max() / 2)


def literal_sortedness(x: np.ndarray, tau: Callable[[np.ndarray], float]) -> float:
    y = np.abs(x.astype(np.float64)) / np.abs(x).max()
    y = y[:, np.argsort(y.mean(axis=0), kind="stable")]
    y = y[np.argsort(y.mean(axis=1), kind="stable")].astype(np.float32)
    m, n = y.shape
    places = [(i, j) for i in range(m) for j in range(n)]
    orders = [sorted(places, key=lambda p: (p[0] + p[1], p[0])), places, sorted(places, key=lambda p: (p[1], p[0]))]
    return max(tau(np.array([y[place] for place in order])) for order in orders)


@pytest.mark.parametrize("kind", ["normal", "three values", "half zero", "rank one", "integers, many ties", "one-hot"])
def test_sortedness_is_the_largest_of_three_taus(kind: str) -> None:
    for m, n in ((1, 1), (1, 9), (9, 1), (7, 5), (12, 13)):
        x = make(kind, m, n, seed=3)
        if np.abs(x).max() == 0:
            continue
        assert stem.sortedness(x) == pytest.approx(literal_sortedness(x, reference.kendall_tau), rel=1e-12, abs=1e-15)


def test_sortedness_has_scipys_taus() -> None:
    stats = pytest.importorskip("scipy.stats")

    def tau(y: np.ndarray) -> float:
        return float(stats.kendalltau(y, np.arange(len(y))).statistic)

    for kind in ("normal", "rank one", "integers, many ties", "2 % dense"):
        x = make(kind, 120, 90)
        assert stem.sortedness(x) == pytest.approx(literal_sortedness(x, tau), rel=1e-12)


def test_a_sorted_weight_has_sortedness_1_and_a_shuffled_one_little() -> None:
    x = np.arange(1.0, 401).reshape(20, 20)
    g = np.random.default_rng(0)
    assert stem.sortedness(x) == stem.sortedness(-x[g.permutation(20)]) == stem.sortedness(x.T) == 1
    assert 0.1 < stem.sortedness(g.permutation(x.ravel()).reshape(20, 20)) < 0.5
    assert stem.sortedness(np.full((3, 4), 2.0)) == 0


@LAWS
@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=40))
def test_tau_is_that_of_all_pairs(values: list[int]) -> None:
    y = np.array(values, np.float32)
    assert na._core.persistence.kendall_tau(y) == pytest.approx(reference.kendall_tau(y), rel=1e-14, abs=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_shuffle_test_is_that_of_numpys_permutations(dtype: str) -> None:
    w = typed(make("levels", 40, 30) * 30, dtype)
    result = stem.shuffle_test(w.given, 5, 7)
    value = stem.neural_persistence(w.given).normalized
    g = np.random.default_rng(7)
    entries = (w.given.array if isinstance(w.given, View) else w.given).ravel()
    draws = []
    for _ in range(5):
        y = g.permutation(entries).reshape(40, 30)
        draws.append(stem.neural_persistence(View(y, dtype)).normalized)
    assert result.normalized == value
    assert np.array_equal(result.draws, draws)
    assert result.mean == pytest.approx(np.mean(draws), rel=1e-15)
    assert result.deviation == pytest.approx(np.std(draws, ddof=1), rel=1e-12)
    assert result.z == pytest.approx((value - np.mean(draws)) / np.std(draws, ddof=1), rel=1e-9)


def test_the_shuffle_test_tells_structure_from_none() -> None:
    structured = stem.shuffle_test(make("levels", 60, 60), 10, 0)
    assert abs(structured.z) > 10
    assert abs(stem.shuffle_test(make("normal", 60, 60), 30, 0).z) < 4
    again = stem.shuffle_test(make("levels", 60, 60), 10, 0, threads=3)
    assert again.draws.tobytes() == structured.draws.tobytes()
    assert stem.shuffle_test(make("levels", 60, 60), 10, 1).mean != structured.mean
    assert stem.shuffle_test(make("levels", 60, 60), 10, 0, scale=50.0).normalized > structured.normalized


def test_the_shuffle_test_of_a_constant_weight_has_no_deviation_and_z_0() -> None:
    for value in (0.0, 3.0):
        result = stem.shuffle_test(np.full((9, 8), value))
        assert (result.deviation, result.z, len(result.draws)) == (0, 0, 10)


def test_diagnostics_leave_their_input_and_numpys_generator_alone() -> None:
    x = make("normal", 30, 20)
    before, state = x.tobytes(), np.random.get_state()[1].tobytes()
    stem.shuffle_test(x)
    stem.sortedness(x)
    stem.variance(x)
    assert x.tobytes() == before
    assert np.random.get_state()[1].tobytes() == state
