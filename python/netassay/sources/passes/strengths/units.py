"""Node layers in the making: which elements are one sample's, and what their links weigh so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from netassay.network import NodeLayer
from netassay.sources.passes.strengths.links import POWERS
from netassay.sources.traced.example import BATCHES

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the first of the traced samples lies in a tensor.

    Attributes:
        axis: that has the samples; None: none has.
        labels: 1 and 2 along it, by the sample.
    """

    axis: int | None = None
    labels: Tensor | None = None

    @classmethod
    def along(cls, axis: int | None, extent: int, entering: Sequence[Tensor] = ()) -> Layout:
        """Samples on an axis, which other things may share: then what enters says whose each place is."""
        import torch

        if axis is None:
            return cls()
        samples = torch.arange(1.0, BATCHES[0] + 1, dtype=torch.float64, device="cpu")
        if extent != BATCHES[0]:
            for labels in (labels_on(tensor, axis) for tensor in entering if tensor.dim() > axis):
                if labels.numel() == extent and bool((labels > 0).all()) and bool((labels == 1).any()):
                    return cls(axis, labels)
            samples = samples.repeat_interleave(-(-extent // BATCHES[0]))[:extent]
        return cls(axis, samples)

    def ones(self, shape: Sequence[int]) -> Tensor:
        """A leaf of autograd: units by the number of their sample, which no memory is spent on."""
        import torch

        units = torch.ones((), dtype=torch.float64, device="cpu")
        if self.axis is not None and self.labels is not None:
            units = self.labels.reshape([-1 if k == self.axis else 1 for k in range(len(shape))])
        return units.expand(tuple(shape)).detach().requires_grad_()

    def sample(self, tensor: Tensor) -> Tensor:
        """The first sample's part, without the axis where nothing else shares it."""
        if self.axis is None or self.labels is None:
            return tensor
        own = (self.labels == 1).nonzero().flatten()
        if len(self.labels) == BATCHES[0]:
            return tensor.select(self.axis, int(own[0]))
        return tensor.index_select(self.axis, own)


def labels_on(tensor: Tensor, axis: int) -> Tensor:
    """The number of the sample of each place of an axis; 0 where there is no unit."""
    others = [k for k in range(tensor.dim()) if k != axis]
    found = tensor.detach()
    return found.amax(others) if others else found


@dataclass(slots=True, eq=False)
class Units:
    """A node layer in the making.

    Attributes:
        incoming, outgoing: by power, of one sample; None while nothing is known.
        external: where one more link of weight 1 goes out of the model.
        counts: whether these are numbers that are units only where an affine call reads them: integers of the input.
        optional: left out where nothing reads it.
    """

    name: str
    call: int | None
    op: str
    layout: Layout
    shape: tuple[int, ...]
    incoming: list[Tensor] | None
    outgoing: list[Tensor] | None = None
    external: Tensor | None = None
    flags: set[str] = field(default_factory=set)
    counts: bool = False

    def add_out(self, power: int, links: Tensor) -> None:
        import torch

        links = self.layout.sample(links)
        if self.outgoing is None:
            self.outgoing = [torch.zeros(self.shape, dtype=torch.float64, device="cpu") for _ in POWERS]
        self.outgoing[power] += links

    def add_external(self, reached: Tensor) -> None:
        reached = self.layout.sample(reached) > 0
        self.external = reached if self.external is None else self.external | reached
        self.flags.add("output")

    @property
    def stands(self) -> bool:
        """Whether these are units of the graph."""
        return not self.counts or self.outgoing is not None or self.external is not None

    def result(self, order: Sequence[str]) -> NodeLayer:
        outgoing = self.outgoing
        if outgoing is None and not self.flags & {"data_dependent_out", "unknown_out"}:
            outgoing = [self._zeros() for _ in POWERS]
            if self.external is None:
                self.flags.add("unread")
        if self.external is not None:
            outgoing = [links + self.external for links in outgoing or [self._zeros() for _ in POWERS]]
        numbers = {}
        for side, sums in (("incoming", self.incoming), ("outgoing", outgoing)):
            for k, name in enumerate(("", "_absolute", "_squared")):
                numbers[side + name] = None if sums is None else _array(sums[k])
        flags = tuple(flag for flag in order if flag in self.flags)
        return NodeLayer(self.name, self.call, self.op, self.shape, **numbers, flags=flags)

    def _zeros(self) -> Tensor:
        import torch

        return torch.zeros(self.shape, dtype=torch.float64, device="cpu")


def _array(tensor: Tensor) -> Any:
    array = tensor.contiguous().numpy()
    array.flags.writeable = False
    return array
