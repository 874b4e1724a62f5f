"""Activation patterns: kernels are Hamming distances counted one by one, determinants those of numpy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from netassay.base.errors import DomainError, LimitExceeded, TooFewRows
from netassay.complexity import Switching, distinct_patterns, naswot, patterns

pytestmark = pytest.mark.native

SHAPES = [(1, 1), (2, 3), (7, 63), (7, 64), (7, 65), (5, 3, 5), (4, 2, 8, 9), (3, 70, 2), (6, 130), (2, 3, 100, 90)]


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    a = np.random.default_rng(shape).standard_normal(shape)
    return np.where(np.random.default_rng(1).random(shape) < 0.1, 0.0, a)


def ordered(matrix: np.ndarray) -> list[float]:
    return sorted(matrix.ravel().tolist())


def expected_kernel(a: np.ndarray) -> np.ndarray:
    z = (a > 0).reshape(len(a), -1)
    return np.array([[(x == y).sum() for y in z] for x in z], float)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_kernel_is_units_minus_hamming_in_any_memory(dtype: str) -> None:
    for shape in SHAPES:
        a = numbers(shape).astype(dtype)
        expected = expected_kernel(a)
        last = np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)
        for x in (a, last, np.asfortranarray(a)):
            got = naswot(x)
            assert (got.samples, got.units) == (len(a), a[0].size)
            assert ordered(got.kernel) == ordered(expected), shape
            assert np.array_equal(np.diag(got.kernel), np.full(len(a), a[0].size))
            assert np.array_equal(np.linalg.eigvalsh(got.kernel).round(6), np.linalg.eigvalsh(expected).round(6))


def test_the_determinant_is_numpys() -> None:
    a = numbers((20, 40))
    got = naswot(a)
    assert got.flags == ()
    assert got.log_determinant == pytest.approx(np.linalg.slogdet(expected_kernel(a))[1], rel=1e-12)
    assert (got.distinct, distinct_patterns(a)) == (20, 20)


def test_samples_that_coincide_are_singular() -> None:
    a = numbers((20, 40))
    a[7] = 2 * a[3]
    got = naswot(a)
    assert (got.log_determinant, got.flags, got.distinct) == (-np.inf, ("singular",), 19)


def test_more_samples_than_units_and_one_are_singular() -> None:
    """All 8 patterns of 3 units: K has rank 4 at most."""
    z = (np.arange(8)[:, None] >> np.arange(3) & 1) * 2.0 - 1
    got = naswot(z, layout="rows")
    assert (got.log_determinant, got.flags, got.distinct) == (-np.inf, ("singular",), 8)
    # as many as D + 1 may be regular: none, and one unit at a time
    assert np.isfinite(naswot(z[[0, 1, 2, 4]], layout="rows").log_determinant)


def test_a_state_of_batches_merged_in_any_order_is_the_whole() -> None:
    a = numbers((9, 5, 4, 3))
    parts = []
    for batch in np.split(a, [2, 3, 7]):
        part = Switching(patterns=True)
        part.update(batch)
        parts.append(part)
    whole = naswot(a)
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        total = Switching(patterns=True)
        for k in order:
            total.merge(parts[k])
        got = naswot(total)
        assert np.array_equal(got.kernel, whole.kernel)
        assert got.log_determinant == whole.log_determinant
        assert distinct_patterns(total) == whole.distinct


def test_a_threshold_is_that_of_the_state() -> None:
    a = numbers((9, 12))
    assert ordered(naswot(a, rule="threshold", threshold=0.5).kernel) == ordered(expected_kernel(a - 0.5))


def test_bfloat16_patterns_are_its_numbers() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    assert ordered(naswot(x).kernel) == ordered(expected_kernel(x.double().numpy()))


def varied() -> Switching:
    state = Switching(patterns=True)
    state.update(numbers((2, 3, 4)))
    state.update(numbers((2, 3, 5)))
    return state


@pytest.mark.parametrize(("error", "text", "misuse"), [
    (DomainError, "got a state without patterns", lambda: naswot(Switching())),
    (DomainError, "got options ['layout'] for a state", lambda: naswot(Switching(patterns=True), layout="rows")),
    (DomainError, "whose shape has varied", lambda: distinct_patterns(varied())),
    (TooFewRows, "got no samples", lambda: naswot(Switching(patterns=True))),
])  # fmt: skip
def test_a_misuse_says_what_was_got_and_what_expected(error: type[Exception], text: str, misuse: Any) -> None:
    with pytest.raises(error, match=re.escape(text)):
        misuse()


def test_a_kernel_too_large_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MOST_SAMPLES", 3)
    with pytest.raises(LimitExceeded, match="got 4 samples, expected at most 3"):
        naswot(numbers((4, 5)))
