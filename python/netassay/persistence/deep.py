"""Deep graph persistence: a chain of layers as one layered graph, and its form for one sample's activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from netassay import _core
from netassay.base import arrays
from netassay.base import threads as thread_counts
from netassay.base.arrays import read_only
from netassay.base.errors import NonFinite, ShapeError
from netassay.persistence.weights import Float64, matrix, scalar

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

    total: float = field(metadata={"minimum": 0})
    normalized: float = field(metadata={"minimum": 0})
    peak: float = field(metadata={"minimum": 0, "maximum": 1})
    weights: Float64 = field(metadata={"nullable": True})
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
            magnitude as edge (of two such, the positive one).
        standardize: edges |W - mean| / std of each layer (population std), as published; else |W|.
        rescale: divide by the largest S (`dnp_exact` of the published code; False: `dnp_prev`).
        p: of the norm, above 0. threads: None: see the README; the result is the same for any number.

    Raises:
        ShapeError: no layers, or sizes that do not chain. NonFinite: by layer, counted from 0, and index.
        DomainError: p. DTypeError: integers of more than 8 bits, complex numbers.
    """
    name, weights = "deep_graph_persistence", tuple(weights)
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
    return _samples(weights, activations, "sample_persistence", (standardize, joint, approximate), threads)


def topological_uncertainty(
    weights: Sequence[ArrayLike], activations: Sequence[ArrayLike], *, threads: int | None = None
) -> tuple[Float64, ...]:
    """Of each layer, (n, d_in + d_out - 1): a sample's tree weights of |W[o, i] x[i]|, descending.

    The baseline of `sample_persistence`, which sees layers apart.                    (Lacombe et al., IJCAI 2021)

    Args, raises: as `sample_persistence`.
    """
    name, weights, activations = "topological_uncertainty", tuple(weights), tuple(activations)
    _check_activations(_chain(weights, name)[0], activations, name)
    layers = range(len(weights))
    return tuple(
        _samples(weights[i : i + 1], activations[i : i + 1], name, (False, False, False), threads, i) for i in layers
    )


def _samples(
    weights: Sequence[ArrayLike],
    activations: Sequence[ArrayLike],
    function: str,
    options: tuple[bool, bool, bool],
    threads: int | None,
    first: int = 0,
) -> Float64:
    """Vectors of the samples; `first` is the number of the first layer, for messages."""
    weights, activations = tuple(weights), tuple(activations)
    chain, _ = _chain(weights, function, first)
    inputs = _check_activations(chain, activations, function, first)
    standardize, joint, approximate = options
    try:
        found = _core.persistence.sample_persistence(
            chain,
            inputs,
            standardize=standardize,
            joint=joint,
            approximate=approximate,
            threads=thread_counts.resolve(threads),
        )
    except NonFinite:
        if all(np.isfinite(arrays.widened(view)).all() for view in chain):
            raise NonFinite(f"{function}: got products of weights and activations beyond float32") from None
        raise _which(weights, function, first) from None
    if inputs and not len(inputs[0]):
        width = chain[0].array.shape[1] + chain[-1].array.shape[0] - (not approximate)
        return np.empty((0, width))
    return found


def _chain(weights: Sequence[ArrayLike], function: str, first: int = 0) -> tuple[list[View], bool]:
    """Every weight as (out, in), and whether any is a graph of channels."""
    views = [arrays.weight_view(weight, function) for weight in weights]
    chain = [_channels(view, f"{function}: layer {first + layer}") for layer, view in enumerate(views)]
    return chain, any(view.array.ndim > 2 for view in views)


def _channels(view: View, function: str) -> View:
    """A convolution's kernel entries of largest magnitude with their sign, the positive one of two."""
    if view.array.ndim <= 2:
        return matrix(view, function)
    if view.array.size == 0:
        raise ShapeError(f"{function}: got a weight of shape {view.array.shape}, expected none of its sides 0")
    kernels = arrays.widened(view).reshape(*view.array.shape[:2], -1)
    kernels = kernels if kernels.dtype.kind == "f" else kernels.astype(np.float32)
    highest, lowest = kernels.max(axis=2), kernels.min(axis=2)
    if not (np.isfinite(highest).all() and np.isfinite(lowest).all()):
        raise arrays.nonfinite(view, function)
    edges = np.where(highest >= -lowest, highest, lowest)
    return arrays.View(edges, edges.dtype.name)


def _check_activations(
    chain: Sequence[View], activations: Sequence[ArrayLike], function: str, first: int = 0
) -> list[NDArray[np.float32]]:
    """What enters each layer as float32, (n, units)."""
    if len(chain) != len(activations):
        got = f"{len(activations)} activations for {len(chain)} layers"
        raise ShapeError(f"{function}: got {got}, expected what enters each")
    inputs = []
    for layer, x in enumerate(activations, start=first):
        view = arrays.view(x, function)
        units = chain[layer - first].array.shape[1]
        if view.array.ndim != 2 or view.array.shape[1] != units:
            got = f"activations of shape {view.array.shape} for layer {layer}"
            raise ShapeError(f"{function}: got {got}, expected (n, {units})")
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is told as infinity
            inputs.append(np.ascontiguousarray(arrays.widened(view), dtype=np.float32))
        if len(inputs[-1]) != len(inputs[0]):
            got = f"{len(inputs[-1])} samples for layer {layer} and {len(inputs[0])} for layer {first}"
            raise ShapeError(f"{function}: got {got}, expected as many for each")
        bad = ~np.isfinite(inputs[-1])
        if bad.any():
            sample, unit = np.argwhere(bad)[0]
            got = f"{inputs[-1][sample, unit]} at [{sample}, {unit}] of the activations for layer {layer}"
            raise NonFinite(f"{function}: got {got}, expected finite values that float32 holds")
    return inputs


def _which(weights: Sequence[ArrayLike], function: str, first: int = 0) -> NonFinite:
    """The error that names the layer and the index of the first bad value."""
    for layer, weight in enumerate(weights, start=first):
        if not np.isfinite(arrays.widened(arrays.weight_view(weight, function))).all():
            return arrays.nonfinite(weight, f"{function}: layer {layer}")
    return NonFinite(f"{function}: got weights whose differences their format cannot hold, expected smaller ones")
