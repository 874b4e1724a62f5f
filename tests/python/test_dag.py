"""Path sums and vertex cuts against the enumeration of all paths, networkx, and what must not change them.

Tolerance. A log2 sum adds a few units in the last place of its bits at each node: at most 8 nodes on a path here and
values below 64, 8 x 4 x 64 x 2^-53 < 1e-12. Sums of small integers, counts, lengths and cuts are exact.
"""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netassay as na
from netassay import _core
from netassay.algebra import Fields, aggregate, minimum_vertex_cut, minimum_vertex_cuts, path_shares
from python.full import count
from reference import algebra as reference

pytestmark = pytest.mark.native

LAWS = settings(max_examples=count(150, 3000), deadline=None, derandomize=True)
TOLERANCE = 1e-12
DIAMOND = [(0, 1), (0, 2), (1, 3), (2, 3)]

Edges = list[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, Edges, list[int]]:
    """(nodes, edges, sources): edges go up in a hidden order, may be parallel, and may enter sources."""
    nodes = draw(st.integers(1, 7))
    name = draw(st.permutations(range(nodes)))
    pair = st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1)).filter(lambda p: p[0] != p[1])
    drawn = draw(st.lists(pair, max_size=12)) if nodes > 1 else []
    edges = [(name[min(p)], name[max(p)]) for p in drawn]
    return nodes, edges, draw(st.lists(st.integers(0, nodes - 1), max_size=3))


