"""Where a running model switches between pieces: calls of nonlinearities, seen just before and after they run.

A site is one call of a nonlinearity: the n-th of a module in a pass, `nn.ReLU`'s own, or that of a function or a method
of a tensor, named "<innermost module>:<op>". All are seen by one function mode of torch, pushed for the length of a
pass: it sees what Python calls, not what happens inside one kernel (recurrent cells), inside jit.script, or in another
thread. What a call is follows from the function and its arguments alone (`OPS`).
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from netassay.sources.layers import ROOT

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Site:
    """One call of a nonlinearity.

    Attributes:
        name: of its module, or "<innermost module>:<op>"; call: 0, 1, ... in this pass.
        kind: class of the module, or the op.
        rule, options: which linear pieces there are, as `netassay.complexity.Switching` takes them.
        axis: of the units; guessed: only from the number of axes.
    """

    name: str
    call: int
    kind: str
    rule: str
    options: Mapping[str, Any] = field(default_factory=dict)
    axis: int = 1
    guessed: bool = False


class Listener(Protocol):
    """Who is shown the sites of a pass. Nothing that it raises may reach the model: that is `Taps`' concern."""

    def entering(self, site: Site, tensor: Tensor) -> None:
        """What a nonlinearity is about to be applied to; it may be overwritten as soon as this returns."""

    def leaving(self, site: Site, tensor: Tensor) -> None:
        """What has come out of it."""

    def refused(self, name: str, why: str) -> None:
        """A nonlinearity of which no pieces are known."""

    def failed(self, place: str, error: Exception) -> None:
        """An internal error."""


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


def _clamp(low_name: str = "min", high_name: str = "max", low: Any = None, high: Any = None) -> Reading:
    """Between two numbers. The lower one alone is a ReLU's threshold; of the upper one alone no rule has the pieces."""

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Pieces | Refusal | None:
        bottom = _bound(_argument(args, kwargs, 1, low_name, low), -math.inf)
        top = _bound(_argument(args, kwargs, 2, high_name, high), math.inf)
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


#: Functions after which the axis of the units is known: from the last, or (for convolutions) from the number of
#: spatial axes.
_LAST = ("linear", "bilinear", "layer_norm", "rms_norm", "embedding", "scaled_dot_product_attention")
_FIRST = ("batch_norm", "instance_norm", "group_norm")
_SPATIAL = {f"{kind}{axes}d": axes for kind in ("conv", "conv_transpose") for axes in (1, 2, 3)}
#: And those that keep it.
_KEPT = ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")


@cache
def _axes() -> dict[object, Callable[[int, int | None], int | None]]:
    """Function -> the units' axis of its output, given how many axes it has and which one its input's units had."""
    table: dict[object, Callable[[int, int | None], int | None]] = {}
    for name in _LAST:
        table.update(dict.fromkeys(_functions(name), lambda ndim, before: ndim - 1))
    for name in _FIRST:
        table.update(dict.fromkeys(_functions(name), lambda ndim, before: 1))
    for name, axes in _SPATIAL.items():
        table.update(dict.fromkeys(_functions(name), _behind(axes)))
    for name in _KEPT:
        for axes in (1, 2, 3):
            table.update(dict.fromkeys(_functions(f"{name}{axes}d"), lambda ndim, before: before))
    return table


def _behind(axes: int) -> Callable[[int, int | None], int | None]:
    return lambda ndim, before: ndim - axes - 1


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


class Watcher:
    """The sites of a model, pass after pass.

    Args:
        root: whose passes are watched. wanted: whether a site of a name is shown.
        thresholds: op -> threshold, of functions without linear pieces (`SMOOTH`).

    Attributes:
        watching: whether anything is shown; a mode that still stands on another thread's stack obeys it too.
    """

    def __init__(
        self,
        root: nn.Module,
        wanted: Callable[[str], bool],
        thresholds: Mapping[str, float],
    ) -> None:
        self.root, self.wanted = root, wanted
        self.ops = operations(thresholds)
        self.watching = True
        # By identity; a module that is gone may leave its id to another one.
        self._names: dict[int, tuple[weakref.ref[nn.Module], str]] = {}
        self._strangers: set[int] = set()  # in the pass that began last

    def mode(self, listener: Listener) -> Any:
        """What shows the sites of one pass, between `push` and `pop`."""
        self._strangers.clear()
        return _mode_class()(Pass(self, listener))

    def name_of(self, module: nn.Module) -> str | None:
        """A module's qualified name, also of one that came after the watch; None outside the model."""
        key = id(module)
        known = self._names.get(key)
        if known is not None and known[0]() is module:
            return known[1]
        if key in self._strangers:
            return None
        self._names = {id(m): (weakref.ref(m), name or ROOT) for name, m in self.root.named_modules()}
        if key not in self._names:
            self._strangers.add(key)
            return None
        return self._names[key][1]


