"""Maximum spanning trees by every method against scipy's: their weights are unique, so all comparisons are exact."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import netassay as na
from netassay import _core
from netassay.base.arrays import View, weight_view
from python.devices import on
from python.full import count
from python.matrices import DTYPES, KINDS, Typed, assert_spans, eight_bits, make, scipy_tree, typed

pytestmark = pytest.mark.native

pytest.importorskip("scipy")

METHODS = ["filter", "boruvka", "prim"]
LAWS = settings(max_examples=count(150, 3000), deadline=None, derandomize=True)
#: (rows, columns): the filter keeps edges where the shorter side is some 5 ln(m + n) or more.
SMALL = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (15, 17), (16, 33), (31, 3), (1, 97), (97, 1), (33, 97)]
FILTERED = [(64, 64), (65, 127), (200, 70), (129, 300)]


def spanned(weight: Any, method: str = "automatic", threads: int = 1) -> tuple[np.ndarray, ...]:
    """(weights, ends, row maxima, column maxima)."""
    array, dtype = weight_view(weight, "test")
    return _core.persistence.spanning_tree(array, dtype, method=method, threads=threads)


@cache
def case(kind: str, m: int, n: int, dtype: str, seed: int = 0) -> tuple[Typed, np.ndarray]:
    w = typed(make(kind, m, n, seed) * (20 if dtype.endswith("int8") else 1), dtype)
    return w, scipy_tree(w.values)


def assert_is_the_tree(w: Typed, expected: np.ndarray, method: str, device: str = "host") -> None:
    weights, ends, row_max, col_max = spanned(on(device, w.given), method)
    assert np.array_equal(weights, expected)
    assert_spans(w.values, weights, ends)
    assert np.array_equal(row_max, np.abs(w.values).max(axis=1))
    assert np.array_equal(col_max, np.abs(w.values).max(axis=0))


# Every method finds scipy's tree


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_finds_the_tree_that_scipy_finds(device: str, kind: str, method: str) -> None:
    for (m, n), dtype in itertools.product(SMALL + FILTERED, ["float64", "float32"]):
        assert_is_the_tree(*case(kind, m, n, dtype), method, device)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_format_has_the_tree_of_its_values(device: str, dtype: str, method: str) -> None:
    for kind in ("normal", "cauchy", "half zero", "dead rows and columns", "many blocks, faintly joined", "levels"):
        for m, n in ((1, 1), (17, 3), (31, 130), (129, 97)):
            assert_is_the_tree(*case(kind, m, n, dtype), method, device)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("m", "n"), [(500, 500), (512, 701), (700, 64)])
def test_matrices_of_hundreds_of_rows_and_columns_have_scipys_tree(device: str, m: int, n: int, method: str) -> None:
    for kind in ("normal", "cauchy", "integers, many ties", "0.1 % dense", "dead rows and columns", "levels"):
        assert_is_the_tree(*case(kind, m, n, "float32"), method, device)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "block" in kind])
def test_blocks_that_are_hardly_joined_are_read_again_and_joined(device: str, kind: str, method: str) -> None:
    for m, n, dtype in ((500, 520, "float32"), (450, 600, "float64"), (400, 400, "bfloat16"), (300, 350, "int8")):
        assert_is_the_tree(*case(kind, m, n, dtype), method, device)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("m", "n"), [(1, 5000), (5000, 1), (4, 3000), (3000, 4), (2, 4099), (40, 2000)])
def test_skinny_matrices_have_scipys_tree(device: str, m: int, n: int, method: str) -> None:
    for kind in ("normal", "2 % dense", "integers, many ties", "levels", "two blocks, faintly joined"):
        for dtype in ("float32", "uint8"):
            assert_is_the_tree(*case(kind, m, n, dtype), method, device)


@pytest.mark.parametrize("method", METHODS)
@LAWS
@given(x=arrays.arrays(np.int8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-4, 4)))
def test_small_integers_with_every_pattern_of_ties_have_scipys_tree(method: str, x: np.ndarray) -> None:
    assert_is_the_tree(Typed(x, x.astype(np.float64)), scipy_tree(x), method)


@LAWS
@given(
    m=st.integers(40, 130),
    n=st.integers(40, 130),
    kind=st.sampled_from(sorted(KINDS)),
    dtype=st.sampled_from(DTYPES),
    step=st.sampled_from([None, 1.0, 0.1]),
    seed=st.integers(0, 10**6),
)
def test_filter_boruvka_and_prim_agree(m: int, n: int, kind: str, dtype: str, step: float | None, seed: int) -> None:
    x = make(kind, m, n, seed)
    w = typed(x if step is None else np.rint(x / step) * step, dtype)
    expected = scipy_tree(w.values)
    for method in METHODS:
        assert_is_the_tree(w, expected, method)


# The ends of each format


def patterns(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Every finite number of a format of 8 or 16 bits, of wider ones some thousands with subnormals: array, values."""
    g = np.random.default_rng(0)
    carrier = np.dtype({"float64": "u8", "float32": "u4", "bfloat16": "u2", "float16": "u2"}.get(dtype, "u1"))
    most = int(np.iinfo(carrier).max)
    if carrier.itemsize > 2:
        bits = g.integers(0, most, 8000, carrier, endpoint=True)
        bits[:6] = [0, 1, 2, most // 2 + 1, most // 2 + 2, most // 2 + 3]
    else:
        bits = np.arange(most + 1, dtype=carrier)
    if dtype == "bfloat16":
        values = (bits.astype(np.uint32) << 16).view(np.float32)
    elif dtype.startswith("float8"):
        values = eight_bits(dtype)[bits]
    else:
        bits = values = bits.view(dtype)
    keep = np.isfinite(values)
    return bits[keep], values[keep].astype(np.float64)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_a_format_is_in_the_order_of_its_magnitude(dtype: str, method: str) -> None:
    """Subnormals, both zeros, the largest values, and -128. Of one row every entry is in the tree."""
    numbers, values = patterns(dtype)
    step = 16 if method == "prim" and len(numbers) > 10_000 else 1  # Prim is quadratic
    row = View(numbers[::step][None], dtype)
    assert_is_the_tree(Typed(row, values[::step][None]), np.sort(np.abs(values[::step]))[::-1], method)
    if dtype == "int8":
        assert spanned(row, method)[0][0] == 128
    places = np.random.default_rng(1).integers(0, len(numbers), (150, 170))
    square = Typed(View(numbers[places], dtype), values[places])
    assert_is_the_tree(square, scipy_tree(square.values), method)


def test_a_method_that_is_none_is_refused() -> None:
    with pytest.raises(na.DomainError, match=r"spanning_tree: got method 'kruskal', expected automatic, filter"):
        spanned(np.ones((2, 2)), "kruskal")


# One result, whatever the number of threads and the layout


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_threads_gives_the_same_bits_and_the_same_edges(kind: str, method: str) -> None:
    sizes = [(90, 70)] if method == "prim" else [(90, 70), (5, 40_000), (1500, 700)]
    for (m, n), dtype in zip(sizes, ("bfloat16", "float64", "float32"), strict=False):
        w = typed(make(kind, m, n), dtype)
        one = spanned(w.given, method, threads=1)
        for threads in (2, 3, 7):
            for part, expected in zip(spanned(w.given, method, threads=threads), one, strict=True):
                assert part.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8"])
def test_a_matrix_read_the_other_way_round_has_its_rows_and_columns_the_right_way(dtype: str) -> None:
    """Fortran order is read by columns; the result must not tell."""
    for kind in ("normal", "levels"):
        for m, n in ((7, 5), (70, 200), (200, 70), (600, 500)):
            w = typed(make(kind, m, n), dtype)
            expected = spanned(w.given)
            got = spanned(np.asfortranarray(w.given))
            for k in (0, 2, 3):
                assert got[k].tobytes() == expected[k].tobytes()
            assert_spans(w.values, got[0], got[1])


# Invariances


@LAWS
@given(m=st.integers(1, 90), n=st.integers(1, 90), kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 10**6))
def test_transposing_permuting_and_changing_signs_change_nothing(m: int, n: int, kind: str, seed: int) -> None:
    x, g = make(kind, m, n, seed), np.random.default_rng(seed)
    expected = spanned(x)[0]
    signs = g.choice([-1.0, 1.0], (m, n))
    for y in (x.T, x[g.permutation(m)][:, g.permutation(n)], x * signs, np.ascontiguousarray(x.T)):
        for method in METHODS:
            assert spanned(y, method)[0].tobytes() == expected.tobytes()


