"""How often units switch: parity with the reference, special values, known answers, laws, threads, files, errors.

Counts are exact, so they are compared with ==. Entropies of shares that differ by rounding alone: a few units in the
last place of log2 K, 1e-12.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netassay as na
from netassay.base.errors import DomainError, DTypeError, LayoutError, LimitExceeded, ShapeError, StateError, TooFewRows
from netassay.complexity import Complexity, Switching, complexity, footprint
from reference import complexity as reference

LAWS = settings(max_examples=60, deadline=None, derandomize=True)
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


# ---- parity ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rule", "thresholds", "options"), RULES)
def test_every_rule_is_the_references_in_every_format(
    rule: str, thresholds: tuple[float, ...], options: dict[str, Any], dtype: str
) -> None:
    for shape in ((5, 3), (1, 4), (4, 3, 5), (3, 2, 4, 7), (2, 3, 2, 3, 3)):
        x, values = typed(numbers(shape), dtype)
        got = complexity(x, rule=rule, **options)
        assert_counts(got, reference.states(values, thresholds), len(thresholds) + 1)
        assert (got.zeros, got.nans) == ((values == 0).sum(), np.isnan(values).sum())
        assert got.thresholds == thresholds


def test_sign_rules_count_alike() -> None:
    x = numbers((5, 3, 4))
    assert len({bits(fed(x, rule=rule)) for rule in (*SIGNS, "identity")}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_units_positions_and_samples_is_counted_once(dtype: str) -> None:
    for size in SIZES:
        for shape in ((size, 3), (3, size), (2, 3, size), (2, size, 3), (size, 2, 3), (2, size, size)):
            x, values = typed(numbers(shape, 1), dtype)
            z = reference.states(values, (0.0,))
            for x_given in (x, channels_last(x)):
                got = complexity(x_given)
                assert np.array_equal(got.shares[1], np.moveaxis(z, 1, 0).reshape(shape[1], -1).mean(axis=1))
                assert (got.zeros, got.nans) == ((values == 0).sum(), np.isnan(values).sum())
                assert got.position_bits is not None
                assert np.allclose(got.position_bits, reference.position(z, 2), rtol=0, atol=CLOSE)


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


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("rule", ["relu", "relu6"])
def test_any_strides_describe_the_same_numbers(rule: str, dtype: str) -> None:
    for shape in ((6, 9), (3, 17, 5), (4, 5, 6, 7), (2, 70, 3, 40)):
        x = numbers(shape).astype(dtype)
        expected = bits(fed(x, rule=rule))
        for name, x_given in memories(x):
            assert bits(fed(x_given, rule=rule)) == expected, f"{shape}, {name}"
            if len(shape) > 2:
                last = np.moveaxis(x_given, 1, -1)
                assert bits(fed(last, rule=rule, layout="channels_last")) == expected, f"{shape}, {name}, last"


def test_a_broadcast_sample_counts_as_often_as_it_is_there() -> None:
    x = numbers((1, 3, 4, 5))
    assert bits(fed(np.broadcast_to(x, (7, 3, 4, 5)))) == bits(fed(np.concatenate([x] * 7)))


def test_torchs_channels_last_memory_is_channels_first() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(numbers((4, 5, 6, 7)).astype(np.float32))
    assert bits(fed(x.to(memory_format=torch.channels_last))) == bits(fed(x))


def test_every_leading_axis_of_rows_is_samples() -> None:
    x = numbers((6, 5, 7))
    rows = np.moveaxis(x, 1, -1)
    assert bits(fed(rows, layout="rows")) == bits(fed(np.ascontiguousarray(rows).reshape(42, 5), layout="rows"))
    assert fed(rows[0, 0], layout="rows").samples == 1


def fed(*batches: Any, threads: int | None = None, labels: Any = None, **options: Any) -> Switching:
    state = Switching(**options)
    for batch in batches:
        state.update(batch, labels, threads=threads)
    return state


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_maxpool_is_the_references(dtype: str, ceil_mode: bool) -> None:
    x, values = typed(numbers((3, 2, 7, 8)), dtype)
    for kernel, stride, padding, dilation in (
        ((2, 2), (2, 2), (0, 0), (1, 1)),
        ((3, 3), (2, 2), (1, 1), (1, 1)),
        ((3, 2), (1, 3), (1, 0), (2, 1)),
        ((1, 1), (2, 2), (0, 0), (1, 1)),  # one place, as feature pyramids end
    ):
        window = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        got = complexity(x, rule="maxpool", ceil_mode=ceil_mode, **window)
        place, nan = reference.argmax(values, kernel, stride, padding, dilation, ceil_mode)
        assert_counts(got, place, math.prod(kernel))
        assert got.nans == nan.sum()


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_maxpool_of_any_number_of_units_is_the_references_in_any_memory(dtype: str) -> None:
    """Also of more windows than counters stay near at a time."""
    for shape, kernel in (((2, 1, 5, 5), 3), ((2, 33, 4, 4), 2), ((1, 64, 14, 14), 3), ((2, 70, 3, 3), 2)):
        x = numbers(shape).astype(dtype)
        place, nan = reference.argmax(x, (kernel, kernel), (1, 1), (1, 1), (1, 1), False)
        for x_given in (x, channels_last(x), x[:, ::-1].copy()[:, ::-1]):
            state = fed(x_given, rule="maxpool", kernel_size=kernel, stride=1, padding=1)
            counts = state.counts()
            for k in range(1, kernel**2):
                assert np.array_equal(counts["position"][k - 1].ravel(), (place == k).sum(axis=0).ravel())
                assert np.array_equal(counts["square"][k - 1], ((place == k).sum(axis=(2, 3)) ** 2).sum(axis=0))
            assert np.array_equal(counts["nan"], nan.sum(axis=(0, 2, 3)))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_places_of_a_maxpool_are_those_that_torch_takes(axes: int) -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 3, *[9] * axes, generator=torch.Generator().manual_seed(0))
    pool = getattr(torch.nn.functional, f"max_pool{axes}d")
    for options in ({"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 2, "ceil_mode": True}):
        _, flat = pool(x, return_indices=True, **options)
        kernel = (options["kernel_size"],) * axes
        got = complexity(x, rule="maxpool", **{**options, "kernel_size": kernel})
        k, s, p = kernel[0], options.get("stride", kernel[0]), options.get("padding", 0)
        place = np.zeros(tuple(flat.shape), int)
        for axis in range(axes):
            at = flat.numpy() // 9 ** (axes - 1 - axis) % 9
            first = np.arange(flat.shape[2 + axis]) * s - p
            place = place * k + at - first.reshape([-1 if a == 2 + axis else 1 for a in range(2 + axes)])
        assert np.array_equal(got.shares, [[(place[:, c] == q).mean() for c in range(3)] for q in range(k**axes)])


def test_options_may_be_numpys_or_torchs() -> None:
    torch = pytest.importorskip("torch")
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"classes": np.int64(3)}, {"classes": 3}),
        ({"rule": "relu6", "threshold": np.array([0.0, 5.0])}, {"rule": "relu6", "threshold": (0.0, 5.0)}),
        ({"threshold": torch.tensor(0.5)}, {"threshold": 0.5}),
        ({"kernel_size": np.int64(3), "stride": np.array([1, 2])}, {"kernel_size": 3, "stride": (1, 2)}),
    ]
    for given_options, expected in pairs:
        rule = {"rule": "maxpool"} if "kernel_size" in expected else {}
        assert Switching(**rule, **given_options).config() == Switching(**rule, **expected).config()
        json.dumps(Switching(**rule, **given_options).config())


def test_labels_and_units_share_the_references_information() -> None:
    g = np.random.default_rng(5)
    for shape in ((40, 6), (40, 3, 4)):
        labels = g.integers(0, 3, len(numbers(shape)))
        x = numbers(shape) + labels.reshape(-1, *[1] * (len(shape) - 1))
        for rule, thresholds in (("relu", (0.0,)), ("relu6", (0.0, 6.0))):
            for x_given in (x, channels_last(x)):
                got = complexity(x_given, labels, rule=rule, classes=4)
                z = reference.states(x, thresholds)
                expected = reference.label_information(z, labels, len(thresholds) + 1)
                assert got.label_information is not None
                assert np.allclose(got.label_information, expected, rtol=0, atol=CLOSE)
    torch = pytest.importorskip("torch")
    assert bits(fed(x, labels=torch.from_numpy(labels), classes=4)) == bits(fed(x, labels=labels, classes=4))


# ---- sums ----


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_means_and_variances_are_the_references_in_every_format(dtype: str) -> None:
    for shape in ((5, 3), (1, 4), (33, 70), (4, 3, 5), (3, 2, 4, 19), (2, 33, 3, 3)):
        x, values = typed(numbers(shape, 2), dtype)
        for x_given in (x, channels_last(x)):
            state = Switching(rule="relu6", sums=True)
            pooled = state.update(x_given, pooled=True)
            got = state.result()
            assert_sums(got, values)
            same_counts(got, complexity(x_given, rule="relu6"))
            flat = values.reshape(*shape[:2], -1)
            kept = np.isfinite(flat).all(axis=2)
            assert np.array_equal(np.isfinite(pooled), kept)
            largest = np.abs(np.where(np.isfinite(values), values, 0)).max()
            off = np.abs(pooled - np.where(np.isfinite(flat), flat, 0).mean(axis=2))[kept]
            assert (off <= largest * flat.shape[2] * 2.0**-52).all()


def same_counts(a: Complexity, b: Complexity) -> None:
    """All but the sums."""
    assert (b.mean, b.variance, b.infinities) == (None, None, None)
    same(dataclasses.replace(a, mean=None, variance=None, infinities=None), b)


@pytest.mark.parametrize("shift", [0.0, 1e6, -1e12])
def test_a_mean_far_from_zero_costs_no_accuracy(shift: float) -> None:
    """Where sums of x and x^2 as they are would have no digit left; also with an outlier for the first number."""
    a = np.random.default_rng(0).standard_normal((40, 3, 5, 5)) + shift
    naive = (a**2).mean(axis=(0, 2, 3)) - a.mean(axis=(0, 2, 3)) ** 2
    assert shift == 0 or (np.abs(naive - 1) > 1e-5).all()
    for x_given in (a, channels_last(a)):
        assert_sums(complexity(x_given, sums=True), a)
    a[0, :, 0, 0] = shift + 1e9
    assert_sums(complexity(a, sums=True), a, cancelled=a[:, 0].size)


def test_sums_of_a_constant_and_of_nothing_finite() -> None:
    got = complexity(np.full((3, 2, 4), 0.1), sums=True)
    assert got.mean is not None
    assert got.variance is not None
    assert (got.mean.tolist(), got.variance.tolist(), got.infinities) == ([0.1, 0.1], [0.0, 0.0], 0)
    assert_sums(complexity(np.array([[[np.inf, np.nan]]]), sums=True), np.array([[[np.inf, np.nan]]]))


def test_sums_are_the_same_bits_for_any_number_of_threads() -> None:
    for shape in ((300, 2, 10, 20), (40, 70, 8, 9), (9, 1, 100, 120), (1500, 100), (3000, 2, 300)):
        x = numbers(shape)
        labels = np.arange(len(x)) % 3
        for x_given in (x, channels_last(x)):
            expected = bits(fed(x_given, threads=1, labels=labels, classes=3, sums=True))
            for threads in (2, 3, 7):
                assert bits(fed(x_given, threads=threads, labels=labels, classes=3, sums=True)) == expected


def test_any_strides_have_the_same_sums() -> None:
    x = numbers((4, 5, 6, 7))
    for _, x_given in memories(x):
        assert_sums(complexity(x_given, sums=True), x)


# ---- special values ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_are_on_or_off_as_the_contract_says(dtype: str) -> None:
    tiny = {"float64": 5e-324, "float32": 1e-45, "bfloat16": 1e-40, "float16": 6e-8}[dtype]
    on = [tiny, 1.0, np.inf]
    off = [0.0, -0.0, -tiny, -1.0, -np.inf, np.nan, -np.nan]
    x, values = typed(np.array([on + off]), dtype)
    assert values[0, 0] > 0
    got = complexity(x, layout="rows")
    assert got.shares[1].tolist() == [1.0] * 3 + [0.0] * 7
    assert (got.zeros, got.nans) == (2, 2)
    assert "nan" in got.flags
    assert got.observations == 1


def test_denormals_are_on_when_the_processor_flushes_them() -> None:
    torch = pytest.importorskip("torch")
    x = np.full((64, 5), 1e-40, np.float32)
    assert torch.set_flush_denormal(True)
    try:
        got = complexity(x, threads=1)
    finally:
        torch.set_flush_denormal(False)
    assert (got.shares[1] == 1).all()
    assert got.zeros == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [0.1, -0.1, 1e-320, -1e-320, 1e300, -1e300, 65504.0, -65505.0])
def test_a_threshold_between_two_numbers_of_the_format_parts_them(dtype: str, threshold: float) -> None:
    a = np.array([[threshold, threshold * 1.01, threshold * 0.99, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40]])
    with np.errstate(over="ignore"):
        x, values = typed(a, dtype)
    got = complexity(x, rule="threshold", threshold=threshold, layout="rows")
    assert np.array_equal(got.shares[1] == 1, values[0] > threshold)


def test_a_window_takes_the_first_of_equal_numbers_and_a_nan_only_for_want_of_one() -> None:
    windows = [
        ([1, 1, 1, 1], 0), ([0, -0.0, 0, -1], 0), ([-0.0, 0, 0, 0], 0), ([-1, 2, np.nan, 2], 1),
        ([np.nan, -np.inf, 0, 0], 2), ([np.nan, -np.inf, np.nan, -np.inf], 1), ([np.nan] * 4, 0),
    ]  # fmt: skip
    x = np.array([values for values, _ in windows]).reshape(-1, 1, 2, 2)
    for n, (values, place) in enumerate(windows):
        got = complexity(x[n : n + 1], rule="maxpool", kernel_size=2)
        assert got.shares[:, 0].tolist() == np.eye(4)[place].tolist(), values
        assert got.nans == int(np.isnan(values).any())


# ---- known answers ----


def test_a_fair_coin_is_one_bit_and_a_unit_that_never_switches_none() -> None:
    x = np.array([[1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]])
    got = complexity(x, layout="rows")
    assert got.channel_bits.tolist() == [1.0, 0.0, 0.0]
    assert (got.mean_channel, got.total_channel) == (1 / 3, 1.0)
    assert (got.dead, got.linear, got.hamming) == (1 / 3, 1 / 3, 1 / 3)
    assert "always" in got.flags
    # n_eff of rows: N - 1
    assert got.effective_samples[0] == 1.0
    assert np.isnan(got.effective_samples[1:]).all()


def test_one_sample_apart_of_many_is_no_rounding() -> None:
    state = Switching()
    state.add_counts(samples=3 * 10**9 + 7, state=[1])
    assert state.result().hamming == pytest.approx(2 / (3 * 10**9 + 7), rel=1e-15, abs=0)


def test_dead_and_linear_units_are_those_of_the_rule() -> None:
    columns = np.array([[-1.0, 3.0, 9.0, -1.0], [-2.0, 4.0, 7.0, 3.0]])
    expected = {
        "relu": (1 / 4, 2 / 4), "leaky_relu": (None, 3 / 4), "prelu": (None, 3 / 4), "relu6": (1 / 4, 1 / 4),
        "hardtanh": (None, 0.0), "gate_sign": (None, None), "identity": (None, 1.0),
    }  # fmt: skip
    for rule, answer in expected.items():
        got = complexity(columns, layout="rows", rule=rule)
        assert (got.dead, got.linear) == answer, rule
    assert complexity(columns, layout="rows", rule="identity").total_channel == 0


def test_maxpool_of_independent_numbers_comes_near_two_log2_k_bits() -> None:
    x = np.random.default_rng(0).standard_normal((400, 2, 6, 6))
    got = complexity(x, rule="maxpool", kernel_size=3)
    assert np.all(np.abs(got.channel_bits - 2 * math.log2(3)) < 0.02)
    assert (got.channel_bits <= 2 * math.log2(3)).all()


def test_a_position_that_decides_the_state_is_information_about_it() -> None:
    """Half of the positions always on, half always off: a bit by the channel, none by the position."""
    x = np.ones((5, 3, 4))
    x[:, :, :2] = -1
    got = complexity(x)
    assert got.channel_bits.tolist() == [1.0] * 3
    assert got.mean_position == 0.0
    assert got.position_information is not None
    assert got.position_information.tolist() == [1.0] * 3
    assert np.isinf(got.effective_samples).all()


def test_miller_madow_takes_most_of_the_plug_ins_bias() -> None:
    """Fair coins, 20 throws: plug-in is short of one bit by about 1 / (2 N ln 2) = 0.036."""
    got = complexity(np.random.default_rng(0).standard_normal((20, 4000)), layout="rows")
    assert 0.030 < 1 - got.mean_channel < 0.042
    assert 1 - got.mean_channel_miller_madow < (1 - got.mean_channel) / 1.8  # the clip at one bit leaves some


def test_correlated_positions_are_fewer_effective_samples() -> None:
    """Every position of a sample the same: as many as there are samples; independent: positions as many again."""
    g = np.random.default_rng(0)
    same_sign = np.repeat(g.standard_normal((400, 1, 1)), 25, axis=2)
    assert complexity(same_sign).effective_samples[0] == pytest.approx(399)
    assert complexity(g.standard_normal((400, 1, 25))).effective_samples[0] == pytest.approx(400 * 25, rel=0.3)


# ---- laws ----


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Numbers, labels, and where they are cut."""
    n, units = draw(st.integers(2, 9)), draw(st.integers(1, 5))
    places = tuple(draw(st.lists(st.integers(1, 4), max_size=2)))
    a = numbers((n, units, *places), draw(st.integers(0, 1000)))
    cuts = draw(st.lists(st.integers(1, n - 1), max_size=3, unique=True))
    return a, np.arange(n) % 3, sorted(cuts)


