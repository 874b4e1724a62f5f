"""Node strength along a chain of layers, and how much it fluctuates within a layer of nodes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from netassay._core import network as native
from netassay.base import arrays
from netassay.base import threads as _threads
from netassay.base.errors import DomainError, NonFinite, ShapeError
from netassay.network.affine import bias_values, check_sums, checked_groups, infinite, powers
from netassay.network.convolution import Float64, kernel_sums

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike, View


@dataclass(frozen=True, slots=True, eq=False)
class Strengths(Sequence[Float64]):
    """Strength of every node of a chain, one array for each layer of nodes: a sequence of L + 1 arrays.

    Attributes:
        nodes: (n_0,), ..., (n_L,) float64: s_k, in units of the weights; what the sequence holds.
        expected: (L + 1,) float64, in the same units: the fluctuation of each layer of nodes if its links were
            independent, by their variances (`expected_fluctuation`).
    """

    nodes: tuple[Float64, ...]
    expected: Float64

    def __len__(self) -> int:
        return len(self.nodes)

    @overload
    def __getitem__(self, layer: int) -> Float64: ...
    @overload
    def __getitem__(self, layer: slice) -> tuple[Float64, ...]: ...
    def __getitem__(self, layer: int | slice) -> Float64 | tuple[Float64, ...]:
        return self.nodes[layer]

    def __iter__(self) -> Iterator[Float64]:
        return iter(self.nodes)


def strength(
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike | None] | None = None,
    *,
    groups: int | Sequence[int] = 1,
    threads: int | None = None,
) -> Strengths:
    """Strength of every node of a chain of layers, in one read of the weights.

    Input s_i = 1 + sum_j W^1_ij; hidden s_k = (sum_i W^l_ik + b_k) + sum_j W^{l+1}_kj; output
    s_k = (sum_i W^L_ik + b_k) + 1, with w_ij from i to j. A bias counts once, on the incoming side.

    >>> import numpy as np
    >>> hidden, out = np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 4.0]]), np.array([[1.0, -1.0, 2.0]])
    >>> [layer.tolist() for layer in strength([hidden, out], [np.array([0.5, 0.0, 0.0]), None])]
    [[2.5, 6.0], [4.5, -1.5, 6.0], [3.0]]

    Args:
        weights: (n_1, n_0), ..., (n_L, n_{L-1}), in the order of the forward pass, in float64, float32, bfloat16,
            float16, an 8-bit float, int8 or uint8. A convolution (C_out, C_in / groups, *kernel) has a node for each
            channel, with a link for each entry of its kernels; nodes at positions are `layer_strength`'s.
        biases: of each layer, (n_l,) or None.
        groups: of every convolution, or of each layer.
        threads: never change the result.

    Raises:
        ShapeError: no layers, sizes that do not chain, other than one bias or None for each. DTypeError. NonFinite: by
        layer, counted from 0, and index; sums beyond float64. DomainError: groups below 1.

    Source: La Malfa et al., "Characterizing Learning Dynamics of Deep Neural Networks via Complex Networks"
    (arXiv 2110.02628).
    """
    name, count = "strength", _threads.resolve(threads)
    views, divided = _chain(weights, groups, name)
    offsets = [None] * len(views) if biases is None else list(biases)
    _check_count(offsets, "biases", len(views), name)
    layers = [
        _layer(view, bias, each, count, f"{name}: layer {layer}")
        for layer, (view, bias, each) in enumerate(zip(views, offsets, divided, strict=True))
    ]
    into = [np.ones(len(layers[0].outgoing)), *(layer.incoming for layer in layers)]
    out = [*(layer.outgoing for layer in layers), np.ones(len(layers[-1].incoming))]
    with np.errstate(invalid="ignore"):  # infinities of both signs
        nodes = [a + b for a, b in zip(into, out, strict=True)]
    check_sums(nodes, name)

    n = np.array([len(s) for s in nodes])
    spread_in = [0.0, *(layer.spread_in for layer in layers)]
    spread_out = [*(layer.spread_out for layer in layers), 0.0]
    expected = np.sqrt((n - 1) / n) * np.hypot(spread_in, spread_out)
    return Strengths(tuple(map(arrays.read_only, nodes)), arrays.read_only(expected))


def fluctuation(strengths: Sequence[ArrayLike], *, normalized: bool = False) -> Float64:
    """How much strength differs between the nodes of each layer: Y^l = sqrt(mean (s_k - mean s)^2).

    >>> import numpy as np
    >>> fluctuation([np.array([1.0, 3.0]), np.array([2.0])])
    array([1., 0.])

    Args:
        strengths: what `strength` returns, or one array for each layer of nodes (float64, float32, bfloat16 or float16;
            (C, H, W) too).
        normalized: over the fluctuation that independent links of the same variances would have
            (`expected_fluctuation`), so that layers compare: near 1 for a network as it is initialised. What `strength`
            returns knows these variances. 0 where they are 0, as in a layer of one node.

    Returns:
        (layers,) float64, in units of the weights; without unit where normalized.

    Raises:
        ShapeError: a layer without nodes. NonFinite: naming the layer, counted from 0. DomainError: normalized, and
        arrays that nothing is known of but their strengths. DTypeError.

    Source: La Malfa et al. (arXiv 2110.02628); the expectation follows from sums of independent links.
    """
    name = "fluctuation"
    if normalized and not isinstance(strengths, Strengths):
        raise DomainError(f"{name}: got {type(strengths).__name__} to normalise, expected what `strength` returns")
    found = np.array([_deviation(s, f"{name}: layer {layer}") for layer, s in enumerate(strengths)], np.float64)
    if isinstance(strengths, Strengths) and normalized:
        known = strengths.expected > 0
        found = np.divide(found, strengths.expected, out=np.zeros_like(found), where=known)
    return arrays.read_only(found)


def expected_fluctuation(
    nodes: int, *, fan_in: float, variance_in: float, fan_out: float, variance_out: float, variance_bias: float = 0.0
) -> float:
    """Fluctuation of a layer of nodes whose links are independent.

    sqrt((n_l - 1) / n_l) sqrt(fan_in var_in + var_b + fan_out var_out): a node's strength is a sum of that many links.

    >>> expected_fluctuation(2, fan_in=5, variance_in=1.0, fan_out=3, variance_out=1.0)
    2.0

    Args:
        nodes: n_l, units, or the channels of a convolution.
        fan_in, fan_out: links of each node: n_{l-1} and n_{l+1}, of a convolution kh kw C_in / groups and
            kh kw C_out / groups; 0 where there is no layer on that side.
        variance_in, variance_out, variance_bias: of the links and of the biases, in units of the weights squared.

    Raises:
        DomainError: no nodes, or a number below 0.
    """
    given = {
        "fan_in": fan_in, "variance_in": variance_in, "fan_out": fan_out, "variance_out": variance_out,
        "variance_bias": variance_bias,
    }  # fmt: skip
    for what, value in {"nodes": nodes - 1, **given}.items():
        if not (value >= 0 and math.isfinite(value)):
            got = nodes if what == "nodes" else value
            raise DomainError(f"expected_fluctuation: got {what}={got}, expected at least {int(what == 'nodes')}")
    links = fan_in * variance_in + variance_bias + fan_out * variance_out
    return math.sqrt((nodes - 1) / nodes * links)


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """Strengths on both sides, and the standard deviation of sums of as many independent links."""

    incoming: Float64
    outgoing: Float64
    spread_in: float
    spread_out: float


def _link_view(weight: ArrayLike, function: str) -> View:
    view = arrays.weight_view(weight, function)
    if view.array.ndim < 2 or view.array.size == 0:
        raise ShapeError(
            f"{function}: got a weight of shape {view.array.shape}, expected (out, in, ...), none of them 0"
        )
    return view


def _chain(weights: Sequence[ArrayLike], groups: int | Sequence[int], function: str) -> tuple[list[View], list[int]]:
    """Weights that chain, and the groups of each."""
    views = [_link_view(weight, f"{function}: layer {layer}") for layer, weight in enumerate(weights)]
    if not views:
        raise ShapeError(f"{function}: got no weights, expected at least one")
    divided = list(groups) if isinstance(groups, Sequence) else [groups] * len(views)
    _check_count(divided, "groups", len(views), function)
    for layer, view in enumerate(views):
        n, m = view.array.shape[:2]
        divided[layer] = checked_groups(n, divided[layer], f"{function}: layer {layer}")
        entering, before = m * divided[layer], views[max(0, layer - 1)].array.shape[0]
        if layer and entering != before:
            got = f"layer {layer} of {entering} inputs after one of {before} outputs"
            raise ShapeError(f"{function}: got {got}, expected weights that chain")
    return views, divided


def _check_count(given: Sequence[object], what: str, layers: int, function: str) -> None:
    if len(given) != layers:
        raise ShapeError(f"{function}: got {len(given)} {what} for {layers} weights, expected one for each")


def _layer(view: View, bias: ArrayLike | None, groups: int, threads: int, function: str) -> _Layer:
    array, (n, m, *kernel) = view.array, view.array.shape
    try:
        statistics, sums = native.link_survey(array.reshape(n, -1), view.dtype, quantiles=[], threads=threads)
    except NonFinite:
        raise infinite(view, function) from None
    incoming, columns = sums[0], sums[3]
    outgoing = columns.reshape(m, -1).sum(axis=1)
    if groups > 1:  # a column holds links into every group
        outgoing = kernel_sums(powers(view, "signed"), groups)[1].reshape(m * groups, -1).sum(axis=1)
    offset = 0.0
    if bias is not None:
        values = bias_values(bias, n, function)
        incoming, offset = incoming + values, _deviation(values, function)
    each, taps = _link_deviation(view, statistics[2], function), math.prod(kernel)
    return _Layer(
        incoming, outgoing, math.hypot(each * math.sqrt(m * taps), offset), each * math.sqrt(n // groups * taps)
    )


def _link_deviation(view: View, variance: float, function: str) -> float:
    """Standard deviation of the links; a variance that float64 does not hold is taken of scaled links."""
    if 2.0**-900 < variance < math.inf:
        return math.sqrt(variance)
    return _deviation(powers(view, "signed").astype(np.float64, copy=False), function)


def _deviation(strengths: ArrayLike, function: str) -> float:
    """Population standard deviation: 0 where all are equal, at any scale."""
    s = arrays.widened(arrays.view(strengths, function)).astype(np.float64).ravel()
    if not s.size:
        raise ShapeError(f"{function}: got no nodes, expected at least one")
    if not np.isfinite(s).all():
        raise NonFinite(f"{function}: got {s[~np.isfinite(s)][0]} among the strengths, expected finite values")
    exponent = math.frexp(float(np.abs(s).max()))[1]
    scaled = np.ldexp(s, -exponent)
    return math.ldexp(float((scaled - scaled[0]).std()), exponent)
