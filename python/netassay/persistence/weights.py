"""Weights as matrices, and what a bad one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base import arrays
from netassay.base.errors import DomainError, DTypeError, ShapeError

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike, View

Float64: TypeAlias = NDArray[np.float64]


def matrix(weight: ArrayLike, function: str, bias: ArrayLike | None = None) -> View:
    """(out, the rest), with the bias as one more column."""
    array, dtype = arrays.weight_view(weight, function)
    if array.ndim < 2 or array.size == 0:
        raise ShapeError(f"{function}: got a weight of shape {array.shape}, expected (out, in, ...), none of them 0")
    flat = array.reshape(array.shape[0], -1)
    if bias is None:
        return arrays.View(flat, dtype)
    column, kind = arrays.weight_view(bias, function)
    if column.shape != (flat.shape[0],):
        raise ShapeError(f"{function}: got a bias of shape {column.shape}, expected ({flat.shape[0]},)")
    if kind != dtype:
        raise DTypeError(f"{function}: got a bias of dtype {kind}, expected that of the weight, {dtype}")
    return arrays.View(np.concatenate([flat, column[:, None]], axis=1), dtype)


def magnitudes(weight: ArrayLike, function: str) -> Float64:
    """|W| as float64, (out, the rest)."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        values = arrays.widened(matrix(weight, function)).astype(np.float64, order="C")
    if not np.isfinite(values).all():
        raise arrays.nonfinite(weight, function)
    return np.abs(values)


def scalar(x: Any, what: str) -> float:
    """A real number; `what` begins the message of the DomainError."""
    try:
        if not isinstance(x, str | bytes):
            return float(x)
    except (TypeError, ValueError):
        pass
    raise DomainError(f"{what} {x!r}, expected a real number")
