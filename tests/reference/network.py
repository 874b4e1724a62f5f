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


# ---- nodes ----


def strength(weights: list[np.ndarray], biases: list[np.ndarray | None]) -> list[list[float]]:
    """Input 1 + out; hidden (in + b) + out; output (in + b) + 1.          (La Malfa et al., arXiv 2110.02628)"""
    nodes = []
    for layer in range(len(weights) + 1):
        width = weights[layer].shape[1] if layer < len(weights) else weights[-1].shape[0]
        s = []
        for k in range(width):
            into, out = [1.0], [1.0]
            if layer > 0:
                into = [float(v) for v in weights[layer - 1][k]]
                if biases[layer - 1] is not None:
                    into.append(float(biases[layer - 1][k]))
            if layer < len(weights):
                out = [float(v) for v in weights[layer][:, k]]
            s.append(math.fsum(into + out))
        nodes.append(s)
    return nodes


def fluctuation(s: list[float]) -> float:
    mean = math.fsum(s) / len(s)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in s) / len(s))


def jacobian(
    w: np.ndarray,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    output_padding: tuple[int, ...] | None = None,
) -> np.ndarray:
    """T of a convolution, (C_out, *out, C_in, *size); of a transposed one where output_padding is given.

    out[o, p] = sum w[o, i, t] x[i, p s + t d - padding]; transposed: out[o, p s + t d - padding] += w[i, o, t] x[i, p].
    """
    kernel = w.shape[2:]
    axes = list(zip(size, kernel, stride, padding, dilation, strict=True))
    if output_padding is None:
        out = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)
        windows, positions = out, size
    else:
        out = tuple(
            (n - 1) * s - 2 * p + d * (k - 1) + 1 + o for (n, k, s, p, d), o in zip(axes, output_padding, strict=True)
        )
        windows, positions = size, out
    heads, tails = w.shape[0] // groups, w.shape[1]
    t = np.zeros((w.shape[0], *windows, tails * groups, *positions))
    for a in range(w.shape[0]):
        for b in range(tails):
            for window in np.ndindex(windows):
                for tap in np.ndindex(kernel):
                    at = tuple(
                        p * s + u * d - pad
                        for p, s, u, d, pad in zip(window, stride, tap, dilation, padding, strict=True)
                    )
                    if all(0 <= q < n for q, n in zip(at, positions, strict=True)):
                        t[(a, *window, a // heads * tails + b, *at)] += w[(a, b, *tap)]
    if output_padding is None:
        return t
    k = len(kernel)
    return np.moveaxis(t, range(k + 1), range(k + 1, 2 * k + 2))


def disparity(w: np.ndarray, axis: int) -> list[float]:
    """sum (|w| / sum |w|)^2 along an axis; 0 without weight."""
    found = []
    for line in w if axis == 1 else w.T:
        x = [abs(float(v)) for v in line]
        found.append(math.fsum((v / math.fsum(x)) ** 2 for v in x) if any(x) else 0.0)
    return found


def gini(w: np.ndarray, axis: int) -> list[float]:
    """Mean difference of all pairs over twice the mean of |w| along an axis; 0 without weight."""
    found = []
    for line in w if axis == 1 else w.T:
        x = [abs(float(v)) for v in line]
        pairs = math.fsum(abs(a - b) for a in x for b in x)
        found.append(pairs / (2 * len(x) * math.fsum(x)) if any(x) else 0.0)
    return found


def backbone(w: np.ndarray, alpha: float) -> dict[tuple[int, int], float]:
    """(target, source) -> significance of the links that either end keeps.    (Serrano, Boguna, Vespignani 2009)"""
    kept = {}
    for k, i in zip(*np.nonzero(w), strict=True):
        ends = []
        for line in (w[k], w[:, i]):
            links = [abs(float(v)) for v in line if v != 0]
            ends.append((1 - abs(float(w[k, i])) / math.fsum(links)) ** (len(links) - 1))
        if min(ends) < alpha:
            kept[int(k), int(i)] = min(ends)
    return kept
