"""The strengths of a model's nodes, from a traced run."""

from __future__ import annotations

import numpy as np

from netassay.base.errors import NonFinite
from netassay.network import FLAGS, NodeLayer, NodeStrengths
from netassay.sources.passes.strengths.engine import Strengths
from netassay.sources.passes.strengths.rules import RULES
from netassay.sources.traced.graph import Traced


def strengths(traced: Traced, function: str = "node_strengths") -> NodeStrengths:
    """The strengths of all node layers of a model with values, in float64 on the CPU.

    Raises:
        NonFinite: a parameter with a NaN or an infinity, or sums beyond float64. UnsupportedLayout: a model on the meta
        device.
    """
    import torch

    graph = traced.graph
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        np.errstate(over="ignore", invalid="ignore"),
    ):
        engine = Strengths(traced, function, RULES)
        outputs = {place: value for place, value in engine.walk() if place in graph.outputs}
        for value in outputs.values():
            engine.leave(value)
    recorded = "recorded on this input: where a branch depends on values, the one it took is measured"
    return NodeStrengths(
        layers=tuple(_checked(units.result(tuple(FLAGS)), function) for units in engine.layers if units.stands),
        data_dependent=tuple(engine.data_dependent),
        unknown=tuple(engine.unknown),
        notes=(*graph.notes, *([recorded] if graph.input_specific else [])),
        model=graph.model,
    )


def _checked(layer: NodeLayer, function: str) -> NodeLayer:
    """Where the sums of squares are finite the others are."""
    for squares in (layer.incoming_squared, layer.outgoing_squared):
        if squares is not None and not np.isfinite(squares).all():
            got = f"links of {layer.name!r} whose sums lie beyond float64"
            raise NonFinite(f"{function}: got {got}, expected smaller weights")
    return layer