def integers(low: int, high: int, count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(low, high, count)


def each(graph: tuple[int, Edges, list[int]], gains: Any, semiring: str) -> list[Any]:
    nodes, edges, sources = graph
    return [reference.aggregate(edges, gains, semiring, sources, node) for node in range(nodes)]


# Parity with the enumeration of all paths


@LAWS
@given(graphs())
def test_sums_of_bits_are_those_over_all_paths(graph: tuple[int, Edges, list[int]]) -> None:
    nodes, edges, sources = graph
    gains = np.random.default_rng(len(edges)).normal(0, 3, len(edges))
    gains[:1] = -np.inf  # an edge that carries nothing
    got = aggregate(edges, gains, nodes=nodes, sources=sources)
    np.testing.assert_allclose(got, each(graph, gains, "log2_sum"), rtol=0, atol=TOLERANCE)


@LAWS
@given(graphs(), st.sampled_from(["longest", "shortest", "widest"]))
def test_extremes_are_those_over_all_paths(graph: tuple[int, Edges, list[int]], semiring: str) -> None:
    nodes, edges, sources = graph
    gains = integers(-4, 5, len(edges)).astype(float)
    got = aggregate(edges, gains, nodes=nodes, sources=sources, semiring=semiring)
    assert got.tolist() == each(graph, gains, semiring)


@LAWS
@given(graphs(), st.data())
def test_counts_and_lengths_are_those_over_all_paths(graph: tuple[int, Edges, list[int]], data: st.DataObject) -> None:
    nodes, edges, sources = graph
    targets = data.draw(st.lists(st.integers(0, nodes - 1), max_size=4))
    times, steps = integers(0, 4, len(edges)), integers(0, 3, len(edges))
    counts = each(graph, times, "count")
    assert aggregate(edges, times, nodes=nodes, sources=sources, semiring="count") == counts
    chosen = aggregate(edges, times, nodes=nodes, sources=sources, semiring="count", targets=targets)
    assert chosen == [counts[node] for node in targets]
    lengths = each(graph, steps, "lengths")
    got = aggregate(edges, steps, nodes=nodes, sources=sources, semiring="lengths", targets=targets)
    assert got == [lengths[node] for node in targets]
    ends = [node for node in range(nodes) if node not in {u for u, _ in edges}]
    assert aggregate(edges, steps, nodes=nodes, sources=sources, semiring="lengths") == [lengths[node] for node in ends]


@LAWS
@given(graphs(), st.data())
def test_shares_are_the_part_of_the_paths_that_takes_an_edge(
    graph: tuple[int, Edges, list[int]], data: st.DataObject
) -> None:
    nodes, edges, sources = graph
    targets = data.draw(st.lists(st.integers(0, nodes - 1), max_size=3))
    gains = np.random.default_rng(len(edges)).normal(0, 3, len(edges))
    ways = [path for target in set(targets) for path in reference.paths(edges, sources, target)]
    weight = [2.0 ** sum(gains[e] for e in path) for path in ways]
    through = [sum(w for w, path in zip(weight, ways, strict=True) if e in path) for e in range(len(edges))]
    expected = np.array(through) / math.fsum(weight) if ways else np.zeros(len(edges))
    got = path_shares(edges, gains, nodes=nodes, sources=sources, targets=targets)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


@LAWS
@given(graphs(), st.data())
def test_shares_are_differences_of_the_total_where_nodes_multiply(
    graph: tuple[int, Edges, list[int]], data: st.DataObject
) -> None:
    """Central differences of step h: h^2 = 1e-8 times a third derivative of some tens."""
    nodes, edges, sources = graph
    products = data.draw(st.lists(st.integers(0, nodes - 1), max_size=4))
    gains, h = integers(-3, 4, len(edges)).astype(float), 1e-4

    def total(gains: np.ndarray) -> float:
        values = aggregate(edges, gains, nodes=nodes, sources=sources, products=products)
        leaves = [v for v in range(nodes) if v not in {u for u, _ in edges}]
        return float(np.log2(np.exp2(values[leaves]).sum()))

    shares = path_shares(edges, gains, nodes=nodes, sources=sources, products=products)
    with np.errstate(divide="ignore"):
        if total(gains) == -np.inf:
            assert not shares.any()
            return
    steps = [h * (np.arange(len(edges)) == e) for e in range(len(edges))]
    slopes = [(total(gains + step) - total(gains - step)) / (2 * h) for step in steps]
    np.testing.assert_allclose(shares, slopes, rtol=0, atol=1e-5)


@LAWS
@given(graphs())
def test_cuts_are_the_cheapest_sets_that_every_path_meets(graph: tuple[int, Edges, list[int]]) -> None:
    nodes, edges, sources = graph
    capacities = integers(0, 6, nodes)
    got = minimum_vertex_cuts(edges, capacities, sources=sources)
    for node in range(nodes):
        ways = reference.paths(edges, sources, node)
        expected = reference.minimum_vertex_cut(edges, capacities.tolist(), sources, node) if ways else -1
        cut = minimum_vertex_cut(edges, capacities, node, sources=sources)
        assert got[node] == cut.value == expected
        assert capacities[cut.nodes].sum() == max(expected, 0)
        kept = [(u, v) for u, v in edges if not {u, v} & {*cut.nodes}]
        left = [s for s in sources if s not in cut.nodes]
        assert not ways or node in cut.nodes or not reference.paths(kept, left, node)


# Beside networkx


def random_dag(nodes: int, degree: int, seed: int) -> np.ndarray:
    """Edges to each node from `degree` of the twelve before it, some twice."""
    random = np.random.default_rng(seed)
    heads = np.repeat(np.arange(1, nodes), degree)
    tails = heads - 1 - random.integers(0, np.minimum(12, heads))
    return np.stack([tails, heads], axis=1)


def networkx_cut(edges: np.ndarray, capacities: np.ndarray, sources: list[int], target: int) -> int:
    """By maximum flow where each node is an edge of its capacity."""
    graph = nx.DiGraph()
    graph.add_edges_from(((v, "in"), (v, "out"), {"capacity": int(c)}) for v, c in enumerate(capacities))
    graph.add_edges_from(((int(u), "out"), (int(v), "in")) for u, v in edges)
    graph.add_edges_from(("start", (s, "in")) for s in sources)
    return int(nx.maximum_flow_value(graph, "start", (target, "out")))


@pytest.mark.parametrize("seed", range(6))
def test_cuts_are_those_of_networkx(seed: int) -> None:
    nodes = 120
    edges = random_dag(nodes, 2 + seed % 2, seed)
    capacities = np.random.default_rng(seed).integers(1, 50, nodes)
    capacities[::17] //= 8  # bottlenecks, which are dominators of what follows now and then
    sources = [[0], [0, 3, 60]][seed % 2]
    got = minimum_vertex_cuts(edges, capacities, sources=sources)
    for target in range(0, nodes, 7):
        expected = networkx_cut(edges, capacities, sources, target)
        cut = minimum_vertex_cut(edges, capacities, target, sources=sources)
        assert got[target] == cut.value == expected == capacities[cut.nodes].sum()
        graph = nx.MultiDiGraph([*map(tuple, edges.tolist())])
        graph.remove_nodes_from(cut.nodes.tolist())
        left = [s for s in sources if s in graph]
        assert target not in graph or not any(nx.has_path(graph, s, target) for s in left)


def test_counts_and_longest_paths_of_a_large_graph_are_those_of_plain_loops() -> None:
    nodes = 3000
    edges = random_dag(nodes, 3, 0)
    gains = np.random.default_rng(0).integers(0, 9, len(edges))
    count, longest = [1] + [0] * (nodes - 1), [0] + [-1] * (nodes - 1)
    for (u, v), gain in zip(edges.tolist(), gains.tolist(), strict=True):  # heads ascend
        count[v] += count[u]
        longest[v] = max(longest[v], longest[u] + gain)
    assert aggregate(edges, semiring="count") == count
    assert count[-1] > 2**800
    assert aggregate(edges, gains, semiring="longest").tolist() == longest
    bits = aggregate(edges)
    for node in range(0, nodes, 100):  # log2 of an integer beyond a double
        shift = max(0, count[node].bit_length() - 64)
        assert math.isclose(bits[node], math.log2(count[node] >> shift) + shift, rel_tol=1e-12)


# Known answers


def test_a_thousand_residual_blocks_have_binomially_many_paths_of_each_length() -> None:
    edges, steps = [], []
    for block in range(1000):
        edges += [(2 * block, 2 * block + 1), (2 * block + 1, 2 * block + 2), (2 * block, 2 * block + 2)]
        steps += [1, 0, 0]
    assert aggregate(edges, semiring="count", targets=[2000]) == [2**1000]
    assert aggregate(edges)[-1] == 1000
    assert aggregate(edges, steps, semiring="lengths") == [tuple(math.comb(1000, k) for k in range(1001))]


def test_a_product_takes_what_reaches_it_and_one_for_what_does_not() -> None:
    edges, gains = [(0, 1), (0, 2), (1, 3), (2, 3), (4, 3)], [3, 4, 0.5, 0.25, 9]
    options: dict[str, Any] = {"sources": [0], "products": [3]}
    assert aggregate(edges, gains, **options).tolist() == [0, 3, 4, 7.75, -np.inf]
    assert path_shares(edges, gains, **options, targets=[3]).tolist() == [1, 1, 1, 1, 0]
    assert aggregate(edges, gains, sources=[4], products=[3]).tolist() == [-np.inf, -np.inf, -np.inf, 9, 0]


def test_a_million_steps_of_many_bits_need_no_stack_and_do_not_overflow() -> None:
    steps = 1_000_000
    chain = np.stack([np.arange(steps), np.arange(1, steps + 1)], axis=1)
    down = chain[:, ::-1]
    ladder = np.repeat(chain, 2, axis=0)
    assert aggregate(ladder, np.full(2 * steps, 1e5))[-1] == (1e5 + 1) * steps
    assert (path_shares(ladder, np.full(2 * steps, 1e5)) == 0.5).all()
    assert aggregate(down, np.full(steps, 2.0), semiring="longest")[0] == 2 * steps
    [histogram] = aggregate(down, semiring="lengths")
    assert len(histogram) == steps + 1
    assert histogram[-1] == 1
    assert sum(histogram) == 1
    assert aggregate(chain, semiring="count", targets=[steps]) == [1]
    assert minimum_vertex_cuts(chain, np.full(steps + 1, 7))[-1] == 7
    assert minimum_vertex_cut(down, np.arange(steps + 1) + 5, 0).nodes.tolist() == [0]


def test_sums_relative_to_the_largest_hold_where_powers_of_two_overflow() -> None:
    edges = [(0, 1), (0, 1), (0, 1)]
    assert aggregate(edges, [1e5, 1e5, 1e5 + 1])[1] == 1e5 + 2
    assert aggregate(edges, [1e5 + 1, 1e5, 1e5])[1] == 1e5 + 2
    assert aggregate(edges, [-1e5, -1e5, -1e5 + 1])[1] == -1e5 + 2
    with np.errstate(over="ignore"):
        assert np.log2(np.exp2([1e5, 1e5, 1e5 + 1]).sum()) == np.inf


def test_defaults_are_one_of_each_semiring() -> None:
    assert aggregate(DIAMOND).tolist() == [0, 0, 0, 1]
    assert aggregate(DIAMOND, semiring="longest").tolist() == [0, 0, 0, 0]
    assert aggregate(DIAMOND, semiring="widest").tolist() == [np.inf] * 4
    assert aggregate(DIAMOND, semiring="lengths", targets=[0, 3]) == [(1,), (0, 0, 2)]
    assert aggregate(DIAMOND, nodes=6).tolist() == [0, 0, 0, 1, 0, 0]  # a node without edges is a source
    assert aggregate(DIAMOND, sources=[]).tolist() == [-np.inf] * 4
    assert aggregate([], nodes=2).tolist() == [0, 0]
    assert aggregate([]).tolist() == []
    assert aggregate([], [], semiring="receptive_field").size.tolist() == []


def test_receptive_fields_grow_by_extent_times_stride() -> None:
    """AlexNet's features: 11/4, pool 3/2, 5, pool 3/2, 3, 3, 3, pool 3/2 see 195 positions, 32 apart."""
    layers = [(10, 4), (2, 2), (4, 1), (2, 2), (2, 1), (2, 1), (2, 1), (2, 2)]
    edges = [(k, k + 1) for k in range(len(layers))]
    fields = aggregate(edges, layers, semiring="receptive_field")
    assert isinstance(fields, Fields)
    assert fields.size.tolist() == [1, 11, 19, 51, 67, 99, 131, 163, 195]
    assert fields.stride[-1] == 32
    assert fields.consistent.all()
    assert fields.consistent.dtype == np.bool_


def test_branches_of_different_stride_are_told_apart() -> None:
    gains = [(2, 2), (4, 1), (0, 1), (0, 1), (np.inf, 3)]
    fields = aggregate([*DIAMOND, (3, 4)], gains, nodes=6, semiring="receptive_field", sources=[0])
    assert fields.size.tolist() == [1, 3, 5, 5, np.inf, 0]
    assert fields.stride.tolist() == [1, 2, 1, 2, 6, 0]
    assert fields.consistent.tolist() == [True, True, True, False, False, True]


def test_two_branches_from_one_bottleneck_are_not_two_bottlenecks() -> None:
    edges = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)]
    assert minimum_vertex_cuts(edges, [100, 8, 8, 8, 16]).tolist() == [100, 8, 8, 8, 8]
    assert minimum_vertex_cut(edges, [100, 8, 8, 8, 16], 4).nodes.tolist() == [1]
    assert minimum_vertex_cut(edges, [100, 90, 8, 9, 18], 4).nodes.tolist() == [2, 3]
    unreached = minimum_vertex_cut(edges, [1, 1, 1, 1, 1], 0, sources=[1])
    assert (unreached.value, unreached.nodes.tolist()) == (-1, [])
    assert minimum_vertex_cuts(edges, [5, 3, 9, 9, 9], sources=[1, 3]).tolist() == [-1, 3, 3, 9, 9]


