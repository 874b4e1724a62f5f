"""What each measure keeps of what a watch shows it: one small class per measure, the same protocol for all.

A recorder asks a probe for an empty state of the right size, updates it within a pass and joins it to the standing one
when the pass ends well; the watch asks for results, and for arrays to save.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netassay import saturation as _saturation
from netassay.base.errors import NonFinite, TooFewRows
from netassay.base.state import State
from netassay.complexity import Switching
from netassay.complexity import footprint as footprint_of_counts
from netassay.network import Distribution
from netassay.sources.live.device import DeviceMoments, DeviceSwitching
from netassay.sources.live.rows import Rows
from netassay.sources.live.sites import Site
from netassay.stats.identity import counted
from netassay.stats.moments import Moments, footprint

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Kept = NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Observation:
    """The rows of one call, detached; which of them to take, None for all; the site, where it is one."""

    rows: Rows
    keep: Kept = None
    site: Site | None = None

    @property
    def tensor(self) -> Tensor:
        """The rows in their own layout."""
        return self.rows.tensor


def on_host(tensor: Tensor) -> bool:
    """Whether a tensor is measured where it lies by the native core."""
    return tensor.device.type == "cpu"


def _samples(rows: Rows, keep: Kept) -> int:
    """How many samples keep a row; -1: every row is one."""
    axes = rows.leading
    if rows.time_first and len(axes) == 2:
        return counted(axes[::-1], None if keep is None else keep.reshape(axes).T.reshape(-1), None)
    return counted(axes, keep, None)


class Probe(ABC):
    """How one measure keeps what it is shown."""

    #: Under which its states are kept, and what they are on the host.
    measure: ClassVar[str]
    kept: ClassVar[type[State]]

    def refuses(self, seen: Observation) -> str:
        """Why this cannot be measured at all; "" if it can."""
        return ""

    @abstractmethod
    def footprint(self, seen: Observation, standing: Any) -> int:
        """Bytes that a state for this will use if it joins the standing one (None: there is none)."""

    @abstractmethod
    def make(self, seen: Observation) -> Any:
        """An empty state for this, where its tensor lies."""

    def ready(self, state: Any, seen: Observation, standing: Any) -> Any:
        """Prepares an empty state for the one that it will join."""
        return state

    @abstractmethod
    def differs(self, state: Any, seen: Observation) -> str:
        """Why a state cannot take this; "" where it can."""

    @abstractmethod
    def update(self, state: Any, seen: Observation) -> None:
        """Takes what is shown."""

    def spoiled(self, state: Any) -> bool:
        """Whether a state on the host has met a NaN or an infinity, where that costs one look; False elsewhere."""
        return False

    def join(self, standing: Any, passed: Any, later: list[tuple[Moments, Moments]]) -> Any:
        """Both states as one. The standing one may change only by a merge that is left to do, in `later`."""
        passed.merge(standing)
        return passed

    def spare(self, state: Any) -> bool:
        """Empties a state whose memory may serve the next pass; False where it may not."""
        state.clear()
        return True

    def host(self, state: Any) -> Any:
        """The state on the host."""
        return state

    @abstractmethod
    def results(self, state: Any) -> dict[str, Any]:
        """Results by their name in a row."""

    def pack(self, state: Any) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]]:
        """A state as configuration and arrays, which `kept` makes a state again."""
        host = self.host(state)
        return host.config(), host.tensors()


class SaturationProbe(Probe):
    """Moments of a layer's outputs."""

    measure, kept = "saturation", Moments

    def __init__(self, precision: str, delta: float) -> None:
        self.precision, self.delta = precision, delta

    def footprint(self, seen: Observation, standing: Moments | DeviceMoments | None) -> int:
        return footprint(seen.rows.width, precision=self.precision)

    def make(self, seen: Observation) -> Moments | DeviceMoments:
        if on_host(seen.tensor):
            return Moments(seen.rows.width, precision=self.precision, memory=float("inf"))
        return DeviceMoments(seen.rows.width, seen.tensor.device, self.precision)

    def differs(self, state: Moments | DeviceMoments, seen: Observation) -> str:
        width = seen.rows.width
        return "" if state.width == width else f"its width changed from {state.width} to {width}"

    def update(self, state: Moments | DeviceMoments, seen: Observation) -> None:
        rows, keep = seen.rows, seen.keep
        if isinstance(state, DeviceMoments):
            kept = None if keep is None else np.flatnonzero(keep)
            state.update(rows.tensor, layout=rows.layout, rows=kept, samples=_samples(rows, keep))
        else:
            samples = _samples(rows, keep)
            state.update(rows.tensor, layout=rows.layout, mask=keep, samples=None if samples < 0 else samples)

    def join(
        self,
        standing: Moments | DeviceMoments,
        passed: Moments | DeviceMoments,
        later: list[tuple[Moments, Moments]],
    ) -> Moments | DeviceMoments:
        """Joins on the device of the newest activations. On the host the existing object is updated, so that
        references to it stay valid."""
        if isinstance(passed, DeviceMoments):
            joined = DeviceMoments.like(standing, passed.device)
            joined.merge(passed)
            return joined
        moments = self.host(standing)
        later.append((moments, passed))
        return moments

    def spoiled(self, state: Moments | DeviceMoments) -> bool:
        return isinstance(state, Moments) and state.nonfinite > 0

    def spare(self, state: Moments | DeviceMoments) -> bool:
        return not isinstance(state, DeviceMoments) and super().spare(state)

    def host(self, state: Moments | DeviceMoments) -> Moments:
        return state.to_moments() if isinstance(state, DeviceMoments) else state

    def results(self, state: Moments | DeviceMoments) -> dict[str, Any]:
        """Where there are none the flag says why."""
        moments = self.host(state)
        try:
            spectrum = _saturation.spectrum(moments)
        except (TooFewRows, NonFinite) as error:
            why = "too_few_rows" if isinstance(error, TooFewRows) else "overflow"
            flags = (why, "nonfinite") if moments.nonfinite else (why,)
            n, none = moments.count, np.zeros(0)
            return {
                "saturation": _saturation.Saturation(
                    None, None, moments.width, self.delta, none, n, moments.samples, flags
                ),
                "effective_dimension": _saturation.EffectiveDimension(
                    None, None, None, None, None, n, moments.samples, flags
                ),
            }
        return {
            "saturation": _saturation.saturation(spectrum, self.delta),
            "effective_dimension": _saturation.effective_dimension(spectrum),
        }