OPTIONS = st.sampled_from([
    {"rule": "relu"}, {"rule": "relu6"}, {"rule": "relu", "patterns": True}, {"rule": "relu", "positions": False},
    {"rule": "relu", "classes": 3}, {"rule": "threshold", "threshold": (-1.0, 0.0, 0.5), "classes": 3},
])  # fmt: skip


@LAWS
@given(batches(), OPTIONS, st.randoms(use_true_random=False))
def test_any_split_merges_to_the_whole_in_any_order(drawn: Any, options: dict[str, Any], order: Any) -> None:
    a, labels, cuts = drawn
    of = labels if "classes" in options else None
    whole = fed(a, labels=of, **options)
    parts = []
    for x, y in zip(np.split(a, cuts), np.split(labels, cuts), strict=True):
        parts.append(fed(x, labels=y if of is not None else None, **options))
    parts.append(Switching(**options))
    order.shuffle(parts)
    total = Switching(**options)
    for part in parts:
        total = total + part
    same(total.result(), whole.result())
    if not options.get("patterns"):
        assert bits(total) == bits(whole)


@LAWS
@given(batches(), st.sampled_from([0.0, 1e3, -1e6]))
def test_sums_merge_to_those_of_the_whole_within_rounding(drawn: Any, shift: float) -> None:
    a, _, cuts = drawn
    a = a + shift
    parts = [fed(x, sums=True) for x in np.split(a, cuts)]
    left = parts[0]
    for part in parts[1:]:
        left = left + part
    right = parts[-1]
    for part in parts[-2::-1]:
        right = part + right
    for total in (left, right, left + Switching(sums=True), Switching(sums=True) + left):
        assert_sums(total.result(), a)
        same_counts(total.result(), complexity(a))
        assert np.array_equal(total.counts()["finite"], left.counts()["finite"])


