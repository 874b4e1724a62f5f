"""Operations whose outputs weigh many units: linear layers, convolutions, matrix products, attention, recurrence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from netassay.algebra.graph import Call, Tensor
from netassay.algebra.semantics import Leaf, Window, per_axis, rules


@rules("linear")
def _linear(call: Call) -> Leaf:
    inputs = call["weight"].shape[-1]
    return Leaf("mix", inputs, weighted=True, macs=call.size * inputs, reads=("input", "weight"))


@rules("conv1d conv2d conv3d convolution _convolution mkldnn_convolution cudnn_convolution")
def _convolution(call: Call) -> Leaf:
    kernel = call["weight"].shape[2:]
    stride = per_axis(call.get("stride"), len(kernel))
    dilation = per_axis(call.get("dilation"), len(kernel))
    if call.get("transposed", False):
        return _transposed(call)
    fan_in = math.prod(call["weight"].shape[1:])
    window = tuple(Window(d * (k - 1) + 1, s) for k, s, d in zip(kernel, stride, dilation, strict=True))
    return Leaf("mix", fan_in, weighted=True, window=window, macs=call.size * fan_in, reads=("input", "weight"))


@rules("conv_transpose1d conv_transpose2d conv_transpose3d")
def _transposed(call: Call) -> Leaf:
    inputs, outputs, *kernel = call["weight"].shape
    stride = per_axis(call.get("stride"), len(kernel))
    dilation = per_axis(call.get("dilation"), len(kernel))
    fan_in = inputs / call.get("groups", 1) * math.prod(kernel) / math.prod(stride)
    geometry = zip(kernel, stride, dilation, strict=True)
    window = tuple(Window(math.ceil((d * (k - 1) + 1) / s), 1 / s) for k, s, d in geometry)
    macs = call["input"].elements * outputs * math.prod(kernel)
    return Leaf("mix", fan_in, weighted=True, window=window, macs=macs, reads=("input", "weight"))


@rules("bilinear")
def _bilinear(call: Call) -> Leaf:
    pairs = math.prod(call["weight"].shape[1:])
    return Leaf("product", pairs, weighted=True, macs=call.size * pairs, reads=("input1", "input2"))


@rules("matmul mm bmm mv dot vdot inner linalg_matmul")
def _matmul(call: Call) -> Leaf:
    factors = call.tensors
    return _contraction(call, factors, factors[0].shape[-1])


@rules("addmm addbmm baddbmm addmv")
def _addmm(call: Call) -> Leaf:
    """What is added carries paths too, without a contraction; where it does, the product is not exact."""
    added, *factors = call.tensors
    leaf = _contraction(call, factors, factors[0].shape[-1])
    if added.call is None:
        return leaf
    return replace(leaf, flags=("approximate",))


@rules("tensordot")
def _tensordot(call: Call) -> Leaf:
    left = call["self"].shape
    return _contraction(call, call.tensors, math.prod(left[axis] for axis in call["dims_self"]))


@rules("einsum")
def _einsum(call: Call) -> Leaf:
    """Letters that the result lacks are summed over: without a result, those that stand twice."""
    terms, explicit, result = call["equation"].replace(" ", "").partition("->")
    tensors = call.tensors
    letters = {c for c in terms if c.isalpha()}
    summed = {c for c in letters if (c not in result if explicit else terms.count(c) > 1)}
    extents: dict[str, int] = {}
    for term, tensor in zip(terms.split(","), tensors, strict=True):
        head, _, tail = term.partition("...")
        extents.update(zip(head, tensor.shape, strict=False))
        extents.update(zip(reversed(tail), reversed(tensor.shape), strict=False))
    length = math.prod(extents[c] for c in summed)
    if len(tensors) == 1:
        return Leaf("window" if length > 1 else "view", length)
    leaf = _contraction(call, tensors, length)
    if len(tensors) == 2 or "." in terms:
        return leaf
    return replace(leaf, macs=_pairwise(terms.split(","), result, extents) * call.size // math.prod(call.shape))


def _pairwise(terms: Sequence[str], result: str, extents: Mapping[str, int]) -> int:
    """Multiply-accumulates of products of two terms at a time from the left, as torch contracts; of all samples."""
    cost, left = 0, set(terms[0])
    for place, term in enumerate(terms[1:], start=1):
        both = left | set(term)
        cost += math.prod(extents[c] for c in both)
        left = both & (set(result).union(*terms[place + 1 :]))
    return cost


def _contraction(call: Call, factors: Sequence[Tensor], length: int) -> Leaf:
    macs = call.size * length
    weighted = any(factor.parameter for factor in factors)
    if weighted or any(factor.call is None for factor in factors):
        return Leaf("mix", length, weighted=weighted, macs=macs)
    return Leaf("product", length, macs=macs)


@rules("scaled_dot_product_attention")
def _attention(call: Call) -> Leaf:
    """softmax(Q K^T) V: two contractions, and each score depends on its whole row."""
    query, key = call["query"], call["key"]
    width, length = query.shape[-1], key.shape[-2]
    macs = query.elements // width * length * width + call.size * length
    reads = ("query", "key", "value")
    return Leaf("product", width * length * length, planes=None, macs=macs, reads=reads)


# ---- recurrence ------------------------------------------------------------------------------------------------


@rules("lstm gru rnn_tanh rnn_relu")
def _recurrent(call: Call) -> Leaf:
    """Layer after layer, each h_s = g_x x_s + g_h h_{s-1} over all steps, its last state; of two directions, one."""
    entering = call["input"] if "input" in call.arguments else call["data"]
    steps = entering.elements // entering.shape[-1]
    shapes = [tensor.shape for tensor in call["params"]]
    directions = 2 if call.get("bidirectional", False) else 1
    several = len(shapes) // (call.get("num_layers", 1) * directions)  # w_ih, w_hh, biases, a projection of the state
    fan_in = 1
    for first in range(0, len(shapes), several * directions):
        inputs, state, *projection = [shape[1] for shape in shapes[first : first + several] if len(shape) == 2]
        cells = math.prod(projection)
        fan_in *= recursion(cells * inputs, cells * state, steps)
    macs = steps * sum(math.prod(shape) for shape in shapes if len(shape) == 2)
    gated = ("gated",) if call.op in ("lstm", "gru") else ()
    reads = ("input", "data")
    return Leaf("recurrent", fan_in, weighted=True, planes=None, macs=macs, reads=reads, flags=("approximate", *gated))


def recursion(entering: int, state: int, steps: int) -> int:
    """g of the last state of h_s = g_x x_s + g_h h_{s-1}, h_0 = 0: g_x (g_h^T - 1) / (g_h - 1), T g_x where g_h = 1."""
    return entering * (steps if state == 1 else (state**steps - 1) // (state - 1))


@rules("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell")
def _cell(call: Call) -> Leaf:
    """One step: paths come from the input and from the state before."""
    inputs, state = call["w_ih"], call["w_hh"]
    macs = math.prod(inputs.shape) + math.prod(state.shape)
    fan_in = {"input": inputs.shape[1], "hx": state.shape[1]}
    flags = ("approximate", "gated") if call.op in ("lstm_cell", "gru_cell") else ()
    planes = call.size if call.op == "rnn_relu_cell" else None
    return Leaf(
        "mix", fan_in, weighted=True, planes=planes, breakpoints=1, macs=macs, reads=("input", "hx"), flags=flags
    )
