"""Activation patterns: the bits of a sample's units, how many are distinct, and how far they lie apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base import arrays
from netassay.base.errors import DomainError, LimitExceeded, TooFewRows
from netassay.complexity.switching import Switching

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike

    Float64: TypeAlias = NDArray[np.float64]
    Bits: TypeAlias = NDArray[np.uint8]

#: Samples whose kernel is at most so many.
MOST_SAMPLES = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Naswot:
    """The kernel of activation patterns z in {0, 1}^D: K_ij = z_i z_j^T + (1 - z_i)(1 - z_j)^T = D - Hamming distance.
    (Mellor et al., "Neural Architecture Search without Training", arXiv 2006.04647)

    Attributes:
        log_determinant: ln det K, natural logarithm, dimensionless; -inf where K is singular.
        kernel: (n, n) float64, counts of units. The order of samples is that of their patterns.
        samples: n. units: D, units at all positions. distinct: patterns that differ.
        flags: "singular": samples that coincide, or n > D + 1, beyond the rank that K can have.
    """

    log_determinant: float
    kernel: Float64
    samples: int
    units: int
    distinct: int
    flags: tuple[str, ...]


def naswot(a: ArrayLike | Switching, **options: Any) -> Naswot:
    """The NASWOT kernel of samples and its log-determinant; see `Naswot`.

    Args:
        a: activations in front of a nonlinearity, (N, C, ...), or a `Switching` that keeps patterns.
        options: as of `Switching`, for activations.

    Raises:
        DomainError: a state without patterns. TooFewRows: no samples. LimitExceeded: more than 20,000 samples.
        What `Switching.update` raises.

    >>> import numpy as np
    >>> k = naswot(np.array([[1.0, 1.0], [-1.0, 1.0]]), layout="rows")
    >>> k.kernel.tolist(), round(k.log_determinant, 6)
    ([[2.0, 1.0], [1.0, 2.0]], 1.098612)
    """
    bits, units = _patterns(a, "naswot", options)
    n = len(bits)
    if n > MOST_SAMPLES:
        raise LimitExceeded(f"naswot: got {n} samples, expected at most {MOST_SAMPLES} ({8 * n * n / 1e9:.0f} GB)")
    z = np.unpackbits(bits, axis=1, count=units, bitorder="little").astype(np.float32)
    # exact in float32 up to 2^24 units, in float64 beyond
    z = z if units < 1 << 24 else z.astype(np.float64)
    on = z @ z.T
    total = z.sum(axis=1, dtype=np.float64)
    kernel = units - (total[:, None] + total[None, :]) + 2.0 * on.astype(np.float64)
    distinct = _distinct(bits)
    singular = distinct < n or n > units + 1
    log_determinant = float("-inf")
    if not singular:
        sign, log_determinant = (float(x) for x in np.linalg.slogdet(kernel))
        if sign <= 0 or not np.isfinite(log_determinant):
            singular, log_determinant = True, float("-inf")
    return Naswot(log_determinant, arrays.read_only(kernel), n, units, distinct, ("singular",) if singular else ())


def distinct_patterns(a: ArrayLike | Switching, **options: Any) -> int:
    """How many different activation patterns the samples have, a count; arguments as of `naswot`.

    >>> import numpy as np
    >>> distinct_patterns(np.array([[1.0, -1.0], [2.0, -3.0], [1.0, 1.0]]), layout="rows")
    2
    """
    return _distinct(_patterns(a, "distinct_patterns", options)[0])


def _patterns(a: ArrayLike | Switching, function: str, options: dict[str, Any]) -> tuple[Bits, int]:
    """((samples, bytes), units): the bits of each sample, in the order of the patterns, so that merges' order is of no
    account."""
    if isinstance(a, Switching):
        if options:
            raise DomainError(f"{function}: got options {sorted(options)} for a state, expected none")
        state = a
    else:
        state = Switching(patterns=True, **{"positions": False, **options})
        state.update(a)
    if not state.config()["patterns"]:
        raise DomainError(f"{function}: got a state without patterns, expected Switching(patterns=True)")
    counts = state.counts()
    if counts["samples"] == 0:
        raise TooFewRows(f"{function}: got no samples, expected at least one")
    if counts["shape_varies"]:
        raise DomainError(f"{function}: got positions whose shape has varied, expected the same units in all samples")
    bits = counts["patterns"].view(np.uint8)
    whole = bits.view(np.dtype((np.void, bits.shape[1])))[:, 0]  # compared byte by byte
    return bits[np.argsort(whole)], counts["units"] * int(np.prod(counts["shape"], dtype=np.int64))


def _distinct(ordered: Bits) -> int:
    """Of patterns in order."""
    return 1 + int((ordered[1:] != ordered[:-1]).any(axis=1).sum())
