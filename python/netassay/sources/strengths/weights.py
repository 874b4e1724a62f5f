"""The links of linear layers and convolutions, from sums of their weights.

Where ones enter everywhere, T 1 of a convolution is, of each output channel, its kernel summed over the inputs, a tap
at a time where that tap is on the image; T^T 1 is the kernel summed over the outputs, a tap at a time where that tap
takes part in an output. So a layer costs one read of its weights, and a product of channels, taps and positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from netassay.sources.pathsums.engine import Step
from netassay.sources.pathsums.sums import Sums
from netassay.sources.strengths.links import Links, Power

if TYPE_CHECKING:
    from torch import Tensor


def scaled(step: Step, weight: Tensor, scale: Tensor) -> Tensor:
    """A weight whose outputs are multiplied."""
    if not _transposed(step):
        return weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
    groups = step.get("groups", 1)
    split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return (split * scale.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))).reshape(weight.shape)


def linear(entering: Sums, weight: Tensor) -> Links:
    def forward(x: Tensor, power: Power) -> Tensor:
        if bool(x.all()):  # ones: any of them stands for all
            return power(weight).sum(-1).expand(*x.shape[:-1], *weight.shape[:-1])
        return x @ power(weight).T

    def backward(power: Power) -> Tensor:
        return power(weight).reshape(-1, weight.shape[-1]).sum(0).expand(entering.tensor.shape)

    return Links(entering, forward, backward)


def convolution(step: Step, entering: Sums, weight: Tensor) -> Links:
    """The same for every sample, so one is enough."""
    groups, kernel = step.get("groups", 1), weight.shape[2:]
    batched = entering.tensor.dim() == weight.dim()
    arriving, leaving = _taps(step, entering, kernel)

    def spread(sums: Tensor, taps: Tensor, shape: Sequence[int]) -> Tensor:
        """(channels, 1, *kernel) at every position where a tap counts."""
        found = sums.reshape(-1, taps.shape[0]) @ taps.flatten(1)
        return found.reshape(shape[1:] if batched else tuple(shape)).expand(tuple(shape))

    def forward(x: Tensor, power: Power) -> Tensor:
        if not bool(x.all()):  # some of what enters are no units
            result: Tensor = step.rerun({step.arguments["input"]: x}, weight=power(weight), bias=None)
            return result
        kernels = power(weight)
        sums = _over_group(kernels, groups) if _transposed(step) else kernels.sum(1)
        return spread(sums, arriving, step.shape)

    def backward(power: Power) -> Tensor:
        kernels = power(weight)
        sums = kernels.sum(1) if _transposed(step) else _over_group(kernels, groups)
        return spread(sums, leaving, entering.tensor.shape)

    return Links(entering, forward, backward)


def _taps(step: Step, entering: Sums, kernel: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Of each tap of a kernel: how often it adds to each output position, and takes from each input position."""
    import torch

    count, axes = math.prod(kernel), len(kernel)
    positions = entering.tensor.shape[entering.tensor.dim() - axes :]
    x = torch.ones(1, count, *positions, dtype=torch.float64, device="cpu", requires_grad=True)
    each = torch.eye(count, dtype=torch.float64, device="cpu").reshape(count, 1, *kernel)
    out = step.rerun({step.arguments["input"]: x}, weight=each, bias=None, groups=count)
    (back,) = torch.autograd.grad(out, x, torch.ones_like(out))
    return out.detach()[0], back[0]


def _transposed(step: Step) -> bool:
    return "transpose" in step.op or bool(step.get("transposed", False))


def _over_group(kernel: Tensor, groups: int) -> Tensor:
    """Summed over the first axis within each group."""
    return kernel.reshape(groups, kernel.shape[0] // groups, *kernel.shape[1:]).sum(1)
