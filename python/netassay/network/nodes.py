"""The strengths of a model's nodes: what their links weigh together, layer by layer of nodes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float64: TypeAlias = NDArray[np.float64]

#: What a flag of a NodeLayer says.
FLAGS = {
    "input": "no links come in; by definition one of weight 1",
    "output": "the model returns these; by definition one more link of weight 1 goes out",
    "constant": "a parameter that stands beside units, such as a class token; a link of weight 1 comes in",
    "folded_batchnorm": "the BatchNorm behind the layer is part of its weights and biases",
    "folded_bias": "a constant that is added behind the layer is its bias",
    "gated": "gates of a recurrent layer, or what they multiply",
    "data_dependent_in": "links that come in depend on the input's values: incoming has those that do not, or is None",
    "data_dependent_out": "links that go out depend on the input's values: outgoing has those that do not, or is None",
    "unknown_in": "an operation that has no rule puts these out: incoming is None",
    "unknown_out": "an operation that has no rule reads these: outgoing has the links of others, or is None",
    "unread": "no operation that has links reads these: none go out",
}
_INCOMPLETE = frozenset(flag for flag in FLAGS if flag.startswith(("data_dependent", "unknown")))


class Unlinked(NamedTuple):
    """A call whose links the weights alone do not give.

    Attributes:
        name, call: of the layer, as in a report. op: torch's name of the operation. reason: why.
    """

    name: str
    call: int | None
    op: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class NodeLayer:
    """The units between two layers of links, of one sample, and the sums of their links.

    strength = incoming + outgoing, s_k = (sum_i w_ik + b_k) + sum_j w_kj, the bias once; of an input 1 + outgoing, of
    an output incoming + 1.                               (La Malfa et al., arXiv 2110.02628, 2209.05488)

    Attributes:
        name, call: of the layer that puts the units out, as in a report; of an input, its argument.
        op: torch's name of the operation that does, "input" or "constant".
        shape: of the units, without the batch axis: (C, H, W) behind a convolution.
        incoming, outgoing: sums of w, float64 of this shape, in the weights' units; None where no link of that side
            is known.
        incoming_absolute, outgoing_absolute: sums of |w|. incoming_squared, outgoing_squared: sums of w^2.
        flags: of `netassay.network.FLAGS`.
    """

    name: str
    call: int | None
    op: str
    shape: tuple[int, ...]
    incoming: Float64 | None
    outgoing: Float64 | None
    incoming_absolute: Float64 | None
    outgoing_absolute: Float64 | None
    incoming_squared: Float64 | None
    outgoing_squared: Float64 | None
    flags: tuple[str, ...] = ()

    @property
    def nodes(self) -> int:
        """How many units."""
        return math.prod(self.shape)

    @property
    def complete(self) -> bool:
        """Whether all links of both sides are known."""
        return _INCOMPLETE.isdisjoint(self.flags)

    @property
    def strength(self) -> Float64 | None:
        """incoming + outgoing; of the one that is known where the other is None."""
        return _sum(self.incoming, self.outgoing)

    @property
    def absolute(self) -> Float64 | None:
        """The same of |w|."""
        return _sum(self.incoming_absolute, self.outgoing_absolute)

    @property
    def squared(self) -> Float64 | None:
        """The same of w^2."""
        return _sum(self.incoming_squared, self.outgoing_squared)

    @property
    def fluctuation(self) -> float | None:
        """Y = sqrt(mean over the nodes of (s - mean s)^2), s the strength; None where that is None."""
        strength = self.strength
        if strength is None or strength.size == 0:
            return None
        return float((strength - strength.flat[0]).std())  # exactly 0 where all are equal

    @property
    def incoming_disparity(self) -> Float64 | None:
        """sum over the links that come in of (|w| / sum |w|)^2, in [0, 1]; 0 for a node without weight."""
        return _disparity(self.incoming_squared, self.incoming_absolute)

    @property
    def outgoing_disparity(self) -> Float64 | None:
        """The same of the links that go out."""
        return _disparity(self.outgoing_squared, self.outgoing_absolute)

    @property
    def disparity(self) -> Float64 | None:
        """The same of all links of a node that are known."""
        return _disparity(self.squared, self.absolute)

    def __repr__(self) -> str:
        return f"<NodeLayer {_label(self.name, self.call)}: {'x'.join(map(str, self.shape)) or '1'} nodes>"


@dataclass(frozen=True, slots=True, eq=False)
class NodeStrengths:
    """A model as a directed weighted graph: its node layers in the order of the run.

    `strengths[i]`, `strengths[name]` and `strengths[name, call]` are layers; a KeyError lists or suggests what exists.

    Attributes:
        layers: the node layers.
        data_dependent: operations whose links depend on the input's values: max-pooling, attention, products, norms.
        unknown: operations that have no rule.
        notes: what was assumed about the run.
        model: name of the model's class.
    """

    layers: tuple[NodeLayer, ...]
    data_dependent: tuple[Unlinked, ...] = ()
    unknown: tuple[Unlinked, ...] = ()
    notes: tuple[str, ...] = ()
    model: str = ""

    @property
    def fluctuation(self) -> tuple[float | None, ...]:
        """Of each node layer, in order."""
        return tuple(layer.fluctuation for layer in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[NodeLayer]:
        return iter(self.layers)

    def __getitem__(self, key: int | str | tuple[str, int]) -> NodeLayer:
        if isinstance(key, int):
            return self.layers[key]
        name, call = key if isinstance(key, tuple) else (key, None)
        named = [layer for layer in self.layers if layer.name == name]
        found = [layer for layer in named if call is None or layer.call == call]
        if len(found) == 1:
            return found[0]
        if named:
            calls = ", ".join(str((name, layer.call)) for layer in named)
            raise KeyError(f"NodeStrengths: got {key!r}, expected one of its calls: {calls}")
        near = difflib.get_close_matches(name, [layer.name for layer in self.layers], n=1, cutoff=0.0)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise KeyError(f"NodeStrengths: got {name!r}, expected one of {len(self)} node layers{hint}")

    def __contains__(self, key: object) -> bool:
        return any(key in (layer.name, (layer.name, layer.call)) for layer in self.layers)

    def __repr__(self) -> str:
        nodes = sum(layer.nodes for layer in self.layers)
        return f"<NodeStrengths of {self.model or 'a model'}: {len(self)} node layers, {nodes} nodes>"

    def __str__(self) -> str:
        rows = [("node layer", "nodes", "strength", "fluctuation", "disparity", "")]
        for layer in self.layers:
            means = [_mean(values) for values in (layer.strength, layer.disparity)]
            rows.append(
                (
                    _label(layer.name, layer.call),
                    "x".join(map(str, layer.shape)) or "1",
                    means[0],
                    _number(layer.fluctuation),
                    means[1],
                    ", ".join(layer.flags),
                )
            )
        widths = [max(len(row[k]) for row in rows) for k in range(5)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(row[k].rjust(widths[k]) for k in range(1, 5)), row[5]]).rstrip()
            for row in rows
        ]
        for title, several in (("depends on the input's values", self.data_dependent), ("no rule", self.unknown)):
            lines += ["", f"{title}:"] if several else []
            groups: dict[tuple[str, str], list[str]] = {}
            for one in several:
                groups.setdefault((one.op, one.reason), []).append(_label(one.name, one.call))
            lines += [f"  {op} ({reason}): {', '.join(names)}" for (op, reason), names in groups.items()]
        return "\n".join(lines)


def _sum(a: Float64 | None, b: Float64 | None) -> Float64 | None:
    return a + b if a is not None and b is not None else b if a is None else a


def _disparity(squared: Float64 | None, absolute: Float64 | None) -> Float64 | None:
    if squared is None or absolute is None:
        return None
    share = np.divide(squared, absolute, out=np.zeros_like(squared), where=absolute > 0)
    return np.divide(share, absolute, out=share, where=absolute > 0)


def _label(name: str, call: int | None) -> str:
    return name if call is None else f"{name}[{call}]"


def _mean(values: Float64 | None) -> str:
    return _number(None if values is None or values.size == 0 else float(values.mean()))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
