"""How a quantity grows over training: a power law beside saturation, and which of them explains it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base.errors import DomainError, ShapeError, TooFewRows

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike

Float64: TypeAlias = NDArray[np.float64]

#: Of the variance of ln y: what a fit must explain to be named.
EXPLAINS = 0.9
#: By how much its residual must be the smaller one.
BETTER = 1.1
#: Points at least: one more than a saturating fit has parameters.
FEWEST = 4
#: Residuals of ln y below this are rounding.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Growth:
    """Two fits of the same points, compared by their residuals on ln y.

    power law     y = prefactor step^slope, least squares of ln y on ln step
    saturation    y = limit - gap exp(-step / scale), least squares on ln y

    A residual is sqrt(RSS / (points - parameters)), RSS = sum (ln y - ln fit)^2, with 2 and 3 parameters; R^2 is
    1 - RSS / sum (ln y - mean)^2. A straight line on logarithmic axes is no evidence of a power law by itself: hence
    the other fit.

    Attributes:
        slope: of ln y on ln step, dimensionless. prefactor: y at step 1, in units of y. r_squared: <= 1.
        residual: dimensionless.
        limit, gap: in units of y; scale: in steps. saturation_r_squared, saturation_residual: likewise.
        better: "power" or "saturation", the fit whose residual is smaller by a tenth at least, if it explains 90 % of
            the variance of ln y; otherwise "neither". Saturation is named only where a limit is there: neither
            "unbounded" nor "accelerating".
        points: used by both fits. window: (first, last) step among them.
        flags: "left_out" (steps or values that are not positive or not finite), "constant" (all y are equal),
            "poor" (neither explains enough), "tie" (both explain alike), "unbounded" (a straight line explains the
            values as well, within a tenth of the residual: the limit is a guess), "accelerating" (the same curve bent
            the other way, away from any limit, explains them better by a tenth).
    """

    slope: float
    prefactor: float
    r_squared: float
    residual: float
    limit: float
    gap: float
    scale: float
    saturation_r_squared: float
    saturation_residual: float
    better: str
    points: int
    window: tuple[float, float]
    flags: tuple[str, ...]


def growth(steps: ArrayLike, values: ArrayLike, *, window: Sequence[float] | None = None) -> Growth:
    """Fits a power law and saturation to values over steps; see `Growth`.

    Args:
        steps, values: (n,) numbers. Both fits leave out what has no logarithm.
        window: (first, last) step, both included; None: all.

    Raises:
        ShapeError: not two lists of one length. DomainError: a window that ends before it begins. TooFewRows: fewer
        than four points, or than three different steps.

    >>> import numpy as np
    >>> steps = np.arange(1, 50)
    >>> fit = growth(steps, 3 * steps**0.5)
    >>> fit.better, round(fit.slope, 6), round(fit.prefactor, 6)
    ('power', 0.5, 3.0)
    >>> fit = growth(steps, 2 - np.exp(-steps / 7))
    >>> fit.better, round(fit.limit, 6), round(fit.scale, 4)
    ('saturation', 2.0, 7.0)
    """
    x, y, left_out = _points(steps, values, window)
    log_y = np.log(y)
    spread = float(((log_y - log_y.mean()) ** 2).sum())
    constant = spread <= len(y) * ROUNDING**2
    slope, prefactor, power_rss = _power(np.log(x), log_y)
    limit, gap, scale, saturation_rss, line_rss = _saturation(x, y)
    if constant:
        slope, limit, gap, power_rss, saturation_rss = 0.0, float(y.mean()), 0.0, 0.0, 0.0
    explained = [1.0 if constant else 1 - rss / spread for rss in (power_rss, saturation_rss)]
    residuals = [(rss / (len(x) - k)) ** 0.5 for rss, k in ((power_rss, 2), (saturation_rss, 3))]
    limitless = _limitless(x, y, saturation_rss, line_rss)
    verdict = _verdict(explained, residuals, limitless)
    flags = {
        "left_out": left_out, "constant": constant, "poor": verdict == "poor",
        "tie": verdict == "tie" and not constant, "unbounded": limitless == "unbounded" and not constant,
        "accelerating": limitless == "accelerating" and not constant,
    }  # fmt: skip
    better = verdict if verdict in ("power", "saturation") and not constant else "neither"
    return Growth(
        slope, prefactor, explained[0], residuals[0], limit, gap, scale, explained[1], residuals[1],
        better, len(x), (float(x.min()), float(x.max())),
        tuple(flag for flag, holds in flags.items() if holds),
    )  # fmt: skip


def _points(steps: ArrayLike, values: ArrayLike, window: Sequence[float] | None) -> tuple[Float64, Float64, bool]:
    """Steps and values inside the window that have a logarithm, and whether others were left out."""
    x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ShapeError(f"growth: got steps of shape {x.shape} and values of shape {y.shape}, expected (n,) twice")
    if window is not None:
        first, last = (float(step) for step in window) if len(window) == 2 else (math.nan, math.nan)
        if not first < last:
            raise DomainError(f"growth: got window {tuple(window)}, expected (first, last), first < last")
        inside = (x >= first) & (x <= last)
        x, y = x[inside], y[inside]
    usable = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    left_out = not usable.all()
    x, y = x[usable], y[usable]
    if len(x) < FEWEST or len(np.unique(x)) < FEWEST - 1:
        raise TooFewRows(
            f"growth: got {len(x)} points at {len(np.unique(x))} steps that count (step > 0, value > 0),"
            f" expected at least {FEWEST} at {FEWEST - 1}"
        )
    return x, y, left_out


def _limitless(x: Float64, y: Float64, saturation_rss: float, line_rss: float) -> str:
    """Why the limit of a saturating fit is none: "unbounded" or "accelerating"; "" where it is one."""
    tolerance = len(x) * ROUNDING**2
    if line_rss >= BETTER**2 * max(saturation_rss, tolerance):
        return ""
    # exp(+step / scale): the mirror image of saturation, from a thirtieth of the span, behind which exp is a cliff
    span = float(x.max() - x.min())
    mirrored = -np.exp(np.linspace(np.log(span / 30), np.log(100 * span), 60))
    away = max(float(_fits(x - x.min(), y, mirrored)[2].min()), tolerance)
    return "accelerating" if line_rss >= BETTER**2 * away else "unbounded"


def _verdict(explained: Sequence[float], residuals: Sequence[float], limitless: str) -> str:
    """ "power" or "saturation", or why neither is named: "poor", "tie", or that the limit is none."""
    if max(explained) < EXPLAINS:
        return "poor"
    least, most = sorted(max(residual, ROUNDING) for residual in residuals)
    if most < BETTER * least:
        return "tie"
    return "power" if residuals[0] < residuals[1] else limitless or "saturation"


def _power(log_x: Float64, log_y: Float64) -> tuple[float, float, float]:
    """(slope, prefactor, RSS)."""
    dx = log_x - log_x.mean()
    slope = float(dx @ log_y / (dx @ dx))
    rest = log_y - log_y.mean() - slope * dx
    return slope, float(np.exp(log_y.mean() - slope * log_x.mean())), float(rest @ rest)


def _saturation(x: Float64, y: Float64) -> tuple[float, float, float, float, float]:
    """(limit, gap, scale, RSS, RSS at the largest scale, where the curve is a straight line).

    One dimension is searched, the logarithm of the scale, by grids that close in on their best point. For each scale
    limit and gap follow.
    """
    begin, span = float(x.min()), float(x.max() - x.min())
    low, high = np.log(float(np.diff(np.unique(x)).min()) / 4), np.log(100 * span)
    grid = np.linspace(low, high, 120)
    line = np.inf
    for _ in range(6):
        limits, gaps, rss = _fits(x - begin, y, np.exp(grid))
        line = min(line, float(rss[-1])) if grid[-1] == high else line
        best = int(np.argmin(rss))
        found = float(limits[best]), float(gaps[best]), float(np.exp(grid[best])), float(rss[best])
        grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], 41)
    limit, gap, scale, least = found
    # where steps begin late, the gap at step 0 may be beyond float64
    return limit, gap * float(np.exp(min(begin / scale, 700.0))), scale, least, line


def _fits(x: Float64, y: Float64, scales: Float64) -> tuple[Float64, Float64, Float64]:
    """For each scale the best limit, gap at x = 0, and RSS on ln y.

    Gauss-Newton steps on ln y, each halved until it helps, from the mean: where fit = limit - gap e and w = 1/fit, a
    step solves ln y - ln fit = w dm - w (e - e0) db in least squares, e0 the mean of e weighted by w^2.
    """
    log_y = np.log(y)
    e = np.exp(-x / scales[:, None])
    limit, gap = np.full(len(scales), np.exp(log_y.mean())), np.zeros(len(scales))

    def residuals(limit: Float64, gap: Float64) -> tuple[Float64, Float64, Float64]:
        fit = limit[:, None] - gap[:, None] * e
        positive = (fit > 0).all(axis=1)
        fit[~positive] = 1.0
        rest = log_y - np.log(fit)
        return fit, rest, np.where(positive, (rest**2).sum(axis=1), np.inf)

    fit, rest, rss = residuals(limit, gap)
    for _ in range(40):
        w = 1 / fit
        total = (w * w).sum(axis=1)
        centre = (w * w * e).sum(axis=1) / total
        tilt = w * (e - centre[:, None])
        spread = (tilt * tilt).sum(axis=1)
        db = -(tilt * rest).sum(axis=1) / np.where(spread > 0, spread, 1)
        dm = (w * rest).sum(axis=1) / total
        share = np.ones(len(scales))
        for _ in range(12):
            new_limit, new_gap = limit + share * (dm + db * centre), gap + share * db
            new_fit, new_rest, new_rss = residuals(new_limit, new_gap)
            worse = ~(new_rss < rss)
            if not worse.any():
                break
            share[worse] /= 2
        better = new_rss < rss
        gain = float(np.max(np.where(better, rss - new_rss, 0) / np.maximum(rss, 1e-300)))
        limit, gap = np.where(better, new_limit, limit), np.where(better, new_gap, gap)
        rss = np.where(better, new_rss, rss)
        fit, rest = np.where(better[:, None], new_fit, fit), np.where(better[:, None], new_rest, rest)
        if gain < 1e-10:
            break
    return limit, gap, rss
