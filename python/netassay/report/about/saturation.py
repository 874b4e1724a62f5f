"""Saturation and effective dimension in a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from netassay.report.about import About, Compared, Measure, Place
from netassay.report.about.cells import Column, result, rows_used
from netassay.report.about.wording import MOST_NAMES, Case, grouped, in_modes, label, percentage
from netassay.report.kinds import finding
from netassay.report.rows import Finding, Row, arrange

TAIL_SHARE = 0.5
_ROWS = "rows"  # the field of a result that counts rows
#: Flags of a saturation that no comparison of layers may rest on.
UNSURE = frozenset({"constant", "few_rows", "few_samples", "nonfinite", "overflow", "too_few_rows"})


def saturation_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Too few rows or samples, and the tail of layers that use little of their width.

    The tail and its threshold are this project's definition: over the layers of one mode (eval where it was
    measured, else train) in order of first call, without the last one, which is the classifier: the longest
    trailing run of at least two layers, each with a saturation below half of the largest one before the run. Layers
    with one of UNSURE are no evidence: the run ends before them, and they are none of those before it. Where the
    structure was measured too, it says whether their receptive fields hold the whole input: behind that point layers
    add little (Richter et al., arXiv 2106.12307).
    """
    measured = [row for row in arrange(rows) if row.saturation is not None]
    layers: dict[tuple[str, int | None], list[Row]] = {}
    for row in measured:
        layers.setdefault((row.name, row.call), []).append(row)
    return (
        *grouped("too_few_rows", _cases(layers.values(), "too_few_rows", _too_few_rows, without=("nonfinite",))),
        *grouped("few_rows", _cases(layers.values(), "few_rows", _few_rows, without=("too_few_rows",))),
        *grouped("few_samples", _cases(layers.values(), "few_samples", _few_samples, without=("too_few_rows",))),
        *_tail(measured),
    )


def _cases(
    layers: Iterable[Sequence[Row]], flag: str, case: Callable[[Sequence[Row]], Case], without: Sequence[str]
) -> Iterator[Case]:
    """One case for each layer with rows that have a flag, and none of `without`."""
    for rows in layers:
        flagged = [row for row in rows if flag in (flags := row.saturation.flags) and not {*without} & {*flags}]
        if flagged:
            yield case(flagged)


def _counts(rows: Sequence[Row], count: str) -> dict[str, int]:
    return {row.mode or "all": getattr(row.saturation, count) for row in rows}


def _too_few_rows(rows: Sequence[Row]) -> Case:
    message = f"{label(rows[0])}: fewer than two rows{in_modes(rows)}: no variance to measure"
    return Case(rows[0], message, {"rows": _counts(rows, _ROWS)})


def _few_rows(rows: Sequence[Row]) -> Case:
    from netassay.saturation import ROWS_PER_UNIT

    width = rows[0].saturation.width
    needed = ROWS_PER_UNIT * width
    counts = " and ".join(f"{getattr(row.saturation, _ROWS):,} rows{in_modes([row])}" for row in rows)
    message = (
        f"{label(rows[0])}: {counts} for width {width:,}: below {ROWS_PER_UNIT} x width = {needed:,}, "
        "saturation and dimension may come out low"
    )
    seen = _counts(rows, _ROWS)
    return Case(rows[0], message, {"rows": seen, "width": width, "needed": needed}, needed / max(min(seen.values()), 1))


def _few_samples(rows: Sequence[Row]) -> Case:
    seen = _counts(rows, "samples")
    counts = " and ".join(f"{row.saturation.samples:,} samples{in_modes([row])}" for row in rows)
    message = f"{label(rows[0])}: {counts}: rows of one sample are alike, saturation and dimension may come out low"
    return Case(rows[0], message, {"samples": seen}, -min(seen.values()))


def _tail(measured: Sequence[Row]) -> Iterator[Finding]:
    mode = next((mode for mode in ("eval", "train") if any(row.mode == mode for row in measured)), None)
    rows = [row for row in measured if row.mode == mode][:-1]
    unsure = [bool(UNSURE & {*row.saturation.flags}) for row in rows]
    behind = max((at + 1 for at, flagged in enumerate(unsure) if flagged), default=0)  # where the run may begin
    held = [(at, row) for at, row in enumerate(rows) if not unsure[at] and row.saturation.value is not None]
    first = sum(at < behind for at, _ in held)
    rows = [row for _, row in held]
    values = [row.saturation.value for row in rows]
    before = list(accumulate(values, max))
    after = list(accumulate(reversed(values), max))[::-1]
    for start in range(max(first, 1), len(rows) - 1):
        if after[start] < TAIL_SHARE * before[start - 1]:
            yield _tail_of(rows[start:], mode, after[start], before[start - 1])
            return


def _tail_of(tail: Sequence[Row], mode: str | None, largest: float, reference: float) -> Finding:
    first, last = label(tail[0]), label(tail[-1])
    variance = f"{100 * tail[0].saturation.delta:.10g} % of their variance"
    message = (
        f"layers {first}..{last} carry {variance} in {percentage(largest)} % of their width or less "
        f"(a layer before them: {percentage(reference)} %){_fields(tail)}"
    )
    evidence = {
        "count": len(tail),
        "layers": [label(row) for row in tail][:MOST_NAMES],
        "first": first,
        "last": last,
        "mode": mode,
        "values": [row.saturation.value for row in tail],
        "reference": reference,
        "threshold": TAIL_SHARE * reference,
    }
    return finding("low_tail", None, message, evidence)


def _fields(tail: Sequence[Row]) -> str:
    """From which layer on one position depends on the whole input, where the structure of the tail is known."""
    if any(row.measures.get("algebra") is None for row in tail):
        return ""
    covering = [row for row in tail if "covers_input" in row.algebra.flags]
    if len(covering) == len(tail):
        return "; one position of theirs depends on the whole input already"
    return f"; one position depends on the whole input from {label(covering[0])} on" if covering else ""


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
