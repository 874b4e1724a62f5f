"""The links of one affine call, and what stands for their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from netassay.sources.passes.sums import Sums

if TYPE_CHECKING:
    from torch import Tensor

Power: TypeAlias = "Callable[[Tensor], Tensor]"


def same(tensor: Tensor) -> Tensor:
    return tensor


def absolute(tensor: Tensor) -> Tensor:
    return tensor.abs()


def square(tensor: Tensor) -> Tensor:
    return tensor.square()


#: What stands for a weight: itself, for strengths; |w|; w^2.
POWERS: tuple[Power, ...] = (same, absolute, square)


def along(vector: Tensor, axis: int, axes: int) -> Tensor:
    """A vector on one axis, ready to broadcast."""
    return vector.reshape([-1 if k == axis else 1 for k in range(axes)])


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """The links of an affine call from one tensor, x -> T x.

    Attributes:
        entering: the nodes.
        forward: ones where there are nodes, power -> T x with the power of each weight in its place.
        backward: power -> T^T 1; None: by autograd through `forward`.
    """

    entering: Sums
    forward: Callable[[Tensor, Power], Tensor]
    backward: Callable[[Power], Tensor] | None = None

    def sums(self, power: Power) -> tuple[Tensor, Tensor]:
        """T 1 and T^T 1."""
        import torch

        ones = (self.entering.tensor.detach() != 0).double()
        if self.backward is not None:
            return self.forward(ones, power), self.backward(power)
        out = self.forward(ones.requires_grad_(), power)
        (back,) = torch.autograd.grad(out, ones, torch.ones_like(out))
        return out.detach(), back
