"""Arrays of more than 2^31 elements: no index, count or offset of the core has 32 bits.

The share is an array of 2^20 elements; `pytest --full` takes 2^31 + 2^20, where 6 GB of memory are available.
All elements are 0 but the last, which is 2: where an index wraps, it is never read or counts twice.
"""

from __future__ import annotations

import numpy as np
import pytest

import netassay as na
from netassay.complexity import Switching
from netassay.network import Distribution, link_weights, sums
from netassay.persistence import largest, neural_persistence
from python.full import count, needs_memory

pytestmark = pytest.mark.native

ELEMENTS = count(2**20, 2**31 + 2**20)


def zeros(*shape: int, elements: int = ELEMENTS) -> np.ndarray:
    """float16 of this shape, whose first axis (0) takes what elements there are; the last one is 2."""
    needs_memory(3 * elements)
    rest = int(np.prod(shape[1:]))
    x = np.zeros((elements // rest, *shape[1:]), np.float16)
    x.flat[-1] = 2
    return x


def assert_is_one_row_of_two(m: na.Moments, rows: int) -> None:
    assert (m.count, m.nonfinite) == (rows, 0)
    assert m.mean.tolist() == pytest.approx([0] * (m.width - 1) + [2 / rows], rel=1e-12)
    assert m.scatter[-1, -1] == pytest.approx(4 - 4 / rows, rel=1e-6)
    assert not m.scatter[:-1, :-1].any()


def test_moments_count_every_row() -> None:
    x = zeros(0, 64)
    m = na.Moments(64)
    m.update(x)
    assert_is_one_row_of_two(m, len(x))


def test_moments_count_every_position_of_channels() -> None:
    x = zeros(0, 32, 1 << 10)
    m = na.Moments(32)
    m.update(x, layout="channels_first")
    assert_is_one_row_of_two(m, ELEMENTS // 32)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_switching_counts_every_position(layout: str) -> None:
    x = zeros(0, 4, 1 << 10) if layout == "channels_first" else zeros(0, 1 << 10, 4)
    state = Switching(layout=layout, positions=False)
    state.update(x)
    got = state.result()
    assert (got.samples, got.observations, got.zeros) == (len(x), ELEMENTS // 4, ELEMENTS - 1)
    assert got.shares[1].tolist() == [0, 0, 0, 4 / ELEMENTS]


def test_a_distribution_counts_every_value() -> None:
    state = Distribution()
    state.update(zeros(0))
    got = state.result(quantiles=(0, 0.5, 1))
    assert (got.count, got.minimum, got.maximum) == (ELEMENTS, 0, 2)
    assert got.mean == pytest.approx(2 / ELEMENTS, rel=1e-12)
    assert (got.zero_share, got.positive_share) == ((ELEMENTS - 1) / ELEMENTS, 1 / ELEMENTS)


def test_links_are_counted_and_summed_to_the_last() -> None:
    w = zeros(0, 1 << 9)
    links, ends = link_weights(w), sums(w)
    assert (links.count, links.minimum, links.maximum) == (ELEMENTS, 0, 2)
    assert links.mean == pytest.approx(2 / ELEMENTS, rel=1e-12)
    for sides in (ends.row_sum, ends.column_sum):
        assert sides[-1] == 2
        assert not sides[:-1].any()


def test_a_tree_of_a_matrix_of_more_edges_than_32_bits_count() -> None:
    w = zeros(0, 1 << (ELEMENTS.bit_length() // 2))
    assert largest(w) == 2
    got = neural_persistence(w)
    assert len(got.weights) == sum(w.shape) - 1
    assert (got.weights[0], got.weights[1:].any()) == (1, False)
    assert got.total == pytest.approx((sum(w.shape) - 1) ** 0.5, rel=1e-12)
