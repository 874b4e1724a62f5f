"""Complexity: how often units switch between the linear pieces of their nonlinearity.

State: `Switching`, streamed and mergeable. Result: `Complexity`. Source: Janik, Witaszczyk, "Complexity for deep neural
networks and other characteristics of deep feature representations" (arXiv 2006.04791).
"""

from netassay.complexity.growth import Growth, growth
from netassay.complexity.patterns import Naswot, distinct_patterns, naswot
from netassay.complexity.result import Complexity
from netassay.complexity.switching import Switching, complexity, footprint

__all__ = [
    "Complexity",
    "Growth",
    "Naswot",
    "Switching",
    "complexity",
    "distinct_patterns",
    "footprint",
    "growth",
    "naswot",
]
