"""project: a model runs with its layers' outputs cut down to the directions that carry their variance."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from netassay import saturation as _saturation
from netassay.base import arrays
from netassay.base.errors import (
    DomainError,
    NonFinite,
    NothingObserved,
    SelectionError,
    ShapeError,
    TooFewRows,
    UnsupportedLayout,
)
from netassay.report import Report
from netassay.sources import layers as _layers
from netassay.sources.live.device import full_float32
from netassay.sources.live.hooks import Hook
from netassay.sources.live.rows import tensor_of, with_tensor
from netassay.sources.live.units import units_of
from netassay.stats.moments import Moments
from netassay.verbs.watch import Watch

if TYPE_CHECKING:
    from torch import Tensor, device, dtype, nn


@dataclass(frozen=True, slots=True)
class Projection:
    """The subspace behind one layer.

    Attributes:
        dimension: k, directions kept, 0 <= k <= d; 0 for a constant layer, which then puts out its mean.
        width: d, units.
        mode: of the state it was made from, "eval" or "train"; None where the mapping named none.
    """

    dimension: int
    width: int
    mode: str | None

    @property
    def saturation(self) -> float:
        """k / d, dimensionless."""
        return self.dimension / self.width


@dataclass(frozen=True, slots=True)
class Projections:
    """What `netassay.project` has put behind a model's layers.

    Attributes:
        layers: name -> Projection, in the order of the states.
        delta: share of variance kept.
        random: whether the subspaces are random ones of the same dimensions.
    """

    layers: Mapping[str, Projection]
    delta: float
    random: bool


@contextmanager
def project(
    model: nn.Module,
    states: Watch | Mapping[Any, Moments],
    *,
    delta: float = 0.99,
    layers: object = None,
    random: bool = False,
    seed: int = 0,
) -> Iterator[Projections]:
    """Puts a projection behind layers of a live model, to see what the model can do without the rest of their width.

    x' = (x - m) E E^T + m per row x of a layer's output, m (d,) the mean of the layer's state and E (d, k) the leading
    k eigenvectors of its covariance, k as `netassay.saturation.saturation` counts it for delta. Rows and units are
    those that `watch` takes: tokens, positions of maps, time steps (padding too). Of a recurrent or an attention layer
    the first output is projected, not its hidden state or weights; of a recurrent cell h, which feeds its next step.
    With delta=1 outputs change within rounding on the rows that the state has seen.

    Computed in float64 for float64 outputs, else in float32 (autocast and TF32 off); dtype, device and strides of the
    output stay, gradients flow through. No parameter changes, and at the end of the context, also by an exception, the
    hooks are gone. Copies of the model made meanwhile carry none. A watch that was attached before sees the layers'
    own outputs, made of projected inputs (pause it to keep its states as they are); one attached inside sees them
    projected.

    Args:
        states: a Watch, or its `states`: (name, mode) -> Moments, of which "eval" is taken before "train"; or
            name -> Moments. Not a Report: it keeps eigenvalues and no eigenvectors.
        delta: share of each layer's variance to keep.
        layers: None for every layer that has a state, else patterns as for `watch`; each needs a state.
        random: the baseline: random subspaces of the same k about the same mean.
        seed: of the random subspaces; each is drawn by seed and layer name alone.

    Yields:
        Projections: `layers[name]` tells dimension, width, saturation.

    Raises:
        TypeError: a Report, or anything else that is no state. NothingObserved: no states. SelectionError: a
        name that the model does not have, or a layer without a state. TooFewRows, NonFinite: a layer's state has no
        eigenvalues; leave it out by `layers`. UnsupportedLayout: a compiled model. DomainError: delta or seed outside
        its domain. In the model's forward: ShapeError where a layer's output has another width than its state,
        UnsupportedLayout where it is no dense floating-point tensor.
    """
    _layers.checked(model, "project")
    if not 0 < delta <= 1:
        raise DomainError(f"project: got delta={delta!r}, expected 0 < delta <= 1")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise DomainError(f"project: got seed={seed!r}, expected an integer of at least 0")
    if _layers.compiled(model):
        raise UnsupportedLayout("project: got a compiled model, whose hooks may not run; expected the uncompiled one")
    root, _ = _layers.unwrap(model)
    projections: dict[str, Projection] = {}
    hooks: list[tuple[nn.Module, _Project]] = []
    for name, (mode, module, moments) in _chosen(root, _states(states), layers).items():
        k = _dimension(name, moments, delta)
        basis = _random(moments.width, k, [seed, zlib.crc32(name.encode())]) if random else _leading(moments, k)
        projections[name] = Projection(k, moments.width, mode)
        hooks.append((module, _Project(name, moments.mean, basis)))
    with ExitStack() as stack:
        for module, hook in hooks:
            stack.callback(module.register_forward_hook(hook).remove)
        yield Projections(MappingProxyType(projections), delta, random)


class _Project(Hook):
    """Returns a layer's output projected.

    Args:
        mean: (d,) float64. basis: (d, k) float64, orthonormal columns.
    """

    __slots__ = ("_copies", "basis", "layer", "mean")
    unscriptable = "torch.jit.script cannot compile a projected model: leave the context of netassay.project first"

    def __init__(self, layer: str, mean: np.ndarray[Any, Any], basis: np.ndarray[Any, Any]) -> None:
        self.layer, self.mean, self.basis = layer, mean, basis
        self._copies: dict[tuple[device, dtype], tuple[Tensor, Tensor]] = {}

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: object) -> Any:
        tensor, _ = tensor_of(module, output)
        why = "no tensor in it" if tensor is None else arrays.refusal(tensor)
        if why is None and tensor is not None and tensor.ndim == 0:
            why = "a scalar"
        if why is not None or tensor is None:
            raise UnsupportedLayout(f"project: layer {self.layer!r}: got an output with {why}, expected a dense tensor")
        units = units_of(module, tuple(tensor.shape))
        if units.why:
            raise UnsupportedLayout(f"project: layer {self.layer!r}: {units.why}")
        return with_tensor(output, self._projected(tensor, units.axis))

    def _projected(self, tensor: Tensor, axis: int) -> Tensor:
        import torch

        if tensor.shape[axis] != len(self.mean):
            raise ShapeError(
                f"project: layer {self.layer!r}: got an output of width {tensor.shape[axis]}, expected"
                f" {len(self.mean)} as in its state (of the same model, not by positions='flatten')"
            )
        mean, basis = self._on(tensor)
        with torch.autocast(tensor.device.type, enabled=False), full_float32(tensor.device):
            x = tensor.movedim(axis, -1)
            projected = (x.to(mean.dtype) - mean) @ basis @ basis.T + mean
            # a copy of the layer's own dtype and strides: the model may view it
            return torch.empty_like(tensor).copy_(projected.movedim(-1, axis))

    def _on(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and basis where the tensor is, in the dtype to compute in."""
        import torch

        wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        key = (tensor.device, wide)
        if key not in self._copies:
            with torch.inference_mode(False):  # made in inference mode, they could not serve a training step
                mean, basis = (torch.from_numpy(a).to(wide).to(tensor.device) for a in (self.mean, self.basis))
                self._copies[key] = mean, basis
        return self._copies[key]