@LAWS
@given(batches())
def test_merge_is_associative_and_commutative_and_the_empty_state_its_one(drawn: Any) -> None:
    a, _, _ = drawn
    x, y, z = fed(a), fed(a[::-1] * 2 + 0.3), fed(a[:1])
    assert bits((x + y) + z) == bits(x + (y + z)) == bits(z + (y + x))
    assert bits(x + Switching()) == bits(Switching() + x) == bits(x)


@LAWS
@given(batches(), st.sampled_from(["relu", "relu6", "hardtanh"]), st.integers(2, 3))
def test_data_twice_is_the_same_complexity(drawn: Any, rule: str, times: int) -> None:
    a, _, _ = drawn
    once, again = complexity(a, rule=rule), complexity(np.concatenate([a] * times), rule=rule)
    assert np.array_equal(once.shares, again.shares)
    assert np.array_equal(once.channel_bits, again.channel_bits)
    assert once.position_bits is not None
    assert again.position_bits is not None
    assert np.array_equal(once.position_bits, again.position_bits)


@LAWS
@given(batches(), st.floats(2**-20, 2**20))
def test_scaling_changes_nothing(drawn: Any, scale: float) -> None:
    a, _, _ = drawn
    a = np.where(np.abs(a) < 1e-300, 0.0, a)  # a denormal times a small number is zero
    assert bits(fed(a * scale)) == bits(fed(a))


