"""watch: a model is measured while it runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from netassay import saturation as _saturation
from netassay.base import memory as _memory
from netassay.base import statefile, threads
from netassay.base.errors import DomainError, NonFinite, NothingObserved, StateError, TooFewRows
from netassay.report import Coverage, Report, Row, Skipped, findings
from netassay.sources import layers as _layers
from netassay.sources.hooks import Taps
from netassay.stats.moments import Moments
from netassay.verbs.provenance import provenance
from netassay.verbs.recorder import Entry, Key, Positions, Recorder, Settings

if TYPE_CHECKING:
    from torch import nn

_MEASURES = ("saturation",)
_NEVER = (
    "never observed: its forward did not run as a module call while watched (a functional call such as F.linear,"
    " .forward(), a compiled or scripted module, or an attention fast path)"
)


def watch(
    model: nn.Module,
    *,
    layers: object = "*",
    measures: tuple[str, ...] = ("saturation",),
    positions: Positions = "all",
    max_rows: int | None = None,
    every: int = 1,
    delta: float = 0.99,
    precision: str = "high",
    mask: Callable[..., Any] | None = None,
    memory: float | None = None,
    seed: int = 0,
) -> Watch:
    """Measures a model's layers while it runs, in training and in evaluation, without changing what it computes.

    Statistics are kept per (layer, mode), mode "train" or "eval" as the model's `training` flag is when a pass
    starts. A pass whose forward raises leaves nothing behind.

    Args:
        layers: a glob on qualified names (fnmatch; * crosses dots), a module type, or a sequence of them. "!"
            excludes, the last match wins. "*" (and other globs): linear, convolution, recurrent, embedding and
            attention layers, parametrized ones too; others when a name without wildcards or a type names them, or
            when a glob matches nothing else.
        measures: ("saturation",).
        positions: of maps (N, C, *S): "all" makes every position a row, "mean" the spatial mean, "flatten" one row of
            C*S.
        max_rows: rows per layer and call at most, a seeded uniform subset.
        every: each k-th pass of the model, counted per mode.
        delta: share of variance for saturation.
        precision: "high" or "exact", see `Moments`.
        mask: called with the model's inputs; returns booleans (N, T), False for padding.
        memory: bytes that all states together may take; None: a quarter of what is free. A layer beyond it is not
            measured.
        seed: of max_rows.

    Returns:
        A Watch, attached from now on; as a context manager it is closed at the end and still gives its report.

    Raises:
        SelectionError: a pattern that matches nothing. DomainError: an option outside its domain. TypeError: no module.
    """
    return Watch(
        model,
        layers=layers,
        measures=measures,
        every=every,
        delta=delta,
        settings=Settings(
            positions, max_rows, precision, mask, _memory.available() / 4 if memory is None else float(memory), seed
        ),
    )


class Watch:
    """A model under measurement; made by `netassay.watch`."""

    def __init__(
        self,
        model: nn.Module,
        *,
        layers: object,
        measures: tuple[str, ...],
        every: int,
        delta: float,
        settings: Settings,
    ) -> None:
        from torch import nn

        if not isinstance(model, nn.Module):
            raise TypeError(f"watch: got {type(model).__name__}, expected a torch.nn.Module")
        measures = (measures,) if isinstance(measures, str) else tuple(measures)
        _require(
            bool(measures) and set(measures) <= set(_MEASURES), "measures", measures, f"one or more of {_MEASURES}"
        )
        _require(
            settings.positions in ("all", "mean", "flatten"),
            "positions",
            settings.positions,
            "'all', 'mean' or 'flatten'",
        )
        _require(settings.precision in ("high", "exact"), "precision", settings.precision, "'high' or 'exact'")
        _require(_whole(every), "every", every, "an integer of at least 1")
        _require(
            settings.max_rows is None or _whole(settings.max_rows), "max_rows", settings.max_rows, "at least 1 or None"
        )
        _require(0 < delta <= 1, "delta", delta, "0 < delta <= 1")
        _require(settings.memory >= 0, "memory", settings.memory, "bytes, at least 0, or None")
        _require(_whole(settings.seed, least=0), "seed", settings.seed, "an integer of at least 0")
        _require(settings.mask is None or callable(settings.mask), "mask", settings.mask, "a callable or None")
        root, self._wrappers = _layers.unwrap(model)
        self._layers = _layers.select(root, layers)
        self._delta, self._measures = delta, measures
        self._recorder = Recorder(settings)
        modules = {name: layer.module for name, layer in self._layers.items()}
        self._taps = Taps(root, modules, self._recorder, every)
        self._closed = False
        self._taps.attach()

    def __enter__(self) -> Watch:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def pause(self) -> None:
        """Takes the hooks off; `resume` puts them back."""
        self._taps.detach()

    def resume(self) -> None:
        """Puts the hooks back. Raises RuntimeError after close."""
        self._open()
        self._taps.attach()

    def close(self) -> None:
        """Takes the hooks off for good; the model is as it was, and the report stays available."""
        self._closed = True
        self._taps.detach()

    def reset(self) -> None:
        """Forgets all rows and counts, as if the watch had just been made."""
        self._recorder.clear()
        self._taps.passes.clear()
        self._taps.faults.clear()

    def _open(self) -> None:
        if self._closed:
            raise RuntimeError("watch: got a closed watch, expected an open one; make a new one with netassay.watch")

    @property
    def states(self) -> Mapping[Key, Moments]:
        """(layer, mode) -> Moments, in order of first call; live on the host, so copy one to keep it as it is."""
        return {key: entry.host() for key, entry in self._entries()}

    def _entries(self) -> list[tuple[Key, Entry]]:
        return list(self._recorder.entries.items())

    def report(self) -> Report:
        """What has been measured so far. Changes nothing; the watch goes on.

        Raises:
            NothingObserved: no layer has shown anything; the message says why.
        """
        entries = self._entries()
        if not entries:
            raise NothingObserved(self._nothing())
        rows = tuple(self._row(name, mode, entry) for (name, mode), entry in entries)
        return Report(
            layers=rows,
            coverage=self._coverage({name for (name, _), _ in entries}, {mode for (_, mode), _ in entries}),
            totals=_totals(rows),
            findings=findings(rows),
            provenance=self._provenance(),
            watch=self,
        )

    def _row(self, name: str, mode: str, entry: Entry) -> Row:
        layer = self._layers[name]
        moments = entry.host()
        flags = tuple(sorted(entry.flags)) + (("several_calls",) if entry.most > 1 else ())
        results = _results(moments, self._delta)
        return Row(
            name=name,
            call=None,
            mode="train" if mode == "train" else "eval",
            kind=layer.kind,
            shape=_layers.weight_shape(layer.module),
            parameters=sum(_layers.parameters([layer.module]).values()),
            calls=entry.calls,
            measures={key: dataclasses.replace(result, flags=result.flags + flags) for key, result in results.items()},
        )

    def _coverage(self, measured: set[str], modes: set[str]) -> Coverage:
        root = self._taps.root
        faults = self._taps.faults
        skipped = tuple(Skipped(name, self._reason(name)) for name in self._layers if name not in measured)
        notes = [f"no {mode} pass was observed" for mode in ("train", "eval") if mode not in modes]
        notes += [
            f"{place}: {errors[0]}" + (" (switched off; its numbers stop there)" if self._taps.off(place) else "")
            for place, errors in faults.items()
            if place in measured or place not in self._layers
        ]
        notes += [f"{name}: calls left out: {why}" for name, why in self._recorder.left_out.items() if name in measured]
        if "eval" in modes and any(type(m).__name__ in _FAST_PATHS for m in root.modules()):
            notes.append("hooks take attention layers off their fast path in eval mode: outputs may differ by rounding")
        whole = _layers.parameters([root])
        part = _layers.parameters(self._layers[name].module for name in measured)
        return Coverage(
            measured=len(measured),
            skipped=skipped,
            parameters_measured=sum(part.values()),
            parameters_total=sum(whole.values()),
            aliases={layer.name: layer.aliases for layer in self._layers.values() if layer.aliases},
            notes=tuple(notes),
        )

    def _reason(self, name: str) -> str:
        faults = self._taps.faults.get(name)
        if faults:
            return f"failed: {faults[0]}"
        if name in self._recorder.left_out:
            return self._recorder.left_out[name]
        if self._compiled():
            return "never observed: the model runs compiled; watch it uncompiled"
        return _NEVER

    def _compiled(self) -> bool:
        return "OptimizedModule" in self._wrappers or _layers.compiled(self._taps.root)

    def _nothing(self) -> str:
        reasons = {self._reason(name) for name in self._layers}
        for place, errors in self._taps.faults.items():
            reasons.add(f"{place}: {errors[0]}")
        passes = sum(count for mode, count in self._taps.passes.items() if mode in ("train", "eval"))
        name = type(self._taps.root).__name__
        seen = f"in {passes} passes of {name}" if passes else f"no forward pass of {name} ran while watched"
        return f"watch.report: nothing was observed: {seen}: " + "; ".join(sorted(reasons))

    def _provenance(self) -> dict[str, Any]:
        import torch

        return provenance(
            source=f"watch {type(self._taps.root).__name__}",
            threads=threads.resolve(None),
            wrappers=self._wrappers,
            fingerprint=_layers.fingerprint(self._taps.root),
            lapack=f"torch {torch.__version__}",
            seed=self._recorder.settings.seed,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes all states and counters to one file, whole or not at all; `restore` continues from it, bit for bit."""
        entries = self._entries()
        tensors: dict[str, Any] = {}
        kept = []
        for index, ((name, mode), entry) in enumerate(entries):
            moments = entry.host()
            tensors.update({f"{index}.{part}": value for part, value in moments.tensors().items()})
            kept.append(
                {
                    "layer": name,
                    "mode": mode,
                    "calls": entry.calls,
                    "most": entry.most,
                    "flags": sorted(entry.flags),
                    "width": moments.width,
                }
            )
        progress: dict[str, Any] = {"passes": self._taps.passes, "draws": self._recorder.draws, "entries": kept}
        statefile.save(path, kind="watch", config={"watch": self._config(), "progress": progress}, tensors=tensors)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Continues from a file that `save` wrote on a watch of the same configuration; replaces what has been seen.

        Raises:
            StateError: no such file of a watch, damaged, or made with another model or other options; nothing changes.
        """
        config, tensors = statefile.load(path, kind="watch")
        mine, theirs = self._config(), config.get("watch")
        if theirs != mine:
            differs = sorted(k for k in mine if not isinstance(theirs, dict) or theirs.get(k) != mine[k])
            raise StateError(
                f"watch.restore: {os.fspath(path)}: made with another {', '.join(differs)}; expected the same"
            )
        progress = config["progress"]
        entries: dict[Key, Entry] = {}
        for index, kept in enumerate(progress["entries"]):
            parts = {name.split(".", 1)[1]: value for name, value in tensors.items() if name.startswith(f"{index}.")}
            state = {"width": kept["width"], "precision": self._recorder.settings.precision, "fourth": False}
            entries[kept["layer"], kept["mode"]] = Entry(
                Moments.from_tensors(state, parts), kept["calls"], kept["most"], frozenset(kept["flags"])
            )
        self.reset()
        self._recorder.entries.update(entries)
        self._recorder.draws.update(progress["draws"])
        self._taps.passes.update(progress["passes"])

    def _config(self) -> dict[str, Any]:
        settings = self._recorder.settings
        return {
            "model": _layers.fingerprint(self._taps.root),
            "layers": list(self._layers),
            "measures": list(self._measures),
            "positions": settings.positions,
            "max_rows": settings.max_rows,
            "every": self._taps.every,
            "precision": settings.precision,
            "mask": settings.mask is not None,
            "seed": settings.seed,
        }

    def __reduce__(self) -> str:
        raise TypeError(
            "a Watch cannot be copied or pickled: keep it outside the model; save() writes what it has seen"
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "watching" if self._taps.attached else "paused"
        return f"<Watch of {type(self._taps.root).__name__}: {len(self._layers)} layers, {state}>"


_FAST_PATHS = ("MultiheadAttention", "TransformerEncoderLayer")


def _results(moments: Moments, delta: float) -> dict[str, Any]:
    """The measures of one state; where there are none the flag says why."""
    try:
        spectrum = _saturation.spectrum(moments)
    except (TooFewRows, NonFinite) as error:
        why = "too_few_rows" if isinstance(error, TooFewRows) else "overflow"
        flags = (why, "nonfinite") if moments.nonfinite else (why,)
        n, none = moments.count, np.zeros(0)
        return {
            "saturation": _saturation.Saturation(None, None, moments.width, delta, none, n, flags),
            "effective_dimension": _saturation.EffectiveDimension(None, None, None, None, None, n, flags),
        }
    return {
        "saturation": _saturation.saturation(spectrum, delta),
        "effective_dimension": _saturation.effective_dimension(spectrum),
    }


def _totals(rows: tuple[Row, ...]) -> dict[str, Any]:
    """Mean over layers of each mode, of the layers that have a value."""
    totals: dict[str, Any] = {"saturation": {}, "effective_dimension": {}}
    for measure, means in totals.items():
        for mode, values in _by_mode(rows, measure):
            means[mode] = float(np.mean(values))
    return totals


def _by_mode(rows: tuple[Row, ...], measure: str) -> Iterator[tuple[str, list[float]]]:
    for mode in ("train", "eval"):
        values = [row.measures[measure].value for row in rows if row.mode == mode]
        present = [value for value in values if value is not None]
        if present:
            yield mode, present


def _whole(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _require(holds: bool, option: str, got: object, expected: str) -> None:
    if not holds:
        raise DomainError(f"watch: got {option}={got!r}, expected {expected}")
