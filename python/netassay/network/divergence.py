"""How far two distributions are from each other, and how far two samples of one distribution would be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base import arrays
from netassay.base.checks import require
from netassay.base.errors import DomainError, DTypeError, NonFinite, ShapeError, TooFewRows

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike

Float64: TypeAlias = NDArray[np.float64]

KINDS = ("jensen_shannon", "jeffreys")
#: Bins of samples, where none are asked for: with fewer than ten values each a permutation test sees nothing.
FEWEST_BINS, MOST_BINS, _VALUES_A_BIN = 4, 32, 10
#: Beyond so many values numpy has no hypergeometric numbers; by then two multinomials differ from them by 1e-9.
_MOST_DRAWN = 10**9


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far two distributions are apart, beside what chance alone gives.

    With P and Q the shares of the bins, each count raised by 1/2, and M = (P + Q) / 2:
    jensen_shannon = (sum P log2(P / M) + sum Q log2(Q / M)) / 2, bits, in [0, 1];      (Lin 1991)
    jeffreys = sum (P - Q) ln(P / Q), nats.                                             (Jeffreys 1946)

    Attributes:
        value: in bits or nats.
        null_mean, null_std: of the same, where the pooled values are dealt out anew to samples of the two sizes; None
            without permutations.
        excess: value - null_mean: above 0 where the samples differ by more than chance. It is no estimate of the
            divergence of the distributions: where they differ it is far below (the null deals out a mixture of both).
        p_value: (1 + permutations that come to the value or more) / (1 + permutations).
        kind: "jensen_shannon" or "jeffreys".
        flags: "single_bin": all values lie in one bin, so that nothing can differ.
    """

    value: float
    null_mean: float | None
    null_std: float | None
    excess: float | None
    p_value: float | None
    kind: str
    flags: tuple[str, ...]


