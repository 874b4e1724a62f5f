"""compare: two networks layer by layer, from their reports or from their weights."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from netassay import network as _network
from netassay.base.errors import DomainError
from netassay.report import Report
from netassay.report.align import side_by_side
from netassay.report.compare import Comparison, Pair
from netassay.verbs.weighing import MEASURES
from netassay.verbs.weights import Track, measure_weights


def compare(
    a: Any,
    b: Any,
    *,
    measures: str | Iterable[str] | None = None,
    threads: int | None = None,
    memory: float | None = None,
    nonfinite: str = "raise",
    permutations: int = 100,
    seed: int = 0,
    track: Track | None = None,
) -> Comparison:
    """Compares two networks, layer by layer: every number that both have, and b - a.

    Layers are aligned by name, then, of those left over, by the shape of their weight in order of storage, where both
    have as many of that shape. What has no counterpart, another shape or another name is said. With the measure
    "network" the distributions of each pair of weights are compared too: their Jensen-Shannon divergence in bits on the
    grid of `netassay.network.grid`, beside its permutation null.

    Neural persistence of either is over a scale of its own, its largest |w|: see `totals["persistence.scale"]`.

    Args:
        a, b: a Report, or the path of one (.json); else what `measure_weights` takes: path of a checkpoint, a
            state_dict, an nn.Module. One may be a report and the other a checkpoint, where the report has a measure of
            weights.
        measures: names of measures, as of the rows; None: all that both have, of two checkpoints "persistence" and
            "network".
        threads, memory, nonfinite, track: as for `measure_weights`.
        permutations: of the null of each divergence; 0: none. seed: of these.

    Raises:
        DomainError: no measure that both have, or not that one. StateError: a .json file that is no report. As
        `measure_weights` for a checkpoint.
    """
    sides = [_report(side) for side in (a, b)]
    wanted = _wanted(sides, measures)
    measured = partial(
        measure_weights, measures=wanted, threads=threads, memory=memory, nonfinite=nonfinite, track=track
    )
    made = [measured(given) if report is None else report for given, report in zip((a, b), sides, strict=True)]
    names = [_name(given, report) for given, report in zip((a, b), made, strict=True)]
    found = side_by_side(made[0], made[1], wanted, (names[0], names[1]))
    return replace(found, layers=tuple(_with_divergence(pair, permutations, seed) for pair in found.layers))


def _report(source: Any) -> Report | None:
    """The report that a source is; None: something to measure."""
    if isinstance(source, Report):
        return source
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        if path.endswith(".json") and not path.endswith(".index.json"):
            return Report.load(path)
    return None


def _wanted(sides: list[Report | None], measures: str | Iterable[str] | None) -> tuple[str, ...]:
    had = [MEASURES if side is None else _measures(side) for side in sides]
    shared = tuple(measure for measure in had[0] if measure in had[1])
    told = " and ".join(
        f"{'a checkpoint (' if side is None else 'a report ('}{', '.join(several) or 'nothing measured'})"
        for side, several in zip(sides, had, strict=True)
    )
    if measures is None:
        if not shared:
            raise DomainError(f"compare: got {told}, expected a measure that both have")
        return shared
    asked = (measures,) if isinstance(measures, str) else tuple(measures)
    if not asked or not set(asked) <= set(shared):
        raise DomainError(f"compare: got measures={asked!r} for {told}, expected measures that both have")
    return tuple(measure for measure in shared if measure in asked)


def _measures(report: Report) -> tuple[str, ...]:
    names = (name for row in report for name, result in row.measures.items() if result is not None)
    return tuple(dict.fromkeys(names))


def _name(given: Any, report: Report) -> str:
    """A path as it was given, else where the report says it comes from."""
    if isinstance(given, str | os.PathLike):
        return os.fsdecode(given)
    return str(report.provenance.get("source") or "a report")


def _with_divergence(pair: Pair, permutations: int, seed: int) -> Pair:
    if pair.a is None or pair.b is None or not pair.changes.get("network"):
        return pair
    a, b = pair.a.measures.get("network"), pair.b.measures.get("network")
    if a is None or b is None:
        return pair
    return replace(pair, divergence=_network.divergence(a, b, permutations=permutations, seed=seed))
