"""Neural persistence: how large weights are connected.

A weight matrix is a complete bipartite graph between outputs and inputs, with edges |W_ij|; its maximum spanning tree
says at which weight its vertices come together (`neural_persistence`). A chain of layers is one layered graph, whose
inputs and outputs are joined by bottlenecks of paths (`deep_graph_persistence`, and `sample_persistence` of the
activations of one sample, by which `ShiftDetector` sees a shift of the inputs). Sources: Rieck et al., "Neural
Persistence" (ICLR 2019, arXiv 1812.09764); Girrbach et al., "Addressing Caveats of Neural Persistence with Deep Graph
Persistence" (TMLR 2023, arXiv 2307.10865).
"""

from netassay.persistence.deep import (
    DeepGraphPersistence,
    deep_graph_persistence,
    sample_persistence,
    topological_uncertainty,
)
from netassay.persistence.diagnostics import EarlyStopping, ShuffleTest, shuffle_test, sortedness, variance
from netassay.persistence.neural import (
    NetworkPersistence,
    NeuralPersistence,
    SpanningTree,
    largest,
    network_persistence,
    neural_persistence,
    spanning_tree,
    summarize,
)
from netassay.persistence.shift import Shift, ShiftDetector

__all__ = [
    "DeepGraphPersistence",
    "EarlyStopping",
    "NetworkPersistence",
    "NeuralPersistence",
    "Shift",
    "ShiftDetector",
    "ShuffleTest",
    "SpanningTree",
    "deep_graph_persistence",
    "largest",
    "network_persistence",
    "neural_persistence",
    "sample_persistence",
    "shuffle_test",
    "sortedness",
    "spanning_tree",
    "summarize",
    "topological_uncertainty",
    "variance",
]
