"""Deep graph persistence: a chain of layers as one layered graph, and its form for one sample's activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from netassay import _core
from netassay.base import arrays
from netassay.base import threads as thread_counts
from netassay.base.errors import NonFinite, ShapeError

from .weights import Float64, matrix, nonfinite, read_only, scalar, widened

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike, View


@dataclass(frozen=True, slots=True, eq=False)
class DeepGraphPersistence:
    """How large the bottlenecks are that connect a network's inputs with its outputs.

    With edges X_l = |W_l - mean| / std (or |W_l|) over the largest of the network, S_ij is the largest t such that a
    path from input i to output j has every edge >= t, and w are the weights of the maximum spanning tree of S:
    total = (1 + sum (1 - w)^p)^(1/p); normalized = total / (d_0 + d_L - 1)^(1/p).                (Girrbach et al. 2023)

    Attributes:
        total: dimensionless, >= 1: the essential class counts. normalized: see above.
        peak: the largest S, in [0, 1], in units of the largest edge.
        weights: (d_0 + d_L - 1,) float64, descending, in [0, 1]: as they enter (1 - w), over the peak where rescaled.
        flags: "constant" (a layer's weights are all equal: edges of 0 where standardized), "zero" (no path has an edge
            above 0), "channel_graph" (a convolution's edge is its largest |w| over kernel positions: our definition).
    """

    total: float
    normalized: float
    peak: float
    weights: Float64
    flags: tuple[str, ...]


def deep_graph_persistence(
    weights: Sequence[ArrayLike],
    *,
    standardize: bool = True,
    rescale: bool = True,
    p: float = 2,
    threads: int | None = None,
) -> DeepGraphPersistence:
    """Deep graph persistence of a chain of layers; see `DeepGraphPersistence`.

    Exact, in time and memory linear in the weights and the units: S is never formed. float64 where a weight is, else
    float32.

    >>> import numpy as np
    >>> from netassay.persistence import deep_graph_persistence
    >>> hidden, out = np.array([[1.0, 0.2], [0.5, 0.4]]), np.array([[0.8, 0.9]])
    >>> result = deep_graph_persistence([hidden, out], standardize=False, rescale=False)
    >>> result.weights
    array([0.8, 0.4])
    >>> result.peak
    0.8

    Args:
        weights: (d_1, d_0), ..., (d_L, d_{L-1}), in the order of the forward pass; formats as in `neural_persistence`.
            Convolutions (out, in, *kernel) of one group are graphs of channels, with the kernel entry of largest
            magnitude as edge.
        standardize: edges |W - mean| / std of each layer (population std), as published; else |W|.
        rescale: divide by the largest S (`dnp_exact` of the published code; False: `dnp_prev`).
        p: of the norm, above 0. threads: None: see the README; the result is the same for any number.

    Raises:
        ShapeError: no layers, or sizes that do not chain. NonFinite: by layer and index. DomainError: p.
        DTypeError: integers of more than 8 bits, complex numbers.
    """
    name = "deep_graph_persistence"
    chain, channels = _chain(weights, name)
    try:
        total, normalized, peak, found, constant, zero = _core.persistence.deep_graph_persistence(
            chain,
            p=scalar(p, f"{name}: got p"),
            standardize=standardize,
            rescale=rescale,
            threads=thread_counts.resolve(threads),
        )
    except NonFinite:
        raise _which(weights, name) from None
    held = (bool(constant), "constant"), (zero, "zero"), (channels, "channel_graph")
    return DeepGraphPersistence(total, normalized, peak, read_only(found), tuple(flag for holds, flag in held if holds))


def sample_persistence(
    weights: Sequence[ArrayLike],
    activations: Sequence[ArrayLike],
    *,
    standardize: bool = False,
    joint: bool = False,
    approximate: bool = False,
    threads: int | None = None,
) -> Float64:
    """The bottlenecks of every sample's forward pass: edges |W_l[o, i] x_{l-1}[i]|.            (Girrbach et al. 2023)

    Computed in float32, as published; biases act in the forward pass and are no edges.

    Args:
        weights: (d_1, d_0), ..., (d_L, d_{L-1}). activations: what enters each layer, (n, d_0), ..., (n, d_{L-1}).
        standardize: edges |a - mean| / (std + 1e-8) of each layer, std with divisor d_l d_{l-1} - 1.
        joint: over the sample's largest edge.
        approximate: the largest S of each input, then of each output, in their order, in place of the tree's weights.

    Returns:
        (n, d_0 + d_L - 1) float64: each sample's tree weights of S, descending; (n, d_0 + d_L) where approximate.

    Raises:
        ShapeError: sizes that do not chain, or activations that do not fit them. NonFinite: naming layer and sample.
    """
    name = "sample_persistence"
    chain, _ = _chain(weights, name)
    inputs = [_activations(x, layer, name) for layer, x in enumerate(activations)]
    return _core.persistence.sample_persistence(
        chain,
        inputs,
        standardize=standardize,
        joint=joint,
        approximate=approximate,
        threads=thread_counts.resolve(threads),
    )


def topological_uncertainty(
    weights: Sequence[ArrayLike], activations: Sequence[ArrayLike], *, threads: int | None = None
) -> tuple[Float64, ...]:
    """Of each layer, (n, d_in + d_out - 1): a sample's tree weights of |W[o, i] x[i]|, descending.

    The baseline of `sample_persistence`, which sees layers apart.                    (Lacombe et al., IJCAI 2021)

    Args, raises: as `sample_persistence`.
    """
    weights, activations = tuple(weights), tuple(activations)
    if len(weights) != len(activations):
        got = f"{len(activations)} activations for {len(weights)} layers"
        raise ShapeError(f"topological_uncertainty: got {got}, expected what enters each")
    return tuple(sample_persistence([w], [x], threads=threads) for w, x in zip(weights, activations, strict=True))


def _chain(weights: Sequence[ArrayLike], function: str) -> tuple[list[View], bool]:
    """Every weight as (out, in), and whether any is a graph of channels."""
    views = [arrays.weight_view(weight, function) for weight in weights]
    return [_channels(view, function) for view in views], any(view.array.ndim > 2 for view in views)


def _channels(view: View, function: str) -> View:
    """A convolution's kernel entries of largest magnitude, with their sign."""
    if view.array.ndim <= 2:
        return matrix(view, function)
    if view.array.size == 0:
        raise ShapeError(f"{function}: got a weight of shape {view.array.shape}, expected none of its sides 0")
    kernels = widened(view).reshape(*view.array.shape[:2], -1)
    largest = np.abs(kernels.astype(np.float64)).argmax(axis=2)[..., None]
    edges = np.take_along_axis(kernels, largest, axis=2)[..., 0]
    if not np.isfinite(edges).all():
        raise nonfinite(view, function)
    return arrays.View(edges, edges.dtype.name)


def _activations(x: ArrayLike, layer: int, function: str) -> NDArray[np.float32]:
    view = arrays.view(x, function)
    if view.array.ndim != 2:
        raise ShapeError(
            f"{function}: got activations of shape {view.array.shape} for layer {layer}, expected (n, units)"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is told as infinity
        return np.ascontiguousarray(widened(view), dtype=np.float32)


def _which(weights: Sequence[ArrayLike], function: str) -> NonFinite:
    """The error that names the layer and the index of the first bad value."""
    for layer, weight in enumerate(weights):
        if not np.isfinite(widened(arrays.weight_view(weight, function))).all():
            return nonfinite(weight, f"{function}: layer {layer}")
    return NonFinite(f"{function}: got weights whose spread float64 cannot hold, expected smaller ones")
