"""What the tests of tracing share: a traced graph as plain tuples, and models that a hook on modules cannot see."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netassay.algebra import Call, LayerGraph
from netassay.sources.traced.graph import trace


def graph_of(model: nn.Module, example: Any, **options: Any) -> LayerGraph:
    return trace(model, example, function="test", **options).graph


def ops(graph: LayerGraph) -> list[str]:
    return [call.op for call in graph]


def names(graph: LayerGraph) -> list[str]:
    """Name of every call, with its number where it has one."""
    return [call.name if call.call is None else f"{call.name} {call.call}" for call in graph]


def sizes(graph: LayerGraph) -> dict[str, int]:
    """Elements per sample of every call."""
    return dict(zip(names(graph), (call.size for call in graph), strict=True))


def call_of(graph: LayerGraph, name: str) -> Call:
    """The only call of this name, or the one of "name number"."""
    (found,) = (call for call, own in zip(graph, names(graph), strict=True) if own == name)
    return found


def into(graph: LayerGraph, name: str) -> list[str]:
    """Names of what enters a call: of calls, and of parameters."""
    own = names(graph)
    tensors = call_of(graph, name).tensors
    return [str(tensor.name) if tensor.call is None else own[tensor.call] for tensor in tensors]


def outputs(graph: LayerGraph) -> list[str]:
    return [names(graph)[place] for place in graph.outputs]


def content(graph: LayerGraph) -> list[Any]:
    """Everything that a graph says of its calls, to compare two."""
    return [
        (name, call.kind, call.op, call.shapes, call.elements, [(t.shape, t.elements, t.call) for t in call.tensors])
        for name, call in zip(names(graph), graph, strict=True)
    ]


class Functional(nn.Module):
    """A linear layer as F.linear, as matmul and as einsum on parameters of the root; (N, 6) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(5))
        self.u, self.v = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ni,ij->nj", F.linear(x, self.w, self.b) @ self.u, self.v)


class Branching(nn.Module):
    """A model that runs as it is, behind a branch that depends on the sign of a sum."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            x = -x
        return self.inner(x)


class Cells(nn.Module):
    """One LSTM cell over the steps of its input; (N, T, 3) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 4), x.new_zeros(x.shape[0], 4)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return state[0]
