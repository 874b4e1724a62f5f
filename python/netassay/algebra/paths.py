"""A layer graph as arrays: who feeds whom along paths, which calls a path reaches, and what each edge multiplies by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from netassay.algebra.aggregate import aggregate, minimum_vertex_cut, minimum_vertex_cuts, path_shares
from netassay.algebra.graph import INPUT, Call, LayerGraph, Tensor, tensors_in
from netassay.algebra.semantics import Leaf, leaf_of


@dataclass(frozen=True, eq=False)
class Paths:
    """The paths of a graph from its input, one virtual node that feeds every source, to each call.

    Attributes:
        graph, leaves: the calls, and the transfer function of each.
        sources: places of the calls at which paths begin: inputs, and embeddings of inputs.
        reached: (calls,) bool: whether a path arrives.
        entering: of each call, the tensors on which paths enter.
        edges: (m, 2) int64 of (from, to), those of paths alone; a tensor that enters twice is two edges. Node `root` is
            the virtual input, node `end` the virtual output, to which every output leads.
        products: places of the calls that multiply what enters.
    """

    graph: LayerGraph
    leaves: list[Leaf]
    sources: list[int]
    reached: NDArray[np.bool_]
    entering: list[list[Tensor]]
    edges: NDArray[np.int64]
    products: list[int]

    @property
    def root(self) -> int:
        """The node of the virtual input."""
        return len(self.graph)

    @property
    def end(self) -> int:
        """The node of the virtual output."""
        return len(self.graph) + 1

    @property
    def nodes(self) -> int:
        """Calls, and these two."""
        return len(self.graph) + 2

    @property
    def source_size(self) -> int:
        """n_0: elements per sample at which paths begin."""
        return sum(self.graph.calls[place].size for place in self.sources)

    def log2_paths(self) -> NDArray[np.float64]:
        """(nodes,) log2 of the unit paths that reach an output unit of each call, mean over its units; -inf: none."""
        return aggregate(
            self.edges, self._bits, nodes=self.nodes, sources=[self.root], products=self.products, semiring="log2_sum"
        )

    def shares(self) -> NDArray[np.float64]:
        """(calls,) d log2 (paths of the output) / d log2 (fan-in of the call)."""
        if not len(self.edges):
            return np.zeros(len(self.graph))
        shares = path_shares(
            self.edges, self._bits, nodes=self.nodes, sources=[self.root], products=self.products, targets=[self.end]
        )
        into = np.zeros(self.nodes)
        first = np.unique(self.edges[:, 1], return_index=True)[1]
        counted = np.ones(len(self.edges), dtype=bool)
        multiplied = np.isin(self.edges[:, 1], self.products)
        counted[multiplied] = False  # the gain of a product stands on the first edge that enters it
        counted[first] = True
        np.add.at(into, self.edges[counted, 1], shares[counted])
        return into[: len(self.graph)]

    def layer_paths(self) -> int:
        """Paths from the input to the output through calls, each tensor that enters a call being a way of its own."""
        (count,) = aggregate(self.edges, nodes=self.nodes, sources=[self.root], targets=[self.end], semiring="count")
        return int(count)

    def lengths(self) -> tuple[int, ...]:
        """How many of these paths run through k weighted layers, at index k."""
        weighted = np.array([leaf.weighted for leaf in self.leaves] + [False, False])
        steps = weighted[self.edges[:, 1]].astype(np.int64)
        (counts,) = aggregate(
            self.edges, steps, nodes=self.nodes, sources=[self.root], targets=[self.end], semiring="lengths"
        )
        return tuple(counts)

    def bottlenecks(self) -> NDArray[np.float64]:
        """(calls,) elements of the narrowest call on the widest path from the input to each, both included."""
        sizes = np.array([call.size for call in self.graph] + [0, math.inf])
        widest = aggregate(
            self.edges, sizes[self.edges[:, 1]], nodes=self.nodes, sources=[self.root], semiring="widest"
        )
        return widest[: len(self.graph)]

    @cached_property
    def cuts(self) -> NDArray[np.int64]:
        """(nodes,) least number of units that separate a call from the input, both may be among them; -1: no path."""
        return minimum_vertex_cuts(self.edges, self._capacities, sources=[self.root])

    def rank(self, place: int) -> int:
        """The least number of units that separate what enters a call from the input."""
        before = {tensor.call for tensor in self.entering[place]}
        if len(before) == 1:
            return int(self.cuts[next(iter(before))])
        open_ended = self._capacities.copy()
        open_ended[place] = self._capacities[self.end]
        return minimum_vertex_cut(self.edges, open_ended, place, sources=[self.root]).value

    @cached_property
    def _capacities(self) -> NDArray[np.int64]:
        sizes = [call.size for call in self.graph]
        largest = sum(sizes[output] for output in self.graph.outputs) + sum(sizes)
        return np.array([*sizes, self.source_size, largest], dtype=np.int64)

    @cached_property
    def _bits(self) -> NDArray[np.float64]:
        """log2 of what each edge multiplies by."""
        sizes = {self.end: sum(self.graph.calls[p].size for p in self.graph.outputs if self.reached[p])}
        bits = [0.0] * len(self.sources)
        for call, leaf, tensors in zip(self.graph, self.leaves, self.entering, strict=True):
            bits += _edge_bits(call, leaf, tensors)
        outputs = self.edges[self.edges[:, 1] == self.end, 0]
        bits += [math.log2(max(self.graph.calls[p].size, 1) / max(sizes[self.end], 1)) for p in outputs]
        return np.array(bits)


def paths_of(graph: LayerGraph) -> Paths:
    """Follows the paths of a graph."""
    leaves = [leaf_of(call) for call in graph]
    carried = _carried(graph, leaves)
    dependent = [_dependent(call, leaf, carried) for call, leaf in zip(graph, leaves, strict=True)]
    used = _used(graph, leaves, dependent)
    sources = [p for p, leaf in enumerate(leaves) if leaf.form == "source" and carried[p] and used[p]]
    reached = np.zeros(len(graph), dtype=bool)
    entering: list[list[Tensor]] = []
    for place, tensors in enumerate(dependent):
        entering.append([t for t in tensors if t.call is not None and reached[t.call]])
        reached[place] = place in sources or bool(entering[place])
    products = [p for p in range(len(graph)) if multiplies(leaves[p]) and len(entering[p]) > 1]
    edges = _edges(graph, sources, reached, entering)
    return Paths(graph, leaves, sources, reached, entering, edges, products)


def _dependent(call: Call, leaf: Leaf, carried: Sequence[bool]) -> list[Tensor]:
    """What a call reads of what depends on the input."""
    if leaf.form in ("source", "constant"):
        return []
    return [tensor for tensor in _read(call, leaf) if tensor.call is not None and carried[tensor.call]]


def _used(graph: LayerGraph, leaves: Sequence[Leaf], dependent: Sequence[Sequence[Tensor]]) -> list[bool]:
    """Whether units of a call go further than through views into comparisons and embeddings."""
    used = [place in graph.outputs for place in range(len(graph))]
    for place in reversed(range(len(graph))):
        if used[place] or leaves[place].form not in ("view", "step"):
            for tensor in dependent[place]:
                if tensor.call is not None:
                    used[tensor.call] = True
    return used


def _edges(
    graph: LayerGraph, sources: Sequence[int], reached: NDArray[np.bool_], entering: Sequence[Sequence[Tensor]]
) -> NDArray[np.int64]:
    root, end = len(graph), len(graph) + 1
    edges = [(root, source) for source in sources]
    edges += [(t.call, place) for place, tensors in enumerate(entering) for t in tensors if t.call is not None]
    edges += [(output, end) for output in graph.outputs if reached[output]]
    return np.array(edges, dtype=np.int64).reshape(-1, 2)


def multiplies(leaf: Leaf) -> bool:
    """Whether what enters is multiplied; a mix whose weights come from the input too, like any product."""
    return leaf.form == "product" or (leaf.form == "mix" and not isinstance(leaf.fan_in, Mapping))


def _carried(graph: LayerGraph, leaves: Sequence[Leaf]) -> list[bool]:
    """Whether what a call puts out depends on the input by more than comparisons, along whatever it reads."""
    carried: list[bool] = []
    for call, leaf in zip(graph, leaves, strict=True):
        depends = call.op == INPUT or any(carried[t.call] for t in call.inputs if t.call is not None)
        carried.append(depends and leaf.form not in ("constant", "step"))
    return carried


def _read(call: Call, leaf: Leaf) -> list[Tensor]:
    if leaf.reads is None:
        return list(call.tensors)
    return list(tensors_in(value for name, value in call.arguments.items() if name in leaf.reads))


def _edge_bits(call: Call, leaf: Leaf, tensors: Sequence[Tensor]) -> list[float]:
    if leaf.form == "concat":
        return [math.log2(max(tensor.elements, 1) / max(call.size, 1)) for tensor in tensors]
    if isinstance(leaf.fan_in, Mapping):
        of = {id(t): leaf.fan_in[name] for name in leaf.fan_in for t in _read(call, Leaf(reads=(name,)))}
        return [math.log2(of[id(tensor)]) for tensor in tensors]
    bits = math.log2(leaf.fan_in) if leaf.fan_in > 0 else -math.inf
    if multiplies(leaf):
        return [bits] + [0.0] * (len(tensors) - 1) if tensors else []
    return [bits] * len(tensors)
