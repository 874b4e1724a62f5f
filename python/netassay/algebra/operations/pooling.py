"""Pools, sums and means, softmax, interpolation: outputs that depend on many units, without weights."""

from __future__ import annotations

import math
from dataclasses import replace

from netassay.algebra.graph import Call
from netassay.algebra.semantics import Leaf, Window, per_axis, rules


@rules("max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices")
def _max_pool(call: Call) -> Leaf:
    return _largest(call, _pool(call))


@rules("avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d")
def _pool(call: Call) -> Leaf:
    axes = int(call.op.split("pool")[1][0])
    kernel = per_axis(call["kernel_size"], axes)
    stride = per_axis(call.get("stride") or kernel, axes)
    dilation = per_axis(call.get("dilation"), axes)
    window = tuple(Window(d * (k - 1) + 1, s) for k, s, d in zip(kernel, stride, dilation, strict=True))
    return Leaf("window", math.prod(kernel), window=window, planes=None if call.op.startswith("lp") else 0)


def _largest(call: Call, leaf: Leaf) -> Leaf:
    """The maximum of k changes its piece where two of them are equal: k (k - 1) / 2 hyperplanes."""
    k = math.ceil(leaf.gain)
    return replace(leaf, planes=call.size * k * (k - 1) // 2)


@rules("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d")
def _adaptive(call: Call) -> Leaf:
    """Per axis the mean of ceil((k + 1) i / o) - floor(k i / o) positions of i."""
    axes = int(call.op.split("pool")[1][0])
    (entering,) = call.inputs
    sizes = tuple(zip(entering.shape[-axes:], call.shape[-axes:], strict=True))
    mean = math.prod(sum(-(-(k + 1) * i // o) - k * i // o for k in range(o)) / o for i, o in sizes)
    window = tuple(Window(max(-(-(k + 1) * i // o) - k * i // o for k in range(o)), i / o) for i, o in sizes)
    return Leaf("window", mean, window=window)


@rules("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d")
def _adaptive_max(call: Call) -> Leaf:
    leaf = _adaptive(call)
    most = math.prod(axis.size for axis in leaf.window or ())
    return replace(_largest(call, replace(leaf, fan_in=most)), fan_in=leaf.fan_in)


@rules("mean sum nansum")
def _reduce(call: Call) -> Leaf:
    """Every output from all units along the axes that it lacks."""
    (entering,) = call.inputs or call.tensors[:1]
    return Leaf("window", entering.elements / max(call.elements[0], 1))


@rules("prod logsumexp var std var_mean std_mean norm linalg_vector_norm median")
def _smooth_reduce(call: Call) -> Leaf:
    return replace(_reduce(call), planes=None)


@rules("amax amin")
def _extreme(call: Call) -> Leaf:
    return _largest(call, _reduce(call))


@rules("max min")
def _maximum_or_extreme(call: Call) -> Leaf:
    return Leaf("sum", planes=call.size) if "other" in call.arguments else _extreme(call)


@rules("cumsum logcumsumexp")
def _cumulative(call: Call) -> Leaf:
    extent = call["self"].shape[call["dim"]]
    return Leaf("window", (extent + 1) / 2, planes=0 if call.op == "cumsum" else None)


@rules("softmax log_softmax _softmax _log_softmax _safe_softmax softmin")
def _softmax(call: Call) -> Leaf:
    """Every output depends on its whole row."""
    return Leaf("window", call["self"].shape[call["dim"]], planes=None)


@rules("unfold im2col")
def _unfold(call: Call) -> Leaf:
    if call.op == "unfold":  # of a tensor, along one axis: windows as views
        return Leaf("view")
    kernel, stride = per_axis(call["kernel_size"], 2), per_axis(call.get("stride"), 2)
    apart = per_axis(call.get("dilation"), 2)
    return Leaf("view", window=tuple(Window(d * (k - 1) + 1, s) for k, s, d in zip(kernel, stride, apart, strict=True)))


@rules("pixel_shuffle pixel_unshuffle")
def _pixels(call: Call) -> Leaf:
    """Channels become positions between those that are there, or squares of positions channels."""
    shuffles = call.op == "pixel_shuffle"
    window = Window(1, 1 / call["upscale_factor"]) if shuffles else Window(*[call["downscale_factor"]] * 2)
    return Leaf("view", window=(window, window))


@rules(
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d",
    "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d",
)
def _nearest(call: Call) -> Leaf:
    return Leaf("view", window=_scaled(call, 1))


@rules("upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d")
def _interpolate(call: Call) -> Leaf:
    size = 4 if "bicubic" in call.op else 2
    window = _scaled(call, size)
    return Leaf("window", size ** len(window), window=window)


def _scaled(call: Call, size: int) -> tuple[Window, ...]:
    (entering,) = call.inputs or call.tensors[:1]
    return tuple(Window(size, i / o) for i, o in zip(entering.shape[2:], call.shape[2:], strict=True))
