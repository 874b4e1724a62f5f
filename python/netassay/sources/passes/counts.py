"""Exact path counts: one forward pass of ones through a traced run, with every weight 1 and every bias 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from netassay.algebra.operations.unitwise import IDENTITIES
from netassay.sources.passes import windows
from netassay.sources.passes.engine import Pass, Step
from netassay.sources.passes.sums import Lost, Sums, Value, joined, ones, scaled
from netassay.sources.traced.graph import Traced

if TYPE_CHECKING:
    from torch import Tensor, fx

#: Bytes of path sums alive at once, float64.
MEMORY = 256 << 20

#: Their output lies where values of the input decide.
_DECIDED_BY_VALUES = ("sort", "topk", "argsort", "argmax", "argmin", "any", "all", "masked_select", "mode", "kthvalue")


def count_paths(
    traced: Traced, *, memory: int = MEMORY, reasons: MutableMapping[int, str] | None = None
) -> dict[int, float]:
    """Place of a call -> log2 of the unit paths from the input that reach a unit it puts out, mean over its units.

    A path goes from unit to unit along every operation: weights count as 1, biases as 0, a window as all of its units
    that are not padding, a softmax as its whole row (masks are not looked at), a product of two tensors that paths
    reach as the product of their counts. What no path reaches counts as 1 in a product and as 0 in a sum. No weight is
    read: the model may be on the meta device. Exact up to float64's rounding of sums.

    No entry: a call that no path reaches; recurrent and unknown operations, indices that depend on values, sums above
    `memory` bytes (of all that are alive at once, by their shapes), and what comes behind any of these.

    Args:
        reasons: is filled with why there is no entry, by place, naming the first call that had none.
    """
    found: dict[int, float] = {}
    first: dict[int, tuple[Lost, str]] = {}  # by identity of what was lost, which is kept alive: where it was lost
    for place, value in _Counts(traced, memory).walk():
        call = traced.graph.calls[place]
        bits = _mean(value, call.elements)
        if bits is not None:
            found[place] = bits
            continue
        lost = value[0] if isinstance(value, tuple) else value
        if reasons is not None and isinstance(lost, Lost):
            _, where = first.setdefault(id(lost), (lost, f"{call.name}: {lost}"))
            reasons[place] = where
    return found


def _mean(value: Value, elements: tuple[int, ...]) -> float | None:
    """log2 of the mean over the units of all tensors of a call that have sums; None where the first has none, or 0."""
    parts = value if isinstance(value, tuple) else (value,)
    if not isinstance(parts[0], Sums):
        return None
    known = [(part.log2_mean, n) for part, n in zip(parts, elements, strict=True) if isinstance(part, Sums) and n]
    largest = max((bits for bits, _ in known), default=-math.inf)
    if largest == -math.inf:
        return None
    total = math.fsum(n * 2.0 ** (bits - largest) for bits, n in known)
    return largest + math.log2(total / sum(n for _, n in known))


class _Counts(Pass):
    def lost(self, step: Step, error: Exception) -> Lost:
        return error if isinstance(error, Lost) else Lost(str(error))

    def constant_sums(self, node: fx.Node) -> Sums | None:
        return None

    def push(self, step: Step) -> Value:
        form = step.leaf.form
        if form == "source":
            return ones(step.shape)
        if step.op in _DECIDED_BY_VALUES:
            raise Lost(f"{step.op} depends on values")
        reached = [sums for sums in map(self.read, step.reads) if sums is not None]
        if not reached:
            return None
        handler = _HANDLERS.get((form, step.op))
        if handler is not None:
            return handler(step)
        if step.op in IDENTITIES or form == "unit" or (form == "sum" and step.leaf.fan_in == 1):
            return _joined(step, reached)
        if form in ("view", "concat"):
            return step.moved(value=0) if "pad" in step.op else step.moved()
        if form == "product" and step.leaf.fan_in == 1:
            return _multiplied(step, reached)
        raise Lost(f"{step.op} has no count")


def _joined(step: Step, reached: list[Sums]) -> Value:
    """The first of several outputs (beside a norm's mean, a dropout's mask)."""
    total = joined(reached, step.shape)
    others = len(step.call.shapes) - 1
    return (total, *[Lost("a by-product")] * others) if others else total


def _multiplied(step: Step, reached: list[Sums]) -> Sums:
    product = reached[0]
    for sums in reached[1:]:
        product = times(product, sums, lambda a, b: a * b)
    return product.map(lambda tensor: tensor.expand(step.shape))


def times(a: Sums, b: Sums, product: Callable[[Tensor, Tensor], Tensor]) -> Sums:
    """A product, linear in both, in which a unit that no path reaches counts as 1 beside one that a path reaches."""
    terms = [scaled(product(a.tensor, b.tensor), a.bits + b.bits)]
    for unreached, other, first in ((a.tensor == 0, b, True), (b.tensor == 0, a, False)):
        if bool(unreached.any()):
            pair = (unreached.double(), other.tensor) if first else (other.tensor, unreached.double())
            terms.append(scaled(product(*pair), other.bits))
    return joined(terms, terms[0].tensor.shape)


def _contracted(step: Step) -> Sums:
    """The operation itself on the counts of its factors; 1 for those that no path reaches."""
    entering = {node: step.engine.read(node) for node in step.reads}
    absent: dict[str, Any] = {name: None for name in ("bias", "out") if name in step.arguments}

    def product(*factors: Tensor) -> Tensor:
        result: Tensor = step.rerun(dict(zip(entering, factors, strict=True)), **absent)
        return result

    several = {node: ones(_shape(node)) if sums is None else sums for node, sums in entering.items()}
    if len(several) == len(step.reads) == 2:
        left, right = several.values()
        return times(left, right, product)
    bits = math.fsum(several[node].bits for node in step.reads)
    return scaled(product(*(sums.tensor for sums in several.values())), bits)


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _linear(step: Step) -> Sums:
    entering = step.sums("input")
    if entering is None or step.sums("weight") is not None:
        return _contracted(step)
    total = scaled(entering.tensor.sum(-1, keepdim=True), entering.bits)
    return total.map(lambda tensor: tensor.expand(step.shape))


def _convolution(step: Step) -> Sums:
    entering = step.sums("input")
    if entering is None or step.sums("weight") is not None:
        return _contracted(step)
    return windows.convolution(step, entering)


def _matmul(step: Step) -> Sums:
    """Where one factor is a constant, the sum of the other along the axis that they share."""
    left, right = step.reads
    return matmul(step, left, right).map(lambda tensor: tensor.expand(step.shape))


def matmul(step: Step, left: fx.Node, right: fx.Node) -> Sums:
    a, b = step.engine.read(left), step.engine.read(right)
    if a is not None and b is not None:
        return times(a, b, lambda x, y: x @ y)
    if a is not None:
        return scaled(a.tensor.sum(-1, keepdim=len(_shape(right)) > 1), a.bits)
    if b is None:
        raise Lost("a product that no path reaches")
    if b.tensor.dim() == 1:
        return scaled(b.tensor.sum(), b.bits)
    return scaled(b.tensor.sum(-2, keepdim=len(_shape(left)) > 1), b.bits)


def _addmm(step: Step) -> Sums:
    added, left, right = step.reads
    terms = [] if step.engine.read(added) is None else [step.engine.read(added)]
    if any(step.engine.read(factor) is not None for factor in (left, right)):
        product = matmul(step, left, right)
        if step.op == "addbmm":
            batch = max(_shape(left)[0], 1)
            total = product.tensor.expand(batch, *product.tensor.shape[1:]).sum(0)
            product = scaled(total, product.bits)
        terms.append(product)
    return joined([term for term in terms if term is not None], step.shape)


def _bilinear(step: Step) -> Sums:
    pairs = [ones(_shape(node)) if (s := step.engine.read(node)) is None else s for node in step.reads[:2]]
    product = pairs[0].tensor.sum(-1, keepdim=True) * pairs[1].tensor.sum(-1, keepdim=True)
    return scaled(product, pairs[0].bits + pairs[1].bits).map(lambda tensor: tensor.expand(step.shape))


def _attention(step: Step) -> Sums:
    """softmax(Q K^T) V. Every entry of a row has the sum over the row, so that no matrix of scores is needed."""
    query, key, value = (step.sums(name) for name in ("query", "key", "value"))
    nodes = {name: step.arguments[name] for name in ("query", "key", "value")}
    values = ones(_shape(nodes["value"])) if value is None else value
    if query is None and key is None:
        result = scaled(values.tensor.sum(-2, keepdim=True), values.bits)
    else:
        queries = ones(_shape(nodes["query"])) if query is None else query
        keys = ones(_shape(nodes["key"])) if key is None else key
        heads = queries.tensor.shape[-3] if queries.tensor.dim() > 2 else 1

        def rows_of(q: Tensor, k: Tensor) -> Tensor:
            return (q * _of_all_heads(k.sum(-2, keepdim=True), heads)).sum(-1, keepdim=True)

        def weighted(row: Tensor, v: Tensor) -> Tensor:
            return row * _of_all_heads(v.sum(-2, keepdim=True), heads)

        result = times(times(queries, keys, rows_of), values, weighted)
    return result.map(lambda tensor: _of_all_heads(tensor, step.shape[-3]).expand(step.shape))


def _of_all_heads(tensor: Tensor, heads: int) -> Tensor:
    """Grouped queries share keys and values: each is repeated for its queries."""
    if tensor.dim() < 3 or tensor.shape[-3] in (1, heads):
        return tensor
    return tensor.repeat_interleave(heads // tensor.shape[-3], dim=-3)


def _gated(step: Step) -> Sums:
    """a sigmoid(b) of two halves."""
    entering = step.sums("self")
    if entering is None:
        raise Lost("a gate that no path reaches")
    first, second = entering.tensor.chunk(2, dim=step.get("dim", -1))
    return scaled(first * second, 2 * entering.bits)


#: What stands at places that constants give: beside it the tensor is as it was.
_PLACED = """
    index_put index_copy index_add index_fill scatter scatter_add masked_scatter slice_scatter select_scatter
    diagonal_scatter
