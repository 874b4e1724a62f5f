"""The path norm of a model: sums over paths of the product of its weights, by one forward pass of powers."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn

from netassay.algebra.operations.unitwise import IDENTITIES
from netassay.algebra.semantics import leaf_of
from netassay.base.errors import DomainError, NonFinite, UnsupportedLayout
from netassay.sources.passes.engine import Step
from netassay.sources.passes.norm import rules as norm_rules
from netassay.sources.passes.sums import Lost, Sums, Value, joined, nodes_in, ones, scaled
from netassay.sources.passes.weighted import Weighted
from netassay.sources.traced.graph import Traced
from netassay.sources.traced.nodes import tensors_of

if TYPE_CHECKING:
    from torch import Tensor, fx

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


def path_norm(traced: Traced, q: float, function: str = "path_norm") -> float:
    """(sum over all paths of prod |w|^q over the weights along it)^(1/q), with the model's weights.

    Paths go from every input unit, and from a constant input through every bias, to every output unit of one sample.
    Pushed forward as t(v) = sum over the edges into v of |w|^q t(u), inputs 1, + |b|^q:
      eval BatchNorm is folded into the linear layer or convolution before it, W' = g / s W, b' = (b - m) g / s + beta,
      s = sqrt(var + eps), where nothing else reads that; elsewhere it is a diagonal layer with a bias;
      a maximum of k is the sum of them (right for every q); an average of k has k edges of weight 1 / k, so k^-q times
      the sum (k of each window: padding, ceil_mode and divisors as they are), which is k^(1-q) where all are equal;
      constants that are added are biases, those that are multiplied are weights.
    ReLU, leaky ReLU and PReLU with slopes in [-1, 1], and abs pass: they are positively homogeneous and 1-Lipschitz.
    ReLU6 and hardtanh are refused, though 1-Lipschitz: the norm does not change when the weights into a unit are
    multiplied by c > 0 and those out of it by 1 / c, but the function that saturates at 6 does.

    Args:
        q: > 0, finite. At q = 1 the norm bounds every output's change with the input's largest.

    Returns:
        >= 0; inf where it exceeds float64. Sums are carried with their scale, so nothing overflows on the way.

    Raises:
        DomainError: q. NonFinite: a parameter with a NaN or an infinity. UnsupportedLayout: an operation without a path
        norm, or a model without values; names the layer.

    Source: Neyshabur et al. 2015 (1503.00036); on graphs with BatchNorm, pools and biases Gonon et al. 2310.01225.
    """
    if not (isinstance(q, Real) and not isinstance(q, bool) and math.isfinite(q) and q > 0):
        raise DomainError(f"{function}: got q={q!r}, expected a finite number above 0")
    norms = Norms(traced, float(q), function)
    found: dict[int, Value] = {}
    for place, value in norms.walk():
        if place in traced.graph.outputs:
            found[place] = value
    outputs = {place: norms.output(place, found.get(place)) for place in traced.graph.outputs}
    terms = [sums.log2_mean + math.log2(n) for p, sums in outputs.items() if (n := traced.graph.calls[p].size)]
    largest = max(terms, default=-math.inf)
    if largest == -math.inf:
        return 0.0
    bits = largest + math.log2(math.fsum(2.0 ** (term - largest) for term in terms))
    try:
        return float(2.0 ** (bits / q))
    except OverflowError:
        return math.inf


class Norms(Weighted):
    def __init__(self, traced: Traced, q: float, function: str) -> None:
        super().__init__(traced, function)
        self.q = q

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
            sums = self.power(norm_rules.number(value))
        return Sums(sums.tensor, sums.bits + self.factor(weight)) if weight else None

    # ---- operations ----

    def push(self, step: Step) -> Value:
        read = {node: self.read(node) for node in nodes_in(list(step.arguments.values()))}  # what is lost is refused
        if not any(sums is not None for sums in read.values()):
            return None
        if step.node in self.folded_norms:
            return read[step.arguments["input"]]
        handler = norm_rules.HANDLERS.get(step.op)
        if handler is not None:
            return handler(self, step)
        if step.op in IDENTITIES:
            return norm_rules.identity(self, step)
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
