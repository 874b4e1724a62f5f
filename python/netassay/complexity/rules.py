"""Rules: which states a nonlinearity's units have, and what being in one of them for ever means."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from netassay.base.errors import DomainError

#: Kernel, stride, padding, dilation (one number for each axis), ceil_mode.
Window = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a nonlinearity's units are counted.

    Attributes:
        thresholds: those it has by itself; None: they must be given.
        linear: states that are linear and not constant. dead: states that are constantly zero, where "dead" is said.
    """

    thresholds: tuple[float, ...] | None
    linear: tuple[int, ...]
    dead: tuple[int, ...]


RULES = {
    "relu": Rule((0.0,), (1,), (0,)),
    "leaky_relu": Rule((0.0,), (0, 1), ()),
    "prelu": Rule((0.0,), (0, 1), ()),
    "relu6": Rule((0.0, 6.0), (1,), (0,)),
    "hardtanh": Rule((-1.0, 1.0), (1,), ()),
    "gate_sign": Rule((0.0,), (), ()),
    "threshold": Rule(None, (), ()),
    "maxpool": Rule((), (), ()),
    "identity": Rule((0.0,), (), ()),
}


def thresholds_of(rule: str, given: float | Sequence[float] | None) -> tuple[float, ...]:
    """The thresholds of a rule, ascending.

    Raises:
        DomainError: no such rule, none given where they must be, others than the rule can have.
    """
    if rule not in RULES:
        hint = " (of tanh or sigmoid: 'threshold' with threshold=...)" if rule in ("tanh", "sigmoid") else ""
        raise DomainError(f"Switching: got rule {rule!r}, expected one of {', '.join(RULES)}{hint}")
    own = RULES[rule].thresholds
    if given is None:
        if own is None:
            raise DomainError("Switching: got rule 'threshold' without a threshold, expected threshold=...")
        return own
    try:
        values = tuple(float(t) for t in np.ravel(given))
    except (TypeError, ValueError):
        raise DomainError(f"Switching: got threshold={given!r}, expected numbers") from None
    if own is not None and len(values) != len(own):
        raise DomainError(f"Switching: got {len(values)} thresholds for rule {rule!r}, expected {len(own)}")
    ascending = all(a < b for a, b in pairwise(values))
    if not values or not ascending or not all(map(math.isfinite, values)):
        raise DomainError(f"Switching: got thresholds {list(values)}, expected finite numbers that ascend")
    return tuple(t + 0.0 for t in values)


def window_of(
    rule: str,
    kernel_size: int | Sequence[int] | None,
    stride: int | Sequence[int] | None,
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    ceil_mode: bool,
) -> Window | None:
    """The window of a maxpool; arguments as of torch's MaxPool1d, 2d and 3d. One number stands for two axes.

    Raises:
        DomainError: a window without maxpool, maxpool without one, or numbers of other lengths.
    """
    if (kernel_size is None) != (rule != "maxpool"):
        raise DomainError(f"Switching: got kernel_size={kernel_size!r} with rule {rule!r}, expected both or neither")
    if kernel_size is None:
        return None
    size = _sizes(kernel_size, "kernel_size")
    kernel = (size, size) if isinstance(size, int) else size

    def each(value: int | Sequence[int], name: str) -> tuple[int, ...]:
        sizes = _sizes(value, name)
        found = (sizes,) * len(kernel) if isinstance(sizes, int) else sizes
        if len(found) != len(kernel):
            raise DomainError(f"Switching: got {name} {found} with kernel_size {kernel}, expected one for each axis")
        return found

    steps = kernel if stride is None else each(stride, "stride")
    return kernel, steps, each(padding, "padding"), each(dilation, "dilation"), bool(ceil_mode)


def _sizes(value: int | Sequence[int], name: str) -> int | tuple[int, ...]:
    try:
        return tuple(map(operator.index, value)) if np.ndim(value) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise DomainError(f"Switching: got {name}={value!r}, expected an integer, or one for each axis") from None
