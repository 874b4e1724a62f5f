"""Sums over windows: what pools, convolutions of equal weights, interpolations and reductions do to path sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from netassay.algebra.semantics import per_axis
from netassay.sources.passes.engine import Step
from netassay.sources.passes.sums import Lost, Sums, ones, scaled

if TYPE_CHECKING:
    from torch import Tensor


def conv_geometry(step: Step, axes: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Stride, dilation and left padding of a convolution over a kernel of so many axes."""
    (weight,) = _shapes(step, "weight")
    kernel = weight[2:]
    dilation = per_axis(step.get("dilation"), axes)
    padding = step.get("padding", 0)
    if isinstance(padding, str):
        same = padding == "same"
        padding = tuple(d * (k - 1) // 2 if same else 0 for k, d in zip(kernel, dilation, strict=True))
    return per_axis(step.get("stride"), axes), dilation, per_axis(padding, axes, 0)


def convolution(step: Step, entering: Sums) -> Sums:
    """A convolution of ones: the channels of each group summed, then the windows of positions."""
    (weight,) = _shapes(step, "weight")
    kernel = weight[2:]
    axes = len(kernel)
    groups = step.get("groups", 1)
    transposed = "transpose" in step.op or bool(step.get("transposed", False))
    stride, dilation, padding = conv_geometry(step, axes)
    x = entering.tensor
    shape = step.shape
    x = x if x.dim() == axes + 2 else x.unsqueeze(0)
    n, channels, *positions = x.shape
    x = x.reshape(n, groups, channels // groups, *positions).sum(2)
    over = transposed_windows if transposed else windows
    x = over(x, kernel, stride, dilation, padding, shape[-axes:])
    sums = scaled(x, entering.bits)
    outputs = shape[-axes - 1]

    def repeated(tensor: Tensor) -> Tensor:
        tensor = tensor.unsqueeze(2).expand(n, groups, outputs // groups, *shape[-axes:])
        return tensor.reshape(shape)

    return sums.map(repeated)


def windows(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], left: Sequence[int], out: Any
) -> Tensor:
    """Sums over windows of the last axes; what lies beside the tensor is 0, and `out` says how many there are."""
    from torch.nn import functional as F

    axes = len(kernel)
    pads: list[int] = []
    for size, k, s, d, p, o in zip(x.shape[-axes:], kernel, stride, dilation, left, out, strict=True):
        pads = [p, (o - 1) * s + d * (k - 1) + 1 - size - p, *pads]
    folded = F.pad(x, pads).flatten(0, -axes - 1).unsqueeze(1)
    box = x.new_ones(1, 1, *kernel)
    result = _conv(axes)(folded, box, stride=tuple(stride), dilation=tuple(dilation))
    return result.reshape(*x.shape[:-axes], *out)


def transposed_windows(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], left: Sequence[int], out: Any
) -> Tensor:
    """Each position adds itself to a window of the result, of which `left` positions are cut off."""
    from torch.nn import functional as F

    axes = len(kernel)
    folded = x.flatten(0, -axes - 1).unsqueeze(1)
    box = x.new_ones(1, 1, *kernel)
    full = _conv(axes, "_transpose")(folded, box, stride=tuple(stride), dilation=tuple(dilation))
    pads: list[int] = []
    for size, p, o in zip(full.shape[-axes:], left, out, strict=True):
        pads = [-p, o + p - size, *pads]
    return F.pad(full, pads).reshape(*x.shape[:-axes], *out)


def _conv(axes: int, form: str = "") -> Callable[..., Tensor]:
    from torch.nn import functional as F

    if not 1 <= axes <= 3:
        raise Lost(f"a window of {axes} axes")
    function: Callable[..., Tensor] = getattr(F, f"conv{form}{axes}d")
    return function


def pool(step: Step, entering: Sums) -> Sums:
    """The sum over each window of a pool; padding is 0."""
    axes = _axes(step)
    kernel = per_axis(step.get("kernel_size"), axes)
    stride = per_axis(step.get("stride") or kernel, axes)
    left = per_axis(step.get("padding"), axes, 0)
    dilation = per_axis(step.get("dilation"), axes)
    return scaled(windows(entering.tensor, kernel, stride, dilation, left, step.shape[-axes:]), entering.bits)


def adaptive_pool(step: Step, entering: Sums) -> Sums:
    """The sum over positions floor(k i / o) to ceil((k + 1) i / o) of each axis."""
    axes = _axes(step)
    x = entering.tensor
    for axis in range(-axes, 0):
        i, o = x.shape[axis], step.shape[axis]
        belongs = x.new_zeros(o, i)
        for k in range(o):
            belongs[k, k * i // o : -(-(k + 1) * i // o)] = 1
        x = along(x, axis, belongs)
    return scaled(x, entering.bits)


def along(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """A matrix (out, in) on one axis."""
    return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def interpolated(step: Step, entering: Sums, power: Callable[[Tensor], Tensor]) -> Sums:
    """Each position from those that its interpolation gives a coefficient other than 0, axis by axis."""
    import torch

    x = entering.tensor
    axes = x.dim() - 2
    aten = torch.ops.aten
    operation = aten.upsample_bicubic2d.vec if "bicubic" in step.op else aten.upsample_bilinear2d.vec
    scales = step.get("scale_factors") or [step.get(f"scales_{axis}") for axis in "dhw"[-axes:]]
    if axes == 1 and "scales" in step.arguments:
        scales = [step.get("scales")]
    for axis, scale in zip(range(-axes, 0), scales if len(scales) == axes else [None] * axes, strict=True):
        eye = torch.eye(x.shape[axis], dtype=torch.float64, device="cpu")[:, None, :, None]
        size, factors = ([step.shape[axis], 1], None) if scale is None else (None, [scale, 1.0])
        matrix = operation(eye, size, bool(step.get("align_corners", False)), factors)[:, 0, :, 0].T
        x = along(x, axis, power(torch.where(matrix.abs() > 1e-12, matrix, 0.0)))
    return scaled(x, entering.bits)


def reduced(step: Step, entering: Sums) -> Sums:
    """The sum along the axes that a reduction takes away, or all."""
    x = entering.tensor
    dims = step.get("dim")
    dims = None if dims in ((), []) else dims
    if dims is None:
        total = x.sum()
        return scaled(total.reshape(step.shape), entering.bits)
    total = x.sum(dim=dims, keepdim=bool(step.get("keepdim", False)))
    return scaled(total, entering.bits)


def over_row(step: Step, entering: Sums) -> Sums:
    """Each entry the sum over its row."""
    total = scaled(entering.tensor.sum(dim=step.get("dim"), keepdim=True), entering.bits)
    return total.map(lambda tensor: tensor.expand(step.shape))


def divisors(step: Step, entering: Sums, windowed: Callable[[Step, Sums], Sums]) -> Tensor:
    """What an average multiplies each of its units by, per unit that it puts out: 1 / k where it has k.

    The average of ones is their number over the divisor; where no unit is in the window, 0.
    """
    import torch

    (node,) = step.reads
    every = ones(entering.tensor.shape)
    average: Tensor = step.rerun({node: every.tensor.contiguous()}, dtype=None)
    counted = windowed(step, every)
    return torch.where(counted.tensor > 0, average / (counted.tensor * 2.0**counted.bits), 0.0)


def _axes(step: Step) -> int:
    return int(step.op.split("pool")[1][0])


def _shapes(step: Step, name: str) -> tuple[tuple[int, ...]]:
    return (tuple(step.call[name].shape),)
