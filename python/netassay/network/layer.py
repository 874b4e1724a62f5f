"""A layer of a checkpoint as links and nodes: everything that one read of its weight says."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay._core import network as native
from netassay.base import arrays
from netassay.base import threads as _threads
from netassay.base.errors import NonFinite, ShapeError
from netassay.network.affine import checked_groups
from netassay.network.described import Described
from netassay.network.links import QUANTILES

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike

Float64: TypeAlias = NDArray[np.float64]

#: Squares of magnitudes between these stay normal numbers of float64, and so do sums of any number of them.
_LEAST, _MOST = 2.0**-500, 2.0**450


@dataclass(frozen=True, slots=True, eq=False)
class LayerLinks(Described):
    """The links of one layer, and what they come to at the units on its two sides.

    The distribution is that of `LinkWeights`. With w_ij from input j to output i, m outputs and n inputs:
    incoming_i = sum_j w_ij, outgoing_j = sum_i w_ij (strengths without biases, and of this layer alone);
    fluctuation = sqrt(mean (s - mean s)^2) over the units of a side; disparity = sum w^2 / (sum |w|)^2 over the links
    of a unit, from 1 / links, all alike, to 1, where one link carries all; effective degree = 1 / disparity.
    (La Malfa et al., arXiv 2209.05488; disparity: Serrano, Boguna, Vespignani 2009)

    Attributes:
        count: links, m n; of a group of inputs and its outputs, where there are several.
        mean, variance, skewness, kurtosis: population moments of w, kurtosis in excess of 3; units of w, those squared,
            none, none.
        minimum, maximum: of w, exact.
        zero_share: of links that are 0, in [0, 1].
        quantiles: float64, at `QUANTILES`; see `LinkWeights`.
        density: uint64, counts between neighbouring edges of `grid()`, which all layers share.
        incoming: (m,) float64, units of w. outgoing: (n,) likewise, or, of a convolution, (input channels,).
        incoming_fluctuation, outgoing_fluctuation: units of w.
        incoming_normalized, outgoing_normalized: fluctuation over sqrt((u - 1) / u) sqrt(links of a unit * variance),
            which independent weights give a side of u units, so that layers compare; 0 where that is 0.
        incoming_disparity, outgoing_disparity: means over the units that have weight; 0 where none has.
        incoming_degree, outgoing_degree: means of the effective degrees, counts of links, over the same units.
        dead_outputs, dead_inputs: units whose weights are all 0.
        flags: "constant" (all weights equal), "zero" (all are 0), "single" (one link), "kernel_level" (of a
            convolution: units are channels, their links run over the taps of the kernel, borders are not accounted
            for), "not_a_layer" (of a checkpoint: a token, a position embedding or a table, which no total counts).
    """

    quantiles: Float64
    density: NDArray[np.uint64]
    incoming: Float64
    outgoing: Float64
    incoming_fluctuation: float = field(metadata={"minimum": 0})
    outgoing_fluctuation: float = field(metadata={"minimum": 0})
    incoming_normalized: float = field(metadata={"minimum": 0})
    outgoing_normalized: float = field(metadata={"minimum": 0})
    incoming_disparity: float = field(metadata={"minimum": 0})
    outgoing_disparity: float = field(metadata={"minimum": 0})
    incoming_degree: float = field(metadata={"minimum": 0})
    outgoing_degree: float = field(metadata={"minimum": 0})
    dead_outputs: int
    dead_inputs: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class NetworkLinks:
    """The links of several layers together.

    Attributes:
        count: links. layers: how many layers.
        mean, std: of all weights, population; in their units. minimum, maximum, zero_share: likewise of all.
    """

    layers: int
    count: int
    mean: float
    std: float = field(metadata={"minimum": 0})
    minimum: float
    maximum: float
    zero_share: float = field(metadata={"minimum": 0, "maximum": 1, "finite": True})


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The units of one side: their strength, and how their weight is spread over their links."""

    strength: Float64
    fluctuation: float
    disparity: float
    degree: float
    dead: int

    @classmethod
    def of(cls, plain: Float64, absolute: Float64, square: Float64, unit: float) -> _Side:
        """From sums of w, |w| and w^2 over the links of each unit, in `unit`s."""
        held = absolute**2 > 0  # a unit beside whose weights others are 1e160 times as large has no square
        disparity = square[held] / absolute[held] ** 2
        deviation = float(np.std(plain))
        return cls(
            arrays.read_only(plain * unit),
            deviation * unit,
            float(disparity.mean()) if disparity.size else 0.0,
            float((1 / disparity).mean()) if disparity.size else 0.0,
            int(np.count_nonzero(absolute == 0)),
        )

    def normalized(self, links: int, variance: float) -> float:
        units = self.strength.size
        expected = math.sqrt((units - 1) / units * links) * math.sqrt(variance)
        return self.fluctuation / expected if expected > 0 else 0.0


