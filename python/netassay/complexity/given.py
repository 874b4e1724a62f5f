"""Counts that were made elsewhere, shaped as the extension takes them; it checks that they fit together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from netassay.base import arrays
from netassay.base.errors import DomainError, DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from netassay.base.arrays import ArrayLike
    from netassay.complexity.options import SwitchingOptions

    Int64: TypeAlias = NDArray[np.int64]

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Counts as `Switching.add_counts` takes them, where the attributes are described."""

    samples: int
    state: ArrayLike
    shape: Sequence[int] | None
    observations: int | None
    zero: ArrayLike | None
    nan: ArrayLike | None
    square: ArrayLike | None
    class_state: ArrayLike | None
    class_samples: ArrayLike | None
    finite: ArrayLike | None
    mean: ArrayLike | None
    scatter: ArrayLike | None

    def counts(self, options: SwitchingOptions) -> dict[str, Any]:
        """What `from_counts` of the extension takes.

        Raises:
            ShapeError, DTypeError, DomainError: arrays whose shape or absence leaves open what they count.
        """
        on = self._by_state(options.states - 1)
        places = on.shape[2:] if self.shape is None else tuple(int(n) for n in self.shape)
        if self.observations is not None and (places or self.shape is not None or options.classes):
            raise DomainError("Switching.add_counts: got observations with positions or classes, expected sums alone")
        summed = on.ndim == 2
        if not summed and on.shape[2:] != places:
            raise ShapeError(f"Switching.add_counts: got state of shape {on.shape}, expected positions {places}")
        if summed and places and options.positions:
            raise ShapeError(f"Switching.add_counts: got sums over positions {places}, expected counts of each")
        channel = on if summed else on.reshape(*on.shape[:2], -1).sum(axis=2)
        observations = self.samples * math.prod(places) if self.observations is None else self.observations
        positions = observations / max(1, self.samples)
        return {
            "samples": int(self.samples), "observations": int(observations), "units": on.shape[1],
            "shape": list(places), "shape_varies": self.observations is not None, "state": channel,
            "square": self._squares(channel, positions),
            "zero": np.zeros(on.shape[1], np.int64) if self.zero is None else integers(self.zero, "zero"),
            "nan": np.zeros(on.shape[1], np.int64) if self.nan is None else integers(self.nan, "nan"),
            "position": on if options.positions and places else _NONE,
            "patterns": np.zeros(0, np.uint64),
            **self._classes(options.classes, math.prod(places)),
            **self._moments(options.sums),
        }  # fmt: skip

    def _by_state(self, states: int) -> Int64:
        on = integers(self.state, "state")
        on = on if states > 1 else on[None]
        if on.ndim < 2 or on.shape[0] != states:
            raise ShapeError(f"Switching.add_counts: got state of shape {on.shape}, expected ({states}, units, ...)")
        return on

    def _squares(self, channel: Int64, positions: float) -> Int64:
        """Those given, or those that follow: a sample has one number, or one sample has them all."""
        if self.square is not None:
            return integers(self.square, "square")
        if self.samples > 1 and positions > 1:
            many = f"{self.samples} samples of {positions:g} positions"
            raise DomainError(f"Switching.add_counts: got no square of {many}, expected one")
        return channel ** (2 if self.samples == 1 else 1)

    def _classes(self, classes: int, positions: int) -> dict[str, Any]:
        if (self.class_state is None) == (classes > 0) or (self.class_samples is None) == (classes > 0):
            raise DomainError(
                f"Switching.add_counts: got class_state={_kind(self.class_state)} and class_samples="
                f"{_kind(self.class_samples)} with classes={classes}, expected both with classes, neither without"
            )
        if self.class_state is None or self.class_samples is None:
            return {"class_state": _NONE, "class_observations": _NONE}
        return {
            "class_state": integers(self.class_state, "class_state"),
            "class_observations": integers(self.class_samples, "class_samples") * positions,
        }

    def _moments(self, sums: bool) -> dict[str, Any]:
        given = (self.finite, self.mean, self.scatter)
        if any(one is None for one in given):
            if sums or any(one is not None for one in given):
                raise DomainError(
                    f"Switching.add_counts: got some of finite, mean and scatter with sums={sums},"
                    " expected all with sums, none without"
                )
            return no_moments()
        return {
            "finite": integers(self.finite, "finite"), "mean": np.asarray(self.mean, np.float64),
            "scatter": np.asarray(self.scatter, np.float64),
        }  # fmt: skip


def no_moments() -> dict[str, Any]:
    """What `from_counts` takes of a state without sums."""
    return {"finite": _NONE, "mean": np.zeros(0), "scatter": np.zeros(0)}


def integers(values: ArrayLike, name: str) -> Int64:
    """An array of int64, contiguous. Raises DTypeError: other than integers."""
    if arrays.is_tensor(values):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "iub":
        raise DTypeError(f"Switching: got {name} of dtype {array.dtype.name}, expected integers")
    return np.asarray(array, dtype=np.int64, order="C")


def _kind(given: object) -> str:
    return "None" if given is None else "counts"
