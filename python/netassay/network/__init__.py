"""The model as a directed weighted graph: its units are nodes, its weights are links.

Source: La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488).
"""

from .divergence import Divergence, divergence
from .layer import LayerLinks, NetworkLinks, grid, layer_links, pool_links
from .links import QUANTILES, LinkSums, LinkWeights, link_weights, sums

__all__ = [
    "QUANTILES",
    "Divergence",
    "LayerLinks",
    "LinkSums",
    "LinkWeights",
    "NetworkLinks",
    "divergence",
    "grid",
    "layer_links",
    "link_weights",
    "pool_links",
    "sums",
]
