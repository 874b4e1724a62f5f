"""Streaming moments against the reference: counts exact, sums within derived bounds, states bit by bit.

Tolerances. With p the pivot and y = x - p, a computed sum of products differs from the exact one by at most
tol * sum |y|^2 in Frobenius norm (since || sum |y||y|^T ||_F <= sum |y|^2); tol(dtype, precision, n) is for
  exact, or float64 rows: (n + 8) 2^-53, the worst case of a sum of n rounded products;
  high, narrower rows: 3 * 2^-18 (y in two bf16 parts: each keeps y to 2^-18, and lo.lo <= 2^-18 is dropped)
    + 8 sqrt(min(n, 1024)) 2^-24 (float32 sums of at most 1024 products, eight standard deviations),
    twice that for bf16, whose raw products are taken where sum |x|^2 <= 2 sum |y|^2.
The pivot is a mean of leading rows: sum |y|^2 <= sum |x - m|^2 + n max_k |m_k - m|^2 over the means m_k of
the first k rows, which is `scale`. Means are held to tol * sqrt(scale / n) + 2^-51 |m|.
"""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netassay as na
from netassay.base import arrays
from reference import saturation as reference

DTYPES = ["float64", "float32", "bfloat16", "float16"]
PRECISIONS = ["high", "exact"]
SIZES = [1, 2, 3, 15, 16, 17, 31, 33, 97, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 3000]
WIDTHS = [1, 2, 3, 15, 16, 17, 31, 33, 97, 127, 128, 129, 300]
LAWS = settings(max_examples=60, deadline=None, derandomize=True)


def tolerance(dtype: str, precision: str, n: int) -> float:
    if dtype == "float64" or precision == "exact":
        return (n + 8) * 2.0**-53
    return (2 if dtype == "bfloat16" else 1) * (3 * 2.0**-18 + 8 * min(n, 1024) ** 0.5 * 2.0**-24)


def scale(x: np.ndarray) -> float:
    y = x - x.mean(axis=0)
    leading = np.cumsum(y[:1024], axis=0) / np.arange(1, min(len(y), 1024) + 1)[:, None]
    return float(np.sum(y * y) + len(y) * np.max(np.sum(leading * leading, axis=1)))


def rows(n: int, d: int, distribution: str = "normal", seed: int = 0) -> np.ndarray:
    g = np.random.default_rng([seed, n, d])
    if distribution == "normal":
        return g.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.5 + g.standard_normal(d)
    if distribution == "uniform":
        return g.uniform(-1, 3, (n, d))
    if distribution == "lognormal":
        return g.lognormal(0, 1.5, (n, d))
    if distribution == "cauchy":
        return np.clip(g.standard_cauchy((n, d)), -6e4, 6e4)  # float16 ends at 65504
    if distribution == "constant":
        return np.broadcast_to(g.standard_normal(d), (n, d)).copy()
    return np.eye(d)[g.integers(0, d, n)]  # one-hot


def typed(x: np.ndarray, dtype: str) -> tuple[Any, np.ndarray]:
    """x rounded to dtype, and the same values in float64."""
    if dtype != "bfloat16":
        y = x.astype(dtype)
        return y, y.astype(np.float64)
    torch = pytest.importorskip("torch")
    t = torch.from_numpy(np.array(x)).to(torch.bfloat16)
    return t, t.to(torch.float64).numpy()


def moments(*batches: Any, width: int | None = None, **options: Any) -> na.Moments:
    calls = {k: options.pop(k) for k in ("layout", "mask", "threads") if k in options}
    m = na.Moments(width or batches[0].shape[-1], **options)
    for batch in batches:
        m.update(batch, **calls)
    return m


def bits(m: na.Moments) -> tuple[Any, ...]:
    fourth = m.fourth() if m.keeps_fourth else None
    kind = m.width, m.precision, m.keeps_fourth
    return *kind, m.count, m.nonfinite, m.mean.tobytes(), m.scatter.tobytes(), fourth


def future(m: na.Moments) -> tuple[Any, ...]:
    """What the state will be after more rows: nothing that matters later may hide from `bits`."""
    later = m.copy()
    later.update(rows(1500, m.width, seed=99).astype(np.float32))
    later.update(rows(7, m.width, seed=98))
    return bits(later)


def assert_same(a: na.Moments, b: na.Moments) -> None:
    assert bits(a) == bits(b)
    assert future(a) == future(b)


def assert_close(m: na.Moments, x: np.ndarray, tol: float, spread: float | None = None) -> None:
    n, mean, scatter = reference.moments(x)
    spread = scale(x[np.isfinite(x).all(axis=1)]) if spread is None else spread
    assert m.count == n
    assert m.nonfinite == len(x) - n
    assert m.scatter.dtype == m.mean.dtype == np.float64
    assert np.array_equal(m.scatter, m.scatter.T)
    assert np.linalg.norm(m.scatter - scatter) <= tol * spread
    assert np.linalg.norm(m.mean - mean) <= tol * (spread / n) ** 0.5 + 2.0**-51 * np.linalg.norm(mean)


# Parity with the reference


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_rows_agrees_with_the_reference(dtype: str, precision: str) -> None:
    for n in SIZES:
        given_x, x = typed(rows(n, 5), dtype)
        assert_close(moments(given_x, precision=precision), x, tolerance(dtype, precision, n))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_width_agrees_with_the_reference(dtype: str, precision: str) -> None:
    for d in WIDTHS:
        for n in (3, 97, 1100):
            given_x, x = typed(rows(n, d), dtype)
            assert_close(moments(given_x, precision=precision), x, tolerance(dtype, precision, n))