@LAWS
@given(batches())
def test_a_flip_of_sign_without_zeros_changes_no_entropy(drawn: Any) -> None:
    a, _, _ = drawn
    a = np.where((a == 0) | np.isnan(a), 0.5, a)
    one, other = complexity(a), complexity(-a)
    assert np.allclose(one.channel_bits, other.channel_bits, rtol=0, atol=CLOSE)
    assert np.allclose(one.shares, other.shares[::-1], rtol=0, atol=CLOSE)
    assert one.hamming is not None
    assert other.hamming is not None
    assert math.isclose(one.hamming, other.hamming, abs_tol=CLOSE)


@LAWS
@given(batches(), st.sampled_from(["relu", "relu6"]))
def test_channel_minus_position_is_information_about_the_position(drawn: Any, rule: str) -> None:
    """C_channel - mean C_position = I(state; position) >= 0, the position uniform."""
    a, _, _ = drawn
    got = complexity(a, rule=rule)
    thresholds = {"relu": (0.0,), "relu6": (0.0, 6.0)}[rule]
    z = reference.states(a, thresholds).reshape(len(a), a.shape[1], -1)
    place = np.broadcast_to(np.arange(z.shape[2]), (len(z), z.shape[2])).reshape(-1)
    each = [
        reference.label_information(z[:, c].reshape(-1, 1), place, len(thresholds) + 1)[0] for c in range(z.shape[1])
    ]
    assert got.mean_position is not None
    assert math.isclose(got.mean_channel - got.mean_position, float(np.mean(each)), abs_tol=1e-11)
    assert got.mean_channel - got.mean_position >= -CLOSE