def push(mode: Any) -> None:
    """Begins to show this thread's sites."""
    mode.__enter__()


def pop(mode: Any) -> None:
    """Ends what `push` began, wherever on the stack of modes it stands by now."""
    from torch import overrides

    if not any(each is mode for each in overrides._get_current_function_mode_stack()):
        return
    above = []
    while (top := overrides._pop_mode()) is not mode:
        above.append(top)
    for each in reversed(above):
        overrides._push_mode(each)


@cache
def _mode_class() -> Any:
    from torch.overrides import TorchFunctionMode

    class SiteMode(TorchFunctionMode):
        """Shows the sites of one pass."""

        def __init__(self, sites: Pass) -> None:
            super().__init__()
            self.sites = sites

        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            return self.sites.run(func, args, kwargs or {})

    return SiteMode


class Pass:
    """The sites of one pass: how often each was called, and along which axis units lie in the shapes seen last."""

    def __init__(self, watcher: Watcher, listener: Listener) -> None:
        self._watcher, self._listener = watcher, listener
        self._calls: dict[str, int] = {}
        self._units: dict[tuple[int, ...], int] = {}
        self._axes = _axes()

    def run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Calls a function of torch, and shows what it does to whom it concerns."""
        if not self._watcher.watching:
            return func(*args, **kwargs)
        site = self._entering(func, args, kwargs) if func in self._watcher.ops else None
        result = func(*args, **kwargs)
        if site is not None:
            self._leaving(site, result)
        if func in self._axes:
            self._place_units(func, args, kwargs, result)
        return result

    def _entering(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Site | None:
        import torch

        place = "a nonlinearity"
        try:
            if hidden():
                return None
            with torch._C.DisableTorchFunction():
                op = self._watcher.ops[func]
                found = op.read(args, kwargs)
                tensor = _input(args, kwargs)
                if found is None or tensor is None:
                    return None
                module, inside = self._innermost()
                if module is None:
                    return None  # outside of any module: no pass is running
                mine = own(module)
                place = inside if mine else f"{inside}:{op.name}"
                if not self._watcher.wanted(place):
                    return None
                if isinstance(found, Refusal):
                    self._listener.refused(place, found.why)
                    return None
                if tensor.is_nested:  # it has no shape
                    self._listener.refused(place, "nested tensor")
                    return None
                call = self._calls.get(place, 0)
                self._calls[place] = call + 1
                axis, guessed = self._axis(tensor, found)
                kind = type(module).__name__ if mine else op.name
                site = Site(place, call, kind, found.rule, found.options, axis, guessed)
                self._listener.entering(site, tensor)
                return site
        except Exception as error:
            self._listener.failed(place, error)
            return None

    def _leaving(self, site: Site, result: Any) -> None:
        import torch

        try:
            with torch._C.DisableTorchFunction():
                tensor = result[0] if isinstance(result, tuple) else result
                if isinstance(tensor, torch.Tensor):
                    self._listener.leaving(site, tensor)
        except Exception as error:
            self._listener.failed(site.name, error)

    def _axis(self, tensor: Tensor, pieces: Pieces) -> tuple[int, bool]:
        if pieces.rule == "maxpool":
            return tensor.ndim - len(pieces.options["kernel_size"]) - 1, False
        if tensor.ndim <= 2:
            return tensor.ndim - 1, False
        known = self._units.get(tuple(tensor.shape))
        if known is not None:
            return known, False
        return (1 if tensor.ndim in (4, 5) else tensor.ndim - 1), True

    def _place_units(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        import torch

        try:
            with torch._C.DisableTorchFunction():
                tensor = result[0] if isinstance(result, tuple) else result
                if not isinstance(tensor, torch.Tensor) or tensor.is_nested:
                    return
                entered = _input(args, kwargs)
                before = None if entered is None or entered.is_nested else self._units.get(tuple(entered.shape))
                axis = self._axes[func](tensor.ndim, before)
                if axis is not None and axis >= 0:
                    self._units[tuple(tensor.shape)] = axis
        except Exception as error:
            self._listener.failed("the axis of units", error)

    def _innermost(self) -> tuple[nn.Module | None, str]:
        """The innermost module of the model whose call is on this thread's stack, and its name."""
        from torch import nn

        code = nn.Module._call_impl.__code__
        frame = sys._getframe(3)
        while frame is not None:
            if frame.f_code is code:
                module = frame.f_locals["self"]
                name = self._watcher.name_of(module)
                if name is not None:
                    return module, name
            frame = frame.f_back  # type: ignore[assignment]
        return None, ""


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    import torch

    tensor = args[0] if args else kwargs.get("input", kwargs.get("self"))
    return tensor if isinstance(tensor, torch.Tensor) else None


def hidden() -> bool:
    """Whether this call is no pass of its own: compiled, traced, or recomputed inside backward."""
    import torch

    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._current_graph_task_id() != -1
    )