# Invariances


@LAWS
@given(graphs(), st.randoms(use_true_random=False))
def test_names_of_nodes_and_order_of_edges_do_not_matter(graph: tuple[int, Edges, list[int]], random: Any) -> None:
    nodes, edges, sources = graph
    name, order = [*range(nodes)], [*range(len(edges))]
    random.shuffle(name)
    random.shuffle(order)
    gains, capacities = integers(0, 4, len(edges)), integers(0, 9, nodes)
    renamed = [(name[edges[e][0]], name[edges[e][1]]) for e in order]
    starts = [name[s] for s in sources]
    back = [name[v] for v in range(nodes)]
    for semiring in ("longest", "shortest", "widest", "count"):
        got = aggregate(renamed, gains[order], nodes=nodes, sources=starts, semiring=semiring)
        expected = aggregate(edges, gains, nodes=nodes, sources=sources, semiring=semiring)
        assert np.array(got)[back].tolist() == np.array(expected).tolist()
    got = aggregate(renamed, gains[order], nodes=nodes, sources=starts)[back]
    np.testing.assert_allclose(got, aggregate(edges, gains, nodes=nodes, sources=sources), rtol=0, atol=TOLERANCE)
    cuts = minimum_vertex_cuts(renamed, capacities[np.argsort(name)], sources=starts)[back]
    assert cuts.tolist() == minimum_vertex_cuts(edges, capacities, sources=sources).tolist()


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "int32": lambda x: x.astype(np.int32),
    "uint8": lambda x: x.astype(np.uint8),
    "big-endian": lambda x: x.astype(">i8"),
    "fortran": np.asfortranarray,
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "negative strides": lambda x: x[::-1].copy()[::-1],
    "read-only": lambda x: np.broadcast_to(x, x.shape),
    "lists": lambda x: x.tolist(),
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_any_form_give_the_same(form: str) -> None:
    edges = random_dag(40, 2, 1)
    gains, capacities = integers(0, 5, len(edges)), integers(1, 9, 40)
    change = FORMS[form]
    for semiring in ("log2_sum", "longest", "count", "lengths"):
        expected = aggregate(edges, gains, semiring=semiring)
        got = aggregate(change(edges), change(gains), semiring=semiring)
        assert [*got] == [*expected]
    pairs = np.stack([gains, gains + 1], axis=1)
    fields = aggregate(change(edges), change(pairs), semiring="receptive_field")
    assert np.array_equal(fields.size, aggregate(edges, pairs, semiring="receptive_field").size)
    assert np.array_equal(path_shares(change(edges), change(gains)), path_shares(edges, gains))
    expected = minimum_vertex_cuts(edges, capacities)
    assert np.array_equal(minimum_vertex_cuts(change(edges), change(capacities)), expected)
    start = change(np.array([0, 5]))
    assert np.array_equal(aggregate(edges, gains, sources=start), aggregate(edges, gains, sources=[0, 5]))
    assert np.array_equal(aggregate(edges, gains, products=start), aggregate(edges, gains, products=[0, 5]))


