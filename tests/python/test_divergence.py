"""netassay.network.divergence: how far two distributions are apart, beside what chance gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netassay import DomainError, DTypeError, NonFinite, ShapeError, TooFewRows
from netassay.network import Divergence, divergence, layer_links, link_weights

KINDS = ("jensen_shannon", "jeffreys")


def literal(a: Sequence[int], b: Sequence[int], kind: str) -> float:
    """Term by term, over the bins that hold anything."""
    bins = [(x + 0.5, y + 0.5) for x, y in zip(a, b, strict=True) if x + y > 0]
    total_a, total_b = math.fsum(x for x, _ in bins), math.fsum(y for _, y in bins)
    shares = [(x / total_a, y / total_b) for x, y in bins]
    if kind == "jeffreys":
        return math.fsum((p - q) * math.log(p / q) for p, q in shares)
    return math.fsum(0.5 * (p * math.log2(p / ((p + q) / 2)) + q * math.log2(q / ((p + q) / 2))) for p, q in shares)


def counted(a: Any, b: Any, **options: Any) -> Divergence:
    return divergence(np.array(a), np.array(b), counts=True, **options)


HISTOGRAMS = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        *[st.lists(st.integers(0, 1000), min_size=size, max_size=size).filter(any) for _ in range(2)]
    )
)


# ---- the value ----


@pytest.mark.parametrize("kind", KINDS)
@given(sides=HISTOGRAMS)
def test_it_is_the_formula(kind: str, sides: tuple[list[int], list[int]]) -> None:
    # logarithms of 12 ratios between 1e-3 and 1e3, each within an ulp or two
    assert counted(*sides, kind=kind, permutations=0).value == pytest.approx(literal(*sides, kind), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(sides=HISTOGRAMS, times=st.integers(2, 4))
def test_it_is_symmetric_at_least_0_and_empty_bins_change_nothing(kind: str, sides: Any, times: int) -> None:
    a, b = sides
    value = counted(a, b, kind=kind, permutations=0).value
    assert value >= 0
    assert counted(b, a, kind=kind, permutations=0).value == pytest.approx(value, abs=1e-12)
    assert counted([0] * times + a, [0] * times + b, kind=kind, permutations=0).value == pytest.approx(value, abs=1e-12)
    assert counted(a, a, kind=kind, permutations=0).value == 0


def test_jensen_shannon_reaches_1_bit_and_jeffreys_stays_finite_where_nothing_is_shared() -> None:
    for size in (10, 10**4, 10**8):
        far = counted([size, 0], [0, size], permutations=0).value
        p, q = (size + 0.5) / (size + 1), 0.5 / (size + 1)
        assert far == pytest.approx(1 + p * math.log2(p) + q * math.log2(q), abs=1e-12)
        assert counted([size, 0], [0, size], kind="jeffreys").value == pytest.approx(2 * (p - q) * math.log(p / q))
    assert far > 1 - 1e-6


def test_the_grid_of_samples_follows_their_order_alone() -> None:
    random = np.random.default_rng(0)
    a, b = random.standard_cauchy(300), random.standard_cauchy(200) + 1
    plain = divergence(a, b)
    assert divergence(a**3, b**3) == plain  # any ascending function of the values
    assert divergence(7 * a - 4, 7 * b - 4) == plain
    assert divergence(a[::-1].reshape(30, 10), b) == plain


def test_tensors_of_any_format_are_samples() -> None:
    torch = pytest.importorskip("torch")
    a, b = torch.arange(20.0, requires_grad=True), torch.arange(5, 30)
    expected = divergence(np.arange(20), np.arange(5, 30))
    assert divergence(a, b) == divergence(a.bfloat16(), b.half()) == expected
    with pytest.raises(DTypeError, match=r"got values of dtype complex64"):
        divergence(a, b + 1j)


def test_edges_fix_the_grid() -> None:
    a, b = [0.0, 0.5, 1.0, 3.0], [1.0, 1.0, 9.0]
    expected = counted([2, 1, 1], [0, 2, 1])  # a value on an edge counts with the greater ones
    assert divergence(a, b, edges=[1.0, 2.0]) == expected


def test_results_with_a_density_are_compared_on_the_grid_they_share() -> None:
    random = np.random.default_rng(1)
    a, b = random.standard_normal((30, 20)), 1.5 * random.standard_normal((20, 25))
    layers = divergence(layer_links(a), layer_links(b))
    assert layers == divergence(link_weights(a), link_weights(b))
    assert layers == counted(layer_links(a).density, layer_links(b).density)
    assert layers.p_value is not None
    assert layers.p_value < 0.05


# ---- the null ----


@pytest.mark.parametrize("kind", KINDS)
def test_the_null_is_that_of_every_way_to_deal_the_pooled_values(kind: str) -> None:
    a, b = [3, 0, 2], [1, 2, 0]
    pooled = [place for place, (x, y) in enumerate(zip(a, b, strict=True)) for _ in range(x + y)]
    every = []
    for chosen in combinations(range(len(pooled)), sum(a)):
        first = [sum(pooled[i] == k for i in chosen) for k in range(3)]
        every.append(literal(first, [x + y - z for x, y, z in zip(a, b, first, strict=True)], kind))
    found = counted(a, b, kind=kind, permutations=20_000)
    assert found.null_mean is not None
    assert found.null_std is not None
    assert found.p_value is not None
    # four standard errors of a mean, a deviation and a share of 20,000 independent draws
    deviation = float(np.std(every))
    assert found.null_mean == pytest.approx(np.mean(every), abs=4 * deviation / math.sqrt(20_000))
    assert found.null_std == pytest.approx(deviation, rel=0.1)
    share = np.mean([v >= found.value - 1e-9 for v in every])
    assert found.p_value == pytest.approx(share, abs=4 * math.sqrt(share / 20_000))
    assert found.excess == found.value - found.null_mean


@pytest.mark.parametrize("sizes", [(40, 70), (15, 300)])
def test_samples_of_one_distribution_have_uniform_p_values_though_their_divergence_is_far_from_0(
    sizes: tuple[int, int],
) -> None:
    random = np.random.default_rng(2)
    found = [divergence(random.normal(size=sizes[0]), random.normal(size=sizes[1]), permutations=99, seed=i)
             for i in range(300)]  # fmt: skip
    p_values = np.array([one.p_value for one in found])
    for level in (0.1, 0.5, 0.9):
        assert np.mean(p_values <= level) == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 300))
    assert np.mean([one.value for one in found]) > 0.05  # what a value without its null would be taken for
    # of 300 independent excesses, in units of the null's own spread: four standard errors
    excesses = [one.excess / one.null_std for one in found if one.excess is not None and one.null_std]
    assert abs(np.mean(excesses)) < 4 / math.sqrt(300)


@pytest.mark.parametrize("n", [10, 20, 50, 200])
def test_samples_that_do_not_touch_are_told_apart_however_few(n: int) -> None:
    """No permutation of 200 parts them as well: p is the least there is, 1 / 201."""
    found = divergence(np.arange(n), np.arange(n) + 1e4)
    assert found.p_value == 1 / 201


@pytest.mark.parametrize(("sizes", "bins"), [((3, 4), 4), ((20, 39), 5), ((100, 100), 20), ((400, 500), 32)])
def test_samples_have_a_bin_for_ten_values_and_from_4_to_32(sizes: tuple[int, int], bins: int) -> None:
    random = np.random.default_rng(0)
    a, b = (random.normal(size=size) for size in sizes)
    assert divergence(a, b) == divergence(a, b, bins=bins) != divergence(a, b, bins=bins + 1)


def test_small_samples_are_told_apart_about_as_often_as_by_kolmogorov_and_smirnov() -> None:
    """Means one deviation apart, 20 each: power 0.65 at level 0.05; 0.1 with 32 bins."""
    random = np.random.default_rng(0)
    draws = [(random.normal(size=20), random.normal(1, size=20)) for _ in range(60)]
    found = [divergence(a, b, permutations=99, seed=seed).p_value for seed, (a, b) in enumerate(draws)]
    assert np.mean([p is not None and p <= 0.05 for p in found]) > 0.4


def test_different_distributions_have_an_excess_and_the_least_p_value() -> None:
    random = np.random.default_rng(3)
    found = divergence(random.normal(size=200), random.normal(1, size=300), permutations=99)
    assert found.excess is not None
    assert found.excess > 0.1
    assert found.p_value == 1 / 100


def test_more_values_than_can_be_dealt_out_have_the_null_of_two_samples_of_their_pool() -> None:
    a, b = np.array([6, 3, 1]) * 10**9, np.array([3, 5, 2]) * 10**9
    found = counted(a, b)
    assert found.p_value == 1 / 201
    assert found.null_mean is not None
    # of two large samples, k bins: (k - 1) / (8 ln 2) (1 / n + 1 / m) bits; 200 draws of a chi-square of 2, four errors
    expected = 2 / (8 * math.log(2)) * (1e-10 + 1e-10)
    assert found.null_mean == pytest.approx(expected, rel=4 / math.sqrt(200))


def test_the_same_seed_gives_the_same_null_and_another_one_another() -> None:
    a, b = np.arange(50), np.arange(30) * 2
    assert divergence(a, b) == divergence(a, b)
    assert divergence(a, b, seed=1).null_mean != divergence(a, b).null_mean


def test_without_permutations_there_is_no_null() -> None:
    found = divergence([1.0, 2.0, 3.0], [2.0, 5.0], permutations=0)
    assert (found.null_mean, found.null_std, found.excess, found.p_value) == (None, None, None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_are_all_the_same_do_not_differ(kind: str) -> None:
    found = divergence([2.0, 2.0], [2.0], kind=kind, edges=[1.0])
    assert (found.value, found.excess, found.p_value, found.flags) == (0, 0, 1, ("single_bin",))


# ---- what is refused ----


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "message"),
    [
        ([1.0], [], {}, TooFewRows, r"^divergence: got a sample of no values, expected at least one$"),
        ([1.0], [math.nan], {}, NonFinite, r"^divergence: got a NaN or an infinity, expected finite values$"),
        ([1.0], [1j], {}, DTypeError, r"^divergence: got values of dtype complex128, expected real numbers$"),
        ([1.0], [2.0], {"kind": "euclid"}, DomainError, r"^divergence: got kind='euclid', expected one of"),
        ([1.0], [2.0], {"bins": 1}, DomainError, r"bins=1, expected at least 2"),
        ([1.0], [2.0], {"permutations": -1}, DomainError, r"permutations=-1"),
        ([1.0], [2.0], {"seed": -1}, DomainError, r"^divergence: got seed=-1, expected at least 0$"),
        ([1.0], [2.0], {"edges": [2.0, 1.0]}, DomainError, r"edges of shape \(2,\), expected \(k,\), ascending"),
        ([1, 2], [1, 2, 3], {"counts": True}, ShapeError, r"got counts of shapes \(2,\) and \(3,\)"),
        ([1, 2], [0, 0], {"counts": True}, TooFewRows, r"got counts that are all 0"),
        ([1, 2], [1, -2], {"counts": True}, DomainError, r"got a count of -2, expected none below 0"),
        ([2**62, 1], [2**62, 1], {"counts": True}, DomainError, r"got counts of 2\*\*63 and more, expected fewer"),
        (np.uint64([2**63, 1]), [1, 2], {"counts": True}, DomainError, r"got counts of 2\*\*63 and more"),
        ([1, 2], [0.5, 1], {"counts": True}, DTypeError, r"got counts of dtype float64, expected integers"),
        (layer_links(np.eye(2)), [1.0], {}, DomainError, r"got a density and a sample"),
    ],
)
def test_what_cannot_be_compared_is_an_error(
    a: Any, b: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        divergence(a, b, **options)
