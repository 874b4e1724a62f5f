"""Where measurements go: rows, coverage, findings and provenance in one Report. No numerics here."""

from netassay.report.findings import (
    algebra_findings,
    complexity_findings,
    findings,
    network_findings,
    persistence_findings,
    saturation_findings,
)
from netassay.report.history import History
from netassay.report.join import join
from netassay.report.report import Report
from netassay.report.rows import Coverage, Finding, Row, Skipped, UnknownLayer

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
