"""When to stop training, and what a layer's persistence rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netassay import _core
from netassay.base import arrays
from netassay.base.arrays import read_only
from netassay.base.errors import DomainError
from netassay.persistence.neural import NetworkPersistence, tree
from netassay.persistence.weights import Float64, magnitudes, matrix, scalar

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike


class EarlyStopping:
    """Stop training when the mean neural persistence of the network's layers no longer grows.

    best <- 0, waited <- 0; each evaluation: if value > best + min_delta: best <- value, waited <- 0, else
    waited <- waited + 1; stop when waited >= patience.                                   (Rieck et al. 2019, section 4)

    >>> stopping = EarlyStopping(patience=2)
    >>> [stopping.update(value) for value in (0.40, 0.45, 0.44, 0.45, 0.46)]
    [False, False, False, True, False]

    Attributes:
        best: largest value seen, dimensionless; waited: evaluations since it last grew, a count.
    """

    __slots__ = ("best", "min_delta", "patience", "waited")

    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        if patience < 1:
            raise DomainError(f"EarlyStopping: got patience={patience}, expected at least 1")
        if not (min_delta >= 0 and math.isfinite(min_delta)):
            raise DomainError(f"EarlyStopping: got min_delta={min_delta}, expected a finite number of at least 0")
        self.patience = patience
        self.min_delta = min_delta
        self.best = 0.0
        self.waited = 0

    def update(self, value: float | NetworkPersistence) -> bool:
        """Take the mean normalized persistence of an evaluation, or the result that holds it; whether to stop."""
        mean = value.normalized if isinstance(value, NetworkPersistence) else float(value)
        if math.isnan(mean):
            raise DomainError("EarlyStopping.update: got nan, expected a number")
        if mean > self.best + self.min_delta:
            self.best, self.waited = mean, 0
        else:
            self.waited += 1
        return self.waited >= self.patience


@dataclass(frozen=True, slots=True, eq=False)
class ShuffleTest:
    """Neural persistence of a weight beside that of its entries in random places.                (Girrbach et al. 2023)

    Attributes:
        normalized: of the weight as it is.
        mean: of the shuffled ones: what the distribution of the weights alone predicts.
        deviation: their standard deviation (divisor draws - 1).
        z: (normalized - mean) / deviation; 0 where both are 0, infinite where only the deviation is.
        draws: (draws,) float64, one value a shuffle.
    """

    normalized: float
    mean: float
    deviation: float
    z: float
    draws: Float64


def shuffle_test(
    weight: ArrayLike, draws: int = 10, seed: int = 0, *, scale: float | None = None, threads: int | None = None
) -> ShuffleTest:
    """Compare a weight's persistence with that of its entries shuffled; see `ShuffleTest`.

    Args:
        draws: shuffles, at least 2; seed: of numpy's default generator.

    Raises:
        As `neural_persistence`; DomainError also for fewer than two draws.
    """
    if draws < 2:
        raise DomainError(f"shuffle_test: got draws={draws}, expected at least 2")
    view = matrix(weight, "shuffle_test")

    def normalized(array: NDArray[Any]) -> float:
        return tree(arrays.View(array, view.dtype), None, threads, "shuffle_test").persistence(scale=scale).normalized

    value = tree(weight, None, threads, "shuffle_test").persistence(scale=scale).normalized
    generator = np.random.default_rng(seed)
    entries = view.array.reshape(-1)
    values = np.array([normalized(generator.permutation(entries).reshape(view.array.shape)) for _ in range(draws)])
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    difference = value - mean
    z = difference / deviation if deviation > 0 else math.copysign(math.inf, difference) if difference else 0.0
    return ShuffleTest(value, mean, deviation, z, read_only(values))


def variance(weight: ArrayLike, *, scale: float | None = None) -> float:
    """Population variance of |W| / scale, in [0, 1/4]; scale None: the largest |w|; 0 for an all-zero weight.

    What the persistence of trained layers mostly follows (Girrbach et al. 2023). Raises: as `neural_persistence`.
    """
    sizes = magnitudes(weight, "variance")
    most = float(sizes.max())
    s = most if scale is None else scalar(scale, "variance: got scale")
    if not (math.isfinite(s) and s >= most):
        raise DomainError(f"variance: got scale={s}, expected a finite number not below the largest weight, {most}")
    return float((sizes / s).var()) if s > 0 else 0.0


def sortedness(weight: ArrayLike) -> float:
    """How far a weight's large entries lie together: 1 where |W| / max, its columns then its rows sorted by ascending
    mean, ascends along one of three paths, near 0 for entries in random places.                  (Girrbach et al. 2023)

    The largest of Kendall's tau-b between the entries and their positions along the anti-diagonals (i + j, then i),
    along the rows, and along the columns. 0 for a constant weight. O(m n log(m n)), in float32.

    Raises: as `neural_persistence`.
    """
    values = magnitudes(weight, "sortedness")
    values = values / (values.max() or 1.0)
    values = values[:, np.argsort(values.mean(axis=0), kind="stable")]
    ordered = values[np.argsort(values.mean(axis=1), kind="stable")].astype(np.float32)
    i, j = np.indices(ordered.shape)
    diagonal = ordered.ravel()[np.lexsort((i.ravel(), (i + j).ravel()))]
    return max(_core.persistence.kendall_tau(path) for path in (diagonal, ordered.ravel(), ordered.T.ravel()))