# ---- threads ----


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_threads_change_no_bit(dtype: str) -> None:
    options: list[dict[str, Any]] = [
        {"rule": "relu", "patterns": True, "classes": 3},
        {"rule": "relu6"},
        {"rule": "maxpool", "kernel_size": 2},
    ]
    for shape in ((300, 2, 10, 20), (40, 70, 8, 9), (9, 1, 100, 120), (1500, 100), (30, 3000)):
        x = numbers(shape).astype(dtype)
        labels = np.arange(len(x)) % 3
        for option in options:
            if len(shape) == 2 and "kernel_size" in option:
                continue
            for x_given in (x, channels_last(x)):
                of = labels if "classes" in option else None
                expected = bits(fed(x_given, threads=1, labels=of, **option))
                for threads in (2, 3, 7):
                    assert bits(fed(x_given, threads=threads, labels=of, **option)) == expected


def test_many_samples_do_not_overflow_narrow_counters() -> None:
    """More than 2^16 float16 samples of one unit that is always on, and of positions."""
    rows = np.ones((70_000, 3), np.float16)
    assert (complexity(rows).shares[1] == 1).all()
    maps = np.ones((70_000, 2, 3), np.float16)
    for x_given in (maps, channels_last(maps)):
        got = complexity(x_given)
        assert (got.shares[1] == 1).all()
        assert got.mean_position == 0
    one = np.ones((1, 1, 300, 300), np.float16)
    assert (complexity(one).shares[1] == 1).all()
    assert (complexity(np.ones((1, 2, 300, 300), np.float16).swapaxes(1, 3)).shares[1] == 1).all()


# ---- states ----


def test_positions_stop_and_channels_go_on_when_the_shape_varies() -> None:
    a, b = numbers((3, 4, 5, 6)), numbers((2, 4, 6, 5))
    state = fed(a, b)
    got = state.result()
    assert "shape_varies" in got.flags
    assert (got.position_bits, got.mean_position, got.hamming, got.positions) == (None, None, None, None)
    together = np.concatenate([np.moveaxis(x, 1, -1).reshape(-1, 4) for x in (a, b)])
    assert np.array_equal(got.channel_bits, complexity(together, layout="rows").channel_bits)
    assert np.isnan(got.effective_samples).all()
    # batches and merges alike, and for good
    assert bits(fed(a) + fed(b)) == bits(fed(b) + fed(a)) == bits(state)
    assert bits(fed(a, b, a)) == bits(fed(a, a) + fed(b))


def test_positions_may_be_forgotten_before_they_vary() -> None:
    a, b = numbers((3, 4, 5, 6)), numbers((2, 4, 6, 5))
    for options in ({}, {"rule": "maxpool", "kernel_size": 2}, {"patterns": True}):
        first, second = fed(a, **options), Switching(**options)
        assert (first.keeps_positions((5, 6)), first.keeps_positions((6, 5))) == (True, False)
        assert second.keeps_positions((6, 5))
        second.forget_positions()
        assert not second.keeps_positions((6, 5))
        with pytest.raises(ShapeError):
            second.update(np.ones((0, 4, 6, 5)))
        second = pickle.loads(pickle.dumps(second.copy()))
        second.update(b)
        assert "shape_varies" in second.result().flags
        assert second.nbytes < fed(b, **options).nbytes / 2
        merged, empty = fed(b, **options), Switching(**options)
        empty.forget_positions()
        empty.merge(merged)
        assert bits(empty) == bits(second)
        assert bits(first + second) == bits(second + first) == bits(fed(a, b, **options))
        second.clear()
        second.update(b)
        assert bits(second) == bits(fed(b, **options))


