"""The disparity filter and its graphs: the reference, known answers, invariances, networkx, files, errors.

Tolerance of a significance (1 - p)^(k - 1): p is within (k + 4) 2^-53 of itself, and p times the derivative is at most
1; the reference rounds 1 - p, which k - 1 powers repeat. Together below 2 (k + 4) 2^-53 < 1e-12 for the k here.
"""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netassay.base.arrays import View
from netassay.base.errors import DomainError, DTypeError, NonFinite, ShapeError
from netassay.network import Backbone, backbone
from python.full import count
from python.matrices import DTYPES, make, typed
from reference import network as reference

SIZES = [(1, 1), (1, 2), (3, 15), (16, 17), (33, 31)]
KINDS = ["normal", "lognormal", "cauchy", "one-hot", "all zero", "half zero", "2 % dense", "dead rows and columns"]


def kept(got: Backbone) -> dict[tuple[int, int], float]:
    return dict(zip(zip(got.target.tolist(), got.source.tolist(), strict=True), got.significance, strict=True))


def assert_filtered(got: Backbone, x: np.ndarray, alpha: float) -> None:
    expected, found = reference.backbone(x, alpha), kept(got)
    assert list(found) == list(expected)  # by target, then source
    for link, significance in expected.items():
        assert abs(found[link] - significance) <= 1e-12
    assert (got.weight == x[got.target, got.source]).all()
    assert (got.layer == 0).all()
    assert got.sizes == x.shape[::-1]
    assert got.links == np.count_nonzero(x)
    assert len(got) == len(expected)
    flags = {"empty": not expected, "zero": not x.any()}
    assert got.flags == tuple(flag for flag, holds in flags.items() if holds)


# ---- parity ----


