"""Distribution: parity with the reference, known answers, laws of its own, errors.

Tolerances: those of the links, with one N 2^-52 more for every merge.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netassay.base.errors import DomainError, DTypeError, NetassayError, StateError, TooFewRows
from netassay.network import Distribution, Values
from netassay.network.links import QUANTILES
from python.devices import on
from python.distributions import EPSILON, near, numbers
from python.full import count
from reference import network as reference

pytestmark = pytest.mark.native

DTYPES = ["float64", "float32", "float16"]  # bfloat16 comes from torch


def of(*parts: Any, threads: int | None = None) -> Distribution:
    state = Distribution()
    for part in parts:
        state.update(part, threads=threads)
    return state


def bits(state: Distribution) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state.tensors().items()}


def make(kind: str, n: int, seed: int = 0) -> np.ndarray:
    g = np.random.default_rng(seed)
    return {
        "normal": lambda: g.standard_normal(n),
        "lognormal": lambda: g.lognormal(0, 2, n),
        "Cauchy": lambda: np.clip(g.standard_cauchy(n), -6e4, 6e4),
        "constant": lambda: np.full(n, -0.3),
        "zero": lambda: np.zeros(n),
        "relu": lambda: np.maximum(g.standard_normal(n), 0),
    }[kind]()


KINDS = ["normal", "lognormal", "Cauchy", "constant", "zero", "relu"]


def assert_moments(got: Values, x: np.ndarray, sums: int = 1) -> None:
    y = x.astype(np.float64)
    each, spread = 100 * sums * y.size * EPSILON, np.abs(y - y.mean())
    deviation = y.std() if y.min() < y.max() else 1.0
    third, fourth = (spread**3).mean() / deviation**3, (spread**4).mean() / deviation**4
    most = sums * y.size * EPSILON * np.abs(y).mean(), each * y.var(), 2 * each * third, 3 * each * fourth
    found = got.mean, got.variance, got.skewness, got.kurtosis
    assert (np.abs(np.subtract(found, reference.moments(y))) <= most).all()


def assert_is(got: Values, x: np.ndarray, exact: bool = False) -> None:
    """x: what is finite of what the state has seen."""
    assert_moments(got, x)
    assert (got.count, got.minimum, got.maximum) == (x.size, float(x.min()), float(x.max()))
    assert (got.zero_share, got.positive_share) == ((x == 0).mean(), (x > 0).mean())
    assert got.density.tolist() == reference.density(x)
    for q, value in zip(QUANTILES, got.quantiles, strict=True):
        expected = reference.quantile(x, q)
        ends = [float(np.quantile(x.astype(np.float64), q, method=end)) for end in ("lower", "higher")]
        assert abs(value - expected) <= (4 * EPSILON if exact else 2.0**-7) * max(map(abs, ends)), q


# ---- parity ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_the_references(device: str, dtype: str, kind: str) -> None:
    for n in (1, 2, 3, 15, 16, 17, 33, 97, 1030):
        x = make(kind, n).astype(dtype)
        assert_is(of(on(device, x)).result(), x)


def test_bfloat16_alone_is_counted_number_by_number_and_beside_other_formats_is_not() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(make("normal", 1500)).bfloat16()
    state, y = of(x[:700], x[700:]), x.double().numpy()
    assert_is(state.result(), y, exact=True)
    wide = torch.full((3,), 1.003)
    assert_is((state + of(wide)).result(), np.concatenate([y, wide.numpy()]))


def test_any_axes_and_strides_describe_the_same_values() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(make("Cauchy", 6 * 5 * 7 * 3).astype(np.float32)).reshape(6, 5, 7, 3)
    a = x.numpy()
    wide = np.zeros((12, 5, 7, 9), np.float32)
    wide[::2, ..., 1::3] = a
    read_only = a.copy()
    read_only.flags.writeable = False
    odd = np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(np.float32)
    same = {
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.permute(3, 1, 0, 2),
        "Fortran": np.asfortranarray(a),
        "backwards": a[::-1, :, ::-1, ::-1].copy()[::-1, :, ::-1, ::-1],
        "strided": wide[::2, ..., 1::3],
        "flat": a.ravel(),
        "ten axes": a.reshape(6, 1, 5, 1, 7, 1, 3, 1, 1, 1),
        "a parameter": torch.nn.Parameter(x.clone()),
        "big-endian": a.astype(">f4"),
        "read-only": read_only,
        "misaligned": odd,
    }
    plain = of(a)
    for name, y in same.items():
        state = of(y)
        assert numbers(state) == numbers(plain), name
        assert_moments(state.result(), a)
    assert bits(of(same["flat"])) == bits(plain)
    assert bits(of(a[::-1, :, ::-1].T)) == bits(plain)  # the same memory
    repeated = of(np.broadcast_to(a[:, None, :1], (6, 4, 1, 7, 3)))
    assert numbers(repeated) == numbers(of(*4 * [a[:, 0]]))
    assert numbers(of(np.float32(2.5))) == numbers(of(np.array([2.5])))


def test_no_values_change_nothing() -> None:
    state, empty = of(make("normal", 50)), np.zeros((3, 0, 5), np.float32)
    before = bits(state)
    state.update(empty)
    assert bits(state) == before
    assert bits(of(empty)) == bits(Distribution())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [3, 1000, 40_000])
def test_nan_and_infinity_are_left_out_and_counted(device: str, dtype: str, n: int) -> None:
    x = make("normal", n).astype(dtype)
    places = np.random.default_rng(1).choice(n, max(1, n // 100), replace=False)
    x[places] = np.resize([np.nan, np.inf, -np.inf], len(places))
    kept = x[np.isfinite(x)]
    for threads in (1, 3):
        state, without = of(on(device, x), threads=threads), of(kept)
        assert state.nonfinite == n - kept.size
        assert state.result().flags == ("nonfinite",)
        tensors = state.tensors()
        tensors["totals"][3] = 0
        assert bits(Distribution.from_tensors({}, tensors)) == bits(without)
    none = of(np.full(5, np.nan, dtype))
    assert (none.count, none.nonfinite) == (0, 5)
    with pytest.raises(TooFewRows, match=r"result: got no finite values \(5 left out\), expected one"):
        none.result()


# ---- known answers ----


def test_four_values() -> None:
    got = of(np.array([0.0, 1.0]), np.array([2.0, 5.0], np.float32)).result(quantiles=(0, 0.5, 1))
    assert (got.count, got.mean, got.variance, got.minimum, got.maximum, got.zero_share) == (4, 2, 3.5, 0, 5, 0.25)
    assert (got.positive_share, got.nonfinite, got.flags) == (0.75, 0, ())
    assert abs(got.skewness - 4.5 / 3.5**1.5) <= 4 * EPSILON
    assert abs(got.kurtosis - (24.5 / 3.5**2 - 3)) <= 4 * EPSILON
    assert got.quantiles[[0, 2]].tolist() == [0, 5]


def test_flags_of_constant_zero_and_single_values() -> None:
    constant = of(np.full(70_000, 0.1), np.full(30, 0.1)).result()
    assert (constant.mean, constant.variance, constant.skewness, constant.kurtosis) == (0.1, 0, 0, 0)
    assert constant.flags == ("constant",)
    assert of(np.array([0.0, -0.0])).result().flags == ("constant", "zero")
    assert of(np.array([-2.0])).result().flags == ("constant", "single")
    for value in (constant.quantiles, constant.density):
        assert not value.flags.writeable


def test_a_mean_far_from_zero_costs_nothing_where_the_naive_formula_fails() -> None:
    x = make("normal", 70_000) + 1e8
    got, y = of(x[:333], x[333:]).result(), x - x.mean()
    y -= y.mean()
    assert abs(got.variance / (y**2).mean() - 1) <= 1e-12
    assert abs(got.kurtosis - ((y**4).mean() / (y**2).mean() ** 2 - 3)) <= 1e-11
    assert abs(((x * x).mean() - x.mean() ** 2) / (y**2).mean() - 1) > 1e-3


@pytest.mark.parametrize("exponent", [-1000, -300, 300, 1000])
def test_shape_does_not_depend_on_scale(exponent: int) -> None:
    x = make("lognormal", 900)
    got, scaled = of(x).result(), of(np.ldexp(x[:400], exponent), np.ldexp(x[400:], exponent)).result()
    assert abs(scaled.skewness / got.skewness - 1) <= 1e-12
    assert abs(scaled.kurtosis / got.kurtosis - 1) <= 1e-12
    assert abs(np.ldexp(scaled.mean, -exponent) / got.mean - 1) <= 1e-13


def test_the_ends_of_every_format_are_counted() -> None:
    for dtype in DTYPES:
        info = np.finfo(dtype)
        ends = np.array([info.max, info.tiny, info.smallest_subnormal, 0, 1], dtype)
        x = np.concatenate([ends, -ends])
        got = of(x).result(quantiles=(0, 0.1, 0.9, 1))
        assert got.density.tolist() == reference.density(x)
        assert (got.zero_share, got.positive_share) == (0.2, 0.4)
        assert got.quantiles[[0, 3]].tolist() == [-info.max, info.max]
        assert abs(got.mean) <= info.max * 2.0**-52
    tiny = of(np.array([1e-39, -1e-42, 0], np.float32), np.array([3e-42, 1e-300]))
    assert tiny.result().density.max() == 5


# ---- laws ----


PARTS = st.lists(st.floats(width=32, allow_subnormal=False), max_size=40).map(lambda x: np.array(x, np.float32))


@settings(max_examples=count(60, 1200), deadline=None)
@given(PARTS, PARTS, PARTS)
def test_merging_obeys_the_laws(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    a, b, c = of(x), of(y), of(z)
    before = bits(a), bits(b)
    near((a + b) + c, a + (b + c))
    near(a + b, b + a)
    near(a + b, of(np.concatenate([x, y])))
    assert bits(a + Distribution()) == bits(a)
    assert bits(Distribution() + a) == bits(a)
    assert (bits(a), bits(b)) == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_a_bit(dtype: str) -> None:
    x = make("Cauchy", 600_001).astype(dtype)
    x = np.stack([x, x])[:, 1:]
    one = bits(of(x, threads=1))
    for threads in (2, 3, 7):
        assert bits(of(x, threads=threads)) == one


def test_batches_change_nothing_but_the_last_bits_of_moments() -> None:
    x = make("lognormal", 100_000).astype(np.float32)
    state, whole = of(*np.array_split(x, 17)), of(x)
    assert numbers(state) == numbers(whole)
    for name in ("mean", "variance", "skewness", "kurtosis"):
        assert abs(getattr(state.result(), name) / getattr(whole.result(), name) - 1) <= 1e-11


# ---- size ----


def test_a_state_is_small() -> None:
    assert of(make("normal", 200_000)).nbytes < 64 * 1024


# ---- errors ----


def test_what_is_refused_changes_nothing() -> None:
    state = of(make("normal", 100))
    before = bits(state)
    with pytest.raises(DTypeError, match=r"^Distribution.update: got dtype int64, expected float64"):
        state.update(np.ones(3, np.int64))
    with pytest.raises(DomainError, match="threads: got 0"):
        state.update(np.ones(3), threads=0)
    with pytest.raises(TypeError, match="merge: got int, expected Distribution"):
        state.merge(3)  # type: ignore[arg-type]
    with pytest.raises(DomainError, match=r"^Distribution.result: got quantile 2.0, expected a share from 0 to 1"):
        state.result((2,))
    with pytest.raises(TypeError):
        state + 3  # type: ignore[operator]
    assert bits(state) == before
    with pytest.raises(TooFewRows, match="got no finite values") as error:
        Distribution().result()
    assert isinstance(error.value, NetassayError)


def test_tensors_that_no_state_has_are_refused(tmp_path: Path) -> None:
    state = of(np.array([1.0, 2.0, -3.0, 0.0]))

    def spoilt(name: str, place: int, value: float) -> dict[str, np.ndarray]:
        tensors = state.tensors()
        tensors[name][place] = value
        return tensors

    wrong = [
        spoilt("totals", 0, 5),
        spoilt("totals", 0, -1),
        spoilt("totals", 1, 5),
        spoilt("totals", 2, 4),
        spoilt("totals", 4, 1 << 40),
        spoilt("moments", 0, np.nan),
        spoilt("moments", 2, -1),
        spoilt("moments", 6, -9),
        spoilt("keys", 0, 5),
        spoilt("keys", 3, 65536),
        spoilt("keys", 1, 0),
        spoilt("counts", 0, 0),
        spoilt("counts", 0, -(1 << 62)),
        {name: array for name, array in state.tensors().items() if name != "keys"},
        state.tensors() | {"counts": np.ones(3, np.int64)},
        state.tensors() | {"totals": np.ones(3, np.int64)},
    ]
    for tensors in wrong:
        with pytest.raises(StateError, match="Distribution: the tensors do not make a state"):
            Distribution.from_tensors({}, tensors)
    state.save(tmp_path / "state")
    raw = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(raw[:-1])
    with pytest.raises(StateError, match="state"):
        Distribution.load(tmp_path / "state")


def test_the_text_tells_what_it_holds() -> None:
    assert repr(of(np.array([1.0, np.inf]))) == "Distribution(count=1, nonfinite=1)"
