"""The links of linear layers and convolutions, from sums of their weights.

Where ones enter everywhere, T 1 of a convolution is, of each output channel, its kernel summed over the inputs, a tap
at a time where that tap is on the image; T^T 1 is the kernel summed over the outputs, a tap at a time where that tap
takes part in an output. Which taps these are is told axis by axis (`netassay.network.convolution`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from netassay.network import sums
from netassay.network.convolution import Axis, kernel_sums, spread
from netassay.sources.passes.engine import Step
from netassay.sources.passes.strengths.links import POWERS, Links, Power
from netassay.sources.passes.sums import Sums
from netassay.sources.passes.windows import conv_geometry

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
    import torch

    found = sums(weight.reshape(-1, weight.shape[-1]))
    into = (found.row_sum, found.row_absolute, found.row_square)
    out = (found.column_sum, found.column_absolute, found.column_square)
    rows, columns = (
        {power: torch.tensor(values, device="cpu") for power, values in zip(POWERS, side, strict=True)}
        for side in (into, out)
    )

    def forward(x: Tensor, power: Power) -> Tensor:
        if bool(x.all()):  # ones: any of them stands for all
            return rows[power].reshape(weight.shape[:-1]).expand(*x.shape[:-1], *weight.shape[:-1])
        return x @ power(weight).T

    def backward(power: Power) -> Tensor:
        return columns[power].expand(entering.tensor.shape)

    return Links(entering, forward, backward)


def convolution(step: Step, entering: Sums, weight: Tensor) -> Links:
    """The same for every sample, so one is enough."""
    import torch

    axes, turned = _axes(step, entering, weight.shape[2:]), _transposed(step)
    kernels = {power: kernel_sums(power(weight).numpy(), step.get("groups", 1)) for power in POWERS}

    def covered(power: Power, shape: Sequence[int]) -> Tensor:
        found = spread(kernels[power][0], [axis.covered() for axis in axes])
        return torch.from_numpy(found).expand(tuple(shape))

    def covering(power: Power, shape: Sequence[int]) -> Tensor:
        found = spread(kernels[power][1], [axis.covering() for axis in axes])
        return torch.from_numpy(found).expand(tuple(shape))

    def forward(x: Tensor, power: Power) -> Tensor:
        if not bool(x.all()):  # some of what enter are no units
            result: Tensor = step.rerun({step.arguments["input"]: x}, weight=power(weight), bias=None)
            return result
        return (covering if turned else covered)(power, step.shape)

    def backward(power: Power) -> Tensor:
        return (covered if turned else covering)(power, entering.tensor.shape)

    return Links(entering, forward, backward)


def _axes(step: Step, entering: Sums, kernel: Sequence[int]) -> list[Axis]:
    """How the kernel lies on each axis of positions."""
    strides, dilations, left = conv_geometry(step, len(kernel))
    places = [shape[len(shape) - len(kernel) :] for shape in (step.shape, entering.tensor.shape)]
    windows, positions = reversed(places) if _transposed(step) else places
    return [Axis(*axis) for axis in zip(windows, positions, kernel, strides, dilations, left, strict=True)]


def _transposed(step: Step) -> bool:
    return "transpose" in step.op or bool(step.get("transposed", False))
