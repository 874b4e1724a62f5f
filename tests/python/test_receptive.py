"""Receptive fields against the positions that a window reaches, one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netassay import algebra
from netassay.algebra import Call, LayerGraph, Tensor
from python.full import count
from python.nets import mlp, of, weight

pytestmark = pytest.mark.native


def chain(steps: Sequence[tuple[int, int, int]], extent: int = 64) -> LayerGraph:
    """Convolutions of (kernel, stride, dilation) over one axis."""
    calls = [Call("x", "input", ((2, 1, extent),), (extent,))]
    for k, s, d in steps:
        extent = (extent - d * (k - 1) - 1) // s + 1
        arguments = {"input": Tensor(calls[-1].shape, calls[-1].size, len(calls) - 1), "weight": weight(1, 1, k)}
        arguments |= {"stride": [s], "dilation": [d], "groups": 1}  # type: ignore[dict-item]
        calls.append(Call(f"conv{len(calls)}", "conv1d", ((2, 1, extent),), (extent,), arguments))
    return LayerGraph(tuple(calls), (len(calls) - 1,))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 2)), min_size=1, max_size=4))
@settings(max_examples=count(40, 800), deadline=None)
def test_a_receptive_field_is_what_the_positions_reached_span(steps: list[tuple[int, int, int]]) -> None:
    def seen(position: int, layer: int) -> set[int]:
        if layer == 0:
            return {position}
        k, s, d = steps[layer - 1]
        return {q for i in range(k) for q in seen(position * s + i * d, layer - 1)}

    network = algebra.measure(chain(steps, extent=200))
    for layer in range(1, len(steps) + 1):
        found = of(network, layer)
        first, second = seen(0, layer), seen(1, layer)
        assert found.receptive_field == (max(first) - min(first) + 1,)
        assert found.stride == (min(second) - min(first),)
        assert ("covers_input" in found.flags) == (found.receptive_field[0] >= 200)


def test_receptive_fields_are_those_of_a_graphs_calls() -> None:
    fields = algebra.receptive_fields(chain([(3, 2, 1), (3, 1, 1)], 20))
    assert {place: (field.size, field.stride) for place, field in fields.items()} == {
        0: ((1,), (1,)),
        1: ((3,), (2,)),
        2: ((7,), (2,)),
    }
    assert algebra.receptive_fields(mlp([4, 5]).graph()) == {}


def test_branches_have_the_larger_field_and_tell_strides_that_differ() -> None:
    graph = chain([(3, 1, 1), (5, 2, 1)], 20)
    a, b = graph.calls[1:]
    arguments = {"self": Tensor(a.shape, a.size, 1), "other": Tensor(b.shape, b.size, 2)}
    joined = LayerGraph((*graph.calls, Call("add", "add", (a.shape,), a.elements, arguments)), (3,))
    found = of(algebra.measure(joined), 3)
    assert (found.receptive_field, found.stride) == ((7,), (2,))
    assert "stride_mismatch" in found.flags


@pytest.mark.parametrize(("dims", "size"), [([2], 20), ([1], 3), ([1, 2], 20)])
def test_a_mean_over_positions_has_a_window_over_them(dims: list[int], size: int) -> None:
    graph = chain([(3, 1, 1)], 20)
    shape = {2: (2, 1), 1: (2, 18)}[dims[-1]] if len(dims) == 1 else (2,)
    arguments = {"self": Tensor((2, 1, 18), 18, 1), "dim": dims}
    units = math.prod(shape[1:])
    mean = Call("mean", "mean", (shape,), (units,), arguments)
    found = of(algebra.measure(LayerGraph((*graph.calls, mean), (2,))), 2)
    assert found.receptive_field == (size,)


def test_a_mean_over_channels_last_is_no_window() -> None:
    """(n, positions, channels), as a norm of tokens takes it."""
    graph = chain([(3, 1, 1)], 20)
    tokens = Call("tokens", "transpose", ((2, 18, 1),), (18,), {"self": Tensor((2, 1, 18), 18, 1)})
    mean = Call("mean", "mean", ((2, 18, 1),), (18,), {"self": Tensor((2, 18, 1), 18, 2), "dim": [-1]})
    found = of(algebra.measure(LayerGraph((*graph.calls, tokens, mean), (3,))), 3)
    assert (found.receptive_field, found.stride) == ((3,), (1,))


def test_a_linear_layer_on_flattened_positions_sees_the_whole_input() -> None:
    graph = chain([(3, 1, 1)], 20)
    flat = Call("flatten", "flatten", ((2, 18),), (18,), {"self": Tensor((2, 1, 18), 18, 1)})
    head = Call("head", "linear", ((2, 4),), (4,), {"input": Tensor((2, 18), 18, 2), "weight": weight(4, 18)})
    found = of(algebra.measure(LayerGraph((*graph.calls, flat, head), (3,))), 3)
    assert found.receptive_field is None
    assert "covers_input" in found.flags


def test_without_a_window_there_is_no_receptive_field() -> None:
    found = of(mlp([4, 5]).measure(), 1)
    assert (found.receptive_field, found.stride) == (None, None)
    assert "covers_input" not in found.flags
