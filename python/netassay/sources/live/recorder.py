"""What a watch keeps: what layers and sites show in, one mergeable state per (measure, layer or site, mode) out.

A pass gathers into states of its own, which join the standing ones only when the pass ends well.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from netassay.base import arrays, threads
from netassay.base.errors import ShapeError
from netassay.sources.live import rows as _rows
from netassay.sources.live.probes import Observation, Probe, on_host
from netassay.sources.live.rows import Rows
from netassay.sources.live.sites import Site
from netassay.sources.live.units import units_of
from netassay.stats.moments import Moments, merge_all

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

Positions: TypeAlias = Literal["all", "mean", "flatten"]


class Key(NamedTuple):
    """Whose state it is; call: of a site, None for a layer."""

    measure: str
    name: str
    call: int | None
    mode: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How rows are taken; see `netassay.watch`."""

    positions: Positions
    max_rows: int | None
    precision: str
    mask: Callable[..., Any] | None
    memory: float
    seed: int


@dataclass(slots=True)
class Entry:
    """A state, and what to know of how it came about.

    Attributes:
        calls: in all passes; most: in one pass. flags: "layout_guessed", "sampled", "unmasked".
        passes: that have shown it. first_nonfinite: which of them, counted from 1, was the first with a NaN or an
            infinity; None: none was, or its state is on a device, which is not waited for.
    """

    state: Any
    calls: int = 0
    most: int = 0
    flags: frozenset[str] = frozenset()
    passes: int = 0
    first_nonfinite: int | None = None


@dataclass(slots=True)
class Run:
    """One pass: its mode, the padding mask (N, T), and what has been shown so far."""

    mode: str
    mask: NDArray[np.bool_] | None
    entries: dict[Key, Entry] = field(default_factory=dict)
    draws: dict[str, int] = field(default_factory=dict)


