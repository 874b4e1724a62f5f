"""The bottlenecks of samples' forward passes against the literal product, the published vectors, and each other.

Tolerances. Products are rounded to float32 on both sides alike, so without standardize tree weights agree to the bit.
Standardized edges: `tolerance`. Published vectors, which float32 code gave: 1e-6 absolute.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netassay as na
from netassay import persistence as stem
from netassay.base.arrays import View
from python.devices import on
from python.matrices import DTYPES, make, typed
from reference import persistence as reference

pytestmark = pytest.mark.native

DATA = json.loads((Path(__file__).parents[1] / "data" / "persistence.json").read_text(encoding="utf-8"))
FLAGS = ("standardize", "joint", "approximate")
OPTIONS = [dict(zip(FLAGS, flags, strict=True)) for flags in itertools.product([False, True], repeat=3)]
Arrays = list[np.ndarray]


def tolerance(products: Arrays) -> float:
    """Of edges |a - mean| / (std + 1e-8): mean, difference, factor and product are rounded to float32 once each, the
    mean and the difference to the size of the products, here over their deviation."""
    spreads = [a.std(ddof=1) for a in products if a.min() < a.max()]
    sizes = [np.abs(a).max() for a in products if a.min() < a.max()]
    return float(2.0**-22 * max([1.0, *(size / spread for size, spread in zip(sizes, spreads, strict=True))]))


def forward(seed: int, n: int = 4, dims: tuple[int, ...] = ()) -> tuple[Arrays, Arrays]:
    """Weights of a random network, and what enters each layer: rectified, so with ties of zeros."""
    g = np.random.default_rng(seed)
    dims = dims or tuple(int(d) for d in g.choice([1, 2, 3, 5, 8], g.integers(2, 5)))
    kinds = g.choice(["normal", "half zero", "integers, many ties", "dead rows and columns"], len(dims) - 1)
    weights = [make(str(k), m, n, seed).astype(np.float32) for k, m, n in zip(kinds, dims[1:], dims, strict=False)]
    inputs = [g.random((n, dims[0])).astype(np.float32)]
    for w in weights[:-1]:
        inputs.append(np.maximum(inputs[-1] @ w.T + np.float32(0.1), 0))
    return weights, inputs


# Published vectors


def witness(entry: dict[str, Any]) -> tuple[Arrays, Arrays]:
    g, dims = np.random.default_rng(entry["seed"]), entry["dims"]
    weights, biases = [], []
    for m, n in zip(dims[1:], dims, strict=False):
        weights.append((g.standard_normal((m, n)) * np.sqrt(2 / (m + n))).astype(np.float32))
        biases.append((0.1 * g.standard_normal(m)).astype(np.float32))
    inputs = [g.random((entry["batch"], dims[0])).astype(np.float32)]
    for w, b in zip(weights[:-1], biases, strict=False):
        inputs.append(np.maximum(inputs[-1] @ w.T + b, 0))
    return weights, inputs


VECTORS: dict[str, dict[str, Any]] = {
    "dgp": {},
    "dgp_normalize": {"joint": True},
    "dgp_var": {"standardize": True},
    "dgp_var_normalize": {"standardize": True, "joint": True},
    "dgp_approximate": {"approximate": True},
}


@pytest.mark.parametrize("key", VECTORS)
@pytest.mark.parametrize("entry", DATA["witness"], ids=lambda e: str(e["seed"]))
def test_the_published_vectors_hold(entry: dict[str, Any], key: str) -> None:
    got = stem.sample_persistence(*witness(entry), **VECTORS[key])
    assert got.shape == np.shape(entry[key])
    assert np.abs(got - np.array(entry[key])).max() <= 1e-6


@pytest.mark.parametrize("entry", DATA["witness"], ids=lambda e: str(e["seed"]))
def test_the_published_topological_uncertainty_holds(entry: dict[str, Any]) -> None:
    layers = stem.topological_uncertainty(*witness(entry))
    for got, vectors in zip(layers, entry["topological"], strict=True):
        assert got.shape == np.shape(vectors)
        assert np.abs(got - np.array(vectors)).max() <= 1e-6


def test_no_published_vector_is_left_out() -> None:
    held = {"seed", "dims", "batch", "expr", "maxabsdiff_vs_independent", "topological", *VECTORS}
    assert {key for entry in DATA["witness"] for key in entry} == held


# Parity with the reference


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(k for k in FLAGS if o[k]) or "plain")
def test_every_sample_agrees_with_the_reference(device: str, options: dict[str, bool]) -> None:
    for seed in range(60):
        weights, inputs = forward(seed)
        got = stem.sample_persistence([on(device, w) for w in weights], [on(device, x) for x in inputs], **options)
        for i, vector in enumerate(got):
            xs = [x[i] for x in inputs]
            expected = reference.sample_persistence(weights, xs, **options)
            if options["standardize"]:
                products = [(w * x).astype(np.float64) for w, x in zip(weights, xs, strict=True)]
                within = tolerance(products) * max(1.0, float(np.abs(expected).max()))
                assert np.abs(vector - expected).max() <= within
            else:
                assert vector.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_and_activations_of_every_format_are_taken_as_float32(dtype: str) -> None:
    weights, inputs = forward(3, 5, (9, 8, 7))
    given = [typed(9 * w.astype(np.float64), dtype) for w in weights]
    kind = dtype if dtype in ("float64", "float32", "float16", "bfloat16") else "float32"
    xs = [typed(x.astype(np.float64), kind) for x in inputs]
    expected = stem.sample_persistence([w.values.astype("f4") for w in given], [x.values.astype("f4") for x in xs])
    # torch, or ml_dtypes, is what has bfloat16 activations
    arrays = [x.values if isinstance(x.given, View) else x.given for x in xs]
    assert stem.sample_persistence([w.given for w in given], arrays).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_torch_tensors_equal_their_arrays_and_are_left_alone(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    weights, inputs = forward(3, 5, (9, 8, 7))
    tensors = [torch.nn.Parameter(torch.from_numpy(w).to(getattr(torch, dtype))) for w in weights]
    xs = [torch.from_numpy(x).to(getattr(torch, dtype)) for x in inputs]
    plain = [t.detach().float().numpy() for t in (*tensors, *xs)]
    expected = stem.sample_persistence(plain[:2], plain[2:])
    assert stem.sample_persistence(tensors, xs).tobytes() == expected.tobytes()
    assert all(t.grad is None for t in tensors)


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": np.asfortranarray,
    "every second row and column": lambda x: x.repeat(2, 0).repeat(2, 1)[::2, ::2],
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "big-endian": lambda x: x.astype(">f4"),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_equals_its_contiguous_copy_and_is_left_alone(view: str) -> None:
    weights, inputs = forward(3, 5, (9, 8, 7))
    given = [[VIEWS[view](x) for x in arrays] for arrays in (weights, inputs)]
    before = [y.tobytes() for arrays in given for y in arrays]
    for options in OPTIONS:
        got = stem.sample_persistence(*given, **options)
        assert got.tobytes() == stem.sample_persistence(weights, inputs, **options).tobytes()
    assert [y.tobytes() for arrays in given for y in arrays] == before


# Known answers and identities


def test_a_path_of_products() -> None:
    weights, inputs = [np.array([[0.5]]), np.array([[-2.0]])], [np.array([[1.0], [4.0]]), np.array([[3.0], [0.5]])]
    assert stem.sample_persistence(weights, inputs).tolist() == [[0.5], [1.0]]
    assert stem.sample_persistence(weights, inputs, joint=True).tolist() == [[0.5 / 6], [0.5]]
    assert stem.sample_persistence(weights, inputs, approximate=True).tolist() == [[0.5, 0.5], [1, 1]]


def test_a_sample_of_ones_has_the_tree_of_the_network_itself() -> None:
    weights, _ = forward(0, 1, (30, 20, 10))
    ones = [np.ones((1, w.shape[1])) for w in weights]
    network = stem.deep_graph_persistence(weights, standardize=False, rescale=False)
    got = stem.sample_persistence(weights, ones, joint=True)
    assert got.tobytes() == network.weights.tobytes()
    assert np.diff(got).max() <= 0


def test_a_sample_of_zeros_has_zeros_whatever_is_divided() -> None:
    weights, inputs = forward(0, 2, (4, 3, 2))
    inputs = [np.zeros_like(x) for x in inputs]
    for options in OPTIONS:
        got = stem.sample_persistence(weights, inputs, **options)
        assert (got.shape, got.any()) == ((2, 6 if options["approximate"] else 5), False)


def test_approximate_is_the_largest_bottleneck_of_each_input_then_of_each_output() -> None:
    weights, inputs = forward(1, 3, (6, 5, 4))
    got, trees = stem.sample_persistence(weights, inputs, approximate=True), stem.sample_persistence(weights, inputs)
    assert got.shape == (3, 10)
    assert np.array_equal(got[:, :6].max(axis=1), trees[:, 0])
    assert np.array_equal(got[:, 6:].max(axis=1), trees[:, 0])
    g = np.random.default_rng(0)
    into, out = g.permutation(6), g.permutation(4)
    permuted = stem.sample_persistence(
        [weights[0][:, into], weights[1][out]], [inputs[0][:, into], inputs[1]], approximate=True
    )
    assert np.array_equal(permuted, got[:, [*into, *(6 + out)]])


def test_topological_uncertainty_is_the_tree_of_each_layers_products() -> None:
    weights, inputs = forward(2, 5, (40, 30, 20, 7))
    layers = stem.topological_uncertainty(weights, inputs)
    assert [x.shape for x in layers] == [(5, 69), (5, 49), (5, 26)]
    for w, x, got in zip(weights, inputs, layers, strict=True):
        for vector, row in zip(got, x, strict=True):
            assert vector.tobytes() == stem.spanning_tree(w * row).weights.tobytes()
        assert got.tobytes() == stem.sample_persistence([w], [x]).tobytes()
    assert stem.topological_uncertainty(weights, inputs, threads=3)[1].tobytes() == layers[1].tobytes()


# Batches, threads, layers


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(k for k in FLAGS if o[k]) or "plain")
def test_a_batch_is_its_samples_in_any_split_order_and_number_of_threads(options: dict[str, bool]) -> None:
    weights, inputs = forward(5, 23, (50, 40, 30))
    whole = stem.sample_persistence(weights, inputs, threads=1, **options)
    assert (whole.dtype, whole.shape) == (np.float64, (23, 80 if options["approximate"] else 79))
    for threads in (2, 3, 7, None):
        assert stem.sample_persistence(weights, inputs, threads=threads, **options).tobytes() == whole.tobytes()
    parts = [
        stem.sample_persistence(weights, [x[a:b] for x in inputs], **options) for a, b in ((0, 1), (1, 9), (9, 23))
    ]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    order = np.random.default_rng(0).permutation(23)
    assert np.array_equal(stem.sample_persistence(weights, [x[order] for x in inputs], **options), whole[order])


def test_no_samples_have_no_rows_of_the_same_length() -> None:
    weights = [np.ones((5, 3)), np.ones((4, 5))]
    inputs = [np.ones((0, 3)), np.ones((0, 5))]
    assert stem.sample_persistence(weights, inputs).shape == (0, 6)
    assert stem.sample_persistence(weights, inputs, approximate=True).shape == (0, 7)
    assert [x.shape for x in stem.topological_uncertainty(weights, inputs)] == [(0, 7), (0, 8)]


# Bad input


def test_activations_that_do_not_fit_are_refused() -> None:
    weights, inputs = forward(1, 3, (6, 5, 4))
    name = "sample_persistence: got "
    for xs, claim in (
        (inputs[:1], name + "1 activations for 2 layers, expected what enters each"),
        ([*inputs, inputs[1]], name + "3 activations for 2 layers"),
        ([inputs[0], inputs[0]], name + r"activations of shape \(3, 6\) for layer 1, expected \(n, 5\)"),
        ([inputs[0], inputs[1][:2]], name + "2 samples for layer 1 and 3 for layer 0, expected as many for each"),
        ([inputs[0], inputs[1][0]], name + r"activations of shape \(5,\) for layer 1, expected \(n, 5\)"),
        ([inputs[0][:, :, None], inputs[1]], name + r"activations of shape \(3, 6, 1\) for layer 0"),
    ):
        with pytest.raises(na.ShapeError, match=claim):
            stem.sample_persistence(weights, xs)
    with pytest.raises(na.ShapeError, match="sample_persistence: got no layers, expected at least one"):
        stem.sample_persistence([], [])
    with pytest.raises(na.ShapeError, match="sample_persistence: got layer 1 with 6 inputs after one of 4 outputs"):
        stem.sample_persistence(weights[::-1], [np.ones((3, 5)), inputs[0]])


def test_topological_uncertainty_refuses_what_does_not_fit_by_its_own_name() -> None:
    weights, inputs = forward(1, 3, (6, 5, 4))
    with pytest.raises(
        na.ShapeError, match="topological_uncertainty: got 1 activations for 2 layers, expected what enters"
    ):
        stem.topological_uncertainty(weights, inputs[:1])
    with pytest.raises(
        na.ShapeError,
        match=r"topological_uncertainty: got activations of shape \(3, 6\) for layer 1, expected \(n, 5\)",
    ):
        stem.topological_uncertainty(weights, [inputs[0], inputs[0]])
    with pytest.raises(na.ShapeError, match="topological_uncertainty: got 2 samples for layer 1 and 3 for layer 0"):
        stem.topological_uncertainty(weights, [inputs[0], inputs[1][:2]])
    weights[1][3, 4] = math.nan
    with pytest.raises(na.NonFinite, match=r"topological_uncertainty: layer 1: got nan at \[3, 4\] of the weight"):
        stem.topological_uncertainty(weights, inputs)
    inputs[1][2, 0] = math.nan
    with pytest.raises(
        na.NonFinite, match=r"topological_uncertainty: got nan at \[2, 0\] of the activations for layer 1"
    ):
        stem.topological_uncertainty(weights, inputs)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_a_nan_or_an_infinity_is_named_by_layer_and_place(bad: float) -> None:
    told = str(np.float32(min(bad, math.inf)) if abs(bad) != 1e300 else math.inf)  # float32 has no 1e300
    for layer, sample in ((0, 0), (1, 2)):
        weights, inputs = forward(1, 3, (6, 5, 4))
        xs = [x.astype(np.float64) for x in inputs]
        xs[layer][sample, 3] = bad
        claim = (
            rf"sample_persistence: got {told} at \[{sample}, 3\] of the activations for layer {layer}, expected finite"
        )
        with pytest.raises(na.NonFinite, match=claim):
            stem.sample_persistence(weights, xs)
    weights, inputs = forward(1, 3, (6, 5, 4))
    second = weights[1].astype(np.float64)
    second[2, 1] = bad
    claim = r"layer 1: got .* at \[2, 1\] of the weight" if abs(bad) != 1e300 else "beyond float32"
    with pytest.raises(na.NonFinite, match=r"sample_persistence: .*" + claim):
        stem.sample_persistence([weights[0], second], inputs)


def test_products_beyond_float32_are_refused() -> None:
    weights, inputs = [np.full((2, 2), 1e30, np.float32)] * 2, [np.full((3, 2), 1e30, np.float32)] * 2
    with pytest.raises(
        na.NonFinite, match="sample_persistence: got products of weights and activations beyond float32"
    ):
        stem.sample_persistence(weights, inputs)


def test_other_formats_are_refused() -> None:
    weights, inputs = forward(1, 3, (6, 5, 4))
    for dtype in ("int64", "complex64", "int8"):
        with pytest.raises(
            na.DTypeError, match=r"sample_persistence: got dtype .*expected float64, float32, bfloat16 or"
        ):
            stem.sample_persistence(weights, [inputs[0], inputs[1].astype(dtype)])
    with pytest.raises(na.DTypeError, match="sample_persistence: got dtype int32, expected"):
        stem.sample_persistence([weights[0], weights[1].astype(np.int32)], inputs)
    with pytest.raises(TypeError):
        stem.sample_persistence(weights, inputs, True)  # type: ignore[misc]
    with pytest.raises(na.DomainError, match="threads"):
        stem.sample_persistence(weights, inputs, threads=0)
