"""What each operation does to the sums of a path norm; what is not here is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from netassay.algebra.operations.unitwise import IDENTITIES
from netassay.sources.passes import windows
from netassay.sources.passes.engine import Step
from netassay.sources.passes.norm.engine import Norms, Rule
from netassay.sources.passes.sums import Lost, Sums, Value, joined, scaled
from netassay.sources.passes.weighted import BATCH_NORMS, own_statistics
from netassay.sources.traced.nodes import tensors_of

if TYPE_CHECKING:
    from torch import Tensor, fx


def identity(norms: Norms, step: Step) -> Value:
    """Leaves sums as they are: the first output has them."""
    if not tensors_of(step.node)[0].is_floating_point():
        norms.refuse(step, "it rounds")
    entering = norms.term(step.arguments["src"]) if step.op == "copy" else norms.read(step.reads[0])
    if entering is None:
        return None
    total = entering.map(lambda tensor: tensor.expand(step.shape))
    others = len(step.call.shapes) - 1
    return (total, *[Lost("a by-product")] * others) if others else total


def _bounded(norms: Norms, step: Step) -> Value:
    """Activations with parameters: slopes up to 1, and a breakpoint at 0."""
    if step.op == "prelu":
        slope = float(norms.values(step.arguments["weight"]).abs().max())
    else:
        slope = abs(float(step.get("negative_slope", 0.01))) if step.op == "leaky_relu" else 0.0
    if step.op in ("rrelu", "rrelu_with_noise"):
        slope = abs(float(step.get("lower", 0.125)) + float(step.get("upper", 1 / 3))) / 2
    if slope > 1:
        norms.refuse(step, f"its slope {slope:.6g} is above 1")
    numbers = [step.get(name, 0) for name in ("threshold", "value")] if step.op == "threshold" else [step.get("min")]
    if step.op in ("threshold", "clamp_min", "clamp", "clip") and (
        any(number != 0 for number in numbers) or step.get("max") is not None
    ):
        norms.refuse(step)
    return identity(norms, step)


def _weighted(norms: Norms, step: Step) -> Sums:
    """A linear layer or a convolution, with the BatchNorm behind it folded into it."""
    entering, weight = step.sums("input"), step.arguments["weight"]
    if entering is None or step.sums("weight") is not None:
        norms.refuse(step, "its weights depend on the input")
    power = norms.power(norms.values(weight))
    replaced = {"bias": None, "weight": power.tensor}
    out = scaled(step.rerun({step.arguments["input"]: entering.tensor}, **replaced), entering.bits + power.bits)
    bias = step.arguments.get("bias")
    if bias is not None and norms.read(bias) is not None:
        norms.refuse(step, "its bias depends on the input")
    offset = None if bias is None else norms.values(bias)
    channels = len(step.shape) - 1 if step.op == "linear" else len(step.shape) - windows_of(step) - 1
    follower = norms.norm_behind(step, channels)
    if follower is not None:
        scale, shift = norms.batch_norm(follower)
        offset = shift if offset is None else offset * scale + shift
        out = _product(out, norms.power(_along(scale, channels, step.shape)), step.shape)
        norms.folded_norms.add(follower)
    if offset is None:
        return out
    return joined([out, norms.power(_along(offset, channels, step.shape))], step.shape)


def windows_of(step: Step) -> int:
    """Spatial axes of a convolution."""
    return len(step.call["weight"].shape) - 2


def _along(vector: Tensor, axis: int, shape: tuple[int, ...]) -> Tensor:
    """A vector on one axis of a shape, ready to broadcast."""
    return vector.reshape([-1 if k == axis else 1 for k in range(len(shape))]) if vector.dim() else vector


def _product(a: Sums, b: Sums, shape: tuple[int, ...]) -> Sums:
    return scaled(a.tensor * b.tensor, a.bits + b.bits).map(lambda tensor: tensor.expand(shape))


def _batch_norm(norms: Norms, step: Step) -> Value:
    if own_statistics(step):
        norms.refuse(step, "its statistics are the batch's")
    entering = step.sums("input")
    if entering is None:
        norms.refuse(step, "its parameters depend on the input")
    scale, shift = norms.batch_norm(step.node)
    axis = min(1, len(step.shape) - 1)
    out = _product(entering, norms.power(_along(scale, axis, step.shape)), step.shape)
    total = joined([out, norms.power(_along(shift, axis, step.shape))], step.shape)
    others = len(step.call.shapes) - 1
    return (total, *[Lost("a by-product")] * others) if others else total


def _sum(norms: Norms, step: Step) -> Sums:
    """add, sub, rsub: other times alpha; rsub has it on the first."""
    alpha = float(step.get("alpha", 1))
    weights = (alpha, 1.0) if step.op == "rsub" else (1.0, alpha)
    pairs = zip((step.arguments["self"], step.arguments["other"]), weights, strict=True)
    terms = [norms.term(value, weight) for value, weight in pairs]
    return joined([term for term in terms if term is not None], step.shape)


def _maximum(norms: Norms, step: Step) -> Sums:
    terms = [norms.term(step.arguments[name]) for name in ("self", "other")]
    return joined([term for term in terms if term is not None], step.shape)


def _scale(norms: Norms, step: Step) -> Sums:
    """A product with a constant, or a quotient by one."""
    import torch

    values = [step.arguments["self"], step.arguments["other"]]
    sums = [norms.read(value) if isinstance(value, torch.fx.Node) else None for value in values]
    if all(s is not None for s in sums):
        norms.refuse(step, "it multiplies what depends on the input")
    if step.get("rounding_mode") is not None:
        norms.refuse(step, "it rounds")
    (entering,) = [s for s in sums if s is not None]
    other = values[sums.index(None)]
    constant = norms.values(other) if isinstance(other, torch.fx.Node) else norms.number(other)
    if step.op not in ("mul", "multiply"):
        if sums[0] is None:
            norms.refuse(step, "it divides by what depends on the input")
        constant = 1 / constant
        if not bool(torch.isfinite(constant).all()):
            norms.refuse(step, "it divides by 0")
    return _product(entering, norms.power(constant), step.shape)


def _contraction(norms: Norms, step: Step) -> Sums:
    """A matrix product with a constant."""
    factors = step.reads
    return _contracted(norms, step, factors, lambda tensors: step.rerun(dict(zip(factors, tensors, strict=True))))


def _contracted(norms: Norms, step: Step, factors: list[fx.Node], function: Callable[[list[Tensor]], Tensor]) -> Sums:
    if sum(norms.read(factor) is not None for factor in factors) > 1:
        norms.refuse(step, "it multiplies what depends on the input")
    sums = [norms.constant_sums(node) if (s := norms.read(node)) is None else s for node in factors]
    return scaled(function([s.tensor for s in sums]), math.fsum(s.bits for s in sums))


def _addmm(norms: Norms, step: Step) -> Sums:
    """beta self + alpha mat1 @ mat2."""
    import torch

    added, *factors = step.reads
    beta, alpha = float(step.get("beta", 1)), float(step.get("alpha", 1))

    def product(tensors: list[Tensor]) -> Tensor:
        result = torch.matmul(*tensors)
        return result.sum(0) if step.op == "addbmm" else result

    terms = [norms.term(added, beta)]
    if any(norms.read(factor) is not None for factor in factors):
        result = _contracted(norms, step, factors, product)
    else:
        result = norms.power(product([norms.values(factor) for factor in factors]))
    if alpha:
        terms.append(Sums(result.tensor, result.bits + norms.factor(alpha)))
    return joined([term for term in terms if term is not None], step.shape)


def _windowed(function: Callable[[Step, Sums], Sums], averages: bool) -> Rule:
    """The sum over a window; of an average each unit has the weight 1 / k."""

    def rule(norms: Norms, step: Step) -> Value:
        entering = norms.read(step.reads[0])
        if entering is None:
            norms.refuse(step)
        total = function(step, entering)
        if averages:
            weights = norms.power(windows.divisors(step, entering, function))
            total = _product(total, weights, step.shape)
        several = tuple(total if elements else Lost("it depends on values") for elements in step.call.elements)
        return several if len(several) > 1 else total

    return rule


def _extreme(norms: Norms, step: Step) -> Value:
    return _maximum(norms, step) if "other" in step.arguments else _windowed(windows.reduced, False)(norms, step)


def _cumulated(step: Step, entering: Sums) -> Sums:
    return scaled(entering.tensor.cumsum(step.get("dim")), entering.bits)


def _interpolated(norms: Norms, step: Step) -> Sums:
    entering = norms.read(step.reads[0])
    if entering is None:
        norms.refuse(step)
    return windows.interpolated(step, entering, lambda matrix: matrix.abs() ** norms.q)


def _rules() -> Mapping[str, Rule]:
    each = [(kind, axes) for kind in ("max", "avg") for axes in (1, 2, 3)]
    table: dict[str, Rule] = {
        " ".join(IDENTITIES): identity,
        "relu abs": identity,
        "leaky_relu prelu rrelu rrelu_with_noise threshold clamp_min clamp clip": _bounded,
        "linear conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d conv_transpose3d": (
            _weighted
        ),
        " ".join(BATCH_NORMS): _batch_norm,
        "add sub rsub": _sum,
        "maximum minimum fmax fmin": _maximum,
        "max min amax amin": _extreme,
        "mul multiply div divide true_divide": _scale,
        "matmul mm bmm mv dot vdot linalg_matmul inner": _contraction,
        "einsum outer ger kron tensordot linalg_multi_dot chain_matmul": _contraction,
        "addmm addbmm baddbmm addmv": _addmm,
        "sum nansum": _windowed(windows.reduced, False),
        "mean": _windowed(windows.reduced, True),
        "cumsum": _windowed(_cumulated, False),
        "upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d": _interpolated,
        **{f"{kind}_pool{axes}d": _windowed(windows.pool, kind == "avg") for kind, axes in each},
        **{f"adaptive_{kind}_pool{axes}d": _windowed(windows.adaptive_pool, kind == "avg") for kind, axes in each},
        **{f"max_pool{axes}d_with_indices": _windowed(windows.pool, False) for axes in (1, 2, 3)},
    }
    return {op: rule for ops, rule in table.items() for op in ops.split()}


RULES = _rules()
