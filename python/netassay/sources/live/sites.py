"""Where a running model switches between pieces: calls of nonlinearities, seen just before and after they run.

A site is one call of a nonlinearity: the n-th of a module in a pass, `nn.ReLU`'s own, or that of a function or a method
of a tensor, named "<innermost module>:<op>". All are seen by one function mode of torch, pushed for the length of a
pass: it sees what Python calls, not what happens inside one kernel (recurrent cells), inside jit.script, or in another
thread. What a call is: see nonlinearities.py.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from netassay.sources.layers import ROOT, parametrizing
from netassay.sources.live.nonlinearities import Pieces, Refusal, axes, operations, own
from netassay.sources.live.rows import tensor_of
from netassay.sources.live.units import declares, placed_by_functions, units_of

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


class Watcher:
    """The sites of a model, pass after pass.

    Args:
        root: whose passes are watched. wanted: whether a site of a name is shown.
        thresholds: op -> threshold, of functions without linear pieces (`nonlinearities.SMOOTH`).

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

    def placing(self) -> list[nn.Module]:
        """Modules whose own output, not the functions they call, says where their units lie."""
        import torch

        of_weights = parametrizing(self.root)
        return [
            module
            for module in self.root.modules()
            if not isinstance(module, torch.jit.ScriptModule) and id(module) not in of_weights
            if declares(module) and not placed_by_functions(module)
        ]

    def mode(self, listener: Listener) -> Any:
        """What shows the sites of one pass, between `push` and `pop`."""
        self._strangers.clear()
        return _mode_class()(Pass(self, listener))

    def name_of(self, module: nn.Module) -> str | None:
        """A module's qualified name, also of one that came after the watch; "" inside a parametrization, whose input
        is weights; None outside the model."""
        key = id(module)
        known = self._names.get(key)
        if known is not None and known[0]() is module:
            return known[1]
        if key in self._strangers:
            return None
        self._names = self._named()
        if key not in self._names:
            self._strangers.add(key)
            return None
        return self._names[key][1]

    def _named(self) -> dict[int, tuple[weakref.ref[nn.Module], str]]:
        of_weights = parametrizing(self.root)
        return {
            id(module): (weakref.ref(module), "" if id(module) in of_weights else name or ROOT)
            for name, module in self.root.named_modules()
        }


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
        self._axes = axes()

    def run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Calls a function of torch, and shows what it does to whom it concerns."""
        try:
            switches, places = func in self._watcher.ops, func in self._axes
        except TypeError:  # not hashable, so none of torch's own
            return func(*args, **kwargs)
        if not self._watcher.watching:
            return func(*args, **kwargs)
        site = self._entering(func, args, kwargs) if switches else None
        result = func(*args, **kwargs)
        if site is not None:
            self._leaving(site, result)
        if places:
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
                if module is None or not inside:
                    return None  # outside of any module, where no pass is running; or of weights
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
        known = self._units.get(tuple(tensor.shape))
        if known is not None:
            return known, False
        return (1 if tensor.ndim in (4, 5) else tensor.ndim - 1), tensor.ndim > 2

    def _place_units(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        import torch

        try:
            with torch._C.DisableTorchFunction():
                tensor = result[0] if isinstance(result, tuple) else result
                if not isinstance(tensor, torch.Tensor) or tensor.is_nested:
                    return
                entered = _input(args, kwargs)
                before = None if entered is None or entered.is_nested else self._units.get(tuple(entered.shape))
                axis = self._axes[func](tensor.ndim, before, args, kwargs)
                if axis is not None and axis >= 0:
                    self._units[tuple(tensor.shape)] = axis
        except Exception as error:
            self._listener.failed("the axis of units", error)

    def place(self, module: nn.Module, output: object) -> None:
        """Keeps where a module has put its units, as `units_of` finds them in its output."""
        import torch

        with torch._C.DisableTorchFunction():
            tensor, _ = tensor_of(module, output)
            if tensor is None or tensor.ndim == 0 or tensor.is_nested:
                return
            shape = tuple(tensor.shape)
            units = units_of(module, shape)
            if not units.guessed and not units.why:
                self._units[shape] = units.axis

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