def layer_links(weight: ArrayLike, *, groups: int = 1, threads: int | None = None) -> LayerLinks:
    """What one read of a weight says of its links and of the units at their ends; see `LayerLinks`.

    Where there are several groups the sums of the inputs take a second read.

    Args:
        weight: (out, in) in float64, float32, bfloat16, float16, an 8-bit float, int8 or uint8; or of a convolution,
            (out, in / groups, *kernel), the outputs of each group together.
        groups: of a convolution.
        threads: never change the result.

    Raises:
        ShapeError: fewer than two axes, no weights, groups that do not divide the outputs. DomainError: groups below 1.
        DTypeError. NonFinite: a NaN or an infinity, by its index.

    >>> import numpy as np
    >>> layer = layer_links(np.array([[1.0, -1.0, 2.0], [0.0, 0.0, 0.0]]))
    >>> layer.incoming.tolist(), layer.outgoing.tolist(), layer.dead_outputs
    ([2.0, 0.0], [1.0, -1.0, 2.0], 1)
    >>> layer.incoming_fluctuation, layer.incoming_disparity
    (1.0, 0.375)
    """
    name = "layer_links"
    view = arrays.weight_view(weight, name)
    array, dtype = view
    if array.ndim < 2 or array.size == 0:
        raise ShapeError(f"{name}: got a weight of shape {array.shape}, expected (out, in, ...), none of them 0")
    groups = checked_groups(array.shape[0], groups, name)
    matrix, count = array.reshape(array.shape[0], -1), _threads.resolve(threads)
    try:
        found, sums = native.link_survey(matrix, dtype, quantiles=QUANTILES, threads=count)
    except NonFinite:
        raise arrays.nonfinite(view, name) from None
    links, mean, variance, skewness, kurtosis, minimum, maximum, zeros, quantiles, density = found

    largest, unit = max(abs(minimum), abs(maximum)), 1.0
    if dtype == "float64" and largest and not _LEAST < largest < _MOST:
        # squares would leave the range of float64
        unit = math.ldexp(1.0, max(-1000, min(1000, math.frexp(largest)[1])))
        matrix = matrix / unit
        sums = native.sums(matrix, dtype, threads=count)
    columns = sums[3:] if groups == 1 else native.sums(_beside(matrix, groups), dtype, threads=count)[3:]
    plain, absolute, square = (part.reshape(-1, math.prod(array.shape[2:])).sum(axis=1) for part in columns)
    ins, outs = _Side.of(*sums[:3], unit), _Side.of(plain, absolute, square, unit)
    flags = {
        "constant": minimum == maximum,
        "zero": zeros == links,
        "single": links == 1,
        "kernel_level": array.ndim > 2,
    }
    return LayerLinks(
        links, mean, variance, skewness, kurtosis, minimum, maximum, zeros / links,
        arrays.read_only(quantiles), arrays.read_only(density),
        ins.strength, outs.strength, ins.fluctuation, outs.fluctuation,
        ins.normalized(links // ins.strength.size, variance), outs.normalized(links // outs.strength.size, variance),
        ins.disparity, outs.disparity, ins.degree, outs.degree, ins.dead, outs.dead,
        tuple(flag for flag, holds in flags.items() if holds),
    )  # fmt: skip


def pool_links(layers: Iterable[LayerLinks]) -> NetworkLinks:
    """The distribution of several layers' weights (one or more) from those of each."""
    layers = tuple(layers)
    count = sum(layer.count for layer in layers)
    shares = [layer.count / count for layer in layers]
    mean = math.fsum(share * layer.mean for share, layer in zip(shares, layers, strict=True))
    variance = math.fsum(
        share * (layer.variance + (layer.mean - mean) ** 2) for share, layer in zip(shares, layers, strict=True)
    )
    return NetworkLinks(
        len(layers),
        count,
        mean,
        math.sqrt(variance),
        min(layer.minimum for layer in layers),
        max(layer.maximum for layer in layers),
        math.fsum(share * layer.zero_share for share, layer in zip(shares, layers, strict=True)),
    )


def _beside(matrix: NDArray[Any], groups: int) -> NDArray[Any]:
    """(out / groups, groups * columns): each group's columns beside those of the others, whose inputs are not its."""
    return matrix.reshape(groups, matrix.shape[0] // groups, -1).swapaxes(0, 1).reshape(matrix.shape[0] // groups, -1)
