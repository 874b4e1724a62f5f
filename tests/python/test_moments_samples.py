"""Moments: what a sample is, how many there were, and the halves that they make.

The bracket of saturation is held to reference.held_out, the same by numpy from the raw rows of each half.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netassay as na
from netassay import saturation as stem
from python import moments as of_moments
from python.full import count
from reference import saturation as reference

pytestmark = pytest.mark.native


def maps(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 5, 3, 4)).astype(np.float32)


# How many samples


@pytest.mark.parametrize(
    ("shape", "layout", "rows", "samples"),
    [
        ((5,), "rows", 1, 1),
        ((7, 5), "rows", 7, 7),
        ((7, 3, 5), "rows", 21, 7),
        ((7, 3, 4, 5), "channels_last", 84, 7),
        ((7, 5, 3, 4), "channels_first", 84, 7),
        ((7, 5), "channels_first", 7, 7),
    ],
)
def test_samples_are_items_of_the_leading_axis(shape: tuple[int, ...], layout: str, rows: int, samples: int) -> None:
    m = na.Moments(5)
    x = np.random.default_rng(0).standard_normal(shape)
    for times in (1, 2):
        m.update(x, layout=layout)
        assert (m.count, m.samples) == (times * rows, times * samples)


def test_a_sample_counts_where_the_mask_keeps_a_row_of_it() -> None:
    mask = np.array([[True, True, False], [False, False, False], [False, False, True]])
    m = na.Moments(5)
    m.update(np.ones((3, 3, 5)), mask=mask)
    assert (m.count, m.samples) == (3, 2)
    m.update(np.ones((3, 5)), mask=[True, False, False])
    m.update(np.array([[1.0] * 5, [np.nan] * 5]))
    assert (m.count, m.samples, m.nonfinite) == (5, 4, 1)


def test_the_caller_may_say_what_the_rows_are_of() -> None:
    x = np.ones((6, 5))
    for samples, expected in ((2, 2), (0, 0), ([7, 7, 7, -1, -1, 3], 3), (["a", "b", "a", "b", "a", "b"], 2)):
        m = na.Moments(5)
        m.update(x, samples=samples)
        assert (m.count, m.samples) == (6, expected)


def test_samples_go_where_the_state_goes(tmp_path: Path) -> None:
    m = stem.from_rows(maps(9), layout="channels_first")
    other = stem.from_rows(maps(4, 1), layout="channels_first")
    assert (m + other).samples == 13
    m.save(tmp_path / "m.safetensors")
    for again in (m.copy(), pickle.loads(pickle.dumps(m)), na.Moments.load(tmp_path / "m.safetensors")):
        assert (again.samples, again.single) == (9, m.single)
    m.clear()
    assert (m.samples, m.single) == (0, 0)


@pytest.mark.parametrize("spoilt", [[20, 0, -1, 0], [20, 0, 1, -1], [20, 0, 1, 21], [20, 0]])
def test_counts_that_cannot_be_are_no_state(spoilt: list[int]) -> None:
    m = na.Moments(2)
    m.update(np.random.default_rng(0).standard_normal((1100, 2)))
    tensors = {**m.tensors(), "counts": np.array(spoilt, np.int64)}
    with pytest.raises(na.StateError, match="Moments: the tensors do not make a state"):
        na.Moments.from_tensors(m.config(), tensors)


@pytest.mark.parametrize(
    ("samples", "error", "text"),
    [
        (-1, na.DomainError, "got samples=-1, expected at least 0"),
        ([1, 2], na.ShapeError, r"got samples of shape \(2,\), expected \(3,\)"),
        ([0.5] * 3, na.DTypeError, "got samples of dtype float64, expected integers or strings"),
    ],
)
def test_samples_that_fit_nothing_are_refused(samples: Any, error: type[Exception], text: str) -> None:
    m = na.Moments(5)
    with pytest.raises(error, match=text):
        m.update(np.ones((3, 4, 5)), samples=samples)
    assert (m.count, m.samples) == (0, 0)


def test_few_samples_are_flagged_however_many_rows_they_have() -> None:
    """Positions of one image are alike: a spectrum of many rows of few images comes out low."""
    for n, few in ((31, True), (32, False)):
        m = stem.from_rows(np.random.default_rng(0).standard_normal((n, 5, 8, 8)), layout="channels_first")
        for result in (stem.saturation(m), stem.effective_dimension(m), stem.rankme(m), stem.spectrum_decay(m)):
            assert ("few_samples" in result.flags) == few
            assert "few_rows" not in result.flags
        assert (stem.saturation(m).rows, stem.saturation(m).samples) == (64 * n, n)


# Halves


def test_a_half_follows_from_the_sample_alone() -> None:
    """Neither order, nor batches, nor other samples move one; the same on every machine: these numbers are fixed."""
    x = maps(40)
    whole = stem.from_rows(x, layout="channels_first", halves=True)
    halves = whole.halves()
    assert halves is not None
    sizes = [half.samples for half in halves]
    assert sum(sizes) == 40
    assert min(sizes) > 8
    single = [stem.from_rows(each[None], layout="channels_first", halves=True).halves()[0].samples for each in x]  # type: ignore[index]
    assert sum(single) == sizes[0]
    ids = na.Moments(1, halves=True)
    ids.update(np.arange(8.0)[:, None], samples=np.arange(8))
    assert [half.mean.tolist() for half in ids.halves()] == IDS  # type: ignore[union-attr]
    names = na.Moments(1, halves=True)
    names.update(np.arange(8.0)[:, None], samples=list("abcdefgh"))
    assert [half.mean.tolist() for half in names.halves()] == NAMES  # type: ignore[union-attr]


IDS = [[4.75], [2.25]]
NAMES = [[17 / 6], [5.5]]


def test_batches_change_no_bit_and_what_was_seen_before_stays_in_its_half() -> None:
    x = maps(60)
    whole, cut, again = (na.Moments(5, halves=True) for _ in range(3))
    whole.update(x, layout="channels_first")
    for part in np.split(x, [1, 7, 30]):
        cut.update(part, layout="channels_first")
    assert of_moments.bits(cut) == of_moments.bits(whole)
    for _ in range(2):
        again.update(x[::-1], layout="channels_first")
    for half, twice in zip(whole.halves() or (), again.halves() or (), strict=True):
        assert twice.count == 2 * half.count
        np.testing.assert_allclose(twice.covariance(), half.covariance(), rtol=0, atol=1e-6)


def test_halves_make_the_whole(tmp_path: Path) -> None:
    x, y = maps(30), maps(20, 1)
    a, b = (stem.from_rows(each, layout="channels_first", halves=True, fourth=True) for each in (x, y))
    plain = stem.from_rows(np.concatenate([x, y]), layout="channels_first", fourth=True)
    both = a + b
    assert (both.count, both.samples, both.nonfinite) == (plain.count, plain.samples, 0)
    np.testing.assert_allclose(both.mean, plain.mean, rtol=0, atol=1e-7)
    np.testing.assert_allclose(both.scatter, plain.scatter, rtol=0, atol=1e-4)
    assert both.fourth() == pytest.approx(plain.fourth(), rel=1e-6)
    both.save(tmp_path / "m.safetensors")
    for again in (both.copy(), pickle.loads(pickle.dumps(both)), na.Moments.load(tmp_path / "m.safetensors")):
        assert of_moments.bits(again) == of_moments.bits(both)
        assert again.keeps_halves
        again.update(y, layout="channels_first")
        assert again.samples == 70
    both.clear()
    assert (both.count, both.samples, both.keeps_halves) == (0, 0, True)
    with pytest.raises(na.DomainError, match="got one state with halves and one without"):
        a.merge(plain)


def test_halves_need_identities() -> None:
    m = na.Moments(5, halves=True)
    with pytest.raises(na.DomainError, match="got samples=3, expected an identity of each sample"):
        m.update(np.ones((3, 4, 5)), samples=3)
    with pytest.raises(na.ShapeError, match="width 4"):
        m.update(np.ones((3, 4)))
    assert (m.count, m.halves() is None, na.Moments(5).halves()) == (0, False, None)


@pytest.mark.parametrize("delta", [0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize(("n", "d"), [(12, 30), (60, 30), (900, 30)])
def test_the_bracket_is_that_of_the_raw_rows(n: int, d: int, delta: float) -> None:
    g = np.random.default_rng([n, d])
    x, ids = g.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.5, np.arange(n)
    m = stem.from_rows(x, halves=True, samples=ids)
    a, b = (sorted(half_of(m, x, ids, which)) for which in (0, 1))
    k = reference.dimension(reference.eigenvalues(reference.covariance(x)), delta)
    held = max(reference.held_out(x[a], x[b], delta), reference.held_out(x[b], x[a], delta))
    for source in (m, stem.spectrum(m)):
        assert stem.saturation(source, delta).bracket == (k, max(k, held))
        assert stem.saturation(source, delta).dimension == k


def half_of(m: na.Moments, x: np.ndarray, ids: np.ndarray, which: int) -> list[int]:
    """Which rows are in a half, by putting each into a state of its own."""
    found = []
    for i, identity in enumerate(ids):
        halves = stem.from_rows(x[i : i + 1], halves=True, samples=[identity]).halves()
        if halves is not None and halves[which].count:
            found.append(i)
    halves = m.halves()
    assert halves is not None
    assert len(found) == halves[which].count
    return found


def test_the_bracket_holds_the_dimension_of_gaussian_rows() -> None:
    """True k of a known covariance; the plug-in alone is below it at twice as many rows as units."""
    d, g, draws = 48, np.random.default_rng(0), count(30, 300)
    std = np.arange(1, d + 1) ** -0.5
    true = reference.dimension(std**2, 0.9)
    found = [
        stem.saturation(stem.from_rows(g.standard_normal((2 * d, d)) * std, halves=True), 0.9) for _ in range(draws)
    ]
    brackets = [one.bracket for one in found if one.bracket is not None]
    assert len(brackets) == draws
    assert np.mean([low <= true <= high for low, high in brackets]) > 0.9
    assert all(low < true for low, _ in brackets)


def test_there_is_no_bracket_without_halves_or_with_a_row_in_one() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3))
    assert stem.saturation(stem.from_rows(x)).bracket is None
    assert stem.saturation(stem.from_rows(x, halves=True)).bracket is None
    constant = stem.saturation(stem.from_rows(np.ones((90, 3)), halves=True, samples=np.arange(90)))
    assert (constant.bracket, "constant" in constant.flags) == ((0, 0), True)
