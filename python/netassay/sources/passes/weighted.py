"""A pass that reads the model's weights: checked, by name, and with eval BatchNorm folded into the layer before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from netassay.algebra.graph import tensors_in
from netassay.algebra.semantics import Leaf
from netassay.base.errors import NonFinite, UnsupportedLayout
from netassay.sources.passes.engine import Pass, Step
from netassay.sources.passes.sums import Lost, nodes_in
from netassay.sources.traced.graph import Traced
from netassay.sources.traced.nodes import arguments_of

if TYPE_CHECKING:
    from torch import Tensor, fx

BATCH_NORMS = ("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")


class Weighted(Pass):
    """A pass of a model with values.

    Attributes:
        function: that was called, for its errors.
        folded_norms: BatchNorms that are part of the layer before them.
        names: of parameters, as the graph has them, by their nodes.

    Raises:
        UnsupportedLayout: the model has no values.
    """

    def __init__(self, traced: Traced, function: str) -> None:
        super().__init__(traced)
        self.function = function
        self.folded_norms: set[fx.Node] = set()
        self.names = _names(traced)
        self._checked: set[fx.Node] = set()
        if any(tensor.is_meta for tensor in self.run.constants.values()):
            model = traced.graph.model
            raise UnsupportedLayout(f"{function}: got {model} on the meta device, expected a model with values")

    def values(self, node: fx.Node, name: str = "") -> Tensor:
        """What a node that does not depend on the input holds; float64. `name`: what an error calls it."""
        import torch

        tensor = self.constant(node)
        if not isinstance(tensor, torch.Tensor):
            raise Lost("several tensors where one is expected")
        if tensor.is_complex():
            raise Lost("it is complex")
        if not _finite(tensor):
            name = name or node.name
            raise NonFinite(f"{self.function}: got a NaN or an infinity in {name!r}, expected finite values")
        return tensor.double()

    def number(self, value: float) -> Tensor:
        """A number as a constant of the pass."""
        import torch

        return torch.tensor(float(value), dtype=torch.float64, device="cpu")

    def _stored(self, node: fx.Node) -> Tensor:
        tensor = super()._stored(node)
        if node not in self._checked and tensor.is_floating_point() and not _finite(tensor):
            name = self.names.get(node, node.name)
            raise NonFinite(f"{self.function}: got a NaN or an infinity in {name!r}, expected finite values")
        self._checked.add(node)
        return tensor

    def norm_behind(self, step: Step, channels: int) -> fx.Node | None:
        """The BatchNorm that alone reads a layer's output, channels on axis 1."""
        users = list(step.node.users)
        if channels != 1 or len(users) != 1 or users[0] not in self.traced.places:
            return None
        behind = self._at(users[0])
        if behind.op not in BATCH_NORMS or behind.arguments["input"] is not step.node or own_statistics(behind):
            return None
        return users[0] if len(behind.call.shapes) == 1 else None

    def batch_norm(self, node: fx.Node) -> tuple[Tensor, Tensor]:
        """Scale g / s and shift beta - m g / s of an eval BatchNorm, float64."""
        import torch

        step = self._at(node)
        mean, variance = (
            self.values(step.arguments[name], f"{step.call.name}.{name}") for name in ("running_mean", "running_var")
        )
        epsilon = float(step.get("eps", step.get("epsilon", 1e-5)))
        scale = 1 / torch.sqrt(variance + epsilon)
        if not _finite(scale):
            got = f"a variance of {float(variance.min())} in '{step.call.name}.running_var'"
            raise NonFinite(f"{self.function}: got {got}, expected numbers above {-epsilon}")
        if step.get("weight") is not None:
            scale = scale * self.values(step.arguments["weight"])
        shift = -mean * scale
        if step.get("bias") is not None:
            shift = shift + self.values(step.arguments["bias"])
        return scale, shift

    def _at(self, node: fx.Node) -> Step:
        return Step(self, node, self.traced.graph.calls[self.traced.places[node]], Leaf())


def _finite(tensor: Tensor) -> bool:
    """Whether all numbers are: where their sum is, which takes a twentieth of the time."""
    import torch

    total = tensor.sum(dtype=torch.float64 if tensor.dtype.itemsize == 1 else None)  # no sums of 8-bit floats
    return bool(torch.isfinite(total)) or bool(torch.isfinite(tensor.double()).all())


def own_statistics(step: Step) -> bool:
    """Whether a BatchNorm takes those of the batch."""
    return step.get("running_mean") is None or bool(step.get("training", False))


def _names(traced: Traced) -> Mapping[fx.Node, str]:
    """The names of parameters as the graph has them, by their nodes."""
    names: dict[fx.Node, str] = {}
    for node, place in traced.places.items():
        call = traced.graph.calls[place]
        if node.op != "call_function":
            continue
        for argument, value in arguments_of(node):
            described = tensors_in([call.get(argument)])
            entering = [n for n in nodes_in(value) if n in traced.places or n in traced.run.constants]
            for n, tensor in zip(entering, described, strict=False):
                if n in traced.run.constants and tensor.name is not None:
                    names.setdefault(n, tensor.name)
    return names
