"""Why some operations have no links that weights alone give, and which ones place what constants say where."""

from __future__ import annotations

from dataclasses import replace

from netassay.algebra.semantics import Leaf

COMBINES = "it combines tensors that depend on the input, unit by unit"
MULTIPLIES = "it multiplies tensors that depend on the input"
NORMALISES = "it divides by statistics of the input; the links that come in are those of its scale and shift"
_EXTREME = "which unit it takes depends on the input's values"
_WHY = {
    _EXTREME: " ".join(
        f"max_pool{d}d max_pool{d}d_with_indices adaptive_max_pool{d}d fractional_max_pool{d}d max_unpool{d}d"
        for d in (1, 2, 3)
    )
    + " max min amax amin maximum minimum fmax fmin sort topk median mode kthvalue masked_select",
    "softmax(q k^T) v: its weights are products that depend on the input": "scaled_dot_product_attention",
    "it divides by a sum that depends on the input": "softmax log_softmax _softmax _log_softmax _safe_softmax softmin",
    "half of its units multiply the other half": "glu",
    "it is a nonlinear function of several units": "logsumexp prod var std var_mean std_mean norm linalg_vector_norm"
    " lp_pool1d lp_pool2d local_response_norm logcumsumexp cdist cosine_similarity",
    "where it samples depends on the input": "grid_sampler grid_sampler_2d grid_sampler_3d",
    "which rows a bag sums depends on the input": "embedding_bag _embedding_bag",
    "which unit is on is the input's": "one_hot",
    MULTIPLIES: "bilinear cross complex polar",
}
_REASONS = {op: why for why, ops in _WHY.items() for op in ops.split()}

#: Operations that put nodes where constants say.
PLACES = (
    *("where", "index_put", "index_copy", "index_fill", "scatter"),
    *("slice_scatter", "select_scatter", "diagonal_scatter"),
)


def of(op: str) -> str | None:
    """Why an operation's links depend on the input's values; None where they do not, or where it depends."""
    return _REASONS.get(op)


def placing(leaf: Leaf) -> Leaf:
    return replace(leaf, reads=("self", "other", "src", "source", "values", "value"))
