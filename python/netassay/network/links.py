"""The weights of a layer's links: how they are distributed, and what they come to at every unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay._core import network as native
from netassay.base import arrays
from netassay.base import threads as _threads
from netassay.base.errors import DomainError, NonFinite, ShapeError
from netassay.network.described import Described

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike, View

Float64: TypeAlias = NDArray[np.float64]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class LinkWeights(Described):
    """How the weights of a layer are distributed.

    mean = sum w / N, variance = M2 / N, skewness = sqrt(N) M3 / M2^1.5, kurtosis = N M4 / M2^2 - 3 (excess), with
    M_k = sum (w - mean)^k; the last two are 0 where all weights are equal. (La Malfa et al., arXiv 2209.05488)

    Attributes:
        count: N, links: weights, and biases where they were given.
        mean, variance, skewness, kurtosis: population moments, in float64; in the weights' units, those squared, and
            without unit.
        minimum, maximum: exact.
        zero_share: of weights that are 0, in [0, 1].
        quantiles: float64, in the order in which they were asked for: linear between order statistics. Exact for
            formats of 16 and 8 bits; for float32 and float64 each order statistic is off by less than 2^-7 of itself
            (where its magnitude is from 2^-126 to 2^128), or, where the range maximum - minimum is less than a quarter
            of max |w|, than 2^-16 of the range.
        density: uint64, counts between neighbouring edges of `grid()`, which all matrices share, so that they may be
            added to those of others. Exact; a magnitude on an edge counts with the greater ones.
        flags: "constant" (all weights equal), "zero" (all are 0), "single" (N = 1).
    """

    quantiles: Float64
    density: NDArray[np.uint64]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LinkSums:
    """What the weights of every row (output) and column (input) come to: sums of w, |w| and w^2, in float64.

    The sum of the positive weights is (absolute + sum) / 2, of the negative ones (sum - absolute) / 2.
    """

    row_sum: Float64
    row_absolute: Float64
    row_square: Float64
    column_sum: Float64
    column_absolute: Float64
    column_square: Float64


def link_weights(
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    quantiles: Sequence[float] = QUANTILES,
    threads: int | None = None,
) -> LinkWeights:
    """How the weights of a layer are distributed, from one read.

    Args:
        weight: (out, in, ...) in float64, float32, bfloat16, float16, an 8-bit float, int8 or uint8.
        bias: (out,), in any of these formats: one more link of every output.
        quantiles: shares in [0, 1].
        threads: never change the result.

    Raises:
        ShapeError: fewer than two axes, no weights, a bias of another length. DTypeError. NonFinite: a NaN or an
        infinity, by its index. DomainError: a share outside [0, 1].

    Source: La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488).

    >>> import numpy as np
    >>> links = link_weights(np.array([[1.0, 2.0], [3.0, 0.0]]), quantiles=(0.0, 1.0))
    >>> links.count, links.mean, links.variance, links.zero_share, links.quantiles.tolist()
    (4, 1.5, 1.25, 0.25, [0.0, 3.0])
    """
    name = "link_weights"
    array, dtype = _matrix(weight, name)
    parts = [(array, dtype)]
    if bias is not None:
        column, kind = arrays.weight_view(bias, name)
        if column.shape != (array.shape[0],):
            raise ShapeError(f"{name}: got a bias of shape {column.shape}, expected ({array.shape[0]},)")
        parts.append((column[None, :], kind))
    asked = shares(quantiles, name)
    try:
        return _described(native.link_weights(parts, quantiles=asked, threads=_threads.resolve(threads)))
    except NonFinite:
        raise arrays.nonfinite(weight, name, bias) from None


def survey(
    weight: ArrayLike, *, quantiles: Sequence[float] = QUANTILES, threads: int | None = None
) -> tuple[LinkWeights, LinkSums]:
    """`link_weights` and `sums` of one weight, from one read of both.

    Raises:
        As these do.

    >>> import numpy as np
    >>> links, total = survey(np.array([[1.0, -2.0], [3.0, 0.0]]))
    >>> links.mean, total.row_sum.tolist()
    (0.5, [-1.0, 3.0])
    """
    array, dtype = _matrix(weight, "survey")
    asked = shares(quantiles, "survey")
    try:
        links, total = native.link_survey(array, dtype, quantiles=asked, threads=_threads.resolve(threads))
    except NonFinite:
        raise arrays.nonfinite(weight, "survey") from None
    return _described(links), LinkSums(*(arrays.read_only(values) for values in total))


def sums(weight: ArrayLike, *, threads: int | None = None) -> LinkSums:
    """Sums of w, |w| and w^2 of every row and column, from one read.

    Args:
        weight: (out, in, ...) as `link_weights` takes it; columns are those of (out, the rest).
        threads: never change the result.

    Raises:
        ShapeError, DTypeError, NonFinite: as `link_weights`.

    >>> import numpy as np
    >>> links = sums(np.array([[1.0, -2.0], [3.0, 0.0]]))
    >>> links.row_sum.tolist(), links.column_absolute.tolist()
    ([-1.0, 3.0], [4.0, 2.0])
    """
    array, dtype = _matrix(weight, "sums")
    try:
        found = native.sums(array, dtype, threads=_threads.resolve(threads))
    except NonFinite:
        raise arrays.nonfinite(weight, "sums") from None
    return LinkSums(*(arrays.read_only(values) for values in found))


def _described(found: native.Statistics) -> LinkWeights:
    count, mean, variance, skewness, kurtosis, minimum, maximum, zeros, values, density = found
    flags = {"constant": minimum == maximum, "zero": zeros == count, "single": count == 1}
    return LinkWeights(
        count, mean, variance, skewness, kurtosis, minimum, maximum, zeros / count,
        arrays.read_only(values), arrays.read_only(density),
        tuple(flag for flag, holds in flags.items() if holds),
    )  # fmt: skip


def _matrix(weight: ArrayLike, function: str) -> View:
    """(out, the rest)."""
    array, dtype = arrays.weight_view(weight, function)
    if array.ndim < 2 or array.size == 0:
        raise ShapeError(f"{function}: got a weight of shape {array.shape}, expected (out, in, ...), none of them 0")
    return arrays.View(array.reshape(array.shape[0], -1), dtype)


def grid() -> Float64:
    """Edges of every `density`, ascending: -inf, -2^8, ..., -2^-24, 2^-24, ..., 2^8, inf, eight an octave."""
    return arrays.read_only(native.grid())


def shares(quantiles: Sequence[float], function: str) -> list[float]:
    """Quantiles as they were asked for. Raises DomainError outside [0, 1]."""
    asked = [float(q) for q in quantiles]
    for q in asked:
        if not 0 <= q <= 1:
            raise DomainError(f"{function}: got quantile {q}, expected a share from 0 to 1")
    return asked
