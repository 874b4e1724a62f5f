"""What each operation does to nodes: the table, and the rules of layers without weights of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from netassay.base.errors import NonFinite
from netassay.sources.passes import windows
from netassay.sources.passes.engine import Step
from netassay.sources.passes.strengths import dense, reasons
from netassay.sources.passes.strengths.engine import Rule, Strengths
from netassay.sources.passes.strengths.links import POWERS, Links, Power, along, square
from netassay.sources.passes.strengths.recurrent import cell, recurrent
from netassay.sources.passes.sums import Sums, Value, zeros_like
from netassay.sources.passes.weighted import BATCH_NORMS, own_statistics

if TYPE_CHECKING:
    from torch import Tensor, fx


def _batch_norm(engine: Strengths, step: Step) -> Value:
    if own_statistics(step):
        return _normalised(engine, step)
    entering = step.sums("input")
    if entering is None:
        return engine.data_dependent_nodes(step, "its weights depend on the input")
    axes = len(step.shape)
    scale, shift = (along(vector, min(1, axes - 1), axes) for vector in engine.batch_norm(step.node))
    return engine.affine(step, [Links(entering, lambda x, power: power(scale) * x)], shift)


def _normalised(engine: Strengths, step: Step) -> Value:
    """A norm by statistics of the input: of its links those are known that its scale and shift are."""
    import torch

    entering = engine.note(step, "data_dependent", reasons.NORMALISES)
    axes, trailing = len(step.shape), "layer_norm" in step.op or "rms_norm" in step.op
    vectors = []
    for name, default in (("weight", 1.0), ("bias", 0.0)):
        node = step.get(name)
        if node is None:
            vectors.append(torch.tensor(default, dtype=torch.float64, device="cpu"))
        else:
            values = engine.values(node)
            vectors.append(values if trailing else along(values, min(1, axes - 1), axes))
    scale, shift = vectors
    call = step.call
    layout = engine.layout(step.node, 0, entering)
    sums, units = engine.nodes(call.name, call.call, call.op, step.shape, layout, flags=("data_dependent_in",))
    units.incoming = [layout.sample((power(scale) + power(shift)).expand(step.shape)) for power in POWERS]
    return engine.alone(step, sums)


def _diagonal(engine: Strengths, step: Step) -> Value:
    """What is affine in one tensor, unit by unit, with constants: x * c, x + c, -x; nothing new where that is x."""
    import torch

    carried = [node for node in dict.fromkeys(step.reads) if engine.read(node) is not None]
    if not carried:
        return None
    entering = engine.read(carried[0])
    if step.get("rounding_mode") is not None or entering is None:
        return engine.kept(step)
    if len(carried) > 1 or step.reads.count(carried[0]) > 1:
        why = reasons.MULTIPLIES if step.leaf.form == "product" else reasons.COMBINES
        return engine.data_dependent_nodes(step, why)
    if step.op in _QUOTIENTS and _divides_by(step, carried[0]):
        return engine.kept(step)
    x = torch.zeros(step.shape, dtype=torch.float64, device="cpu", requires_grad=True)
    y = step.rerun({carried[0]: x.clone(), **_constants(engine, step, carried[0])})
    (scale,) = torch.autograd.grad(y, x, torch.ones_like(y))
    shift = y.detach()
    if not bool(torch.isfinite(scale).all()) or bool(shift.isnan().any()):
        got = f"a NaN or an infinity in the constants of {step.call.name!r}"
        raise NonFinite(f"{engine.function}: got {got}, expected finite values")
    masks = not bool(torch.isfinite(shift).all())  # minus infinity is added where there shall be no unit
    if masks or (bool((scale == 1).all()) and not bool(shift.any())):
        return engine.alone(step, entering.map(lambda tensor: tensor.expand(step.shape)))
    return engine.affine(step, [Links(entering, lambda x, power: power(scale) * x.expand(step.shape))], shift)


_QUOTIENTS = ("div", "divide", "true_divide", "addcdiv")


def _divides_by(step: Step, node: fx.Node) -> bool:
    return node is step.arguments.get("tensor2" if step.op == "addcdiv" else "other")


def _constants(engine: Strengths, step: Step, carried: fx.Node) -> Mapping[fx.Node, Tensor]:
    """In float64, so that nothing is rounded to the dtype of the model."""
    found = {}
    for node in step.reads:
        if node is not carried:
            value = engine.constant(node)
            found[node] = value.double() if hasattr(value, "double") else value
    return found


def _sum(engine: Strengths, step: Step) -> Value:
    """add, sub, rsub of two tensors: unit links; other times alpha, rsub the first."""
    terms = [step.sums("self"), step.sums("other")]
    if any(term is None for term in terms):
        return _diagonal(engine, step)
    alpha, minus, one = (engine.number(value) for value in (step.get("alpha", 1), -1, 1))
    factors = {"add": (one, alpha), "sub": (one, minus * alpha), "rsub": (minus * alpha, one)}[step.op]

    def times(factor: Tensor) -> Callable[[Tensor, Power], Tensor]:
        return lambda x, power: power(factor) * x.expand(step.shape)

    pairs = zip(terms, factors, strict=True)
    return engine.affine(step, [Links(term, times(factor)) for term, factor in pairs if term is not None])


def _averaged(function: Callable[[Step, Sums], Sums]) -> Rule:
    """An average of k has k links of weight 1 / k."""

    def rule(engine: Strengths, step: Step) -> Value:
        entering = engine.read(step.reads[0])
        if entering is None:
            return None
        (node,) = step.reads
        share = windows.divisors(step, entering, function)

        def forward(x: Tensor, power: Power) -> Tensor:
            result: Tensor = step.rerun({node: x}, dtype=None)
            return result * share if power is square else result

        return engine.affine(step, [Links(entering, forward)])

    return rule


def _counted(engine: Strengths, step: Step) -> Value:
    """Links of weight 1, where the operation says."""
    (node, *_) = step.reads
    entering = engine.read(node)
    if entering is None:
        return None

    def forward(x: Tensor, power: Power) -> Tensor:
        replaced = {"dtype": None} if "dtype" in step.arguments else {}
        result: Tensor = step.rerun({node: x}, **replaced)
        return result

    return engine.affine(step, [Links(entering, forward)])


def _interpolated(engine: Strengths, step: Step) -> Value:
    entering = engine.read(step.reads[0])
    if entering is None:
        return None

    def forward(x: Tensor, power: Power) -> Tensor:
        sums = windows.interpolated(step, Sums(x), power)
        factor: float = 2.0**sums.bits
        return sums.tensor * factor

    return engine.affine(step, [Links(entering, forward)])


def _copied(engine: Strengths, step: Step) -> Value:
    """What it is given is what stands there: nodes, a constant of the model, or nothing."""
    source = step.arguments["src"]
    entering = step.sums("src") or engine.constant_sums(source) or Sums(zeros_like(source))
    return entering.map(lambda tensor: tensor.expand(step.shape))


def _shaped(engine: Strengths, step: Step) -> Value:
    """A view that takes its shape from another tensor."""
    entering = step.sums("self")
    if entering is None:
        return None
    repeats = step.op == "expand_as"
    return entering.map(lambda tensor: tensor.expand(step.shape) if repeats else tensor.reshape(step.shape))


def _power(engine: Strengths, step: Step) -> Value:
    """A function of each unit, unless base and exponent both are."""
    carried = [node for node in step.reads if engine.read(node) is not None]
    if len(carried) > 1:
        return engine.data_dependent_nodes(step, reasons.MULTIPLIES)
    return engine.kept(step)


def _rules() -> Mapping[str, Rule]:
    axes = (1, 2, 3)
    convolutions = " ".join(f"conv{d}d conv_transpose{d}d" for d in axes)
    nearest = " ".join(f"upsample_nearest{d}d _upsample_nearest_exact{d}d" for d in axes)
    table: dict[str, Rule] = {
        f"linear {convolutions} convolution _convolution": dense.weighted,
        "matmul mm bmm mv dot vdot inner linalg_matmul einsum outer ger kron tensordot": dense.contraction,
        "linalg_multi_dot chain_matmul": dense.contraction,
        "addmm addbmm baddbmm addmv": dense.addmm,
        "embedding": dense.embedding,
        " ".join(BATCH_NORMS): _batch_norm,
        "layer_norm native_layer_norm group_norm native_group_norm instance_norm rms_norm _fused_rms_norm": _normalised,
        "add sub rsub": _sum,
        "mul multiply div divide true_divide neg negative addcmul addcdiv lerp": _diagonal,
        "pow": _power,
        "copy": _copied,
        "view_as reshape_as expand_as": _shaped,
        " ".join(f"avg_pool{d}d" for d in axes): _averaged(windows.pool),
        " ".join(f"adaptive_avg_pool{d}d" for d in axes): _averaged(windows.adaptive_pool),
        "mean": _averaged(windows.reduced),
        f"sum nansum cumsum fold col2im {nearest}": _counted,
        "upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d": _interpolated,
        "lstm gru rnn_tanh rnn_relu": recurrent,
        "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell": cell,
    }
    return {op: rule for ops, rule in table.items() for op in ops.split()}


RULES = _rules()
