"""States of activations that lie on another device, accumulated there by torch operations.

No activation crosses to the host and nothing waits for the device: counts are tensors until a result is asked for.
Moments: rows are centred at their batch's mean, multiplied in float32 (float64 for float64 rows and precision "exact")
in blocks of 1024 rows, and folded into a float64 scatter matrix by the same formula as netassay.Moments. Switching: the
same integers as netassay.complexity.Switching counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netassay.complexity import Switching
from netassay.stats.moments import Moments

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_BLOCK = 1024


class DeviceMoments:
    """Moments on a device; `to_moments` brings them to the host.

    Args:
        width: units per row; device: where it lives, which must have float64.
    """

    def __init__(self, width: int, device: torch.device, precision: str) -> None:
        import torch

        self.width, self.device, self.precision = width, device, precision
        # A state may be made inside the user's inference_mode and updated outside it.
        with torch.inference_mode(False):
            self.count = torch.zeros((), dtype=torch.int64, device=device)
            self.nonfinite, self.samples, self.single = torch.zeros((3,), dtype=torch.int64, device=device).unbind()
            self.mean = torch.zeros(width, dtype=torch.float64, device=device)
            self.scatter = torch.zeros((width, width), dtype=torch.float64, device=device)

    def update(self, x: Tensor, *, layout: str, rows: np.ndarray[Any, Any] | None, samples: int = -1) -> None:
        """Takes the rows of x; `rows` numbers those to be kept, None keeps all; `samples` -1: each row is one."""
        import torch

        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False), full_float32(self.device):
            flat = x.detach()
            if layout == "channels_first":
                flat = flat.movedim(1, -1)
            flat = flat.reshape(-1, self.width)
            if rows is not None:
                flat = flat.index_select(0, torch.from_numpy(rows).to(self.device, non_blocking=True))
            wide = flat.dtype == torch.float64 or self.precision == "exact"
            flat = flat.to(torch.float64 if wide else torch.float32)
            finite = flat.isfinite().all(dim=1, keepdim=True)
            count = finite.sum()
            total = flat.where(finite, 0).sum(dim=0, dtype=torch.float64)
            rows_taken = count.double().clamp(min=1)
            pivot = (total / rows_taken).to(flat.dtype)
            centred = (flat - pivot).where(finite, 0)
            rest = centred.sum(dim=0, dtype=torch.float64) / rows_taken
            scatter = torch.zeros_like(self.scatter)
            for block in centred.split(_BLOCK):
                scatter += block.T @ block
            scatter -= torch.outer(rest, rest) * rows_taken
            self._fold(count, pivot.double() + rest, scatter)
            self.nonfinite += len(flat) - count
            self.samples += count if samples < 0 else samples
            self.single += 0 if wide else count

    def merge(self, other: DeviceMoments) -> None:
        """Takes all that `other` has seen."""
        import torch

        with torch.inference_mode():
            self._fold(other.count, other.mean, other.scatter)
            self.nonfinite += other.nonfinite
            self.samples += other.samples
            self.single += other.single

    def _fold(self, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
        import torch

        before, here = self.count.double(), count.double()  # integers would divide in torch's default dtype
        share = here / (before + here).clamp(min=1)
        delta = mean - self.mean
        self.scatter += scatter + torch.outer(delta, delta) * (before * share)
        self.mean += delta * share
        self.count += count

    def to_moments(self) -> Moments:
        """The same state on the host. Waits for the device."""
        count = int(self.count)
        empty = np.zeros((0, self.width))
        tensors = {
            "counts": np.array([count, int(self.nonfinite), int(self.samples), int(self.single)], dtype=np.int64),
            "fourth": np.zeros(1),
            "pivot": self.mean.cpu().numpy() if count else np.zeros(0),
            "offset": np.zeros(self.width if count else 0),
            "third": np.zeros(0),
            "scatter": self.scatter.cpu().numpy() if count else empty,
            "waiting_narrow": empty.astype(np.float32),
            "waiting_wide": empty,
        }
        config = {"width": self.width, "precision": self.precision, "fourth": False, "halves": False}
        return Moments.from_tensors(config, tensors)

    @classmethod
    def like(cls, source: Moments | DeviceMoments, device: torch.device) -> DeviceMoments:
        """A state of its own on a device that continues another, wherever that one is."""
        import torch

        self = cls(source.width, device, source.precision)
        with torch.inference_mode():
            if isinstance(source, Moments):
                mean, scatter = torch.from_numpy(source.mean), torch.from_numpy(source.scatter)
            else:
                mean, scatter = source.mean, source.scatter
            self.count += source.count if isinstance(source, Moments) else source.count.to(device)
            for name in ("nonfinite", "samples", "single"):
                seen = getattr(source, name)
                getattr(self, name).add_(seen if isinstance(source, Moments) else seen.to(device))
            self.mean += mean.to(device)
            self.scatter += scatter.to(device)
        return self


@dataclass(frozen=True, slots=True)
class _Counts:
    """Counts of samples, as `Switching.add_counts` takes them; tensors on the device.

    Attributes:
        shape: of the positions; None: it has varied. observations: numbers of each unit.
        state: (K - 1, C, *positions), or (K - 1, C) where positions are not counted. zero, nan: (C,).
        square: (K - 1, C).
    """

    samples: int
    shape: tuple[int, ...] | None
    observations: int
    state: Tensor
    zero: Tensor
    nan: Tensor
    square: Tensor

    def __add__(self, other: _Counts) -> _Counts:
        if self.shape != other.shape:
            self, other = self.by_channel(), other.by_channel()
        return _Counts(
            self.samples + other.samples,
            self.shape,
            self.observations + other.observations,
            self.state + other.state,
            self.zero + other.zero,
            self.nan + other.nan,
            self.square + other.square,
        )

    def by_channel(self) -> _Counts:
        """Without positions."""
        state = self.state.flatten(2).sum(2) if self.state.ndim > 2 else self.state
        return dataclasses.replace(self, shape=None, state=state)


class DeviceSwitching:
    """Switching on a device; `to_switching` brings it to the host.

    Args:
        empty: says what is counted. device: where.
    """

    #: What is counted by comparisons alone.
    RULES: ClassVar[tuple[str, ...]] = (
        "relu", "leaky_relu", "prelu", "relu6", "hardtanh", "gate_sign", "threshold", "identity"
    )  # fmt: skip

    def __init__(self, empty: Switching, device: torch.device) -> None:
        self._host, self.device = empty, device
        self._counts: _Counts | None = None

    @property
    def units(self) -> int:
        """C; 0 before the first update."""
        return self._host.units if self._counts is None else len(self._counts.zero)

    def config(self) -> dict[str, Any]:
        """See `Switching.config`."""
        return self._host.config()

    def keeps_positions(self, shape: Sequence[int]) -> bool:
        """See `Switching.keeps_positions`."""
        return self._host.keeps_positions(shape) and (self._counts is None or self._counts.shape == tuple(shape))

    def forget_positions(self) -> None:
        """See `Switching.forget_positions`."""
        import torch

        self._host.forget_positions()
        if self._counts is not None:
            with torch.inference_mode():
                self._counts = self._counts.by_channel()

    def update(self, a: Tensor) -> None:
        """Takes what enters a nonlinearity, in the layout of the state."""
        import torch

        config = self.config()
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            a = a.detach()
            if config["layout"] != "channels_first":
                a = a.movedim(-1, 1)
            others = [axis for axis in range(a.ndim) if axis != 1]
            shape = tuple(a.shape[2:])
            above = [a > t for t in config["thresholds"]]
            exactly = [*(one & ~more for one, more in pairwise(above)), above[-1]]
            by_sample = torch.stack([each.flatten(2).sum(2) if a.ndim > 2 else each.long() for each in exactly])
            kept = self.keeps_positions(shape)
            positions = config["positions"] and kept and a.ndim > 2
            state = torch.stack([each.sum(0) for each in exactly]) if positions else by_sample.sum(1)
            zero, nan, square = (a == 0).sum(others), a.isnan().sum(others), by_sample.square().sum(1)
            count = len(a) * math.prod(shape)
            self._take(_Counts(len(a), shape if kept else None, count, state, zero, nan, square))

    def merge(self, other: DeviceSwitching | Switching) -> None:
        """Takes all that `other` has seen."""
        import torch

        host = self._host.copy()
        host.merge(other if isinstance(other, Switching) else other._host)
        self._host = host
        if isinstance(other, DeviceSwitching) and other._counts is not None:
            with torch.inference_mode():
                self._take(other._counts)

    def _take(self, counts: _Counts) -> None:
        self._counts = counts if self._counts is None else self._counts + counts

    def clear(self) -> None:
        """Forgets all that was seen."""
        self._host.clear()
        self._counts = None

    def to_switching(self) -> Switching:
        """The same state on the host. Waits for the device."""
        host, counts = self._host.copy(), self._counts
        if counts is None:
            return host
        state, zero, nan, square = (
            each.cpu().numpy() for each in (counts.state, counts.zero, counts.nan, counts.square)
        )
        host.add_counts(
            samples=counts.samples, state=state[0] if len(state) == 1 else state, zero=zero, nan=nan, square=square,
            **({"observations": counts.observations} if counts.shape is None else {"shape": counts.shape}),
        )  # fmt: skip
        return host


@contextlib.contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Products in float32 proper, whatever the training allows itself (TF32 keeps 10 bits)."""
    import torch

    if device.type != "cuda":
        yield
        return
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
