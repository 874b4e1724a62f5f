"""Rows, states and tolerances of the tests of Moments.

Tolerances. With p the pivot and y = x - p, a computed sum of products differs from the exact one by at most
tol * sum |y|^2 in Frobenius norm (since || sum |y||y|^T ||_F <= sum |y|^2); tol(dtype, precision, n) is for
  exact, or float64 rows: (n + 8) 2^-53, the worst case of a sum of n rounded products;
  high, narrower rows: 3 * 2^-18 (y in two bf16 parts: each keeps y to 2^-18, and lo.lo <= 2^-18 is dropped)
    + 8 sqrt(min(n, 1024)) 2^-24 (float32 sums of at most 1024 products, eight standard deviations),
    twice that for bf16, whose raw products are taken where sum |x|^2 <= 2 sum |y|^2.
The pivot is a mean of leading rows: sum |y|^2 <= sum |x - m|^2 + n max_k |m_k - m|^2 over the means m_k of
the first k rows, which is `scale`. Means are held to tol * sqrt(scale / n) + 2^-51 |m|.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import netassay as na
from python.full import count
from reference import saturation as reference

DTYPES = ["float64", "float32", "bfloat16", "float16"]
PRECISIONS = ["high", "exact"]
SIZES = [1, 2, 3, 15, 16, 17, 31, 33, 97, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 3000]
WIDTHS = [1, 2, 3, 15, 16, 17, 31, 33, 97, 127, 128, 129, 300]
LAWS = settings(max_examples=count(60, 1200), deadline=None, derandomize=True)


def tolerance(dtype: str, precision: str, n: int) -> float:
    if dtype == "float64" or precision == "exact":
        return (n + 8) * 2.0**-53
    return (2 if dtype == "bfloat16" else 1) * (3 * 2.0**-18 + 8 * min(n, 1024) ** 0.5 * 2.0**-24)


def scale(x: np.ndarray) -> float:
    y = x - x.mean(axis=0)
    leading = np.cumsum(y[:1024], axis=0) / np.arange(1, min(len(y), 1024) + 1)[:, None]
    return float(np.sum(y * y) + len(y) * np.max(np.sum(leading * leading, axis=1)))


def rows(n: int, d: int, distribution: str = "normal", seed: int = 0) -> np.ndarray:
    g = np.random.default_rng([seed, n, d])
    if distribution == "normal":
        return g.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.5 + g.standard_normal(d)
    if distribution == "uniform":
        return g.uniform(-1, 3, (n, d))
    if distribution == "lognormal":
        return g.lognormal(0, 1.5, (n, d))
    if distribution == "cauchy":
        return np.clip(g.standard_cauchy((n, d)), -6e4, 6e4)  # float16 ends at 65504
    if distribution == "constant":
        return np.broadcast_to(g.standard_normal(d), (n, d)).copy()
    return np.eye(d)[g.integers(0, d, n)]  # one-hot


def typed(x: np.ndarray, dtype: str) -> tuple[Any, np.ndarray]:
    """x rounded to dtype, and the same values in float64."""
    if dtype != "bfloat16":
        y = x.astype(dtype)
        return y, y.astype(np.float64)
    torch = pytest.importorskip("torch")
    t = torch.from_numpy(np.array(x)).to(torch.bfloat16)
    return t, t.to(torch.float64).numpy()


def moments(*batches: Any, width: int | None = None, **options: Any) -> na.Moments:
    calls = {k: options.pop(k) for k in ("layout", "mask", "threads") if k in options}
    m = na.Moments(width or batches[0].shape[-1], **options)
    for batch in batches:
        m.update(batch, **calls)
    return m


def bits(m: na.Moments) -> tuple[Any, ...]:
    fourth = m.fourth() if m.keeps_fourth else None
    kind = m.width, m.precision, m.keeps_fourth
    seen = m.count, m.nonfinite
    return *kind, *seen, m.mean.tobytes(), m.scatter.tobytes(), fourth, *map(bits, m.halves() or ())


def future(m: na.Moments) -> tuple[Any, ...]:
    """What the state will be after more rows: nothing that matters later may hide from `bits`."""
    later = m.copy()
    later.update(rows(1500, m.width, seed=99).astype(np.float32))
    later.update(rows(7, m.width, seed=98))
    return bits(later)


def assert_same(a: na.Moments, b: na.Moments) -> None:
    assert bits(a) == bits(b)
    assert future(a) == future(b)


def assert_close(m: na.Moments, x: np.ndarray, tol: float, spread: float | None = None) -> None:
    n, mean, scatter = reference.moments(x)
    spread = scale(x[np.isfinite(x).all(axis=1)]) if spread is None else spread
    assert m.count == n
    assert m.nonfinite == len(x) - n
    assert m.scatter.dtype == m.mean.dtype == np.float64
    assert np.array_equal(m.scatter, m.scatter.T)
    assert np.linalg.norm(m.scatter - scatter) <= tol * spread
    assert np.linalg.norm(m.mean - mean) <= tol * (spread / n) ** 0.5 + 2.0**-51 * np.linalg.norm(mean)


def misaligned(x: np.ndarray) -> np.ndarray:
    buffer = np.empty(x.nbytes + 1, np.uint8)
    y = buffer[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def within(bar: str, q: np.ndarray, expected: np.ndarray) -> bool:
    """The accuracy bars, for a covariance and its reference."""
    eig, ref = reference.eigenvalues(q), reference.eigenvalues(expected)
    frobenius, error = np.linalg.norm(q - expected) / np.linalg.norm(expected), np.abs(eig - ref)
    if bar == "exact":
        return bool(frobenius <= 1e-10 and (error <= 1e-9 * ref).all())
    return bool(frobenius <= 2e-6 and (error <= 1e-4 * ref + 2e-7 * ref[0]).all())


def cut(x: Any, points: Sequence[int]) -> list[Any]:
    edges = [0, *sorted(set(points) - {0, len(x)}), len(x)]
    return [x[a:b] for a, b in pairwise(edges) if b > a]


def run_alone(program: str) -> str:
    """A program of its own: it may be interrupted and forked, and holds no torch."""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
