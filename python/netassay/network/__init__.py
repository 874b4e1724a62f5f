"""The model as a directed weighted graph: its units are nodes, its weights are links.

Source: La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488).
"""

from .contrast import Contrast, PooledDivergence, Separation
from .divergence import Divergence, divergence
from .layer import LayerLinks, NetworkLinks, grid, layer_links, pool_links
from .links import QUANTILES, LinkSums, LinkWeights, link_weights, sums
from .population import Population

__all__ = [
    "QUANTILES",
    "Contrast",
    "Divergence",
    "LayerLinks",
    "LinkSums",
    "LinkWeights",
    "NetworkLinks",
    "PooledDivergence",
    "Population",
    "Separation",
    "divergence",
    "grid",
    "layer_links",
    "link_weights",
    "pool_links",
    "sums",
]