def divergence(
    a: ArrayLike | Any,
    b: ArrayLike | Any,
    *,
    kind: str = "jensen_shannon",
    counts: bool = False,
    bins: int | None = None,
    edges: ArrayLike | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> Divergence:
    """How far two samples, or two densities on a shared grid, are apart; see `Divergence`.

    Densities are piecewise constant, so that the width of a bin cancels in P / M and P / Q: bins may be of any widths
    so long as both sides share them. Bins that are empty on both sides are left out, so a finer or longer grid alone
    changes nothing there. The null takes values as exchangeable: it is no test where those of one sample depend on
    each other, as the strengths of one network's units do to some degree.

    Args:
        a, b: samples of any shape; or results that have a `density` on the shared grid (`LinkWeights`, `LayerLinks`);
            or, with counts=True, (k,) counts of the same k bins.
        kind: "jensen_shannon" or "jeffreys".
        counts: whether arrays are counts.
        bins: of samples, at most so many, between quantiles of the pooled values: as many values in each, whatever
            their scale and tails. None: a tenth of the number of pooled values, at least 4 and at most 32: more bins
            would leave the test without power where values are few.
        edges: of samples, instead: ascending, inner edges of the bins; a value on one counts with the greater ones.
        permutations: 0: no null.
        seed: of the permutations; the same numbers for the same seed.

    Raises:
        ShapeError: counts of unequal length. TooFewRows: a side without values. NonFinite: a NaN or an infinity.
        DTypeError: counts that are no integers. DomainError: an option outside its domain, a negative count.

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> near = divergence(random.normal(size=500), random.normal(size=500))
    >>> far = divergence(random.normal(size=500), random.normal(2, size=500))
    >>> near.value < 0.05 < near.p_value, far.value > 0.4, far.p_value < 0.01
    (True, True, True)
    """
    name = "divergence"
    require(name, kind in KINDS, "kind", kind, f"one of {KINDS}")
    require(name, bins is None or bins >= 2, "bins", bins, "at least 2")
    require(name, permutations >= 0, "permutations", permutations, "at least 0")
    require(name, seed >= 0, "seed", seed, "at least 0")
    sides = _histograms(a, b, counts, bins, edges, name)
    held = (sides[0] + sides[1]) > 0
    first, second = sides[0][held], sides[1][held]
    null = dealt(first, second, permutations, np.random.default_rng(seed)) if permutations else None
    return judged(first, second, null, kind)


def judged(
    a: NDArray[np.int64], b: NDArray[np.int64], null: tuple[NDArray[Any], NDArray[Any]] | None, kind: str
) -> Divergence:
    """The divergence of two histograms without bins that are empty in both, beside those of a null.

    Args:
        a, b: (bins,) counts. null: (permutations, bins) counts of either side, or None.
    """
    measure = _KINDS[kind]
    value = float(measure(a[None], b[None])[0])
    flags = ("single_bin",) if a.size == 1 else ()
    if null is None:
        return Divergence(value, None, None, None, None, kind, flags)
    chance = measure(*null)
    mean = float(chance.mean())
    # a permutation that gives the same counts must count, whatever its last bits are
    reached = int(np.count_nonzero(chance >= value - 1e-12 * max(1.0, value)))
    p_value = (1 + reached) / (1 + chance.size)
    return Divergence(value, mean, float(chance.std()), value - mean, p_value, kind, flags)


def _jensen_shannon(a: NDArray[Any], b: NDArray[Any]) -> Float64:
    """(permutations, bins) each -> bits."""
    p, q = _shares(a), _shares(b)
    m = (p + q) / 2
    bits: Float64 = (p * np.log2(p / m) + q * np.log2(q / m)).sum(axis=1) / 2
    return np.clip(bits, 0, 1)


def _jeffreys(a: NDArray[Any], b: NDArray[Any]) -> Float64:
    """(permutations, bins) each -> nats."""
    p, q = _shares(a), _shares(b)
    nats: Float64 = ((p - q) * np.log(p / q)).sum(axis=1)
    return nats


_KINDS = {"jensen_shannon": _jensen_shannon, "jeffreys": _jeffreys}


def _shares(counts: NDArray[Any]) -> Float64:
    smooth = counts + 0.5
    shares: Float64 = smooth / smooth.sum(axis=1, keepdims=True)
    return shares


def dealt(
    a: NDArray[np.int64], b: NDArray[np.int64], times: int, random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The pooled values dealt out anew: histograms of samples without replacement, (times, bins) each."""
    pooled, size = a + b, int(a.sum())
    total = int(pooled.sum())
    if total < _MOST_DRAWN:
        # the smaller side is drawn, which is the faster way
        swap = size > total - size
        drawn = random.multivariate_hypergeometric(pooled, total - size if swap else size, times, method="marginals")
        return (pooled - drawn, drawn) if swap else (drawn, pooled - drawn)
    shares = pooled / total
    return random.multinomial(size, shares, times), random.multinomial(total - size, shares, times)


def _histograms(
    a: Any, b: Any, counts: bool, bins: int | None, edges: ArrayLike | None, function: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    given = [density_of(side) for side in (a, b)]
    if counts:
        given = [np.asarray(side.detach().cpu() if arrays.is_tensor(side) else side) for side in (a, b)]
    first, second = given
    if first is not None and second is not None:
        return _counted(first, second, function)
    if first is not None or second is not None:
        raise DomainError(f"{function}: got a density and a sample, expected two densities or two samples")
    return _binned(sample(a, function), sample(b, function), bins, edges, function)


def density_of(side: Any) -> NDArray[Any] | None:
    """The counts of a result, with or without its edges."""
    density = getattr(side, "density", None)
    if density is None:
        return None
    return np.asarray(density[1] if isinstance(density, tuple) else density)


def _counted(a: NDArray[Any], b: NDArray[Any], function: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if a.ndim != 1 or a.shape != b.shape or a.size == 0:
        raise ShapeError(f"{function}: got counts of shapes {a.shape} and {b.shape}, expected (k,) and (k,)")
    for side in (a, b):
        if side.dtype.kind not in "iu":
            raise DTypeError(f"{function}: got counts of dtype {side.dtype.name}, expected integers")
        if side.dtype.kind == "i" and (side < 0).any():
            raise DomainError(f"{function}: got a count of {side.min()}, expected none below 0")
        if not side.any():
            raise TooFewRows(f"{function}: got counts that are all 0, expected at least one value on either side")
    if a.sum(dtype=np.float64) + b.sum(dtype=np.float64) >= 2**63:
        raise DomainError(f"{function}: got counts of 2**63 and more, expected fewer")
    return a.astype(np.int64), b.astype(np.int64)


def sample(side: ArrayLike, function: str) -> Float64:
    """The values of an array, in float64. Raises DTypeError, TooFewRows, NonFinite; `function` begins the message."""
    if arrays.is_tensor(side) and not side.is_complex():
        side = side.detach().cpu().double().numpy()  # numpy has no bfloat16
    array = np.asarray(side)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{function}: got values of dtype {array.dtype.name}, expected real numbers")
    values = array.astype(np.float64).ravel()
    if values.size == 0:
        raise TooFewRows(f"{function}: got a sample of no values, expected at least one")
    if not np.isfinite(values).all():
        raise NonFinite(f"{function}: got a NaN or an infinity, expected finite values")
    return values


def _binned(
    a: Float64, b: Float64, bins: int | None, edges: ArrayLike | None, function: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if edges is None:
        inner = quantile_edges(np.concatenate([a, b]), bins)
    else:
        inner = np.asarray(edges, dtype=np.float64)
        if inner.ndim != 1 or inner.size == 0 or np.isnan(inner).any() or (np.diff(inner) <= 0).any():
            raise DomainError(f"{function}: got edges of shape {inner.shape}, expected (k,), ascending")
    return histogram(a, inner), histogram(b, inner)


def quantile_edges(values: Float64, bins: int | None) -> Float64:
    """Inner edges of at most so many bins of as many values each; distinct, so that equal values are never split.

    Args:
        bins: None: ten values each, and from 4 to 32 bins.
    """
    if bins is None:
        bins = min(max(values.size // _VALUES_A_BIN, FEWEST_BINS), MOST_BINS)
    return np.unique(np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf"))


def histogram(values: Float64, edges: Float64) -> NDArray[np.int64]:
    """Counts between inner edges; a value on one counts with the greater ones."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=edges.size + 1).astype(np.int64)
