"""Moments of any layout and dtype: every view gives the state of the contiguous copy, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from python.moments import DTYPES, PRECISIONS, assert_same, bits, misaligned, moments, rows, typed
from reference import saturation as reference

pytestmark = pytest.mark.native


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
