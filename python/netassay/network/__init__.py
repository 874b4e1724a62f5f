"""The model as a directed weighted graph: its units are nodes, its weights are links.

Source: La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488).
"""

from .affine import LayerStrength, layer_strength
from .backbone import Backbone, backbone
from .concentration import Concentration, disparity, effective_degree, gini
from .links import LinkSums, LinkWeights, link_weights, sums
from .strength import Strengths, expected_fluctuation, fluctuation, strength

__all__ = [
    "Backbone",
    "Concentration",
    "LayerStrength",
    "LinkSums",
    "LinkWeights",
    "Strengths",
    "backbone",
    "disparity",
    "effective_degree",
    "expected_fluctuation",
    "fluctuation",
    "gini",
    "layer_strength",
    "link_weights",
    "strength",
    "sums",
]
