"""The model as a directed weighted graph: its units are nodes, its weights are links.

Source: La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488).
"""

from .links import LinkSums, LinkWeights, link_weights, sums
from .nodes import FLAGS, NodeLayer, NodeStrengths, Unlinked

__all__ = ["FLAGS", "LinkSums", "LinkWeights", "NodeLayer", "NodeStrengths", "Unlinked", "link_weights", "sums"]