class Recorder:
    """The listener behind `netassay.watch`; see hooks.py for when it is called.

    Args:
        of_layers: probes of layers' outputs; of_inputs, of_outputs: of what enters and leaves sites.
    """

    def __init__(
        self,
        settings: Settings,
        of_layers: Sequence[Probe] = (),
        of_inputs: Sequence[Probe] = (),
        of_outputs: Sequence[Probe] = (),
    ) -> None:
        self.settings = settings
        self.of_layers, self.of_inputs, self.of_outputs = of_layers, of_inputs, of_outputs
        self.probes = {probe.measure: probe for probe in (*of_layers, *of_inputs, *of_outputs)}
        self.entries: dict[Key, Entry] = {}
        self.kinds: dict[str, str] = {}  # of sites, by name
        self.left_out: dict[str, str] = {}
        self.draws: dict[str, int] = {}
        self._reserved: dict[Key, int] = {}  # bytes
        # Emptied states of past passes: a pass finds its memory where the last one left it.
        self._spare: dict[Key, list[Any]] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forgets all that was shown."""
        with self._lock:
            self.entries.clear()
            self.kinds.clear()
            self.left_out.clear()
            self.draws.clear()
            self._reserved.clear()
            self._spare.clear()

    def standing(self) -> list[tuple[Key, Entry]]:
        """What has been kept so far; of states that a pass may replace, copies."""
        with self._lock:
            return [
                (
                    key,
                    entry
                    if isinstance(entry.state, Moments)
                    else replace(entry, state=self.probes[key.measure].host(entry.state).copy()),
                )
                for key, entry in self.entries.items()
            ]

    def begin(self, mode: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Run:
        if self.settings.mask is None or not (args or kwargs):
            return Run(mode, None)
        mask = self.settings.mask(*args, **kwargs)
        array = np.asarray(mask.detach().cpu().numpy() if arrays.is_tensor(mask) else mask)
        if array.dtype != np.bool_ or array.ndim != 2:
            raise ShapeError(f"mask: got {array.dtype.name} of shape {array.shape}, expected booleans (N, T)")
        return Run(mode, array)

    def observe(self, run: Run, layer: str, module: nn.Module, output: object) -> None:
        import torch

        with torch._C.DisableTorchFunction():
            tensor, packed = _rows.tensor_of(module, output)
            if tensor is None:
                self.left_out.setdefault(layer, "its output holds no tensor")
                return
            if not self._readable(layer, tensor, "its output is a scalar"):
                return
            units = units_of(module, tuple(tensor.shape))
            if units.why:
                self.left_out.setdefault(layer, units.why)
                return
            rows = _rows.rows_of(module, tensor.detach(), units)
            for probe in self.of_layers:
                key = Key(probe.measure, layer, None, run.mode)
                self._take(run, key, probe, *self._of_layer(run, layer, rows, packed, probe))

    def entering(self, run: Run, site: Site, tensor: Tensor) -> None:
        self._site(run, site, tensor, self.of_inputs)

    def leaving(self, run: Run, site: Site, tensor: Tensor) -> None:
        self._site(run, site, tensor, self.of_outputs)

    def refused(self, run: Run, site: str, why: str) -> None:
        self.left_out.setdefault(site, why)

    def _site(self, run: Run, site: Site, tensor: Tensor, probes: Sequence[Probe]) -> None:
        if not probes or not self._readable(site.name, tensor, "its input is a scalar"):
            return
        self.kinds.setdefault(site.name, site.kind)
        rows = _rows.of_site(tensor.detach(), site.axis, site.guessed)
        keep, flags = self._masked(run, rows)
        if rows.guessed:
            flags.add("layout_guessed")
        for probe in probes:
            key = Key(probe.measure, site.name, site.call, run.mode)
            self._take(run, key, probe, Observation(rows, keep, site), flags)

    def _readable(self, name: str, tensor: Tensor, scalar: str) -> bool:
        why = arrays.refusal(tensor)
        if why is None and tensor.device.type == "mps":
            why = "device mps has no float64"
        if why is None and tensor.ndim == 0:
            why = scalar
        if why is not None:
            self.left_out.setdefault(name, why)
        return why is None

    def _of_layer(self, run: Run, layer: str, rows: Rows, packed: bool, probe: Probe) -> tuple[Observation, set[str]]:
        """What a layer shows a probe, and the flags that follow. A covariance may be of fewer rows, or other ones."""
        sampled = probe.measure == "saturation"
        if sampled:
            rows = _positions(rows, self.settings.positions)
        keep, flags = (None, set()) if packed else self._masked(run, rows)
        if rows.guessed:
            flags.add("layout_guessed")
        if sampled:
            keep = self._sampled(run, layer, rows, keep, flags)
        return Observation(rows, keep), flags

    def _take(self, run: Run, key: Key, probe: Probe, seen: Observation, flags: set[str]) -> None:
        rows = seen.rows
        if rows.width == 0 or 0 in rows.leading:
            return
        entry = run.entries.get(key)
        if entry is None:
            entry = self._entry(key, probe, seen)
        elif why := probe.differs(entry.state, seen):
            self.left_out[key.name] = why
            return
        if entry is None:
            return
        probe.update(entry.state, seen)
        entry.calls = entry.most = entry.calls + 1
        entry.flags |= flags
        run.entries[key] = entry

    def _entry(self, key: Key, probe: Probe, seen: Observation) -> Entry | None:
        """An empty entry for this pass, or None where there is no memory for it or for the standing one."""
        entry = self.entries.get(key)
        standing = None if entry is None else entry.state
        why = probe.refuses(seen) or (probe.differs(standing, seen) if standing is not None else "")
        if why:
            self.left_out[key.name] = why
            return None
        passing = _of_a_pass(key)
        with self._lock:
            if not self._reserve((key, passing), probe.footprint(seen, standing), seen):
                return None
            spare = self._spare.get(passing, [])
            fits = on_host(seen.tensor) and spare and not probe.differs(spare[-1], seen)
            state = spare.pop() if fits else probe.make(seen)
        return Entry(probe.ready(state, seen, standing))

    def _reserve(self, keys: Sequence[Key], need: int, seen: Observation) -> bool:
        """Takes from the budget what states need beyond what they have, for all of them or for none."""
        more = sum(max(0, need - self._reserved.get(key, 0)) for key in keys)
        if more == 0:
            return True
        if sum(self._reserved.values()) + more > self.settings.memory:
            self.left_out.setdefault(
                keys[0].name,
                f"{keys[0].measure} of width {seen.rows.width} needs {more / 1e9:.3g} GB more, beyond the budget of"
                f" {self.settings.memory / 1e9:.3g} GB (memory)",
            )
            return False
        self._reserved.update({key: max(need, self._reserved.get(key, 0)) for key in keys})
        return True

    def _masked(self, run: Run, rows: Rows) -> tuple[NDArray[np.bool_] | None, set[str]]:
        """Which rows are no padding, None for all, and the flags that follow."""
        if self.settings.mask is None:
            return None, set()
        # Where N = T the shape cannot tell (N, T) from (T, N): then the layer's own kind decides.
        both = [] if run.mask is None else [run.mask.T, run.mask] if rows.time_first else [run.mask, run.mask.T]
        fits = next((mask for mask in both if mask.shape == rows.leading), None)
        return (None, {"unmasked"}) if fits is None else (fits.reshape(-1), set())

    def _sampled(
        self, run: Run, layer: str, rows: Rows, keep: NDArray[np.bool_] | None, flags: set[str]
    ) -> NDArray[np.bool_] | None:
        """At most `max_rows` of the rows to keep; flagged "sampled"."""
        most = self.settings.max_rows
        count = math.prod(rows.leading) if keep is None else int(keep.sum())
        if most is None or count <= most:
            return keep
        flags.add("sampled")
        candidates = np.arange(count) if keep is None else np.flatnonzero(keep)
        sampled = np.zeros(math.prod(rows.leading), dtype=np.bool_)
        sampled[self._generator(run, layer).choice(candidates, most, replace=False, shuffle=False)] = True
        return sampled

    def _generator(self, run: Run, layer: str) -> np.random.Generator:
        """A generator of our own for the next draw of a layer, the same after a failed pass or a resume."""
        place = f"{run.mode} {layer}"
        draw = self.draws.get(place, 0) + run.draws.get(place, 0)
        run.draws[place] = run.draws.get(place, 0) + 1
        return np.random.default_rng([self.settings.seed, zlib.crc32(place.encode()), draw])

    def commit(self, run: Run) -> None:
        # All that can fail comes first, on states that only this pass has; then one native call merges the moments, or
        # is not reached.
        with self._lock:
            joined: dict[Key, Entry] = {}
            merges: list[tuple[Moments, Moments]] = []
            left: list[tuple[Key, Any]] = []
            for key, entry in run.entries.items():
                standing = self.entries.get(key)
                entry.passes = 1
                entry.first_nonfinite = 1 if self.probes[key.measure].spoiled(entry.state) else None
                joined[key] = entry if standing is None else self._joined(key, standing, entry, merges)
                left += [
                    (key, each.state)
                    for each in (standing, entry)
                    if each is not None and each.state is not joined[key].state
                ]
            draws = {place: self.draws.get(place, 0) + count for place, count in run.draws.items()}
            merge_all(merges, threads=threads.resolve(None))
            self.entries.update(joined)
            self.draws.update(draws)
            run.entries = {}
            self._keep_memory(left)

    def _joined(self, key: Key, standing: Entry, entry: Entry, merges: list[tuple[Moments, Moments]]) -> Entry:
        state = self.probes[key.measure].join(standing.state, entry.state, merges)
        calls, most = standing.calls + entry.calls, max(standing.most, entry.most)
        first = standing.first_nonfinite
        if first is None and entry.first_nonfinite is not None:
            first = standing.passes + entry.first_nonfinite
        return Entry(state, calls, most, standing.flags | entry.flags, standing.passes + entry.passes, first)

    def rollback(self, run: Run) -> None:
        with self._lock:
            entries, run.entries = run.entries, {}
            self._keep_memory([(key, entry.state) for key, entry in entries.items()])

    def _keep_memory(self, states: Sequence[tuple[Key, Any]]) -> None:
        """Empties states that nobody holds any more, for the next pass."""
        for key, state in states:
            if self.probes[key.measure].spare(state):
                self._spare.setdefault(_of_a_pass(key), []).append(state)


def _of_a_pass(key: Key) -> Key:
    """Whose the states of a pass are, which serve both modes."""
    return Key(key.measure, key.name, key.call, "")


def _positions(rows: Rows, positions: Positions) -> Rows:
    """A map's positions as the settings want them; other rows as they are."""
    tensor = rows.tensor
    if rows.layout != "channels_first" or tensor.ndim < 3 or positions == "all":
        return rows
    if positions == "flatten":
        return Rows(tensor.flatten(1), "rows", guessed=rows.guessed)
    import torch

    wide = tensor if tensor.dtype == torch.float64 else tensor.float()
    return Rows(wide.flatten(2).mean(2), "rows", guessed=rows.guessed)
