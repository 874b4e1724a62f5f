"""Where measurements go: rows, coverage, findings and provenance in one Report. No numerics here."""

from netassay.report.history import History
from netassay.report.join import join
from netassay.report.measures import findings
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
    "findings",
    "join",
]
