"""What each call sees of the input: receptive fields and strides, axis by axis of a map."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from netassay.algebra.aggregate import aggregate
from netassay.algebra.graph import INPUT, Call, LayerGraph
from netassay.algebra.paths import Paths, paths_of
from netassay.algebra.semantics import EVERYWHERE, Leaf, Window, per_axis


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one position of a call's output depends on.

    r_out = r_in + (k - 1) j_in, j_out = j_in s for a window of k positions s apart; branches that join have the
    largest r. Behind upsampling (s < 1) positions differ, and some see up to a coarse position more than this r.

    Attributes:
        size: r per spatial axis, in positions of the input, whether or not the input is that large; inf where a
            position depends on all of them (a linear layer on flattened positions, attention).
        stride: j per axis, in positions of the input between two neighbours.
        covers_input: whether r is at least the input's extent on every axis.
        aligned: whether all branches that joined on the way had one stride.
    """

    size: tuple[float, ...]
    stride: tuple[float, ...]
    covers_input: bool
    aligned: bool


def receptive_fields(graph: LayerGraph) -> Mapping[int, ReceptiveField]:
    """Of every call that a path reaches, by its place in the graph; nothing where no call has a spatial window.

    Positions are the axes after the channels: (n, channels, *axes). A linear layer or a matrix product sees them all
    where it has fewer rows than there are positions, or where they are its last axis and no others. Slices keep r and
    j, strided ones too. Attention and products of two maps see them all, windows of positions
    in attention too: an upper bound there. Norms see one position, as their statistics count as constants.
    """
    return fields_of(paths_of(graph))


def fields_of(paths: Paths) -> Mapping[int, ReceptiveField]:
    """The same from a graph's paths, where they are there already."""
    windows = [leaf.window for leaf in paths.leaves if leaf.window is not None]
    axes = max(map(len, windows), default=0)
    if axes == 0:
        return {}
    positions = _positions(paths, axes)
    extents = _extents(paths, axes)
    steps = [
        _window(call, leaf, axes, seen) for call, leaf, seen in zip(paths.graph, paths.leaves, positions, strict=True)
    ]
    fields = []
    for axis in range(axes):
        gains = np.array([steps[v][axis] if v < len(steps) else Window(1, 1) for v in paths.edges[:, 1]], dtype=float)
        gains[:, 0] -= 1
        fields.append(
            aggregate(paths.edges, gains, semiring="receptive_field", nodes=paths.nodes, sources=[paths.root])
        )
    found = {}
    for place in np.flatnonzero(paths.reached):
        size = tuple(math.ceil(field.size[place]) if np.isfinite(field.size[place]) else math.inf for field in fields)
        covers = all(r >= (extents[axis] if extents else math.inf) for axis, r in enumerate(size))
        stride = tuple(float(field.stride[place]) for field in fields)
        aligned = all(bool(field.consistent[place]) for field in fields)
        found[int(place)] = ReceptiveField(size, stride, covers, aligned)
    return found


def _extents(paths: Paths, axes: int) -> tuple[int, ...] | None:
    """Of the largest input that is a map; None where none is."""
    shapes = [call.shape[2:] for call in paths.graph if call.op == INPUT and len(call.shape) == axes + 2]
    return max(shapes, key=math.prod, default=None)


def _positions(paths: Paths, axes: int) -> list[int]:
    """How many positions enter each call: 1 until a map is seen."""
    leaving: list[int] = []
    entering: list[int] = []
    for call, leaf in zip(paths.graph, paths.leaves, strict=True):
        before = max((leaving[t.call] for t in call.inputs if t.call is not None), default=1)
        mapped = len(call.shape) == axes + 2 and (leaf.window is not None or call.op == INPUT)
        entering.append(before)
        if mapped:
            leaving.append(math.prod(call.shape[2:]))
        else:
            leaving.append(_left(call, axes, before) if leaf.form == "window" else before)
    return entering


def _window(call: Call, leaf: Leaf, axes: int, positions: int) -> tuple[Window, ...]:
    alone = (Window(1, 1),) * axes
    if leaf.window is not None:
        return leaf.window if len(leaf.window) == axes else alone
    if positions == 1:
        return alone
    if leaf.form == "window":
        return _along(call, axes, positions) or alone
    return (EVERYWHERE,) * axes if _mixes(call, leaf, positions) else alone


def _along(call: Call, axes: int, positions: int) -> tuple[Window, ...] | None:
    """Of a reduction or a softmax along axes of its tensor; None where these are no positions."""
    (entering,) = call.inputs or call.tensors[:1]
    shape, dims = entering.shape, _dims(call)
    if not _is_map(shape, axes, positions):
        return (EVERYWHERE,) * axes if any(0 < dim < len(shape) - 1 for dim in dims) else None
    if call.size == entering.elements:  # every position still has an output, which has seen the others
        return tuple(EVERYWHERE if axis in dims else Window(1, 1) for axis in range(2, axes + 2))
    extents = enumerate(shape[2:], start=2)
    return tuple(Window(n, n) if axis in dims else Window(1, 1) for axis, n in extents)


def _left(call: Call, axes: int, positions: int) -> int:
    """How many positions a reduction leaves; those of (n, positions, ..., channels) are the axes between."""
    (entering,) = call.inputs or call.tensors[:1]
    if call.size == entering.elements:
        return positions
    shape = entering.shape
    own = range(2, len(shape)) if _is_map(shape, axes, positions) else range(1, len(shape) - 1)
    return max(1, positions // math.prod(shape[dim] for dim in _dims(call) if dim in own))


def _is_map(shape: tuple[int, ...], axes: int, positions: int) -> bool:
    """Whether a tensor is (n, channels, *positions)."""
    return len(shape) == axes + 2 and math.prod(shape[2:]) == positions


def _dims(call: Call) -> set[int]:
    """The axes that are reduced; all where none are named."""
    count = len((call.inputs or call.tensors)[0].shape)
    return set(range(count)) if call.get("dim") is None else {dim % count for dim in per_axis(call["dim"], 1)}


def _mixes(call: Call, leaf: Leaf, positions: int) -> bool:
    """Whether a call puts positions together: fewer rows than positions, or a product of two maps, or a recurrence."""
    if leaf.form == "mix" and not isinstance(leaf.fan_in, Mapping):
        entering = max(call.inputs, key=lambda tensor: tensor.elements)
        last = leaf.fan_in == entering.shape[-1] == positions and not _run(entering.shape[1:-1], positions)
        return last or entering.elements / leaf.fan_in < positions
    return leaf.form == "recurrent" or (leaf.form == "product" and leaf.gain > 1)


def _run(shape: tuple[int, ...], positions: int) -> bool:
    """Whether neighbouring axes have so many positions together."""
    return any(positions in accumulate(shape[first:], operator.mul) for first in range(len(shape)))
