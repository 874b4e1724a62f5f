"""The links of a network that matter to one of their ends: the disparity filter, and what graph libraries take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base import arrays, files
from netassay.base.errors import DomainError, ShapeError
from netassay.network.convolution import Float64, per_axis

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike, View

Int64: TypeAlias = NDArray[np.int64]

#: Weights at a time: what is made of them is some ten times as large.
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """The links that a disparity filter keeps, m of them, ordered by layer, target and source.

    Node layers are numbered along the chain, from `sizes`' first; weight layer l links node layer l to l + 1.

    Attributes:
        layer: (m,) int64: node layer of the source; the target is in the next.
        source, target: (m,) int64: units of these layers, counted from 0.
        weight: (m,) float64, signed, as stored.
        significance: (m,) float64 in [0, alpha): the smaller of (1 - p)^(k - 1) at the two ends: how probable so large
            a share is where a node's weight falls on its links at random.
        alpha: below which links were kept.
        first_layer: number of the first layer of nodes.
        sizes: nodes of each layer, linked or not.
        links: of weight other than 0, before the filter; a count.
        flags: "empty" (no link was kept), "zero" (no link weighs anything).
    """

    layer: Int64
    source: Int64
    target: Int64
    weight: Float64
    significance: Float64
    alpha: float
    first_layer: int
    sizes: tuple[int, ...]
    links: int
    flags: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.weight)

    def edges(self) -> Iterator[tuple[str, str, float, float]]:
        """(source, target, weight, significance), nodes by the names that all graphs have: "layer:unit"."""
        columns = (self.layer, self.source, self.target, self.weight, self.significance)
        for first in range(0, len(self), 1 << 14):
            part = slice(first, first + (1 << 14))
            for layer, i, k, w, s in zip(*(column[part].tolist() for column in columns), strict=True):
                yield f"{layer}:{i}", f"{layer + 1}:{k}", w, s

    def to_networkx(self) -> Any:
        """A networkx.DiGraph of the linked nodes, "layer:unit", with these as attributes `layer` and `unit`; links have
        `weight` and `significance`. `networkx.compose` joins graphs of several layers, igraph takes it by
        `igraph.Graph.from_networkx`.

        Raises: ImportError without networkx.
        """
        try:
            import networkx
        except ImportError as error:
            raise ImportError(
                "Backbone.to_networkx: expected networkx to be installed (pip install networkx)"
            ) from error
        graph = networkx.DiGraph(alpha=self.alpha)
        graph.add_nodes_from((name, {"layer": layer, "unit": unit}) for name, layer, unit in self._nodes())
        graph.add_edges_from((i, k, {"weight": w, "significance": s}) for i, k, w, s in self.edges())
        return graph

    def to_graphml(self, path: files.Path) -> None:
        """The graph of `to_networkx` as a GraphML file, for networkx, igraph, Gephi, Cytoscape; needs no library.

        Raises: OSError (the file system's): the old file is untouched.
        """
        files.write(path, self._graphml())

    def _nodes(self) -> Iterator[tuple[str, int, int]]:
        """Name, layer and unit of the linked ones."""
        for layer in range(self.first_layer, self.first_layer + len(self.sizes)):
            ends = self.source[self.layer == layer], self.target[self.layer == layer - 1]
            for unit in np.unique(np.concatenate(ends)).tolist():
                yield f"{layer}:{unit}", layer, unit

    def _graphml(self) -> Iterator[bytes]:
        keys = (
            ("layer", "node", "long"), ("unit", "node", "long"), ("weight", "edge", "double"),
            ("significance", "edge", "double"), ("alpha", "graph", "double"),
        )  # fmt: skip
        yield b'<?xml version="1.0" encoding="utf-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
        for name, what, kind in keys:
            yield f'<key id="{name}" for="{what}" attr.name="{name}" attr.type="{kind}"/>\n'.encode()
        yield f'<graph edgedefault="directed">\n<data key="alpha">{self.alpha!r}</data>\n'.encode()
        for name, layer, unit in self._nodes():
            data = f'<data key="layer">{layer}</data><data key="unit">{unit}</data>'
            yield f'<node id="{name}">{data}</node>\n'.encode()
        for i, k, w, s in self.edges():
            data = f'<data key="weight">{w!r}</data><data key="significance">{s!r}</data>'
            yield f'<edge source="{i}" target="{k}">{data}</edge>\n'.encode()
        yield b"</graph>\n</graphml>\n"


def backbone(weight: ArrayLike | Sequence[ArrayLike], alpha: float, *, first_layer: int = 0) -> Backbone:
    """The disparity filter: links that carry more of a node's weight than chance would give one of its links.

    A link of share p = |w| / sum |w| of a node of k links (of weight other than 0) is kept where
    (1 - p)^(k - 1) < alpha at its source, among what leaves it into the layer, or at its target, among what enters it.
    A node of one link says nothing about it, (1 - p)^0 = 1: the other end decides. A layer's scale changes nothing.

    >>> import numpy as np
    >>> kept = backbone(np.array([[9.0, 0.5, 0.5], [1.0, 1.0, 1.0]]), 0.05)
    >>> [(source, target, weight, round(significance, 6)) for source, target, weight, significance in kept.edges()]
    [('0:0', '1:0', 9.0, 0.01)]

    Args:
        weight: (out, in), or a list of these that chain, (n_1, n_0), ..., (n_L, n_{L-1}): one graph. In float64,
            float32, bfloat16, float16, an 8-bit float, int8 or uint8. Of a convolution, give one number for each
            kernel, such as np.abs(kernels).sum((2, 3)).
        alpha: in (0, 1]; the smaller, the fewer links. At 1, all that one end has others beside.
        first_layer: number of the first layer of nodes: graphs of a chain that is filtered layer by layer then join.

    Cost: three reads of each weight, memory for the kept links beside one layer's sums.

    Raises:
        ShapeError: no matrices, or sizes that do not chain. DomainError: alpha, or a first layer below 0. DTypeError.
        NonFinite: by layer, counted from 0, and index.

    Source: Serrano, Boguna, Vespignani, "Extracting the multiscale backbone of complex weighted networks" (PNAS 106,
    2009, arXiv 0904.2389), its form for directed networks.
    """
    name = "backbone"
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.floating) or not 0 < alpha <= 1:
        raise DomainError(f"{name}: got alpha={alpha!r}, expected a number above 0 and at most 1")
    (first,) = per_axis(first_layer, 1, 0, "first_layer", name)
    given = list(weight) if isinstance(weight, list | tuple) and not isinstance(weight, arrays.View) else [weight]
    views = [_matrix(each, f"{name}: layer {layer}") for layer, each in enumerate(given)]
    if not views:
        raise ShapeError(f"{name}: got no weights, expected at least one")
    for layer, (before, after) in enumerate(pairwise(view.array.shape for view in views), start=1):
        if after[1] != before[0]:
            got = f"layer {layer} of {after[1]} inputs after one of {before[0]} outputs"
            raise ShapeError(f"{name}: got {got}, expected weights that chain")
    kept, links = zip(*(_filtered(v, float(alpha), f"{name}: layer {i}") for i, v in enumerate(views)), strict=True)
    counts = [len(part[0]) for part in kept]
    target, source, values, significance = (np.concatenate(column) for column in zip(*kept, strict=True))
    held = (not sum(counts), "empty"), (not sum(links), "zero")
    return Backbone(
        arrays.read_only(np.repeat(np.arange(first, first + len(views)), counts)),
        arrays.read_only(source),
        arrays.read_only(target),
        arrays.read_only(values),
        arrays.read_only(significance),
        float(alpha),
        first,
        (views[0].array.shape[1], *(view.array.shape[0] for view in views)),
        sum(links),
        tuple(flag for holds, flag in held if holds),
    )


class _Ends:
    """What the nodes of one side have: their largest |w|, the sum over it, and how many links."""

    def __init__(self, nodes: int) -> None:
        self.most = np.zeros(nodes)
        self.total = np.zeros(nodes)
        self.links = np.zeros(nodes, np.int64)

    def limits(self, alpha: float) -> Float64:
        """Magnitudes that no link below keeps: p >= 1 - alpha^(1 / (k - 1)), less some rounding."""
        share = -np.expm1(np.log(alpha) / np.maximum(self.links - 1, 1)) * (1 - 1e-9)
        with np.errstate(over="ignore"):
            found: Float64 = self.most * np.minimum(self.total * share, 2)  # none is twice the largest
        return np.where(self.links > 1, found, np.inf)

    def chance(self, magnitudes: Float64, nodes: NDArray[np.intp]) -> Float64:
        """(1 - p)^(k - 1) of links of these nodes."""
        others = self.links[nodes] - 1
        with np.errstate(divide="ignore"):  # a share of 1
            logs = np.log1p(-np.minimum(magnitudes / self.most[nodes] / self.total[nodes], 1))
            found: Float64 = np.exp(np.where(others > 0, others, 1) * logs)
        return np.where(others > 0, found, 1.0)


def _filtered(view: View, alpha: float, function: str) -> tuple[tuple[Int64, Int64, Float64, Float64], int]:
    """Target, source, weight and significance of the kept links of a layer, and how many there were."""
    targets, sources = (_Ends(nodes) for nodes in view.array.shape)
    for rows, values in _blocks(view):
        magnitudes = np.abs(values)
        if not np.isfinite(magnitudes.max()):
            raise arrays.nonfinite(view, function)
        targets.most[rows] = magnitudes.max(axis=1)
        np.maximum(sources.most, magnitudes.max(axis=0), out=sources.most)
        targets.links[rows] = (magnitudes > 0).sum(axis=1)
        sources.links += (magnitudes > 0).sum(axis=0)
    # Over the largest of each node, so that no sum leaves float64.
    row_unit, column_unit = (np.where(ends.most > 0, ends.most, 1) for ends in (targets, sources))
    for rows, values in _blocks(view):
        magnitudes = np.abs(values)
        targets.total[rows] = (magnitudes / row_unit[rows, None]).sum(axis=1)
        sources.total += (magnitudes / column_unit).sum(axis=0)

    parts, row_limits, column_limits = [], targets.limits(alpha), sources.limits(alpha)
    for rows, values in _blocks(view):
        magnitudes = np.abs(values)
        candidates = (magnitudes >= row_limits[rows, None]) | (magnitudes >= column_limits)
        at, i = np.nonzero(candidates & (magnitudes > 0))
        k, w = at + rows.start, values[at, i]
        chance = np.minimum(targets.chance(np.abs(w), k), sources.chance(np.abs(w), i))
        keep = chance < alpha
        parts.append((k[keep].astype(np.int64), i[keep].astype(np.int64), w[keep], chance[keep]))
    target, source, weight, significance = (np.concatenate(column) for column in zip(*parts, strict=True))
    return (target, source, weight, significance), int(targets.links.sum())


def _matrix(weight: ArrayLike, function: str) -> View:
    view = arrays.weight_view(weight, function)
    if view.array.ndim != 2 or view.array.size == 0:
        got = f"a weight of shape {view.array.shape}"
        raise ShapeError(f"{function}: got {got}, expected (out, in), none of them 0")
    return view


def _blocks(view: View) -> Iterator[tuple[slice, Float64]]:
    """Rows of the matrix in float64."""
    count, width = view.array.shape
    step = max(1, _BLOCK // width)
    for first in range(0, count, step):
        rows = slice(first, min(first + step, count))
        yield rows, arrays.widened(arrays.View(view.array[rows], view.dtype)).astype(np.float64)