"""


def _placed(step: Step) -> Value:
    if step.get("reduce") is not None:
        raise Lost(f"{step.op} with a reduction has no count")
    step.leaf = replace(step.leaf, reads=("self", "src", "source", "values", "value"))
    return step.moved(value=0) if isinstance(step.get("value"), (int, float)) else step.moved()


def _added_product(step: Step) -> Value:
    """self + tensor1 tensor2."""
    added, *factors = (step.sums(name) for name in ("self", "tensor1", "tensor2"))
    reached = [factor for factor in factors if factor is not None]
    terms = [_multiplied(step, reached)] if reached else []
    return joined([*terms, *([] if added is None else [added])], step.shape)


def _between(step: Step) -> Value:
    if step.sums("weight") is not None:
        raise Lost("a weight that depends on the input")
    ends = (step.sums("self"), step.sums("end"))
    return joined([end for end in ends if end is not None], step.shape)


def _alone(function: Callable[[Step, Sums], Sums]) -> Callable[[Step], Value]:
    """A handler of the first output alone; indices among the outputs are lost."""

    def handler(step: Step) -> Value:
        entering = step.engine.read(step.reads[0])
        if entering is None:
            return None
        total = function(step, entering)
        several = tuple(total if elements else Lost("it depends on values") for elements in step.call.elements)
        return several if len(several) > 1 else total

    return handler


def _cumulated(step: Step, entering: Sums) -> Sums:
    return scaled(entering.tensor.cumsum(step.get("dim")), entering.bits)


def _interpolated(step: Step, entering: Sums) -> Sums:
    return windows.interpolated(step, entering, lambda matrix: (matrix != 0).double())


def _handlers() -> Mapping[tuple[str, str], Callable[[Step], Value]]:
    """By the form that the table gives an operation, so that a user's other rule for it holds."""
    convolutions = "conv1d conv2d conv3d convolution _convolution mkldnn_convolution cudnn_convolution"
    products = "matmul mm bmm mv dot vdot linalg_matmul"
    pools = "max_pool{0}d max_pool{0}d_with_indices avg_pool{0}d lp_pool{0}d"
    reduced = _alone(windows.reduced)
    tables: dict[str, dict[str, Any]] = {
        "mix": {
            "linear": _linear,
            f"{convolutions} conv_transpose1d conv_transpose2d conv_transpose3d": _convolution,
        },
        "mix product": {
            products: _matmul,
            "inner einsum outer ger kron tensordot linalg_multi_dot chain_matmul": _contracted,
            "addmm addbmm baddbmm addmv": _addmm,
        },
        "product": {"bilinear": _bilinear, "scaled_dot_product_attention": _attention},
        "unit": {"glu": _gated},
        "sum": {"addcmul addcdiv": _added_product, "lerp": _between, _PLACED: _placed},
        "window view": {"einsum": _contracted},
        "window": {
            " ".join(pools.format(axes) for axes in (1, 2, 3)): _alone(windows.pool),
            " ".join(f"adaptive_{kind}_pool{axes}d" for kind in ("avg", "max") for axes in (1, 2, 3)): _alone(
                windows.adaptive_pool
            ),
            "mean sum nansum prod logsumexp var std var_mean std_mean norm linalg_vector_norm median": reduced,
            "amax amin max min": reduced,
            "softmax log_softmax _softmax _log_softmax _safe_softmax softmin": _alone(windows.over_row),
            "cumsum logcumsumexp": _alone(_cumulated),
            "upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d": _alone(_interpolated),
        },
    }
    return {
        (form, op): handler
        for forms, table in tables.items()
        for ops, handler in table.items()
        for form in forms.split()
        for op in ops.split()
    }


_HANDLERS = _handlers()
