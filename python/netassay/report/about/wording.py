"""Words that the sentences of several measures share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netassay.report.about.cells import show
from netassay.report.kinds import finding
from netassay.report.rows import Confidence, Finding, Row

#: Names that the evidence of a finding lists.
MOST_NAMES = 20
_FIRST_NAMES = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One layer of which something was found.

    Attributes:
        message: the sentence, were it the only one.
        evidence: its numbers.
        badness: the largest is the worst; of equal ones the first is.
    """

    row: Row
    message: str
    evidence: Mapping[str, Any]
    badness: float = 0.0


def grouped(kind: str, cases: Iterable[Case], *, confidence: Confidence | None = None) -> Iterator[Finding]:
    """One finding of all cases: the worst in full, the others by name; none without a case."""
    several = list(cases)
    if not several:
        return
    worst = max(several, key=lambda case: case.badness)
    names = [label(case.row) for case in several]
    message = worst.message + alike([label(case.row) for case in several if case is not worst])
    evidence = {"count": len(several), "layers": names[:MOST_NAMES], **worst.evidence}
    yield finding(kind, worst.row.name, message, evidence, confidence=confidence)


def zero_case(row: Row) -> Case:
    """A layer whose weights are all zero, which two measures may find."""
    return Case(row, f"{label(row)}: every weight is zero", {"parameters": row.parameters})


def alike(names: Sequence[str]) -> str:
    """How many others there are and the names of the first ones, as the end of a sentence."""
    if not names:
        return ""
    more = f" and {len(names) - _FIRST_NAMES:,} more" if len(names) > _FIRST_NAMES else ""
    return f"; {len(names):,} more like it: {', '.join(names[:_FIRST_NAMES])}{more}"


def label(row: Row) -> str:
    """A layer by its name, or a call site by its name and number."""
    return row.name if row.call is None else f"{row.name} (call {row.call})"


def in_modes(rows: Sequence[Row]) -> str:
    """The modes of rows, as the end of a phrase."""
    modes = [row.mode for row in rows if row.mode is not None]
    return f" in {' and '.join(modes)}" if modes else ""


def percentage(share: float) -> str:
    """A share in percent to one decimal place, without the sign."""
    return f"{round(100 * share, 1):g}"


def and_flags(flags: Iterable[object]) -> str:
    """Flags, as the end of a sentence."""
    return "".join(f"; {flag}" for flag in map(show, flags))
