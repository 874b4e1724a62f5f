"""How a node's weight is shared among its links: disparity, effective degree, Gini's coefficient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from netassay.base import arrays
from netassay.base.errors import DomainError, ShapeError
from netassay.network.affine import checked_groups
from netassay.network.convolution import Float64

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike

#: Weights at a time: what is made of them stays near the processor.
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Concentration:
    """One number for every node, of how its weight is shared among its links.

    Attributes:
        values: (nodes,) float64, dimensionless; 0 for a node without weight.
        empty: (nodes,) bool: no link weighs anything.
        links: of each node, those of weight 0 too.
        flags: "empty_nodes" (there are nodes without weight).
    """

    values: Float64
    empty: NDArray[np.bool_]
    links: int
    flags: tuple[str, ...]


def disparity(weight: ArrayLike, axis: Literal[0, 1], *, groups: int = 1) -> Concentration:
    """Whether few links carry a node's weight: Y_k = sum over its links (|w| / sum |w|)^2.

    1 where one link carries all, 1 / links where all carry as much. Not changed by the scale of a node's weights.

    >>> import numpy as np
    >>> disparity(np.array([[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 5.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), axis=1)
    Concentration(values=array([0.25, 1.  , 0.  ]), empty=array([False, False,  True]), links=4, flags=('empty_nodes',))

    Args:
        weight: (out, in, ...) in float64, float32, bfloat16, float16, an 8-bit float, int8 or uint8. A convolution
            (C_out, C_in / groups, *kernel) has a node for each channel, with a link for each entry of its kernels.
        axis: summed over: 1: one value for every output unit, of what enters it; 0: for every input unit, of what
            leaves it.
        groups: of a convolution.

    Returns:
        values in [1 / links, 1], without unit.

    Raises:
        ShapeError: fewer than two axes, no weights, groups that do not divide. DTypeError. NonFinite: a NaN or an
        infinity, by its index. DomainError: another axis, groups below 1.

    Source: Barthelemy, Gondran, Guichard, "Spatial structure of the Internet traffic" (Physica A 319, 2003); of neural
    networks: La Malfa et al. (arXiv 2209.05488), where the word also names the fluctuation of a layer's strengths.
    """

    def of(shares: Float64) -> Float64:
        total = shares.sum(axis=1)
        return _within(_squares(shares) / total / total, 1 / shares.shape[1], 1)

    return _each_node(weight, axis, groups, of, "disparity")


def effective_degree(weight: ArrayLike, axis: Literal[0, 1], *, groups: int = 1) -> Concentration:
    """Of how many equal links a node would have the same disparity: 1 / Y_k, in [1, links]; 0 without weight.

    >>> import numpy as np
    >>> effective_degree(np.array([[1.0, -1.0, 1.0], [0.0, 0.0, 5.0]]), axis=1).values
    array([3., 1.])

    Args, raises: as `disparity`. Returns: values, counts of links.
    """

    def of(shares: Float64) -> Float64:
        total = shares.sum(axis=1)
        return _within(total * total / _squares(shares), 1, shares.shape[1])

    return _each_node(weight, axis, groups, of, "effective_degree")


def gini(weight: ArrayLike, axis: Literal[0, 1], *, groups: int = 1) -> Concentration:
    """Gini's coefficient of |w| of every node: sum_i (2 i - n - 1) x_i / (n sum x), x its n magnitudes, ascending.

    0 where all links carry as much, (n - 1) / n where one carries all; links of weight 0 count.

    >>> import numpy as np
    >>> gini(np.array([[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 5.0, 0.0]]), axis=1).values
    array([0.  , 0.75])

    Args, raises: as `disparity`. Returns: values in [0, (n - 1) / n], without unit.

    Source: Gini (1912); as a measure of sparsity: Hurley and Rickard, "Comparing measures of sparsity" (IEEE
    Transactions on Information Theory 55, 2009).
    """

    def of(shares: Float64) -> Float64:
        n = shares.shape[1]
        ranks = np.arange(1.0 - n, n, 2)
        # not by BLAS, where a row's last bit depends on the rows beside it
        differences = np.einsum("ij,j->i", np.sort(shares, axis=1), ranks)
        return _within(differences / (n * shares.sum(axis=1)), 0, (n - 1) / n)

    return _each_node(weight, axis, groups, of, "gini")


def _squares(shares: Float64) -> Float64:
    squares: Float64 = np.einsum("ij,ij->i", shares, shares)
    return squares


def _within(values: Float64, low: float, high: float) -> Float64:
    """What rounding took beyond its bounds, at them."""
    bounded: Float64 = np.clip(values, low, high)
    return bounded


def _each_node(
    weight: ArrayLike, axis: int, groups: int, of: Callable[[Float64], Float64], function: str
) -> Concentration:
    view = arrays.weight_view(weight, function)
    if view.array.ndim < 2 or view.array.size == 0:
        got = f"a weight of shape {view.array.shape}"
        raise ShapeError(f"{function}: got {got}, expected (out, in, ...), none of them 0")
    lines = _lines(view.array, axis, groups, function)
    values, empty = np.zeros(len(lines)), np.zeros(len(lines), bool)
    for part in _blocks(lines):
        magnitudes = np.abs(arrays.widened(arrays.View(lines[part], view.dtype)).astype(np.float64, order="C"))
        most = magnitudes.max(axis=1)
        if not np.isfinite(most).all():
            raise arrays.nonfinite(weight, function)
        empty[part] = most == 0
        alive = ~empty[part]
        # Over the largest, which is then 1: no sum or square leaves float64, and equal links are exactly equal.
        values[part][alive] = of(magnitudes[alive] / most[alive, None])
    flags = ("empty_nodes",) if empty.any() else ()
    return Concentration(arrays.read_only(values), arrays.read_only(empty), lines.shape[1], flags)


def _lines(array: NDArray[Any], axis: int, groups: int, function: str) -> NDArray[Any]:
    """(nodes, links)."""
    if axis not in (0, 1):
        raise DomainError(f"{function}: got axis {axis!r}, expected 0 or 1")
    n, m = array.shape[:2]
    groups = checked_groups(n, groups, function)
    if axis == 1:
        return array.reshape(n, -1)
    # input channel i of a group reaches the group's outputs, by every entry of its kernels
    return np.moveaxis(array.reshape(groups, n // groups, m, -1), 2, 1).reshape(groups * m, -1)


def _blocks(lines: NDArray[Any]) -> Iterator[slice]:
    step = max(1, _BLOCK // lines.shape[1])
    return (slice(first, first + step) for first in range(0, len(lines), step))
