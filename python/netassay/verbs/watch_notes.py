"""What a watch did not see: a root that was not called, modules that "*" does not stand for, a compiled model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from netassay.report.kinds import finding
from netassay.sources import layers as _layers

if TYPE_CHECKING:
    from netassay.report.rows import Finding
    from netassay.verbs.watch_seen import Seen

COMPILED = "the model runs compiled: hooks may not run in it, and its nonlinearities are not seen; watch it uncompiled"


def of_the_root(seen: Seen) -> Iterator[str]:
    """Why what is kept by pass is missing: the root was not called, in a mode or at all, or runs compiled."""
    if seen.compiled:
        yield COMPILED
    yield from (f"{found.message}: {found.advice}; {_lost(seen)}" for found in never_called(seen))
    root, passes = type(seen.root).__name__, dict(seen.taps.passes)
    called = passes.get("train") or passes.get("eval")
    for mode, several in dict(seen.taps.alone).items():
        if called and not passes.get(mode):
            names = dict.fromkeys(f"model.{name}" for name in several)
            yield (
                f"no pass of the root ({root}) in {mode} mode, where {_layers.listing(names)} ran outside of any:"
                f" {_lost(seen)}"
            )


def never_called(seen: Seen) -> tuple[Finding, ...]:
    """The finding that submodules ran and the root did not."""
    root, passes, alone = type(seen.root).__name__, dict(seen.taps.passes), dict(seen.taps.alone)
    if not alone or passes.get("train") or passes.get("eval"):
        return ()
    names = list(dict.fromkeys(f"model.{name}" for several in alone.values() for name in several))
    runs = "whose forward runs" if len(names) == 1 else "whose forwards run"
    message, advice = f"the root ({root}) was never called", f"watch {_layers.listing(names)}, {runs}"
    evidence = {"called": names[:20], "count": len(names)}
    return (finding("never_called", _layers.ROOT, message, evidence, advice=advice),)


def _lost(seen: Seen) -> str:
    by_pass = [
        name
        for name, probes in (
            ("complexity", seen.recorder.of_inputs),
            ("neuron activations", seen.recorder.of_outputs),
        )
        if probes
    ]
    if not by_pass:
        return "each call of a layer counts as a pass of its own"
    return f"{' and '.join(by_pass)} {'is' if by_pass == ['complexity'] else 'are'} of passes of the root alone"


def not_chosen(seen: Seen) -> Iterator[str]:
    """One note per kind of modules with parameters that "*" does not stand for."""
    whole = sum(_layers.parameters([seen.root]).values())
    for kind in _layers.unchosen(seen.root, seen.patterns, (layer.module for layer in seen.layers.values())):
        count = len(kind.names)
        packed = kind.kind.startswith("quantised ")
        share = "packed, not counted" if packed else f"{_percent(kind.parameters, whole)} % of parameters"
        several = "module" if count == 1 else "modules"
        yield (
            f"{kind.kind}: {count} {several} not chosen by '*' ({share}): {_layers.listing(kind.names)}; name them in"
            " layers="
        )


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f}" if share >= 10 else f"{share:.2g}"
