"""Bounds from widths alone: parity with their definitions, laws, and networks whose regions are counted.

Regions are exact integers. The VC bound is one product and one sum of positive doubles: 1e-12 relative.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netassay import DomainError, DTypeError, LimitExceeded, ShapeError
from netassay.algebra import bounds as stem
from python.full import count
from reference import algebra as reference

WIDTHS = st.lists(st.integers(1, 6), min_size=2, max_size=5)
LAYERS = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 200)), min_size=0, max_size=6)
REGIONS = (stem.serra_regions, stem.montufar_bound)
OF_WIDTHS = (*REGIONS, stem.capacity)


def network(widths: Sequence[int], seed: int, whole: bool = False) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and biases, standard normal, or integers in -2..2, whose hyperplanes meet and coincide."""
    generator = np.random.default_rng([seed, *widths])

    def draw(*shape: int) -> np.ndarray:
        return generator.integers(-2, 3, shape).astype(float) if whole else generator.normal(size=shape)

    sizes = list(pairwise(widths))
    return [draw(o, i) for i, o in sizes], [draw(o) for _, o in sizes]


# Parity with the definitions


@given(WIDTHS)
@settings(max_examples=count(60, 1200), deadline=None)
def test_regions_are_those_of_the_definitions(widths: list[int]) -> None:
    assert stem.serra_regions(widths) == reference.serra_regions(widths)
    assert stem.montufar_bound(widths) == reference.montufar_bound(widths)


@given(LAYERS, st.integers(1, 200), st.integers(1, 4))
def test_the_vc_bound_is_its_formula(layers: list[tuple[int, int]], last: int, breakpoints: int) -> None:
    units, parameters = [*(k for k, _ in layers), 1], [*(w for _, w in layers), last]
    expected = reference.vc_bound(units, parameters, breakpoints)
    assert stem.vc_bound(units, parameters, breakpoints=breakpoints) == pytest.approx(expected, rel=1e-12)


@given(WIDTHS)
def test_capacity_is_its_formula(widths: list[int]) -> None:
    terms = [min(widths[: k + 1]) * widths[k] * widths[k + 1] for k in range(len(widths) - 1)]
    assert stem.capacity(widths) == sum(terms)


# Known answers


@pytest.mark.parametrize(
    ("widths", "serra", "montufar"),
    [([1, 3, 3], 16, 16), ([2, 4, 4], 121, 121), ([2, 4, 3, 2], 275, 308), ([3, 5, 2, 5], 754, 1664)],
)
def test_published_region_bounds(widths: list[int], serra: int, montufar: int) -> None:
    assert (stem.serra_regions(widths), stem.montufar_bound(widths)) == (serra, montufar)
    assert (reference.serra_regions(widths), reference.montufar_bound(widths)) == (serra, montufar)


@pytest.mark.parametrize("function", REGIONS)
@given(n=st.integers(1, 400), d=st.integers(1, 400))
def test_one_layer_has_the_regions_of_an_arrangement(function: Callable[..., int], n: int, d: int) -> None:
    assert function([d, n]) == reference.binomial_sum(n, d)  # Zaslavsky 1975


@given(st.integers(1, 60), st.lists(st.integers(0, 200), min_size=1, max_size=5))
def test_layers_of_twice_the_input_are_no_bottleneck(n0: int, more: list[int]) -> None:
    widths = [n0, *(2 * n0 + extra for extra in more)]
    assert stem.serra_regions(widths) == stem.montufar_bound(widths)


@pytest.mark.parametrize("n", [1, 2, 63, 64, 1000])
def test_one_unit_behind_a_full_layer_splits_all_regions_but_the_dead_one(n: int) -> None:
    assert stem.serra_regions([n, n, 1]) == 2 ** (n + 1) - 1
    assert stem.montufar_bound([n, n, 1]) == 2 ** (n + 1)


def test_a_threshold_unit_of_n_inputs_has_capacity_n_squared() -> None:
    assert stem.capacity([7, 1]) == 49
    assert stem.capacity([3, 2, 4]) == 18 + 16
    assert stem.capacity([10**6, 10**6, 10**6]) == 2 * 10**18


def test_without_parameters_nothing_is_shattered() -> None:
    assert stem.vc_bound([4, 1], [0, 0]) == 0.0


# Laws


@given(WIDTHS)
def test_regions_are_at_most_those_of_every_layer_cutting_freely(widths: list[int]) -> None:
    assert 1 < stem.serra_regions(widths) <= stem.montufar_bound(widths) <= 2 ** sum(widths[1:])


