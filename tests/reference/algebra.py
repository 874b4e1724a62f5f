"""The layer algebra, literally: every path of a small graph, every subset of its vertices, every activation pattern.

Semirings: Mohri 2002, on the distance as a sum over paths. Cuts: Menger 1927. Regions: Zaslavsky 1975; Montufar 2017;
Serra et al., arXiv 1711.02114, theorem 1. VC bound: Bartlett et al., arXiv 1703.02930, theorem 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise, product

import numpy as np
from scipy.optimize import linprog

Edges = Sequence[tuple[int, int]]
#: "relu", "relu6", or k: the maximum of each k units in turn.
Activation = str | int
#: (a, h): a . x <= h.
Row = tuple[np.ndarray, float]
#: Rows that bound a part of the inputs, and the affine map (W, b) on it.
Region = tuple[list[Row], np.ndarray, np.ndarray]


def paths(edges: Edges, sources: Sequence[int], node: int) -> list[list[int]]:
    """Every path from a source to the node, as indices of edges; a source is reached by the path without edges."""
    found: list[list[int]] = [[]] if node in sources else []
    for e, (u, v) in enumerate(edges):
        if v == node:
            found += [[*path, e] for path in paths(edges, sources, u)]
    return found


def aggregate(edges: Edges, gains: Sequence, semiring: str, sources: Sequence[int], node: int) -> object:
    """plus over the paths to the node of times over their gains. Gains: log2, counts, numbers, or powers of z."""
    along = [[gains[e] for e in path] for path in paths(edges, sources, node)]
    if semiring == "log2_sum":
        total = math.fsum(2.0 ** math.fsum(g) for g in along)
        return math.log2(total) if total else -math.inf
    if semiring == "count":
        return sum(math.prod(int(x) for x in g) for g in along)
    if semiring == "longest":
        return max((math.fsum(g) for g in along), default=-math.inf)
    if semiring == "shortest":
        return min((math.fsum(g) for g in along), default=math.inf)
    if semiring == "widest":
        return max((min(g, default=math.inf) for g in along), default=-math.inf)
    lengths = [sum(g) for g in along]
    return tuple(lengths.count(i) for i in range(max(lengths, default=-1) + 1))


def minimum_vertex_cut(edges: Edges, capacities: Sequence[int], sources: Sequence[int], target: int) -> int:
    """Least capacity of a set of vertices, ends included, that every path meets; 0 where there is no path."""
    ways = [{*([edges[p[0]][0]] if p else [target]), *(edges[e][1] for e in p)} for p in paths(edges, sources, target)]
    vertices = range(len(capacities))
    subsets = (set(s) for size in range(len(vertices) + 1) for s in combinations(vertices, size))
    return min(sum(capacities[v] for v in s) for s in subsets if all(way & s for way in ways))


def binomial_sum(n: int, k: int) -> int:
    """sum_{j <= min(n, k)} C(n, j): the pieces into which n hyperplanes in general position cut R^k."""
    return sum(math.comb(n, j) for j in range(min(n, k) + 1))


def serra_regions(widths: Sequence[int]) -> int:
    """sum over J of prod C(n_l, j_l), J = {j : 0 <= j_l <= min(n_0, n_1 - j_1, ..., n_{l-1} - j_{l-1}, n_l)}."""
    n0, *n = widths
    total = 0
    for j in product(*(range(width + 1) for width in n)):
        if all(j[i] <= min(n0, n[i], *(n[k] - j[k] for k in range(i))) for i in range(len(n))):
            total += math.prod(math.comb(n[i], j[i]) for i in range(len(n)))
    return total


def montufar_bound(widths: Sequence[int]) -> int:
    """prod_l sum_{j <= min(n_0..n_l)} C(n_l, j)."""
    return math.prod(binomial_sum(widths[i], min(widths[: i + 1])) for i in range(1, len(widths)))


def vc_bound(units: Sequence[int], parameters: Sequence[int], breakpoints: int = 1) -> float:
    """L + Lbar W log2(4 e p R log2(2 e p R)), Lbar = (1/W) sum W_i, R = sum i k_i."""
    layers = len(units)
    below = [sum(parameters[: i + 1]) for i in range(layers)]
    w = below[-1]
    r = sum((i + 1) * units[i] for i in range(layers))
    mean = sum(below) / w
    return layers + mean * w * math.log2(4 * math.e * breakpoints * r * math.log2(2 * math.e * breakpoints * r))


# ---- regions of a small network x -> act(W x + b) -> ...: the patterns that an open set of inputs takes ----


def centre(rows: list[Row], d: int) -> np.ndarray | None:
    """Centre of the largest ball inside, of radius 1 at most; None where the interior is empty."""
    a = [[*normal, np.linalg.norm(normal)] for normal, _ in rows]
    bounds = [(None, None)] * d + [(None, 1)]
    found = linprog([0] * d + [-1], a or None, [h for _, h in rows] or None, bounds=bounds)
    return found.x[:d] if found.status == 0 and found.x[d] > 1e-6 else None  # its own tolerance is 1e-7


def pieces(w: np.ndarray, b: np.ndarray, activation: Activation) -> list[Region]:
    """Of one unit, or of those a maximum is taken of. Where two pieces are the same map, a tie, the first counts."""
    if isinstance(activation, int):
        every = range(len(w))
        found = [([(w[k] - w[i], b[i] - b[k]) for k in every if k != i], w[i], b[i]) for i in every]
    else:
        (w, b), zero = (w[0], b[0]), np.zeros_like(w[0])
        found = [([(w, -b)], zero, 0.0), ([(-w, b)], w, b)]
        if activation == "relu6":
            found[1][0].append((w, 6 - b))
            found.append(([(-w, b - 6)], zero, 6.0))
    return [f for i, f in enumerate(found) if not any(f[2] == g[2] and (f[1] == g[1]).all() for g in found[:i])]


def regions(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], activation: Sequence[Activation]) -> list:
    """[(rows, W, b)] of every pattern, one entry of `activation` a layer."""
    d = weights[0].shape[1]
    found: list[Region] = [([], np.eye(d), np.zeros(d))]
    for w, b, kind in zip(weights, biases, activation, strict=True):
        size = kind if isinstance(kind, int) else 1
        before, found = found, []
        for rows, a, c in before:
            slope, offset = w @ a, w @ c + b
            parts: list[Region] = [(rows, np.empty((0, d)), np.empty(0))]
            for i in range(0, len(b), size):
                choices = pieces(slope[i : i + size], offset[i : i + size], kind)
                grown = [(r + x, np.vstack([m, v]), np.append(t, s)) for r, m, t in parts for x, v, s in choices]
                parts = [part for part in grown if centre(part[0], d) is not None]
            found += parts
    return found


def count_regions(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], activation: Sequence[Activation]) -> int:
    """Patterns with non-empty interior."""
    return len(regions(weights, biases, activation))


def count_pieces(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], activation: Sequence[Activation]) -> int:
    """Linear pieces of a function of one number: neighbouring patterns of the same map are one."""
    found = sorted((centre(rows, 1)[0], *w.ravel(), *b) for rows, w, b in regions(weights, biases, activation))
    return 1 + sum(p[1:] != q[1:] for p, q in pairwise(found))
