"""Means and variances that are kept beside the switching counts."""

from __future__ import annotations

import numpy as np
import pytest

from netassay.complexity import Switching, complexity
from python.devices import on
from python.switching import DTYPES, assert_sums, bits, channels_last, fed, memories, numbers, same_counts, typed

pytestmark = pytest.mark.native


@pytest.mark.parametrize("dtype", DTYPES)
def test_means_and_variances_are_the_references_in_every_format(device: str, dtype: str) -> None:
    for shape in ((5, 3), (1, 4), (33, 70), (4, 3, 5), (3, 2, 4, 19), (2, 33, 3, 3)):
        x, values = typed(numbers(shape, 2), dtype)
        for x_given in (x, channels_last(x)):
            state = Switching(rule="relu6", sums=True)
            pooled = state.update(on(device, x_given), pooled=True)
            got = state.result()
            assert_sums(got, values)
            same_counts(got, complexity(x_given, rule="relu6"))
            flat = values.reshape(*shape[:2], -1)
            kept = np.isfinite(flat).all(axis=2)
            assert np.array_equal(np.isfinite(pooled), kept)
            largest = np.abs(np.where(np.isfinite(values), values, 0)).max()
            off = np.abs(pooled - np.where(np.isfinite(flat), flat, 0).mean(axis=2))[kept]
            assert (off <= largest * flat.shape[2] * 2.0**-52).all()


@pytest.mark.parametrize("shift", [0.0, 1e6, -1e12])
def test_a_mean_far_from_zero_costs_no_accuracy(shift: float) -> None:
    """Where sums of x and x^2 as they are would have no digit left; also with an outlier for the first number."""
    a = np.random.default_rng(0).standard_normal((40, 3, 5, 5)) + shift
    naive = (a**2).mean(axis=(0, 2, 3)) - a.mean(axis=(0, 2, 3)) ** 2
    assert shift == 0 or (np.abs(naive - 1) > 1e-5).all()
    for x_given in (a, channels_last(a)):
        assert_sums(complexity(x_given, sums=True), a)
    a[0, :, 0, 0] = shift + 1e9
    assert_sums(complexity(a, sums=True), a, cancelled=a[:, 0].size)


def test_sums_of_a_constant_and_of_nothing_finite() -> None:
    got = complexity(np.full((3, 2, 4), 0.1), sums=True)
    assert got.mean is not None
    assert got.variance is not None
    assert (got.mean.tolist(), got.variance.tolist(), got.infinities) == ([0.1, 0.1], [0.0, 0.0], 0)
    assert_sums(complexity(np.array([[[np.inf, np.nan]]]), sums=True), np.array([[[np.inf, np.nan]]]))


def test_sums_are_the_same_bits_for_any_number_of_threads() -> None:
    for shape in ((300, 2, 10, 20), (40, 70, 8, 9), (9, 1, 100, 120), (1500, 100), (3000, 2, 300)):
        x = numbers(shape)
        labels = np.arange(len(x)) % 3
        for x_given in (x, channels_last(x)):
            expected = bits(fed(x_given, threads=1, labels=labels, classes=3, sums=True))
            for threads in (2, 3, 7):
                assert bits(fed(x_given, threads=threads, labels=labels, classes=3, sums=True)) == expected


def test_any_strides_have_the_same_sums() -> None:
    x = numbers((4, 5, 6, 7))
    for _, x_given in memories(x):
        assert_sums(complexity(x_given, sums=True), x)