def test_positions_are_left_out_where_they_are_not_asked_for() -> None:
    a = numbers((6, 4, 5))
    got = complexity(a, positions=False)
    assert "no_positions" in got.flags
    assert (got.position_bits, got.hamming, got.dead_position) == (None, None, None)
    assert np.array_equal(got.channel_bits, complexity(a).channel_bits)
    assert np.array_equal(got.effective_samples, complexity(a).effective_samples, equal_nan=True)


def test_single_sample_is_flagged() -> None:
    assert "single_sample" in complexity(np.ones((1, 3, 4))).flags


OPTION_LISTS: list[dict[str, Any]] = [
    {}, {"rule": "relu6", "positions": False}, {"patterns": True}, {"rule": "maxpool", "kernel_size": 2, "stride": 1},
    {"rule": "maxpool", "kernel_size": 1, "stride": 2}, {"sums": True},
    {"rule": "relu6", "sums": True, "positions": False},
    {"rule": "threshold", "threshold": (-1.0, 0.5), "layout": "channels_last"},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTION_LISTS)
def test_copies_pickles_and_files_go_on_alike(options: dict[str, Any], tmp_path: Path) -> None:
    a, b = numbers((3, 4, 5, 6)), numbers((2, 4, 5, 6), 1)
    state = fed(a, **options)
    state.save(tmp_path / "state")
    remade = Switching.from_tensors(json.loads(json.dumps(state.config())), state.tensors())
    others = [copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state)), remade]
    others.append(Switching.load(tmp_path / "state"))
    expected = bits(fed(a, b, **options))
    for other in others:
        other.update(b)
        assert bits(other) == expected
        assert other.config() == state.config()
    assert bits(state) == bits(fed(a, **options))


def test_an_empty_state_is_saved_and_loaded(tmp_path: Path) -> None:
    Switching(rule="relu6").save(tmp_path / "state")
    state = Switching.load(tmp_path / "state")
    assert (state.rule, state.samples, state.units) == ("relu6", 0, 0)
    state.update(numbers((2, 3)))
    assert bits(pickle.loads(pickle.dumps(Switching())) + fed(numbers((2, 3)))) == bits(fed(numbers((2, 3))))


def test_tensors_that_do_not_fit_together_are_refused() -> None:
    state = fed(numbers((3, 4, 5)))
    config, tensors = state.config(), state.tensors()
    more = np.full_like(tensors["state"], 16)
    wrong: list[dict[str, Any]] = [
        {"state": tensors["state"][:, :2]}, {"state": more}, {"state": -more}, {"shape": np.array([6])},
        {"position": tensors["position"][:, :3]}, {"counts": np.array([3, 14, 4, 0])}, {"zero": np.zeros(3, np.int64)},
        {"patterns": np.zeros((3, 1), np.int64)}, {"counts": np.array([3])}, {"shape": np.array([2**40, 2**40])},
        {"counts": np.array([3, 15, 2**60, 0])}, {"position": 4 * np.ones_like(tensors["position"])},
        {"square": 5 * tensors["state"] + 1},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(StateError, match=r"the tensors do not make a state"):
            Switching.from_tensors(config, {**tensors, **change})
    for change in ({"rule": "relu7"}, {"rule": "maxpool"}, {"layout": "lines"}, {"thresholds": [1.0, 0.0]}):
        with pytest.raises(StateError):
            Switching.from_tensors({**config, **change}, tensors)
    with pytest.raises(StateError):
        Switching.from_tensors({}, tensors)
    labelled = fed(numbers((3, 4, 5)), labels=[0, 1, 1], classes=2)
    with pytest.raises(StateError):
        Switching.from_tensors(labelled.config(), {**labelled.tensors(), "class_observations": np.array([5, 11])})
    summed = fed(numbers((3, 4, 5)), sums=True)
    config, tensors = summed.config(), summed.tensors()
    for change in (
        {"finite": np.full(4, 16)}, {"scatter": -np.ones(4)}, {"mean": np.zeros(3)}, {"finite": np.zeros(3, np.int64)},
    ):  # fmt: skip
        with pytest.raises(StateError):
            Switching.from_tensors(config, {**tensors, **change})


def test_merged_counts_that_would_pass_64_bits_are_refused() -> None:
    state = Switching(positions=False)
    state.add_counts(samples=2**22, state=[2**42], square=[2**62], shape=(1024, 1024))
    before = bits(state)
    with pytest.raises(LimitExceeded, match="64 bits"):
        state.merge(state)
    assert bits(state) == before


def test_clear_forgets_all_and_keeps_the_memory() -> None:
    state = fed(numbers((3, 4, 5, 6)))
    held = state.nbytes
    state.clear()
    assert (state.samples, state.units, state.nbytes) == (0, 0, held)
    state.update(numbers((2, 3)))
    assert bits(state) == bits(fed(numbers((2, 3))))


def test_the_footprint_is_what_a_state_holds() -> None:
    cases: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((3, 4, 5, 6), {}), ((3, 4, 5, 6), {"rule": "relu6"}), ((3, 4, 5, 6), {"positions": False}),
        ((3, 4, 5, 6), {"layout": "channels_last"}), ((3, 4, 5, 6), {"rule": "maxpool", "kernel_size": 2}),
        ((30, 40), {"layout": "rows"}), ((3, 4, 5, 6), {"sums": True}),
    ]  # fmt: skip
    for shape, options in cases:
        held = fed(numbers(shape), **options).nbytes
        assert held <= footprint(shape, **options) <= held + 8 * 40 * 8, (shape, options)


