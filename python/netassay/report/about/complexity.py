"""Switching complexity in a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netassay.report.about import About, Compared, Measure, Place, Total
from netassay.report.about.cells import Column, Table, flags, having, result, share
from netassay.report.about.wording import Case, grouped, in_modes, label, percentage
from netassay.report.rows import Finding, Row, arrange

DEAD_SHARE = 0.1
SAMPLES = 32
_NAME = "complexity"


def complexity_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Sites of which many channels were never on: of ReLU and ReLU6, whose units then let nothing through.

    Each site in the mode with more samples; the threshold is this project's definition: a tenth of the channels or
    more, over at least 32 samples. A site that is off as a whole has collapsed, which is another finding.
    """
    sites: dict[tuple[str, int | None], Row] = {}
    for row in arrange(rows):
        found = row.complexity
        if found is not None and found.samples >= SAMPLES and DEAD_SHARE <= (found.dead or 0) < 1:
            standing = sites.get((row.name, row.call))
            if standing is None or standing.complexity.samples < found.samples:
                sites[row.name, row.call] = row
    return tuple(grouped("dead_units", map(_never_on, sites.values())))


def _never_on(row: Row) -> Case:
    found = row.complexity
    message = (
        f"{label(row)}: {percentage(found.dead)} % of its channels were never on in {found.samples:,} samples"
        f"{in_modes([row])}: they let nothing through"
    )
    return Case(row, message, {"dead": found.dead, "samples": found.samples, "mode": row.mode}, found.dead)


def _switching(value: Any) -> str | None:
    """How often the units of a network switch, in words."""
    match value:
        case {"sites": int(sites), "mean_channel": float(channel), "total_channel": float(total), **rest}:
            parts = [f"{channel:.3f} bits per channel"]
            match rest:
                case {"mean_position": float(position), "total_position": float(total)}:
                    parts.append(f"{position:.3f} per channel at a position")
            return f"{', '.join(parts)}, {total:,.0f} in all of {sites:,} site{'s' if sites != 1 else ''}"
        case {"sites": int(sites), "mean_channel": None}:
            return f"not known: some of its {sites:,} site{'s' if sites != 1 else ''} met a NaN"
    return None


def _channels(row: Row) -> int | None:
    found = row.measures.get(_NAME)
    return None if found is None else len(found.channel_bits)


_COLUMNS = (
    Column("site", lambda row: row.name),
    Column("call", lambda row: row.call),
    Column("kind", lambda row: row.kind or None, rank=4),
    Column("mode", lambda row: row.mode),
    Column("channels", _channels, ",", rank=1),
    Column("positions", result(_NAME, "positions"), ",", rank=5),
    Column("samples", result(_NAME, "samples"), ",", rank=3),
    Column("bits/channel", result(_NAME, "mean_channel"), ".3f"),
    Column("bits/position", result(_NAME, "mean_position"), ".3f"),
    Column("total bits", result(_NAME, "total_position"), ",.0f", rank=6),
    Column("dead", share(_NAME, "dead"), right=True),
    Column("linear", share(_NAME, "linear"), right=True, rank=2),
    Column("flags", flags(_NAME)),
)

ABOUT = About(
    measures=(
        Measure(
            _NAME,
            Place("netassay.complexity", "Complexity"),
            "activations",
            (
                Compared("mean_channel", "bits/channel", ".3f"),
                Compared("mean_position", "bits/position", ".3f", rank=3),
            ),
            by_call=True,
        ),
    ),
    totals=(Total(_NAME, _switching, by_mode=True),),
    tables=(Table((_NAME,), _COLUMNS, having(_NAME)),),
    findings=lambda rows, totals: complexity_findings(rows),
)
