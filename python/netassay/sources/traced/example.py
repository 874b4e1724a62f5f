"""An example of a model's input -> the arguments of a run, with a batch of copies of its first sample."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from netassay.base.errors import DTypeError, ShapeError, UnsupportedLayout

if TYPE_CHECKING:
    from torch import nn

#: The batches that are traced: what grows from one to the other has a batch axis. One sample might lose its axis.
BATCHES = (2, 3)


def batch(
    model: nn.Module, example: Any, axis: int, size: int, function: str
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The example's arguments with `size` copies of its first sample."""
    import torch
    from torch.utils import _pytree as pytree

    axis = _axis(axis, function)
    args, kwargs = _arguments(example)
    leaves, spec = pytree.tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise TypeError(f"{function}: got an example input without a tensor, expected one, or arguments with one")
    if odd := [tensor for tensor in tensors if tensor.layout is not torch.strided or tensor.is_nested]:
        got = "a nested tensor" if odd[0].is_nested else f"a tensor of layout {odd[0].layout}"
        raise UnsupportedLayout(f"{function}: got an example input with {got}, expected strided tensors")
    first = tensors[0]
    if not -first.ndim <= axis < first.ndim or first.shape[axis] < 1:
        got = f"an example input of shape {tuple(first.shape)}"
        raise ShapeError(f"{function}: got {got}, expected a batch along axis {axis} (batch_axis= says which)")
    meta = any(parameter.is_meta for parameter in model.parameters())

    def several(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if -leaf.ndim <= axis < leaf.ndim and leaf.shape[axis] == first.shape[axis]:
            leaf = leaf.detach().narrow(axis, 0, 1)
            leaf = torch.cat([leaf] * size, dim=axis)
        return leaf.to("meta") if meta else leaf

    found: tuple[Sequence[Any], Mapping[str, Any]] = pytree.tree_unflatten([several(leaf) for leaf in leaves], spec)
    return found


def _axis(axis: Any, function: str) -> int:
    try:
        return operator.index(axis)
    except TypeError:
        raise DTypeError(f"{function}: got batch_axis={axis!r}, expected an integer") from None


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example), {}) if isinstance(example, (list, tuple)) else ((example,), {})