# Errors


def bad() -> Iterator[tuple[type[Exception], str, Callable[[], object]]]:
    one = [(0, 1)]
    yield (
        na.DomainError,
        "aggregate: got semiring 'sum', expected one of log2_sum, longest",
        lambda: aggregate(one, semiring="sum"),
    )
    yield na.ShapeError, r"aggregate: got edges of shape \(3,\), expected \(m, 2\)", lambda: aggregate([0, 1, 2])
    yield na.ShapeError, r"of shape \(1, 3\)", lambda: aggregate([(0, 1, 2)])
    yield na.DTypeError, "got edges of dtype float64, expected integers", lambda: aggregate([(0.0, 1.0)])
    yield na.DTypeError, "got edges of dtype bool", lambda: aggregate([(False, True)])
    yield (
        na.DomainError,
        "got 18446744073709551615 among edges",
        lambda: aggregate(np.array([[0, 2**64 - 1]], np.uint64)),
    )
    yield na.DomainError, "got edge 0 from 0 to 1, expected nodes from 0 to 0", lambda: aggregate(one, nodes=1)
    yield na.DomainError, "got edge 0 from -1 to 1", lambda: aggregate([(-1, 1)])
    yield na.DomainError, "got a cycle through node [01], expected none", lambda: aggregate([(0, 1), (1, 0)])
    yield na.DomainError, "got a cycle through node 2", lambda: aggregate([(0, 2), (2, 2), (2, 1)])
    yield na.ShapeError, "got 2 gains, expected 1, one for each edge", lambda: aggregate(one, [1, 2])
    yield na.ShapeError, r"got gains of shape \(1, 1\), expected \(m,\)", lambda: aggregate(one, [[1]])
    yield na.DTypeError, "got gains of dtype complex128, expected real", lambda: aggregate(one, [1j])
    yield na.NonFinite, "got gain nan of edge 0", lambda: aggregate(one, [np.nan])
    yield na.NonFinite, "got gain inf of edge 0, expected a number below infinity", lambda: aggregate(one, [np.inf])
    yield na.NonFinite, "got gain -inf of edge 0", lambda: aggregate(one, [-np.inf], semiring="shortest")
    yield na.NonFinite, "at node 2 is beyond a double", lambda: aggregate([(0, 1), (1, 2)], [1.5e308, 1.5e308])
    yield (
        na.DTypeError,
        "got gains of dtype float64, expected integers",
        lambda: aggregate(one, [1.0], semiring="count"),
    )
    yield (
        na.DomainError,
        "got gains from -1 to -1, expected 0 to 18446744073709551615",
        lambda: aggregate(one, [-1], semiring="count"),
    )
    yield na.DomainError, "expected 0 to 4294967295", lambda: aggregate(one, [2**32], semiring="lengths")
    yield na.ShapeError, "got no gains for receptive fields", lambda: aggregate(one, semiring="receptive_field")
    yield na.ShapeError, r"gains of shape \(1,\) for receptive", lambda: aggregate(one, [1], semiring="receptive_field")
    yield na.DomainError, r"got \(-1, 1\) of edge 0", lambda: aggregate(one, [(-1, 1)], semiring="receptive_field")
    yield na.NonFinite, r"got \(nan, 1\) of edge 0", lambda: aggregate(one, [(np.nan, 1)], semiring="receptive_field")
    yield na.DomainError, "got source 2, expected a node below 2", lambda: aggregate(one, sources=[2])
    yield na.DTypeError, "got sources of dtype float64", lambda: aggregate(one, sources=[0.5])  # type: ignore[list-item]
    yield na.ShapeError, r"got sources of shape \(\)", lambda: aggregate(one, sources=0)  # type: ignore[call-overload]
    yield na.DomainError, "got product 2", lambda: aggregate(one, products=[2])
    yield na.DomainError, "got target 2", lambda: path_shares(one, targets=[2])
    yield (
        na.DomainError,
        "got products with semiring 'longest'",
        lambda: aggregate(one, semiring="longest", products=[1]),
    )
    yield (
        na.DomainError,
        "got targets with semiring 'log2_sum'",
        lambda: aggregate(one, semiring="log2_sum", targets=[1]),
    )
    yield na.DTypeError, "got nodes 2.0, expected an integer", lambda: aggregate(one, nodes=2.0)  # type: ignore[call-overload]
    yield na.DomainError, "got nodes -1", lambda: aggregate(one, nodes=-1)
    yield (
        na.LimitExceeded,
        "path_lengths: got lengths that spread",
        lambda: aggregate(one * 2, [0, 2**31], semiring="lengths"),
    )
    yield na.ShapeError, r"minimum_vertex_cut: got capacities of shape \(\)", lambda: minimum_vertex_cut(one, 3, 1)
    yield na.DTypeError, "got capacities of dtype float64", lambda: minimum_vertex_cuts(one, [1.0, 2.0])
    yield na.DomainError, "got capacity -1 of node 1", lambda: minimum_vertex_cuts(one, [1, -1])
    yield na.DomainError, "2\\^63 - 1 and more in all", lambda: minimum_vertex_cuts(one, [2**62, 2**62])
    yield na.DomainError, "got target 2, expected a node below 2", lambda: minimum_vertex_cut(one, [1, 1], 2)
    yield na.DomainError, "got target -1", lambda: minimum_vertex_cut(one, [1, 1], -1)
    yield na.DomainError, "got edge 0 from 0 to 1", lambda: minimum_vertex_cuts(one, [1])
    yield (
        na.DomainError,
        "path_sums: got semiring 'x'",
        lambda: _core.algebra.path_sums(
            0, *(np.empty(0, np.int64),) * 2, np.empty(0), semiring="x", sources=None, products=np.empty(0, np.int64)
        ),
    )


