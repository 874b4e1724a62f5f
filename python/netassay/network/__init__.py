"""The model as a directed weighted graph: its units are nodes, its weights are links.

Source: La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488).
"""

from .links import LinkSums, LinkWeights, link_weights, sums

__all__ = ["LinkSums", "LinkWeights", "link_weights", "sums"]
