"""What a watch keeps: outputs of layers in, one mergeable state per (layer, mode) out.

A pass gathers into states of its own, which join the standing ones only when the pass ends well.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from netassay.base import arrays, threads
from netassay.base.errors import ShapeError
from netassay.sources import layers as _layers
from netassay.sources.device import DeviceMoments
from netassay.stats.moments import Moments, footprint, merge_all

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import device, nn

Key: TypeAlias = tuple[str, str]
Positions: TypeAlias = Literal["all", "mean", "flatten"]


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
    """A layer's state in one mode, and what to know of how it came about.

    Attributes:
        calls: in all passes; most: in one pass. flags: "layout_guessed", "sampled", "unmasked".
    """

    moments: Moments | DeviceMoments
    calls: int = 0
    most: int = 0
    flags: frozenset[str] = frozenset()

    def host(self) -> Moments:
        """The state on the host."""
        return self.moments.to_moments() if isinstance(self.moments, DeviceMoments) else self.moments


@dataclass(slots=True)
class Run:
    """One pass: its mode, the padding mask (N, T), and what its layers have shown so far."""

    mode: str
    mask: NDArray[np.bool_] | None
    entries: dict[str, Entry] = field(default_factory=dict)
    draws: dict[str, int] = field(default_factory=dict)


class Recorder:
    """The listener behind `netassay.watch`; see sources/hooks.py for when it is called."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.entries: dict[Key, Entry] = {}
        self.left_out: dict[str, str] = {}
        self.draws: dict[str, int] = {}
        self._reserved: dict[object, int] = {}
        # Emptied states of past passes, by layer: a pass finds its memory where the last one left it.
        self._spare: dict[str, list[Moments]] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forgets all rows."""
        with self._lock:
            self.entries.clear()
            self.left_out.clear()
            self.draws.clear()
            self._reserved.clear()
            self._spare.clear()

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
            tensor, packed = _layers.tensor_of(module, output)
            why = "its output holds no tensor" if tensor is None else arrays.refusal(tensor)
            if why is None and tensor is not None and tensor.device.type == "mps":
                why = "device mps has no float64"
            if why is not None or tensor is None:
                self.left_out.setdefault(layer, why or "")
                return
            if tensor.ndim == 0:
                self.left_out.setdefault(layer, "its output is a scalar")
                return
            rows = _positions(_layers.rows_of(module, tensor), self.settings.positions)
            self._take(run, layer, rows, packed)

    def _take(self, run: Run, layer: str, rows: _layers.Rows, packed: bool) -> None:
        width, tensor = rows.width, rows.tensor
        if width == 0 or 0 in rows.leading:
            return
        entry = run.entries.get(layer) or self._entry(run.mode, layer, width, tensor.device)
        if entry is None:
            return
        if entry.moments.width != width:
            self.left_out[layer] = f"its width changed from {entry.moments.width} to {width}"
            return
        keep, flags = self._keep(run, layer, rows, packed)
        if isinstance(entry.moments, DeviceMoments):
            kept = None if keep is None else np.flatnonzero(keep)
            entry.moments.update(tensor, layout=rows.layout, rows=kept)
        else:
            entry.moments.update(tensor, layout=rows.layout, mask=keep)
        entry.calls = entry.most = entry.calls + 1
        entry.flags |= flags
        run.entries[layer] = entry

    def _entry(self, mode: str, layer: str, width: int, device: device) -> Entry | None:
        """An empty entry for this pass, or None where there is no memory for it or for the standing one."""
        standing = self.entries.get((layer, mode))
        if standing is not None and standing.moments.width != width:
            self.left_out[layer] = f"its width changed from {standing.moments.width} to {width}"
            return None
        need = footprint(width, precision=self.settings.precision)
        with self._lock:
            wanted: dict[object, int] = {(layer, mode): need, layer: need}
            more = sum(size for key, size in wanted.items() if key not in self._reserved)
            total = sum(self._reserved.values()) + more
            if total > self.settings.memory:
                self.left_out.setdefault(
                    layer,
                    f"width {width} needs {more / 1e9:.3g} GB more, beyond the budget of"
                    f" {self.settings.memory / 1e9:.3g} GB (memory)",
                )
                return None
            self._reserved.update(wanted)
            spare = self._spare.get(layer, [])
            if device.type == "cpu" and spare and spare[-1].width == width:
                return Entry(spare.pop())
        if device.type == "cpu":
            return Entry(Moments(width, precision=self.settings.precision, memory=float("inf")))
        return Entry(DeviceMoments(width, device, self.settings.precision))

    def _keep(
        self, run: Run, layer: str, rows: _layers.Rows, packed: bool
    ) -> tuple[NDArray[np.bool_] | None, frozenset[str]]:
        """Which rows to take, None for all, and the flags that follow."""
        flags = {"layout_guessed"} if rows.guessed else set()
        keep = None
        if self.settings.mask is not None and not packed:
            # Where N = T the shape cannot tell (N, T) from (T, N): then the layer's own kind decides.
            both = [] if run.mask is None else [run.mask.T, run.mask] if rows.time_first else [run.mask, run.mask.T]
            fits = next((mask for mask in both if mask.shape == rows.leading), None)
            if fits is None:
                flags.add("unmasked")
            else:
                keep = fits.reshape(-1)
        most = self.settings.max_rows
        count = math.prod(rows.leading) if keep is None else int(keep.sum())
        if most is not None and count > most:
            flags.add("sampled")
            candidates = np.arange(count) if keep is None else np.flatnonzero(keep)
            sampled = np.zeros(math.prod(rows.leading), dtype=np.bool_)
            sampled[self._generator(run, layer).choice(candidates, most, replace=False, shuffle=False)] = True
            keep = sampled
        return keep, frozenset(flags)

    def _generator(self, run: Run, layer: str) -> np.random.Generator:
        """A generator of our own for the next draw of a layer, the same after a failed pass or a resume."""
        place = f"{run.mode} {layer}"
        draw = self.draws.get(place, 0) + run.draws.get(place, 0)
        run.draws[place] = run.draws.get(place, 0) + 1
        return np.random.default_rng([self.settings.seed, zlib.crc32(place.encode()), draw])

    def commit(self, run: Run) -> None:
        # All that can fail comes first; then one native call merges every state, or is not reached.
        with self._lock:
            joined: dict[Key, Entry] = {}
            merges: list[tuple[Moments, Moments]] = []
            for layer, entry in run.entries.items():
                standing = self.entries.get((layer, run.mode))
                joined[layer, run.mode] = entry if standing is None else _joined(standing, entry, merges)
            draws = {place: self.draws.get(place, 0) + count for place, count in run.draws.items()}
            merge_all(merges, threads=threads.resolve(None))
            self.entries.update(joined)
            self.draws.update(draws)
            self._keep_memory(run, {id(entry.moments) for entry in joined.values()})

    def rollback(self, run: Run) -> None:
        with self._lock:
            self._keep_memory(run, set())

    def _keep_memory(self, run: Run, standing: set[int]) -> None:
        """Empties the states that a pass has made and that have not become standing ones."""
        entries, run.entries = run.entries, {}
        for layer, entry in entries.items():
            if not isinstance(entry.moments, DeviceMoments) and id(entry.moments) not in standing:
                entry.moments.clear()
                self._spare.setdefault(layer, []).append(entry.moments)


def _joined(standing: Entry, entry: Entry, merges: list[tuple[Moments, Moments]]) -> Entry:
    """Both as one, on the device of the newest activations; merges on the host are left to do, in `merges`."""
    moments: Moments | DeviceMoments
    if isinstance(entry.moments, DeviceMoments):
        moments = DeviceMoments.like(standing.moments, entry.moments.device)
        moments.merge(entry.moments)
    else:
        moments = standing.host()
        merges.append((moments, entry.moments))
    calls, most = standing.calls + entry.calls, max(standing.most, entry.most)
    return Entry(moments, calls, most, standing.flags | entry.flags)


def _positions(rows: _layers.Rows, positions: Positions) -> _layers.Rows:
    """A map's positions as the settings want them; other rows as they are."""
    tensor = rows.tensor
    if rows.layout != "channels_first" or tensor.ndim < 3 or positions == "all":
        return rows
    tensor = tensor.detach()
    if positions == "flatten":
        return _layers.Rows(tensor.flatten(1), "rows", guessed=rows.guessed)
    import torch

    wide = tensor if tensor.dtype == torch.float64 else tensor.float()
    return _layers.Rows(wide.flatten(2).mean(2), "rows", guessed=rows.guessed)
