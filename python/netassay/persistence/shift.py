"""Does a batch come from the distribution that a detector was fitted on?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netassay import _core
from netassay.base import arrays
from netassay.base.arrays import read_only
from netassay.base.errors import DomainError, NonFinite, ShapeError
from netassay.persistence.weights import Float64

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike

#: Product of the sizes of two samples up to which the p-value is exact.
MOST_EXACT = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """Whether a batch differs from the reference.

    Attributes:
        shifted: whether a feature's p-value is below level / features (Bonferroni).
        p_value: the least p-value times the number of features, at most 1.
        statistics, p_values: (classes,) two-sample Kolmogorov-Smirnov statistic of each feature, in [0, 1], and its
            p-value: exact for a batch of n and a reference of m with n m <= 100,000, asymptotic beyond.
    """

    shifted: bool
    p_value: float
    statistics: Float64
    p_values: Float64


class ShiftDetector:
    """Sees a shift of a network's inputs in vectors that its samples have, such as `sample_persistence`.

    feature_g(x) = the Euclidean distance of a sample's vector to the mean vector of class g in training; a batch is
    shifted where a two-sample Kolmogorov-Smirnov test between its features and those of the reference says so for any
    g, at level 0.05 over the number of classes.                                                (Girrbach et al. 2023)

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> detector = ShiftDetector().fit(random.normal(size=(300, 8)), random.integers(0, 3, 300))
    >>> detector.test(random.normal(size=(100, 8))).shifted, detector.test(random.normal(2, size=(100, 8))).shifted
    (False, True)

    Args:
        level: share of false alarms allowed, in (0, 1).
    """

    __slots__ = ("_reference", "classes", "level", "means")

    def __init__(self, level: float = 0.05) -> None:
        if not 0 < level < 1:
            raise DomainError(f"ShiftDetector: got level={level}, expected a number between 0 and 1")
        self.level = level
        self.classes: tuple[int, ...] = ()
        self.means: Float64 = np.empty((0, 0))
        self._reference: Float64 = np.empty((0, 0))

    def fit(self, vectors: ArrayLike, labels: ArrayLike, reference: ArrayLike | None = None) -> ShiftDetector:
        """Keep the mean vector of each class, and the features of the reference.

        Args:
            vectors: (n, d) of training samples. labels: (n,) integers, their classes (true or predicted).
            reference: (r, d) of samples that were not used to fit, whose features are what batches are compared with;
                None: `vectors` themselves, which lie a little closer to their means than new samples do.

        Raises:
            ShapeError: sizes that do not fit, or no vectors. NonFinite: a NaN or an infinity.
        """
        values = _vectors(vectors, "ShiftDetector.fit", None)
        groups = np.asarray(labels.detach().cpu() if arrays.is_tensor(labels) else labels)
        if groups.shape != (len(values),):
            raise ShapeError(f"ShiftDetector.fit: got labels of shape {groups.shape}, expected ({len(values)},)")
        if groups.dtype.kind not in "iu":
            raise DomainError(f"ShiftDetector.fit: got labels of dtype {groups.dtype.name}, expected integers")
        classes = np.unique(groups)
        means = np.stack([values[groups == g].mean(axis=0) for g in classes])
        known = values if reference is None else _vectors(reference, "ShiftDetector.fit", values.shape[1])
        self.classes = tuple(int(g) for g in classes)
        self.means = read_only(means)
        self._reference = np.sort(self.features(known), axis=0)
        return self

    def features(self, vectors: ArrayLike) -> Float64:
        """(n, classes): distance of each vector to the mean of each class, in the units of the vectors."""
        if not self.classes:
            raise DomainError("ShiftDetector.features: got a detector that was not fitted, expected fit() before")
        values = _vectors(vectors, "ShiftDetector.features", self.means.shape[1])
        return np.stack([np.linalg.norm(values - mean, axis=1) for mean in self.means], axis=1)

    def test(self, vectors: ArrayLike) -> Shift:
        """Compare a batch, (n, d), with the reference; see `Shift`. Raises: as `fit`; DomainError before it."""
        features = np.sort(self.features(vectors), axis=0)
        n, m = len(features), len(self._reference)
        furthest = [_furthest(a, b) for a, b in zip(features.T, self._reference.T, strict=True)]
        statistics = np.array(furthest) / (n * m)
        exact = n * m <= MOST_EXACT
        p_values = np.array(
            [_core.persistence.smirnov(far, n, m) if exact else _asymptotic(far, n, m) for far in furthest]
        )
        p_value = min(1.0, float(p_values.min()) * len(p_values))
        return Shift(p_value < self.level, p_value, read_only(statistics), read_only(p_values))


def _vectors(x: ArrayLike, function: str, width: int | None) -> Float64:
    values = arrays.widened(arrays.view(x, function)).astype(np.float64)
    if values.ndim != 2 or len(values) == 0 or (width is not None and values.shape[1] != width):
        raise ShapeError(f"{function}: got vectors of shape {values.shape}, expected (n, {width or 'd'}), n at least 1")
    if not np.isfinite(values).all():
        raise NonFinite(f"{function}: got vectors with a NaN or an infinity, expected finite values")
    return values


def _furthest(a: Float64, b: Float64) -> int:
    """Largest distance between the distribution functions of two sorted samples of n and m values, times n m."""
    every = np.concatenate([a, b])
    below_a = np.searchsorted(a, every, side="right")
    below_b = np.searchsorted(b, every, side="right")
    return int(np.abs(below_a * len(b) - below_b * len(a)).max())


def _asymptotic(furthest: int, n: int, m: int) -> float:
    """2 sum_k (-1)^(k-1) exp(-2 k^2 x^2) with x = statistic sqrt(n m / (n + m)).                   (Smirnov 1948)"""
    x = furthest / math.sqrt(n * m * (n + m))
    if x < 0.2:  # the series converges slowly, to 1 within 1e-12
        return 1.0
    series: float = sum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * series))
