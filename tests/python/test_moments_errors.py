"""Bad input of Moments: an error that says function, got, expected; the state is unchanged bit for bit."""

from __future__ import annotations

import re
from functools import reduce
from typing import Any

import numpy as np
import pytest

import netassay as na
from netassay.base import arrays
from python.moments import assert_close, bits, future, misaligned, moments, rows, tolerance

pytestmark = pytest.mark.native


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
