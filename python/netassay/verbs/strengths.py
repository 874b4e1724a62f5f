"""node_strengths: a model as a directed weighted graph, by the sums of the links of its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netassay.network import NodeStrengths
from netassay.sources.passes.strengths.strengths import strengths
from netassay.sources.traced.graph import trace

if TYPE_CHECKING:
    from torch import nn


def node_strengths(model: nn.Module, example_input: Any, *, batch_axis: int = 0) -> NodeStrengths:
    """The strengths of the nodes of a model as a directed weighted graph, layer by layer of nodes.

    A node is a unit of one sample: behind a convolution a channel at a pixel. Every affine call f(x) = T x + b of the
    run is a layer of links: in-strength f(1), the bias once, and out-strength T^T 1; |W| and W^2 in T's place give the
    absolute and squared sums. Elementwise functions, dropout and views keep nodes; additions are unit links, averages
    links of 1 / k; eval BatchNorm is folded into the layer before it where that alone feeds it, else a layer of its
    own; recurrent layers are unrolled by gate; an embedding has one node a token. Where links depend on the input's
    values (max-pooling, attention's softmax(q k^T), norms by the input's statistics, products) nothing is guessed:
    the operation is listed, and the nodes at both ends keep the side that is known and are flagged.

    The run is followed in evaluation mode; the model, its mode and its gradients stay as they are. The graph is never
    made: memory is linear in units and in one layer's weights, and a layer costs a few reads of its weights.

    Args:
        model: an nn.Module with values, on any device, in any format; computed in float64 on the CPU.
        example_input: as for `measure_structure`; its size matters, its values do not unless a branch depends on them.
        batch_axis: of the tensors of the example.

    Returns:
        Node layers in the order of the run, by name: `result["layer1.0.conv1"].strength`, `result.fluctuation`.

    Raises:
        TypeError: no module, or no tensor in the example. ShapeError: no batch axis. UnsupportedLayout: the model
        cannot be followed, or is on the meta device. NonFinite: a weight that is not finite, naming it;
        sums beyond float64.

    Source: La Malfa et al. 2021 (arXiv 2110.02628) and 2022 (2209.05488); for what is ours see docs/network.md.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, -3.0]])), layer.bias.data.fill_(0.5)
    >>> strengths = node_strengths(layer, torch.zeros(1, 2))
    >>> [nodes.strength.tolist() for nodes in strengths]
    [[2.0, -2.0], [-0.5]]
    """
    traced = trace(model, example_input, function="node_strengths", batch_axis=batch_axis)
    return strengths(traced, "node_strengths")
