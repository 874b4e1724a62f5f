"""Mergeable statistics that measures share."""

from netassay.stats.moments import Moments, footprint

__all__ = ["Moments", "footprint"]
