"""Which of the established bounds a graph admits, and what they need to be told of it."""

from __future__ import annotations

import math

from netassay.algebra.bounds import serra_regions, vc_bound
from netassay.algebra.paths import Paths

#: Units of a layer up to which the exact integers of Serra's bound are computed.
MOST_UNITS = 16384


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
    """The bound of Bartlett et al. for one output unit of a piecewise linear network.

    Layer i holds the units that a path reaches through at most i weighted layers, each with at most one piecewise
    linear function of one variable behind it. None where the theorem does not apply: other functions, maxima over
    several units, products, several outputs, parameters outside weighted layers other than BatchNorm's, which are
    folded into the layer before them.
    """
    graph = paths.graph
    if len(graph.outputs) != 1 or not paths.reached[graph.outputs[0]]:
        return None
    depth = [0] * len(graph)
    bent = [False] * len(graph)  # whether a breakpoint stands behind the last weighted layer
    units: dict[int, int] = {}
    parameters: dict[int, int] = {}
    counted: set[str] = set()
    breakpoints = 0
    for place in map(int, paths.reached.nonzero()[0]):
        call, leaf = graph.calls[place], paths.leaves[place]
        before = [t.call for t in paths.entering[place] if t.call is not None]
        deepest = max((depth[u] for u in before), default=0)
        depth[place] = deepest
        bent[place] = any(bent[u] and depth[u] == deepest for u in before)
        if place in paths.products or leaf.planes is None or leaf.form == "recurrent":
            return None
        own = {t.name: math.prod(t.shape) for t in call.tensors if t.parameter and t.name is not None}
        if leaf.weighted:
            depth[place], bent[place] = deepest + 1, False
            units[depth[place]] = units.get(depth[place], 0) + call.size
        elif leaf.planes:
            if leaf.planes != leaf.breakpoints * call.size or bent[place] or not deepest:
                return None
            bent[place], breakpoints = True, max(breakpoints, leaf.breakpoints)
        elif own and call.op != "batch_norm":
            return None
        if call.op == "batch_norm":
            own = {f"{call.name}.bias": call.shape[1]}
        new = {name: count for name, count in own.items() if name not in counted}
        counted.update(new)
        parameters[depth[place]] = parameters.get(depth[place], 0) + sum(new.values())
    last = depth[graph.outputs[0]]
    if not breakpoints or not last or units.get(last, 0) != graph.calls[graph.outputs[0]].size or parameters.get(0):
        return None
    per_unit = parameters[last] // units[last] if parameters[last] % units[last] == 0 else parameters[last]
    layers = range(1, last + 1)
    return vc_bound(
        [*(units[i] for i in layers[:-1]), 1],
        [*(parameters.get(i, 0) for i in layers[:-1]), per_unit],
        breakpoints=breakpoints,
    )
