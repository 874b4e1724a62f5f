"""Saturation: what share of a layer's width carries its variance, and how many directions that is.

State: `netassay.Moments`, streamed and mergeable. Results: `Saturation`, `EffectiveDimension`, `RankMe`,
`SpectrumDecay`, all from one `Spectrum`, the eigenvalues of the covariance. Sources: Richter et al., arXiv 2006.08679
(saturation); Janik, Witaszczyk, arXiv 2006.04791 (effective dimension); Roy, Vetterli 2007 (effective rank); Garrido
et al., arXiv 2210.02885 (RankMe).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay import _core
from netassay.base import arrays
from netassay.base.errors import DomainError, ShapeError, TooFewRows
from netassay.stats.eigenvalues import eigenvalues, given, held_out, products
from netassay.stats.moments import Moments

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike

Float64: TypeAlias = NDArray[np.float64]

#: Rows per unit of width below which a spectrum is biased by sampling alone.
ROWS_PER_UNIT = 32
#: Samples below which the rows of one sample, which are alike, decide a spectrum.
FEWEST_SAMPLES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """The eigenvalues of a covariance; every statistic below is computed from one.

    An eigenvalue that rounding alone can make is 0, so that no statistic takes it for a direction. With l the
    eigenvalues, t their sum and u = 2^-24, 2^-53 the unit roundoff, the floor is the largest of
    2 d u_64 l_1 (LAPACK's error);
    4 u_32 t / sqrt(d) where rows were multiplied in float32, which Moments(precision="high") does with narrower rows
    than float64, in blocks of 1,024 (the norm of a matrix of independent rounding errors);
    twice the size of the most negative eigenvalue, which rounding has made alone;
    2 u_32 l_1 for a bare covariance in float32.

    Attributes:
        eigenvalues: (d,) float64, descending, 0 or above the floor, in squared units of the activations.
        floor: in squared units of the activations.
        width: d.
        rows: n, rows used; None for a bare covariance.
        samples: what the rows are of (images, sequences), a count; None for a bare covariance.
        participation_ratio_corrected: see EffectiveDimension.
        held_out: of Moments(halves=True), (2, d): the variances of each half of the samples along the eigenvectors of
            the other's covariance, in the order of its eigenvalues; where these are 0, directions have no order, and
            the mean is given. None without, or where a half has fewer than two rows.
        flags: what to know of the rows: "few_rows" (n < 32 d), "few_samples" (fewer than 32 samples), "nonfinite" (rows
            were left out), "no_corrected_ratio" (fourth moments were kept, but there is no corrected ratio).
    """

    eigenvalues: Float64
    floor: float
    width: int
    rows: int | None
    samples: int | None
    participation_ratio_corrected: float | None
    held_out: Float64 | None
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
        eigenvalues: (d,) float64, descending, 0 or above the floor of rounding (see Spectrum), in squared units of the
            activations.
        rows: n, rows used; None for a bare covariance.
        samples: what the rows are of (images, sequences), a count; None for a bare covariance.
        flags: "constant", "few_rows", "few_samples" (fewer than 32 samples: rows of one sample are alike, and the value
            comes out low), "nonfinite", "too_few_rows", "overflow" (squares beyond float64); in a watch also
            "layout_guessed", "several_calls", "sampled", "unmasked".
        bracket: (k, held-out k) of Moments(halves=True), counts of directions. Sampling makes k too small; the held-out
            k, the least number of a half's eigenvectors along which the other half has delta of its variance, the
            larger of both ways round, comes out too large. Not a confidence interval: of Gaussian, binary and ReLU
            features it held the true k in 96 % of draws and more, and of rows with 2 % non-zeros in 57 % at worst. None
            without halves.
    """

    value: float | None = field(metadata={"minimum": 0, "maximum": 1})
    dimension: int | None
    width: int
    delta: float = field(metadata={"exclusiveMinimum": 0, "maximum": 1, "finite": True})
    eigenvalues: Float64 = field(metadata={"nullable": True})
    rows: int | None
    samples: int | None
    flags: tuple[str, ...]
    bracket: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EffectiveDimension:
    """How many directions carry a layer's variance, with p_i = l_i / sum l.

    Attributes:
        value: exp(-sum p ln p), Hill number of order 1, in [1, d], a count of directions. (arXiv 2006.04791)
        participation_ratio: (sum l)^2 / sum l^2, order 2.
        participation_ratio_corrected: the same from unbiased estimates of numerator and denominator, bounded to [1, d];
            only with Moments(fourth=True) and n >= 10, otherwise None.
        stable_rank: sum l / l_1, order infinity.
        effective_rank: exp(-sum q ln q), q = sqrt(l) / sum sqrt(l). (Roy, Vetterli 2007)
        rows: n, rows used; None for a bare covariance.
        samples: what the rows are of (images, sequences), a count; None for a bare covariance.
        flags: as for Saturation, and "no_corrected_ratio" (fourth moments were kept, but fewer than ten rows, or an
            estimate of tr Sigma^2 that is not positive).

    Eigenvalues below the floor of rounding (see Spectrum) are no directions.
    value >= participation_ratio >= stable_rank. A constant layer: all 1, flag "constant".
    """

    value: float | None
    participation_ratio: float | None
    participation_ratio_corrected: float | None
    stable_rank: float | None
    effective_rank: float | None
    rows: int | None
    samples: int | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RankMe:
    """exp(-sum p ln p), p_i = s_i / sum s + 1e-7, s the min(n, d) singular values of the uncentred rows.

    Source: Garrido et al., arXiv 2210.02885. Singular values whose squares are below the floor of rounding (see
    Spectrum) count as 0.

    Attributes:
        value: a count of directions. rows: n, rows used; samples: what they are of. flags: as for Saturation.
    """

    value: float
    rows: int
    samples: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SpectrumDecay:
    """How fast eigenvalues fall: the least-squares line of ln l_i on ln i.

    Attributes:
        slope: dimensionless; -1 for l_i = 1/i.
        r_squared: share of the variance of ln l_i that the line explains, in [0, 1].
        window: (first, last) i used, counted from 1; zero eigenvalues, which those below the floor of rounding are (see
            Spectrum), are left out. flags: as for Saturation.
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
    halves: bool = False,
    samples: ArrayLike | int | None = None,
    threads: int | None = None,
) -> Moments:
    """Moments of one array of activations; arguments as of `Moments` and `Moments.update`."""
    rows = arrays.view(x, "from_rows")
    axis = 1 if layout == "channels_first" else -1
    if rows.array.ndim < (2 if axis == 1 else 1):
        raise ShapeError(f"from_rows: got shape {rows.array.shape} with layout {layout!r}, expected rows of units")
    moments = Moments(rows.array.shape[axis], precision=precision, fourth=fourth, halves=halves)
    moments.update(x, layout=layout, mask=mask, samples=samples, threads=threads)
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
        covariance, rounding = given(source, function)
        values, floor = eigenvalues(covariance, function, rounding=rounding)
        return Spectrum(arrays.read_only(values), floor, len(values), None, None, None, None, ())
    n, width = source.count, source.width
    if n < 2:
        raise TooFewRows(f"{function}: got {n} row{'' if n == 1 else 's'}, expected at least 2")
    covariance = source.covariance()
    values, floor = eigenvalues(covariance, function, errors=products(source, covariance))
    corrected = None
    if source.keeps_fourth:
        corrected = _core.saturation.corrected_participation_ratio(values, n=n, fourth=source.fourth())
    missing = source.keeps_fourth and corrected is None and values[0] > 0
    flags = (*_flags_of(source), *_flags((missing, "no_corrected_ratio")))
    return Spectrum(
        arrays.read_only(values), floor, width, n, source.samples, corrected, held_out(source, function), flags
    )


def _flags_of(moments: Moments) -> tuple[str, ...]:
    return _flags(
        (moments.count < ROWS_PER_UNIT * moments.width, "few_rows"),
        (moments.samples < FEWEST_SAMPLES, "few_samples"),
        (moments.nonfinite > 0, "nonfinite"),
    )


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
    flags = tuple(flag for flag in s.flags if flag != "no_corrected_ratio") + _flags((constant, "constant"))
    bracket = None
    if s.held_out is not None:
        bracket = dimension, max(dimension, *(_least(variances, delta) for variances in s.held_out))
    return Saturation(value, dimension, s.width, delta, s.eigenvalues, s.rows, s.samples, flags, bracket)


def _least(variances: Float64, delta: float) -> int:
    """The least number of leading directions that carry `delta` of the variance; 0 where there is none."""
    shares = np.cumsum(variances)
    if shares[-1] == 0:
        return 0
    return min(int(np.searchsorted(shares, (delta - 1e-12) * shares[-1])) + 1, len(variances))


def effective_dimension(source: Moments | Spectrum | ArrayLike) -> EffectiveDimension:
    """Number of directions that carry a layer's variance; see `EffectiveDimension`. Arguments as of `saturation`.

    >>> import numpy as np
    >>> round(effective_dimension(np.eye(5)).value, 6)
    5.0
    """
    s = _spectrum(source, "effective_dimension")
    value, ratio, stable, rank, constant = _core.saturation.effective_dimension(s.eigenvalues)
    flags = s.flags + _flags((constant, "constant"))
    return EffectiveDimension(value, ratio, s.participation_ratio_corrected, stable, rank, s.rows, s.samples, flags)


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
    mean, covariance = moments.mean, moments.covariance()
    errors = products(moments, covariance)
    values, _ = eigenvalues(covariance + np.outer(mean, mean), "rankme", errors=errors)
    singular = np.sqrt(values[: min(n, moments.width)])
    flags = _flags_of(moments)
    total = float(singular.sum())
    if total == 0:
        return RankMe(1.0, n, moments.samples, (*flags, "constant"))
    p = singular / total + 1e-7
    return RankMe(float(np.exp(-np.sum(p * np.log(p)))), n, moments.samples, flags)


def spectrum_decay(source: Moments | Spectrum | ArrayLike, window: tuple[int, int] | None = None) -> SpectrumDecay:
    """Slope of ln l_i on ln i; see `SpectrumDecay`.

    Args:
        window: (first, last) i, counted from 1, both included; None: every eigenvalue above the floor of rounding.

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


def _flags(*flags: tuple[bool, str]) -> tuple[str, ...]:
    return tuple(name for holds, name in flags if holds)
