"""What follows from the rows, said in sentences. Pure logic on numbers already measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from netassay.report.rows import Finding, Row, arrange

TAIL_SHARE = 0.5
SCALE_SHARE = 0.1
DEAD_SHARE = 0.1


def findings(rows: Sequence[Row], totals: Mapping[str, Any] | None = None) -> tuple[Finding, ...]:
    """What follows from the rows of a report and its totals, measure by measure."""
    return (
        *saturation_findings(rows),
        *complexity_findings(rows),
        *persistence_findings(rows),
        *network_findings(rows),
        *algebra_findings(rows, totals or {}),
    )


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


def complexity_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Sites of which many channels were never on: of ReLU and ReLU6, whose units then let nothing through.

    One finding per site, of the mode with more samples, whose threshold is this project's definition: a tenth of the
    channels or more, over at least 32 samples.
    """
    sites: dict[tuple[str, int | None], Row] = {}
    for row in arrange(rows):
        found = row.measures.get("complexity")
        if found is not None and found.samples >= 32 and (found.dead or 0) >= DEAD_SHARE:
            standing = sites.get((row.name, row.call))
            if standing is None or standing.complexity.samples < found.samples:
                sites[row.name, row.call] = row
    return tuple(_never_on(row) for row in sites.values())


def _never_on(row: Row) -> Finding:
    found = row.complexity
    message = (
        f"{_label(row)}: {_percent(found.dead)} % of its channels were never on in {found.samples:,} samples"
        f"{_modes([row])}: they let nothing through"
    )
    return Finding("warning", row.name, message, {"dead": found.dead, "samples": found.samples, "mode": row.mode})


def persistence_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Layers whose weights are all zero, and a scale that makes every other layer look alike.

    One finding per layer; then at most one for the scale, whose threshold is this project's definition: of at least
    three layers at most one has a weight of a tenth of the scale or more. Every other layer then has a normalized
    persistence of 0.9 or more, whatever its weights are.
    """
    measured = [row for row in arrange(rows) if row.measures.get("persistence") is not None]
    zero = tuple(
        Finding("warning", row.name, f"{_label(row)}: every weight is zero", {"parameters": row.parameters})
        for row in measured
        if "zero" in row.persistence.flags
    )
    return (*zero, *_scale(measured))


def network_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Layers whose weights are all equal, and units whose weights are all 0: nothing enters or leaves them.

    One finding per layer. All zero is a finding of persistence where that was measured.
    """
    return tuple(_dead(row) for row in arrange(rows) if row.measures.get("network") is not None and _has_dead(row))


def _has_dead(row: Row) -> bool:
    links = row.network
    if "zero" in links.flags:
        return row.measures.get("persistence") is None
    constant = "constant" in links.flags and "single" not in links.flags
    return bool(constant or links.dead_outputs or links.dead_inputs)


def _dead(row: Row) -> Finding:
    links, name = row.network, _label(row)
    if "zero" in links.flags:
        return Finding("warning", row.name, f"{name}: every weight is zero", {"parameters": row.parameters})
    if "constant" in links.flags:
        message = f"{name}: every weight is {links.mean:.6g}, so its units are all alike"
        return Finding("warning", row.name, message, {"value": links.mean})
    sides = (("output", links.dead_outputs, len(links.incoming)), ("input", links.dead_inputs, len(links.outgoing)))
    told = [f"{dead:,} of {units:,} {side} units" for side, dead, units in sides if dead]
    dead = {f"dead_{side}s": dead for side, dead, _ in sides}
    return Finding("info", row.name, f"{name}: {' and '.join(told)} have no weight other than 0", dead)


