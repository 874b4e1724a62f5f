"""Sums over the paths of large graphs against plain loops and one read of the edges; vertex cuts against networkx.

Every answer is asserted before it is timed: sums against the same recurrence in plain Python, where edges come in the
order of the nodes; longest paths against networkx; cuts of all nodes against networkx's maximum flow where it can be
waited for, else the last one against a single flow over the whole graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import common
from common import Case, Group, Pending

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

#: Nodes of the graphs, three edges into each; plain loops and networkx run at the smallest.
NODES = (10_000, 1_000_000)
#: Blocks of the transformers whose cuts are taken, and at which of them networkx is waited for.
BLOCKS = {2: True, 12: True, 100: False, 10_000: False}


def random_dag(nodes: int, *, near: bool, upward: bool) -> tuple[Array, Array]:
    """((3 nodes, 2) edges, gains in bits): from any earlier nodes or from the hundred before, nodes in order or not."""
    import numpy as np

    random = np.random.default_rng(0)
    heads = np.repeat(np.arange(1, nodes), 3)
    tails = heads - 1 - random.integers(0, np.minimum(heads, 100) if near else heads)
    edges = np.stack([tails, heads], axis=1)
    return edges if upward else random.permutation(nodes)[edges], random.normal(0, 3, len(edges))


def sums(rounds: int) -> Iterator[Pending]:
    """A log2 sum over all paths to every node, from the edges as an array."""
    for nodes in NODES:
        for near, upward in ((True, True), (False, True), (False, False)):
            where = "the 100 before" if near else "any before"
            name = f"{nodes:.0e} nodes, from {where}{'' if upward else ', shuffled'}"
            yield name, partial(path_sum, name, nodes, near, upward, rounds)


def path_sum(name: str, nodes: int, near: bool, upward: bool, rounds: int) -> Case:
    """One row of `sums`."""
    import numpy as np

    from netassay.algebra import aggregate, path_shares

    edges, gains = random_dag(nodes, near=near, upward=upward)
    got = aggregate(edges, gains, nodes=nodes)
    arms: dict[str, Callable[[], object]] = {
        "netassay": lambda: aggregate(edges, gains, nodes=nodes),
        "longest": lambda: aggregate(edges, gains, nodes=nodes, semiring="longest"),
        "shares": lambda: path_shares(edges, gains, nodes=nodes),
        "read": lambda: (int(edges.max()), float(gains.max())),
    }
    if upward:  # the loop takes edges by ascending heads
        error = float(np.abs(got - loop(nodes, edges, gains)).max() / np.abs(got).max())
        assert error <= 1e-12, f"{name}: differs by {error:.1e} of the largest"
    if upward and nodes == NODES[0]:
        arms["loop"] = partial(loop, nodes, edges, gains)
        arms["networkx"] = partial(networkx_longest, edges, gains)
        best = float(aggregate(edges, gains, nodes=nodes, semiring="longest").max())
        assert math.isclose(arms["networkx"](), best, rel_tol=1e-12), f"{name}: not the longest path"  # type: ignore[arg-type]
    return Case("sums", name, common.interleaved(arms, rounds=rounds, repeats=1 if nodes > NODES[0] else None))


def loop(nodes: int, edges: Array, gains: Array) -> Array:
    """t(v) = log2 sum 2^(t(u) + g), node after node."""
    import numpy as np

    arriving: list[list[tuple[int, float]]] = [[] for _ in range(nodes)]
    for (u, v), gain in zip(edges.tolist(), gains.tolist(), strict=True):
        arriving[v].append((u, gain))
    t = [0.0] * nodes
    for v, terms in enumerate(arriving):
        if terms:
            carried = [t[u] + gain for u, gain in terms]
            most = max(carried)
            t[v] = most + math.log2(sum(2 ** (x - most) for x in carried))
    return np.array(t)


def networkx_longest(edges: Array, gains: Array) -> float:
    """networkx has no sum over paths: the longest one, with the graph made as its users make it."""
    import networkx as nx

    graph = nx.DiGraph()
    for (u, v), gain in zip(edges.tolist(), gains.tolist(), strict=True):  # of parallel edges the larger
        if not graph.has_edge(u, v) or graph[u][v]["weight"] < gain:
            graph.add_edge(u, v, weight=gain)
    return float(nx.dag_longest_path_length(graph))


def transformer(blocks: int) -> tuple[Array, Array]:
    """(edges, capacities) of pre-norm blocks as they are exported: queries, keys and values, heads, residuals; one
    block in eight is narrow inside and out."""
    import numpy as np

    wide = 1024
    edges: list[tuple[int, int]] = []
    sizes = [wide]

    def call(size: int, *inputs: int) -> int:
        sizes.append(size)
        edges.extend((u, len(sizes) - 1) for u in inputs)
        return len(sizes) - 1

    stream = 0
    for block in range(blocks):
        inner = wide // 16 if block % 8 == 5 else wide
        norm = call(wide, stream)
        query, key, value = (call(inner, norm) for _ in range(3))
        scores = call(4 * wide, query, key)
        mixed = call(inner, call(4 * wide, scores), value)
        stream = call(wide, stream, call(wide, mixed))
        hidden = call(4 * inner, call(wide, stream))
        stream = call(wide, stream, call(wide, call(4 * inner, hidden)))
        if block % 8 == 5:
            stream = call(wide, call(wide // 2, stream))
    return np.array(edges), np.array(sizes)


def cuts(rounds: int) -> Iterator[Pending]:
    """The minimum cut of every node of a transformer."""
    for blocks, peer in BLOCKS.items():
        yield f"{blocks} blocks", partial(cut, blocks, peer, rounds)


def cut(blocks: int, peer: bool, rounds: int) -> Case:
    """One row of `cuts`."""
    from netassay.algebra import minimum_vertex_cut, minimum_vertex_cuts

    edges, sizes = transformer(blocks)
    got = minimum_vertex_cuts(edges, sizes)
    last = len(sizes) - 1
    assert got[last] == minimum_vertex_cut(edges, sizes, last).value, f"{blocks} blocks: cuts differ"
    arms: dict[str, Callable[[], object]] = {
        "netassay": lambda: minimum_vertex_cuts(edges, sizes),
        "single": lambda: minimum_vertex_cut(edges, sizes, last),
    }
    if peer:
        assert networkx_cuts(edges, sizes) == got.tolist(), f"{blocks} blocks: not networkx's cuts"
        arms["networkx"] = partial(networkx_cuts, edges, sizes)
    more = {"nodes": len(sizes), "edges": len(edges)}
    return Case("cuts", f"{blocks} blocks, {len(sizes)} nodes", common.interleaved(arms, rounds=rounds), more=more)


def networkx_cuts(edges: Array, sizes: Array) -> list[int]:
    """Of every node, by maximum flow where each node is an edge of its capacity."""
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_edges_from(((v, 0), (v, 1), {"capacity": int(size)}) for v, size in enumerate(sizes))
    graph.add_edges_from(((int(u), 1), (int(v), 0)) for u, v in edges)
    return [int(nx.maximum_flow_value(graph, (0, 0), (v, 1))) for v in range(len(sizes))]


def sum_row(case: Case) -> list[str]:
    """A row of `sums`."""
    ours, read = case.times["netassay"], case.times["read"]
    cells = [case.times[arm].milliseconds() for arm in ("longest", "shares")]
    peers = [f"{case.times[p].minimum / ours.minimum:.0f}" if p in case.times else "-" for p in ("loop", "networkx")]
    return [case.name, ours.milliseconds(), *cells, read.milliseconds(), ours.over(read), *peers]


def cut_row(case: Case) -> list[str]:
    """A row of `cuts`."""
    ours = case.times["netassay"]
    peer = f"{case.times['networkx'].minimum / ours.minimum:.0f}" if "networkx" in case.times else "-"
    return [case.name, ours.milliseconds(), case.times["single"].milliseconds(), peer]


GROUPS = {
    "sums": Group(
        "Sums over all paths, three edges a node",
        sums,
        ("", "log2 sum ms", "longest ms", "shares ms", "read ms", "/ read", "loop x", "networkx x"),
        sum_row,
    ),
    "cuts": Group("Minimum cuts of a transformer", cuts, ("", "all nodes ms", "the last ms", "networkx x"), cut_row),
}
NOTES = (
    "/ read: the log2 sum over one max of edges and gains. loop x, networkx x: their time over ours;",
    "networkx's is for the longest path, or for the cuts of all nodes.",
)

if __name__ == "__main__":
    common.main(__doc__, GROUPS, ("netassay", "numpy", "networkx"), notes=NOTES)
