"""netassay.network.Population: which numbers of many networks tell those of low scores from those of high ones."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netassay import DomainError, NonFinite, Report, SelectionError, ShapeError, TooFewRows, measure_weights
from netassay.network import Contrast, NodeLayer, NodeStrengths, Population, divergence, layer_links, link_weights
from python.checkpoints import write


def drawn(scale: float, shift: float = 0.0, *, seed: int, shape: tuple[int, int] = (40, 30)) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, shape)


def spreading(count: int = 12) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Networks whose weights spread with their score in "fc", and have nothing to do with it in "head"."""
    scores = np.linspace(0, 1, count)
    networks = [
        {"fc": layer_links(drawn(1 + s, seed=i)), "head": layer_links(drawn(1, seed=100 + i))}
        for i, s in enumerate(scores)
    ]
    return networks, scores


def numbers(values: Any) -> list[dict[str, Any]]:
    return [{"fc": {"weights": [1.0, 2.0], "number": float(v)}} for v in values]


NODES = NodeLayer("fc", None, "linear", (2,), *[np.ones(2)] * 6)


# ---- groups ----


def test_groups_are_quantiles_of_the_score_whatever_order_networks_come_in() -> None:
    networks, scores = spreading()
    order = np.random.default_rng(0).permutation(len(scores))
    plain = Population(networks, scores)
    mixed = Population([networks[i] for i in order], scores[order])
    assert [len(group) for group in plain.groups] == [4, 4, 4]
    for one, two in zip(plain.groups, mixed.groups, strict=True):
        assert sorted(scores[one]) == sorted(scores[order][two])
    assert [one.auc for one in plain.contrast().separations] == [one.auc for one in mixed.contrast().separations]
    assert len(Population(networks, scores, bins=6).groups) == 6


def test_networks_of_equal_score_are_never_parted() -> None:
    population = Population(numbers(range(8)), [0, 0, 0, 0, 0, 1, 1, 1], bins=2)
    assert [list(group) for group in population.groups] == [[0, 1, 2, 3, 4], [5, 6, 7]]
    with pytest.raises(TooFewRows, match=r"^Population: got 0 networks in group 2 of 2 by score, expected at least 2"):
        Population(numbers(range(8)), [1.0] * 8, bins=2)


# ---- one number per network ----


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=5))
def test_auc_is_the_share_of_pairs_in_which_the_high_one_is_greater(values: list[tuple[int, int]]) -> None:
    low, high = zip(*values, strict=True)
    population = Population(numbers([*low, *high]), range(2 * len(values)), bins=2)
    found = population.contrast(permutations=1).separation("fc", "number", "value")
    assert found.auc == pytest.approx(np.mean([(x > y) + (x == y) / 2 for x in high for y in low]), abs=1e-12)
    assert (found.low, found.high) == (pytest.approx(np.mean(low)), pytest.approx(np.mean(high)))


def test_the_p_value_is_the_share_of_all_ways_to_label_the_networks() -> None:
    values = [0.0, 1.0, 3.0, 2.0, 5.0, 4.0]
    found = Population(numbers(values), range(6), bins=2).contrast(permutations=20_000)
    one = found.separation("fc", "number", "value")
    every = []
    for chosen in combinations(range(6), 3):
        others = [i for i in range(6) if i not in chosen]
        every.append(np.mean([values[i] > values[j] for i in others for j in chosen]))
    share = np.mean([abs(auc - 0.5) >= abs(one.auc - 0.5) - 1e-12 for auc in every])
    assert one.auc == np.mean([x > y for x in values[3:] for y in values[:3]])
    # four standard errors of a share of 20,000 independent permutations
    assert one.p_value == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 20_000))


def test_what_spreads_with_the_score_separates_and_what_does_not_does_not() -> None:
    networks, scores = spreading(24)
    contrast = Population(networks, scores).contrast()
    weights = contrast.separation("fc", "weights")
    assert (weights.auc, weights.p_value) == (1.0, 1 / 1001)
    assert weights.high / weights.low == pytest.approx(
        np.mean(1 + scores[-8:]) / np.mean(1 + scores[:8]), rel=0.04
    )  # four sigma
    assert contrast.separation("fc", "incoming").auc > 0.9
    for quantity in ("weights", "incoming", "outgoing"):
        assert contrast.separation("head", quantity).p_value > 0.01
    back = Population(networks, -scores).contrast().separation("fc", "weights")
    assert (back.auc, back.p_value) == (0.0, 1 / 1001)


