"""Where measurements go: rows, coverage, findings and provenance in one Report. No numerics here."""

from .findings import saturation_findings
from .report import Report
from .rows import Coverage, Finding, Row, Skipped, UnknownLayer

__all__ = ["Coverage", "Finding", "Report", "Row", "Skipped", "UnknownLayer", "saturation_findings"]
