"""Distribution: streamed values, mergeable over batches, threads, ranks, machines and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netassay._core import network as native
from netassay.base import arrays
from netassay.base import threads as _threads
from netassay.base.errors import TooFewRows
from netassay.base.state import NativeState
from netassay.network.described import Described
from netassay.network.links import QUANTILES, Float64, shares

if TYPE_CHECKING:
    from typing_extensions import Self

    from netassay.base.arrays import ArrayLike

_PARTS = ("totals", "moments", "keys", "counts")
_AXES = 9  # what the native core walks


@dataclass(frozen=True, slots=True, eq=False)
class Values(Described):
    """How values are distributed: what a Distribution has seen.

    mean = sum x / N, variance = M2 / N, skewness = sqrt(N) M3 / M2^1.5, kurtosis = N M4 / M2^2 - 3 (excess), with
    M_k = sum (x - mean)^k; the last two are 0 where all values are equal.

    Attributes:
        count: N, finite values.
        mean, variance, skewness, kurtosis: population moments, in float64; in the values' units, those squared, and
            without unit.
        minimum, maximum: exact.
        zero_share, positive_share: of values that are 0, and above 0, in [0, 1]. Exact.
        quantiles: float64, in the order in which they were asked for: linear between order statistics, each of which is
            off by less than 2^-7 of itself (where its magnitude is from 2^-126 to 2^128). Exact where all values were
            bfloat16.
        density: uint64, counts between neighbouring edges of `grid()`, which all weights and values share. Exact.
        nonfinite: NaNs and infinities, left out.
        flags: "constant" (all values equal), "zero" (all are 0), "single" (N = 1), "nonfinite" (some were left out).
    """

    positive_share: float
    quantiles: Float64
    density: NDArray[np.uint64]
    nonfinite: int
    flags: tuple[str, ...]


class Distribution(NativeState):
    """Streamed values: moments, extremes, zeros and a histogram; merge makes one of many.

    A NaN or an infinity is left out and counted: the state equals the one without it. Counts, extremes and quantiles
    depend on the values alone; moments are sums in float64 whose last bits depend on how updates and merges followed
    each other, never on threads. A call that raises leaves the state as it was. Threads may share one. It takes 1 KiB
    for every factor of two between the magnitudes of its values.

    Source: streamed distributions of neuron strengths and activations as in La Malfa et al., "Deep Neural Networks as
    Complex Networks" (arXiv 2209.05488); Pebay's formulas for one-pass moments (SAND2008-6212).

    >>> import numpy as np
    >>> d = Distribution()
    >>> d.update(np.array([[1.0, 2.0], [3.0, 0.0]]))
    >>> d.update(np.array([np.nan, 4.0]))
    >>> found = d.result(quantiles=(0.0, 1.0))
    >>> found.count, found.mean, found.variance, found.positive_share, found.quantiles.tolist(), found.flags
    (5, 2.0, 2.0, 0.8, [0.0, 4.0], ('nonfinite',))
    """

    __slots__ = ()
    kind = "distribution"

    _native: native.Distribution

    def __init__(self) -> None:
        self._native = native.Distribution()

    def update(self, x: ArrayLike, *, threads: int | None = None) -> None:
        """Takes the values of x before it returns; none are there in an array of size 0.

        Args:
            x: float64, float32, bfloat16 or float16 of any shape and strides; numpy arrays and torch CPU tensors are
                not copied.
            threads: at most so many; never change the result.

        Raises:
            DTypeError, UnsupportedLayout, ForkError; the state is then unchanged.
        """
        array, dtype = arrays.view(x, "Distribution.update")
        if not 1 <= array.ndim <= _AXES:
            array = array.reshape(-1)
        self._native.update(array, dtype, threads=_threads.resolve(threads))

    @property
    def count(self) -> int:
        """Finite values taken."""
        return self._native.count

    @property
    def nonfinite(self) -> int:
        """NaNs and infinities left out."""
        return self._native.nonfinite

    def result(self, quantiles: Sequence[float] = QUANTILES) -> Values:
        """What was seen.

        Args:
            quantiles: shares in [0, 1].

        Raises:
            TooFewRows: no finite value. DomainError: a share outside [0, 1].
        """
        asked = shares(quantiles, "Distribution.result")
        state = self._native.copy()  # of one moment, whatever other threads do
        if state.count == 0:
            raise TooFewRows(f"Distribution.result: got no finite values ({state.nonfinite} left out), expected one")
        count, mean, variance, skewness, kurtosis, minimum, maximum, zeros, values, density = state.result(
            quantiles=asked
        )
        left_out = state.nonfinite
        flags = {
            "constant": minimum == maximum,
            "zero": zeros == count,
            "single": count == 1,
            "nonfinite": left_out > 0,
        }
        return Values(
            count, mean, variance, skewness, kurtosis, minimum, maximum, zeros / count, state.positives / count,
            arrays.read_only(values), arrays.read_only(density), left_out,
            tuple(flag for flag, holds in flags.items() if holds),
        )  # fmt: skip

    def config(self) -> dict[str, Any]:
        """Nothing: there are no options."""
        return {}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The state as named arrays (int64, float64), for a state file; `from_tensors` makes it again exactly."""
        return dict(zip(_PARTS, self._native.parts(), strict=True))

    @classmethod
    def _restored(cls, config: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        return cls._wrap(native.Distribution.from_parts(**{name: tensors[name] for name in _PARTS}))

    def __repr__(self) -> str:
        left_out = f", nonfinite={self.nonfinite}" if self.nonfinite else ""
        return f"Distribution(count={self.count}{left_out})"
