"""Neural persistence, literally: every edge of the graph, sorted, and Kruskal's algorithm on sets of vertices.

Rieck et al., arXiv 1812.09764, section 3; the essential class as in the code of Girrbach et al., arXiv 2307.10865.
Weights are divided in their own precision, then summed exactly.
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