@pytest.mark.parametrize("alpha", [0.003, 0.05, 0.3, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_links_are_those_of_the_reference(kind: str, alpha: float) -> None:
    for m, n in SIZES:
        x = make(kind, m, n)
        assert_filtered(backbone(x, alpha), x, alpha)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_format_is_read_as_its_values(dtype: str) -> None:
    w, x = typed(make("normal", 12, 31) * (40 if dtype.endswith("int8") else 1), dtype)
    if dtype == "int8":  # |-128| is no int8
        w[0, 0] = x[0, 0] = -128
    assert_filtered(backbone(w, 0.2), x.astype(np.float64), 0.2)


def test_a_matrix_of_many_blocks_is_the_matrix() -> None:
    x = make("cauchy", 900, 1100)
    y = np.abs(x)
    chance = np.minimum((1 - y / y.sum(axis=1, keepdims=True)) ** 1099, (1 - y / y.sum(axis=0, keepdims=True)) ** 899)
    got = backbone(np.asfortranarray(x), 0.01)
    target, source = np.nonzero(chance < 0.01)
    assert len(got) > 1000
    assert np.array_equal(got.target, target)
    assert np.array_equal(got.source, source)
    assert np.abs(got.significance - chance[target, source]).max() <= 1e-12


# ---- known answers ----


def test_a_link_is_kept_for_either_of_its_ends() -> None:
    strong_at_its_target = np.array([[9.0, 0.5, 0.5], [9.0, 9.0, 9.0]])
    assert list(kept(backbone(strong_at_its_target, 0.05))) == [(0, 0)]
    assert list(kept(backbone(strong_at_its_target.T, 0.05))) == [(0, 0)]
    assert abs(backbone(strong_at_its_target, 0.05).significance[0] - 0.01) <= 1e-15


def test_of_a_node_with_one_link_the_other_end_decides() -> None:
    assert len(backbone(np.array([[5.0]]), 1)) == 0  # alone at both ends
    assert len(backbone(np.diag([1.0, 2.0, 3.0]), 1)) == 0
    star = np.array([[9.0, 0.5, 0.5]])  # each source has one link
    got = backbone(star, 0.05)
    assert kept(got).keys() == {(0, 0)}
    assert got.links == 3
    assert len(backbone(np.array([[9.0, 0.5, 0.0]]), 0.05)) == 0  # of two, (1 - 18/19)^1 is 0.053


@pytest.mark.parametrize("k", [2, 3, 10, 1000])
def test_equal_weights_have_no_backbone_at_the_usual_levels(k: int) -> None:
    assert len(backbone(np.full((k, k), -0.3), 1 / np.e)) == 0  # (1 - 1 / k)^(k - 1) > 1 / e
    assert len(backbone(np.full((k, k), -0.3), 0.51)) == k * k


def test_weights_at_random_keep_about_alpha_of_their_links_where_magnitudes_are_exponential() -> None:
    """The null of the filter: shares of a uniform division of the weight, as independent exponentials have."""
    x = np.random.default_rng(0).exponential(size=(1, 100_000))
    for alpha in (0.01, 0.1, 0.5):  # binomial, at 5 standard deviations
        assert abs(len(backbone(x, alpha)) / x.size - alpha) <= 5 * np.sqrt(alpha * (1 - alpha) / x.size)


def test_a_share_of_all_but_rounding_is_kept_at_any_level() -> None:
    got = backbone(np.array([[1.0, 1e-300, 1e-20]]), 1e-300)
    assert kept(got) == {(0, 0): 0.0}


# ---- invariances ----


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_scale_of_nodes_that_share_no_link_changes_nothing(scale: float) -> None:
    x = make("lognormal", 20, 31)
    expected = kept(backbone(x, 0.1))
    assert expected
    blocks = np.zeros((40, 62))
    blocks[:20, :31], blocks[20:, 31:] = x * scale, x / scale
    found = kept(backbone(blocks, 0.1))
    assert list(found) == list(expected) + [(k + 20, i + 31) for k, i in expected]
    assert np.abs(list(found.values()) - np.tile(list(expected.values()), 2)).max() <= 1e-12


@settings(max_examples=count(40, 800), deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99), st.floats(0.01, 0.99))
def test_fewer_links_at_a_smaller_level_and_the_same_for_any_sign_and_direction(
    m: int, n: int, seed: int, alpha: float
) -> None:
    x = make("lognormal", m, n, seed)
    wide, narrow = kept(backbone(x, alpha)), kept(backbone(x, alpha / 2))
    assert narrow.items() <= wide.items()
    assert kept(backbone(-x, alpha)) == wide
    turned = {(i, k): s for (k, i), s in kept(backbone(x.T, alpha)).items()}
    assert turned.keys() == wide.keys()


# ---- chains ----


def chain() -> list[np.ndarray]:
    return [make("cauchy", 7, 5), make("cauchy", 4, 7), make("cauchy", 3, 4)]


def test_a_chain_is_one_graph_of_its_layers() -> None:
    weights = chain()
    got = backbone(weights, 0.2)
    assert got.sizes == (5, 7, 4, 3)
    parts = [backbone(w, 0.2, first_layer=layer) for layer, w in enumerate(weights)]
    assert list(got.edges()) == [edge for part in parts for edge in part.edges()]
    assert got.links == sum(part.links for part in parts)
    joined = nx.compose_all([part.to_networkx() for part in parts])
    assert nx.utils.graphs_equal(joined, got.to_networkx())
    assert set(got.layer.tolist()) == {0, 1, 2}
    assert backbone(tuple(weights), 0.2).weight.tolist() == got.weight.tolist()


def test_a_view_is_one_matrix_though_it_is_a_tuple() -> None:
    x = make("cauchy", 7, 5)
    assert kept(backbone(View(x, "float64"), 0.2)) == kept(backbone([x], 0.2))


# ---- graphs and files ----


def test_the_graph_has_the_links_and_the_places_of_its_nodes() -> None:
    got = backbone(chain(), 0.2)
    graph = got.to_networkx()
    assert graph.is_directed()
    assert graph.graph == {"alpha": 0.2}
    assert graph.number_of_edges() == len(got)
    for layer, i, k, w, s in zip(got.layer, got.source, got.target, got.weight, got.significance, strict=True):
        assert graph.edges[f"{layer}:{i}", f"{layer + 1}:{k}"] == {"weight": w, "significance": s}
    for name, place in graph.nodes.items():
        assert name == f"{place['layer']}:{place['unit']}"
        assert graph.degree[name] > 0
    assert nx.is_directed_acyclic_graph(graph)


def test_a_graphml_file_is_read_by_networkx_as_the_graph(tmp_path: Path) -> None:
    for weights, alpha in ((chain(), 0.2), ([np.zeros((2, 3))], 0.5)):
        got, path = backbone(weights, alpha), tmp_path / "net.graphml"
        got.to_graphml(path)
        graph = nx.read_graphml(path)
        assert graph.is_directed()
        expected = got.to_networkx()
        assert dict(graph.nodes.items()) == dict(expected.nodes.items())
        assert dict(graph.edges.items()) == dict(expected.edges.items())


def test_a_graphml_file_replaces_the_old_one_or_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "net.graphml"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(OSError):
        backbone(chain(), 0.2).to_graphml(tmp_path / "none" / "net.graphml")
    backbone(chain(), 0.2).to_graphml(path)
    assert path.read_text(encoding="utf-8").startswith("<?xml")
    assert [p.name for p in tmp_path.iterdir()] == ["net.graphml"]


def test_without_networkx_the_error_says_what_to_install_and_files_are_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    got = backbone(chain(), 0.2)
    with pytest.raises(ImportError, match=r"^Backbone.to_networkx: expected networkx .* \(pip install networkx\)$"):
        got.to_networkx()
    got.to_graphml(tmp_path / "net.graphml")


def test_memory_is_that_of_blocks_and_kept_links() -> None:
    x = make("normal", 3000, 3000).astype(np.float32)
    tracemalloc.start()
    try:
        got = backbone(x, 0.01)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 < len(got) < 10_000
    assert peak < x.nbytes / 2


def test_results_cannot_be_written_to_and_what_is_given_is_left_alone() -> None:
    x = make("cauchy", 7, 5)
    before = x.copy()
    got = backbone(x, 0.2)
    for column in (got.layer, got.source, got.target, got.weight, got.significance):
        assert not column.flags.writeable
    assert (x == before).all()


# ---- errors ----


def test_errors_say_what_was_given_and_what_is_expected() -> None:
    w = np.ones((3, 2))
    for alpha in (0, -0.1, 1.5, np.nan, True, "0.05", None):
        with pytest.raises(DomainError, match=r"^backbone: got alpha=.*, expected a number above 0 and at most 1$"):
            backbone(w, alpha)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"^backbone: got no weights, expected at least one$"):
        backbone([], 0.1)
    with pytest.raises(
        ShapeError, match=r"^backbone: layer 0: got a weight of shape \(2, 2, 3\), expected \(out, in\)"
    ):
        backbone(np.ones((2, 2, 3)), 0.1)
    with pytest.raises(ShapeError, match=r"^backbone: layer 1: got a weight of shape \(0, 3\), expected \(out, in\)"):
        backbone([w, np.ones((0, 3))], 0.1)
    with pytest.raises(
        ShapeError, match=r"^backbone: got layer 1 of 2 inputs after one of 3 outputs, expected weights that chain$"
    ):
        backbone([w, w], 0.1)
    with pytest.raises(DomainError, match=r"^backbone: got first_layer -1, expected at least 0$"):
        backbone(w, 0.1, first_layer=-1)
    with pytest.raises(DTypeError, match=r"^backbone: layer 0: got dtype int64"):
        backbone(np.ones((2, 2), np.int64), 0.1)
    bad = np.ones((3, 3))
    for value in (np.nan, -np.inf):
        bad[2, 1] = value
        with pytest.raises(NonFinite, match=rf"^backbone: layer 1: got {value} at \[2, 1\] of the weight, expected"):
            backbone([w, bad], 0.1)
