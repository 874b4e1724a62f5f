"""Switching: counts of how often units switch, mergeable over batches, threads, ranks, machines and files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np

from netassay._core import complexity as native
from netassay.base import arrays
from netassay.base import memory as _memory
from netassay.base import threads as _threads
from netassay.base.errors import DomainError, ShapeError
from netassay.base.state import NativeState
from netassay.complexity.given import Given, integers, no_moments
from netassay.complexity.options import SwitchingOptions, classes_of
from netassay.complexity.result import Complexity, complexity_of
from netassay.complexity.rules import thresholds_of, window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from netassay.base.arrays import ArrayLike

    Int64: TypeAlias = NDArray[np.int64]
    Float64: TypeAlias = NDArray[np.float64]

_NUMBERS = ("state", "zero", "nan", "square", "position", "class_state", "class_observations")
_MOMENTS = ("finite", "mean", "scatter")
#: One number for each axis of a window, or one for all.
Size: TypeAlias = "int | Sequence[int]"


class Switching(NativeState):
    """Counts of how often units switch between the linear pieces of their nonlinearity; merge makes one of many.

    What is taken is the *input* of the nonlinearity. The state of a number a is how many thresholds t it is above,
    a > t, strictly; C = -sum p_k log2 p_k bits, see `Complexity` (Janik, Witaszczyk, arXiv 2006.04791: the states are
    confirmed by its authors' related code, how convolutions are averaged is not, so both rules are given).

    0 and -0.0 are not above 0; denormals are, whatever the processor does with them; +inf is above every threshold,
    -inf and NaN above none. NaNs stay among the samples and are counted. All counts are exact integers: states of any
    split of the data merge to the same bits in any order (sums, which are float64: within rounding). A call that
    raises leaves the state as it was. Threads may share one.

    Args:
        rule: "relu", "leaky_relu", "prelu", "gate_sign" (smooth gates as GELU and SiLU): the sign; "relu6", "hardtanh":
            below, between or above two thresholds; "threshold": thresholds that are given (tanh, sigmoid, spikes);
            "maxpool": which place of a window holds the largest number (the first of equal ones; a NaN is less than any
            number, a window with one is counted); "identity": one state.
        threshold: None: the rule's own, 0, (0, 6) or (-1, 1). Else as many, ascending; of "threshold" any number.
        layout: "channels_first": (N, C, ...), "channels_last": (N, ..., C); the other axes are positions. "rows":
            (..., C), every leading index is a sample. Memory order is told by strides.
        positions: keep counts of every position: 8 (K - 1) C |positions| bytes.
        classes: number of labels, for the information about them; update then takes labels.
        patterns: keep a bit for every sample, unit and position (two states only): see `patterns`.
        sums: keep mean and variance of every unit's finite numbers, in float64, from the same read; not of "maxpool".
        kernel_size, stride, padding, dilation, ceil_mode: of "maxpool", as torch's MaxPool2d takes them; for other than
            two position axes kernel_size has one number for each.
        memory: bytes the state may come to take; None: what is available at the first update.

    Raises:
        DomainError: a rule, a threshold or a window that cannot be. LayoutError.

    >>> import numpy as np
    >>> s = Switching(layout="rows")
    >>> s.update(np.array([[1.0, -1.0, 2.0], [-1.0, -2.0, 0.5]]))
    >>> s.result().channel_bits.tolist()
    [1.0, 0.0, 0.0]
    """

    __slots__ = ("_memory", "_options")
    kind = "switching"

    _native: native.Switching

    def __init__(
        self,
        *,
        rule: str = "relu",
        threshold: float | Sequence[float] | None = None,
        layout: str = "channels_first",
        positions: bool = True,
        classes: int | None = None,
        patterns: bool = False,
        sums: bool = False,
        kernel_size: Size | None = None,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
        memory: float | None = None,
    ) -> None:
        self._options = SwitchingOptions(
            rule=rule,
            thresholds=thresholds_of(rule, threshold),
            window=window_of(rule, kernel_size, stride, padding, dilation, ceil_mode),
            classes=classes_of(classes),
            layout=layout,
            positions=bool(positions),
            patterns=bool(patterns),
            sums=bool(sums),
        )
        self._native = native.Switching(**self._options.native())
        self._memory = memory

    # ---- feeding it ----

    @overload
    def update(
        self,
        a: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        pooled: Literal[False] = False,
        threads: int | None = None,
    ) -> None: ...
    @overload
    def update(
        self, a: ArrayLike, labels: ArrayLike | None = None, *, pooled: Literal[True], threads: int | None = None
    ) -> Float64: ...
    def update(
        self, a: ArrayLike, labels: ArrayLike | None = None, *, pooled: bool = False, threads: int | None = None
    ) -> Float64 | None:
        """Takes a batch before it returns.

        Args:
            a: float64, float32, bfloat16 or float16 of any strides; numpy arrays and torch CPU tensors are not copied.
                The first update fixes the number of units. Another shape of positions than before ends the counts of
                positions, with the flag "shape_varies"; those of channels go on.
            labels: integers of shape (samples,), 0 ... classes - 1.
            pooled: with sums: return the mean of each sample and unit over its positions, (samples, C) float64, from
                the same read; NaN where one of its numbers is not finite.
            threads: at most so many; they never change the result.

        Raises:
            ShapeError, DTypeError, LayoutError, UnsupportedLayout, ForkError; DomainError: labels missing, not asked
            for, or outside 0 ... classes - 1, pooled without sums; LimitExceeded: the counts would pass the memory. The
            state is then unchanged.
        """
        view = arrays.view(a, "Switching.update")
        layout = self._options.layout
        of = None if labels is None else _labels(labels, _samples(view.array.shape, layout))
        if pooled and not self._options.sums:
            raise DomainError("Switching.update: got pooled=True without sums, expected Switching(sums=True)")
        budget = math.inf
        if self._native.units == 0 or self._options.patterns:  # later on, patterns alone grow
            budget = self.nbytes + _memory.available() if self._memory is None else float(self._memory)
        return self._native.update(
            view.array, view.dtype, layout=layout, labels=of, memory=budget, pooled=pooled,
            threads=_threads.resolve(threads),
        )  # fmt: skip

    def add_counts(
        self,
        *,
        samples: int,
        state: ArrayLike,
        shape: Sequence[int] | None = None,
        observations: int | None = None,
        zero: ArrayLike | None = None,
        nan: ArrayLike | None = None,
        square: ArrayLike | None = None,
        class_state: ArrayLike | None = None,
        class_samples: ArrayLike | None = None,
        finite: ArrayLike | None = None,
        mean: ArrayLike | None = None,
        scatter: ArrayLike | None = None,
    ) -> None:
        """Takes counts that were made elsewhere (on another device), as `update` would have made them of a batch.

        Args (integers):
            samples: N.
            state: (C, *positions) or (K - 1, C, *positions): samples in state k = 1 ... K - 1; for two states those
                that are on, a > t. Without counts of positions, (C,) or (K - 1, C) sums and `shape`.
            shape: of the positions (of the windows); None: that of `state`.
            observations: numbers of each channel, of samples whose positions varied in shape; `state` then is
                (C,) or (K - 1, C), and positions are forgotten.
            zero, nan: (C,): numbers that are zero, NaN (windows with one); None: none is.
            square: (C,) or (K - 1, C): sum over samples of (positions in state k)^2. None: of one sample or without
                positions, where it follows.
            class_state: (classes, C) or (classes, K - 1, C). class_samples: (classes,), samples with each label.
            finite: (C,), with sums: finite numbers. mean, scatter: (C,) float64, their mean, sum of squares about it.

        Raises:
            ShapeError, DTypeError, DomainError: counts that do not fit together; the state is then unchanged.
        """
        if self._options.patterns:
            raise DomainError("Switching.add_counts: got counts for a state with patterns, expected update")
        given = Given(
            samples, state, shape, observations, zero, nan, square, class_state, class_samples, finite, mean, scatter
        )
        counts = given.counts(self._options)
        self._native.merge(native.Switching.from_counts(**self._options.native(), counts=counts))

    def merge(self, other: Self) -> None:
        """Takes all that `other` has seen; `other` is not changed.

        Raises:
            ShapeError: another number of units. DomainError: other options (the layout may differ).
        """
        theirs = self._of(other)
        if other.rule != self.rule:
            raise DomainError(f"Switching.merge: got rule {other.rule!r}, expected {self.rule!r}")
        self._native.merge(theirs)

    def keeps_positions(self, shape: Sequence[int]) -> bool:
        """Whether counts of positions go on with a batch whose positions have this shape; true of an empty state."""
        return self._native.keeps_positions(shape)

    def forget_positions(self) -> None:
        """Counts channels alone from now on, until `clear`, as if the shape of the positions had varied."""
        self._native.forget_positions()

    # ---- what it says ----

    def result(self) -> Complexity:
        """Entropies and the rest.

        Raises:
            TooFewRows: no samples.
        """
        return complexity_of(self._native, self.rule, self._options.thresholds)

    def counts(self) -> dict[str, Any]:
        """All that is counted, as arrays: state (K - 1, C), zero and nan (C,), square (K - 1, C), position
        (K - 1, C, positions), class_state (classes, K - 1, C), class_observations (classes,), patterns (samples, words
        of 64 bits; bit unit * positions + position, the lowest first), with sums finite, mean and scatter (C,), and
        samples, observations, units, shape, shape_varies."""
        return self._native.counts()

    @property
    def rule(self) -> str:
        """What is counted."""
        return self._options.rule

    @property
    def samples(self) -> int:
        """Samples taken."""
        return self._native.samples

    @property
    def units(self) -> int:
        """C; 0 before the first update."""
        return self._native.units

    def __repr__(self) -> str:
        return f"Switching(rule={self.rule!r}, units={self.units}, samples={self.samples})"

    # ---- copies and files ----

    def copy(self) -> Self:
        """A state of its own with the same content."""
        copied = super().copy()
        copied._options, copied._memory = self._options, self._memory
        return copied

    def config(self) -> dict[str, Any]:
        """The options, as JSON can hold them; `from_tensors` takes them."""
        return self._options.config()

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The state as named arrays, int64 (mean and scatter: float64), for a state file; `from_tensors` makes it
        again, bit for bit."""
        counts = self._native.counts()
        scalars = [counts["samples"], counts["observations"], counts["units"], int(counts["shape_varies"])]
        return {
            "counts": np.array(scalars, np.int64),
            "shape": np.array(counts["shape"], np.int64),
            "patterns": counts["patterns"].view(np.int64),
            **{name: counts[name] for name in (*_NUMBERS, *(_MOMENTS if self._options.sums else ()))},
        }

    @classmethod
    def _restored(cls, config: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        options = SwitchingOptions.from_config(config)
        samples, observations, units, varies = (int(n) for n in tensors["counts"])
        counts: dict[str, Any] = {name: tensors[name] for name in _NUMBERS}
        counts |= {name: tensors[name] for name in _MOMENTS} if options.sums else no_moments()
        counts.update(samples=samples, observations=observations, units=units, shape_varies=bool(varies))
        counts["shape"] = [int(n) for n in tensors["shape"]]
        counts["patterns"] = np.ascontiguousarray(tensors["patterns"]).view(np.uint64)
        self = cls._wrap(native.Switching.from_counts(**options.native(), counts=counts))
        self._options, self._memory = options, None
        return self


def complexity(
    a: ArrayLike, labels: ArrayLike | None = None, *, threads: int | None = None, **options: Any
) -> Complexity:
    """How often the units of one array of activations switch; see `Complexity`. Options as of `Switching`.

    >>> import numpy as np
    >>> complexity(np.array([[1.0, 2.0], [-1.0, 2.0]]), layout="rows").mean_channel
    0.5
    """
    state = Switching(**options)
    state.update(a, labels, threads=threads)
    return state.result()


def footprint(shape: Sequence[int], **options: Any) -> int:
    """Bytes that a state fed batches of this shape will use. Options as of `Switching`.

    >>> footprint((64, 32, 8, 8))
    17408
    """
    return Switching(**options)._options.footprint(shape)


def _samples(shape: tuple[int, ...], layout: str) -> int:
    return math.prod(shape[:-1]) if layout == "rows" else shape[0] if shape else 0


def _labels(labels: ArrayLike, samples: int) -> Int64:
    array = integers(labels, "labels").reshape(-1)
    if len(array) != samples:
        raise ShapeError(f"Switching.update: got {len(array)} labels, expected {samples}")
    return array
