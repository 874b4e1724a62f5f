"""Numbers of every kind, states of switching counts, and what must be equal of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from netassay.complexity import Complexity, Switching
from python.full import count
from reference import complexity as reference

LAWS = settings(max_examples=count(60, 1200), deadline=None, derandomize=True)
CLOSE = 1e-12
DTYPES = ["float64", "float32", "bfloat16", "float16"]
SIZES = [1, 2, 3, 15, 16, 17, 31, 33, 97]
#: Rule, its thresholds, options.
SIGNS = ("relu", "leaky_relu", "prelu", "gate_sign")
RULES: list[tuple[str, tuple[float, ...], dict[str, Any]]] = [
    ("relu", (0.0,), {}),
    ("relu6", (0.0, 6.0), {}),
    ("hardtanh", (-1.0, 1.0), {}),
    ("hardtanh", (-0.5, 2.0), {"threshold": (-0.5, 2.0)}),
    ("threshold", (0.25,), {"threshold": 0.25}),
    ("threshold", (-0.75, -0.1, 1.5), {"threshold": (-0.75, -0.1, 1.5)}),
]


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Numbers of every kind: zeros of both signs, NaNs, infinities, denormals, values on thresholds."""
    g = np.random.default_rng([seed, *shape])
    a = g.standard_normal(shape) * 2 + g.standard_normal((1, shape[1], *[1] * (len(shape) - 2)))
    special = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-310, -1e-310, 6.0, -1.0, 1.0, 0.25, 1e-40, -1e-40]
    where = g.random(shape) < 0.15
    a[where] = g.choice(special, int(where.sum()))
    return a


def typed(a: np.ndarray, dtype: str) -> tuple[Any, np.ndarray]:
    """As it is given, and its values as float64."""
    if dtype == "bfloat16":
        torch = pytest.importorskip("torch")
        t = torch.from_numpy(a.astype(np.float32)).to(torch.bfloat16)
        return t, t.double().numpy()
    x = a.astype(dtype)
    return x, x.astype(np.float64)


def same(a: Complexity, b: Complexity) -> None:
    """The same bits in every field."""
    for name in Complexity.__slots__:
        x, y = getattr(a, name), getattr(b, name)
        assert type(x) is type(y), name
        assert np.array_equal(x, y, equal_nan=True) if isinstance(x, np.ndarray) else x == y, name


def bits(state: Switching) -> bytes:
    return b"".join(value.tobytes() for _, value in sorted(state.tensors().items()))


def assert_counts(got: Complexity, z: np.ndarray, k: int) -> None:
    """Against states (N, C, *positions) counted one by one."""
    n = len(z)
    assert (got.samples, got.observations) == (n, z[:, 0].size)
    expected = np.array([[(z[:, c] == s).mean() for c in range(z.shape[1])] for s in range(k)])
    assert np.array_equal(got.shares, expected)
    assert np.allclose(got.channel_bits, reference.channel(z, k), rtol=0, atol=CLOSE)
    assert got.position_bits is not None
    assert np.allclose(got.position_bits, reference.position(z, k), rtol=0, atol=CLOSE)
    assert got.position_bits.shape == z.shape[1:]
    assert got.position_miller_madow is not None
    for mm, by in ((got.channel_miller_madow, reference.channel), (got.position_miller_madow, reference.position)):
        assert np.allclose(mm, by(z, k, reference.miller_madow), rtol=0, atol=CLOSE)
    assert got.mean_position_miller_madow is not None
    for mean, by in (
        (got.mean_channel_miller_madow, reference.channel),
        (got.mean_position_miller_madow, reference.position),
    ):
        assert math.isclose(mean, min(by(z, k, reference.entropy_corrected).mean(), math.log2(k)), abs_tol=CLOSE)
    assert math.isclose(got.mean_channel, got.channel_bits.mean(), abs_tol=CLOSE)
    assert got.mean_position is not None
    assert math.isclose(got.mean_position, got.position_bits.mean(), abs_tol=CLOSE)
    if n == 1:
        assert got.hamming is None
        assert np.isnan(got.effective_samples).all()
    else:
        assert got.hamming is not None
        assert math.isclose(got.hamming, reference.hamming(z), abs_tol=CLOSE)
        assert np.allclose(got.effective_samples, reference.effective_samples(z, k), rtol=1e-9, equal_nan=True)


def channels_last(x: Any) -> Any:
    """The same numbers with neighbouring units side by side in memory."""
    if isinstance(x, np.ndarray):
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def memories(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same array, otherwise laid out."""
    yield "channels last in memory", channels_last(x)
    yield "Fortran", np.asfortranarray(x)
    back = tuple(slice(None, None, -1) for _ in x.shape)
    yield "backwards", x[back].copy()[back]
    wide = np.zeros(tuple(2 * n + 1 for n in x.shape), x.dtype)
    every = tuple(slice(1, None, 2) for _ in x.shape)
    wide[every] = x
    yield "strided", wide[every]
    padded = np.zeros((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
    padded[..., : x.shape[-1]] = x
    yield "padded", padded[..., : x.shape[-1]]
    yield "positions swapped", np.swapaxes(np.ascontiguousarray(np.swapaxes(x, -1, -2)), -1, -2)
    read_only = x.copy()
    read_only.flags.writeable = False
    yield "read-only", read_only


def fed(*batches: Any, threads: int | None = None, labels: Any = None, **options: Any) -> Switching:
    state = Switching(**options)
    for batch in batches:
        state.update(batch, labels, threads=threads)
    return state


def closeness(a: np.ndarray) -> tuple[float, float]:
    """Of a mean, in standard deviations, and of a variance, relative: (n + r) 2^-52 for n numbers whose mean is r
    standard deviations from zero, which is what float64 can hold of it."""
    finite = a[np.isfinite(a)]
    r = float(np.abs(finite).max() / finite.std()) if finite.std() > 0 else 0.0
    return (len(finite) + r) * 2.0**-52, (len(finite) + 4 * r) * 2.0**-52


def assert_sums(got: Complexity, values: np.ndarray, cancelled: float = 1.0) -> None:
    """cancelled: sum of squares about the pivot over that about the mean."""
    assert got.mean is not None
    assert got.variance is not None
    assert got.infinities == np.isinf(values).sum()
    for c in range(values.shape[1]):
        if not np.isfinite(values[:, c]).any():
            assert np.isnan(got.mean[c])
            assert np.isnan(got.variance[c])
            continue
        (mean,), (variance,) = reference.moments(values[:, c : c + 1])
        of_mean, of_variance = closeness(values[:, c])
        spread = math.sqrt(variance)
        assert abs(Fraction(float(got.mean[c])) - mean) <= of_mean * spread + abs(mean) * 2.0**-52
        assert abs(Fraction(float(got.variance[c])) - variance) <= of_variance * variance * cancelled


def same_counts(a: Complexity, b: Complexity) -> None:
    """All but the sums."""
    assert (b.mean, b.variance, b.infinities) == (None, None, None)
    same(dataclasses.replace(a, mean=None, variance=None, infinities=None), b)


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Numbers, labels, and where they are cut."""
    n, units = draw(st.integers(2, 9)), draw(st.integers(1, 5))
    places = tuple(draw(st.lists(st.integers(1, 4), max_size=2)))
    a = numbers((n, units, *places), draw(st.integers(0, 1000)))
    cuts = draw(st.lists(st.integers(1, n - 1), max_size=3, unique=True))
    return a, np.arange(n) % 3, sorted(cuts)
