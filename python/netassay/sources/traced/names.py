"""What the calls and the constants of a run are called: by the modules and the parameters of the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from netassay.algebra.graph import Call, Tensor
from netassay.sources import layers as _layers
from netassay.sources.traced.tracing import Site

if TYPE_CHECKING:
    import torch
    from torch import nn


class Names:
    """What a model calls its modules and its parameters; of several names of one thing, the first."""

    def __init__(self, model: nn.Module) -> None:
        names: dict[int, list[str]] = {}
        self._modules = dict(model.named_modules(remove_duplicate=False))
        for path, module in self._modules.items():
            names.setdefault(id(module), []).append(path)
        self._first = {id(module): names[id(module)][0] for module in self._modules.values()}
        self.aliases = {first or _layers.ROOT: tuple(others) for first, *others in names.values() if others}
        self._tensors: dict[object, str] = {
            _layers.identity(buffer): name for name, buffer in reversed([*model.named_buffers(remove_duplicate=False)])
        }
        self.parameters: dict[str, int] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if self._tensors.setdefault(_layers.identity(parameter), name) == name:
                self.parameters[name] = parameter.numel()
        self._seen: set[tuple[str, str]] = set()

    def constant(self, tensor: torch.Tensor) -> Tensor:
        """A parameter, a buffer or a constant."""
        from torch.nn import Parameter

        name = self._tensors.get(_layers.identity(tensor))
        shape = tuple(map(int, tensor.shape))
        return Tensor(shape, math.prod(shape), None, name, isinstance(tensor, Parameter))

    def of(self, site: Site | None, call: Call, *, depends: bool, opaque: bool) -> tuple[str, str]:
        """Name and kind of a call: the module of which it is the operation, else that of its weight, else its site.

        Args:
            depends: the call depends on the model's input.
            opaque: the call runs a graph of its own, whose weights may be anyone's.
        """
        path, entered = site or ("", "")
        op, weight = call.op, None if opaque else call.weight
        module = self._modules.get(path)
        if module is None:
            return f"{_layers.ROOT}:{op}", op
        first = self._first[id(module)]
        if _is_layer(module) and (first, entered) not in self._seen:
            if _is_its(module, call, weight, depends):
                self._seen.add((first, entered))
                return first or _layers.ROOT, _layers.kind_of(module)
        elif weight is not None and weight.name is not None:
            owner, _, own = weight.name.rpartition(".")
            if own != "weight":
                return weight.name, op
            return owner or _layers.ROOT, _layers.kind_of(self._modules[owner])
        return f"{first or _layers.ROOT}:{op}", op


def _is_layer(module: nn.Module) -> bool:
    """One of torch's own layers, which run one operation of note."""
    inside = all(name == "parametrizations" for name, _ in module.named_children())
    return inside and any(kind.__module__.startswith("torch.nn.modules.") for kind in type(module).__mro__[:-2])


def _is_its(module: nn.Module, call: Call, weight: Tensor | None, depends: bool) -> bool:
    """Whether a call is a layer's operation: the one that reads its weight; without one (a hook may make it, as pruning
    does) the one that depends on the model's input."""
    return weight is not None and bool(call.inputs) if module._parameters.get("weight") is not None else depends