@pytest.mark.parametrize("distribution", ["uniform", "lognormal", "cauchy", "constant", "one-hot"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_distribution_agrees_with_the_reference(dtype: str, precision: str, distribution: str) -> None:
    for n, d in ((17, 33), (1500, 20)):
        given_x, x = typed(rows(n, d, distribution), dtype)
        assert_close(moments(given_x, precision=precision), x, tolerance(dtype, precision, n))


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_batches_agree_with_the_reference_on_all_rows(dtype: str) -> None:
    parts = [typed(rows(n, 19, seed=n), dtype) for n in (1, 700, 2, 1024, 33, 300)]
    x = np.concatenate([p[1] for p in parts])
    assert_close(moments(*(p[0] for p in parts)), x, tolerance(dtype, "high", len(x)))


def test_batches_of_several_dtypes_add_up_in_one_state() -> None:
    parts = [typed(rows(n, 12, seed=n), dtype) for n, dtype in zip((50, 300, 900, 40), DTYPES, strict=True)]
    x = np.concatenate([p[1] for p in parts])
    assert_close(moments(*(p[0] for p in parts)), x, tolerance("bfloat16", "high", len(x)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("power", [-70, 70])
def test_finite_values_whose_squares_leave_the_range_of_float32_are_no_matter(dtype: str, power: int) -> None:
    x = np.ldexp(rows(1100, 9), power)
    given_x, x = typed(x, dtype)
    assert_close(moments(given_x), x, tolerance(dtype, "high", len(x)))


# Layouts and dtypes: every view gives the state of the contiguous copy, bit for bit


def misaligned(x: np.ndarray) -> np.ndarray:
    buffer = np.empty(x.nbytes + 1, np.uint8)
    y = buffer[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def read_only(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.flags.writeable = False
    return y


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": np.asfortranarray,
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "columns of a wider array": lambda x: np.pad(x, ((3, 2), (5, 4)))[3:-2, 5:-4],
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
    "misaligned": misaligned,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "misaligned, big-endian, Fortran": lambda x: misaligned(x.T.astype(x.dtype.newbyteorder(">"))).T,
    "three axes": lambda x: x.reshape(10, -1, x.shape[1]),
    "three axes that do not collapse": lambda x: np.pad(x.reshape(10, -1, x.shape[1]), ((0, 0), (0, 3), (0, 0)))[
        :, :-3
    ],
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_equals_its_contiguous_copy_and_is_left_alone(view: str, dtype: str, precision: str) -> None:
    for n, d in ((30, 3), (1300, 37)):
        x = rows(n, d).astype(dtype)
        y = VIEWS[view](x)
        before = y.tobytes()
        assert_same(moments(y, precision=precision), moments(x, precision=precision))
        assert y.tobytes() == before


def test_rows_of_a_broadcast_array_are_each_a_row() -> None:
    x = np.broadcast_to(rows(1, 6), (700, 6))
    assert_same(moments(x), moments(x.copy()))


def test_one_axis_is_one_row() -> None:
    x = rows(1, 6)
    assert_same(moments(x[0]), moments(x))


TORCH_VIEWS: dict[str, Callable[[Any], Any]] = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.t().contiguous().t(),
    "strided": lambda t: t.repeat_interleave(2, dim=1)[:, ::2],
    "with an offset": lambda t: t.repeat(2, 1)[len(t) :],
    "requires grad": lambda t: t.clone().requires_grad_(),
    "three axes": lambda t: t.reshape(10, -1, t.shape[1]),
    "a parameter": lambda t: __import__("torch").nn.Parameter(t.clone()),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", TORCH_VIEWS)
def test_a_torch_tensor_equals_its_contiguous_copy_and_is_left_alone(view: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    t = torch.from_numpy(rows(1300, 21)).to(getattr(torch, dtype))
    y = TORCH_VIEWS[view](t)
    expected = moments(t.clone()) if dtype == "bfloat16" else moments(t.numpy())
    assert_same(moments(y), expected)
    assert torch.equal(y.detach().reshape(t.shape), t)
    assert y._version == t.clone()._version
    assert y.grad is None


def test_a_torch_tensor_with_a_pending_negation_is_negated() -> None:
    torch = pytest.importorskip("torch")
    z = torch.complex(*torch.from_numpy(rows(200, 8).reshape(2, 100, 8)))
    y = z.conj().imag
    assert y.is_neg()
    assert_same(moments(y), moments(-z.imag.clone()))


def test_an_expanded_torch_tensor_equals_its_copy() -> None:
    torch = pytest.importorskip("torch")
    t = torch.from_numpy(rows(1, 6)).expand(300, 6)
    assert_same(moments(t), moments(t.contiguous()))


def test_an_object_that_speaks_only_dlpack_is_read() -> None:
    class Foreign:
        def __init__(self, x: np.ndarray) -> None:
            self.x = x

        def __dlpack__(self, **options: Any) -> Any:
            return self.x.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.x.__dlpack_device__()

    x = rows(50, 4).astype(np.float32)
    assert_same(moments(Foreign(x), width=4), moments(x))


SHAPES = [(7, 6), (5, 6, 9), (3, 6, 5, 7), (2, 6, 3, 4, 5), (4, 6, 31, 40)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_channels_first_reads_the_rows_of_the_permuted_array(shape: tuple[int, ...], dtype: str) -> None:
    given_x, x = typed(rows(int(np.prod(shape)) // 6, 6).reshape(shape), dtype)
    expected = moments(typed(reference.rows(x, "channels_first"), dtype)[0])
    assert_same(moments(given_x, width=6, layout="channels_first"), expected)
    if dtype != "bfloat16":
        for view in (
            np.asfortranarray,
            read_only,
            misaligned,
            VIEWS["big-endian"],
            lambda a: a[::-1].copy()[::-1],
        ):
            assert_same(moments(view(given_x), width=6, layout="channels_first"), expected)
        last = np.ascontiguousarray(np.moveaxis(given_x, 1, -1))
        assert_same(moments(last, layout="channels_last"), expected)
        assert_same(moments(np.moveaxis(last, -1, 1), width=6, layout="channels_first"), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_torch_channels_last_memory_format_is_read_as_channels_first(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    for shape, name in (((3, 6, 20, 25), "channels_last"), ((2, 6, 4, 5, 40), "channels_last_3d")):
        t = torch.from_numpy(rows(int(np.prod(shape)) // 6, 6).reshape(shape)).to(getattr(torch, dtype))
        y = t.contiguous(memory_format=getattr(torch, name))
        assert y.stride() != t.stride()
        assert_same(moments(y, width=6, layout="channels_first"), moments(t, width=6, layout="channels_first"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.02, 0.5, 0.98])
def test_a_mask_keeps_the_rows_where_it_is_true(dtype: str, density: float) -> None:
    keep = np.random.default_rng(3).random((40, 30)) < density
    given_x, x = typed(rows(1200, 8).reshape(40, 30, 8), dtype)
    expected = moments(typed(x[keep], dtype)[0])
    assert_same(moments(given_x, mask=keep), expected)
    assert_same(moments(given_x, mask=np.asfortranarray(keep)), expected)
    assert_same(moments(given_x, mask=keep.reshape(-1)), expected)
    assert_same(moments(given_x, mask=np.repeat(keep, 2, axis=1)[:, ::2]), expected)


def test_a_torch_mask_works_and_masks_positions_of_channels_first() -> None:
    torch = pytest.importorskip("torch")
    keep = np.random.default_rng(3).random((4, 5, 7)) < 0.5
    x = rows(140, 6).reshape(4, 5, 7, 6)
    expected = moments(x[keep])
    assert_same(moments(x, mask=torch.from_numpy(keep)), expected)
    first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    assert_same(moments(first, width=6, layout="channels_first", mask=keep), expected)


def test_a_mask_that_keeps_nothing_changes_nothing() -> None:
    m = moments(rows(10, 3))
    before = bits(m)
    m.update(rows(6, 3), mask=np.zeros(6, bool))
    assert bits(m) == before


# Known answers


def test_hand_computed_moments() -> None:
    m = moments(np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]]))
    assert m.count == 3
    assert m.mean.tolist() == [2.0, 2.0]
    assert m.scatter.tolist() == [[8.0, 4.0], [4.0, 8.0]]
    assert m.covariance().tolist() == (m.scatter / 3).tolist()
    assert m.covariance(ddof=1).tolist() == [[4.0, 2.0], [2.0, 4.0]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 3, 100, 1025, 2600])
def test_equal_rows_have_a_scatter_of_exactly_zero(dtype: str, n: int) -> None:
    """No residue of a rounded mean: such a layer must be recognised as constant. 0.1 is no dyadic number."""
    x = typed(np.broadcast_to(np.array([0.1, -1e3 / 3, 0.0]), (n, 3)), dtype)[0]
    for m in (
        moments(x),
        moments(x[:1], x[1:]),
        moments(x) + moments(x[: n // 2]),
        moments(x, precision="exact"),
    ):
        assert not m.scatter.any()


BAR_D, BAR_N = 64, 200_000


@pytest.fixture(scope="module")
def bar_rows() -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(g.standard_normal((BAR_D, BAR_D)))
    direction = g.standard_normal(BAR_D)
    x = g.standard_normal((BAR_N, BAR_D)) / np.arange(1, BAR_D + 1)  # eigenvalues i^-2, top standard deviation 1
    return x @ rotation.T, direction / np.linalg.norm(direction)


def within(bar: str, q: np.ndarray, expected: np.ndarray) -> bool:
    """The accuracy bars, for a covariance and its reference."""
    eig, ref = reference.eigenvalues(q), reference.eigenvalues(expected)
    frobenius, error = np.linalg.norm(q - expected) / np.linalg.norm(expected), np.abs(eig - ref)
    if bar == "exact":
        return bool(frobenius <= 1e-10 and (error <= 1e-9 * ref).all())
    return bool(frobenius <= 2e-6 and (error <= 1e-4 * ref + 2e-7 * ref[0]).all())


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1e2, 1e4, 1e6])
def test_accuracy_bars_hold_where_the_naive_formula_fails(
    bar_rows: tuple[np.ndarray, np.ndarray], ratio: float
) -> None:
    """Mean / top standard deviation = ratio; the reference centres the same float32 rows in long double."""
    x = (bar_rows[0] + ratio * bar_rows[1]).astype(np.float32)
    expected = reference.covariance(x)
    k = reference.dimension(reference.eigenvalues(expected))
    for precision in PRECISIONS:
        m = na.Moments(BAR_D, precision=precision)
        for batch in np.split(x, 50):
            m.update(batch)
        assert within(precision, m.covariance(), expected), precision
        assert na.saturation.saturation(m).dimension == k
    if ratio >= 1e2:
        assert not within("exact", reference.naive_covariance(x.astype(np.float64)), expected)
    if ratio >= 1e4:
        assert not within("high", reference.naive_covariance(x).astype(np.float64), expected)


@pytest.mark.parametrize("ratio", [0.0, 1e2, 1e4])
def test_random_merge_trees_stay_within_5e_12(ratio: float) -> None:
    g = np.random.default_rng(int(ratio))
    x = (g.standard_normal((240, 6)) + ratio * np.array([0.6, 0.8, 0, 0, 0, 0])).astype(np.float32)
    expected = reference.moments(x)
    for _ in range(334):
        cuts = np.sort(g.integers(0, len(x) + 1, g.integers(1, 24)))
        nodes = [
            moments(p, precision="exact") if len(p) else na.Moments(6, precision="exact") for p in np.split(x, cuts)
        ]
        while len(nodes) > 1:
            nodes.append(nodes.pop(g.integers(len(nodes))) + nodes.pop(g.integers(len(nodes))))
        assert nodes[0].count == len(x)
        assert np.linalg.norm(nodes[0].scatter - expected[2]) <= 5e-12 * np.linalg.norm(expected[2])
        assert np.linalg.norm(nodes[0].mean - expected[1]) <= 2.0**-48 * (1 + np.linalg.norm(expected[1]))


# Invariances


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_translation_leaves_the_scatter_and_moves_the_mean(dtype: str) -> None:
    x, shift = (
        np.round(rows(1500, 11) * 1024) / 1024,
        2.0**8,
    )  # both exact in float32, so the data is just moved
    a, b = moments(x.astype(dtype)), moments((x + shift).astype(dtype))
    tol = tolerance(dtype, "high", len(x)) * scale(x)
    assert np.linalg.norm(a.scatter - b.scatter) <= 2 * tol
    assert np.allclose(b.mean - a.mean, shift, rtol=0, atol=2 * tolerance(dtype, "high", len(x)))


def test_rotation_rotates_the_scatter() -> None:
    x, (r, _) = rows(900, 11), np.linalg.qr(rows(11, 11))
    assert np.linalg.norm(moments(x @ r).scatter - r.T @ moments(x).scatter @ r) <= 1e-13 * scale(x) * 11


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaling_by_a_power_of_two_is_exact(dtype: str) -> None:
    x = np.round(rows(1500, 11) * 64) / 64
    a, b = moments(typed(x, dtype)[0]), moments(typed(4 * x, dtype)[0])
    assert (16 * a.scatter).tobytes() == b.scatter.tobytes()
    assert (4 * a.mean).tobytes() == b.mean.tobytes()


# Laws: a state is a function of the sequence of finite rows; merging is a commutative monoid within rounding


def cut(x: Any, points: Sequence[int]) -> list[Any]:
    edges = [0, *sorted(set(points) - {0, len(x)}), len(x)]
    return [x[a:b] for a, b in pairwise(edges) if b > a]


@LAWS
@given(
    n=st.integers(1, 2600),
    d=st.sampled_from([1, 3, 40]),
    points=st.lists(st.integers(1, 2599), max_size=12),
    dtype=st.sampled_from(DTYPES),
    precision=st.sampled_from(PRECISIONS),
    fourth=st.booleans(),
)
def test_batch_boundaries_do_not_matter_bit_for_bit(
    n: int, d: int, points: list[int], dtype: str, precision: str, fourth: bool
) -> None:
    x = typed(rows(n, d), dtype)[0]
    whole = moments(x, precision=precision, fourth=fourth)
    parts = moments(*cut(x, [p for p in points if p < n]), precision=precision, fourth=fourth)
    assert_same(whole, parts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_single_rows_equal_one_batch_bit_for_bit(dtype: str) -> None:
    x = typed(rows(1100, 5), dtype)[0]
    assert_same(moments(*cut(x, range(1, 1100))), moments(x))


@pytest.mark.parametrize("n", [1, 5, 1024, 1500])
@pytest.mark.parametrize("options", [{}, {"precision": "exact"}, {"fourth": True}])
def test_the_empty_state_is_neutral_bit_for_bit(n: int, options: dict[str, Any]) -> None:
    for x in (rows(n, 7), rows(n, 7).astype(np.float32)):
        a, empty = moments(x, **options), na.Moments(7, **options)
        assert_same(a + empty, a)
        assert_same(empty + a, a)
        left, right = a.copy(), empty.copy()
        left.merge(empty)
        right.merge(a)
        assert_same(left, a)
        assert_same(right, a)
        assert empty.count == 0
    assert_same(na.Moments(7, **options) + na.Moments(7, **options), na.Moments(7, **options))


def test_merging_an_empty_state_that_left_rows_out_adds_its_count() -> None:
    a, b = moments(rows(5, 3)), moments(np.full((4, 3), np.nan))
    assert (b.count, b.nonfinite) == (0, 4)
    for m in (a + b, b + a):
        assert (m.count, m.nonfinite) == (5, 4)
        assert m.scatter.tobytes() == a.scatter.tobytes()
        assert m.mean.tobytes() == a.mean.tobytes()


@LAWS
@given(
    sizes=st.tuples(*[st.integers(0, 60)] * 3),
    d=st.integers(1, 6),
    shift=st.sampled_from([0.0, 1.0, 1e3]),
    seed=st.integers(0, 10**6),
    fourth=st.booleans(),
)
def test_merging_is_commutative_and_associative_and_adds_batches(
    sizes: tuple[int, ...], d: int, shift: float, seed: int, fourth: bool
) -> None:
    parts = [rows(n, d, seed=seed + i) + shift * i for i, n in enumerate(sizes)]
    a, b, c = (moments(p, fourth=fourth) if len(p) else na.Moments(d, fourth=fourth) for p in parts)
    x = np.concatenate(parts)
    ways = [(a + b) + c, a + (b + c), (c + b) + a, b + (a + c)]
    assert [w.count for w in ways] == [len(x)] * 4
    if len(x) == 0:
        return
    y = x - x.mean(axis=0)  # each pivot lies among the rows: |p - m| <= max |y|
    spread = float(np.sum(y * y) + len(x) * np.max(np.sum(y * y, axis=1)))
    for way in ways:
        assert_close(way, x, 4 * tolerance("float64", "exact", len(x)), spread)
    whole = moments(*(p for p in parts if len(p)), fourth=fourth)
    assert_close(whole, x, 4 * tolerance("float64", "exact", len(x)), spread)


def test_the_merge_formula_is_that_of_chan() -> None:
    x, y = rows(40, 5), rows(70, 5, seed=1) + 3
    m, (n, mean, scatter) = (
        moments(x) + moments(y),
        reference.merge(reference.moments(x), reference.moments(y)),
    )
    assert m.count == n
    assert np.allclose(m.mean, mean, rtol=1e-14, atol=1e-14)
    assert np.linalg.norm(m.scatter - scatter) <= 1e-13 * np.linalg.norm(scatter)


def test_merging_leaves_the_other_state_and_adding_leaves_both() -> None:
    a, b = moments(rows(50, 4)), moments(rows(60, 4, seed=1))
    before = bits(a), bits(b)
    total = a + b
    assert (bits(a), bits(b)) == before
    a.merge(b)
    assert bits(b) == before[1]
    assert_same(a, total)


def test_a_state_merged_with_itself_counts_every_row_twice() -> None:
    x = rows(50, 4)
    m = moments(x)
    m.merge(m)
    assert_close(m, np.concatenate([x, x]), tolerance("float64", "exact", 100))
    n = moments(x)
    assert_same(n + n, m)


def test_a_state_goes_on_after_a_merge() -> None:
    x, y, z = (rows(n, 6, seed=n) for n in (700, 900, 1500))
    m = moments(x) + moments(y)
    m.update(z)
    assert_close(m, np.concatenate([x, y, z]), tolerance("float64", "exact", 3100))


def test_reading_a_state_changes_nothing() -> None:
    parts = cut(rows(2300, 5).astype(np.float32), [100, 1000, 1030, 2000])
    read, unread = na.Moments(5, fourth=True), na.Moments(5, fourth=True)
    for part in parts:
        read.update(part)
        unread.update(part)
        (
            repr(read),
            read.mean,
            read.scatter,
            read.covariance(),
            read.nbytes,
            read.copy(),
            pickle.dumps(read),
            bits(read),
        )
        read + read
        na.saturation.saturation(read)
    assert_same(read, unread)


def test_arrays_handed_out_are_not_the_state() -> None:
    m = moments(rows(50, 4))
    before = bits(m)
    for array in (m.mean, m.scatter, m.covariance()):
        if array.flags.writeable:
            array[...] = 7
    assert bits(m) == before


def test_the_data_is_taken_before_update_returns() -> None:
    x = rows(300, 4)
    m, y = na.Moments(4), x.copy()
    for part in cut(y, [5, 100]):
        m.update(part)
        part[...] = np.nan
    assert_same(m, moments(x))


# Rows with a NaN or an infinity


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_with_rows_left_out_equals_the_one_without_them_bit_for_bit(dtype: str, precision: str) -> None:
    g = np.random.default_rng(5)
    for n in (1, 2, 40, 1023, 1025, 2600):
        x = rows(n, 6)
        for where in ({0}, {n - 1}, set(g.integers(0, n, 1 + n // 3).tolist()), set(range(min(n, 300)))):
            bad = x.copy()
            for i in where:
                bad[i, g.integers(6)] = g.choice([np.nan, np.inf, -np.inf])
            good = np.delete(x, list(where), axis=0)
            m = moments(typed(bad, dtype)[0], precision=precision, fourth=True)
            assert m.nonfinite == len(where)
            assert m.count == n - len(where)
            clean = na.Moments(6, precision=precision, fourth=True)
            if len(good):
                clean.update(typed(good, dtype)[0])
            assert bits(m)[5:] == bits(clean)[5:]
            assert future(m)[5:] == future(clean)[5:]


def test_overlapping_nan_and_infinities_in_one_row_count_once() -> None:
    m = moments(np.array([[np.nan, np.inf], [np.inf, -np.inf], [1.0, 2.0]]))
    assert (m.count, m.nonfinite) == (1, 2)


def test_values_whose_sum_overflows_are_no_infinities() -> None:
    m = moments(np.array([[3e38, 3e38], [3e38, 3e38]], np.float32), precision="exact")
    assert (m.count, m.nonfinite) == (2, 0)
    assert np.isfinite(m.mean).all()


def test_rows_a_mask_leaves_out_are_not_counted_as_nonfinite() -> None:
    x, keep = rows(20, 3), np.arange(20) % 2 == 0
    x[1::2] = np.nan
    x[4, 0] = np.inf
    m = moments(x, mask=keep)
    assert (m.count, m.nonfinite) == (9, 1)


# Threads


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(dtype: str, precision: str) -> None:
    for n, d in ((1, 1), (5, 300), (700, 129), (5000, 37), (3000, 300)):
        x = typed(rows(n, d), dtype)[0]
        parts, results = cut(x, [n // 3, n // 2]), []
        for threads in (1, 2, 3, 7):
            m = moments(*parts, precision=precision, fourth=True, threads=threads)
            m.merge(moments(x, precision=precision, fourth=True, threads=threads), threads=threads)
            results.append(bits(m))
        assert results == results[:1] * 4


def test_threads_read_channels_first_alike() -> None:
    x = rows(4 * 600, 70).reshape(4, 70, 20, 30).astype(np.float32)
    results = [bits(moments(x, width=70, layout="channels_first", threads=t)) for t in (1, 2, 3, 7)]
    assert results == results[:1] * 4


def test_updates_from_several_threads_lose_nothing() -> None:
    batches = [rows(90, 8, seed=i) for i in range(80)]
    for batch in batches[::7]:
        batch[3, 2] = np.nan
    m = na.Moments(8)
    start = threading.Barrier(4)

    def work(mine: list[np.ndarray]) -> None:
        start.wait()
        for batch in mine:
            m.update(batch, threads=2)
            m.mean  # noqa: B018

    workers = [threading.Thread(target=work, args=(batches[i::4],)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    x = np.concatenate(batches)
    y = x[np.isfinite(x).all(axis=1)]
    z = y - y.mean(axis=0)
    assert_close(
        m,
        x,
        tolerance("float64", "exact", len(x)),
        float(np.sum(z * z)) * 2 + len(z) * float(np.max(np.sum(z * z, axis=1))),
    )


def test_merging_two_states_into_each_other_from_two_threads_does_not_deadlock() -> None:
    a, b = moments(np.ones((1, 40))), moments(np.zeros((1, 40)))
    body = [
        threading.Thread(target=lambda: [a.merge(b) for _ in range(25)], daemon=True),
        threading.Thread(target=lambda: [b.merge(a) for _ in range(25)], daemon=True),
    ]
    for thread in body:
        thread.start()
    for thread in body:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in body)
    assert a.count > 25
    assert b.count > 25


def test_another_python_thread_runs_while_an_update_computes() -> None:
    """With a switch interval of a minute the counter advances only where the interpreter lock is given up."""
    x, m, turns, stop = rows(20_000, 256), na.Moments(256), [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            turns[0] += 1
            time.sleep(0)  # gives the lock up, so that it never has to be taken away

    interval, worker = sys.getswitchinterval(), threading.Thread(target=count)
    worker.start()
    sys.setswitchinterval(60)
    try:
        gained = 0
        for _ in range(20):
            before = turns[0]
            m.update(x, threads=1)
            gained = max(gained, turns[0] - before)
            if gained >= 10:
                break
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        worker.join()
    assert gained >= 10


# Copies, files, interruption


COPIES: dict[str, Callable[[na.Moments, Path], na.Moments]] = {
    "copy": lambda m, path: m.copy(),
    "copy.copy": lambda m, path: copy.copy(m),
    "deepcopy": lambda m, path: copy.deepcopy(m),
    "pickle": lambda m, path: pickle.loads(pickle.dumps(m)),
    "pickle protocol 2": lambda m, path: pickle.loads(pickle.dumps(m, protocol=2)),
    "file": lambda m, path: (m.save(path), na.Moments.load(path))[1],
    "file by name": lambda m, path: (m.save(str(path)), na.Moments.load(str(path)))[1],
}


@pytest.mark.parametrize("fourth", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_the_state_bit_for_bit_and_goes_its_own_way(
    way: str, precision: str, fourth: bool, tmp_path: Path
) -> None:
    for dtype in ("float64", "float32"):
        for n in (0, 1, 5, 1023, 1024, 1500):
            m = na.Moments(4, precision=precision, fourth=fourth)
            if n:
                x = rows(n, 4).astype(dtype)
                x[n // 2, 1] = np.nan
                m.update(x)
            before = bits(m)
            twin = COPIES[way](m, tmp_path / "state")
            assert type(twin) is na.Moments
            assert_same(twin, m)
            twin.update(rows(9, 4))
            assert bits(m) == before
            assert twin.count == m.count + 9


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_resuming_equals_the_uninterrupted_run_bit_for_bit(dtype: str, way: str, tmp_path: Path) -> None:
    parts = cut(typed(rows(3000, 9), dtype)[0], [1, 500, 1023, 1024, 1300, 2900])
    resumed = na.Moments(9, fourth=True)
    for part in parts:
        resumed.update(part)
        resumed = COPIES[way](resumed, tmp_path / "state")
    assert_same(resumed, moments(*parts, fourth=True))


def test_a_state_file_is_read_by_the_safetensors_package(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    moments(rows(30, 4)).save(tmp_path / "state")
    with safetensors.safe_open(tmp_path / "state", framework="numpy") as file:
        assert file.metadata()["netassay.state"] == "1"
        assert [file.get_tensor(name).dtype for name in file.keys()]  # noqa: SIM118


def test_a_damaged_file_is_refused_and_a_missing_one_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "state"
    moments(rows(30, 4)).save(path)
    raw = path.read_bytes()
    for damaged in (raw[:-1], raw + b"\0", raw[:-1] + bytes([raw[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        with pytest.raises(na.StateError, match="state"):
            na.Moments.load(path)
    with pytest.raises(FileNotFoundError):
        na.Moments.load(tmp_path / "none")


def test_equality_is_identity_and_the_text_tells_what_it_holds() -> None:
    m = moments(rows(30, 4))
    assert m == m
    assert m != m.copy()
    assert len({m, m.copy()}) == 2
    assert "Moments" in repr(m)
    assert "4" in repr(m)
    assert "30" in repr(m)


def run_alone(program: str) -> str:
    """A program of its own: it may be interrupted and forked, and holds no torch."""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


INTERRUPTED = """
import signal
import numpy as np
import netassay as na

def bits(m):
    return m.count, m.nonfinite, m.mean.tobytes(), m.scatter.tobytes()

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
small = np.random.default_rng(0).standard_normal((1500, 256)).astype(np.float32)
m, other = na.Moments(256, precision="exact"), na.Moments(256, precision="exact")
m.update(small)
other.update(small)
huge = np.broadcast_to(small[:1], (3_000_000, 256))  # one row in memory, seconds of work
before = bits(m)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    m.update(huge)
except KeyboardInterrupt:
    print("interrupted")
assert bits(m) == before, "the state changed"
m.update(small[:77])
other.update(small[:77])
assert bits(m) == bits(other), "the state goes on differently"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX timers")
def test_ctrl_c_in_an_update_leaves_the_state_as_before() -> None:
    assert run_alone(INTERRUPTED).split()[-1] == "interrupted"


FORKED = """
import os, signal, sys, time
import numpy as np
import netassay as na

x = np.random.default_rng(0).standard_normal((5000, 200)).astype(np.float32)
first = na.Moments(200)
first.update(x, threads=2)
pid = os.fork()
if pid == 0:
    code = 3
    try:
        m = na.Moments(200)
        m.update(x)
        first.merge(m)
        same = m.count == 5000 and first.count == 10000
        try:
            m.update(x, threads=2)
        except na.ForkError as error:
            refused = isinstance(error, RuntimeError) and "threads" in str(error) and m.count == 5000
        m.update(x, threads=1)
        code = 0 if same and refused and m.count == 10000 else 4
    finally:
        os._exit(code)
for _ in range(800):  # the watchdog: 8 s
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
    time.sleep(0.01)
else:
    os.kill(pid, signal.SIGKILL)
    sys.exit("the child hangs")
first.update(x, threads=2)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_updates_with_one_thread_and_refuses_more() -> None:
    assert run_alone(FORKED).split()[-1] == "0"


# Bad input: an error that says function, got, expected; the state is unchanged bit for bit


def refused(m: na.Moments, error: type[Exception], text: str, x: Any, **options: Any) -> None:
    before, after = bits(m), future(m)
    with pytest.raises(error, match=r"(?is)update.*got.*expected") as caught:
        m.update(x, **options)
    assert isinstance(caught.value, na.NetassayError)
    assert re.search(text, str(caught.value)), str(caught.value)
    assert bits(m) == before
    assert future(m) == after


@pytest.fixture
def state() -> na.Moments:
    return moments(rows(1100, 4).astype(np.float32), fourth=True)


@pytest.mark.parametrize(
    ("shape", "layout", "text"),
    [
        ((3, 5), "rows", "5.*4"),
        ((3, 1), "rows", "1.*4"),
        ((5,), "rows", "5.*4"),
        ((), "rows", "scalar|4"),
        ((0, 4), "rows", "0"),
        ((2, 0, 4), "rows", "0"),
        ((3, 0), "rows", "0"),
        ((4, 3), "rows", "3.*4"),
        ((2, 3, 4), "channels_first", "3.*4"),
        ((2, 4, 3), "channels_last", "3.*4"),
        ((2, 4, 0), "channels_first", "0"),
        ((0, 4, 5), "channels_first", "0"),
    ],
)
def test_a_wrong_or_empty_shape_is_refused(state: na.Moments, shape: tuple[int, ...], layout: str, text: str) -> None:
    refused(state, na.ShapeError, text, np.zeros(shape), layout=layout)
    refused(state, ValueError, text, np.zeros(shape, np.float32), layout=layout)


@pytest.mark.parametrize(
    "dtype", ["i8", "i4", "u1", "i1", "?", "c8", "c16", "O", "U3", "S3", "M8[s]", "m8[s]", "g", "f8,f8"]
)
def test_another_dtype_is_refused(state: na.Moments, dtype: str) -> None:
    refused(state, na.DTypeError, "float64", np.zeros((3, 4), dtype))
    refused(state, TypeError, "float32", np.zeros((3, 4), dtype))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "complex64", "complex128"])
def test_another_torch_dtype_is_refused(state: na.Moments, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    refused(state, na.DTypeError, dtype, torch.zeros((3, 4), dtype=getattr(torch, dtype)))


@pytest.mark.parametrize("x", [None, "text", object(), {"a": 1}])
def test_what_is_no_array_is_refused(state: na.Moments, x: Any) -> None:
    refused(state, TypeError, "float64", x)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_a_torch_tensor_without_plain_storage_is_refused(state: na.Moments) -> None:
    torch = pytest.importorskip("torch")
    refused(state, na.UnsupportedLayout, "meta", torch.empty((3, 4), device="meta"))
    refused(state, na.UnsupportedLayout, "sparse", torch.eye(4).to_sparse())
    refused(state, TypeError, "sparse", torch.eye(4).to_sparse_csr())


@pytest.mark.parametrize("shape", [(), (5,), (3, 2), (2, 4), (2, 3, 1), (2, 3, 4), (1, 3)])
def test_a_mask_of_another_shape_is_refused(state: na.Moments, shape: tuple[int, ...]) -> None:
    refused(state, na.ShapeError, "mask", rows(6, 4).reshape(2, 3, 4), mask=np.ones(shape, bool))


def test_a_mask_of_numbers_that_are_no_truth_values_is_refused(state: na.Moments) -> None:
    """An additive attention mask (0 keeps, -inf drops) read as truth values would keep the padding."""
    refused(state, na.DTypeError, "mask", rows(6, 4), mask=np.array([0.0, 0.0, 0.0, 0.0, -np.inf, -np.inf]))


def test_an_unknown_layout_is_refused_and_the_known_ones_are_named(state: na.Moments) -> None:
    refused(state, na.LayoutError, "nchw.*rows.*channels_first.*channels_last", rows(6, 4), layout="nchw")


@pytest.mark.parametrize("threads", [0, -1, -(2**40)])
def test_threads_below_one_are_refused(state: na.Moments, threads: int) -> None:
    before = bits(state)
    with pytest.raises(ValueError, match="threads"):
        state.update(rows(6, 4), threads=threads)
    with pytest.raises(ValueError, match="threads"):
        state.merge(state.copy(), threads=threads)
    assert bits(state) == before


@pytest.mark.parametrize("options", [{"threads": 1.5}, {"threads": "2"}, {"layout": 3}, {"unknown": 1}])
def test_options_of_another_type_are_refused(state: na.Moments, options: dict[str, Any]) -> None:
    before = bits(state)
    with pytest.raises((TypeError, ValueError)):
        state.update(rows(6, 4), **options)
    assert bits(state) == before


def test_options_after_the_data_are_keyword_only(state: na.Moments) -> None:
    with pytest.raises(TypeError):
        state.update(rows(6, 4), "rows")
    with pytest.raises(TypeError):
        na.Moments(4, "exact")


def test_merging_what_does_not_fit_is_refused(state: na.Moments) -> None:
    before = bits(state)
    with pytest.raises(na.ShapeError, match=r"(?is)merge.*got.*5.*expected.*4"):
        state.merge(moments(rows(9, 5), fourth=True))
    with pytest.raises(na.ShapeError):
        state + moments(rows(9, 5), fourth=True)
    with pytest.raises(ValueError, match="fourth"):
        state.merge(moments(rows(9, 4)))
    for other in (None, 1, rows(9, 4)):
        with pytest.raises(TypeError):
            state.merge(other)
    with pytest.raises(TypeError):
        state + 1
    assert bits(state) == before


@pytest.mark.parametrize("width", [0, -1, -(2**62)])
def test_a_width_below_one_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=str(width)):
        na.Moments(width)


@pytest.mark.parametrize("width", [2.5, "3", None, np.zeros(2)])
def test_a_width_that_is_no_integer_is_refused(width: Any) -> None:
    with pytest.raises(TypeError):
        na.Moments(width)


def test_an_unknown_precision_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ValueError, match=r"(?s)fast.*high.*exact|fast.*exact.*high"):
        na.Moments(4, precision="fast")


@pytest.mark.parametrize(
    ("width", "memory"), [(1000, 1 << 20), (10**7, None), (2**33, None), (2**62, None), (2**62, 2**62)]
)
def test_a_state_beyond_its_memory_is_refused_before_it_is_allocated_and_the_size_is_named(
    width: int, memory: int | None
) -> None:
    with pytest.raises(na.LimitExceeded, match=r"(?s)Moments.*\d ?(bytes|B|[KMGTPEZY]i?B).*expected") as caught:
        na.Moments(width, memory=memory)
    assert isinstance(caught.value, MemoryError)


def test_a_state_within_its_memory_says_what_it_takes() -> None:
    m = na.Moments(100, memory=1 << 20)
    m.update(rows(1500, 100))
    assert 4 * 100 * 100 <= m.nbytes <= 1 << 20


def test_the_covariance_of_too_few_rows_is_refused() -> None:
    with pytest.raises(na.TooFewRows, match="covariance"):
        na.Moments(4).covariance()
    with pytest.raises(na.TooFewRows, match="covariance"):
        moments(rows(1, 4)).covariance(ddof=1)


def test_many_states_reduce_to_one() -> None:
    parts = [rows(20, 3, seed=i) for i in range(30)]
    total = reduce(lambda a, b: a + b, (moments(p) for p in parts))
    x = np.concatenate(parts)
    y = x - x.mean(axis=0)
    spread = float(np.sum(y * y) + len(x) * np.max(np.sum(y * y, axis=1)))
    assert_close(total, x, tolerance("float64", "exact", len(x)), spread)


def test_the_core_is_never_given_a_misaligned_array() -> None:
    x = misaligned(rows(5, 3))
    assert not x.flags.aligned
    given = arrays.view(x, "test").array
    assert given.flags.aligned
    assert np.array_equal(given, x)
