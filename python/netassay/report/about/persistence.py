"""Neural persistence and deep graph persistence in a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from netassay.report.about import About, Compared, Measure, Place, Total
from netassay.report.about.cells import Column, result, show, stored_shape
from netassay.report.about.wording import MOST_NAMES, and_flags, grouped, label, zero_case
from netassay.report.kinds import finding
from netassay.report.rows import Finding, Row, arrange

SCALE_SHARE = 0.1
_NAME = "persistence"


def persistence_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Layers whose weights are all zero, and a scale that makes every other layer look alike.

    The threshold of the scale is this project's definition: of at least three layers with weights other than zero at
    most one has a weight of a tenth of the scale or more. Every other layer then has a normalized persistence of 0.9
    or more, whatever its weights are.
    """
    measured = [row for row in arrange(rows) if row.persistence is not None]
    measured = [row for row in measured if "not_a_layer" not in row.persistence.flags]
    zero = [row for row in measured if "zero" in row.persistence.flags]
    other = [row for row in measured if "zero" not in row.persistence.flags]
    return (*grouped("zero_weights", map(zero_case, zero)), *_scale(other))


def _scale(measured: Sequence[Row]) -> Iterator[Finding]:
    largest = {label(row): float(next(iter(row.persistence.weights), 0.0)) for row in measured}
    above = [name for name, share in largest.items() if share >= SCALE_SHARE]
    if len(measured) < 3 or len(above) > 1 or not any(largest.values()):
        return
    below = {name: share for name, share in largest.items() if name not in above}
    others = max(below.values())
    who = f"in {above[0]}" if above else "of a layer that is not shown here"
    scale = measured[0].persistence.scale
    message = (
        f"the scale {scale:.6g} is a weight {who}; no other layer reaches a tenth of it (at most {others:.2g} of it),"
        " which alone puts their persistence at 0.9 or more"
    )
    evidence = {
        "count": len(below),
        "layers": list(below)[:MOST_NAMES],
        "scale": scale,
        "scale_of": above[0] if above else None,
        "others": others,
    }
    yield finding("dominated_scale", above[0] if above else None, message, evidence)


def _mean(value: Any) -> str | None:
    """The network's value in words; None for what measure_weights did not make (a file may hold anything)."""
    match value:
        case {"normalized": float(mean), "total": float(total), "scale": float(scale), "layers": int(layers)}:
            sums = f"{mean:.3f}, mean of {layers:,} layers; scale {scale:.6g}; sum of totals {total:.6g}"
            return sums + and_flags(value.get("flags", ()))
    return None


def _deep(value: Any) -> str | None:
    """A chain's value in words, as measure_weights asks for it: standardized and rescaled."""
    if not hasattr(value, "peak"):
        return None
    peak = f"peak {show(value.peak, '.2f')}, standardized, rescaled"
    return f"{show(value.normalized, '.3f')} ({peak}){and_flags(value.flags)}"


def _largest(row: Row) -> float | None:
    weights = getattr(row.measures.get(_NAME), "weights", None)
    return None if stored_shape(row) is None or weights is None or not len(weights) else float(weights[0])


ABOUT = About(
    measures=(
        Measure(
            _NAME,
            Place("netassay.persistence", "NeuralPersistence"),
            "weights",
            (Compared("normalized", "persistence", ".3f"),),
        ),
    ),
    totals=(
        Total(_NAME, _mean),
        Total(
            "deep_graph_persistence",
            _deep,
            heading="deep graph persistence",
            shown="filled",  # without one, the notes say why
            result=Place("netassay.persistence", "DeepGraphPersistence"),
        ),
    ),
    columns=(
        Column("persistence", result(_NAME, "normalized"), ".3f"),
        Column("max/scale", _largest, ".3f", rank=2),
    ),
    findings=lambda rows, totals: persistence_findings(rows),
)
