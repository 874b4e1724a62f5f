"""Switching: counts of how often units switch, mergeable over batches, threads, ranks, machines and files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np

from netassay._core import complexity as native
from netassay.base import arrays
from netassay.base import memory as _memory
from netassay.base import threads as _threads
from netassay.base.errors import DomainError, DTypeError, LayoutError, ShapeError, StateError
from netassay.base.state import State
from netassay.complexity.result import Complexity, complexity_of
from netassay.complexity.rules import thresholds_of, window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from netassay.base.arrays import ArrayLike

    Int64: TypeAlias = NDArray[np.int64]
    Float64: TypeAlias = NDArray[np.float64]

_LAYOUTS = ("rows", "channels_first", "channels_last")
_NUMBERS = ("state", "zero", "nan", "square", "position", "class_state", "class_observations")
_MOMENTS = ("finite", "mean", "scatter")
#: One number for each axis of a window, or one for all.
Size: TypeAlias = "int | Sequence[int]"


class Switching(State):
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

    __slots__ = ("_config", "_memory", "_native")
    kind = "switching"

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
        thresholds = thresholds_of(rule, threshold)
        window = window_of(rule, kernel_size, stride, padding, dilation, ceil_mode)
        if classes is not None and (isinstance(classes, bool) or not isinstance(classes, Integral) or classes < 1):
            raise DomainError(f"Switching: got classes={classes!r}, expected at least 1 or None")
        self._start(
            {
                "rule": rule, "thresholds": list(thresholds), "layout": layout, "positions": bool(positions),
                "classes": int(classes or 0), "patterns": bool(patterns), "sums": bool(sums),
                "window": None if window is None else [*map(list, window[:4]), window[4]],
            }
        )  # fmt: skip
        self._memory = memory

    def _start(self, config: dict[str, Any]) -> None:
        if config["layout"] not in _LAYOUTS:
            raise LayoutError(f"Switching: got layout {config['layout']!r}, expected one of {', '.join(_LAYOUTS)}")
        self._config = config
        self._native = native.Switching(**_options(config))
        self._memory = None

    @classmethod
    def _wrap(cls, config: dict[str, Any], state: native.Switching) -> Switching:
        self = cls.__new__(cls)
        self._config, self._native, self._memory = config, state, None
        return self

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
        layout = self._config["layout"]
        of = None if labels is None else _labels(labels, _samples(view.array.shape, layout))
        if pooled and not self._config["sums"]:
            raise DomainError("Switching.update: got pooled=True without sums, expected Switching(sums=True)")
        budget = math.inf
        if self._native.units == 0 or self._config["patterns"]:  # later on, patterns alone grow
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
        if self._config["patterns"]:
            raise DomainError("Switching.add_counts: got counts for a state with patterns, expected update")
        parts = _given_counts(
            self._config, samples, state, shape, observations, zero, nan, square, class_state, class_samples
        )
        parts |= _given_moments(self._config, finite, mean, scatter)
        self._native.merge(native.Switching.from_counts(**_options(self._config), counts=parts))

    def merge(self, other: Switching) -> None:
        """Takes all that `other` has seen; `other` is not changed.

        Raises:
            ShapeError: another number of units. DomainError: other options (the layout may differ).
        """
        if not isinstance(other, Switching):
            raise TypeError(f"Switching.merge: got {type(other).__name__}, expected Switching")
        if other.rule != self.rule:
            raise DomainError(f"Switching.merge: got rule {other.rule!r}, expected {self.rule!r}")
        self._native.merge(other._native)

    def clear(self) -> None:
        """Forgets all that was seen, the number of units too, and keeps the memory."""
        self._native.clear()

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
        return complexity_of(self._native, self.rule, tuple(self._config["thresholds"]))

    def counts(self) -> dict[str, Any]:
        """All that is counted, as arrays: state (K - 1, C), zero and nan (C,), square (K - 1, C), position
        (K - 1, C, positions), class_state (classes, K - 1, C), class_observations (classes,), patterns (samples, words
        of 64 bits; bit unit * positions + position, the lowest first), with sums finite, mean and scatter (C,), and
        samples, observations, units, shape, shape_varies."""
        return self._native.counts()

    @property
    def rule(self) -> str:
        """What is counted."""
        return str(self._config["rule"])

    @property
    def samples(self) -> int:
        """Samples taken."""
        return self._native.samples

    @property
    def units(self) -> int:
        """C; 0 before the first update."""
        return self._native.units

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return int(self._native.nbytes)

    def __repr__(self) -> str:
        return f"Switching(rule={self.rule!r}, units={self.units}, samples={self.samples})"

    # ---- copies and files ----

    def copy(self) -> Switching:
        """A state of its own with the same content."""
        copied = Switching._wrap(self.config(), self._native.copy())
        copied._memory = self._memory
        return copied

    def config(self) -> dict[str, Any]:
        """The options, as JSON can hold them; `from_tensors` takes them."""
        return {**self._config, "thresholds": list(self._config["thresholds"])}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The state as named arrays, int64 (mean and scatter: float64), for a state file; `from_tensors` makes it
        again, bit for bit."""
        counts = self._native.counts()
        scalars = [counts["samples"], counts["observations"], counts["units"], int(counts["shape_varies"])]
        return {
            "counts": np.array(scalars, np.int64),
            "shape": np.array(counts["shape"], np.int64),
            "patterns": counts["patterns"].view(np.int64),
            **{name: counts[name] for name in (*_NUMBERS, *(_MOMENTS if self._config["sums"] else ()))},
        }

    @classmethod
    def from_tensors(cls, config: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Switching:
        """The state whose `config()` and `tensors()` these are. Raises StateError when they do not fit together."""
        try:
            samples, observations, units, varies = (int(n) for n in tensors["counts"])
            counts: dict[str, Any] = {name: tensors[name] for name in _NUMBERS}
            counts |= {name: tensors[name] for name in _MOMENTS} if config["sums"] else _no_moments()
            counts.update(samples=samples, observations=observations, units=units, shape_varies=bool(varies))
            counts["shape"] = [int(n) for n in tensors["shape"]]
            counts["patterns"] = np.ascontiguousarray(tensors["patterns"]).view(np.uint64)
            thresholds_of(config["rule"], config["thresholds"] if config["window"] is None else None)
            if config["layout"] not in _LAYOUTS or (config["rule"] == "maxpool") != (config["window"] is not None):
                raise ValueError(f"layout {config['layout']!r} with rule {config['rule']!r}")
            return cls._wrap(dict(config), native.Switching.from_counts(**_options(config), counts=counts))
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"Switching: the tensors do not make a state ({error})") from error


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


