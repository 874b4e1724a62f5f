"""Operations of units by themselves, joins of branches, views, and what carries no path."""

from __future__ import annotations

from netassay.algebra.graph import INPUT, Call, Tensor
from netassay.algebra.semantics import Leaf, register, rules


@rules("relu leaky_relu prelu abs threshold rrelu rrelu_with_noise")
def _one_breakpoint(call: Call) -> Leaf:
    return Leaf(planes=call.size, breakpoints=1, reads=("self", "input"))


@rules("relu6 hardtanh hardsigmoid hardshrink softshrink")
def _two_breakpoints(call: Call) -> Leaf:
    return Leaf(planes=2 * call.size, breakpoints=2, reads=("self",))


@rules("clamp clip clamp_min clamp_max")
def _clamp(call: Call) -> Leaf:
    """Bounds that calls put out are joined like what is bounded, as by `maximum`."""
    bounds = [bound for name in ("min", "max") if (bound := call.get(name)) is not None]
    joins = any(isinstance(bound, Tensor) and bound.call is not None for bound in bounds)
    planes = len(bounds) * call.size
    return Leaf("sum", planes=planes) if joins else Leaf(planes=planes, breakpoints=len(bounds), reads=("self",))


@rules("maximum minimum fmax fmin")
def _maximum(call: Call) -> Leaf:
    return Leaf("sum", planes=call.size)


@rules("batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm")
def _batch_norm(call: Call) -> Leaf:
    """With the statistics of training it is a scale and a shift; with those of the batch it is not."""
    own = call.get("running_mean") is None or bool(call.get("training", False))
    return Leaf(planes=None, reads=("input",), flags=("batch_statistics",)) if own else Leaf(reads=("input",))


register("where", Leaf("sum", reads=("self", "other")))
register("masked_fill", Leaf(reads=("self",)))
for _op in ("embedding", "embedding_bag", "one_hot", INPUT):
    register(_op, Leaf("source"))
for _op in ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "assign"):
    register(_op, Leaf("concat"))

_SUMS = """
    add sub rsub slice_scatter select_scatter diagonal_scatter scatter scatter_add masked_scatter index_put index_add
    index_copy index_fill
"""
for _op in _SUMS.split():
    register(_op, Leaf("sum"))
for _op in ("logaddexp", "hypot", "lerp", "addcmul", "addcdiv"):
    register(_op, Leaf("sum", planes=None, flags=("approximate",)))
for _op in ("mul", "multiply", "div", "divide", "true_divide", "outer", "ger", "cross", "kron", "complex"):
    register(_op, Leaf("product"))
register("pow", Leaf("product", planes=None))

_VIEWS = """
    view reshape _unsafe_view view_as reshape_as flatten unflatten squeeze unsqueeze transpose t T mT permute movedim
    moveaxis swapaxes swapdims numpy_T adjoint expand expand_as
    repeat tile repeat_interleave broadcast_to slice select narrow chunk split split_with_sizes tensor_split unbind
    getitem index index_select gather take take_along_dim masked_select pad constant_pad_nd reflection_pad1d
    reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d roll flip rot90 tril triu
    diagonal diag col2im fold channel_shuffle as_strided unsafe_chunk unsafe_split
    atleast_1d atleast_2d atleast_3d ravel meshgrid broadcast_tensors
"""
for _op in _VIEWS.split():
    register(_op, Leaf("view", reads=("self", "input", "tensors")))

_IDENTITIES = """
    dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout to _to_copy type_as float double half
    bfloat16 neg negative positive conj real contiguous clone alias detach lift_fresh_copy lift_fresh copy
"""
#: Operations that hand on what enters, whatever dtype, device or layout they ask for.
IDENTITIES = frozenset(_IDENTITIES.split())
for _op in IDENTITIES:
    register(_op, Leaf("view", reads=("src",) if _op == "copy" else ("self", "input")))

#: Elementwise functions and norms that are not piecewise linear. A norm's statistics count as constants, as eval
#: BatchNorm's do: every output is on the path of one input.
_SMOOTH = """
    gelu silu mish elu selu celu softplus softsign sigmoid hardswish tanh tanhshrink logsigmoid log_sigmoid erf
    erfc exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square sin cos tan asin acos atan sinh cosh atan2
    angle layer_norm native_layer_norm group_norm native_group_norm instance_norm rms_norm _fused_rms_norm
    local_response_norm sign sgn floor ceil round trunc frac fmod remainder floor_divide logit sort topk nan_to_num
    grid_sampler grid_sampler_2d bernoulli polar view_as_complex view_as_real
"""
for _op in _SMOOTH.split():
    register(_op, Leaf(planes=None))

_STEPS = """
    eq ne lt le gt ge isnan isinf isfinite logical_not logical_and logical_or logical_xor bitwise_not bitwise_and
    bitwise_or argmax argmin argsort any all bitwise_xor __and__ __or__ __xor__ __lshift__ __rshift__ bucketize
    searchsorted histc bincount nonzero isin equal
"""
for _op in _STEPS.split():
    register(_op, Leaf("step", planes=None))

# the product of its halves: one tensor that enters is one factor here
register("glu", Leaf(planes=None, flags=("approximate",)))

_CONSTANTS = """
    arange zeros ones full empty rand randn randint randperm eye linspace scalar_tensor tensor zeros_like ones_like
    full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty tril_indices triu_indices
    fill zero normal uniform
"""
for _op in _CONSTANTS.split():
    register(_op, Leaf("constant", reads=()))
