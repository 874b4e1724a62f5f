"""Weights of every kind, and what must hold of their statistics and sums.

Tolerances: float64 sums of N terms in any order are within N 2^-52 of sum |terms|; a central moment is a polynomial in
such sums about a pivot within a few standard deviations, so that its terms are at most a hundred times those about the
mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from netassay.network import LinkSums, LinkWeights
from netassay.network.links import QUANTILES
from python.matrices import DTYPES, typed
from reference import network as reference

EPSILON = 2.0**-52
#: Formats whose numbers are counted one by one.
EXACT = [dtype for dtype in DTYPES if dtype not in ("float64", "float32")]
SIZES = [(1, 1), (1, 2), (2, 1), (2, 3), (3, 15), (16, 16), (17, 3), (31, 33), (33, 31), (5, 97), (97, 5)]
SUMS = [(f"{side}_{what}", k, axis) for axis, side in ((1, "row"), (0, "column"))
        for k, what in enumerate(("sum", "absolute", "square"))]  # fmt: skip


def make(kind: str, m: int, n: int, seed: int = 0) -> np.ndarray:
    g = np.random.default_rng(seed)
    if kind == "one-hot":
        x = np.zeros((m, n))
        x[np.arange(m), g.integers(0, n, m)] = 1
        return x
    return {
        "normal": lambda: g.standard_normal((m, n)),
        "lognormal": lambda: g.lognormal(0, 2, (m, n)),
        "Cauchy": lambda: g.standard_cauchy((m, n)),
        "constant": lambda: np.full((m, n), -0.3),
        "zero": lambda: np.zeros((m, n)),
        "many zeros": lambda: g.standard_normal((m, n)) * (g.random((m, n)) < 0.1),
    }[kind]()


KINDS = ["normal", "lognormal", "Cauchy", "constant", "zero", "one-hot", "many zeros"]


def given(kind: str, dtype: str, m: int, n: int) -> tuple[Any, np.ndarray]:
    return typed(make(kind, m, n) * (40 if dtype.endswith("int8") else 1), dtype)


def moment_tolerance(x: np.ndarray) -> tuple[float, ...]:
    """Of mean, variance, skewness, kurtosis: absolute."""
    y = x.astype(np.float64)
    each, spread = 100 * y.size * EPSILON, np.abs(y - y.mean())
    deviation = y.std() if y.min() < y.max() else 1.0
    third, fourth = (spread**3).mean() / deviation**3, (spread**4).mean() / deviation**4
    return y.size * EPSILON * np.abs(y).mean(), each * y.var(), 2 * each * third, 3 * each * fourth


def assert_moments(got: LinkWeights, x: np.ndarray) -> None:
    found = (got.mean, got.variance, got.skewness, got.kurtosis)
    for value, expected, most in zip(found, reference.moments(x), moment_tolerance(x), strict=True):
        assert abs(value - expected) <= most


def assert_statistics(got: LinkWeights, x: np.ndarray, exact: bool) -> None:
    assert_moments(got, x)
    assert (got.count, got.minimum, got.maximum) == (x.size, float(x.min()), float(x.max()))
    assert got.zero_share == (x == 0).mean()
    assert got.density.tolist() == reference.density(x)
    for q, value in zip(QUANTILES, got.quantiles, strict=True):
        expected = reference.quantile(x, q)
        ends = np.quantile(x.astype(np.float64), q, method="lower"), np.quantile(x, q, method="higher")
        bound = 4 * EPSILON if exact else 2.0**-7
        assert abs(value - expected) <= bound * max(np.abs(ends)), q


def assert_sums(got: LinkSums, x: np.ndarray) -> None:
    for name, k, axis in SUMS:
        expected = np.array(reference.sums(x, axis)[k])
        size = np.array(reference.sums(x, axis)[max(k, 1)])
        assert (np.abs(getattr(got, name) - expected) <= x.shape[axis] * EPSILON * size).all(), name


def values(result: LinkWeights | LinkSums) -> bytes:
    parts = [getattr(result, name) for name in result.__slots__]
    flat = [p for part in parts for p in (part if isinstance(part, tuple) else (part,)) if not isinstance(p, str)]
    return b"".join(np.asarray(p).tobytes() for p in flat)
