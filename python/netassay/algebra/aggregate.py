"""Sums over the paths of any weighted directed acyclic graph, and its minimum vertex cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from netassay import _core
from netassay.algebra.inputs import (
    Float64,
    Int64,
    Nodes,
    graph_of,
    index,
    integer,
    node_list,
    numbers,
    pairs,
    weighted,
    whole,
)
from netassay.base.arrays import read_only
from netassay.base.errors import DomainError

#: What `aggregate` knows, and the gain of an edge where none are given; of "lengths" it is z.
SEMIRINGS: dict[str, float | None] = {
    "log2_sum": 0.0,
    "longest": 0.0,
    "shortest": 0.0,
    "widest": np.inf,
    "count": 1,
    "lengths": 1,
    "receptive_field": None,
}


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """What each node sees of the sources; see `aggregate`.

    Attributes:
        size: (nodes,) float64, positions seen: 1 at a source, inf for all there are, 0 where no path arrives.
        stride: (nodes,) float64, positions from one neighbour to the next; 0 where no path arrives.
        consistent: (nodes,) bool, False where paths of different stride meet (the larger one is kept) and downstream.
    """

    size: Float64
    stride: Float64
    consistent: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class VertexCut:
    """A cheapest set of nodes that every path from a source to the target meets.

    Attributes:
        value: the sum of their capacities; -1 where no path arrives at the target.
        nodes: (k,) int64, ascending; of all minimum cuts the one next to the sources.
    """

    value: int
    nodes: Int64


@overload
def aggregate(
    edges: ArrayLike,
    gains: ArrayLike | None = None,
    *,
    semiring: Literal["log2_sum", "longest", "shortest", "widest"] = "log2_sum",
    nodes: int | None = None,
    sources: Nodes | None = None,
    products: Nodes | None = None,
) -> Float64: ...
@overload
def aggregate(
    edges: ArrayLike,
    gains: ArrayLike | None = None,
    *,
    semiring: Literal["count"],
    nodes: int | None = None,
    sources: Nodes | None = None,
    targets: Nodes | None = None,
) -> list[int]: ...
@overload
def aggregate(
    edges: ArrayLike,
    gains: ArrayLike | None = None,
    *,
    semiring: Literal["lengths"],
    nodes: int | None = None,
    sources: Nodes | None = None,
    targets: Nodes | None = None,
) -> list[tuple[int, ...]]: ...
@overload
def aggregate(
    edges: ArrayLike,
    gains: ArrayLike,
    *,
    semiring: Literal["receptive_field"],
    nodes: int | None = None,
    sources: Nodes | None = None,
) -> Fields: ...
@overload
def aggregate(
    edges: ArrayLike,
    gains: ArrayLike | None = None,
    *,
    semiring: str,
    nodes: int | None = None,
    sources: Nodes | None = None,
    products: Nodes | None = None,
    targets: Nodes | None = None,
) -> Any: ...
def aggregate(
    edges: ArrayLike,
    gains: ArrayLike | None = None,
    *,
    semiring: str = "log2_sum",
    nodes: int | None = None,
    sources: Nodes | None = None,
    products: Nodes | None = None,
    targets: Nodes | None = None,
) -> Any:
    """A sum over all paths from the sources to each node, in a semiring (plus, times).

    t(v) = plus over the paths from a source to v of (times over the path's edges e of gain(e)); the empty path has
    one, a node that no path reaches has zero.

    | semiring          | plus, times            | one      | zero     | gain of an edge                               |
    |-------------------|------------------------|----------|----------|-----------------------------------------------|
    | "log2_sum"        | log2(2^a + 2^b), a + b | 0        | -inf     | log2 of a factor, below inf; None: 0          |
    | "longest"         | max, +                 | 0        | -inf     | below inf; None: 0                            |
    | "shortest"        | min, +                 | 0        | inf      | above -inf; None: 0                           |
    | "widest"          | max, min               | inf      | -inf     | any number; None: inf                         |
    | "count"           | +, x of integers       | 1        | 0        | edges that it stands for, 0 ... 2^64 - 1      |
    | "lengths"         | +, x of polynomials    | (1,)     | ()       | its length k, 0 ... 2^32 - 1; None: 1         |
    | "receptive_field" | see below              | (1, 1)   | (0, 0)   | (extent e >= 0, stride s > 0), never None     |

    A receptive field (size r, stride j) becomes (r + e j, j s) along an edge; of what meets, r is the largest and j has
    to agree. e is the kernel's size less one, dilation counted; inf for all there is.

    >>> from netassay.algebra import aggregate
    >>> diamond = [(0, 1), (0, 2), (1, 3), (2, 3)]
    >>> aggregate(diamond, [3, 3, 0, 0])  # in bits: 2 x 2^3 paths to the last node
    array([0., 3., 3., 4.])
    >>> aggregate(diamond, semiring="count")
    [1, 1, 1, 2]
    >>> aggregate(diamond, [1, 0, 1, 0], semiring="lengths")  # to the only node that no edge leaves
    [(1, 0, 1)]

    Args:
        edges: (m, 2) integers, (from, to); parallel edges are edges like any others. gains: (m,), of a receptive field
            (m, 2); None: see the table.
        nodes: how many; None: 1 + the largest of the edges. sources: None: the nodes that no edge enters.
        products: nodes whose plus is times ("log2_sum" only): what no path reaches counts as one there.
        targets: nodes wanted ("count", None: all; "lengths", None: the nodes that no edge leaves).

    Returns:
        (nodes,) float64; for "count" a list of integers, for "lengths" of tuples whose element i is the number of paths
        of length i, in the order of the targets; `Fields` of a receptive field. Arrays are read-only.

    Raises:
        ShapeError: edges not (m, 2), gains of another number. DTypeError: edges, nodes or whole gains that are no
        integers. NonFinite: a gain that is none, by edge; sums beyond a double. DomainError: an unknown semiring; an
        edge, source, product or target that is no node; a whole gain outside its range; a cycle. LimitExceeded: exact
        numbers of more than 1 GiB.

    Source: Mohri, "Semiring frameworks and algorithms for shortest-distance problems" (2002).
    """
    name = "aggregate"
    if semiring not in SEMIRINGS:
        raise DomainError(f"{name}: got semiring {semiring!r}, expected one of {', '.join(SEMIRINGS)}")
    if products is not None and semiring != "log2_sum":
        raise DomainError(f"{name}: got products with semiring {semiring!r}, expected them with 'log2_sum' alone")
    if targets is not None and semiring not in ("count", "lengths"):
        raise DomainError(f"{name}: got targets with semiring {semiring!r}, expected them with 'count' or 'lengths'")
    graph = graph_of(edges, nodes, name)
    start, wanted = node_list(sources, name, "sources"), node_list(targets, name, "targets")
    native = _core.algebra
    if semiring == "count":
        multiplicities = whole(gains, len(graph[1]), np.uint64, name)
        counts = native.path_counts(*graph, multiplicities, sources=start, targets=wanted)
        return [integer(count) for count in counts]
    if semiring == "lengths":
        lengths = whole(gains, len(graph[1]), np.uint32, name)
        found = native.path_lengths(*graph, lengths, sources=start, targets=wanted)
        return [tuple(map(integer, counts)) for counts in found]
    if semiring == "receptive_field":
        extents, strides = pairs(gains, name)
        size, stride, agree = native.receptive_fields(*graph, extents, strides, sources=start)
        return Fields(read_only(size), read_only(stride), read_only(agree.astype(np.bool_)))
    values = numbers(gains, len(graph[1]), SEMIRINGS[semiring] or 0.0, name)
    times = node_list(() if products is None else products, name, "products")
    return read_only(native.path_sums(*graph, values, semiring=semiring, sources=start, products=times))


def path_shares(
    edges: ArrayLike,
    gains: ArrayLike | None = None,
    *,
    nodes: int | None = None,
    sources: Nodes | None = None,
    products: Nodes | None = None,
    targets: Nodes | None = None,
) -> Float64:
    """How much of all paths goes through each edge: the gradient of `aggregate`'s "log2_sum".

    share(e) = d log2 total / d gain(e), total = sum over the targets v of 2^t(v): dimensionless, bits per bit. In a
    chain every edge has 1; where branches meet, their shares add up to that of what follows. All factors of a product
    have its whole share. An edge that leads to no target, or from no source, has 0.

    >>> from netassay.algebra import path_shares
    >>> path_shares([(0, 1), (1, 2), (1, 2)], [5, 0, 1]).round(3)
    array([1.   , 0.333, 0.667])

    Args:
        edges, gains, nodes, sources, products: as `aggregate`. targets: each counts once; None: the nodes that no edge
            leaves.

    Returns:
        (m,) float64, read-only.

    Raises:
        As `aggregate`.
    """
    name = "path_shares"
    graph = graph_of(edges, nodes, name)
    return read_only(
        _core.algebra.path_shares(
            *graph,
            numbers(gains, len(graph[1]), 0.0, name),
            sources=node_list(sources, name, "sources"),
            products=node_list(() if products is None else products, name, "products"),
            targets=node_list(targets, name, "targets"),
        )
    )


def minimum_vertex_cut(
    edges: ArrayLike, capacities: ArrayLike, target: int, *, sources: Nodes | None = None
) -> VertexCut:
    """The cheapest set of nodes that every path from a source to the target meets.

    value = min of (sum of capacities over X) over the sets X of nodes without which no path is left; sources and the
    target may be in X. By maximum flow.

    >>> from netassay.algebra import minimum_vertex_cut
    >>> cut = minimum_vertex_cut([(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)], [9, 8, 7, 7, 10], 4)
    >>> cut.value, cut.nodes
    (8, array([1]))

    Args:
        edges: as `aggregate`. capacities: (nodes,) integers >= 0, below 2^63 - 1 in all; there are as many nodes as
            capacities. target: a node. sources: None: the nodes that no edge enters.

    Raises:
        ShapeError: edges not (m, 2), capacities not (nodes,). DTypeError: what are no integers. DomainError: a negative
        capacity, a target, source or edge outside the graph, a cycle.

    Source: Menger 1927; Dinic 1970.
    """
    name = "minimum_vertex_cut"
    graph, capacity = weighted(edges, capacities, name)
    value, nodes = _core.algebra.minimum_vertex_cut(
        *graph, capacity, index(target, name, "target"), sources=node_list(sources, name, "sources")
    )
    return VertexCut(value, read_only(nodes))


def minimum_vertex_cuts(edges: ArrayLike, capacities: ArrayLike, *, sources: Nodes | None = None) -> Int64:
    """The value of `minimum_vertex_cut` of every node as the target, (nodes,) int64, -1 where no path arrives.

    With d the last node that all paths to v meet, cut(v) = min(cut(d), cut from d to v): a chain costs nothing, and a
    node where branches meet a flow between d and itself.

    >>> from netassay.algebra import minimum_vertex_cuts
    >>> minimum_vertex_cuts([(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)], [9, 8, 7, 7, 10])
    array([9, 8, 7, 7, 8])

    Args, raises, source: as `minimum_vertex_cut`; dominators by Cooper, Harvey, Kennedy 2001.
    """
    name = "minimum_vertex_cuts"
    graph, capacity = weighted(edges, capacities, name)
    return read_only(_core.algebra.minimum_vertex_cuts(*graph, capacity, sources=node_list(sources, name, "sources")))