class SwitchingProbe(Probe):
    """How often the units of a site switch, counted on what enters it.

    Args:
        positions: whether positions are units of their own beside channels.
    """

    measure, kept = "complexity", Switching
    #: Configurations and footprints that are remembered.
    MOST: ClassVar[int] = 256

    def __init__(self, positions: bool) -> None:
        self.positions = positions
        self._configs: dict[object, dict[str, Any]] = {}
        self._footprints: dict[object, int] = {}

    def refuses(self, seen: Observation) -> str:
        rule = _site(seen).rule
        if rule == "maxpool" and seen.keep is not None:
            return "a window of maxpool holds padding and what is none side by side (mask)"
        counted = on_host(seen.tensor) or rule in DeviceSwitching.RULES
        return "" if counted else f"{rule} is not counted on {seen.tensor.device.type}"

    def footprint(self, seen: Observation, standing: Switching | DeviceSwitching | None) -> int:
        site, shape, keeps = _site(seen), seen.tensor.shape, self._keeps_positions(seen, standing)
        key = (shape, seen.rows.layout, keeps, site.rule, *site.options.items())
        known = self._footprints.get(key)
        if known is None:
            if len(self._footprints) == self.MOST:
                self._footprints.clear()
            known = footprint_of_counts(shape, **{**self._options(seen), "positions": keeps})
            self._footprints[key] = known
        return known

    def make(self, seen: Observation) -> Switching | DeviceSwitching:
        state = Switching(memory=float("inf"), **self._options(seen))  # the recorder has the budget
        return state if on_host(seen.tensor) else DeviceSwitching(state, seen.tensor.device)

    def ready(
        self, state: Switching | DeviceSwitching, seen: Observation, standing: Switching | DeviceSwitching | None
    ) -> Switching | DeviceSwitching:
        """Positions of another shape would be counted in vain, at whatever size they come."""
        if self.positions and not self._keeps_positions(seen, standing):
            state.forget_positions()
        return state

    def _keeps_positions(self, seen: Observation, standing: Switching | DeviceSwitching | None) -> bool:
        if standing is None or not self.positions:
            return self.positions
        shape = seen.tensor.shape
        return standing.keeps_positions(shape[2:] if seen.rows.layout == "channels_first" else shape[1:-1])

    def _options(self, seen: Observation) -> dict[str, Any]:
        site = _site(seen)
        return {"rule": site.rule, "layout": _layout(seen), "positions": self.positions, **site.options}

    def differs(self, state: Switching | DeviceSwitching, seen: Observation) -> str:
        if state.units not in (0, seen.rows.width):
            return f"its units changed from {state.units} to {seen.rows.width}"
        options = self._options(seen)
        key = tuple(options.items())
        if key not in self._configs:
            if len(self._configs) == self.MOST:  # thresholds that change with every call
                self._configs.clear()
            self._configs[key] = Switching(**options).config()
        return "" if state.config() == self._configs[key] else "its rule changed between calls"

    def update(self, state: Switching | DeviceSwitching, seen: Observation) -> None:
        state.update(seen.tensor if seen.keep is None else _selected(seen))

    def join(
        self, standing: Switching | DeviceSwitching, passed: Switching | DeviceSwitching, later: list[Any]
    ) -> Switching | DeviceSwitching:
        if isinstance(passed, Switching):
            passed.merge(self.host(standing))
        else:
            passed.merge(standing)
        return passed

    def host(self, state: Switching | DeviceSwitching) -> Switching:
        return state.to_switching() if isinstance(state, DeviceSwitching) else state

    def results(self, state: Switching | DeviceSwitching) -> dict[str, Any]:
        """Without what each position has: of a large map that would be most of a report. `Watch.switching` keeps it."""
        found = self.host(state).result()
        return {"complexity": dataclasses.replace(found, position_bits=None, position_miller_madow=None)}


