"""The pass of a path norm: sums of |weight|^q, pushed by the rules that it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from netassay.algebra.semantics import leaf_of
from netassay.base.errors import DomainError, NonFinite, UnsupportedLayout
from netassay.sources.passes.engine import Step
from netassay.sources.passes.sums import Lost, Sums, Value, joined, nodes_in, ones, scaled
from netassay.sources.passes.weighted import Weighted
from netassay.sources.traced.graph import Traced
from netassay.sources.traced.nodes import tensors_of

if TYPE_CHECKING:
    from torch import Tensor, fx

Rule: TypeAlias = "Callable[[Norms, Step], Value]"

_EXPECTED = (
    "a network of linear layers, convolutions, eval BatchNorm, ReLU (leaky, PReLU with slopes up to 1, abs), pools,"
    " sums and concatenations"
)
_WHY = {
    "its statistics depend on the input": "layer_norm native_layer_norm group_norm native_group_norm instance_norm"
    " rms_norm _fused_rms_norm local_response_norm",
    "it multiplies what depends on the input": "scaled_dot_product_attention bilinear glu",
    "it divides by a sum that depends on the input": "softmax log_softmax _softmax _log_softmax _safe_softmax softmin",
    "it is not positively homogeneous, so that rescaling a unit changes the function and not the norm": "relu6 hardtanh"
    " hardsigmoid hardshrink softshrink clamp clip clamp_min clamp_max threshold hardswish",
}
_REASONS = {op: why for why, ops in _WHY.items() for op in ops.split()}


class Norms(Weighted):
    """The pass: values are sums of |weight|^q over the paths to each element.

    Args:
        rules: operation -> what it does to sums; an operation without a rule is refused, unless it moves elements.
    """

    def __init__(self, traced: Traced, q: float, function: str, rules: Mapping[str, Rule]) -> None:
        super().__init__(traced, function)
        self.q, self._rules = q, rules

    def lost(self, step: Step, error: Exception) -> Lost:
        if isinstance(error, (UnsupportedLayout, NonFinite, DomainError)):
            raise error
        self.refuse(step, str(error) or type(error).__name__)

    def refuse(self, step: Step, why: str = "") -> NoReturn:
        op, name = step.op, step.call.name
        if not why:
            why = _REASONS.get(op) or _reason(step)
        raise UnsupportedLayout(f"{self.function}: got {op} in {name!r} ({why}), expected {_EXPECTED}")

    def output(self, place: int, value: Value) -> Sums:
        """The sums of an output; of one that no path reaches, those of its constant."""
        if isinstance(value, Sums):
            return value
        call = self.traced.graph.calls[place]
        node = self.node_at[place]
        try:
            return self.constant_sums(node)
        except Lost as error:
            self.refuse(Step(self, node, call, leaf_of(call)), str(error))

    # ---- constants ----

    def power(self, tensor: Tensor) -> Sums:
        """|w|^q, of any magnitude."""
        magnitudes = tensor.detach().double().abs()
        largest = float(magnitudes.max()) if magnitudes.numel() else 0.0
        if largest == 0:
            return Sums(magnitudes)
        return scaled((magnitudes / largest) ** self.q, self.q * math.log2(largest))

    def factor(self, c: float) -> float:
        """log2 |c|^q."""
        return self.q * math.log2(abs(c)) if c else -math.inf

    def constant_sums(self, node: fx.Node) -> Sums:
        """Of what is added without a path from the input: its paths come from the constant input."""
        return self.power(self.values(node))

    def term(self, value: Any, weight: float = 1.0) -> Sums | None:
        """What an argument of a sum adds, times a number; a number of its own is a bias."""
        import torch

        if isinstance(value, torch.fx.Node):
            sums = self.read(value)
            sums = self.constant_sums(value) if sums is None else sums
        else:
            sums = self.power(self.number(value))
        return Sums(sums.tensor, sums.bits + self.factor(weight)) if weight else None

    # ---- operations ----

    def push(self, step: Step) -> Value:
        read = {node: self.read(node) for node in nodes_in(list(step.arguments.values()))}  # what is lost is refused
        if not any(sums is not None for sums in read.values()):
            return None
        if step.node in self.folded_norms:
            return read[step.arguments["input"]]
        rule = self._rules.get(step.op)
        if rule is not None:
            return rule(self, step)
        if step.leaf.form == "view":
            return self._moved(step)
        if step.leaf.form == "concat":
            return step.moved(self.constant_sums)
        return self.refuse(step)

    def _moved(self, step: Step) -> Value:
        """Views, and padding: with a number other than 0 it adds biases."""
        if "pad" not in step.op:
            return step.moved()
        padded = step.moved(value=0) if "value" in step.arguments else step.moved()
        value = step.get("value", 0)
        if not value or not isinstance(padded, Sums):
            return padded
        (node,) = step.reads
        inside: Tensor = step.rerun({node: ones(tensors_of(node)[0].shape).tensor.contiguous()}, value=0)
        bias = Sums(1 - inside, self.factor(value))
        return joined([padded, bias], step.shape)


def _reason(step: Step) -> str:
    if step.leaf.form == "unknown":
        return "it is not in the table of operations"
    if step.leaf.form == "recurrent" or step.op.endswith("_cell"):
        return "it is recurrent"
    if step.leaf.form == "source":
        return "its input is indices"
    return "it is not piecewise linear" if step.leaf.planes is None else "it has no path norm here"
