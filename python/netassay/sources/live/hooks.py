"""A running module -> (layer, mode, call, array): what hangs on a module, and what a watch hangs on it.

Rules that keep the training as it is: a hook returns nothing, raises nothing (an internal error is counted, logged
once, and after three switches that layer off), changes nothing, and draws from no random generator of the training's.

A forward pass of the root is a transaction: what its layers show is committed when the pass ends and dropped when the
user's forward raises. Not shown: recomputation inside backward (activation checkpointing), tracing, compilation.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from netassay.sources.live import sites as _sites
from netassay.sources.live.sites import Site, hidden

if TYPE_CHECKING:
    from torch import Tensor, nn

_log = logging.getLogger("netassay")

#: Internal errors of one layer's probe after which it is switched off.
PATIENCE = 3


class Listener(Protocol):
    """Who is shown the outputs. `run` is whatever `begin` returned for this pass."""

    def begin(self, mode: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A pass starts; None leaves it out."""

    def observe(self, run: Any, layer: str, module: nn.Module, output: object) -> None:
        """A layer has made an output, which may change as soon as this returns."""

    def entering(self, run: Any, site: Site, tensor: Tensor) -> None:
        """A nonlinearity is about to run on a tensor, which may change as soon as this returns."""

    def leaving(self, run: Any, site: Site, tensor: Tensor) -> None:
        """It has made its output."""

    def refused(self, run: Any, site: str, why: str) -> None:
        """A nonlinearity has no pieces that could be counted."""

    def commit(self, run: Any) -> None:
        """The pass has ended well."""

    def rollback(self, run: Any) -> None:
        """The pass has failed: nothing of it may be kept."""


class Hook:
    """What is hung on a module. Copies of the model (deepcopy, pickle, torch.save) carry a no-op in its place."""

    __slots__ = ()
    #: What torch.jit.script says of a module that carries the hook.
    unscriptable: ClassVar[str]

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")

    @property
    def __name__(self) -> str:  # the first thing torch.jit.script asks a hook for
        raise RuntimeError(self.unscriptable)


class _Tap(Hook):
    __slots__ = ("taps",)
    unscriptable = "torch.jit.script cannot compile a watched model: call pause() on the netassay watch first"

    def __init__(self, taps: Taps) -> None:
        self.taps = taps


class _Start(_Tap):
    __slots__ = ()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not hidden():
            self.taps._start(module, args, kwargs)


class _End(_Tap):
    __slots__ = ()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        if not hidden():
            self.taps._end()


class _Probe(_Tap):
    __slots__ = ("layer",)

    def __init__(self, taps: Taps, layer: str) -> None:
        super().__init__(taps)
        self.layer = layer

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if not hidden():
            self.taps.observe(self.layer, module, output)


class _Place(_Tap):
    __slots__ = ()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if not hidden():
            self.taps._place(module, output)


class _Alone(_Tap):
    __slots__ = ()

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if not hidden():
            self.taps._alone(module)


