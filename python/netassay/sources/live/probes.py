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
from netassay.stats.moments import Moments, footprint

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Kept = NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Shown:
    """What one call shows: rows of units, detached; which to take of them, None for all; the site, where it is one."""

    rows: Rows
    keep: Kept = None
    site: Site | None = None

    @property
    def tensor(self) -> Tensor:
        """Of the rows' own layout."""
        return self.rows.tensor


def on_host(tensor: Tensor) -> bool:
    """Whether a tensor is measured where it lies by the native core."""
    return tensor.device.type == "cpu"


class Probe(ABC):
    """How one measure keeps what it is shown."""

    #: Under which its states are kept, and what they are on the host.
    measure: ClassVar[str]
    kept: ClassVar[type[State]]

    def refuses(self, shown: Shown) -> str:
        """Why this cannot be measured at all; "" where it can."""
        return ""

    @abstractmethod
    def footprint(self, shown: Shown, standing: Any) -> int:
        """Bytes that a state for this comes to take, if it joins the standing one (None: there is none)."""

    @abstractmethod
    def make(self, shown: Shown) -> Any:
        """An empty state for this, where its tensor lies."""

    def ready(self, state: Any, shown: Shown, standing: Any) -> Any:
        """The empty state, told what it will join."""
        return state

    @abstractmethod
    def differs(self, state: Any, shown: Shown) -> str:
        """Why a state cannot take this; "" where it can."""

    @abstractmethod
    def update(self, state: Any, shown: Shown) -> None:
        """Takes what is shown."""

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

    def footprint(self, shown: Shown, standing: Moments | DeviceMoments | None) -> int:
        return footprint(shown.rows.width, precision=self.precision)

    def make(self, shown: Shown) -> Moments | DeviceMoments:
        if on_host(shown.tensor):
            return Moments(shown.rows.width, precision=self.precision, memory=float("inf"))
        return DeviceMoments(shown.rows.width, shown.tensor.device, self.precision)

    def differs(self, state: Moments | DeviceMoments, shown: Shown) -> str:
        width = shown.rows.width
        return "" if state.width == width else f"its width changed from {state.width} to {width}"

    def update(self, state: Moments | DeviceMoments, shown: Shown) -> None:
        rows, keep = shown.rows, shown.keep
        if isinstance(state, DeviceMoments):
            state.update(rows.tensor, layout=rows.layout, rows=None if keep is None else np.flatnonzero(keep))
        else:
            state.update(rows.tensor, layout=rows.layout, mask=keep)

    def join(
        self,
        standing: Moments | DeviceMoments,
        passed: Moments | DeviceMoments,
        later: list[tuple[Moments, Moments]],
    ) -> Moments | DeviceMoments:
        """On the device of the newest activations. On the host the standing one goes on, for whoever holds it."""
        if isinstance(passed, DeviceMoments):
            joined = DeviceMoments.like(standing, passed.device)
            joined.merge(passed)
            return joined
        moments = self.host(standing)
        later.append((moments, passed))
        return moments

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
                "saturation": _saturation.Saturation(None, None, moments.width, self.delta, none, n, flags),
                "effective_dimension": _saturation.EffectiveDimension(None, None, None, None, None, n, flags),
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

    def refuses(self, shown: Shown) -> str:
        rule = _site(shown).rule
        if rule == "maxpool" and shown.keep is not None:
            return "a window of maxpool holds padding and what is none side by side (mask)"
        counted = on_host(shown.tensor) or rule in DeviceSwitching.RULES
        return "" if counted else f"{rule} is not counted on {shown.tensor.device.type}"

    def footprint(self, shown: Shown, standing: Switching | DeviceSwitching | None) -> int:
        site, shape, keeps = _site(shown), shown.tensor.shape, self._keeps_positions(shown, standing)
        key = (shape, shown.rows.layout, keeps, site.rule, *site.options.items())
        known = self._footprints.get(key)
        if known is None:
            if len(self._footprints) == self.MOST:
                self._footprints.clear()
            known = footprint_of_counts(shape, **{**self._options(shown), "positions": keeps})
            self._footprints[key] = known
        return known

    def make(self, shown: Shown) -> Switching | DeviceSwitching:
        state = Switching(memory=float("inf"), **self._options(shown))  # the recorder has the budget
        return state if on_host(shown.tensor) else DeviceSwitching(state, shown.tensor.device)

    def ready(
        self, state: Switching | DeviceSwitching, shown: Shown, standing: Switching | DeviceSwitching | None
    ) -> Switching | DeviceSwitching:
        """Positions of another shape would be counted in vain, at whatever size they come."""
        if self.positions and not self._keeps_positions(shown, standing):
            state.forget_positions()
        return state

    def _keeps_positions(self, shown: Shown, standing: Switching | DeviceSwitching | None) -> bool:
        if standing is None or not self.positions:
            return self.positions
        shape = shown.tensor.shape
        return standing.keeps_positions(shape[2:] if shown.rows.layout == "channels_first" else shape[1:-1])

    def _options(self, shown: Shown) -> dict[str, Any]:
        site = _site(shown)
        return {"rule": site.rule, "layout": _layout(shown), "positions": self.positions, **site.options}

    def differs(self, state: Switching | DeviceSwitching, shown: Shown) -> str:
        if state.units not in (0, shown.rows.width):
            return f"its units changed from {state.units} to {shown.rows.width}"
        options = self._options(shown)
        key = tuple(options.items())
        if key not in self._configs:
            if len(self._configs) == self.MOST:  # thresholds that change with every call
                self._configs.clear()
            self._configs[key] = Switching(**options).config()
        return "" if state.config() == self._configs[key] else "its rule changed between calls"

    def update(self, state: Switching | DeviceSwitching, shown: Shown) -> None:
        state.update(shown.tensor if shown.keep is None else _selected(shown))

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
    """How values are distributed: those that layers put out, or those that sites do."""

    kept = Distribution
    #: Bytes for values whose magnitudes span 64 factors of two; far fewer as a rule.
    ROOM: ClassVar[int] = 1 << 16

    def refuses(self, shown: Shown) -> str:
        return "" if on_host(shown.tensor) else f"distributions are not kept on {shown.tensor.device.type}"

    def footprint(self, shown: Shown, standing: Distribution | None) -> int:
        return self.ROOM

    def make(self, shown: Shown) -> Distribution:
        return Distribution()

    def differs(self, state: Distribution, shown: Shown) -> str:
        return ""

    def update(self, state: Distribution, shown: Shown) -> None:
        state.update(shown.tensor if shown.keep is None else _selected(shown))

    def results(self, state: Distribution) -> dict[str, Any]:
        """None where no value was finite."""
        try:
            return {self.measure: state.result()}
        except TooFewRows:
            return {self.measure: None}


class StrengthProbe(ValuesProbe):
    """Neuron strengths z = W a + b: what a layer puts out."""

    measure = "neuron_strength"


class ActivationProbe(ValuesProbe):
    """Neuron activations a: what a nonlinearity puts out."""

    measure = "neuron_activation"


def _site(shown: Shown) -> Site:
    assert shown.site is not None
    return shown.site


def _layout(shown: Shown) -> str:
    return "channels_first" if shown.rows.layout == "channels_first" else "channels_last"


def _selected(shown: Shown) -> Tensor:
    """The rows that are kept, (n, units)."""
    import torch

    tensor = shown.tensor
    if shown.rows.layout == "channels_first":
        tensor = tensor.movedim(1, -1)
    flat = tensor.reshape(-1, shown.rows.width)
    return flat[torch.from_numpy(shown.keep).to(flat.device)]


def flagged(results: Mapping[str, Any], flags: tuple[str, ...]) -> dict[str, Any]:
    """Results with what is to be known of how they came about."""
    return {
        name: None if result is None else dataclasses.replace(result, flags=result.flags + flags)
        for name, result in results.items()
    }
