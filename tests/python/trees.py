"""When two neural persistences are equal.

Tolerances. Weights are divided in their own format, so tree weights agree exactly. A total is (sum t)^(1/p), t =
(1 - w)^p >= 0: the term and its power are rounded (2 u each, u = 2^-53), the sum loses nothing, 1/p is rounded, which
the root turns into u |ln total|, and the root itself is rounded (2 u): `tolerance(p, total)`, for both sides.
"""

from __future__ import annotations

import math

import numpy as np
from hypothesis import settings

from netassay import persistence as stem
from python.full import count

LAWS = settings(max_examples=count(80, 1600), deadline=None, derandomize=True)
POWERS = [0.5, 1, 2, 3.5, 10]


def tolerance(p: float, total: float) -> float:
    return 2.0**-52 * (4 / p + 2 + abs(math.log(total or 1)))


def close(got: float, expected: float, p: float = 2) -> bool:
    return math.isclose(got, expected, rel_tol=tolerance(p, expected), abs_tol=0)


def same(a: stem.NeuralPersistence, b: stem.NeuralPersistence) -> bool:
    return (a.total, a.normalized, a.lower_bound, a.scale, a.flags) == (
        b.total,
        b.normalized,
        b.lower_bound,
        b.scale,
        b.flags,
    ) and a.weights.tobytes() == b.weights.tobytes()


def divided(x: np.ndarray, scale: float) -> np.ndarray:
    """|x| / scale in the precision of x."""
    return (np.abs(x) / x.dtype.type(scale)).astype(np.float64)