@pytest.mark.parametrize("function", OF_WIDTHS)
@given(widths=st.lists(st.integers(1, 40), min_size=2, max_size=5), data=st.data())
def test_wider_and_deeper_is_never_less(function: Callable[..., int], widths: list[int], data: st.DataObject) -> None:
    wider = list(widths)
    wider[data.draw(st.integers(0, len(widths) - 1))] += data.draw(st.integers(1, 10))
    assert function(wider) >= function(widths)
    assert function([*widths, data.draw(st.integers(1, 10))]) > function(widths)


@pytest.mark.parametrize("function", REGIONS)
def test_an_input_wider_than_the_first_layer_adds_nothing(function: Callable[..., int]) -> None:
    assert function([10**9, 5, 7, 3]) == function([5, 5, 7, 3])


@given(LAYERS, st.integers(1, 200), st.integers(1, 4))
def test_more_units_parameters_and_breakpoints_raise_the_vc_bound(
    layers: list[tuple[int, int]], last: int, breakpoints: int
) -> None:
    units, parameters = [*(k for k, _ in layers), 1], [*(w for _, w in layers), last]
    bound = stem.vc_bound(units, parameters, breakpoints=breakpoints)
    assert stem.vc_bound(units, parameters, breakpoints=breakpoints + 1) > bound
    for i in range(len(units)):
        more = [w + (i == k) for k, w in enumerate(parameters)]
        assert stem.vc_bound(units, more, breakpoints=breakpoints) > bound
    for i in range(len(units) - 1):
        more = [k + (i == j) for j, k in enumerate(units)]
        assert stem.vc_bound(more, parameters, breakpoints=breakpoints) > bound


@given(LAYERS, st.integers(1, 200), st.integers(1, 4), st.floats(0.001, 1000))
def test_more_points_than_the_vc_bound_have_more_labels_than_the_layers_leave(
    layers: list[tuple[int, int]], last: int, breakpoints: int, beyond: float
) -> None:
    """The theorem, derived again: log2 of prod_i 2 (2 e m p i k_i / W_i)^{W_i} is below m for m above the bound.

    Where r < 16, in one layer of one unit, that product says less than the dimension of linear functions, W.
    """
    units, parameters = [*(k for k, _ in layers), 1], [*(w for _, w in layers), last]
    m = stem.vc_bound(units, parameters, breakpoints=breakpoints) + beyond
    below = [sum(parameters[: i + 1]) for i in range(len(units))]
    assert m > sum(below)  # so every layer has more polynomials than parameters, as Warren's count needs
    if len(units) == 1 and breakpoints < 3:
        return
    signs = 0.0
    for i, (k, w) in enumerate(zip(units, below, strict=True), start=1):
        signs += 1 + w * math.log2(2 * math.e * m * breakpoints * i * k / w) if w else 0
    assert signs < m


# Large widths


