"""Bad input of neural persistence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import netassay as na
from netassay import persistence as stem
from netassay.base.arrays import View
from python.matrices import FLOATS, typed

pytestmark = pytest.mark.native

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "neural_persistence": stem.neural_persistence,
    "network_persistence": lambda w, **options: stem.network_persistence([w], **options),
    "spanning_tree": stem.spanning_tree,
    "largest": stem.largest,
    "shuffle_test": stem.shuffle_test,
    "variance": stem.variance,
    "sortedness": stem.sortedness,
}
BAD_BITS = {
    "float64": [0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0x7FF0000000000001, 0xFFFFFFFFFFFFFFFF],
    "float32": [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF],
    "bfloat16": [0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFFF],
    "float16": [0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFFFF],
    "float8_e4m3fn": [0x7F, 0xFF],
    "float8_e5m2": [0x7C, 0xFC, 0x7D, 0x7F, 0xFF],
}


def spoiled(dtype: str, shape: tuple[int, ...], index: tuple[int, ...], bits: int) -> Any:
    """A weight with these bits at this place."""
    given_x = typed(np.random.default_rng(2).standard_normal(shape), dtype).given
    array = given_x.array if isinstance(given_x, View) else given_x
    array.view(f"u{array.itemsize}")[index] = bits
    return given_x


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_nan_or_an_infinity_is_refused_by_its_index_in_the_weight_as_given(dtype: str, function: str) -> None:
    for bits in BAD_BITS[dtype]:
        for shape, index in (((1, 1), (0, 0)), ((40, 70), (39, 69)), ((300, 70), (3, 9)), ((8, 3, 5, 5), (7, 0, 4, 2))):
            w = spoiled(dtype, shape, index, bits)
            text = rf"^{function}: got -?(nan|inf) at \[{', '.join(map(str, index))}\] of the weight, expected finite"
            with pytest.raises(na.NonFinite, match=text) as caught:
                FUNCTIONS[function](w)
            assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("method", ["filter", "boruvka", "prim"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_core_names_the_row_and_column_however_the_matrix_lies(dtype: str, method: str) -> None:
    w = spoiled(dtype, (90, 70), (5, 69), BAD_BITS[dtype][-1])
    array = w.array if isinstance(w, View) else w
    for y in (array, np.asfortranarray(array), np.repeat(array, 2, axis=1)[:, ::2]):
        with pytest.raises(na.NonFinite, match=r"spanning_tree: got NaN or infinity at \[5, 69\], expected finite"):
            na._core.persistence.spanning_tree(y, dtype, method=method)
        with pytest.raises(na.NonFinite, match=r"largest.*: got NaN or infinity at \[5, 69\], expected finite"):
            na._core.persistence.largest(y, dtype)


def test_the_largest_numbers_of_a_format_are_finite() -> None:
    for dtype, bad in BAD_BITS.items():
        w = spoiled(dtype, (9, 8), (3, 4), bad[0] - 1)
        assert math.isfinite(stem.largest(w))
        assert stem.neural_persistence(w).weights[0] == 1


def test_the_first_bad_value_is_named_and_the_others_are_counted() -> None:
    x = np.zeros((4, 5))
    x[1, 3], x[2, 0], x[3, 4] = np.inf, np.nan, -np.inf
    for order in ("C", "F"):
        with pytest.raises(na.NonFinite, match=r"got inf at \[1, 3\] of the weight and 2 more, expected finite values"):
            stem.neural_persistence(np.array(x, order=order))
    with pytest.raises(na.NonFinite, match=r"got nan at \[2\] of the bias, expected finite"):
        stem.neural_persistence(np.ones((4, 5)), bias=np.array([0, 1, np.nan, 2]))


@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (3, 0), (0, 0), (2, 3, 0), (0, 3, 3, 3)])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_fewer_than_two_axes_or_an_empty_one_are_refused(function: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(na.ShapeError, match=rf"{function}: got a weight of shape .*expected \(out, in, ...\)"):
        FUNCTIONS[function](np.zeros(shape))


@pytest.mark.parametrize("dtype", ["i8", "i4", "i2", "u2", "u4", "?", "c8", "c16", "O", "U3", "g"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_another_dtype_is_refused(function: str, dtype: str) -> None:
    with pytest.raises(na.DTypeError, match=rf"{function}: got dtype .*expected float64"):
        FUNCTIONS[function](np.zeros((3, 3), dtype))


@pytest.mark.parametrize("dtype", ["int64", "int16", "bool", "complex64"])
def test_another_torch_dtype_is_refused(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(na.DTypeError, match=rf"neural_persistence: got dtype {dtype}, expected"):
        stem.neural_persistence(torch.zeros((3, 3), dtype=getattr(torch, dtype)))


def test_a_torch_tensor_without_plain_storage_is_refused() -> None:
    torch = pytest.importorskip("torch")
    for function in FUNCTIONS.values():
        with pytest.raises(na.UnsupportedLayout, match="meta"):
            function(torch.empty((3, 4), device="meta"))
        with pytest.raises(na.UnsupportedLayout, match="sparse"):
            function(torch.eye(4).to_sparse())


@pytest.mark.parametrize("view", [View(np.zeros((2, 2)), "float32"), View(np.zeros((2, 2)), "int32")])
def test_a_view_that_does_not_carry_its_tag_is_refused(view: View) -> None:
    with pytest.raises(na.DTypeError, match=r"largest: got a float64 array tagged .*expected one that carries"):
        stem.largest(view)


def test_a_bias_that_does_not_fit_is_refused() -> None:
    x = np.ones((4, 3))
    for shape in ((3,), (4, 1), (), (5,)):
        with pytest.raises(na.ShapeError, match=r"neural_persistence: got a bias of shape .*expected \(4,\)"):
            stem.neural_persistence(x, bias=np.ones(shape))
    with pytest.raises(na.DTypeError, match=r"neural_persistence: got a bias of dtype float32, expected.*float64"):
        stem.neural_persistence(x, bias=np.ones(4, np.float32))


@pytest.mark.parametrize("function", ["neural_persistence", "network_persistence", "spanning_tree", "largest"])
@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_refused(function: str, threads: int) -> None:
    with pytest.raises(na.DomainError, match="threads"):
        FUNCTIONS[function](np.ones((3, 3)), threads=threads)


def test_no_weights_and_too_few_draws_are_refused() -> None:
    with pytest.raises(na.ShapeError, match="network_persistence: got no weights, expected at least one"):
        stem.network_persistence([])
    for draws in (1, 0, -3):
        with pytest.raises(na.DomainError, match=rf"shuffle_test: got draws={draws}, expected at least 2"):
            stem.shuffle_test(np.ones((3, 3)), draws)


def test_options_after_the_data_are_keyword_only() -> None:
    x = np.ones((3, 3))
    for call in (
        lambda: stem.neural_persistence(x, 2.0),
        lambda: stem.network_persistence([x], 2),
        lambda: stem.spanning_tree(x, x),
        lambda: stem.variance(x, 1.0),
    ):
        with pytest.raises(TypeError):
            call()