def _describe(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # an error that cannot even be shown
        return type(error).__name__


def _calls_in_progress(module: nn.Module) -> int:
    """How many calls of a module are on this thread's stack, as torch's own frames tell."""
    return sum(called is module for called in _called())


def _called() -> Iterator[object]:
    """What is being called on this thread's stack, from the innermost module on."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_call_impl":
            yield frame.f_locals.get("self")
        frame = frame.f_back  # type: ignore[assignment]


def _callable(module: nn.Module) -> Iterator[nn.Module]:
    """The children of a module that may be called and hooked, and those of lists of modules, which may not."""
    import torch
    from torch import nn

    for child in module.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _callable(child)
        elif not isinstance(child, torch.jit.ScriptModule):
            yield child


class _Pass(threading.local):
    """The pass this thread is in."""

    open: bool = False
    depth: int = 0  # calls of the root inside the pass's own
    run: Any = None  # None: the pass is left out
    mode: Any = None  # what shows its sites
    outer: BaseException | None = None  # the exception being handled when it began


class _SitesOf:
    """The sites of a pass, on their way to the listener."""

    __slots__ = ("run", "taps")

    def __init__(self, taps: Taps, run: Any) -> None:
        self.taps, self.run = taps, run

    def entering(self, site: Site, tensor: Tensor) -> None:
        if not self.taps.off(site.name):
            self.taps.listener.entering(self.run, site, tensor)

    def leaving(self, site: Site, tensor: Tensor) -> None:
        if not self.taps.off(site.name):
            self.taps.listener.leaving(self.run, site, tensor)

    def refused(self, name: str, why: str) -> None:
        self.taps.listener.refused(self.run, name, why)

    def failed(self, place: str, error: Exception) -> None:
        self.taps.fault(place, error)


class Taps:
    """Hooks on a root module and its selected layers.

    Args:
        every: each k-th pass of the root is shown, counted per mode, the first included.
        sites: what sees the nonlinearities of a pass; None: they are not shown.

    Attributes:
        passes: of the root by mode, "eval", and of layers that ran outside of any, "eval fc".
        alone: mode -> submodules that ran outside of any pass of the root before it had one in that mode.
    """

    def __init__(
        self,
        root: nn.Module,
        layers: Mapping[str, nn.Module],
        listener: Listener,
        every: int,
        sites: _sites.Watcher | None = None,
    ) -> None:
        self.root, self.layers, self.listener, self.every = root, dict(layers), listener, every
        self.sites = sites
        self.passes: dict[str, int] = {}
        self.alone: dict[str, tuple[str, ...]] = {}
        self._known_alone: set[tuple[str, int]] = set()
        self._warned = False
        self.faults: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._pass = _Pass()
        self._handles: list[Any] = []

    @property
    def attached(self) -> bool:
        """Whether the hooks are on."""
        return bool(self._handles)

    def attach(self) -> None:
        """Hangs the hooks; does nothing when they hang."""
        if self._handles:
            return
        start, end = _Start(self), _End(self)
        handles = [self.root.register_forward_pre_hook(start, prepend=True, with_kwargs=True)]
        for name, module in self.layers.items():
            handles.append(module.register_forward_hook(_Probe(self, name)))
        if not self.layers:
            handles += [child.register_forward_pre_hook(_Alone(self)) for child in _callable(self.root)]
        placing = [] if self.sites is None else self.sites.placing()
        handles += [module.register_forward_hook(_Place(self)) for module in placing]
        handles.append(self.root.register_forward_hook(end, with_kwargs=True, always_call=True))
        self._handles = handles
        if self.sites is not None:
            self.sites.watching = True

    def detach(self) -> None:
        """Takes the hooks off and drops an open pass of this thread."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self.sites is not None:  # a pass of another thread meets no hook that would take its mode off
            self.sites.watching = False
        self._drop()

    def clear(self) -> None:
        """Forgets passes and faults."""
        with self._lock:
            self.passes.clear()
            self.faults.clear()
            self.alone.clear()
            self._known_alone.clear()

    def off(self, layer: str) -> bool:
        """Whether a layer's probe is switched off after too many faults."""
        return len(self.faults.get(layer, ())) >= PATIENCE

    def fault(self, place: str, error: Exception) -> None:
        """Counts an internal error, which must not reach the training, and logs the first of its place."""
        with self._lock:
            seen = self.faults.setdefault(place, [])
            first = not seen
            if len(seen) < PATIENCE:
                seen.append(_describe(error))
        if first:
            with contextlib.suppress(Exception):  # a handler of the user's may raise
                _log.warning("netassay: %s failed in %s and is left out: %s", place, type(self.root).__name__, seen[0])

    def _due(self, mode: str) -> bool:
        with self._lock:
            index = self.passes.get(mode, 0)
            self.passes[mode] = index + 1
        return index % self.every == 0

    def _start(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._pass.open:
            if _calls_in_progress(module) > 1:  # a root that calls itself
                self._pass.depth += 1
                return
            self._drop()  # a pass that KeyboardInterrupt tore open: torch calls no hook at its end
        mode = "train" if module.training else "eval"
        current = self._pass
        current.open, current.run, current.outer = True, None, sys.exc_info()[1]
        try:
            if self._due(mode):
                current.run = self.listener.begin(mode, args, kwargs)
            if self.sites is not None and current.run is not None:
                current.mode = self.sites.mode(_SitesOf(self, current.run))
                _sites.push(current.mode)
        except Exception as error:
            self.fault("the start of a pass", error)

    def _end(self) -> None:
        current = self._pass
        if not current.open:
            return
        if current.depth > 0:
            current.depth -= 1
            return
        self._close(failed=sys.exc_info()[1] is not current.outer)

    def _drop(self) -> None:
        if self._pass.open:
            self._close(failed=True)

    def _close(self, failed: bool) -> None:
        """Ends this thread's pass. Interrupted before its mode is off, the pass stays open, and is dropped later."""
        current = self._pass
        run, mode = current.run, current.mode
        try:
            if mode is not None:
                _sites.pop(mode)
            current.open, current.depth, current.run, current.mode, current.outer = False, 0, None, None, None
            if run is not None:
                (self.listener.rollback if failed else self.listener.commit)(run)
        except Exception as error:
            self.fault("the end of a pass", error)

    def observe(self, layer: str, module: nn.Module, output: object) -> None:
        current = self._pass
        if self.off(layer) or (current.open and current.run is None):
            return
        try:
            if current.open:
                self.listener.observe(current.run, layer, module, output)
            else:
                self._alone(module)
                self._observe_alone(layer, module, output)
        except Exception as error:
            self.fault(layer, error)

    def _place(self, module: nn.Module, output: object) -> None:
        mode = self._pass.mode
        if mode is not None:
            try:
                mode.sites.place(module, output)
            except Exception as error:
                self.fault("the axis of units", error)

    def _alone(self, module: nn.Module) -> None:
        """Takes note of a call outside of any pass of the root, under the outermost submodule that is being called."""
        mode = "train" if module.training else "eval"
        if self._pass.open or self.passes.get(mode) or (mode, id(module)) in self._known_alone:
            return
        try:
            names = {id(each): name for name, each in self.root.named_modules() if name}
            outermost = [names[id(each)] for each in _called() if id(each) in names][-1:]
            with self._lock:
                self._known_alone.add((mode, id(module)))
                known = self.alone.get(mode, ())
                self.alone[mode] = (*known, *(name for name in outermost if name not in known))
                loses = self.sites is not None or not (self.passes.get("train") or self.passes.get("eval"))
                warns = bool(outermost) and loses and not self._warned
                self._warned |= warns
            if warns:
                self._warn(outermost[0], mode)
        except Exception as error:
            self.fault("a call outside of any pass", error)

    def _warn(self, name: str, mode: str) -> None:
        """Warns once, and never raises, also where warnings are errors: this runs inside the user's forward."""
        root = type(self.root).__name__
        with contextlib.suppress(Exception):
            warnings.warn(
                f"netassay.watch: model.{name} ran outside of any pass of the root ({root}), which has not been called"
                f" in {mode} mode: watch model.{name}, whose forward runs, or call the root",
                UserWarning,
                stacklevel=2,
            )

    def _observe_alone(self, layer: str, module: nn.Module, output: object) -> None:
        """A layer called by itself, outside a pass of the root, is a pass of its own; KeyboardInterrupt drops it."""
        if not self._due(f"{'train' if module.training else 'eval'} {layer}"):
            return
        run = self.listener.begin("train" if module.training else "eval", (), {})
        if run is not None:
            self.listener.observe(run, layer, module, output)
            self.listener.commit(run)
