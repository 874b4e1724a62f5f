"""Sums over paths that reach the units of a tensor, beyond the range of float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from netassay.sources.traced.nodes import tensors_of

if TYPE_CHECKING:
    from torch import Tensor, fx


class Lost(Exception):
    """A sum that is unknown, and why."""


class Varies(Lost):
    """What was taken for a constant depends on the input."""


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """The sum over the paths that reach each unit of a tensor: tensor * 2^bits.

    Attributes:
        tensor: float64 on the CPU, >= 0, its largest element near 1 or 0: the sums themselves leave float64's range.
    """

    tensor: Tensor
    bits: float = 0.0

    def map(self, function: Callable[[Tensor], Tensor]) -> Sums:
        """The sums moved, repeated or left out."""
        return Sums(function(self.tensor), self.bits)

    def at(self, bits: float) -> Tensor:
        """The tensor at another scale, no smaller than its own."""
        return self.tensor if self.bits == bits else self.tensor * 2.0 ** min(self.bits - bits, 0.0)

    @property
    def log2_mean(self) -> float:
        mean = float(self.tensor.mean()) if self.tensor.numel() else 0.0
        return math.log2(mean) + self.bits if mean > 0 else -math.inf


#: Sums, None where no path arrives, why there are none, or those of several tensors.
Value: TypeAlias = "Sums | Lost | tuple[Sums | Lost | None, ...] | None"


def scaled(tensor: Tensor, bits: float = 0.0) -> Sums:
    """tensor * 2^bits with its largest element in [1, 2); exact, as it is multiplied by a power of two."""
    largest = float(tensor.detach().max()) if tensor.numel() else 0.0
    if largest == 0:
        return Sums(tensor)
    if not math.isfinite(largest):
        raise Lost("a sum is not finite")
    exponent = math.frexp(largest)[1] - 1
    for part in (-exponent // 2, -exponent - -exponent // 2):  # 2^-exponent alone may overflow
        tensor = tensor * 2.0**part if part else tensor
    return Sums(tensor, bits + exponent)


def common(several: Sequence[Sums | None]) -> float:
    """The scale of the largest of them."""
    return max((sums.bits for sums in several if sums is not None and bool(sums.tensor.any())), default=0.0)


def joined(several: Sequence[Sums], shape: Sequence[int]) -> Sums:
    """Their sum, broadcast to a shape."""
    if len(several) == 1:
        return several[0].map(lambda tensor: tensor.expand(tuple(shape)))
    bits = common(several)
    total = several[0].at(bits)
    for sums in several[1:]:
        total = total + sums.at(bits)
    return scaled(total, bits).map(lambda tensor: tensor.expand(tuple(shape)))


def ones(shape: Sequence[int]) -> Sums:
    import torch

    return Sums(torch.ones((), dtype=torch.float64, device="cpu").expand(tuple(shape)))


def nodes_in(value: Any) -> Iterator[fx.Node]:
    """The nodes among an argument, in order."""
    from torch import fx

    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from nodes_in(item)
    elif isinstance(value, Mapping):
        yield from nodes_in(list(value.values()))


def zeros_like(node: fx.Node) -> Tensor:
    import torch

    return torch.zeros((), dtype=torch.float64, device="cpu").expand(tuple(tensors_of(node)[0].shape))


def empty_like(node: fx.Node) -> Tensor:
    """A tensor of a node's shape and dtype, for what reads no more of it."""
    import torch

    value = tensors_of(node)[0]
    return torch.zeros(tuple(value.shape), dtype=value.dtype, device="cpu")
