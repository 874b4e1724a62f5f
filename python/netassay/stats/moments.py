"""Moments: streaming mean and scatter matrix of rows, mergeable over batches, threads, ranks, machines and files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from netassay import _core
from netassay.base import arrays
from netassay.base import memory as _memory
from netassay.base import threads as _threads
from netassay.base.checks import indexes
from netassay.base.errors import DomainError
from netassay.base.state import NativeState
from netassay.stats.identity import counted, identities, sides

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from netassay.base.arrays import ArrayLike

    Float64: TypeAlias = NDArray[np.float64]

_COUNTS = ("folded", "nonfinite", "samples", "single")
#: Of the tensors of the two halves, or of the only state.
_PREFIXES = ("", "second.")
_PARTS = ("pivot", "offset", "third", "scatter", "waiting_narrow", "waiting_wide")


class Moments(NativeState):
    """Streaming mean and scatter matrix of rows; merge makes one of many.

    n = rows, mean m = (1/n) sum x, scatter M = sum (x - m)(x - m)^T, covariance M / n (Chan, Golub, LeVeque 1979).
    A row with a NaN or an infinity is left out and counted. A state depends on the sequence of its rows alone: batch
    boundaries and threads change no bit. A call that raises leaves it as it was. Threads may share one.

    Args:
        width: d, units per row.
        precision: "high" centres and multiplies float32, bfloat16 and float16 rows in float32 (relative error of the
            covariance about 1e-7, sums in float64), float64 rows in float64; "exact" widens every row to float64 first.
        fourth: also keep fourth moments, for the corrected participation ratio.
        halves: keep two states, each of half of the samples, for the bracket of `netassay.saturation.saturation`: twice
            the memory, no more products. A sample's half follows from its identity alone; see `update`.
        memory: bytes the state may come to take (about 4 d^2, or twice that); None: what is available now.

    Raises:
        ShapeError: width < 1. LimitExceeded: the budget is too small; nothing is allocated.

    >>> import numpy as np
    >>> m = Moments(2)
    >>> m.update(np.array([[1.0, 2.0], [3.0, 2.0]]))
    >>> m.count, m.mean.tolist(), m.covariance().tolist()
    (2, [2.0, 2.0], [[1.0, 0.0], [0.0, 0.0]])
    """

    __slots__ = ("_second",)
    kind = "moments"

    _native: _core.saturation.Moments
    #: With halves the other one of them.
    _second: _core.saturation.Moments | None

    def __init__(
        self,
        width: int,
        *,
        precision: str = "high",
        fourth: bool = False,
        halves: bool = False,
        memory: float | None = None,
    ) -> None:
        if not indexes(width):
            raise TypeError(f"Moments: got width {width!r}, expected an integer")
        budget = (_memory.available() if memory is None else float(memory)) / (2 if halves else 1)
        made = [
            _core.saturation.Moments(width, precision=precision, fourth=fourth, memory=budget)
            for _ in range(2 if halves else 1)
        ]
        self._native, self._second = made[0], made[1] if halves else None

    def update(
        self,
        x: ArrayLike,
        *,
        layout: str = "rows",
        mask: ArrayLike | None = None,
        samples: ArrayLike | int | None = None,
        threads: int | None = None,
    ) -> None:
        """Takes the rows of x before it returns.

        Args:
            x: float64, float32, bfloat16 or float16 of any strides; numpy arrays and torch CPU tensors are not copied.
                layout "rows" or "channels_last": (..., d), every leading index is a row, (d,) is one row;
                "channels_first": (N, d, ...), every position of every sample is a row. Memory order is told by strides.
            mask: booleans of the shape of the row axes; False leaves a row out.
            samples: what the rows are of. None: every item of the leading axis that keeps a row is a sample (an image,
                a sequence), and a sample's identity is a hash of its bytes. (N,) integers or strings: the identity of
                every item; items of one identity are one sample. An integer: how many samples there are; not with
                halves. Activations of a network that learns change from epoch to epoch: give their halves identities.
            threads: at most this many.

        Raises:
            ShapeError, DTypeError, LayoutError, UnsupportedLayout, ForkError, DomainError (samples); the state is then
            unchanged.
        """
        name = "Moments.update"
        rows = arrays.view(x, name)
        shape = rows.array.shape
        axes = (shape[:1] + shape[2:]) if layout == "channels_first" else shape[:-1]
        kept = None if mask is None else arrays.mask_view(mask, axes, name)
        number = int(samples) if isinstance(samples, int | np.integer) else None
        if number is not None and (number < 0 or self.keeps_halves):
            expected = "an identity of each sample, for its half" if self.keeps_halves else "at least 0"
            raise DomainError(f"{name}: got samples={samples}, expected {expected}")
        ids = None if samples is None or number is not None else identities(samples, axes, name)
        how: dict[str, Any] = {"layout": layout, "threads": _threads.resolve(threads)}
        if self._second is None:
            count = counted(axes, kept, ids) if number is None else number
            self._native.update(rows.array, rows.dtype, mask=kept, samples=count, **how)
            return
        second = sides(rows.array, axes, ids)
        # a call that is interrupted has changed neither half: it can only be while the first is updated
        for native, chosen, poll in ((self._native, ~second, True), (self._second, second, False)):
            here = np.repeat(chosen, math.prod(axes[1:]))
            here = here if kept is None else here & kept
            if poll or here.any():
                count = counted(axes, here, ids)
                native.update(rows.array, rows.dtype, mask=here, samples=count, poll=poll, **how)

    def merge(self, other: Self, *, threads: int | None = None) -> None:
        """Takes all that `other` has seen; `other` is not changed.

        Raises:
            ShapeError: another width. DomainError: another precision or `fourth`.
        """
        merge_all([(self, other)], threads=threads)

    def clear(self) -> None:
        """Forgets all that was seen and keeps the options."""
        for native in self._natives:
            native.clear()

    def copy(self) -> Self:
        """A state of its own with the same content."""
        return self._of_natives([native.copy() for native in self._natives])

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return sum(int(native.nbytes) for native in self._natives)

    @property
    def _natives(self) -> list[_core.saturation.Moments]:
        return [self._native] if self._second is None else [self._native, self._second]

    @classmethod
    def _of_natives(cls, natives: Sequence[_core.saturation.Moments]) -> Self:
        self = cls._wrap(natives[0])
        self._second = natives[1] if len(natives) == 2 else None
        return self

    def _whole(self) -> _core.saturation.Moments:
        """All that was seen, in one state."""
        if self._second is None:
            return self._native
        whole = self._native.copy()
        whole.merge(self._second, threads=_threads.resolve(None))
        return whole

    def halves(self) -> tuple[Moments, Moments] | None:
        """Both halves as states of their own; None without them."""
        if self._second is None:
            return None
        return self._of_natives([self._native.copy()]), self._of_natives([self._second.copy()])

    @property
    def width(self) -> int:
        """d, units per row."""
        return self._native.width

    @property
    def precision(self) -> str:
        """ "high" or "exact"."""
        return self._native.precision

    @property
    def keeps_fourth(self) -> bool:
        """Whether fourth moments are kept."""
        return self._native.keeps_fourth

    @property
    def count(self) -> int:
        """Rows taken."""
        return sum(native.count for native in self._natives)

    @property
    def samples(self) -> int:
        """Samples (images, sequences) that the rows came from; one seen again in a later call counts again."""
        return sum(native.samples for native in self._natives)

    @property
    def single(self) -> int:
        """Rows that were multiplied in float32; the others were in float64, or are not multiplied yet."""
        return sum(native.single for native in self._natives)

    @property
    def keeps_halves(self) -> bool:
        """Whether halves are kept."""
        return self._second is not None

    @property
    def nonfinite(self) -> int:
        """Rows left out for a NaN or an infinity."""
        return sum(native.nonfinite for native in self._natives)

    @property
    def mean(self) -> Float64:
        """(d,) in units of the activations; zeros when empty."""
        return self._whole().mean()

    @property
    def scatter(self) -> Float64:
        """(d, d), sum of (x - mean)(x - mean)^T, in squared units of the activations."""
        return self._whole().scatter(threads=_threads.resolve(None))

    def covariance(self, ddof: int = 0) -> Float64:
        """(d, d), scatter / (n - ddof), in squared units of the activations.

        Raises:
            TooFewRows: n <= ddof.
        """
        if not indexes(ddof):
            raise TypeError(f"Moments.covariance: got ddof={ddof!r}, expected an integer")
        return self._whole().covariance(ddof, threads=_threads.resolve(None))

    def fourth(self) -> float:
        """Sum of |x - mean|^4. Raises DomainError unless kept."""
        return self._whole().fourth(threads=_threads.resolve(None))

    def config(self) -> dict[str, Any]:
        """Width, precision, and whether fourth moments and halves are kept."""
        return {
            "width": self.width, "precision": self.precision, "fourth": self.keeps_fourth, "halves": self.keeps_halves
        }  # fmt: skip

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The state as named arrays, for a state file; `from_tensors` makes it again, bit for bit."""
        found: dict[str, NDArray[Any]] = {}
        for prefix, native in zip(_PREFIXES, self._natives, strict=False):
            parts = native.parts()
            found[f"{prefix}counts"] = np.array([parts[name] for name in _COUNTS], dtype=np.int64)
            found[f"{prefix}fourth"] = np.array([parts["fourth"]], dtype=np.float64)
            found |= {prefix + name: parts[name] for name in _PARTS}
        return found

    @classmethod
    def _restored(cls, config: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        config = dict(config)
        natives = []
        for prefix in _PREFIXES if config.pop("halves") else _PREFIXES[:1]:
            parts: dict[str, Any] = {name: tensors[prefix + name] for name in _PARTS}
            parts |= zip(_COUNTS, (int(n) for n in tensors[f"{prefix}counts"]), strict=True)
            (parts["fourth"],) = (float(value) for value in tensors[f"{prefix}fourth"])
            natives.append(_core.saturation.Moments.from_parts(**config, parts=parts))
        return cls._of_natives(natives)

    def __repr__(self) -> str:
        left_out = f", nonfinite={self.nonfinite}" if self.nonfinite else ""
        return f"Moments(width={self.width}, count={self.count}{left_out}, precision={self.precision!r})"


def footprint(width: int, *, precision: str = "high", fourth: bool = False) -> int:
    """Bytes that `Moments(width, ...)` comes to take."""
    return int(_core.saturation.footprint(width, precision=precision, fourth=fourth))


def merge_all(pairs: Sequence[tuple[Moments, Moments]], *, threads: int | None = None) -> None:
    """`state.merge(other)` for every (state, other), in one native call that nothing interrupts."""
    native: list[tuple[_core.saturation.Moments, _core.saturation.Moments]] = []
    for state, other in pairs:
        state._of(other)
        if state.keeps_halves != other.keeps_halves:
            raise DomainError("Moments.merge: got one state with halves and one without, expected both or neither")
        native += zip(state._natives, other._natives, strict=True)
    _core.saturation.merge_all(native, threads=_threads.resolve(threads))
