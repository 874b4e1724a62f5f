"""Layer graphs written by hand, call by call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from netassay import algebra
from netassay.algebra import Call, LayerGraph, Tensor


@dataclass
class Net:
    """A graph in the making; every method adds a call and returns its place."""

    units: int
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.calls.append(Call("x", "input", ((2, self.units),), (self.units,)))

    def tensor(self, place: int) -> Tensor:
        return Tensor(self.calls[place].shape, self.calls[place].size, place)

    def add(self, op: str, *inputs: int, units: int | None = None, **arguments: Any) -> int:
        given = {"self": self.tensor(inputs[0])} | {f"other{k}": self.tensor(i) for k, i in enumerate(inputs[1:])}
        units = self.calls[inputs[0]].size if units is None else units
        name = f"{op}{len(self.calls)}"
        self.calls.append(Call(name, op, ((2, units),), (units,), {**given, **arguments}, kind=op))
        return len(self.calls) - 1

    def linear(self, before: int, units: int) -> int:
        weight = Tensor((units, self.calls[before].size), 0, None, f"w{len(self.calls)}", True)
        name = f"linear{len(self.calls)}"
        arguments = {"input": self.tensor(before), "weight": weight}
        self.calls.append(Call(name, "linear", ((2, units),), (units,), arguments, kind="Linear"))
        return len(self.calls) - 1

    def cat(self, *inputs: int) -> int:
        units = sum(self.calls[place].size for place in inputs)
        arguments = {"tensors": tuple(map(self.tensor, inputs))}
        self.calls.append(Call(f"cat{len(self.calls)}", "cat", ((2, units),), (units,), arguments))
        return len(self.calls) - 1

    def graph(self, *outputs: int) -> LayerGraph:
        return LayerGraph(tuple(self.calls), outputs or (len(self.calls) - 1,))

    def measure(self, *outputs: int) -> algebra.NetworkAlgebra:
        return algebra.measure(self.graph(*outputs))


def of(network: algebra.NetworkAlgebra, place: int) -> algebra.Algebra:
    found = network.calls[place]
    assert found is not None
    return found


def mlp(widths: Sequence[int], activation: str = "relu") -> Net:
    """[n_0, n_1, ..., n_L]: linear layers, each with its activation."""
    net = Net(widths[0])
    for units in widths[1:]:
        net.add(activation, net.linear(len(net.calls) - 1, units))
    return net


def weight(*shape: int) -> Tensor:
    return Tensor(shape, math.prod(shape), None, "weight", True)
