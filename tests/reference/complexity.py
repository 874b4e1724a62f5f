"""How often units switch, literally: states counted one by one, every formula on the counts as they stand in the page.

Janik, Witaszczyk, arXiv 2006.04791. Arrays are (N, C, *positions), states (N, C, *positions) integers.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np


def states(a: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    """How many thresholds each number is above; a NaN is above none."""
    return sum((np.asarray(a, np.float64) > t).astype(int) for t in thresholds)


def argmax(a, kernel, stride, padding, dilation, ceil_mode):
    """(place of the largest number of each window, whether the window has a NaN): (N, C, *outputs) each."""
    extents = a.shape[2:]
    outputs = []
    for n, k, s, p, d in zip(extents, kernel, stride, padding, dilation, strict=True):
        steps = (n + 2 * p - d * (k - 1) - 1) / s
        out = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
        outputs.append(out - 1 if ceil_mode and (out - 1) * s >= n + p else out)
    place, nan = np.zeros((*a.shape[:2], *outputs), int), np.zeros((*a.shape[:2], *outputs), bool)
    for index in itertools.product(*map(range, place.shape)):
        best, largest = None, None
        for number, step in enumerate(itertools.product(*map(range, kernel))):
            at = [o * s - p + q * d for o, s, p, q, d in zip(index[2:], stride, padding, step, dilation, strict=True)]
            if any(not 0 <= i < n for i, n in zip(at, extents, strict=True)):
                continue
            value = float(a[(*index[:2], *at)])
            nan[index] |= math.isnan(value)
            value = -math.inf if math.isnan(value) else value
            is_number = not math.isnan(float(a[(*index[:2], *at)]))
            if best is None or (value, is_number) > largest:
                best, largest = number, (value, is_number)
        place[index] = best
    return place, nan


def entropy(z: np.ndarray, k: int) -> float:
    """-sum p log2 p of a list of states, in bits."""
    p = [float((z == s).mean()) for s in range(k)]
    return -sum(x * math.log2(x) for x in p if x > 0)


def miller_madow(z: np.ndarray, k: int) -> float:
    return min(entropy_corrected(z, k), math.log2(k))


def entropy_corrected(z: np.ndarray, k: int) -> float:
    occupied = sum(bool((z == s).any()) for s in range(k))
    return entropy(z, k) + (occupied - 1) / (2 * z.size * math.log(2))


def channel(z: np.ndarray, k: int, of=entropy) -> np.ndarray:
    return np.array([of(z[:, c].ravel(), k) for c in range(z.shape[1])])


def position(z: np.ndarray, k: int, of=entropy) -> np.ndarray:
    flat = z.reshape(len(z), -1)
    return np.array([of(flat[:, j], k) for j in range(flat.shape[1])]).reshape(z.shape[1:])


def hamming(z: np.ndarray) -> float:
    """Mean over pairs of samples of the share of units whose states differ."""
    flat = z.reshape(len(z), -1)
    return float(np.mean([(flat[i] != flat[j]).mean() for i, j in itertools.combinations(range(len(flat)), 2)]))


def effective_samples(z: np.ndarray, k: int) -> np.ndarray:
    """p (1 - p) / Var p, Var p the squared standard error of the mean over samples of their own shares."""
    n, found = len(z), []
    for c in range(z.shape[1]):
        each = []
        for s in range(1, k):
            share = (z[:, c] == s).reshape(n, -1).mean(axis=1)
            p = share.mean()
            if 0 < p < 1:
                variance = share.var(ddof=1) / n
                each.append(p * (1 - p) / variance if variance > 0 else math.inf)
        found.append(min(each, default=math.nan))
    return np.array(found)


def moments(a: np.ndarray) -> tuple[list[Fraction], list[Fraction]]:
    """Mean and variance (population) of each unit's finite numbers, as fractions, without rounding."""
    means, variances = [], []
    for c in range(a.shape[1]):
        x = [Fraction(v) for v in np.asarray(a[:, c], np.float64).ravel().tolist() if math.isfinite(v)]
        mean = sum(x) / Fraction(len(x))
        means.append(mean)
        variances.append(sum((v - mean) ** 2 for v in x) / len(x))
    return means, variances


def label_information(z: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """I(state; label) = sum p(s, y) log2 (p(s, y) / p(s) p(y)), by the channel rule."""
    found = []
    for c in range(z.shape[1]):
        zc = z[:, c].reshape(len(z), -1)
        total = 0.0
        for s, y in itertools.product(range(k), set(labels.tolist())):
            both = float(((zc == s) & (labels[:, None] == y)).mean())
            if both > 0:
                total += both * math.log2(both / (float((zc == s).mean()) * float((labels == y).mean())))
        found.append(total)
    return np.array(found)