def algebra_findings(rows: Sequence[Row], totals: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Operations that are not known, and an output that depends on fewer units than it has."""
    measured = [row for row in arrange(rows) if row.measures.get("algebra") is not None]
    return (*_unknown(measured), *_narrow(measured, totals))


def _unknown(measured: Sequence[Row]) -> Iterator[Finding]:
    unknown = [_label(row) for row in measured if "unknown" in row.algebra.flags]
    if unknown:
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        message = (
            f"{unknown[0]}{more}: an operation that is not in the table, taken as elementwise; path counts, fields and"
            " cost behind it may be wrong"
        )
        yield Finding("warning", None, message, {"calls": unknown})


def _narrow(measured: Sequence[Row], totals: Mapping[str, Any]) -> Iterator[Finding]:
    cut, units, entering = (totals.get(name) for name in ("output_cut", "output_units", "input_units"))
    if not (isinstance(cut, int) and isinstance(units, int) and isinstance(entering, int)) or cut >= min(
        units, entering
    ):
        return
    where = next((row for row in measured if row.algebra.cut == cut), None)
    if where is None:
        return
    message = (
        f"the output's {units:,} units depend on {cut:,} units at most, of {entering:,} that enter; the network is"
        f" that narrow at {_label(where)}"
    )
    yield Finding("info", where.name, message, {"cut": cut, "units": units, "entering": entering})


def _scale(measured: Sequence[Row]) -> Iterator[Finding]:
    largest = {_label(row): float(next(iter(row.persistence.weights), 0.0)) for row in measured}
    above = [name for name, share in largest.items() if share >= SCALE_SHARE]
    if len(measured) < 3 or len(above) > 1 or not any(largest.values()):
        return
    others = max(share for name, share in largest.items() if name not in above)
    who = f"in {above[0]}" if above else "of a layer that is not shown here"
    scale = measured[0].persistence.scale
    message = (
        f"the scale {scale:.6g} is a weight {who}; no other layer reaches a tenth of it (at most {others:.2g} of it),"
        " which alone puts their persistence at 0.9 or more: compare them over scales of their own,"
        " netassay.persistence.neural_persistence(weight)"
    )
    yield Finding("info", None, message, {"scale": scale, "layer": above[0] if above else None, "others": others})


def _of_layer(rows: Sequence[Row]) -> Iterator[Finding]:
    from netassay.saturation import ROWS_PER_UNIT

    name = _label(rows[0])

    def finding(message: str, about: Sequence[Row], **evidence: Any) -> Finding:
        counts = {row.mode or "all": row.saturation.samples for row in about}
        return Finding("warning", rows[0].name, f"{name}: {message}", {"rows": counts, **evidence})

    if constant := _flagged(rows, "constant"):
        yield finding(f"constant{_modes(constant)}: its activations have zero variance", constant)
    if single := _flagged(rows, "too_few_rows"):
        yield finding(f"fewer than two rows{_modes(single)}: no variance to measure", single)
    if few := [row for row in _flagged(rows, "few_rows") if "too_few_rows" not in row.saturation.flags]:
        width = few[0].saturation.width
        needed = ROWS_PER_UNIT * width
        counts = " and ".join(f"{row.saturation.samples:,} rows{_modes([row])}" for row in few)
        message = (
            f"{counts} for width {width:,}: below {ROWS_PER_UNIT} x width = {needed:,}, "
            "saturation and dimension may come out low"
        )
        yield finding(message, few, width=width, needed=needed)
    if nonfinite := _flagged(rows, "nonfinite"):
        message = f"rows with a NaN or an infinity were left out{_modes(nonfinite)}"
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
            first, last = _label(rows[start]), _label(rows[-1])
            variance = f"{100 * rows[start].saturation.delta:.10g} % of their variance"
            message = (
                f"layers {first}..{last} carry {variance} in {_percent(largest)} % of their width or less "
                f"(a layer before them: {_percent(reference)} %){_fields(rows[start:])}: "
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
    """Of a tail whose structure is known: from where on one position depends on the whole input."""
    if any(row.measures.get("algebra") is None for row in tail):
        return ""
    covering = [row for row in tail if "covers_input" in row.algebra.flags]
    if len(covering) == len(tail):
        return "; one position of theirs depends on the whole input already"
    return f"; one position depends on the whole input from {_label(covering[0])} on" if covering else ""


def _flagged(rows: Iterable[Row], flag: str) -> list[Row]:
    return [row for row in rows if flag in row.saturation.flags]


def _label(row: Row) -> str:
    return row.name if row.call is None else f"{row.name} (call {row.call})"


def _modes(rows: Sequence[Row]) -> str:
    modes = [row.mode for row in rows if row.mode is not None]
    return f" in {' and '.join(modes)}" if modes else ""


def _percent(share: float) -> str:
    return f"{round(100 * share, 1):g}"
