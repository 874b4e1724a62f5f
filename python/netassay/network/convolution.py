"""Which taps of a kernel reach which positions, axis by axis.

A convolution's Jacobian is a product over axes: T[(o, p), (i, q)] = sum_t W[o, i, t] prod_a [p_a s_a + t_a d_a - l_a =
q_a], with stride s, dilation d and left padding l. Its sums over q, or over p, need no more than 0/1 matrices of
(positions, taps) for each axis.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base.errors import DomainError, DTypeError, ShapeError

Float64: TypeAlias = NDArray[np.float64]
Size: TypeAlias = "int | Sequence[int]"


class Axis(NamedTuple):
    """One axis of a convolution. A window is a place of the kernel: an output of a convolution, and what enters a
    transposed one; the positions are those that windows cover."""

    windows: int
    positions: int
    kernel: int
    stride: int
    dilation: int
    left: int

    def covered(self) -> Float64:
        """(windows, kernel): 1 where a window's tap lies on a position, 0 where it lies in the padding."""
        at = np.arange(self.windows)[:, None] * self.stride + np.arange(self.kernel) * self.dilation - self.left
        reached: Float64 = ((at >= 0) & (at < self.positions)).astype(np.float64)
        return reached

    def covering(self) -> Float64:
        """(positions, kernel): 1 where a window puts this tap on the position; there is one such window at most."""
        reached = np.zeros((self.positions, self.kernel))
        for tap in range(self.kernel):
            at = np.arange(self.windows) * self.stride + tap * self.dilation - self.left
            reached[at[(at >= 0) & (at < self.positions)], tap] = 1
        return reached


class Geometry(NamedTuple):
    """How a kernel moves."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...] | str
    output_padding: tuple[int, ...]

    def axes(self, size: tuple[int, ...], transposed: bool, function: str) -> tuple[Axis, ...]:
        """For what enters; ShapeError where nothing leaves."""
        found = []
        for a, (entering, k, s, d) in enumerate(zip(size, self.kernel, self.stride, self.dilation, strict=True)):
            reach = d * (k - 1)
            left, both = (reach // 2, reach) if self.padding == "same" else (0, 0)
            if not isinstance(self.padding, str):
                left, both = self.padding[a], 2 * self.padding[a]
            if transposed:
                leaving = (entering - 1) * s - both + reach + self.output_padding[a] + 1
                found.append(Axis(entering, leaving, k, s, d, left))
            else:
                leaving = (entering + both - reach - 1) // s + 1
                found.append(Axis(leaving, entering, k, s, d, left))
            if leaving < 1:
                raise ShapeError(
                    f"{function}: got input_size {size}, expected one at which a position leaves the layer"
                )
        return tuple(found)


def geometry(
    kernel: tuple[int, ...],
    stride: Size,
    padding: Size | str,
    dilation: Size,
    output_padding: Size,
    transposed: bool,
    function: str,
) -> Geometry:
    """Numbers for each axis, as torch takes them."""
    n = len(kernel)
    strides = per_axis(stride, n, 1, "stride", function)
    dilations = per_axis(dilation, n, 1, "dilation", function)
    more = per_axis(output_padding, n, 0, "output_padding", function)
    if not transposed and any(more):
        raise DomainError(f"{function}: got output_padding {output_padding}, expected it with a transposed convolution")
    if any(m >= max(s, d) for m, s, d in zip(more, strides, dilations, strict=True) if m):
        raise DomainError(f"{function}: got output_padding {output_padding}, expected less than stride or dilation")
    if not isinstance(padding, str):
        return Geometry(kernel, strides, dilations, per_axis(padding, n, 0, "padding", function), more)
    if transposed or padding not in ("same", "valid"):
        names = "numbers" if transposed else "numbers, 'same' or 'valid'"
        raise DomainError(f"{function}: got padding {padding!r}, expected {names}")
    if padding == "same" and any(s != 1 for s in strides):
        raise DomainError(f"{function}: got padding 'same' with stride {stride}, expected stride 1")
    return Geometry(kernel, strides, dilations, padding, more)


def per_axis(value: Size, axes: int, least: int, what: str, function: str) -> tuple[int, ...]:
    """One integer, or one for each axis."""
    try:
        given = [operator.index(value)] * axes if not isinstance(value, Sequence) else list(map(operator.index, value))
    except TypeError:
        raise DTypeError(f"{function}: got {what} {value!r}, expected integers") from None
    if len(given) != axes:
        raise ShapeError(f"{function}: got {what} {value!r}, expected an integer or {axes} of them")
    if min(given) < least:
        raise DomainError(f"{function}: got {what} {value!r}, expected at least {least}")
    return tuple(given)


def kernel_sums(values: NDArray[np.floating], groups: int) -> tuple[Float64, Float64]:
    """A weight (n, m, *kernel) summed over its second axis, (n, *kernel), and over the first within each group,
    (groups m, *kernel), in float64."""
    n, m, *kernel = values.shape
    grouped = values.reshape(groups, n // groups, m, *kernel)
    return (
        grouped.sum(axis=2, dtype=np.float64).reshape(n, *kernel),
        grouped.sum(axis=1, dtype=np.float64).reshape(groups * m, *kernel),
    )


def spread(kernels: Float64, matrices: Sequence[Float64]) -> Float64:
    """(channels, *kernel) and (positions, taps) for each axis -> (channels, *positions)."""
    for axis in range(len(matrices), 0, -1):  # from the last: products of what lies side by side in memory
        shape, matrix = kernels.shape, matrices[axis - 1]
        rows = kernels.reshape(math.prod(shape[:axis]), shape[axis], -1)
        kernels = rows[..., 0] @ matrix.T if axis == len(matrices) else matrix @ rows
        kernels = kernels.reshape(*shape[:axis], len(matrix), *shape[axis + 1 :])
    return kernels
