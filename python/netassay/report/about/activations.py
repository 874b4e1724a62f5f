"""What goes wrong with activations, whatever measures them: values that are not finite, layers that collapse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from netassay.report.about import About, Total
from netassay.report.about.cells import flags_of, percent
from netassay.report.about.wording import MOST_NAMES, Case, alike, grouped, in_modes, label
from netassay.report.kinds import finding
from netassay.report.rows import Finding, Row, arrange

#: Rows, or samples of a site, from which on what never varied is called constant without a doubt.
ENOUGH = 32
_FIRST = "first_nonfinite"
_NONFINITE = frozenset({"nonfinite", "nan"})


def activation_findings(rows: Sequence[Row], totals: Mapping[str, Any]) -> tuple[Finding, ...]:
    """The first layer with a NaN or an infinity, and layers that have collapsed."""
    ordered = arrange(rows)
    return (*_nonfinite(ordered, totals.get(_FIRST)), *_collapsed(ordered))


def _nonfinite(rows: Sequence[Row], first: Any) -> Iterator[Finding]:
    flagged = [row for row in rows if _NONFINITE & {flag for r in row.measures.values() for flag in flags_of(r)}]
    if not flagged:
        return
    names = list(dict.fromkeys(map(label, flagged)))
    found = first if isinstance(first, Mapping) else {}
    for mode, place in found.items():  # training first: its NaNs are those that evaluation meets later
        if text := _in_words(place):
            who = _who(place)
            evidence = {"count": len(names), "layers": names[:MOST_NAMES], "mode": mode, **place}
            message = f"{text} ({mode})" + alike([name for name in names if name != who])
            yield finding("nonfinite_activations", place["layer"], message, evidence)
            return
    yield from grouped("nonfinite_activations", map(_left_out, flagged))


def _left_out(row: Row) -> Case:
    return Case(row, f"{label(row)}: rows with a NaN or an infinity were left out{in_modes([row])}", {})


def _who(place: Mapping[str, Any]) -> str:
    name: str = place["layer"]
    return name if place.get("call") is None else f"{name} (call {place['call']})"


def _in_words(place: Any) -> str | None:
    """Where the first value that was not finite was seen."""
    match place:
        case {"layer": str(), "share": float(share), "of": str(of), "pass": number}:
            seen = f", first in pass {number:,}" if isinstance(number, int) else ""
            return f"{_who(place)}: {percent(share)} of its {of} hold a NaN or an infinity{seen}"
    return None


def _collapsed(rows: Iterable[Row]) -> Iterator[Finding]:
    """Layers of no variance, and sites of which every unit is off; in order of first call, all of few rows last."""
    layers: dict[tuple[str, int | None], list[tuple[Row, int]]] = {}
    for row in rows:
        seen = _constant(row)
        if seen is not None:
            layers.setdefault((row.name, row.call), []).append((row, seen))
    cases = [_case([row for row, _ in several], max(seen for _, seen in several)) for several in layers.values()]
    sure = any(case.badness for case in cases)
    yield from grouped("constant", cases, confidence=None if sure else "needs data")


def _constant(row: Row) -> int | None:
    """How many rows or samples say that a row is of a layer that has collapsed; None: it has not."""
    if row.saturation is not None and "constant" in row.saturation.flags:
        return int(row.saturation.rows or 0)
    off = row.complexity is not None and row.complexity.dead == 1
    return int(row.complexity.samples) if off else None


def _case(rows: Sequence[Row], seen: int) -> Case:
    off = rows[0].saturation is None or "constant" not in rows[0].saturation.flags
    why = "none of its units was ever on" if off else "its activations have zero variance"
    count = "samples" if off else "rows"
    message = f"{label(rows[0])} has collapsed{in_modes(rows)}: {why} over {seen:,} {count}"
    return Case(rows[0], message, {count: seen}, float(seen >= ENOUGH))


ABOUT = About(
    measures=(),
    totals=(Total(_FIRST, _in_words, by_mode=True, shown="filled"),),
    findings=activation_findings,
)
