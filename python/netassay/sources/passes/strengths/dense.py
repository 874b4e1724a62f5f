"""The rules of layers with weights: linear, convolution, matrix product, embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netassay.sources.passes.engine import Step
from netassay.sources.passes.strengths import reasons, weights
from netassay.sources.passes.strengths.engine import Strengths
from netassay.sources.passes.strengths.links import POWERS, Links, Power, along
from netassay.sources.passes.strengths.units import Layout
from netassay.sources.passes.sums import Value
from netassay.sources.traced.nodes import operation_of

if TYPE_CHECKING:
    from torch import Tensor


def weighted(engine: Strengths, step: Step) -> Value:
    """A linear layer or a convolution, with the BatchNorm behind it folded into it."""
    entering, node = step.sums("input"), step.arguments["weight"]
    bias_node = step.arguments.get("bias")
    if step.sums("weight") is not None or (bias_node is not None and engine.read(bias_node) is not None):
        return engine.data_dependent_nodes(step, "its weights depend on the input")
    if entering is None:
        return engine.data_dependent_nodes(step, reasons.MULTIPLIES)
    weight = engine.values(node)
    bias = None if bias_node is None else engine.values(bias_node)
    convolution = step.op != "linear"
    channels = len(step.shape) - (weight.dim() - 2 if convolution else 0) - 1
    norm = engine.norm_behind(step, channels)
    flags = []
    if norm is not None:
        scale, shift = engine.batch_norm(norm)
        bias = shift if bias is None else bias * scale + shift
        weight = weights.scaled(step, weight, scale)
        engine.folded_norms.add(norm)
        flags.append("folded_batchnorm")
    if bias is not None:
        bias = along(bias, channels, len(step.shape)) if bias.dim() else bias
    else:
        bias = _bias_behind(engine, step)
        flags += [] if bias is None else ["folded_bias"]
    links = weights.convolution(step, entering, weight) if convolution else weights.linear(entering, weight)
    return engine.affine(step, [links], bias, flags)


def _bias_behind(engine: Strengths, step: Step) -> Tensor | None:
    """The constant that alone is added to the output of a layer without a bias."""
    import torch

    users = list(step.node.users)
    if len(users) != 1 or users[0] not in engine.traced.places:
        return None
    (user,) = users
    op, mutates = operation_of(user)
    call = engine.traced.graph.calls[engine.traced.places[user]]
    if op != "add" or mutates or call.shape != step.shape:
        return None
    behind = Step(engine, user, call, step.leaf)
    values = [behind.arguments["self"], behind.arguments["other"]]
    other = values[1] if values[0] is step.node else values[0]
    if not isinstance(other, torch.fx.Node) or other in engine.traced.places or behind.get("alpha", 1) != 1:
        return None
    if not bool(torch.isfinite(engine.constant(other)).all()):  # a mask
        return None
    bias = engine.values(other)
    engine.folded_sums.add(user)
    return bias


def contraction(engine: Strengths, step: Step) -> Value:
    """A matrix product with one constant."""
    factors = step.reads
    carried = [node for node in factors if engine.read(node) is not None]
    constants = [node for node in factors if node not in carried]
    if len(factors) - len(constants) > 1 or len(set(factors)) < len(factors):
        return engine.data_dependent_nodes(step, reasons.MULTIPLIES)
    if len(constants) > 1:
        return engine.unlinked(step, "unknown", "it multiplies several constants")
    sums = engine.read(carried[0])
    if sums is None:
        return None
    given = {node: engine.values(node) for node in constants}

    def forward(tensor: Tensor, power: Power) -> Tensor:
        result: Tensor = step.rerun({carried[0]: tensor, **{node: power(values) for node, values in given.items()}})
        return result

    bias = _bias_behind(engine, step)
    return engine.affine(step, [Links(sums, forward)], bias, [] if bias is None else ["folded_bias"])


def addmm(engine: Strengths, step: Step) -> Value:
    """beta self + alpha mat1 @ mat2."""
    import torch

    added, *factors = step.reads
    beta, alpha = (engine.number(step.get(name, 1)) for name in ("beta", "alpha"))
    sums = [engine.read(factor) for factor in factors]
    if all(each is not None for each in sums) or factors[0] is factors[1]:
        return engine.data_dependent_nodes(step, reasons.MULTIPLIES)

    def product(left: Tensor, right: Tensor) -> Tensor:
        result = torch.matmul(left, right)
        return result.sum(0) if step.op == "addbmm" else result

    links, bias = [], None
    added_sums = engine.read(added)
    if added_sums is None:
        bias = beta * engine.values(added)
    else:
        links.append(Links(added_sums, lambda x, power: power(beta) * x.expand(step.shape)))
    for place, each in enumerate(sums):
        if each is not None:
            constant = engine.values(factors[1 - place])

            def forward(x: Tensor, power: Power, place: int = place, constant: Tensor = constant) -> Tensor:
                pair = (x, power(constant)) if place == 0 else (power(constant), x)
                return power(alpha) * product(*pair)

            links.append(Links(each, forward))
    if all(each is None for each in sums):
        fixed = alpha * product(*(engine.values(factor) for factor in factors))
        bias = fixed if bias is None else bias + fixed
    return engine.affine(step, links, bias)


def embedding(engine: Strengths, step: Step) -> Value:
    """One layer of one-hot units, a token each, the same at every position and kept once; a row of links from each."""
    if engine.read(step.arguments["weight"]) is not None:
        return engine.data_dependent_nodes(step, "its weights depend on the input")
    table = engine.values(step.arguments["weight"])
    call = step.call
    _, tokens = engine.nodes(f"{call.name}:tokens", call.call, "input", table.shape[:1], Layout(), flags=("input",))
    tokens.incoming = engine.external(tokens)
    for k, power in enumerate(POWERS):
        tokens.add_out(k, power(table).sum(1))
    layout = engine.layout(step.node, 0, engine.reached(step))
    sums, units = engine.nodes(call.name, call.call, call.op, step.shape, layout)
    units.incoming = [power(table).sum(0).expand(units.shape) for power in POWERS]
    return sums
