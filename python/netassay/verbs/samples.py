"""sample_persistence: a model runs on samples, and each of them shows how it connects inputs with outputs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from netassay import persistence as _persistence
from netassay.base import threads as _threads
from netassay.base.errors import ShapeError, UnsupportedLayout
from netassay.sources import chain as _chain
from netassay.sources import layers as _layers
from netassay.sources.live.hooks import Hook

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn


def sample_persistence(
    model: nn.Module,
    x: Tensor,
    *,
    standardize: bool = False,
    joint: bool = False,
    approximate: bool = False,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Runs a model on samples and measures the bottlenecks of each one's forward pass.       (Girrbach et al. 2023)

    `netassay.persistence.sample_persistence` of the model's linear layers and of what enters each: edges
    |W_l[o, i] x_{l-1}[i]|, joined along paths from the inputs to the outputs. `netassay.persistence.ShiftDetector` sees
    by such vectors that inputs have changed.

    The model runs once, as it is (training or evaluation, on its device), without gradients and without autocast. Its
    hooks run, and what it draws or counts in training (dropout, spectral norm) it does as in any forward pass.

    Args:
        model: an nn.Sequential (nested ones count as one) of linear layers, elementwise modules and Flatten.
        x: (n, d_0), or with more axes where a Flatten comes first.
        standardize, joint, approximate, threads: as for `netassay.persistence.sample_persistence`.

    Returns:
        (n, d_0 + d_L - 1) float64: each sample's tree weights, descending; (n, d_0 + d_L) where approximate.

    Raises:
        TypeError: no module, or no tensor. UnsupportedLayout: the model is no such chain, its message naming the module
        and why; or it is compiled. ShapeError: what enters a layer has not one row per sample. NonFinite: naming layer
        and sample. What the model raises.
    """
    _layers.checked(model, "sample_persistence")
    from torch import Tensor

    if not isinstance(x, Tensor):
        raise TypeError(f"sample_persistence: got {type(x).__name__}, expected a torch.Tensor of samples")
    count = _threads.resolve(threads)
    root, _ = _layers.unwrap(model)
    weights, activations = _run(root, _links(root), x)
    return _persistence.sample_persistence(
        weights, activations, standardize=standardize, joint=joint, approximate=approximate, threads=count
    )


def _links(root: nn.Module) -> tuple[_chain.Link, ...]:
    expected = "expected a Sequential of linear layers and elementwise modules"
    found = _chain.of(root)
    broken = found.broken
    for link in found.links:
        if not link.plain:
            broken = broken or f"{link.name!r} is a {type(link.module).__name__}: a position is no sample"
    if broken:
        raise UnsupportedLayout(f"sample_persistence: {broken}; {expected}")
    if _layers.compiled(root):
        raise UnsupportedLayout(
            "sample_persistence: got a compiled model, whose hooks may not run; expected the plain one"
        )
    return found.links


def _run(root: nn.Module, links: Sequence[_chain.Link], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The weights as the pass has used them, and what has entered each; a module may run more than once."""
    import torch
    from torch.nn.utils import parametrize

    seen: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(x.device.type, enabled=False))
        stack.enter_context(parametrize.cached())  # a weight that is made is made once, by the pass
        for link in {id(link.module): link for link in reversed(links)}.values():
            hook = _Entering(link.name, x.shape[0] if x.ndim else 0, seen)
            stack.callback(link.module.register_forward_pre_hook(hook).remove)
        root(x)
        weights: list[Any] = [link.module.weight for link in links]
    return weights, seen


class _Entering(Hook):
    """Keeps what enters a layer."""

    __slots__ = ("layer", "samples", "seen")
    unscriptable = "torch.jit.script cannot compile a model while netassay.sample_persistence runs it"

    def __init__(self, layer: str, samples: int, seen: list[Tensor]) -> None:
        self.layer, self.samples, self.seen = layer, samples, seen

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        entering = args[0]
        inputs = int(module.weight.shape[1])  # type: ignore[index]
        if tuple(entering.shape) != (self.samples, inputs):
            hint = "" if entering.ndim == 2 else " (a Flatten before it, or each position as a sample of its own)"
            raise ShapeError(
                f"sample_persistence: got activations of shape {tuple(entering.shape)} that enter {self.layer!r},"
                f" expected ({self.samples}, {inputs}){hint}"
            )
        self.seen.append(entering.detach())
