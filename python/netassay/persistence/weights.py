"""Weights as matrices, and what a bad one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base import arrays
from netassay.base.errors import DomainError, DTypeError, NonFinite, ShapeError

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


def nonfinite(weight: ArrayLike, function: str, bias: ArrayLike | None = None) -> NonFinite:
    """The error that names the first bad value by its index in the weight as it was given."""
    for what, given in (("weight", weight), ("bias", bias)):
        if given is None:
            continue
        values = widened(arrays.weight_view(given, function))
        bad = ~np.isfinite(values)
        if bad.any():
            index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), values.shape))
            more = f" and {bad.sum() - 1} more" if bad.sum() > 1 else ""
            return NonFinite(
                f"{function}: got {values[index]} at {list(index)} of the {what}{more}, expected finite values"
            )
    return NonFinite(f"{function}: got a NaN or an infinity, expected finite values")


def widened(view: View) -> NDArray[Any]:
    """The values of a view as float32, or as what they are where that holds more."""
    array, dtype = view
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    if dtype == "float8_e5m2":
        return (array.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    if dtype == "float8_e4m3fn":
        bits = array.astype(np.uint16)
        half = ((bits & 0x80) << 8 | (bits & 0x7F) << 7).view(np.float16).astype(np.float32) * np.float32(256)
        return np.where(bits & 0x7F == 0x7F, np.float32(np.nan), half)
    return array.astype(np.float32) if dtype == "float16" else array


def magnitudes(weight: ArrayLike, function: str) -> Float64:
    """|W| as float64, (out, the rest)."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        values = widened(matrix(weight, function)).astype(np.float64, order="C")
    if not np.isfinite(values).all():
        raise nonfinite(weight, function)
    return np.abs(values)


def scalar(x: Any, what: str) -> float:
    """A real number; `what` begins the message of the DomainError."""
    try:
        if not isinstance(x, str | bytes):
            return float(x)
    except (TypeError, ValueError):
        pass
    raise DomainError(f"{what} {x!r}, expected a real number")


def read_only(values: Float64) -> Float64:
    """The array, which nobody may write to any more."""
    values.flags.writeable = False
    return values
