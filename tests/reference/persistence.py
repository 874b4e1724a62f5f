"""Neural persistence, literally: every edge of the graph, sorted, and Kruskal's algorithm on sets of vertices.

Rieck et al., arXiv 1812.09764, section 3; the essential class as in the code of Girrbach et al., arXiv 2307.10865.
Weights are divided in their own precision, then summed exactly. Deep graph persistence, of Girrbach et al., and its
form for samples: the matrix S of bottlenecks in full, a max-min product per layer, then Kruskal's algorithm on S.
"""

from __future__ import annotations

import math

import numpy as np


def tree_weights(w: np.ndarray) -> list[float]:
    """|w| of the edges of the maximum spanning tree of the bipartite graph of rows and columns, descending."""
    m, n = w.shape
    component = {v: {v} for v in range(m + n)}
    edges = sorted(((float(abs(w[i, j])), i, m + j) for i in range(m) for j in range(n)), reverse=True)
    tree = []
    for weight, u, v in edges:
        if component[u] is not component[v]:
            tree.append(weight)
            joined = component[u] | component[v]
            for vertex in joined:
                component[vertex] = joined
    return tree


def neural_persistence(
    w: np.ndarray, scale: float | None = None, p: float = 2, essential: bool = True
) -> tuple[float, float]:
    """(total, normalized)."""
    kind = np.float32 if w.dtype == np.float32 else np.float64
    tree = np.array(tree_weights(w), dtype=kind)
    s = kind(tree[0] if scale is None else scale)
    lifetimes = [1 - float(x / s) if s > 0 else 1.0 for x in tree] + [1.0] * essential
    total = math.fsum(x**p for x in lifetimes) ** (1 / p)
    return total, total / len(tree) ** (1 / p)


def lower_bound(w: np.ndarray, scale: float, p: float = 2) -> float:
    """From the largest weights of rows and columns."""
    magnitude = np.abs(w) / w.dtype.type(scale)
    terms = [(1 - float(x)) ** p for x in (*magnitude.max(axis=1), *magnitude.max(axis=0))]
    return max(0.0, math.fsum([*terms, -((1 - float(magnitude.max())) ** p)])) ** (1 / p)


def kendall_tau(y: np.ndarray) -> float:
    """tau-b of y against 0 ... N - 1, pair by pair."""
    signs = [np.sign(float(y[j]) - float(y[i])) for i in range(len(y)) for j in range(i + 1, len(y))]
    unequal = sum(s != 0 for s in signs)
    return sum(signs) / math.sqrt(len(signs) * unequal) if unequal else 0.0


# ---- deep graph persistence: Girrbach et al., section 5 and code ----


def standardized(w: np.ndarray, less: int = 0, more: float = 0.0) -> np.ndarray:
    """(w - mean) / std, std with divisor n - less, plus `more`; 0 where all are equal."""
    if w.min() == w.max():
        return np.zeros(w.shape)
    mean = math.fsum(w.ravel()) / w.size
    return (w - mean) / (math.sqrt(math.fsum(((w - mean) ** 2).ravel()) / (w.size - less)) + more)


def bottlenecks(layers: list[np.ndarray]) -> np.ndarray:
    """S_ij: of the paths from input i to output j, the largest least |edge|. Layers: (outputs, inputs)."""
    s = np.abs(layers[0].T)
    for w in layers[1:]:
        s = np.array([np.minimum(reached, np.abs(w)).max(axis=1) for reached in s])
    return s


def with_essential(tree: np.ndarray, p: float) -> tuple[float, float]:
    """(total, normalized) of tree weights in [0, 1]."""
    total = math.fsum([1.0, *((1 - float(x)) ** p for x in tree)]) ** (1 / p)
    return total, total / len(tree) ** (1 / p)


def deep_graph_persistence(
    weights: list[np.ndarray], standardize: bool = True, rescale: bool = True, p: float = 2
) -> tuple[float, float, float, np.ndarray]:
    """(total, normalized, peak, tree weights), in float64."""
    layers = [w.astype(np.float64) for w in weights]
    if standardize:
        layers = [standardized(w) for w in layers]
    s = bottlenecks(layers)
    largest, tree = max(float(np.abs(w).max()) for w in layers), np.array(tree_weights(s))
    scale = s.max() if rescale else largest
    tree = tree / scale if scale > 0 else tree
    total, normalized = with_essential(tree, p)
    return total, normalized, float(s.max() / largest) if largest > 0 else 0.0, tree


def sample_persistence(
    weights: list[np.ndarray],
    inputs: list[np.ndarray],
    standardize: bool = False,
    joint: bool = False,
    approximate: bool = False,
) -> np.ndarray:
    """Of one sample: inputs[l] is the vector that enters layer l. Edges W[o, i] x[i] are rounded to float32."""
    pairs = zip(weights, inputs, strict=True)
    layers = [(w.astype(np.float32) * x[None, :].astype(np.float32)).astype(np.float64) for w, x in pairs]
    if standardize:
        layers = [standardized(a, less=1, more=1e-8) for a in layers]
    s = bottlenecks(layers)
    found = np.array([*s.max(axis=1), *s.max(axis=0)] if approximate else tree_weights(s))
    largest = max(np.abs(a).max() for a in layers)
    return found / largest if joint and largest > 0 else found
