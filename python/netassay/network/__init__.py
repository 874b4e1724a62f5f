"""The model as a directed weighted graph: its units are nodes, its weights are links.

Source: La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488).
"""

from netassay.network.affine import LayerStrength, layer_strength
from netassay.network.backbone import Backbone, backbone
from netassay.network.concentration import Concentration, disparity, effective_degree, gini
from netassay.network.contrast import Contrast, PooledDivergence, Separation
from netassay.network.distribution import Distribution, Values
from netassay.network.divergence import Divergence, divergence
from netassay.network.layer import LayerLinks, NetworkLinks, layer_links, pool_links
from netassay.network.links import QUANTILES, LinkSums, LinkWeights, grid, link_weights, sums, survey
from netassay.network.nodes import FLAGS, NodeLayer, NodeStrengths, Unlinked
from netassay.network.population import Population
from netassay.network.strength import Strengths, expected_fluctuation, fluctuation, strength

__all__ = [
    "FLAGS",
    "QUANTILES",
    "Backbone",
    "Concentration",
    "Contrast",
    "Distribution",
    "Divergence",
    "LayerLinks",
    "LayerStrength",
    "LinkSums",
    "LinkWeights",
    "NetworkLinks",
    "NodeLayer",
    "NodeStrengths",
    "PooledDivergence",
    "Population",
    "Separation",
    "Strengths",
    "Unlinked",
    "Values",
    "backbone",
    "disparity",
    "divergence",
    "effective_degree",
    "expected_fluctuation",
    "fluctuation",
    "gini",
    "grid",
    "layer_links",
    "layer_strength",
    "link_weights",
    "pool_links",
    "strength",
    "sums",
    "survey",
]
