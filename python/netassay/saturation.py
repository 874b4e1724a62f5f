"""Saturation: what share of a layer's width carries its variance, and how many directions that is.

State: `netassay.Moments`, streamed and mergeable. Results: `Saturation`, `EffectiveDimension`, `RankMe`,
`SpectrumDecay`, all from one `Spectrum`, the eigenvalues of the covariance. Sources: Richter et al., arXiv 2006.08679
(saturation); Janik, Witaszczyk, arXiv 2006.04791 (effective dimension); Roy, Vetterli 2007 (effective rank); Garrido
et al., arXiv 2210.02885 (RankMe).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay import _core
from netassay.base import arrays
from netassay.base.errors import DomainError, DTypeError, NonFinite, ShapeError, TooFewRows
from netassay.stats.moments import Moments

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike

Float64: TypeAlias = NDArray[np.float64]

#: Rows per unit of width below which a spectrum is biased by sampling alone.
ROWS_PER_UNIT = 32


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """The eigenvalues of a covariance; every statistic below is computed from one.

    Attributes:
        eigenvalues: (d,) float64, descending, >= 0, in squared units of the activations.
        width: d.
        samples: n, rows used; None for a bare covariance.
        participation_ratio_corrected: see EffectiveDimension.
        flags: what to know of the rows: "few_rows" (n < 32 d), "nonfinite" (rows were left out).
    """

    eigenvalues: Float64
    width: int
    samples: int | None
    participation_ratio_corrected: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Saturation:
    """How much of a layer's width its activations use.

    value = k / d, k the least number of leading eigenvalues l_i of the covariance with
    sum_{i<=k} l_i >= (delta - 1e-12) sum l_i.                                    (Richter et al., arXiv 2006.08679)

    Attributes:
        value: in [0, 1], dimensionless; 0 for a constant layer. None in a report's row with too few rows.
        dimension: k, a count of directions, 0 <= k <= d.
        width: d, units.
        delta: share of the variance asked for.
        eigenvalues: (d,) float64, descending, >= 0, in squared units of the activations.
        samples: n, rows used; None for a bare covariance.
        flags: "constant", "few_rows", "nonfinite", "too_few_rows", "overflow" (squares beyond float64); in a watch also
            "layout_guessed", "several_calls", "sampled", "unmasked".
    """

    value: float | None = field(metadata={"minimum": 0, "maximum": 1})
    dimension: int | None
    width: int
    delta: float = field(metadata={"exclusiveMinimum": 0, "maximum": 1, "finite": True})
    eigenvalues: Float64 = field(metadata={"nullable": True})
    samples: int | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class EffectiveDimension:
    """How many directions carry a layer's variance, with p_i = l_i / sum l.

    Attributes:
        value: exp(-sum p ln p), Hill number of order 1, in [1, d], a count of directions. (arXiv 2006.04791)
        participation_ratio: (sum l)^2 / sum l^2, order 2.
        participation_ratio_corrected: the same from unbiased estimates of numerator and denominator; only with
            Moments(fourth=True) and n >= 4, else None.
        stable_rank: sum l / l_1, order infinity.
        effective_rank: exp(-sum q ln q), q = sqrt(l) / sum sqrt(l). (Roy, Vetterli 2007)
        samples: n, rows used; None for a bare covariance.
        flags: as for Saturation.

    value >= participation_ratio >= stable_rank. A constant layer: all 1, flag "constant".
    """

    value: float | None
    participation_ratio: float | None
    participation_ratio_corrected: float | None
    stable_rank: float | None
    effective_rank: float | None
    samples: int | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RankMe:
    """exp(-sum p ln p), p_i = s_i / sum s + 1e-7, s the singular values of the uncentred rows. (arXiv 2210.02885)

    Attributes:
        value: a count of directions. samples: n, rows used. flags: as for Saturation.
    """

    value: float
    samples: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SpectrumDecay:
    """How fast eigenvalues fall: the least-squares line of ln l_i on ln i.

    Attributes:
        slope: dimensionless; -1 for l_i = 1/i.
        r_squared: share of the variance of ln l_i that the line explains, in [0, 1].
        window: (first, last) i used, counted from 1; zero eigenvalues are left out. flags: as for Saturation.
    """

    slope: float
    r_squared: float
    window: tuple[int, int]
    flags: tuple[str, ...]


def from_rows(
    x: ArrayLike,
    *,
    layout: str = "rows",
    mask: ArrayLike | None = None,
    precision: str = "high",
    fourth: bool = False,
    threads: int | None = None,
) -> Moments:
    """Moments of one array of activations; arguments as of `Moments` and `Moments.update`."""
    rows = arrays.view(x, "from_rows")
    axis = 1 if layout == "channels_first" else -1
    if rows.array.ndim < (2 if axis == 1 else 1):
        raise ShapeError(f"from_rows: got shape {rows.array.shape} with layout {layout!r}, expected rows of units")
    moments = Moments(rows.array.shape[axis], precision=precision, fourth=fourth)
    moments.update(x, layout=layout, mask=mask, threads=threads)
    return moments


def spectrum(source: Moments | Spectrum | ArrayLike) -> Spectrum:
    """Eigenvalues of a covariance, by LAPACK: torch's where torch is loaded, else numpy's.

    Args:
        source: Moments, or a covariance (d, d): square, symmetric and positive semidefinite within float32 rounding.

    Raises:
        TooFewRows: Moments of fewer than two rows. ShapeError: not square. DomainError: not symmetric or not positive
        semidefinite. NonFinite: NaN or infinity.
    """
    return _spectrum(source, "spectrum")


def _spectrum(source: Moments | Spectrum | ArrayLike, function: str) -> Spectrum:
    if isinstance(source, Spectrum):
        return source
    if not isinstance(source, Moments):
        values = _eigenvalues(_covariance(source, function), function)
        return Spectrum(arrays.read_only(values), len(values), None, None, ())
    n, width = source.count, source.width
    if n < 2:
        raise TooFewRows(f"{function}: got {n} row{'' if n == 1 else 's'}, expected at least 2")
    values = _eigenvalues(source.covariance(), function)
    corrected = None
    if source.keeps_fourth:
        corrected = _core.saturation.corrected_participation_ratio(values, n=n, fourth=source.fourth())
    flags = _flags((n < ROWS_PER_UNIT * width, "few_rows"), (source.nonfinite > 0, "nonfinite"))
    return Spectrum(arrays.read_only(values), width, n, corrected, flags)


def saturation(source: Moments | Spectrum | ArrayLike, delta: float = 0.99) -> Saturation:
    """Share of a layer's width that carries `delta` of its variance; see `Saturation`.

    Args:
        source: Moments, Spectrum, or a covariance (d, d). For activations use `from_rows`.

    Raises:
        DomainError: not 0 < delta <= 1. And what `spectrum` raises.

    >>> import numpy as np
    >>> saturation(np.diag([0.995, 0.005])).dimension
    1
    """
    s = _spectrum(source, "saturation")
    value, dimension, constant = _core.saturation.saturation(s.eigenvalues, delta=delta)
    flags = s.flags + _flags((constant, "constant"))
    return Saturation(value, dimension, s.width, delta, s.eigenvalues, s.samples, flags)


def effective_dimension(source: Moments | Spectrum | ArrayLike) -> EffectiveDimension:
    """Number of directions that carry a layer's variance; see `EffectiveDimension`. Arguments as of `saturation`.

    >>> import numpy as np
    >>> round(effective_dimension(np.eye(5)).value, 6)
    5.0
    """
    s = _spectrum(source, "effective_dimension")
    value, ratio, stable, rank, constant = _core.saturation.effective_dimension(s.eigenvalues)
    flags = s.flags + _flags((constant, "constant"))
    return EffectiveDimension(value, ratio, s.participation_ratio_corrected, stable, rank, s.samples, flags)


def rankme(moments: Moments) -> RankMe:
    """RankMe of the rows a state has seen; see `RankMe`. The mean is not subtracted.

    Raises:
        TooFewRows: no rows.
    """
    if not isinstance(moments, Moments):
        raise TypeError(f"rankme: got {type(moments).__name__}, expected Moments (it needs the mean)")
    n = moments.count
    if n < 1:
        raise TooFewRows("rankme: got 0 rows, expected at least 1")
    mean = moments.mean
    singular = np.sqrt(_eigenvalues(moments.covariance() + np.outer(mean, mean), "rankme"))
    flags = _flags((n < ROWS_PER_UNIT * moments.width, "few_rows"), (moments.nonfinite > 0, "nonfinite"))
    total = float(singular.sum())
    if total == 0:
        return RankMe(1.0, n, (*flags, "constant"))
    p = singular / total + 1e-7
    return RankMe(float(np.exp(-np.sum(p * np.log(p)))), n, flags)


def spectrum_decay(source: Moments | Spectrum | ArrayLike, window: tuple[int, int] | None = None) -> SpectrumDecay:
    """Slope of ln l_i on ln i; see `SpectrumDecay`.

    Args:
        window: (first, last) i, counted from 1, both included; None: every positive eigenvalue.

    Raises:
        DomainError: fewer than two positive eigenvalues in the window, or a window outside 1..d.
    """
    s = _spectrum(source, "spectrum_decay")
    first, last = (1, s.width) if window is None else window
    if not 1 <= first < last <= s.width:
        raise DomainError(f"spectrum_decay: got window {window}, expected 1 <= first < last <= {s.width}")
    values = s.eigenvalues[first - 1 : last]
    values = values[values > 0]
    if len(values) < 2:
        raise DomainError(f"spectrum_decay: got {len(values)} positive eigenvalues, expected at least 2")
    x = np.log(np.arange(first, first + len(values)))
    y = np.log(values)
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y / (x @ x))
    spread = float(y @ y)
    explained = 1.0 if spread == 0 else 1.0 - float(np.sum((y - slope * x) ** 2)) / spread
    return SpectrumDecay(slope, explained, (first, first + len(values) - 1), s.flags)


def _covariance(source: ArrayLike, function: str) -> Float64:
    view = arrays.view(source, function)
    if view.array.ndim != 2 or view.array.shape[0] != view.array.shape[1] or view.array.size == 0:
        raise ShapeError(
            f"{function}: got shape {view.array.shape}, expected a covariance (d, d); for activations use from_rows"
        )
    if view.dtype == "bfloat16":
        raise DTypeError(
            f"{function}: got a bfloat16 covariance, expected float64 or float32; for activations use from_rows"
        )
    q = np.asarray(view.array, dtype=np.float64)
    if np.isfinite(q).all() and np.abs(q - q.T).max() > _ROUNDING * np.abs(q).max():
        raise DomainError(
            f"{function}: got a matrix that is not symmetric, expected a covariance; for activations use from_rows"
        )
    return q


#: Rounding forgiven in a covariance computed in float32, relative to its largest entry or eigenvalue.
_ROUNDING = 64 * float(np.finfo(np.float32).eps)


def _eigenvalues(covariance: Float64, function: str) -> Float64:
    """Descending, clipped at zero."""
    if not np.isfinite(covariance).all():
        raise NonFinite(f"{function}: got a covariance with a NaN or an infinity, expected finite values")
    torch = sys.modules.get("torch")
    ascending: Float64
    if torch is not None and hasattr(torch, "linalg"):
        # a copy in C order: torch takes neither negative strides nor read-only memory
        ascending = torch.linalg.eigvalsh(torch.from_numpy(np.array(covariance, order="C"))).numpy()
    else:
        ascending = np.linalg.eigvalsh(covariance).astype(np.float64, copy=False)
    if ascending[0] < -_ROUNDING * max(ascending[-1], 0.0):
        raise DomainError(
            f"{function}: got a matrix with eigenvalues {ascending[0]:.3g} and {ascending[-1]:.3g}, expected a"
            " covariance (positive semidefinite); for activations use from_rows"
        )
    return np.maximum(ascending[::-1], 0.0)


def _flags(*flags: tuple[bool, str]) -> tuple[str, ...]:
    return tuple(name for holds, name in flags if holds)
