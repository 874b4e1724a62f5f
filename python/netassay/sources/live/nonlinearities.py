"""Which functions and methods of torch are nonlinearities, and what the arguments of a call say of its linear pieces.

Also where functions put the units of what they return. All of it follows from the function and its arguments alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from numbers import Real
from typing import Any, NamedTuple


class Pieces(NamedTuple):
    """The linear pieces of a call."""

    rule: str
    options: Mapping[str, Any] = {}  # never written to


class Refusal(NamedTuple):
    """Why a call has no pieces that could be counted."""

    why: str


#: What the arguments of a call say: its pieces, why there are none, or None where it is no nonlinearity.
Reading = Callable[[tuple[Any, ...], Mapping[str, Any]], Pieces | Refusal | None]


class Op(NamedTuple):
    """A nonlinearity by its name, and how its arguments are read."""

    name: str
    read: Reading


def _always(rule: str, **options: Any) -> Reading:
    pieces = Pieces(rule, options)
    return lambda args, kwargs: pieces


def _refused(why: str) -> Reading:
    refusal = Refusal(why)
    return lambda args, kwargs: refusal


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str, default: Any = None) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _bound(value: object, none: float) -> float:
    """A bound as a number; None is `none`."""
    if value is None:
        return none
    return float(value) if isinstance(value, int | float | Real) else math.nan


def _clamp(
    low_name: str = "min", high_name: str = "max", low: Any = None, high: Any = None, places: tuple[int, int] = (1, 2)
) -> Reading:
    """Between two numbers. The lower one alone is a ReLU's threshold; of the upper one alone no rule has the pieces."""

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Pieces | Refusal | None:
        bottom = _bound(_argument(args, kwargs, places[0], low_name, low), -math.inf)
        top = _bound(_argument(args, kwargs, places[1], high_name, high), math.inf)
        if math.isnan(bottom) or math.isnan(top):
            return Refusal("its bounds are no numbers but tensors, or NaN")
        if bottom >= top or (math.isinf(bottom) and math.isinf(top)):
            return None  # constant, or the identity
        if math.isinf(bottom):
            return Pieces("threshold", {"threshold": top})
        if math.isinf(top):
            return Pieces("relu", {"threshold": bottom})
        return Pieces("relu6") if (bottom, top) == (0, 6) else Pieces("hardtanh", {"threshold": (bottom, top)})

    return read


