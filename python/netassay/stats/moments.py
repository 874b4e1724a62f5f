"""Moments: streaming mean and scatter matrix of rows, mergeable over batches, threads, ranks, machines and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from netassay import _core
from netassay.base import arrays
from netassay.base import memory as _memory
from netassay.base import threads as _threads
from netassay.base.checks import indexes
from netassay.base.state import NativeState

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from netassay.base.arrays import ArrayLike

    Float64: TypeAlias = NDArray[np.float64]

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
        memory: bytes the state may come to take (about 4 d^2); None: what is available now.

    Raises:
        ShapeError: width < 1. LimitExceeded: the budget is too small; nothing is allocated.

    >>> import numpy as np
    >>> m = Moments(2)
    >>> m.update(np.array([[1.0, 2.0], [3.0, 2.0]]))
    >>> m.count, m.mean.tolist(), m.covariance().tolist()
    (2, [2.0, 2.0], [[1.0, 0.0], [0.0, 0.0]])
    """

    __slots__ = ()
    kind = "moments"

    _native: _core.saturation.Moments

    def __init__(
        self, width: int, *, precision: str = "high", fourth: bool = False, memory: float | None = None
    ) -> None:
        if not indexes(width):
            raise TypeError(f"Moments: got width {width!r}, expected an integer")
        budget = _memory.available() if memory is None else float(memory)
        self._native = _core.saturation.Moments(width, precision=precision, fourth=fourth, memory=budget)

    def update(
        self, x: ArrayLike, *, layout: str = "rows", mask: ArrayLike | None = None, threads: int | None = None
    ) -> None:
        """Takes the rows of x before it returns.

        Args:
            x: float64, float32, bfloat16 or float16 of any strides; numpy arrays and torch CPU tensors are not copied.
                layout "rows" or "channels_last": (..., d), every leading index is a row, (d,) is one row;
                "channels_first": (N, d, ...), every position of every sample is a row. Memory order is told by strides.
            mask: booleans of the shape of the row axes; False leaves a row out.
            threads: at most so many.

        Raises:
            ShapeError, DTypeError, LayoutError, UnsupportedLayout, ForkError; the state is then unchanged.
        """
        rows = arrays.view(x, "Moments.update")
        kept = None
        if mask is not None:
            shape = rows.array.shape
            axes = (shape[:1] + shape[2:]) if layout == "channels_first" else shape[:-1]
            kept = arrays.mask_view(mask, axes, "Moments.update")
        self._native.update(rows.array, rows.dtype, layout=layout, mask=kept, threads=_threads.resolve(threads))

    def merge(self, other: Self, *, threads: int | None = None) -> None:
        """Takes all that `other` has seen; `other` is not changed.

        Raises:
            ShapeError: another width. DomainError: another precision or `fourth`.
        """
        self._native.merge(self._of(other), threads=_threads.resolve(threads))

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
        return self._native.count

    @property
    def nonfinite(self) -> int:
        """Rows left out for a NaN or an infinity."""
        return self._native.nonfinite

    @property
    def mean(self) -> Float64:
        """(d,) in units of the activations; zeros when empty."""
        return self._native.mean()

    @property
    def scatter(self) -> Float64:
        """(d, d), sum of (x - mean)(x - mean)^T, in squared units of the activations."""
        return self._native.scatter(threads=_threads.resolve(None))

    def covariance(self, ddof: int = 0) -> Float64:
        """(d, d), scatter / (n - ddof), in squared units of the activations.

        Raises:
            TooFewRows: n <= ddof.
        """
        if not indexes(ddof):
            raise TypeError(f"Moments.covariance: got ddof={ddof!r}, expected an integer")
        return self._native.covariance(ddof, threads=_threads.resolve(None))

    def fourth(self) -> float:
        """Sum of |x - mean|^4. Raises DomainError unless kept."""
        return self._native.fourth(threads=_threads.resolve(None))

    def config(self) -> dict[str, Any]:
        """Width, precision, and whether fourth moments are kept."""
        return {"width": self.width, "precision": self.precision, "fourth": self.keeps_fourth}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The state as named arrays, for a state file; `from_tensors` makes it again, bit for bit."""
        parts = self._native.parts()
        scalars = np.array([parts["folded"], parts["nonfinite"]], dtype=np.int64)
        fourth = np.array([parts["fourth"]], dtype=np.float64)
        return {"counts": scalars, "fourth": fourth, **{name: parts[name] for name in _PARTS}}

    @classmethod
    def _restored(cls, config: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        parts: dict[str, Any] = {name: tensors[name] for name in _PARTS}
        parts["folded"], parts["nonfinite"] = (int(n) for n in tensors["counts"])
        (parts["fourth"],) = (float(value) for value in tensors["fourth"])
        return cls._wrap(_core.saturation.Moments.from_parts(**config, parts=parts))

    def __repr__(self) -> str:
        left_out = f", nonfinite={self.nonfinite}" if self.nonfinite else ""
        return f"Moments(width={self.width}, count={self.count}{left_out}, precision={self.precision!r})"


def footprint(width: int, *, precision: str = "high", fourth: bool = False) -> int:
    """Bytes that `Moments(width, ...)` comes to take."""
    return int(_core.saturation.footprint(width, precision=precision, fourth=fourth))


def merge_all(pairs: Sequence[tuple[Moments, Moments]], *, threads: int | None = None) -> None:
    """`state.merge(other)` for every (state, other), in one native call that nothing interrupts."""
    native = [(state._native, other._native) for state, other in pairs]
    _core.saturation.merge_all(native, threads=_threads.resolve(threads))
