"""Which of the established bounds a graph admits, and what they need to be told of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from netassay.algebra.bounds import serra_regions, vc_bound
from netassay.algebra.graph import Call, Tensor
from netassay.algebra.paths import Paths
from netassay.algebra.semantics import Leaf

#: Units of a layer up to which the exact integers of Serra's bound are computed: a second for four such layers.
MOST_UNITS = 4096


def serra_of(paths: Paths) -> int | None:
    """Serra's bound for one input, linear layers and ReLU in a chain; the last linear layer may be without a ReLU."""
    graph = paths.graph
    if len(graph.outputs) != 1 or len(paths.sources) != 1:
        return None
    widths = [graph.calls[paths.sources[0]].size]
    pending = 0
    at = paths.sources[0]
    while at != graph.outputs[0]:
        following = paths.edges[paths.edges[:, 0] == at, 1]
        if len(following) != 1 or len(paths.entering[following[0]]) != 1:
            return None
        at = int(following[0])
        call, leaf = graph.calls[at], paths.leaves[at]
        if call.op == "linear" and call.size == call.shape[-1]:
            pending = call.size
        elif call.op == "relu" and pending == call.size:
            widths.append(pending)
            pending = 0
        elif leaf.form != "view" or (call.size != widths[-1] and not pending):
            return None
    return serra_regions(widths) if len(widths) > 1 and max(widths) <= MOST_UNITS else None


def vc_bound_of(paths: Paths) -> float | None:
    """The bound of Bartlett et al. for one output unit of a piecewise linear network; None where it does not apply.

    Layer i holds the units that a path reaches through at most i weighted layers, each with at most one piecewise
    linear function of one variable behind it. It does not apply to other functions, maxima over several units,
    products, several outputs, and parameters outside weighted layers other than those of a BatchNorm that alone reads
    one, which is folded into it: it adds a bias. A weight made of parameters counts with its own numbers.
    """
    graph = paths.graph
    if len(graph.outputs) != 1 or not paths.reached[graph.outputs[0]]:
        return None
    layers = _Layers(paths)
    if not all(layers.take(int(place)) for place in paths.reached.nonzero()[0]):
        return None
    return layers.bound(graph.outputs[0])


class _Layers:
    """The layers of the theorem, filled call by call."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._depth = [0] * len(paths.graph)
        self._bent = [False] * len(paths.graph)  # whether a breakpoint stands behind the last weighted layer
        self._units: dict[int, int] = {}
        self._rows: dict[int, bool] = {}  # whether every unit has a row of parameters of its own
        self._parameters: dict[int, int] = {}
        self._counted: set[str | int | None] = set()
        self._breakpoints = 0
        self._derived: list[bool] = []  # whether a call puts out what is made of parameters, without a path
        for call, reached in zip(paths.graph, paths.reached, strict=True):
            made = any(t.parameter or (t.call is not None and self._derived[t.call]) for t in call.tensors)
            self._derived.append(made and not reached)
        layers = [call for call, leaf in zip(paths.graph, paths.leaves, strict=True) if leaf.weighted]
        self._reads = Counter(t.name for call in layers for t in call.tensors if t.parameter)

    def take(self, place: int) -> bool:
        """Whether the theorem allows a call; those that feed it have been taken."""
        call, leaf = self._paths.graph.calls[place], self._paths.leaves[place]
        if place in self._paths.products or leaf.planes is None or leaf.form == "recurrent":
            return False
        before = [t.call for t in self._paths.entering[place] if t.call is not None]
        self._depth[place] = max((self._depth[u] for u in before), default=0)
        self._bent[place] = any(self._bent[u] and self._depth[u] == self._depth[place] for u in before)
        own = {t.name if t.parameter else t.call: math.prod(t.shape) for t in call.tensors if self._owns(t)}
        if leaf.weighted:
            self._take_weighted(place, call)
        elif leaf.planes:
            if own or not self._take_piecewise(place, call, leaf):
                return False
        elif call.op == "batch_norm" and self._folds(before[0]):
            own = {f"{call.name}.bias": call.shape[1]}
        elif own:
            return False
        self._count(own, self._depth[place])
        return True

    def _take_weighted(self, place: int, call: Call) -> None:
        """Begins a layer, or adds units to it."""
        self._depth[place] = depth = self._depth[place] + 1
        self._bent[place] = False
        self._units[depth] = self._units.get(depth, 0) + call.size
        self._rows[depth] = self._rows.get(depth, True) and call.op == "linear" and call.size == call.shape[-1]

    def _take_piecewise(self, place: int, call: Call, leaf: Leaf) -> bool:
        """Bends the units of a layer; whether they are, of one variable each, and not bent yet."""
        if leaf.planes != leaf.breakpoints * call.size or self._bent[place] or not self._depth[place]:
            return False
        self._bent[place], self._breakpoints = True, max(self._breakpoints, leaf.breakpoints)
        return True

    def _count(self, own: Mapping[str | int | None, int], depth: int) -> None:
        """Adds parameters to a layer, each once."""
        new = {name: count for name, count in own.items() if name not in self._counted}
        self._counted.update(new)
        self._parameters[depth] = self._parameters.get(depth, 0) + sum(new.values())

    def _owns(self, tensor: Tensor) -> bool:
        """Whether it is a parameter, or made of parameters: a weight of as many numbers can do no less."""
        return tensor.parameter or (tensor.call is not None and self._derived[tensor.call])

    def _folds(self, place: int) -> bool:
        """Whether a BatchNorm behind a call is part of it: nothing else reads what it puts out, or its weights."""
        alone = all(self._reads[t.name] == 1 for t in self._paths.graph.calls[place].tensors if t.parameter)
        return self._paths.leaves[place].weighted and alone and int((self._paths.edges[:, 0] == place).sum()) == 1

    def bound(self, output: int) -> float | None:
        last = self._depth[output]
        if not self._breakpoints or self._units.get(last) != self._paths.graph.calls[output].size:
            return None
        *units, _ = (self._units.get(i, 0) for i in range(1, last + 1))
        *parameters, head = (self._parameters.get(i, 0) for i in range(1, last + 1))
        if self._rows.get(last, False):
            head //= self._units[last]
        return vc_bound([*units, 1], [*parameters, head], breakpoints=self._breakpoints)
