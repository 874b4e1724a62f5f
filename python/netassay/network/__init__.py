"""The model as a directed weighted graph: its units are nodes, its weights are links.

Source: La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488).
"""

from .distribution import Distribution, Values
from .links import LinkSums, LinkWeights, link_weights, sums, survey

__all__ = ["Distribution", "LinkSums", "LinkWeights", "Values", "link_weights", "sums", "survey"]