def _states(states: object) -> dict[str, tuple[str | None, Moments]]:
    """Layer -> mode and state, "eval" before "train"."""
    if isinstance(states, Report):
        kept = "which keeps eigenvalues and no eigenvectors"
        raise TypeError(f"project: got a Report, {kept}; expected a Watch or its states")
    if isinstance(states, Watch):
        states = states.states
    if not isinstance(states, Mapping):
        expected = "expected a Watch, its states or name -> Moments"
        raise TypeError(f"project: got {type(states).__name__} for states, {expected}")
    found: dict[str, tuple[str | None, Moments]] = {}
    for key, moments in states.items():
        name, mode = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
        if not isinstance(name, str) or mode not in ("train", "eval", None) or not isinstance(moments, Moments):
            raise TypeError(
                f"project: got a state {key!r}: {type(moments).__name__}, expected (name, mode) or name -> Moments"
            )
        if name not in found or mode == "eval":
            found[name] = (mode, moments)
    if not found:
        raise NothingObserved("project: got no states; expected those of a watch under which the model has run")
    return found


def _chosen(
    root: nn.Module, states: Mapping[str, tuple[str | None, Moments]], patterns: object
) -> dict[str, tuple[str | None, nn.Module, Moments]]:
    """Name -> mode, module and state of the layers to project, each module once."""
    modules = _layers.named(root)
    for name in states:
        if name not in modules:
            raise SelectionError(f"project: got a state of {name!r}, which {type(root).__name__} does not have")
    names = {id(modules[name]): name for name in states}
    if patterns is not None:
        selected = _layers.select(root, patterns)
        without = [name for name, layer in selected.items() if id(layer.module) not in names]
        if without:
            raise SelectionError(f"project: no state of {', '.join(map(repr, without))}; expected layers that have one")
        wanted = {id(layer.module) for layer in selected.values()}
        names = {key: name for key, name in names.items() if key in wanted}
    return {name: (states[name][0], modules[name], states[name][1]) for name in names.values()}


def _dimension(name: str, moments: Moments, delta: float) -> int:
    try:
        return _saturation.saturation(moments, delta).dimension or 0
    except (TooFewRows, NonFinite) as error:
        raise type(error)(f"project: layer {name!r}: {error}; layers={['*', '!' + name]!r} leaves it out") from error


def _leading(moments: Moments, k: int) -> np.ndarray[Any, Any]:
    """(d, k), the eigenvectors of the covariance's k largest eigenvalues, by torch's LAPACK in float64."""
    import torch

    with torch.inference_mode():
        vectors: np.ndarray[Any, Any] = torch.linalg.eigh(torch.from_numpy(moments.covariance())).eigenvectors.numpy()
    return np.ascontiguousarray(vectors[:, moments.width - k :])


def _random(width: int, k: int, seed: list[int]) -> np.ndarray[Any, Any]:
    """(d, k), an orthonormal basis of a subspace drawn uniformly."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, k)))[0]
