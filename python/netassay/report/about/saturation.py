"""Saturation and effective dimension in a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from netassay.report.about import About, Compared, Measure, Place
from netassay.report.about.cells import Column, result, rows_used
from netassay.report.about.wording import in_modes, label, percentage
from netassay.report.rows import Finding, Row, arrange

TAIL_SHARE = 0.5


def saturation_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Constant layers, too few rows, rows left out, and the tail of layers that use little of their width.

    One finding per layer, naming its modes; then at most one for the tail.

    The tail and its threshold are this project's definition: over the layers of one mode (eval where it was
    measured, else train) in order of first call, without the last one, which is the classifier: the longest
    trailing run of at least two layers, each with a saturation below half of the largest one before the run. Where the
    structure was measured too, it says whether their receptive fields hold the whole input: behind that point layers
    add little (Richter et al., arXiv 2106.12307).
    """
    measured = [row for row in arrange(rows) if row.measures.get("saturation") is not None]
    layers: dict[tuple[str, int | None], list[Row]] = {}
    for row in measured:
        layers.setdefault((row.name, row.call), []).append(row)
    found = [finding for layer in layers.values() for finding in _of_layer(layer)]
    return (*found, *_tail(measured))


def _of_layer(rows: Sequence[Row]) -> Iterator[Finding]:
    from netassay.saturation import ROWS_PER_UNIT

    name = label(rows[0])

    def finding(message: str, about: Sequence[Row], **evidence: Any) -> Finding:
        counts = {row.mode or "all": row.saturation.samples for row in about}
        return Finding("warning", rows[0].name, f"{name}: {message}", {"rows": counts, **evidence})

    if constant := _flagged(rows, "constant"):
        yield finding(f"constant{in_modes(constant)}: its activations have zero variance", constant)
    if single := _flagged(rows, "too_few_rows"):
        yield finding(f"fewer than two rows{in_modes(single)}: no variance to measure", single)
    if few := [row for row in _flagged(rows, "few_rows") if "too_few_rows" not in row.saturation.flags]:
        width = few[0].saturation.width
        needed = ROWS_PER_UNIT * width
        counts = " and ".join(f"{row.saturation.samples:,} rows{in_modes([row])}" for row in few)
        message = (
            f"{counts} for width {width:,}: below {ROWS_PER_UNIT} x width = {needed:,}, "
            "saturation and dimension may come out low"
        )
        yield finding(message, few, width=width, needed=needed)
    if nonfinite := _flagged(rows, "nonfinite"):
        message = f"rows with a NaN or an infinity were left out{in_modes(nonfinite)}"
        yield finding(message, nonfinite)


def _tail(measured: Sequence[Row]) -> Iterator[Finding]:
    mode = next((mode for mode in ("eval", "train") if any(row.mode == mode for row in measured)), None)
    rows = [row for row in measured if row.mode == mode][:-1]
    rows = [row for row in rows if row.saturation.value is not None]
    values = [row.saturation.value for row in rows]
    before = list(accumulate(values, max))
    after = list(accumulate(reversed(values), max))[::-1]
    for start in range(1, len(rows) - 1):
        reference, largest = before[start - 1], after[start]
        if largest < TAIL_SHARE * reference:
            first, last = label(rows[start]), label(rows[-1])
            variance = f"{100 * rows[start].saturation.delta:.10g} % of their variance"
            message = (
                f"layers {first}..{last} carry {variance} in {percentage(largest)} % of their width or less "
                f"(a layer before them: {percentage(reference)} %){_fields(rows[start:])}: "
                "candidates for removal or for a higher input resolution; confirm with project"
            )
            evidence = {
                "first": first,
                "last": last,
                "mode": mode,
                "values": values[start:],
                "reference": reference,
                "threshold": TAIL_SHARE * reference,
            }
            yield Finding("info", None, message, evidence)
            return


def _fields(tail: Sequence[Row]) -> str:
    """From which layer on one position depends on the whole input, where the structure of the tail is known."""
    if any(row.measures.get("algebra") is None for row in tail):
        return ""
    covering = [row for row in tail if "covers_input" in row.algebra.flags]
    if len(covering) == len(tail):
        return "; one position of theirs depends on the whole input already"
    return f"; one position depends on the whole input from {label(covering[0])} on" if covering else ""


def _flagged(rows: Iterable[Row], flag: str) -> list[Row]:
    return [row for row in rows if flag in row.saturation.flags]


ABOUT = About(
    measures=(
        Measure(
            "saturation",
            Place("netassay.saturation", "Saturation"),
            "activations",
            (Compared("value", "saturation", ".3f"),),
        ),
        Measure(
            "effective_dimension",
            Place("netassay.saturation", "EffectiveDimension"),
            "activations",
            (Compared("value", "effective dimension", ",.2f", rank=2),),
        ),
    ),
    columns=(
        Column("width", result("saturation", "width"), ","),
        Column("rows", rows_used, ","),
        Column("dimension", result("saturation", "dimension"), ","),
        Column("saturation", result("saturation", "value"), ".3f"),
        Column("effective dimension", result("effective_dimension", "value"), ",.2f"),
    ),
    findings=lambda rows, totals: saturation_findings(rows),
)
