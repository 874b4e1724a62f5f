"""Complexity: how often units switch between the linear pieces of their nonlinearity.

State: `Switching`, streamed and mergeable. Result: `Complexity`. Source: Janik, Witaszczyk, "Complexity for deep neural
networks and other characteristics of deep feature representations" (arXiv 2006.04791).
"""

from .result import Complexity
from .switching import Switching, complexity, footprint

__all__ = ["Complexity", "Switching", "complexity", "footprint"]