def test_wide_layers_are_exact_too() -> None:
    """Three widths of which two give what can be said in closed form."""
    n = 10**6
    assert stem.serra_regions([1, n, n, n]) == (n + 1) ** 3
    assert stem.serra_regions([2, n, n]) == (1 + n + n * (n - 1) // 2) ** 2
    widths = [784, 1024, 1024, 1024, 10]
    assert stem.serra_regions(widths) < stem.montufar_bound(widths) < 2**3082
    assert stem.serra_regions(widths) >> 3079


@pytest.mark.parametrize("widths", [[300, 2000, 500, 700], [400, 400, 400, 400], [50, 3000, 60, 3000], [900, 20, 900]])
def test_the_limit_counts_what_is_held(widths: list[int]) -> None:
    tracemalloc.start()
    stem.serra_regions(widths)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    integers = 6 * (min(widths[:2]) + 1)
    assert peak <= stem._table_bits(widths) / 8 * 32 / 30 + 48 * integers  # 30 bits a digit; a header and a pointer


def test_the_limit_is_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = -(-stem._table_bits([50, 60, 40]) // 8)
    monkeypatch.setattr(stem, "LIMIT", needed)
    stem.serra_regions([50, 60, 40])
    monkeypatch.setattr(stem, "LIMIT", needed - 1)
    with pytest.raises(LimitExceeded, match=rf"^serra_regions: .* expected at most {needed - 1}$"):
        stem.serra_regions([50, 60, 40])


@pytest.mark.parametrize("function", REGIONS)
@pytest.mark.parametrize("widths", [[10**12, 10**12], [10**6, 2 * 10**6 + 1], [150528, 3211264, 3211264]])
def test_what_is_too_large_is_refused_before_it_is_computed(function: Callable[..., int], widths: list[int]) -> None:
    tracemalloc.start()
    with pytest.raises(LimitExceeded, match=r"^(serra_regions|montufar_bound): got widths that take integers of \d+ b"):
        function(widths)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


# Networks whose regions are counted


def test_three_pieces_of_a_maximum_behind_relu() -> None:
    """relu(max(x, -x) - 1): four patterns, two of which are zero beside each other."""
    weights, biases = [np.array([[1.0], [-1.0]]), np.array([[1.0]])], [np.zeros(2), np.array([-1.0])]
    assert reference.count_pieces(weights, biases, [2, "relu"]) == 3
    assert reference.count_regions(weights, biases, [2, "relu"]) == 4


def test_a_network_that_folds_the_line_has_as_many_regions_as_its_bound() -> None:
    """On each of four pieces the first layer runs through (-3, -2.5), where the second has its three thresholds."""
    fold = np.tile([-4.0, -8.0, 6.0], (3, 1))
    weights, biases = [np.array([[-1.0], [1.0], [1.0]]), fold], [np.array([0.75, -0.25, -0.5]), [2.6, 2.75, 2.9]]
    assert reference.count_regions(weights, np.array(biases), ["relu", "relu"]) == stem.serra_regions([1, 3, 3])


@pytest.mark.parametrize("widths", [[1, 4], [2, 4], [3, 4], [5, 3]])
def test_hyperplanes_in_general_position_attain_the_bound(widths: list[int]) -> None:
    assert reference.count_regions(*network(widths, 0), ["relu"]) == stem.serra_regions(widths)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("widths", [[1, 3, 3], [1, 2, 2, 2], [2, 1, 3], [2, 3, 2], [2, 3, 1, 3], [3, 2, 3]])
def test_no_network_has_more_regions_than_its_bound(widths: list[int], whole: bool) -> None:
    for seed in range(3):
        counted = reference.count_regions(*network(widths, seed, whole), ["relu"] * (len(widths) - 1))
        assert counted <= stem.serra_regions(widths)


@pytest.mark.parametrize(
    ("activation", "hyperplanes"), [("relu", 6), ("relu6", 12), (2, 3 * 1), (3, 2 * 3), (6, 15)], ids=str
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_layer_has_no_more_regions_than_its_hyperplanes(activation: str | int, hyperplanes: int, whole: bool) -> None:
    """2 of each ReLU6 unit, k (k - 1) / 2 of each maximum over k."""
    for seed in range(2):
        counted = reference.count_regions(*network([2, 6], seed, whole), [activation])
        assert 1 < counted <= reference.binomial_sum(hyperplanes, 2)


def test_equal_units_and_dead_ones_make_no_regions() -> None:
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    assert reference.count_regions([np.ones((2, 1))], [np.zeros(2)], [2]) == 1
    assert reference.count_regions([one, zero], [np.zeros(1), np.zeros(1)], ["relu", "relu"]) == 2
    for bias in (-1.0, 0.0, 3.0, 6.0, 7.0):
        assert reference.count_regions([zero], [np.array([bias])], ["relu6"]) == 1


# Types and errors


@pytest.mark.parametrize("function", OF_WIDTHS)
def test_widths_of_numpy_are_taken(function: Callable[..., int]) -> None:
    widths = np.array([2, 4, 3, 2], dtype=np.int8)
    assert function(widths) == function([2, 4, 3, 2]) == function(iter((2, 4, 3, 2)))
    assert type(function(widths)) is int


@pytest.mark.parametrize("function", OF_WIDTHS)
def test_widths_that_are_none_are_refused(function: Callable[..., int]) -> None:
    name = function.__name__
    with pytest.raises(ShapeError, match=rf"^{name}: got 1 widths, expected at least 2"):
        function([3])
    with pytest.raises(DomainError, match=rf"^{name}: got widths 0, expected at least 1$"):
        function([3, 0, 2])
    for wrong in ([3, 2.0], ["3", 2], 5, [None, 1]):
        with pytest.raises(DTypeError, match=rf"^{name}: got widths .*, expected integers$"):
            function(wrong)


def test_what_the_vc_bound_does_not_cover_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"^vc_bound: got 2 units and 1 parameters, expected one of each a layer$"):
        stem.vc_bound([3, 1], [4])
    with pytest.raises(ShapeError, match=r"^vc_bound: got 0 units"):
        stem.vc_bound([], [])
    with pytest.raises(DomainError, match=r"^vc_bound: got 2 units in the last layer, expected 1"):
        stem.vc_bound([3, 2], [4, 4])
    with pytest.raises(DomainError, match=r"^vc_bound: got parameters -1, expected at least 0$"):
        stem.vc_bound([3, 1], [4, -1])
    with pytest.raises(DomainError, match=r"^vc_bound: got breakpoints 0, expected at least 1$"):
        stem.vc_bound([1], [4], breakpoints=0)
    with pytest.raises(DTypeError, match=r"^vc_bound: got breakpoints \[1.5\], expected integers$"):
        stem.vc_bound([1], [4], breakpoints=1.5)