def _threshold(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Pieces | None:
    at = _bound(_argument(args, kwargs, 1, "threshold"), math.nan)
    return Pieces("relu", {"threshold": at}) if math.isfinite(at) else None


def _maximum(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Pieces | None:
    """With a tensor of zeros, which only one on the CPU is asked for."""
    import torch

    other = _argument(args, kwargs, 1, "other")
    zeros = isinstance(other, torch.Tensor) and other.device.type == "cpu" and not other.requires_grad
    return Pieces("relu") if zeros and not bool(other.any()) else None


def _max_pool(axes: int) -> Reading:
    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Pieces | Refusal:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        found = {name: _argument(args, kwargs, place, name) for place, name in enumerate(names, 1)}
        size = _each(found["kernel_size"], axes)
        return Pieces(
            "maxpool",
            {
                "kernel_size": size,
                "stride": _each(found["stride"], axes) if found["stride"] else size,
                "padding": _each(found["padding"] or 0, axes),
                "dilation": _each(1 if found["dilation"] is None else found["dilation"], axes),
                "ceil_mode": bool(found["ceil_mode"]),
            },
        )

    return read


def _each(value: Any, axes: int) -> tuple[int, ...]:
    several = tuple(value) if isinstance(value, tuple | list) else (value,)
    return tuple(map(int, several * axes if len(several) == 1 else several))


def _smooth(op: str, thresholds: Mapping[str, float]) -> Reading:
    """A function without pieces: counted about a threshold that the user gives, else refused."""
    if op in thresholds:
        return _always("threshold", threshold=float(thresholds[op]))
    return _refused(f"{op} has no linear pieces; thresholds={{{op!r}: ...}} counts how often its input passes one")


#: Smooth functions that are counted about a threshold of the user's.
SMOOTH = ("tanh", "sigmoid")

_SHRINKS = ("hardshrink", "softshrink")
_GATES = ("gelu", "silu", "mish", "hardswish", "elu", "selu", "celu", "softplus")


def operations(thresholds: Mapping[str, float]) -> dict[object, Op]:
    """Every function and method of torch that is a nonlinearity."""
    readings: dict[str, Reading] = {
        "relu": _always("relu"),
        "leaky_relu": _always("leaky_relu"),
        "prelu": _always("leaky_relu"),
        "rrelu": _always("leaky_relu"),
        "relu6": _always("relu6"),
        "hardtanh": _clamp("min_val", "max_val", -1.0, 1.0),
        "hardsigmoid": _always("hardtanh", threshold=(-3.0, 3.0)),
        "threshold": _threshold,
        "_threshold": _threshold,
        "clamp": _clamp(),
        "clip": _clamp(),
        "clamp_min": _clamp(),
        "clamp_max": _clamp(places=(2, 1)),
        "maximum": _maximum,
        "max": _maximum,
        **{gate: _always("gate_sign") for gate in _GATES},
        **{op: _smooth(op, thresholds) for op in SMOOTH},
        "max_pool1d": _max_pool(1),
        "max_pool2d": _max_pool(2),
        "max_pool3d": _max_pool(3),
        **{op: _refused(f"{op} has no linear pieces") for op in ("softsign", "logsigmoid", "tanhshrink")},
        **{op: _refused("no rule counts its pieces, of which the middle one is constant") for op in _SHRINKS},
        "glu": _refused("glu multiplies by a gate: it has no linear pieces of its own"),
        "adaptive_max_pool1d": _refused("the windows of an adaptive pool differ in size"),
        "adaptive_max_pool2d": _refused("the windows of an adaptive pool differ in size"),
        "adaptive_max_pool3d": _refused("the windows of an adaptive pool differ in size"),
    }
    table: dict[object, Op] = {}
    for name, read in readings.items():
        for function in _functions(name):
            table[function] = Op(name.strip("_"), read)
    return table


def _functions(name: str) -> Iterator[object]:
    """Every function of torch that goes by a name, in place too, and with indices."""
    import torch

    homes = (torch, torch.Tensor, torch.nn.functional, torch._C._nn)
    for home in homes:
        for spelling in (name, f"{name}_", f"{name}_with_indices"):
            if spelling != "_threshold_" and hasattr(home, spelling):
                yield getattr(home, spelling)


#: The units' axis of what a function returns, given how many axes that has, which one its input's units had, and the
#: arguments; None: not known.
Placing = Callable[[int, int | None, tuple[Any, ...], Mapping[str, Any]], int | None]

#: Functions after which the axis of the units is known: from the last, or (for convolutions) from the number of
#: spatial axes.
_LAST = ("linear", "bilinear", "embedding", "scaled_dot_product_attention")
_FIRST = ("batch_norm", "instance_norm", "group_norm")
_SPATIAL = {f"{kind}{axes}d": axes for kind in ("conv", "conv_transpose") for axes in (1, 2, 3)}
#: And those that keep it.
_KEPT = ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")


@cache
def axes() -> dict[object, Placing]:
    """Functions after which the axis of the units is known."""
    table: dict[object, Placing] = {}
    for name in _LAST:
        table.update(dict.fromkeys(_functions(name), lambda ndim, before, args, kwargs: ndim - 1))
    for name in _FIRST:
        table.update(dict.fromkeys(_functions(name), lambda ndim, before, args, kwargs: 1))
    for name in ("layer_norm", "rms_norm"):
        table.update(dict.fromkeys(_functions(name), _normalized))
    for name, axes in _SPATIAL.items():
        table.update(dict.fromkeys(_functions(name), _behind(axes)))
    for name in _KEPT:
        for axes in (1, 2, 3):
            table.update(dict.fromkeys(_functions(f"{name}{axes}d"), lambda ndim, before, args, kwargs: before))
    return table


def _behind(axes: int) -> Placing:
    return lambda ndim, before, args, kwargs: ndim - axes - 1


def _normalized(ndim: int, before: int | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """Over the last axis it is that of the units; over several, whole maps, they are where they were."""
    return ndim - 1 if len(_argument(args, kwargs, 1, "normalized_shape")) == 1 else before


@cache
def _own_modules() -> tuple[type, ...]:
    """Modules that are nonlinearities: what they call is theirs."""
    from torch import nn

    names = (
        "ReLU LeakyReLU PReLU RReLU ReLU6 Hardtanh Hardsigmoid Threshold GELU SiLU Mish Hardswish ELU SELU CELU"
        " Softplus Tanh Sigmoid Softsign LogSigmoid Tanhshrink Hardshrink Softshrink GLU MaxPool1d MaxPool2d MaxPool3d"
        " AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d"
    )
    return tuple(getattr(nn, name) for name in names.split())


def own(module: object) -> bool:
    """Whether a module is a nonlinearity, and so a site of its own name."""
    return isinstance(module, _own_modules())
