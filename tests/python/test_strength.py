"""Node strength of a chain and its fluctuation: the reference, known answers, laws, errors.

Tolerances: float64 sums of N terms in any order are within N 2^-52 sum |terms|. Of independent links, the variance of a
layer of n nodes has a relative standard deviation of about sqrt(2 / (n - 1)) (exactly for normal weights), so that its
root, the normalised fluctuation, has 1 / sqrt(2 (n - 1)).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netassay.base.errors import DomainError, DTypeError, NonFinite, ShapeError
from netassay.network import Strengths, expected_fluctuation, fluctuation, layer_strength, strength
from python.full import count
from python.matrices import DTYPES, typed
from reference import network as reference

EPSILON = 2.0**-52
WIDTHS = [(1, 1), (3, 2), (5, 1, 4), (16, 33, 17, 3), (97, 2, 31)]


def chain(widths: tuple[int, ...], seed: int = 0, scale: float = 1) -> tuple[list[np.ndarray], list[np.ndarray]]:
    g = np.random.default_rng(seed)
    weights = [scale * g.standard_normal((n, m)) for m, n in pairwise(widths)]
    return weights, [scale * g.standard_normal(n) for n in widths[1:]]


def assert_strengths(got: Strengths, weights: list[np.ndarray], biases: list[Any]) -> None:
    expected = reference.strength(weights, biases)
    size = reference.strength([np.abs(w) for w in weights], [None if b is None else np.abs(b) for b in biases])
    links = max(w.size for w in weights) + 2
    assert [len(s) for s in got] == [len(s) for s in expected]
    for s, literal, most in zip(got, expected, size, strict=True):
        assert (np.abs(s - literal) <= links * EPSILON * np.array(most)).all()
    for y, literal, most in zip(fluctuation(got), expected, size, strict=True):
        assert abs(y - reference.fluctuation(literal)) <= links * EPSILON * max(most)


# ---- parity ----


@pytest.mark.parametrize("widths", WIDTHS)
def test_strengths_and_fluctuation_are_the_references(widths: tuple[int, ...]) -> None:
    weights, biases = chain(widths)
    assert_strengths(strength(weights, biases), weights, biases)
    assert_strengths(strength(weights), weights, [None] * len(weights))
    some: list[Any] = [None, *biases[1:]]
    assert_strengths(strength(weights, some), weights, some)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_format_is_read_as_its_values(dtype: str) -> None:
    weights, biases = chain((5, 9, 4), scale=40 if dtype.endswith("int8") else 1)
    made = [typed(w, dtype) for w in weights]
    offsets = [typed(b, dtype) for b in biases]
    got = strength([each.given for each in made], [each.given for each in offsets])
    exact = [each.values.astype(np.float64) for each in made], [each.values.astype(np.float64) for each in offsets]
    assert_strengths(got, *exact)
    assert np.abs(got.expected / strength(*exact).expected - 1).max() <= 1e-13


def test_the_formats_of_a_chain_may_differ() -> None:
    weights, biases = chain((5, 9, 4))
    given_ = [weights[0].astype(np.float32), weights[1].astype(np.float16)]
    assert_strengths(strength(given_, biases), [w.astype(np.float64) for w in given_], biases)  # type: ignore[arg-type]


# ---- known answers ----


def test_a_bias_counts_once_on_the_incoming_side() -> None:
    weights = [np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([[10.0, 20.0, 30.0]])]
    got = strength(weights, [np.array([0.25, 0.5, 0.75]), np.array([0.125])])
    assert [s.tolist() for s in got] == [[10, 13], [13.25, 27.5, 41.75], [61.125]]


def test_strengths_are_a_sequence_of_arrays_that_nobody_writes_to() -> None:
    got = strength([np.ones((3, 2))])
    assert len(got) == 2
    assert [s.shape for s in got] == [(2,), (3,)]
    assert got[-1] is got.nodes[1]
    assert got[:1] == got.nodes[:1]
    assert not any(s.flags.writeable for s in (*got, got.expected, fluctuation(got)))


def test_fluctuation_is_the_standard_deviation_of_a_layer() -> None:
    assert fluctuation([np.array([1.0, 3.0, 5.0, 7.0]), np.array([[[2.0], [4.0]]])]).tolist() == [math.sqrt(5), 1]
    assert fluctuation([]).shape == (0,)


def test_nodes_that_are_equal_do_not_fluctuate_at_all() -> None:
    for value in (0.1, -1e300, 5e-324, 0.0):
        assert fluctuation([np.full(1000, value)]).tolist() == [0]
    got = strength([np.full((50, 70), 0.1), np.full((33, 50), -0.3)], [np.full(50, 0.7), None])
    assert fluctuation(got).tolist() == [0, 0, 0]
    assert got.expected.tolist() == [0, 0, 0]
    assert fluctuation(got, normalized=True).tolist() == [0, 0, 0]


def naive(s: np.ndarray) -> float:
    return math.sqrt(max(0.0, float((s * s).mean() - s.mean() ** 2)))


def test_a_mean_far_from_zero_costs_nothing_where_the_naive_formula_fails() -> None:
    s = np.random.default_rng(0).standard_normal(1000) + 1e9
    expected = reference.fluctuation(s.tolist())
    assert abs(fluctuation([s])[0] / expected - 1) <= 1e-12
    assert abs(naive(s) / expected - 1) > 1e-3


@pytest.mark.parametrize("exponent", [-1000, -600, 600, 1000])
def test_fluctuation_scales_with_the_strengths(exponent: int) -> None:
    s = np.random.default_rng(1).standard_normal(100)
    assert fluctuation([np.ldexp(s, exponent)])[0] == np.ldexp(fluctuation([s])[0], exponent)


# ---- normalised by what independent links would give ----


def test_independent_weights_fluctuate_as_expected() -> None:
    widths, nets = (60, 200, 90, 40), 60
    found = np.array([fluctuation(strength(*chain(widths, seed)), normalized=True) for seed in range(nets)])
    squares = (found**2).mean(axis=0)  # of `nets` layers of n nodes each: 1 +- sqrt(2 / (n - 1) / nets)
    for square, n in zip(squares, widths, strict=True):
        assert abs(square - 1) <= 5 * math.sqrt(2 / (n - 1) / nets)
    unlike = [chain(widths, 0, scale)[0][layer] for layer, scale in enumerate((0.01, 1, 30))]
    n = np.array(widths)
    assert (np.abs(fluctuation(strength(unlike), normalized=True) - 1) <= 5 / np.sqrt(2 * (n - 1))).all()


def test_weights_that_agree_within_their_units_fluctuate_more_than_expected() -> None:
    weights, _ = chain((60, 200))
    weights[0] += 2 * np.random.default_rng(5).standard_normal((200, 1))
    assert fluctuation(strength(weights), normalized=True)[1] > 3


def test_the_expectation_is_the_formula_by_population_variances() -> None:
    weights, biases = chain((7, 12, 5))
    first, last = (w.var() for w in weights)
    expected = [
        expected_fluctuation(7, fan_in=0, variance_in=0, fan_out=12, variance_out=first),
        expected_fluctuation(
            12, fan_in=7, variance_in=first, fan_out=5, variance_out=last, variance_bias=biases[0].var()
        ),
        expected_fluctuation(5, fan_in=12, variance_in=last, fan_out=0, variance_out=0, variance_bias=biases[1].var()),
    ]
    assert np.abs(strength(weights, biases).expected / expected - 1).max() <= 1e-12
    literal = math.sqrt(11 / 12) * math.sqrt(7 * first + biases[0].var() + 5 * last)
    assert abs(expected[1] / literal - 1) <= 4 * EPSILON
    assert expected_fluctuation(1, fan_in=3, variance_in=1, fan_out=3, variance_out=1) == 0


def test_independent_kernels_fluctuate_as_expected() -> None:
    g, nets, shapes = np.random.default_rng(2), 60, [(32, 3, 3, 3), (64, 8, 3, 3), (48, 64, 1, 1)]
    groups = [1, 4, 1]
    found = [
        fluctuation(strength([g.standard_normal(shape) for shape in shapes], groups=groups), normalized=True)
        for _ in range(nets)
    ]
    for square, n in zip(np.square(found).mean(axis=0), (3, 32, 64, 48), strict=True):
        assert abs(square - 1) <= 5 * math.sqrt(2 / (n - 1) / nets)


@pytest.mark.parametrize("exponent", [-700, 700])
def test_the_normalised_fluctuation_does_not_depend_on_the_scale_even_where_variances_leave_float64(
    exponent: int,
) -> None:
    weights, biases = chain((7, 12, 5))
    plain, scaled = (
        strength([np.ldexp(w, e) for w in weights], [np.ldexp(b, e) for b in biases]) for e in (0, exponent)
    )
    expected, got = fluctuation(plain, normalized=True), fluctuation(scaled, normalized=True)
    assert abs(got[1] / expected[1] - 1) <= 1e-12  # at both ends the 1 takes the small ones in
    assert np.abs(np.ldexp(scaled.expected, -exponent) / plain.expected - 1).max() <= 1e-12


# ---- convolutions ----


def test_the_nodes_of_convolutions_are_their_channels() -> None:
    g = np.random.default_rng(3)
    weights, groups = [g.standard_normal(s) for s in ((6, 3, 3, 3), (4, 3, 2, 2), (5, 4))], [1, 2, 1]
    biases = [g.standard_normal(n) for n in (6, 4, 5)]
    got = strength(weights, biases, groups=groups)
    first = layer_strength(weights[0], biases[0], kind="conv2d")
    second = layer_strength(weights[1], biases[1], kind="conv2d", groups=2)
    last = layer_strength(weights[2], biases[2])
    for s, expected in zip(
        got,
        (1 + first.outgoing, first.incoming + second.outgoing, second.incoming + last.outgoing, last.incoming + 1),
        strict=True,
    ):
        assert np.abs(s - expected).max() <= 1e-13


# ---- laws ----


@settings(max_examples=count(40, 800), deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(0, 99))
def test_the_order_of_units_orders_their_strengths_and_changes_no_fluctuation(widths: list[int], seed: int) -> None:
    weights, biases = chain(tuple(widths), seed)
    orders = [np.random.default_rng(seed).permutation(n) for n in widths]
    moved = [w[np.ix_(orders[layer + 1], orders[layer])] for layer, w in enumerate(weights)]
    plain, permuted = (
        strength(weights, biases),
        strength(moved, [b[o] for b, o in zip(biases, orders[1:], strict=True)]),
    )
    for s, t, order in zip(plain, permuted, orders, strict=True):
        assert np.abs(s[order] - t).max() <= 1e-13
    assert np.abs(fluctuation(plain) - fluctuation(permuted)).max() <= 1e-13


def test_threads_do_not_change_a_bit() -> None:
    weights, biases = chain((900, 1200, 70))
    one = strength(weights, biases, threads=1)
    for threads in (2, 3, 7):
        got = strength(weights, biases, threads=threads)
        assert [s.tobytes() for s in (*got, got.expected)] == [s.tobytes() for s in (*one, one.expected)]


# ---- errors ----


def test_errors_say_what_was_given_and_what_is_expected() -> None:
    w = np.ones((3, 2))
    with pytest.raises(ShapeError, match=r"^strength: got no weights, expected at least one$"):
        strength([])
    with pytest.raises(
        ShapeError, match=r"^strength: got layer 1 of 2 inputs after one of 3 outputs, expected weights that chain$"
    ):
        strength([w, w])
    with pytest.raises(
        ShapeError, match=r"^strength: layer 1: got a weight of shape \(3,\), expected \(out, in, \.\.\.\)"
    ):
        strength([w, np.ones(3)])
    with pytest.raises(ShapeError, match=r"^strength: got 2 biases for 1 weights, expected one for each$"):
        strength([w], [None, None])
    with pytest.raises(ShapeError, match=r"^strength: got 2 groups for 1 weights, expected one for each$"):
        strength([w], groups=[1, 1])
    with pytest.raises(ShapeError, match=r"^strength: layer 0: got 2 groups of 3 channels, expected a divisor$"):
        strength([w], groups=2)
    with pytest.raises(ShapeError, match=r"^strength: layer 0: got a bias of shape \(2,\), expected \(3,\)$"):
        strength([w], [np.ones(2)])
    with pytest.raises(DTypeError, match=r"^strength: layer 0: got dtype int64"):
        strength([np.ones((3, 2), np.int64)])
    with pytest.raises(ShapeError, match=r"^fluctuation: layer 1: got no nodes, expected at least one$"):
        fluctuation([np.ones(2), np.ones(0)])
    with pytest.raises(DomainError, match=r"^fluctuation: got list to normalise, expected what `strength` returns$"):
        fluctuation([np.ones(2)], normalized=True)
    with pytest.raises(DomainError, match=r"^expected_fluctuation: got nodes=0, expected at least 1$"):
        expected_fluctuation(0, fan_in=1, variance_in=1, fan_out=1, variance_out=1)
    with pytest.raises(DomainError, match=r"^expected_fluctuation: got variance_out=-1, expected at least 0$"):
        expected_fluctuation(2, fan_in=1, variance_in=1, fan_out=1, variance_out=-1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_is_named_by_its_layer_and_index(bad: float) -> None:
    weights, biases = chain((2, 3, 4))
    biases[0][2] = bad
    with pytest.raises(
        NonFinite, match=rf"^strength: layer 0: got {bad} at \[2\] of the bias, expected finite values$"
    ):
        strength(weights, biases)
    weights[1][3, 1] = bad
    with pytest.raises(NonFinite, match=rf"^strength: layer 1: got {bad} at \[3, 1\] of the weight, expected finite"):
        strength(weights)
    with pytest.raises(NonFinite, match=rf"^fluctuation: layer 1: got {bad} among the strengths, expected finite"):
        fluctuation([np.ones(2), np.array([1.0, bad])])


def test_sums_that_float64_does_not_hold_are_refused() -> None:
    with pytest.raises(
        NonFinite, match=r"^strength: got weights whose sums lie beyond float64, expected smaller ones$"
    ):
        strength([np.full((1, 2), 1.5e308)])
    with pytest.raises(NonFinite, match=r"^strength: got weights whose sums lie beyond float64"):
        strength([np.full((1, 2), 1.5e308), np.full((2, 1), -1.5e308)])  # infinities of both signs are no NaN