def test_counts_made_elsewhere_are_those_of_an_update() -> None:
    for shape in ((5, 4), (5, 4, 3, 2), (1, 4, 3)):
        a = numbers(shape)
        axes = tuple(range(2, len(shape)))
        for rule, thresholds in (("relu", (0.0,)), ("relu6", (0.0, 6.0))):
            z = reference.states(a, thresholds)
            on = np.array([(z == k) for k in range(1, len(thresholds) + 1)])
            given = {
                "samples": len(a), "state": on.sum(axis=1), "zero": (a == 0).sum(axis=(0, *axes)),
                "nan": np.isnan(a).sum(axis=(0, *axes)),
                "square": (on.sum(axis=tuple(x + 1 for x in axes)) ** 2).sum(axis=1),
            }  # fmt: skip
            if rule == "relu":
                given |= {"state": given["state"][0], "square": given["square"][0]}
            state = Switching(rule=rule)
            state.add_counts(**given)
            assert bits(state) == bits(fed(a, rule=rule))
            state.add_counts(**given)
            assert bits(state) == bits(fed(a, a, rule=rule))
            varied = Switching(rule=rule)
            varied.forget_positions()
            varied.update(a)
            sums = Switching(rule=rule, positions=False)
            total = {**given, "state": given["state"].sum(axis=tuple(x - 1 if rule == "relu" else x for x in axes))}
            sums.add_counts(**total, shape=shape[2:])
            assert bits(sums) == bits(fed(a, rule=rule, positions=False))
            state.clear()
            state.add_counts(**total, observations=a[:, 0].size)
            assert bits(state) == bits(varied)


def test_sums_made_elsewhere_are_those_of_an_update() -> None:
    a = numbers((5, 4))
    a[0] = 1.0
    made = fed(a, sums=True)
    counts = made.counts()
    state = Switching(sums=True)
    given = {"samples": 5, "state": counts["state"][0], **{name: counts[name] for name in ("zero", "nan")}}
    state.add_counts(**given, **{name: counts[name] for name in ("finite", "mean", "scatter")})
    assert bits(state) == bits(made)
    with pytest.raises(DomainError, match=r"sums=True"):
        state.add_counts(**given)
    assert bits(state) == bits(made)


def test_counts_of_classes_made_elsewhere_are_those_of_an_update() -> None:
    a, labels = numbers((6, 4, 3)), np.array([0, 1, 1, 0, 2, 1])
    on = a > 0
    state = Switching(classes=3)
    state.add_counts(
        samples=6, state=on.sum(axis=0), square=(on.sum(axis=2) ** 2).sum(axis=0), zero=(a == 0).sum(axis=(0, 2)),
        nan=np.isnan(a).sum(axis=(0, 2)), class_state=np.array([on[labels == y].sum(axis=(0, 2)) for y in range(3)]),
        class_samples=np.bincount(labels),
    )  # fmt: skip
    assert bits(state) == bits(fed(a, labels=labels, classes=3))


# ---- errors ----

