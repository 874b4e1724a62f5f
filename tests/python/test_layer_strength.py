"""Strength of the nodes of an affine layer: the dense Jacobian by loops and by torch, known answers, laws, errors.

Tolerance: a strength is a sum of N terms, at most a few thousand here, of weights of order 1: in any order within
N 2^-52 sum |terms| < 1e-12 of the exact sum, relative to the largest strength of |T|.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netassay.base import memory
from netassay.base.arrays import View
from netassay.base.errors import DomainError, DTypeError, LimitExceeded, NonFinite, ShapeError
from netassay.network import LayerStrength, layer_strength, sums
from netassay.network.affine import KINDS, OF
from python.full import count
from python.matrices import DTYPES, typed
from reference import network as reference

TOLERANCE = 1e-12
POWER = {"signed": lambda x: x, "absolute": np.abs, "squared": np.square}
CONVOLUTIONS = [kind for kind in KINDS if kind != "linear"]


@st.composite
def convolutions(draw: Any, kinds: tuple[str, ...] = tuple(CONVOLUTIONS)) -> tuple[str, np.ndarray, dict[str, Any]]:
    """Kind, weight, geometry; an output has a position at least."""
    kind = draw(st.sampled_from(kinds))
    axes, transposed = KINDS[kind], "transpose" in kind
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    kernel, stride, dilation = each(1, 4 if axes < 3 else 2), each(1, 3), each(1, 3)
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(draw(st.integers(1, 4)) + r for r in reach) if not transposed else each(1, 4)
    more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    most = [(n - 1) * s + r for n, s, r in zip(size, stride, reach, strict=True)] if transposed else reach
    padding = tuple(draw(st.integers(0, min(m // 2, 4))) for m in most)
    groups = draw(st.integers(1, 3))
    channels = groups * draw(st.integers(1, 2)), draw(st.integers(1, 2))
    g = np.random.default_rng(draw(st.integers(0, 999)))
    options = {"input_size": size, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if transposed:
        options["output_padding"] = more
    return kind, g.standard_normal((*channels, *kernel)), options


def dense(w: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    names = ("stride", "padding", "dilation", "groups")
    return reference.jacobian(
        w, options["input_size"], *(options[name] for name in names), options.get("output_padding")
    )


def torch_jacobian(torch: Any, kind: str, w: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """The layer of every one-hot input."""
    names = {name: value for name, value in options.items() if name != "input_size"}
    channels = w.shape[0] if "transpose" in kind else w.shape[1] * options.get("groups", 1)
    entering = (channels, *options["input_size"])
    ones = torch.eye(int(np.prod(entering)), dtype=torch.float64).reshape(-1, *entering)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these are small: several threads wait for each other
    try:
        found = getattr(torch.nn.functional, kind)(ones, torch.from_numpy(w), **names).numpy()
    finally:
        torch.set_num_threads(threads)
    return np.moveaxis(found, 0, -1).reshape(*found.shape[1:], *entering)


def assert_rule(got: LayerStrength, t: np.ndarray, bias: np.ndarray | None) -> None:
    """T is (out nodes, in nodes), each of as many axes."""
    half = t.ndim // 2
    power = POWER[got.of]
    into, out = power(t).sum(axis=tuple(range(half, 2 * half))), power(t).sum(axis=tuple(range(half)))
    if bias is not None:
        into = into + power(bias).reshape(-1, *[1] * (half - 1))
    assert got.incoming.shape == t.shape[:half]
    assert got.outgoing.shape == t.shape[half:]
    scale = max(1.0, np.abs(into).max(), np.abs(out).max())
    assert np.abs(got.incoming - into).max() <= TOLERANCE * scale
    assert np.abs(got.outgoing - out).max() <= TOLERANCE * scale
    assert got.flags == ()


# ---- parity ----


@settings(max_examples=count(150, 3000), deadline=None, derandomize=True)
@given(convolutions(), st.sampled_from(sorted(OF)), st.booleans())
def test_strengths_are_sums_of_the_dense_jacobian(
    given_: tuple[str, np.ndarray, dict[str, Any]], of: Any, biased: bool
) -> None:
    kind, w, options = given_
    t = dense(w, options)
    bias = np.random.default_rng(1).standard_normal(t.shape[0]) if biased else None
    assert_rule(layer_strength(w, bias, kind=kind, of=of, **options), t, bias)


@settings(max_examples=count(60, 1200), deadline=None, derandomize=True)
@given(convolutions())
def test_the_jacobian_is_torchs(given_: tuple[str, np.ndarray, dict[str, Any]]) -> None:
    torch = pytest.importorskip("torch")
    kind, w, options = given_
    t = torch_jacobian(torch, kind, w, options)
    assert np.array_equal(t, dense(w, options))
    assert_rule(layer_strength(w, kind=kind, **options), t, None)


@pytest.mark.parametrize("of", sorted(OF))
def test_the_setting_of_the_specification(of: Any) -> None:
    w = np.random.default_rng(0).standard_normal((6, 2, 3, 3))
    options = {"input_size": (8, 9), "stride": (2, 2), "padding": (1, 1), "dilation": (2, 2), "groups": 2}
    assert_rule(layer_strength(w, kind="conv2d", of=of, **options), dense(w, options), None)
    short = {"input_size": (8, 9), "stride": 2, "padding": 1, "dilation": 2, "groups": 2}
    got, expected = (layer_strength(w, kind="conv2d", of=of, **each) for each in (short, options))
    assert (got.incoming == expected.incoming).all()
    assert (got.outgoing == expected.outgoing).all()


@pytest.mark.filterwarnings("ignore:Using padding=:UserWarning")  # of a copy inside torch
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_paddings_are_torchs(padding: str) -> None:
    torch = pytest.importorskip("torch")
    for kernel, dilation in (((3, 3), 1), ((2, 4), (2, 1)), ((4, 1), 3)):
        w = np.random.default_rng(2).standard_normal((2, 3, *kernel))
        options = {"input_size": (10, 7), "padding": padding, "dilation": dilation}
        assert_rule(layer_strength(w, kind="conv2d", **options), torch_jacobian(torch, "conv2d", w, options), None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_format_is_read_as_its_values(dtype: str) -> None:
    x = np.random.default_rng(3).standard_normal((4, 3, 3, 2)) * (40 if dtype.endswith("int8") else 1)
    w, exact = typed(x, dtype)
    if dtype == "int8":  # |-128| is no int8
        w[0, 0, 0, 0] = exact[0, 0, 0, 0] = -128
    options: dict[str, Any] = {
        "input_size": (5, 4),
        "padding": (1, 0),
        "stride": (2, 1),
        "dilation": (1, 1),
        "groups": 1,
    }
    for of in OF:
        t = dense(exact.astype(np.float64), options)
        assert_rule(layer_strength(w, kind="conv2d", of=of, **options), t, None)
        flat = View(w.array.reshape(12, 6), dtype) if isinstance(w, View) else w.reshape(12, 6)
        assert_rule(layer_strength(flat, of=of), exact.astype(np.float64).reshape(12, 6), None)


def test_any_strides_describe_the_same_kernel() -> None:
    w = np.random.default_rng(4).standard_normal((4, 3, 3, 2))
    turned = np.asfortranarray(w)[::-1, :, ::-1]
    options: dict[str, Any] = {"kind": "conv2d", "input_size": (5, 4), "padding": 1}
    got, expected = layer_strength(turned, **options), layer_strength(turned.copy(), **options)
    assert np.abs(got.incoming - expected.incoming).max() <= TOLERANCE * 10
    assert np.abs(got.outgoing - expected.outgoing).max() <= TOLERANCE * 10


# ---- known answers ----


def test_a_dense_layers_strengths_are_its_sums() -> None:
    w = np.random.default_rng(5).standard_normal((300, 17)).astype(np.float32)
    found = sums(w)
    for of, what in (("signed", "sum"), ("absolute", "absolute"), ("squared", "square")):
        got = layer_strength(w, of=of)  # type: ignore[arg-type]
        assert (got.incoming == getattr(found, f"row_{what}")).all()
        assert (got.outgoing == getattr(found, f"column_{what}")).all()


def test_border_pixels_belong_to_fewer_windows() -> None:
    got = layer_strength(np.ones((1, 1, 3, 3)), kind="conv2d", input_size=4, padding=1)
    nine = np.outer([2, 3, 3, 2], [2, 3, 3, 2])
    assert (got.incoming == nine).all()
    assert (got.outgoing == nine).all()


def test_inputs_that_a_stride_passes_over_have_no_links() -> None:
    got = layer_strength(np.full((1, 1, 1), 2.0), kind="conv1d", input_size=5, stride=2)
    assert got.outgoing.tolist() == [[2, 0, 2, 0, 2]]
    assert got.incoming.tolist() == [[2, 2, 2]]


def test_a_bias_counts_once_at_every_output_and_never_at_inputs() -> None:
    w, bias = np.zeros((2, 1, 2)), np.array([3.0, -2.0])
    for of, expected in (("signed", [3, -2]), ("absolute", [3, 2]), ("squared", [9, 4])):
        got = layer_strength(w, bias, kind="conv1d", input_size=4, of=of)  # type: ignore[arg-type]
        assert (got.incoming == np.array(expected)[:, None]).all()
        assert (got.outgoing == 0).all()


def test_without_an_input_size_strengths_are_those_of_channels() -> None:
    w = np.random.default_rng(6).standard_normal((6, 2, 3, 3))
    bias = np.arange(6.0)
    got = layer_strength(w, bias, kind="conv2d", groups=3, stride=2, padding="valid")
    assert got.flags == ("kernel_level",)
    assert np.abs(got.incoming - (w.sum((1, 2, 3)) + bias)).max() <= TOLERANCE
    assert np.abs(got.outgoing - w.reshape(3, 2, 2, 3, 3).sum((1, 3, 4)).ravel()).max() <= TOLERANCE
    interior = layer_strength(w, bias, kind="conv2d", groups=3, input_size=7)
    assert np.abs(interior.incoming - got.incoming[:, None, None]).max() <= TOLERANCE * 10
    assert np.abs(interior.outgoing[:, 3, 3] - got.outgoing).max() <= TOLERANCE * 10
    turned = layer_strength(w, kind="conv_transpose2d", groups=3)
    assert np.abs(turned.outgoing - w.sum((1, 2, 3))).max() <= TOLERANCE
    assert turned.incoming.shape == (6,)


# ---- laws ----


@settings(max_examples=count(40, 800), deadline=None, derandomize=True)
@given(convolutions(("conv1d", "conv2d", "conv_transpose2d")))
def test_what_leaves_the_inputs_arrives_at_the_outputs(given_: tuple[str, np.ndarray, dict[str, Any]]) -> None:
    kind, w, options = given_
    for of in OF:
        got = layer_strength(w, kind=kind, of=of, **options)  # type: ignore[arg-type]
        assert abs(got.incoming.sum() - got.outgoing.sum()) <= TOLERANCE * max(1.0, np.abs(got.incoming).sum())


@settings(max_examples=count(30, 600), deadline=None, derandomize=True)
@given(convolutions(("conv1d", "conv2d")))
def test_a_transposed_convolution_turns_the_links_around(given_: tuple[str, np.ndarray, dict[str, Any]]) -> None:
    kind, w, options = given_
    forward = layer_strength(w, kind=kind, **options)  # type: ignore[arg-type]
    leaving = forward.incoming.shape[1:]
    rest = [
        (n + 2 * p - d * (k - 1) - 1) % s
        for n, p, d, k, s in zip(
            options["input_size"], options["padding"], options["dilation"], w.shape[2:], options["stride"], strict=True
        )
    ]
    back = layer_strength(
        w,
        kind=kind.replace("conv", "conv_transpose"),  # type: ignore[arg-type]
        **options | {"input_size": leaving, "output_padding": rest},
    )
    assert np.array_equal(back.incoming, forward.outgoing)
    assert np.array_equal(back.outgoing, forward.incoming)


def test_threads_do_not_change_a_bit() -> None:
    w = np.random.default_rng(7).standard_normal((900, 1200))
    one = layer_strength(w, threads=1)
    for threads in (2, 3, 7):
        got = layer_strength(w, threads=threads)
        assert got.incoming.tobytes() == one.incoming.tobytes()
        assert got.outgoing.tobytes() == one.outgoing.tobytes()


def test_results_cannot_be_written_to_and_what_is_given_is_left_alone() -> None:
    w, bias = np.ones((2, 1, 3)), np.ones(2)
    for got in (layer_strength(w, bias, kind="conv1d", input_size=4), layer_strength(w[:, 0], bias)):
        assert not got.incoming.flags.writeable
        assert not got.outgoing.flags.writeable
    assert (w == 1).all()
    assert (bias == 1).all()
    assert w.flags.writeable
    assert bias.flags.writeable


# ---- errors ----


def refuse(error: type[Exception], text: str, shape: tuple[int, ...] = (4, 2, 3, 3), **options: Any) -> None:
    bias = options.pop("bias", None)
    with pytest.raises(error, match=text):
        layer_strength(np.ones(shape), bias, **{"kind": "conv2d", **options})


def test_errors_say_what_was_given_and_what_is_expected() -> None:
    refuse(DomainError, r"^layer_strength: got kind 'lstm', expected one of linear, conv1d", kind="lstm")
    refuse(
        DomainError, r"^layer_strength: got of='positive', expected one of signed, absolute, squared$", of="positive"
    )
    refuse(ShapeError, r"got a conv2d weight of shape \(4, 2\), expected 4 axes, none of them 0$", (4, 2))
    refuse(ShapeError, r"got a linear weight of shape \(4, 2, 3, 3\), expected \(out, in\), none", kind="linear")
    refuse(ShapeError, r"got a conv2d weight of shape \(4, 0, 3, 3\)", (4, 0, 3, 3))
    refuse(ShapeError, r"got a bias of shape \(2,\), expected \(4,\)$", bias=np.ones(2))
    refuse(ShapeError, r"got input_size \(3, 8, 8\), expected an integer or 2 of them$", input_size=(3, 8, 8))
    refuse(ShapeError, r"got input_size \(2, 9\), expected one at which a position leaves", input_size=(2, 9))
    refuse(ShapeError, r"got input_size \(1, 1\), expected", kind="conv_transpose2d", input_size=1, padding=2)
    refuse(DomainError, r"got input_size 0, expected at least 1$", input_size=0)
    refuse(DTypeError, r"got stride 1\.5, expected integers$", stride=1.5)
    refuse(DomainError, r"got stride \(1, 0\), expected at least 1$", stride=(1, 0))
    refuse(DomainError, r"got dilation 0", dilation=0)
    refuse(DomainError, r"got padding -1, expected at least 0$", padding=-1)
    refuse(DomainError, r"got padding 'full', expected numbers, 'same' or 'valid'$", padding="full")
    refuse(DomainError, r"got padding 'same' with stride 2, expected stride 1$", padding="same", stride=2)
    refuse(DomainError, r"got padding 'same', expected numbers$", kind="conv_transpose2d", padding="same")
    refuse(ShapeError, r"got 3 groups of 4 channels, expected a divisor$", groups=3)
    refuse(DomainError, r"got groups 0, expected at least 1$", groups=0)
    refuse(DomainError, r"got output_padding 1, expected it with a transposed", output_padding=1)
    refuse(
        DomainError, r"got output_padding 2, expected less than", kind="conv_transpose2d", output_padding=2, stride=2
    )
    for options in ({"input_size": 3}, {"stride": 2}, {"groups": 2}, {"padding": "same"}):
        refuse(DomainError, "got a linear layer with|with a linear layer", (4, 2), kind="linear", **options)
    with pytest.raises(DTypeError, match=r"^layer_strength: got dtype int64"):
        layer_strength(np.ones((2, 2), np.int64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_is_named_by_its_index(bad: float) -> None:
    w = np.ones((2, 1, 3))
    w[1, 0, 2] = bad
    for options in ({}, {"input_size": 4}, {"input_size": 4, "of": "absolute"}, {"of": "squared"}):
        with pytest.raises(
            NonFinite, match=rf"^layer_strength: got {bad} at \[1, 0, 2\] of the weight, expected finite"
        ):
            layer_strength(w, kind="conv1d", **options)  # type: ignore[arg-type]
    with pytest.raises(NonFinite, match=rf"^layer_strength: got {bad} at \[1, 2\] of the weight"):
        layer_strength(w[:, 0])
    with pytest.raises(NonFinite, match=rf"^layer_strength: got {bad} at \[0\] of the bias"):
        layer_strength(np.ones((1, 2)), np.array([bad]))


def test_sums_that_float64_does_not_hold_are_refused() -> None:
    for kind, shape in (("linear", (1, 2)), ("conv1d", (1, 2, 1)), ("conv1d", (1, 1, 2))):
        with pytest.raises(NonFinite, match="got weights whose sums lie beyond float64, expected smaller ones"):
            layer_strength(np.full(shape, 1.5e308), kind=kind)  # type: ignore[arg-type]


def test_nodes_that_memory_does_not_hold_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1e6)
    refuse(LimitExceeded, r"got \d+ nodes that take \d+ bytes", input_size=(10**3, 14 * 10**3))
