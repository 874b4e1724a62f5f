"""compare: two networks layer by layer, from their reports or from their weights."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from netassay import network as _network
from netassay.base import threads as _threads
from netassay.base.errors import DomainError
from netassay.report import Report
from netassay.report.align import side_by_side
from netassay.report.compare import Comparison, Pair
from netassay.sources.checkpoint.checkpoint import open_checkpoint
from netassay.verbs.movement import moved, movements
from netassay.verbs.weighing import MEASURES
from netassay.verbs.weights import Pass, Track, read_weights


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
    rank: bool = False,
    track: Track | None = None,
) -> Comparison:
    """Compares two networks, layer by layer: every number that both have, and b - a.

    Layers are aligned by name, then, of those left over, by the shape of their weight in order of storage, where both
    have as many of that shape. What has no counterpart, another shape or another name is said. With the measure
    "network" the distributions of each pair of weights are compared too: their Jensen-Shannon divergence in bits on the
    grid of `netassay.network.grid`, beside its permutation null.

    Of two checkpoints, state_dicts or modules each pair has its `movement`: how far the weight itself has moved, its
    relative norm, cosine and rank; a report holds no weights. Neural persistence of both is then over one scale, the
    larger of their two; with a report in it, either is over its own: see `totals["persistence.scale"]`.

    Args:
        a, b: a Report, or the path of one (.json); else what `measure_weights` takes: path of a checkpoint, a
            state_dict, an nn.Module. One may be a report and the other a checkpoint, where the report has a measure of
            weights.
        measures: names of measures, as of the rows; None: all that both have, of two checkpoints "persistence" and
            "network".
        threads, memory, nonfinite, track: as for `measure_weights`.
        rank: the rank of every change, also of one wider than 1024, where its singular values take their time.
        permutations: of the null of each divergence; 0: none. seed: of these.

    Raises:
        DomainError: no measure that both have, or not that one. StateError: a .json file that is no report. As
        `measure_weights` for a checkpoint.
    """
    sides = [_report(side) for side in (a, b)]
    wanted = _wanted(sides, measures)
    read = partial(read_weights, measures=wanted, threads=threads, memory=memory, nonfinite=nonfinite, track=track)
    passes = [read(given) if report is None else None for given, report in zip((a, b), sides, strict=True)]
    weights = all(one is not None for one in passes)
    scale = max((one.scale for one in passes if one is not None), default=0.0) if weights else 0.0
    made = [_reported(one, report, scale) for one, report in zip(passes, sides, strict=True)]
    names = [_name(given, report) for given, report in zip((a, b), made, strict=True)]
    found = side_by_side(made[0], made[1], wanted, (names[0], names[1]))
    found = replace(found, layers=tuple(_with_divergence(pair, permutations, seed) for pair in found.layers))
    if not weights:
        return replace(found, notes=(_no_weights(sides),))
    with (
        open_checkpoint(a, memory=memory, function="compare") as ours,
        open_checkpoint(b, memory=memory, function="compare") as theirs,
    ):
        by_place = movements(found, ours, theirs, rank=rank, threads=_threads.resolve(threads))
    return replace(found, layers=moved(found, by_place))


def _reported(one: Pass | None, report: Report | None, scale: float) -> Report:
    if report is not None:
        return report
    assert one is not None
    return one.report(scale)


def _no_weights(sides: list[Report | None]) -> str:
    reports = [name for name, side in zip("AB", sides, strict=True) if side is not None]
    which = "A and B are reports, which hold" if len(reports) > 1 else f"{reports[0]} is a report, which holds"
    return f"how far the weights moved is not known: {which} no weights; compare the checkpoints"


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
