"""Complexity: how often units switch between the linear pieces of their nonlinearity.

State: `Switching`, streamed and mergeable. Result: `Complexity`. Source: Janik, Witaszczyk, "Complexity for deep neural
networks and other characteristics of deep feature representations" (arXiv 2006.04791).
"""

from .growth import Growth, growth
from .patterns import Naswot, distinct_patterns, naswot
from .result import Complexity
from .switching import Switching, complexity, footprint

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