@pytest.mark.parametrize(("error", "text", "call"), list(bad()), ids=[text for _, text, _ in bad()])
def test_what_is_refused_says_what_and_where(error: type[Exception], text: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=text):
        call()


# Results, threads, memory, interruption


def test_results_are_frozen_and_arrays_read_only() -> None:
    fields = aggregate(DIAMOND, [(0, 1)] * 4, semiring="receptive_field")
    cut = minimum_vertex_cut(DIAMOND, [1] * 4, 3)
    for result, name in ((fields, "size"), (cut, "value")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, name, 1)
        assert not hasattr(result, "__dict__")
    arrays = [aggregate(DIAMOND), path_shares(DIAMOND), minimum_vertex_cuts(DIAMOND, [1] * 4)]
    for array in [*arrays, fields.size, fields.stride, fields.consistent, cut.nodes]:
        assert not array.flags.writeable


def test_threads_that_share_edges_get_the_same() -> None:
    edges = random_dag(20_000, 3, 2)
    gains = np.random.default_rng(2).normal(size=len(edges))
    expected = aggregate(edges, gains).tobytes(), path_shares(edges, gains).tobytes()
    found: list[tuple[bytes, bytes]] = []

    def work() -> None:
        found.append((aggregate(edges, gains).tobytes(), path_shares(edges, gains).tobytes()))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [expected] * 4


