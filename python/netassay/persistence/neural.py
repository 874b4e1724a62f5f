"""Neural persistence of a layer and of a network, from the maximum spanning trees of their weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netassay import _core
from netassay.base import arrays
from netassay.base import threads as thread_counts
from netassay.base.arrays import read_only
from netassay.base.errors import NonFinite, ShapeError
from netassay.persistence.weights import Float64, matrix, scalar

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike


@dataclass(frozen=True, slots=True, eq=False)
class NeuralPersistence:
    """How large the weights are that connect a layer.

    With w the weights of the maximum spanning tree of |W| / scale, m + n - 1 of them:
    total = (1 + sum (1 - w)^p)^(1/p), the 1 only where the essential class counts;
    normalized = total / (m + n - 1)^(1/p).                        (Rieck et al. 2019; Girrbach et al. 2023, its code)

    Attributes:
        total: dimensionless, >= 0.
        normalized: near [0, 1]: 0 where every tree weight is the largest of the network. The essential class lifts it
            by up to ((m + n) / (m + n - 1))^(1/p).
        lower_bound: (sum (1 - r_i)^p + sum (1 - c_j)^p - (1 - max)^p)^(1/p) from the largest weights of rows and
            columns over the scale; never above the total without the essential class.
        weights: (m + n - 1,) float64, descending, in [0, 1]: tree weights over the scale.
        scale: the largest |w| of the network, or what was given; in units of the weights.
        flags: "zero" (every weight is zero), "not_a_layer" (of a checkpoint: a token, a position embedding or a table,
            which no total counts).
    """

    total: float = field(metadata={"minimum": 0})
    normalized: float = field(metadata={"minimum": 0})
    lower_bound: float = field(metadata={"minimum": 0})
    weights: Float64 = field(metadata={"nullable": True})
    scale: float
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class NetworkPersistence:
    """Neural persistence of every layer at one scale, the largest |w| of them all.

    Attributes:
        normalized: mean of the layers' normalized values.
        total: sum of the layers' totals.
        scale: the largest |w|, in units of the weights.
        layers: in the order given.
        flags: "zero" (every weight of the network is zero).
    """

    normalized: float
    total: float
    scale: float
    layers: tuple[NeuralPersistence, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SpanningTree:
    """What one read of a weight gives: its maximum spanning tree, not divided by any scale yet.

    Attributes:
        rows, cols: m outputs and n inputs.
        weights: (m + n - 1,) float64, descending: |w| of the tree's edges.
        row_max, col_max: (m,), (n,) float64: largest |w| of each row and column.
        dtype: format the weights are stored in.
    """

    rows: int
    cols: int
    weights: Float64
    row_max: Float64
    col_max: Float64
    dtype: str

    @property
    def maximum(self) -> float:
        """The largest |w|."""
        return float(self.weights[0])

    def persistence(self, *, scale: float | None = None, p: float = 2, essential: bool = True) -> NeuralPersistence:
        """See `neural_persistence`."""
        single = self.dtype not in ("float64", "int8", "uint8")
        s = self.maximum if scale is None else scalar(scale, "neural_persistence: got scale")
        total, normalized, lower_bound, weights, s, zero = _core.persistence.neural_persistence(
            self.weights,
            self.row_max,
            self.col_max,
            scale=s,
            p=scalar(p, "neural_persistence: got p"),
            essential=essential,
            single=single,
        )
        flags = ("zero",) if zero else ()
        return NeuralPersistence(total, normalized, lower_bound, read_only(weights), s, flags)


def neural_persistence(
    weight: ArrayLike,
    *,
    scale: float | None = None,
    p: float = 2,
    essential: bool = True,
    bias: ArrayLike | None = None,
    threads: int | None = None,
) -> NeuralPersistence:
    """Neural persistence of a weight; see `NeuralPersistence`.

    >>> import numpy as np
    >>> from netassay.persistence import neural_persistence
    >>> result = neural_persistence(np.array([[1.0, 0.5], [0.25, 0.75]]))
    >>> result.weights
    array([1.  , 0.75, 0.5 ])
    >>> round(result.total, 4), round(result.normalized, 4)
    (1.1456, 0.6614)

    Args:
        weight: (out, in, ...): float64, float32, bfloat16, float16, 8-bit float, int8 or uint8, in any memory order.
            More axes than two, as of a convolution, are inputs: (out, in * kh * kw). Zeros are edges of weight 0.
        scale: the largest |w| of the network, so that layers compare; None: of this weight.
        p: of the norm, above 0.
        essential: count the class that never dies, as the published code does.
        bias: (out,), one more input with these weights, as in Rieck et al.; None: left out. The weight is copied then.
        threads: None: see the README; the result is the same for any number.

    Raises:
        NonFinite: a NaN or an infinity, by its index. DomainError: scale below the largest |w|, p not above 0.
        ShapeError: fewer than two axes, or none along one. DTypeError: integers of more than 8 bits, complex numbers.
    """
    found = tree(weight, bias, threads, "neural_persistence")
    return found.persistence(scale=scale, p=p, essential=essential)


def network_persistence(
    weights: Iterable[ArrayLike], *, p: float = 2, essential: bool = True, threads: int | None = None
) -> NetworkPersistence:
    """Neural persistence of a network's weights, all at the scale of the largest.

    Args:
        weights: of each layer, as `neural_persistence` takes them; of a whole network, since they share the scale.

    Raises:
        As `neural_persistence`; ShapeError also where there are no weights.
    """
    trees = [tree(weight, None, threads, "network_persistence") for weight in weights]
    if not trees:
        raise ShapeError("network_persistence: got no weights, expected at least one")
    scale = max(each.maximum for each in trees)
    return summarize([each.persistence(scale=scale, p=p, essential=essential) for each in trees])


def summarize(layers: Iterable[NeuralPersistence]) -> NetworkPersistence:
    """The network's value from its layers' (one or more), which share a scale."""
    layers = tuple(layers)
    mean = math.fsum(layer.normalized for layer in layers) / len(layers)
    flags = ("zero",) if all("zero" in layer.flags for layer in layers) else ()
    return NetworkPersistence(mean, math.fsum(layer.total for layer in layers), layers[0].scale, layers, flags)


def spanning_tree(weight: ArrayLike, *, bias: ArrayLike | None = None, threads: int | None = None) -> SpanningTree:
    """The maximum spanning tree of |W| as a bipartite graph of outputs and inputs; see `SpanningTree`.

    For a network whose scale is known only when every layer has been read. Args, raises: as `neural_persistence`.
    """
    return tree(weight, bias, threads, "spanning_tree")


def largest(weight: ArrayLike, *, threads: int | None = None) -> float:
    """max |w|, in one read. Args, raises: as `neural_persistence`."""
    view = matrix(weight, "largest")
    try:
        return _core.persistence.largest(view.array, view.dtype, threads=thread_counts.resolve(threads))
    except NonFinite:
        raise arrays.nonfinite(weight, "largest") from None


def tree(weight: ArrayLike, bias: ArrayLike | None, threads: int | None, function: str) -> SpanningTree:
    """As `spanning_tree`; `function` begins the messages."""
    view = matrix(weight, function, bias)
    count = thread_counts.resolve(threads)
    try:
        weights, _, rows, cols = _core.persistence.spanning_tree(view.array, view.dtype, threads=count)
    except NonFinite:
        raise arrays.nonfinite(weight, function, bias) from None
    shape = view.array.shape
    return SpanningTree(shape[0], shape[1], read_only(weights), read_only(rows), read_only(cols), view.dtype)
