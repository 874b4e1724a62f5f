"""watch: a model is measured while it runs."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from netassay.base import memory as _memory
from netassay.base import statefile, threads
from netassay.base.checks import real, require, whole
from netassay.base.errors import NothingObserved, StateError
from netassay.report import History, Report, findings
from netassay.sources import layers as _layers
from netassay.sources import patterns
from netassay.sources.live import sites as _sites
from netassay.sources.live.hooks import Taps
from netassay.sources.live.nonlinearities import SMOOTH
from netassay.sources.live.probes import ActivationProbe, Probe, SaturationProbe, StrengthProbe, SwitchingProbe
from netassay.sources.live.recorder import Entry, Key, Positions, Recorder, Settings
from netassay.verbs import watch_notes as notes
from netassay.verbs import watch_report as summary
from netassay.verbs.provenance import provenance
from netassay.verbs.watch_seen import Seen

if TYPE_CHECKING:
    from torch import nn

    from netassay.complexity import Switching
    from netassay.stats.moments import Moments

MEASURES = ("saturation", "complexity", "network")
_require = partial(require, "watch")


def watch(
    model: nn.Module,
    *,
    layers: object = "*",
    measures: tuple[str, ...] = ("saturation",),
    sites: object = "*",
    positions: Positions = "all",
    max_rows: int | None = None,
    every: int = 1,
    delta: float = 0.99,
    precision: str = "high",
    thresholds: Mapping[str, float] | None = None,
    mask: Callable[..., Any] | None = None,
    memory: float | None = None,
    seed: int = 0,
) -> Watch:
    """Measures a model's layers while it runs, in training and in evaluation, without changing what it computes.

    Statistics are kept per (layer, mode), mode "train" or "eval" as the model's `training` flag is when a pass
    starts. A pass whose forward raises leaves nothing behind. In evaluation torch takes attention layers off their fast
    path, which moves outputs within rounding; where sites are seen, a TransformerEncoder that is given a padding mask
    then does not put out 0 at padding, as that path does.

    "saturation" keeps the covariance of what layers put out. "complexity" counts how often units switch between the
    linear pieces of nonlinearities, on what enters them (`netassay.complexity`): a site is the n-th call of a module
    in a pass, or of a function or a method of a tensor, which is named "<innermost module>:<op>". "network" keeps the
    distributions of neuron strengths, z = W a + b, what layers put out, and of neuron activations, what leaves a site
    (`netassay.network.Distribution`).

    Args:
        layers: a glob on qualified names (fnmatch; * crosses dots), a module type, or a sequence of them. "!"
            excludes, the last match wins. "*" (and other globs): linear (transformers' Conv1D too), convolution,
            recurrent, embedding and attention layers, parametrized ones too; others when a name without wildcards or a
            type names them, or when a glob matches nothing else.
        measures: of "saturation", "complexity", "network".
        sites: a glob on names of sites, or a sequence of them, "!" excludes; of complexity and neuron activations.
        positions: of maps (N, C, *S), for saturation: "all" makes every position a row, "mean" the spatial mean,
            "flatten" one row of C*S.
        max_rows: for saturation, rows per layer and call at most, a seeded uniform subset.
        every: each k-th pass of the model, counted per mode.
        delta: share of variance for saturation.
        precision: "high" or "exact", see `Moments`.
        thresholds: {"tanh": 0.0, "sigmoid": 0.0}: functions without linear pieces are counted about these, else not.
        mask: called with the model's inputs; returns booleans (N, T), False for padding. Positions then are no units
            of their own for complexity.
        memory: bytes that all states together may take; None: a quarter of what is free. A layer or site beyond it is
            not measured.
        seed: of max_rows.

    Returns:
        A Watch, attached from now on; as a context manager it is closed at the end and still gives its report.

    Raises:
        SelectionError: a pattern that matches nothing. DomainError: an option outside its domain. TypeError: no module.
        ImportError: torch is not installed.

    Warns:
        UserWarning: the model runs compiled; or, once, while it runs: a submodule ran outside of any pass of the root,
        whose sites are not seen. Warnings that are errors do not reach the model's forward; the coverage says it too.
    """
    return Watch(
        model,
        layers=layers,
        measures=measures,
        sites=sites,
        every=every,
        delta=delta,
        thresholds={} if thresholds is None else thresholds,
        settings=Settings(
            positions, max_rows, precision, mask, _memory.available() / 4 if memory is None else memory, seed
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
        sites: object,
        every: int,
        delta: float,
        thresholds: Mapping[str, float],
        settings: Settings,
    ) -> None:
        _layers.checked(model, "watch")
        measures = (measures,) if isinstance(measures, str) else tuple(measures)
        _require(bool(measures) and set(measures) <= set(MEASURES), "measures", measures, f"one or more of {MEASURES}")
        _check(settings)
        _require(whole(every), "every", every, "an integer of at least 1")
        _require(real(delta) and 0 < delta <= 1, "delta", delta, "0 < delta <= 1")
        _require(_thresholds(thresholds), "thresholds", thresholds, f"finite numbers by {', '.join(SMOOTH)}")
        # numpy's integers are none for a file of JSON
        rows = None if settings.max_rows is None else int(settings.max_rows)
        settings, every = replace(settings, max_rows=rows, seed=int(settings.seed)), int(every)
        root, self._wrappers = _layers.unwrap(model)
        self._measures, self._thresholds = measures, dict(thresholds)
        self._shown = patterns.Matcher(sites, what="sites")
        self._recorder = recorder = Recorder(
            settings,
            of_layers=_chosen(
                measures, saturation=lambda: SaturationProbe(settings.precision, delta), network=StrengthProbe
            ),
            of_inputs=_chosen(measures, complexity=lambda: SwitchingProbe(positions=settings.mask is None)),
            of_outputs=_chosen(measures, network=ActivationProbe),
        )
        self._patterns = patterns.several(layers, types=True) if recorder.of_layers else []
        self._layers = _layers.select(root, self._patterns) if recorder.of_layers else {}
        watcher = _sites.Watcher(root, self._shown, thresholds)
        self._sees_sites = bool(recorder.of_inputs or recorder.of_outputs)
        hooked = {name: layer.module for name, layer in self._layers.items()}
        self._taps = Taps(
            root, hooked, recorder, every, watcher if self._sees_sites and not self._compiled(root) else None
        )
        self._history = History()
        self._closed = self._warned = False
        self._warn_compiled()
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
        self._taps.clear()

    def _open(self) -> None:
        if self._closed:
            raise RuntimeError("watch: got a closed watch, expected an open one; make a new one with netassay.watch")

    @property
    def states(self) -> Mapping[tuple[str, str], Moments]:
        """(layer, mode) -> Moments, in order of first call; live on the host, so copy one to keep it as it is."""
        probe = self._recorder.probes.get(SaturationProbe.measure)
        if probe is None:
            return {}
        kept = list(self._recorder.entries.items())
        return {(key.name, key.mode): probe.host(entry.state) for key, entry in kept if key.measure == probe.measure}

    @property
    def switching(self) -> Mapping[tuple[str, int, str], Switching]:
        """(site, call, mode) -> Switching, in order of first call; copies."""
        return {
            (key.name, key.call or 0, key.mode): entry.state
            for key, entry in self._recorder.standing()
            if key.measure == SwitchingProbe.measure
        }

    @property
    def history(self) -> History:
        """What `snapshot` has kept."""
        return self._history

    def report(self) -> Report:
        """What has been measured so far. Changes nothing; the watch goes on.

        Raises:
            NothingObserved: no layer has shown anything; the message says why.
        """
        self._warn_compiled()
        entries = self._recorder.standing()
        seen = self._seen()
        if not entries:
            raise NothingObserved(summary.why_empty(seen))
        rows = summary.rows(entries, seen)
        totals = summary.totals(rows, entries)
        return Report(
            layers=rows,
            coverage=summary.coverage(entries, seen),
            totals=totals,
            findings=(*notes.never_called(seen), *findings(rows, totals)),
            provenance=self._provenance(),
        )

    def snapshot(self, step: float, *, reset: bool = True) -> Report:
        """Keeps a report of this moment in `history`, under a step: an epoch, a number of updates.

        Args:
            step: above that of the last snapshot.
            reset: whether to begin anew, so that each snapshot is of what was seen since the last one; False: each is
                of all that was seen since the beginning.

        Raises:
            NothingObserved: as `report`. DomainError: a step that is no number, or not above the last one. Nothing is
            forgotten then.
        """
        report = self.report()
        self._history.append(step, report)
        if reset:
            self.reset()
        return report

    def _seen(self) -> Seen:
        return Seen(
            root=self._taps.root,
            layers=self._layers,
            wanted=self._shown if self._sees_sites else None,
            recorder=self._recorder,
            taps=self._taps,
            compiled=self._compiled(self._taps.root),
            patterns=self._patterns,
        )

    def _warn_compiled(self) -> None:
        """Warns once, when the watch is made or at the first report after the model was compiled."""
        if self._compiled(self._taps.root) and not self._warned:
            self._warned = True
            warnings.warn(f"watch: {notes.COMPILED}", UserWarning, stacklevel=4)

    def _compiled(self, root: nn.Module) -> bool:
        return "OptimizedModule" in self._wrappers or _layers.compiled(root)

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
        """Writes all states and counters to one file, whole or not at all; `restore` continues from it, bit for bit.

        The history is in it too; `history.to_json` writes it alone.
        """
        tensors: dict[str, Any] = {}
        kept = []
        for index, (key, entry) in enumerate(self._recorder.standing()):
            config, parts = self._recorder.probes[key.measure].pack(entry.state)
            tensors.update({f"{index}.{part}": value for part, value in parts.items()})
            about = {"calls": entry.calls, "most": entry.most, "flags": sorted(entry.flags)}
            about |= {"passes": entry.passes, "first_nonfinite": entry.first_nonfinite}
            kept.append({**key._asdict(), **about, "state": config})
        progress: dict[str, Any] = {
            "passes": self._taps.passes,
            "alone": self._taps.alone,
            "draws": self._recorder.draws,
            "kinds": self._recorder.kinds,
            "entries": kept,
        }
        tensors["history"] = np.frombuffer(self._history.dumps(), dtype=np.uint8)
        statefile.save(path, kind="watch", config={"watch": self._config(), "progress": progress}, tensors=tensors)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Continues from a file that `save` wrote on a watch of the same configuration; replaces what has been seen,
        and the history.

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
        entries: dict[Key, Entry] = {}
        try:
            progress = config["progress"]
            for index, kept in enumerate(progress["entries"]):
                parts = {name.split(".", 1)[1]: part for name, part in tensors.items() if name.startswith(f"{index}.")}
                key = Key(*(kept[part] for part in Key._fields))
                state = self._recorder.probes[key.measure].kept.from_tensors(kept["state"], parts)
                entries[key] = Entry(
                    state,
                    kept["calls"],
                    kept["most"],
                    frozenset(kept["flags"]),
                    kept["passes"],
                    kept["first_nonfinite"],
                )
            draws, kinds, passes, alone = (dict(progress[part]) for part in ("draws", "kinds", "passes", "alone"))
            alone = {mode: tuple(map(str, names)) for mode, names in alone.items()}
            history = History.loads(tensors["history"].tobytes(), os.fspath(path))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"watch.restore: {os.fspath(path)}: no state of a watch: {error!r}") from error
        self.reset()
        self._recorder.entries.update(entries)
        self._recorder.draws.update(draws)
        self._recorder.kinds.update(kinds)
        self._taps.passes.update(passes)
        self._taps.alone.update(alone)
        self._history = history

    def _config(self) -> dict[str, Any]:
        settings = self._recorder.settings
        return {
            "model": _layers.fingerprint(self._taps.root),
            "layers": list(self._layers),
            "measures": list(self._measures),
            "sites": [str(pattern) for pattern in self._shown.patterns],
            "thresholds": self._thresholds,
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


def _chosen(measures: tuple[str, ...], **makers: Callable[[], Probe]) -> list[Probe]:
    return [make() for measure, make in makers.items() if measure in measures]


def _check(settings: Settings) -> None:
    where = ("all", "mean", "flatten")
    _require(settings.positions in where, "positions", settings.positions, "'all', 'mean' or 'flatten'")
    _require(settings.precision in ("high", "exact"), "precision", settings.precision, "'high' or 'exact'")
    _require(settings.max_rows is None or whole(settings.max_rows), "max_rows", settings.max_rows, "at least 1 or None")
    _require(real(settings.memory) and settings.memory >= 0, "memory", settings.memory, "bytes, at least 0, or None")
    _require(whole(settings.seed, least=0), "seed", settings.seed, "an integer of at least 0")
    _require(settings.mask is None or callable(settings.mask), "mask", settings.mask, "a callable or None")


def _thresholds(given: object) -> bool:
    return isinstance(given, Mapping) and all(op in SMOOTH and real(t) and math.isfinite(t) for op, t in given.items())
