"""A layer's output: the tensor that is measured, and where its rows and units lie."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Rows:
    """The part of a layer's output that is measured.

    Attributes:
        tensor: of any number of axes; layout: "rows" (units on the last axis) or "channels_first" (on axis 1).
        time_first: the row axes are (T, N) where those of the input are (N, T).
        guessed: the unit axis is a guess from the number of axes.
    """

    tensor: Tensor
    layout: str
    time_first: bool = False
    guessed: bool = False

    @property
    def leading(self) -> tuple[int, ...]:
        """Extents of the row axes."""
        shape = tuple(self.tensor.shape)
        return shape[:1] + shape[2:] if self.layout == "channels_first" else shape[:-1]

    @property
    def width(self) -> int:
        """Units per row."""
        return int(self.tensor.shape[1 if self.layout == "channels_first" else -1])


def tensor_of(module: nn.Module, output: object) -> tuple[Tensor | None, bool]:
    """The tensor in a layer's output that is measured, and whether its padding is already out (a packed sequence)."""
    from torch import nn
    from torch.nn.utils.rnn import PackedSequence

    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention, nn.RNNCellBase)) and isinstance(output, tuple):
        if isinstance(output[0], PackedSequence):
            return output[0].data, True
        return _first_tensor(output[0]), False
    return _first_tensor(output), False


def rows_of(module: nn.Module, tensor: Tensor) -> Rows:
    """Where a layer's output has its rows and units."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.conv import _ConvNd

    axes = tensor.ndim
    if isinstance(module, _ConvNd):
        unbatched = axes == len(module.kernel_size) + 1
        return Rows(tensor.unsqueeze(0) if unbatched else tensor, "channels_first")
    if isinstance(module, _NormBase) and axes >= 2:
        no_batch: Any = getattr(module, "_get_no_batch_dim", None)  # of instance norms
        unbatched = no_batch is not None and axes == no_batch()
        return Rows(tensor.unsqueeze(0) if unbatched else tensor, "channels_first")
    if isinstance(module, nn.GroupNorm) and axes >= 2:
        return Rows(tensor, "channels_first")
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return Rows(tensor, "rows", time_first=not module.batch_first)
    known = (nn.Linear, nn.Bilinear, nn.RNNCellBase, nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)
    if isinstance(module, (*known, getattr(nn, "RMSNorm", nn.LayerNorm))):
        return Rows(tensor, "rows")
    return Rows(tensor, "channels_first" if axes in (4, 5) else "rows", guessed=True)


def _first_tensor(output: object) -> Tensor | None:
    import torch

    if isinstance(output, torch.Tensor):
        return output
    parts: Iterable[object] = ()
    if isinstance(output, Mapping):
        parts = output.values()
    elif isinstance(output, (tuple, list)):
        parts = output
    elif dataclasses.is_dataclass(output):
        parts = (getattr(output, field.name) for field in dataclasses.fields(output))
    return next((found for part in parts if (found := _first_tensor(part)) is not None), None)


def with_tensor(output: Any, tensor: Tensor) -> Any:
    """A layer's output with `tensor` in the place of the one that `tensor_of` finds; the output is not changed."""
    import torch

    if isinstance(output, torch.Tensor):
        return tensor
    if isinstance(output, Mapping):
        key = next(key for key, part in output.items() if _first_tensor(part) is not None)
        replaced: Any = copy.copy(output)
        replaced[key] = with_tensor(output[key], tensor)
        return replaced
    if isinstance(output, (tuple, list)):  # a packed sequence too: its data come first
        at = next(i for i, part in enumerate(output) if _first_tensor(part) is not None)
        parts = [*output[:at], with_tensor(output[at], tensor), *output[at + 1 :]]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    names = [field.name for field in dataclasses.fields(output)]
    name = next(name for name in names if _first_tensor(getattr(output, name)) is not None)
    return dataclasses.replace(output, **{name: with_tensor(getattr(output, name), tensor)})