HELD = """
import resource
import numpy as np
from netassay.algebra import aggregate

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

nodes = 60_000  # Fibonacci numbers of up to 5 kB, 150 MB of them in all
later = np.arange(2, nodes)
edges = np.concatenate([np.stack([later - 1, later], 1), np.stack([later - 2, later], 1)])
aggregate(edges, nodes=nodes)
before = peak()
[count] = aggregate(edges, semiring="count", sources=[0, 1], targets=[nodes - 1])
assert count.bit_length() > 41_000
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are counted in kilobytes on Linux alone")
def test_numbers_that_nobody_asked_for_are_dropped_after_their_last_use() -> None:
    # a sanitizer keeps freed memory for a while: 256 MB of it unless told
    options = {"ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=1"}
    command = [sys.executable, "-c", HELD]
    done = subprocess.run(command, env=os.environ | options, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50_000_000


INTERRUPTED = """
import signal
import numpy as np
from netassay.algebra import aggregate, minimum_vertex_cuts

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
steps = 400_000  # all numbers of a ladder, of up to 50 kB each; each node after a flow through all before it
chain = np.stack([np.arange(steps), np.arange(1, steps + 1)], axis=1)
wide = np.concatenate([chain, np.stack([np.zeros(steps - 1, int), np.arange(2, steps + 1)], axis=1)])
for work in (
    lambda: aggregate(np.repeat(chain, 2, axis=0), semiring="count", targets=[steps]),
    lambda: minimum_vertex_cuts(wide, np.full(steps + 1, 3), sources=[0, 1]),
):
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        work()
    except KeyboardInterrupt:
        print("interrupted")
    signal.setitimer(signal.ITIMER_REAL, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX timers")
def test_ctrl_c_stops_long_sums_and_flows() -> None:
    command = [sys.executable, "-W", "ignore", "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["interrupted"] * 2
