"""Eigenvalues of a covariance, and the floor below which rounding alone makes them (see Spectrum)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base import arrays
from netassay.base.errors import DomainError, DTypeError, NonFinite, ShapeError
from netassay.stats.moments import Moments

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike

Float64: TypeAlias = NDArray[np.float64]

#: Unit roundoffs.
_U32, _U64 = 2.0**-24, 2.0**-53

#: Rounding forgiven in a covariance computed in float32, relative to its largest entry or eigenvalue.
_ROUNDING = 64 * float(np.finfo(np.float32).eps)


def given(source: ArrayLike, function: str) -> tuple[Float64, float]:
    """(covariance, rounding of its entries in units of the largest eigenvalue) of an array. Raises: see `spectrum`."""
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
    return q, 0.0 if view.dtype == "float64" else 2 * _U32


def eigenvalues(
    covariance: Float64, function: str, *, errors: float = 0.0, rounding: float = 0.0
) -> tuple[Float64, float]:
    """(eigenvalues, floor): descending, 0 where they are not above the floor; see `netassay.saturation.Spectrum`.

    Args:
        errors: of the matrix by its products. rounding: of its entries, in units of the largest eigenvalue.
    """
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
    floor = _floor(ascending, errors, rounding)
    return np.where(ascending > floor, ascending, 0.0)[::-1].copy(), floor


def _floor(ascending: Float64, errors: float, rounding: float) -> float:
    largest, negative = max(float(ascending[-1]), 0.0), max(-float(ascending[0]), 0.0)
    return max(max(2 * len(ascending) * _U64, rounding) * largest, 2 * negative, errors)


def _eigenvectors(covariance: Float64, function: str, errors: float) -> tuple[Float64, int]:
    """In columns, by descending eigenvalue; and how many eigenvalues are above the floor."""
    if not np.isfinite(covariance).all():
        raise NonFinite(f"{function}: got a covariance with a NaN or an infinity, expected finite values")
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "linalg"):
        found = torch.linalg.eigh(torch.from_numpy(np.array(covariance, order="C")))
        ascending, vectors = (part.numpy() for part in found)
    else:
        ascending, vectors = np.linalg.eigh(covariance)
    return vectors[:, ::-1], int(np.count_nonzero(ascending > _floor(ascending, errors, 0.0)))


def products(moments: Moments, covariance: Float64) -> float:
    """The rounding of products in float32: 4 u t / sqrt(d), or 0 where there are none."""
    return 4 * _U32 * float(np.trace(covariance)) / moments.width**0.5 if moments.single else 0.0


def held_out(source: Moments, function: str) -> Float64 | None:
    """(2, d): the variances of each half along the eigenvectors of the other."""
    halves = source.halves()
    if halves is None or min(half.count for half in halves) < 2:
        return None
    covariances = [half.covariance() for half in halves]
    found = []
    for half, own, other in zip(halves, covariances, reversed(covariances), strict=True):
        vectors, rank = _eigenvectors(own, function, products(half, own))
        along = np.maximum(((other @ vectors) * vectors).sum(axis=0), 0.0)
        along[rank:] = along[rank:].mean() if rank < len(along) else 0.0  # any basis is as good there
        found.append(along)
    return arrays.read_only(np.stack(found))
