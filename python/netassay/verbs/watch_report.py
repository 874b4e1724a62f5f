"""What a watch has seen, as the parts of a report: rows, totals, coverage, or why there is nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from netassay.network import Distribution
from netassay.report import Coverage, Row, Skipped
from netassay.sources import layers as _layers
from netassay.sources.live.device import DeviceMoments
from netassay.sources.live.nonlinearities import own
from netassay.sources.live.probes import flagged
from netassay.sources.live.recorder import Entry, Key
from netassay.stats.moments import Moments
from netassay.verbs import watch_notes as notes
from netassay.verbs.watch_seen import NEVER_COMPILED, Seen

if TYPE_CHECKING:
    from torch import nn

    from netassay.sources.patterns import Matcher

    Entries = Sequence[tuple[Key, Entry]]

_NEVER_A_SITE = "never observed: it was not called in a pass of the model, or inside jit.script or another thread"
_SCRIPTED = "it runs inside jit.script, where nonlinearities are not seen"
_INSIDE = "its nonlinearities run inside one kernel, where they cannot be counted"
#: Flag of a total that is None because some layers were not finite.
_MISSING = "nonfinite_layers"
_LOST = frozenset({"nonfinite", "overflow"})
_NO_VALUE = object()
_FAST_PATHS = {"MultiheadAttention", "TransformerEncoderLayer"}


def rows(entries: Entries, seen: Seen) -> tuple[Row, ...]:
    """One row per layer, or call of a site, and mode; a site that is called once in a pass needs no number."""
    several = {key.name for key, _ in entries if key.call}
    grouped: dict[tuple[str, int | None, str], list[tuple[Key, Entry]]] = {}
    for key, entry in entries:
        call = key.call if key.name in several else None
        grouped.setdefault((key.name, call, key.mode), []).append((key, entry))
    modules = seen.modules()
    return tuple(_row(place, group, modules.get(place[0]), seen) for place, group in grouped.items())


def _row(place: tuple[str, int | None, str], group: Entries, module: nn.Module | None, seen: Seen) -> Row:
    name, call, mode = place
    measures: dict[str, Any] = {}
    for key, entry in group:
        flags = tuple(sorted(entry.flags)) + (("several_calls",) if entry.most > 1 else ())
        measures.update(flagged(seen.recorder.probes[key.measure].results(entry.state), flags))
    layer = seen.layers.get(name)
    return Row(
        name=name,
        call=call,
        mode="train" if mode == "train" else "eval",
        kind=layer.kind if layer is not None else seen.recorder.kinds.get(name, ""),
        shape=None if module is None else _layers.weight_shape(module),
        parameters=0 if module is None else sum(_layers.parameters([module]).values()),
        calls=max(entry.calls for _, entry in group),
        measures=measures,
    )


def totals(rows: Iterable[Row], entries: Entries) -> dict[str, Any]:
    """Numbers of the whole network by mode: means over layers, and what the sites switch in all.

    A number that would leave out layers, or count NaNs as off, is None, and `flags` says so.
    """
    rows = tuple(rows)
    found: dict[str, Any] = {}
    flags: dict[str, tuple[str, ...]] = {}
    for measure in ("saturation", "effective_dimension"):
        by_mode = {mode: _mean(results) for mode, results in _results(rows, measure)}
        means = {mode: value for mode, value in by_mode.items() if value is not _NO_VALUE}
        if means or any(measure in row.measures for row in rows):
            found[measure] = means
        flags |= {f"{measure}.{mode}": (_MISSING,) for mode, value in means.items() if value is None}
    for mode, results in _results(rows, "complexity"):
        found.setdefault("complexity", {})[mode] = numbers = _switching(results)
        flags |= {f"complexity.{mode}": (_MISSING,)} if numbers["mean_channel"] is None else {}
    first = dict(_first_nonfinite(rows, entries))
    return found | ({"first_nonfinite": first} if first else {}) | ({"flags": flags} if flags else {})


def _mean(results: Sequence[Any]) -> Any:
    """The mean of the values that there are; None: some are missing because what came was not finite."""
    if any(result.value is None and _LOST & set(result.flags) for result in results):
        return None
    values = [result.value for result in results if result.value is not None]
    return float(np.mean(values)) if values else _NO_VALUE


def _results(rows: Sequence[Row], measure: str) -> Iterator[tuple[str, list[Any]]]:
    for mode in ("train", "eval"):
        results = [row.measures[measure] for row in rows if row.mode == mode and measure in row.measures]
        if results:
            yield mode, results


def _switching(results: Sequence[Any]) -> dict[str, Any]:
    """Bits of the network: sums, and means over all units; those of positions where every site has them."""
    found: dict[str, Any] = {"sites": len(results)}
    spoiled = any(result.nans for result in results)
    for rule in ("channel", "position"):
        totals = [getattr(result, f"total_{rule}") for result in results]
        if None not in totals:
            places = (1 if rule == "channel" else result.positions for result in results)
            units = sum(len(result.channel_bits) * count for result, count in zip(results, places, strict=True))
            numbers = {f"total_{rule}": float(sum(totals)), f"mean_{rule}": float(sum(totals)) / units}
            found |= dict.fromkeys(numbers) if spoiled else numbers
    return found


def _first_nonfinite(rows: Sequence[Row], entries: Entries) -> Iterator[tuple[str, dict[str, Any]]]:
    """By mode: where the first value that was not finite was seen, by pass and then by order of call.

    Where no pass is known, of a state on a device, the order of call alone decides; counts of switching, which note no
    pass, are asked last.
    """
    for mode in ("train", "eval"):
        spoiled = [(key, entry) for key, entry in entries if key.mode == mode and _nonfinite(entry.state)[0]]
        counted = [row for row in rows if row.mode == mode and row.complexity is not None and row.complexity.nans]
        if spoiled:
            key, entry = min(spoiled, key=lambda one: one[1].first_nonfinite or math.inf)
            lost, total, of = _nonfinite(entry.state)
            yield mode, _place(key.name, key.call or None, entry.first_nonfinite, lost / total, of)
        elif counted:
            found = counted[0].complexity
            share = found.nans / (found.observations * len(found.channel_bits))
            yield mode, _place(counted[0].name, counted[0].call, None, share, "values")


def _nonfinite(state: Any) -> tuple[int, int, str]:
    """How much of what a state was shown is not finite, of how much, and what it is."""
    if not isinstance(state, (Moments, DeviceMoments, Distribution)):
        return 0, 0, ""
    lost = int(state.nonfinite)
    return lost, int(state.count) + lost, "values" if isinstance(state, Distribution) else "rows"


def _place(name: str, call: int | None, number: int | None, share: float, of: str) -> dict[str, Any]:
    return {"layer": name, "call": call, "pass": number, "share": share, "of": of}


def coverage(entries: Entries, seen: Seen) -> Coverage:
    """What of the model was measured, and why the rest was not."""
    measured = {key.name for key, _ in entries}
    whole = _layers.parameters([seen.root])
    part = _layers.parameters(seen.layers[name].module for name in seen.layers if name in measured)
    return Coverage(
        measured=len(measured),
        skipped=tuple(_skipped(measured, seen)),
        parameters_measured=sum(part.values()),
        parameters_total=sum(whole.values()),
        aliases={layer.name: layer.aliases for layer in seen.layers.values() if layer.aliases},
        notes=tuple(_notes(measured, {key.mode for key, _ in entries}, seen)),
    )


def _skipped(measured: set[str], seen: Seen) -> Iterator[Skipped]:
    told = set(measured)
    for name in seen.layers:
        if name not in told:
            told.add(name)
            yield Skipped(name, seen.reason(name))
    of_weights = _layers.parametrizing(seen.root)
    for name, module in seen.modules().items() if seen.wanted is not None else ():
        reason = "" if id(module) in of_weights else _unseen(name, module, seen)
        if reason and name not in told and seen.wanted is not None and seen.wanted(name):
            told.add(name)
            yield Skipped(name, reason)
    for name, why in dict(seen.recorder.left_out).items():
        if name not in told:
            yield Skipped(name, why)


def _unseen(name: str, module: nn.Module, seen: Seen) -> str:
    """Why a module that was not seen as a site may have been one; "" where it is none."""
    import torch
    from torch import nn

    if own(module):
        return seen.reason(name, _NEVER_A_SITE)
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return _INSIDE
    within = isinstance(module, torch.jit.ScriptModule)
    return _SCRIPTED if within and not isinstance(_parent(name, seen), torch.jit.ScriptModule) else ""


def _parent(name: str, seen: Seen) -> nn.Module | None:
    return seen.root.get_submodule(name.rpartition(".")[0]) if name != _layers.ROOT else None


def _notes(measured: set[str], modes: set[str], seen: Seen) -> Iterator[str]:
    """What a reader of the numbers should know, one kind of note after the other."""
    yield from _modes_without_a_pass(modes)
    yield from notes.of_the_root(seen)
    yield from notes.not_chosen(seen)
    yield from _faults(measured, seen)
    yield from _calls_left_out(measured, seen)
    yield from _gone(seen)
    if seen.wanted is not None:
        yield from _selecting_none(seen.wanted)
    if "eval" in modes:
        yield from _off_the_fast_path(seen)


def _modes_without_a_pass(modes: set[str]) -> Iterator[str]:
    for mode in ("train", "eval"):
        if mode not in modes:
            yield f"no {mode} pass was observed"


def _faults(measured: set[str], seen: Seen) -> Iterator[str]:
    taps = seen.taps
    for place, errors in dict(taps.faults).items():  # of a training that may go on meanwhile
        if place in measured or place not in seen.layers:
            yield f"{place}: {errors[0]}" + (" (switched off; its numbers stop there)" if taps.off(place) else "")


def _calls_left_out(measured: set[str], seen: Seen) -> Iterator[str]:
    for name, why in dict(seen.recorder.left_out).items():
        if name in measured:
            yield f"{name}: calls left out: {why}"


def _gone(seen: Seen) -> Iterator[str]:
    standing = {id(module) for module in seen.root.modules()}
    for name, layer in seen.layers.items():
        if id(layer.module) not in standing:
            yield f"{name}: no longer in the model; what stands in its place is not watched as a layer"


def _selecting_none(wanted: Matcher) -> Iterator[str]:
    for pattern in wanted.unmatched:
        if pattern != "*":
            yield f"sites: got {pattern!r}, which matches no site that was called"


def _off_the_fast_path(seen: Seen) -> Iterator[str]:
    kinds = {type(module).__name__ for module in seen.root.modules()}
    if kinds & _FAST_PATHS:
        padding = ", and a TransformerEncoder does not put out 0 at padding" if "TransformerEncoder" in kinds else ""
        yield (
            "hooks take attention layers off their fast path in eval mode: outputs may differ by rounding"
            + (padding if seen.taps.sites is not None else "")  # which only a function mode does
        )


def why_empty(seen: Seen) -> str:
    """Why there is nothing to report."""
    reasons = {seen.reason(name) for name in seen.layers}
    unseen = [one for one in _skipped(set(), seen) if one.name not in seen.layers]
    general = (_NEVER_A_SITE, NEVER_COMPILED)  # which hold for many
    reasons |= {one.reason if one.reason in general else f"{one.name}: {one.reason}" for one in unseen}
    reasons |= {f"{place}: {errors[0]}" for place, errors in dict(seen.taps.faults).items()}
    if seen.wanted is not None and not seen.layers:
        reasons.add(NEVER_COMPILED if seen.compiled else "no site was observed")
        reasons.update(_selecting_none(seen.wanted))
    reasons.update(notes.of_the_root(seen))
    passes = sum(count for mode, count in dict(seen.taps.passes).items() if mode in ("train", "eval"))
    name = type(seen.root).__name__
    place = f"in {passes} passes of {name}" if passes else f"no forward pass of {name} ran while watched"
    return f"watch.report: nothing was observed: {place}: " + "; ".join(sorted(reasons))