class ValuesProbe(Probe):
    """The distribution of values: outputs of layers, or of sites."""

    kept = Distribution
    #: Bytes for values whose magnitudes span 64 factors of two; far fewer as a rule.
    ROOM: ClassVar[int] = 1 << 16

    def refuses(self, seen: Observation) -> str:
        return "" if on_host(seen.tensor) else f"distributions are not kept on {seen.tensor.device.type}"

    def footprint(self, seen: Observation, standing: Distribution | None) -> int:
        return self.ROOM

    def make(self, seen: Observation) -> Distribution:
        return Distribution()

    def differs(self, state: Distribution, seen: Observation) -> str:
        return ""

    def update(self, state: Distribution, seen: Observation) -> None:
        state.update(seen.tensor if seen.keep is None else _selected(seen))

    def spoiled(self, state: Distribution) -> bool:
        return state.nonfinite > 0

    def results(self, state: Distribution) -> dict[str, Any]:
        """None where no value was finite."""
        try:
            return {self.measure: state.result()}
        except TooFewRows:
            return {self.measure: None}


class StrengthProbe(ValuesProbe):
    """Neuron strengths z = W a + b: the output of a layer."""

    measure = "neuron_strength"


class ActivationProbe(ValuesProbe):
    """Neuron activations a: the output of a nonlinearity."""

    measure = "neuron_activation"


def _site(seen: Observation) -> Site:
    assert seen.site is not None
    return seen.site


def _layout(seen: Observation) -> str:
    return "channels_first" if seen.rows.layout == "channels_first" else "channels_last"


def _selected(seen: Observation) -> Tensor:
    """The rows that are kept, (n, units)."""
    import torch

    tensor = seen.tensor
    if seen.rows.layout == "channels_first":
        tensor = tensor.movedim(1, -1)
    flat = tensor.reshape(-1, seen.rows.width)
    return flat[torch.from_numpy(seen.keep).to(flat.device)]


def flagged(results: Mapping[str, Any], flags: tuple[str, ...]) -> dict[str, Any]:
    """Results with what is to be known of how they came about."""
    return {
        name: None if result is None else dataclasses.replace(result, flags=result.flags + flags)
        for name, result in results.items()
    }