MISUSES: list[tuple[type[Exception], str, Any]] = [
    (DomainError, "got rule 'softsign', expected one of relu", lambda: Switching(rule="softsign")),
    (DomainError, "without a threshold", lambda: Switching(rule="threshold")),
    (DomainError, "got 2 thresholds for rule 'relu', expected 1", lambda: Switching(threshold=(0.0, 1.0))),
    (DomainError, "that ascend", lambda: Switching(rule="hardtanh", threshold=(1.0, -1.0))),
    (DomainError, "expected finite numbers", lambda: Switching(threshold=math.nan)),
    (DomainError, "kernel_size=None with rule 'maxpool'", lambda: Switching(rule="maxpool")),
    (DomainError, "kernel_size=2 with rule 'relu'", lambda: Switching(kernel_size=2)),
    (DomainError, "at most half the kernel", lambda: Switching(rule="maxpool", kernel_size=2, padding=2)),
    (DomainError, "expected at most 4096", lambda: Switching(rule="maxpool", kernel_size=(2**33, 2**33), stride=1)),
    (DomainError, "dilation 4611686018427387904", lambda: Switching(rule="maxpool", kernel_size=5, dilation=2**62)),
    (DomainError, "one for each axis", lambda: Switching(rule="maxpool", kernel_size=2, stride=(1, 2, 3))),
    (DomainError, "got patterns of 3 states, expected 2", lambda: Switching(rule="relu6", patterns=True)),
    (DomainError, "got threshold='high', expected numbers", lambda: Switching(threshold="high")),  # type: ignore[arg-type]
    (DomainError, "kernel_size=2.5, expected an integer", lambda: Switching(rule="maxpool", kernel_size=2.5)),  # type: ignore[arg-type]
    (DomainError, "padding=None, expected", lambda: Switching(rule="maxpool", kernel_size=2, padding=None)),  # type: ignore[arg-type]
    (DomainError, "classes=0", lambda: Switching(classes=0)),
    (LayoutError, "got layout 'lines'", lambda: Switching(layout="lines")),
    (LayoutError, "expected (n, channels, ...)", lambda: Switching().update(np.ones(3))),
    (ShapeError, "Switching.update: got 0 samples", lambda: Switching().update(np.ones((0, 3)))),
    (ShapeError, "got 2 samples of 0 units", lambda: Switching().update(np.ones((2, 0)))),
    (ShapeError, "and 0 positions", lambda: Switching().update(np.ones((2, 3, 0)))),
    (ShapeError, "got 4 units, expected 3", lambda: fed(np.ones((2, 3)), np.ones((2, 4)))),
    (ShapeError, "got 3 units, expected 4", lambda: fed(np.ones((2, 4))).merge(fed(np.ones((2, 3))))),
    (ShapeError, "2, those of the window", lambda: fed(np.ones((2, 3, 4)), rule="maxpool", kernel_size=2)),
    (ShapeError, "that a window of 5 fits into", lambda: fed(np.ones((2, 3, 4, 4)), rule="maxpool", kernel_size=5)),
    (DTypeError, "got dtype int64", lambda: Switching().update(np.ones((2, 3), int))),
    (DomainError, "got no labels with 2 classes", lambda: fed(np.ones((2, 3)), classes=2)),
    (DomainError, "got labels with 0 classes", lambda: fed(np.ones((2, 3)), labels=[0, 1])),
    (DomainError, "got label 2, expected 0 to 1", lambda: fed(np.ones((2, 3)), labels=[0, 2], classes=2)),
    (ShapeError, "got 3 labels, expected 2", lambda: fed(np.ones((2, 3)), labels=[0, 1, 1], classes=2)),
    (DTypeError, "labels of dtype float64", lambda: fed(np.ones((2, 3)), labels=[0.0, 1.0], classes=2)),
    (DomainError, "(of tanh or sigmoid: 'threshold'", lambda: Switching(rule="tanh")),
    (DomainError, "another rule", lambda: Switching(threshold=1.0).merge(Switching())),
    (DomainError, "got rule 'relu', expected 'prelu'", lambda: Switching(rule="prelu").merge(Switching())),
    (DomainError, "got positions=0", lambda: Switching().merge(Switching(positions=False))),
    (TypeError, "got int, expected Switching", lambda: Switching().merge(3)),  # type: ignore[arg-type]
    (TooFewRows, "got no samples", lambda: Switching().result()),
    (LimitExceeded, "expected at most 1e-07 GB (memory)", lambda: fed(np.ones((2, 3, 9, 9)), memory=100)),
    (ShapeError, "expected samples of units", lambda: footprint((3,))),
    (DomainError, "got no square", lambda: Switching().add_counts(samples=2, state=np.ones((3, 4), int))),
    (ShapeError, "expected (1, units, ...)", lambda: Switching().add_counts(samples=2, state=3)),
    (ShapeError, "expected counts of each", lambda: Switching().add_counts(samples=1, state=[3, 4], shape=(5,))),
    (DTypeError, "state of dtype float64", lambda: Switching().add_counts(samples=2, state=np.ones(3))),
    (DomainError, "got no square", lambda: Switching().add_counts(samples=2, state=[3, 4], observations=9)),
    (DomainError, "expected sums alone", lambda: Switching().add_counts(samples=1, state=[[3]], observations=9)),
    (DomainError, "larger than", lambda: Switching().add_counts(samples=2, state=[3, 4])),
    (DomainError, "got sums with a window", lambda: Switching(rule="maxpool", kernel_size=2, sums=True)),
    (DomainError, "expected Switching(sums=True)", lambda: Switching().update(np.ones((2, 3)), pooled=True)),
    (DomainError, "sums=1, expected", lambda: Switching().merge(Switching(sums=True))),
    (DomainError, "of finite, mean and scatter", lambda: Switching().add_counts(samples=1, state=[1], mean=[0.0])),
    (DomainError, "with patterns", lambda: Switching(patterns=True).add_counts(samples=2, state=[1, 1])),
]  # fmt: skip


@pytest.mark.parametrize(("error", "text", "misuse"), MISUSES, ids=[text for _, text, _ in MISUSES])
def test_a_misuse_says_what_was_got_and_what_expected(error: type[Exception], text: str, misuse: Any) -> None:
    import re

    with pytest.raises(error, match=re.escape(text)):
        misuse()


def test_a_state_is_unchanged_by_an_update_that_raises() -> None:
    state = fed(numbers((3, 4, 5)), labels=[0, 1, 1], classes=2)
    before = bits(state)
    for a, labels in ((np.ones((3, 5, 5)), [0, 1, 1]), (np.ones((3, 4, 5)), [0, 1, 2]), (np.ones((3, 4, 5)), None)):
        with pytest.raises(na.NetassayError):
            state.update(a, labels)
        assert bits(state) == before
    kept = Switching(memory=400, patterns=True)
    kept.update(numbers((3, 4, 5)))
    held = bits(kept)
    with pytest.raises(LimitExceeded):
        kept.update(np.concatenate([numbers((3, 4, 5))] * 9))
    assert bits(kept) == held
    empty = Switching(memory=10)
    with pytest.raises(LimitExceeded):
        empty.update(numbers((3, 4, 5)))
    assert (empty.samples, empty.units) == (0, 0)


def test_results_are_frozen_and_their_arrays_read_only() -> None:
    got = complexity(numbers((3, 4, 5)), sums=True)
    with pytest.raises(AttributeError):
        got.mean_channel = 0.0  # type: ignore[misc]
    arrays = [value for name in Complexity.__slots__ if isinstance(value := getattr(got, name), np.ndarray)]
    assert len(arrays) == 8
    assert not any(array.flags.writeable for array in arrays)