def footprint(
    shape: Sequence[int],
    *,
    rule: str = "relu",
    threshold: float | Sequence[float] | None = None,
    layout: str = "channels_first",
    positions: bool = True,
    classes: int | None = None,
    sums: bool = False,
    kernel_size: Size | None = None,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> int:
    """Bytes that a state fed batches of this shape comes to take; arguments as of `Switching`.

    >>> footprint((64, 32, 8, 8))
    17408
    """
    config = Switching(
        rule=rule, threshold=threshold, layout=layout, positions=positions, classes=classes, sums=sums,
        kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode,
    )._config  # fmt: skip
    axes = tuple(int(n) for n in shape)
    if len(axes) < (2 if layout == "channels_first" else 1):
        raise ShapeError(f"footprint: got shape {axes} with layout {layout!r}, expected samples of units")
    units = axes[1] if layout == "channels_first" else axes[-1]
    places = {"rows": (), "channels_first": axes[2:], "channels_last": axes[1:-1]}[layout]
    return int(native.footprint(**_options(config), units=units, shape=list(places), samples=axes[0]))


def _options(config: dict[str, Any]) -> dict[str, Any]:
    names = ("thresholds", "window", "positions", "classes", "patterns", "sums")
    return {name: config[name] for name in names}


def _samples(shape: tuple[int, ...], layout: str) -> int:
    return math.prod(shape[:-1]) if layout == "rows" else shape[0] if shape else 0


def _integers(values: ArrayLike, name: str) -> Int64:
    if arrays.is_tensor(values):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "iub":
        raise DTypeError(f"Switching: got {name} of dtype {array.dtype.name}, expected integers")
    return np.asarray(array, dtype=np.int64, order="C")


def _labels(labels: ArrayLike, samples: int) -> Int64:
    array = _integers(labels, "labels").reshape(-1)
    if len(array) != samples:
        raise ShapeError(f"Switching.update: got {len(array)} labels, expected {samples}")
    return array


def _given_counts(
    config: dict[str, Any],
    samples: int,
    state: ArrayLike,
    shape: Sequence[int] | None,
    observations: int | None,
    zero: ArrayLike | None,
    nan: ArrayLike | None,
    square: ArrayLike | None,
    class_state: ArrayLike | None,
    class_samples: ArrayLike | None,
) -> dict[str, Any]:
    """What `Switching.from_counts` takes."""
    states = native.Switching(**_options(config)).states - 1
    on = _integers(state, "state")
    on = on if states > 1 else on[None]
    if on.ndim < 2 or on.shape[0] != states:
        raise ShapeError(f"Switching.add_counts: got state of shape {on.shape}, expected ({states}, units, ...)")
    units = on.shape[1]
    places = on.shape[2:] if shape is None else tuple(int(n) for n in shape)
    varies = observations is not None
    if varies and (on.ndim > 2 or shape is not None or config["classes"]):
        raise DomainError("Switching.add_counts: got observations with positions or classes, expected sums alone")
    count = math.prod(places) if observations is None else observations / max(1, samples)
    summed = on.ndim == 2 and places != ()
    if not summed and on.shape[2:] != places:
        raise ShapeError(f"Switching.add_counts: got state of shape {on.shape}, expected positions {places}")
    if summed and config["positions"]:
        raise ShapeError(f"Switching.add_counts: got sums over positions {places}, expected counts of each")
    channel = on if summed else on.reshape(states, units, -1).sum(axis=2)
    if square is None and samples > 1 and count > 1:
        raise DomainError(f"Switching.add_counts: got no square of {samples} samples of {count:g} positions")
    squares = channel ** (2 if samples == 1 else 1) if square is None else _integers(square, "square")
    classes = config["classes"]
    if (class_state is None) == (classes > 0) or (class_samples is None) == (classes > 0):
        raise DomainError(f"Switching.add_counts: got counts of classes or none, expected those of {classes} classes")
    none = np.zeros(0, np.int64)
    return {
        "samples": int(samples), "observations": int(samples * count) if observations is None else int(observations),
        "units": units, "shape": list(places), "shape_varies": varies, "state": channel, "square": squares,
        "zero": np.zeros(units, np.int64) if zero is None else _integers(zero, "zero"),
        "nan": np.zeros(units, np.int64) if nan is None else _integers(nan, "nan"),
        "position": on if config["positions"] and places else none,
        "class_state": none if class_state is None else _integers(class_state, "class_state"),
        "class_observations": none if class_samples is None else _integers(class_samples, "class_samples") * count,
        "patterns": np.zeros(0, np.uint64),
    }  # fmt: skip


def _given_moments(
    config: dict[str, Any], finite: ArrayLike | None, mean: ArrayLike | None, scatter: ArrayLike | None
) -> dict[str, Any]:
    """What `Switching.from_counts` takes of sums."""
    if finite is None or mean is None or scatter is None:
        if config["sums"] or not (finite is None and mean is None and scatter is None):
            raise DomainError(f"Switching.add_counts: got some of finite, mean and scatter with sums={config['sums']}")
        return _no_moments()
    return {
        "finite": _integers(finite, "finite"), "mean": np.asarray(mean, np.float64),
        "scatter": np.asarray(scatter, np.float64),
    }  # fmt: skip


def _no_moments() -> dict[str, Any]:
    return {"finite": np.zeros(0, np.int64), "mean": np.zeros(0), "scatter": np.zeros(0)}
