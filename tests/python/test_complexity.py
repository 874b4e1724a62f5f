"""How often units switch: parity with the reference, special values, known answers, laws, threads, files, errors.

Counts are exact, so they are compared with ==. Entropies of shares that differ by rounding alone: a few units in the
last place of log2 K, 1e-12.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netassay.complexity import Switching, complexity
from python.devices import on
from python.switching import (
    CLOSE,
    DTYPES,
    LAWS,
    RULES,
    SIGNS,
    SIZES,
    assert_counts,
    assert_sums,
    batches,
    bits,
    channels_last,
    fed,
    memories,
    numbers,
    same,
    same_counts,
    typed,
)
from reference import complexity as reference

pytestmark = pytest.mark.native

# ---- parity ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rule", "thresholds", "options"), RULES)
def test_every_rule_is_the_references_in_every_format(
    device: str, rule: str, thresholds: tuple[float, ...], options: dict[str, Any], dtype: str
) -> None:
    for shape in ((5, 3), (1, 4), (4, 3, 5), (3, 2, 4, 7), (2, 3, 2, 3, 3)):
        x, values = typed(numbers(shape), dtype)
        got = complexity(on(device, x), rule=rule, **options)
        assert_counts(got, reference.states(values, thresholds), len(thresholds) + 1)
        assert (got.zeros, got.nans) == ((values == 0).sum(), np.isnan(values).sum())
        assert got.thresholds == thresholds


def test_sign_rules_count_alike() -> None:
    x = numbers((5, 3, 4))
    assert len({bits(fed(x, rule=rule)) for rule in (*SIGNS, "identity")}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_units_positions_and_samples_is_counted_once(device: str, dtype: str) -> None:
    for size in SIZES:
        for shape in ((size, 3), (3, size), (2, 3, size), (2, size, 3), (size, 2, 3), (2, size, size)):
            x, values = typed(numbers(shape, 1), dtype)
            z = reference.states(values, (0.0,))
            for x_given in (x, channels_last(x)):
                got = complexity(on(device, x_given))
                assert np.array_equal(got.shares[1], np.moveaxis(z, 1, 0).reshape(shape[1], -1).mean(axis=1))
                assert (got.zeros, got.nans) == ((values == 0).sum(), np.isnan(values).sum())
                assert got.position_bits is not None
                assert np.allclose(got.position_bits, reference.position(z, 2), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("rule", ["relu", "relu6"])
def test_any_strides_describe_the_same_numbers(device: str, rule: str, dtype: str) -> None:
    for shape in ((6, 9), (3, 17, 5), (4, 5, 6, 7), (2, 70, 3, 40)):
        x = numbers(shape).astype(dtype)
        expected = bits(fed(x, rule=rule))
        for name, x_given in memories(x):
            assert bits(fed(on(device, x_given), rule=rule)) == expected, f"{shape}, {name}"
            if len(shape) > 2:
                last = np.moveaxis(x_given, 1, -1)
                assert bits(fed(on(device, last), rule=rule, layout="channels_last")) == expected, (
                    f"{shape}, {name}, last"
                )


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


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_maxpool_is_the_references(device: str, dtype: str, ceil_mode: bool) -> None:
    x, values = typed(numbers((3, 2, 7, 8)), dtype)
    for kernel, stride, padding, dilation in (
        ((2, 2), (2, 2), (0, 0), (1, 1)),
        ((3, 3), (2, 2), (1, 1), (1, 1)),
        ((3, 2), (1, 3), (1, 0), (2, 1)),
        ((1, 1), (2, 2), (0, 0), (1, 1)),  # one place, as feature pyramids end
    ):
        window = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        got = complexity(on(device, x), rule="maxpool", ceil_mode=ceil_mode, **window)
        place, nan = reference.argmax(values, kernel, stride, padding, dilation, ceil_mode)
        assert_counts(got, place, math.prod(kernel))
        assert got.nans == nan.sum()


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_maxpool_of_any_number_of_units_is_the_references_in_any_memory(device: str, dtype: str) -> None:
    """Also of more windows than counters stay near at a time."""
    for shape, kernel in (((2, 1, 5, 5), 3), ((2, 33, 4, 4), 2), ((1, 64, 14, 14), 3), ((2, 70, 3, 3), 2)):
        x = numbers(shape).astype(dtype)
        place, nan = reference.argmax(x, (kernel, kernel), (1, 1), (1, 1), (1, 1), False)
        for x_given in (x, channels_last(x), x[:, ::-1].copy()[:, ::-1]):
            state = fed(on(device, x_given), rule="maxpool", kernel_size=kernel, stride=1, padding=1)
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


def test_labels_and_units_share_the_references_information(device: str) -> None:
    g = np.random.default_rng(5)
    for shape in ((40, 6), (40, 3, 4)):
        labels = g.integers(0, 3, len(numbers(shape)))
        x = numbers(shape) + labels.reshape(-1, *[1] * (len(shape) - 1))
        for rule, thresholds in (("relu", (0.0,)), ("relu6", (0.0, 6.0))):
            for x_given in (x, channels_last(x)):
                got = complexity(on(device, x_given), labels, rule=rule, classes=4)
                z = reference.states(x, thresholds)
                expected = reference.label_information(z, labels, len(thresholds) + 1)
                assert got.label_information is not None
                assert np.allclose(got.label_information, expected, rtol=0, atol=CLOSE)
    torch = pytest.importorskip("torch")
    assert bits(fed(x, labels=torch.from_numpy(labels), classes=4)) == bits(fed(x, labels=labels, classes=4))


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


@pytest.mark.parametrize("rule", ["relu", "relu6"])
def test_units_of_a_channel_that_held_a_nan_are_not_dead_whatever_their_bits(rule: str) -> None:
    nan = np.nan
    x = np.array(
        [[[-1.0, -1.0], [nan, nan], [nan, -1.0], [0.5, 0.5]], [[-1.0, -1.0], [nan, nan], [-1.0, -1.0], [0.5, 0.5]]]
    )
    got = complexity(x, rule=rule)
    assert (got.nans, got.channel_bits.tolist()) == (5, [0.0] * 4)
    assert (got.dead, got.dead_position) == (1 / 4, 1 / 4)
    assert (got.linear, got.linear_position) == (1 / 4, 1 / 4)


def test_units_of_a_channel_that_held_a_nan_are_not_linear() -> None:
    got = complexity(np.array([[-1.0, np.nan, 1.0]]), rule="leaky_relu", layout="rows")
    assert got.linear == 2 / 3


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
    chances = [math.comb(20, on) / 2**20 for on in range(21)]
    bits = [-sum(p * math.log2(p) for p in (on / 20, 1 - on / 20) if p > 0) for on in range(21)]
    expected = sum(
        p * (b + (0 < on < 20) / (40 * math.log(2))) for on, (p, b) in enumerate(zip(chances, bits, strict=True))
    )
    assert abs(1 - expected) < 0.002
    assert got.mean_channel_miller_madow == pytest.approx(expected, abs=0.003)  # sampling: 0.05 / sqrt(4000)
    assert got.channel_miller_madow.max() <= 1


def test_correlated_positions_are_fewer_effective_samples() -> None:
    """Every position of a sample the same: as many as there are samples; independent: positions as many again."""
    g = np.random.default_rng(0)
    same_sign = np.repeat(g.standard_normal((400, 1, 1)), 25, axis=2)
    assert complexity(same_sign).effective_samples[0] == pytest.approx(399)
    assert complexity(g.standard_normal((400, 1, 25))).effective_samples[0] == pytest.approx(400 * 25, rel=0.3)


# ---- laws ----


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
