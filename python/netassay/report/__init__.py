"""Where measurements go: rows, coverage, findings and provenance in one Report. No numerics here."""

from .findings import (
    algebra_findings,
    complexity_findings,
    findings,
    network_findings,
    persistence_findings,
    saturation_findings,
)
from .history import History
from .join import join
from .report import Report
from .rows import Coverage, Finding, Row, Skipped, UnknownLayer

__all__ = [
    "Coverage",
    "Finding",
    "History",
    "Report",
    "Row",
    "Skipped",
    "UnknownLayer",
    "algebra_findings",
    "complexity_findings",
    "findings",
    "join",
    "network_findings",
    "persistence_findings",
    "saturation_findings",
]