def test_the_weights_own_deviation_stands_first_in_every_layer() -> None:
    networks, scores = spreading()
    separations = Population(networks, scores).contrast().separations
    for layer in ("fc", "head"):
        several = [one for one in separations if one.layer == layer]
        assert (several[0].quantity, several[0].scalar) == ("weights", "std")
        assert {(one.quantity, one.scalar) for one in several} >= {("incoming", "std"), ("outgoing", "degree")}
    with pytest.raises(DomainError, match=r"got layer 'fc' with strength, expected 'weights' too"):
        Population([{"fc": {"strength": [1.0, 2.0]}}] * 6, range(6))


def test_the_numbers_are_those_of_the_layers() -> None:
    networks, scores = spreading(6)
    contrast = Population(networks, scores).contrast()
    low = [network["fc"] for network in networks[:2]]
    assert contrast.separation("fc", "weights").low == pytest.approx(np.mean([one.std for one in low]), rel=1e-14)
    fluctuation = contrast.separation("fc", "incoming").low
    assert fluctuation == pytest.approx(np.mean([one.incoming_fluctuation for one in low]), rel=1e-14)
    degree = contrast.separation("fc", "outgoing", "degree").low
    assert degree == pytest.approx(np.mean([one.outgoing_degree for one in low]), rel=1e-14)


# ---- pooled values ----


def test_pooled_values_have_the_divergence_of_all_of_a_groups_values() -> None:
    networks, scores = spreading()
    low, high = networks[:4], networks[-4:]
    contrast = Population(networks, scores).contrast(kind="jeffreys")
    strengths = [np.concatenate([network["fc"].incoming for network in several]) for several in (low, high)]
    expected = divergence(*strengths, kind="jeffreys", permutations=0).value
    assert contrast.divergence("fc", "incoming").value == pytest.approx(expected, rel=1e-12)
    densities = [sum(network["fc"].density for network in several) for several in (low, high)]
    expected = divergence(*densities, counts=True, kind="jeffreys", permutations=0).value
    assert contrast.divergence("fc", "weights").value == pytest.approx(expected, rel=1e-12)


def test_arrays_of_weights_are_pooled_like_strengths() -> None:
    arrays = [drawn(1 + i / 6, seed=i) for i in range(6)]
    population = Population([{"fc": {"weights": w, "strength": w.sum(axis=1)}} for w in arrays], range(6))
    expected = divergence(np.stack(arrays[:2]), np.stack(arrays[-2:]), permutations=0).value
    assert population.contrast().divergence("fc", "weights").value == pytest.approx(expected, rel=1e-12)


def test_networks_that_differ_alone_pass_for_a_difference_of_values_and_not_of_networks() -> None:
    """Why networks are what the null deals out: each has a spread of its own that its score knows nothing of."""
    rejected = {"networks": 0, "values": 0}
    for trial in range(60):
        random = np.random.default_rng(trial)
        networks = [{"fc": {"weights": random.normal(0, s, 200)}} for s in random.uniform(0.5, 1.5, 8)]
        population = Population(networks, random.normal(size=8), bins=2)
        for exchange in rejected:
            found = population.contrast(exchange=exchange, permutations=99, seed=trial).divergence("fc", "weights")
            assert found.p_value is not None
            rejected[exchange] += found.p_value <= 0.1
    # of 60 at level 0.1: 6 expected, and 15 is four standard deviations above
    assert rejected["networks"] <= 15
    assert rejected["values"] >= 30


def test_the_same_seed_gives_the_same_contrast() -> None:
    networks, scores = spreading()
    population = Population(networks, scores)
    assert population.contrast() == population.contrast()
    assert population.contrast(seed=1).divergences != population.contrast().divergences


def test_other_groups_are_compared_too() -> None:
    networks, scores = spreading()
    contrast = Population(networks, scores).contrast(0, 1)
    assert (contrast.low, contrast.high) == ((scores[0], scores[3]), (scores[4], scores[7]))
    assert contrast.separation("fc", "weights").auc == 1.0


# ---- where networks come from ----


@pytest.mark.parametrize("kind", ["float", "float32", "int64", "array", "tensor"])
def test_numbers_of_any_type_are_numbers(kind: str) -> None:
    make: Any = {"float": float}.get(kind) or getattr(pytest.importorskip("torch") if kind == "tensor" else np, kind)
    networks = [{"fc": {"weights": [1.0, 2.0], "number": make(v)}} for v in range(6)]
    contrast = Population(networks, range(6)).contrast()
    assert contrast.separation("fc", "number", "value").auc == 1
    assert [one.quantity for one in contrast.divergences] == ["weights"]