@LAWS
@given(m=st.integers(1, 90), n=st.integers(1, 90), kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 10**6))
def test_a_monotone_map_of_the_entries_maps_the_tree(m: int, n: int, kind: str, seed: int) -> None:
    x = np.abs(make(kind, m, n, seed))
    tree = spanned(x)[0]
    for f in (np.sqrt, lambda v: 4 * v, lambda v: np.floor(8 * v), lambda v: np.minimum(v, np.median(x))):
        assert spanned(f(x))[0].tobytes() == f(tree).tobytes()


# One number in one read


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_magnitude_is_found_wherever_it_stands(dtype: str) -> None:
    g = np.random.default_rng(5)
    for m, n in ((1, 1), (1, 300), (300, 1), (17, 33), (129, 257)):
        for place in (0, m * n // 2, m * n - 1):
            x = g.uniform(-1, 1, (m, n)) * 10
            x.flat[place] = -100.0 if dtype != "uint8" else 100.0
            w = typed(x, dtype)
            expected = np.abs(w.values).max()
            assert expected > 90
            for threads in (1, 3):
                assert na.persistence.largest(w.given, threads=threads) == expected
    assert na.persistence.largest(typed(np.zeros((3, 4)), dtype).given) == 0


def test_the_largest_magnitude_of_minus_128_is_128() -> None:
    assert na.persistence.largest(np.full((3, 70), -128, np.int8)) == 128
