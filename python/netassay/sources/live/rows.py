"""A layer's output: the tensor that is measured, and where its rows and units lie."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from netassay.sources.live.units import Units


@dataclass(frozen=True, slots=True)
class Rows:
    """The part of a layer's output that is measured.

    Attributes:
        tensor: of any number of axes; layout: "rows" (units on the last axis) or "channels_first" (on axis 1).
        time_first: the row axes are (T, N) where those of the input are (N, T).
        guessed: the unit axis is a guess (units.py).
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


def rows_of(module: nn.Module, tensor: Tensor, units: Units) -> Rows:
    """A layer's output as rows of the units that `units_of` has found in it."""
    from torch import nn

    first = isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and not module.batch_first
    return along(tensor, units.axis, guessed=units.guessed, time_first=first)


def along(tensor: Tensor, axis: int, *, guessed: bool = False, time_first: bool = False) -> Rows:
    """A tensor's rows where its units are on `axis`; a sample without its batch axis is a batch of one."""
    if axis == tensor.ndim - 1:
        return Rows(tensor, "rows", time_first, guessed)
    if axis == 0:
        return Rows(tensor.unsqueeze(0), "channels_first", guessed=guessed)
    return Rows(tensor if axis == 1 else tensor.movedim(axis, 1), "channels_first", guessed=guessed)


def of_site(tensor: Tensor, axis: int, guessed: bool) -> Rows:
    """The rows at a site. Vectors and matrices are maps without positions there, so that all of a site are alike."""
    if tensor.ndim <= 2 and axis <= 1:
        return Rows(tensor if axis else tensor.unsqueeze(0), "channels_first", guessed=guessed)
    return along(tensor, axis, guessed=guessed)


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