def test_reports_are_networks(tmp_path: Path) -> None:
    reports, layers = [], []
    for i in range(6):
        w = drawn(1 + i, seed=i).astype(np.float32)
        reports.append(measure_weights(write(tmp_path / f"{i}.safetensors", {"fc.weight": w}), measures="network"))
        layers.append({"fc": layer_links(w)})
    assert Population(reports, range(6)).contrast() == Population(layers, range(6)).contrast()


def test_layers_and_quantities_that_not_all_networks_have_are_left_out_and_named() -> None:
    networks, scores = spreading(6)
    del networks[2]["head"]
    networks[4] = networks[4] | {"extra": networks[4]["fc"]}
    population = Population(networks, scores)
    assert population.layers == {"fc": ("weights", "incoming", "outgoing")}
    assert {layer for layer, _ in population.left_out} == {"head", "extra"}
    with pytest.raises(DomainError, match=r"^Population: got 6 networks without a layer that all have, expected one$"):
        Population([{f"fc{i}": networks[0]["fc"]} for i in range(6)], scores)


@pytest.mark.parametrize(
    ("networks", "scores", "options", "error", "message"),
    [
        (numbers(range(4)), [1, 2, 3], {}, ShapeError, r"^Population: got scores of shape \(3,\) for 4 networks"),
        ([], [], {}, ShapeError, r"for 0 networks, expected one each"),
        (numbers(range(4)), [1, 2, 3, math.nan], {}, NonFinite, r"got a score that is a NaN or an infinity"),
        (numbers(range(4)), range(4), {"bins": 1}, DomainError, r"bins=1, expected at least 2"),
        (numbers(range(4)), range(4), {}, TooFewRows, r"got \d networks in group \d of 3 by score"),
        (numbers([1, 2, 3, 4, 5, math.inf]), range(6), {}, NonFinite, r"a NaN or an infinity, expected finite values"),
        ([3] * 6, range(6), {}, DomainError, r"got a int, expected a report or a mapping of layers"),
        ([{"fc": 3}] * 6, range(6), {}, DomainError, r"got layer 'fc' as a int, expected a result of layer_links"),
        ([{"fc": link_weights(np.eye(3))}] * 6, range(6), {}, DomainError, r"got layer 'fc' as a LinkWeights"),
        ([NodeStrengths((NODES,))] * 6, range(6), {}, DomainError, r"^Population: got a NodeStrengths, expected a rep"),
        ([Report(())] * 6, range(6), {}, DomainError, r"got a report without the measure 'network', expected one"),
    ],
)
def test_what_is_no_population_is_an_error(
    networks: Any, scores: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Population(networks, scores, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "euclid"}, r"^Population\.contrast: got kind='euclid', expected one of"),
        ({"exchange": "layers"}, r"exchange='layers'"),
        ({"permutations": 0}, r"permutations=0, expected at least 1"),
        ({"bins": 1}, r"bins=1"),
        ({"seed": -1}, r"seed=-1, expected at least 0"),
    ],
)
def test_options_outside_their_domain_are_errors(options: Any, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        Population(*spreading(6)).contrast(**options)


# ---- what it prints ----


def test_it_prints_a_line_for_every_number_with_the_weights_first() -> None:
    networks, scores = spreading()
    population = Population(networks, scores)
    text = str(population)
    assert text == str(population.contrast())
    groups, header, _, first = (line for line in text.splitlines()[:5] if line)
    assert groups == "low: 4 networks of 0 to 0.2727; high: 4 networks of 0.7273 to 1"
    told = ["layer", "quantity", "of it", "low", "high", "ratio", "AUC", "p", "divergence", "by chance", "p"]
    assert header.split() == " ".join(told).split()
    assert first.split()[:3] == ["fc", "weights", "std"]
    assert len(text.splitlines()) == 4 + len(population.contrast().separations)
    hostile = Population([{"\x1b[2J": network["fc"]} for network in networks], scores)
    assert all(c.isprintable() or c == "\n" for c in str(hostile))


def test_an_unknown_layer_of_a_contrast_is_an_error() -> None:
    contrast: Contrast = Population(*spreading(6)).contrast()
    with pytest.raises(SelectionError, match=r"^Contrast: got 'x', 'weights', 'std', expected one of its separations$"):
        contrast.separation("x", "weights")
    with pytest.raises(SelectionError, match=r"^Contrast: got 'fc', 'x', expected one of its divergences$"):
        contrast.divergence("fc", "x")
