"""Link weights, literally: every formula on the weights as a list, in exact sums of float64.

La Malfa et al., arXiv 2209.05488: population moments, excess kurtosis.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def moments(w: np.ndarray) -> tuple[float, float, float, float]:
    """(mean, variance, skewness, excess kurtosis); the last two are 0 where all weights are equal."""
    x = [Fraction(float(v)) for v in w.ravel()]
    n = len(x)
    mean = sum(x) / n
    m2, m3, m4 = (sum((v - mean) ** k for v in x) / n for k in (2, 3, 4))
    if m2 == 0:
        return float(mean), 0.0, 0.0, 0.0
    skewness = math.copysign(math.sqrt(m3 * m3 / m2**3), m3)
    return float(mean), float(m2), skewness, float(m4 / m2**2) - 3


def quantile(w: np.ndarray, q: float) -> float:
    """Linear between the order statistics at floor and ceil of q (N - 1)."""
    x = sorted(float(v) for v in w.ravel())
    at = q * (len(x) - 1)
    below = math.floor(at)
    above = min(below + 1, len(x) - 1)
    return x[below] * (1 - (at - below)) + x[above] * (at - below)


def grid() -> list[float]:
    """-inf, -2^8, ..., -2^-24, 2^-24, ..., 2^8, inf, eight an octave."""
    positive = [2.0**e * (1 + k / 8) for e in range(-24, 8) for k in range(8)] + [2.0**8, math.inf]
    return [-v for v in reversed(positive)] + positive


def density(w: np.ndarray) -> list[int]:
    """Weights between neighbouring edges; a magnitude on an edge counts with the greater ones."""
    edges = grid()
    half = len(edges) // 2
    counts = [0] * (len(edges) - 1)
    for v in w.ravel():
        steps = sum(abs(float(v)) >= edge for edge in edges[half:])
        counts[half - 1 + (steps if v > 0 else -steps)] += 1
    return counts


def sums(w: np.ndarray, axis: int) -> tuple[list[float], list[float], list[float]]:
    """Of w, |w| and w^2 along an axis."""
    lines = [[float(v) for v in line] for line in (w if axis == 1 else w.T)]
    return (
        [math.fsum(line) for line in lines],
        [math.fsum(map(abs, line)) for line in lines],
        [math.fsum(v * v for v in line) for line in lines],
    )
