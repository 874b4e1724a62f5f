"""Node strengths of what depends on values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netassay as na
from python import architectures
from python.jacobians import assert_incoming, assert_outgoing, drawn, jacobian, near, strengths
from python.models import Encoder, Recurrent, Wrap, seeded, tokens


def test_max_pooling_is_listed_and_nothing_is_guessed_around_it() -> None:
    model = drawn(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)))
    found = strengths(model, (1, 6, 6))
    assert [(one.name, one.op) for one in found.data_dependent] == [("2", "max_pool2d")]
    before, behind = found["0"], found["2"]
    assert before.outgoing is None
    assert before.flags == ("data_dependent_out",)
    assert not before.complete
    assert behind.incoming is None
    assert behind.flags == ("data_dependent_in",)
    assert behind.shape == (2, 2, 2)
    assert_incoming(before, jacobian(model[0], 1, 6, 6))
    assert_outgoing(behind, model[4].weight.detach().numpy())
    near(before.strength, before.incoming)
    near(behind.strength, behind.outgoing)


def test_a_transformer_encoder_is_dense_layers_around_attention_and_norms() -> None:
    model = drawn(seeded(Encoder))
    found = na.node_strengths(model, tokens(1, 3))
    assert found.unknown == ()
    assert {one.op for one in found.data_dependent} == {"scaled_dot_product_attention", "layer_norm"}
    layer = model.encoder.layers[0]
    projection = found["encoder.layers.0.self_attn.in_proj_weight"]
    into, bias = layer.self_attn.in_proj_weight.detach().numpy(), layer.self_attn.in_proj_bias.detach().numpy()
    assert projection.outgoing is None
    assert projection.shape == (3, 24)
    near(projection.incoming, np.tile(into.sum(1) + bias, (3, 1)))
    heads = found["encoder.layers.0.self_attn:scaled_dot_product_attention"]
    assert heads.incoming is None
    assert heads.shape == (2, 3, 4)
    columns = layer.self_attn.out_proj.weight.detach().numpy().sum(0).reshape(2, 1, 4)
    near(heads.outgoing, np.tile(columns, (1, 3, 1)))
    residual = found["encoder.layers.0:add", 0]
    assert (residual.incoming == 2).all()
    assert residual.outgoing is None
    norm = found["encoder.layers.0.norm1"]
    near(norm.incoming, np.tile((layer.norm1.weight + layer.norm1.bias).detach().numpy(), (3, 1)))
    near(norm.outgoing, np.tile(1 + layer.linear1.weight.detach().numpy().sum(0), (3, 1)))
    assert norm.flags == ("data_dependent_in",)
    table = model.embed.weight.detach().numpy()
    near(found["embed:tokens"].outgoing, table.sum(1))
    near(found["embed"].incoming, np.tile(table.sum(0), (3, 1)))
    near(found["embed"].outgoing, np.tile(1 + into.sum(0), (3, 1)))


def test_an_lstm_is_unrolled_over_steps_and_gates() -> None:
    model = drawn(seeded(Recurrent))
    found = strengths(model, (4, 5))
    lstm = {name: value.detach().numpy() for name, value in model.lstm.named_parameters()}
    gates, hidden = found["lstm:gates_l0"], found["lstm:hidden_l0"]
    assert gates.shape == (4, 28)
    assert hidden.shape == (4, 7)
    assert gates.incoming is not None
    bias = lstm["bias_ih_l0"] + lstm["bias_hh_l0"]
    first = lstm["weight_ih_l0"].sum(1) + bias
    near(gates.incoming[0], first)
    near(gates.incoming[1:], np.tile(first + lstm["weight_hh_l0"].sum(1), (3, 1)))
    assert gates.outgoing is None
    assert hidden.incoming is None
    assert hidden.outgoing is not None
    near(hidden.outgoing[:-1], np.tile((lstm["weight_hh_l0"].sum(0) + lstm["weight_ih_l1"].sum(0)), (3, 1)))
    near(hidden.outgoing[-1], lstm["weight_ih_l1"].sum(0))
    near(found["x"].outgoing, np.tile(lstm["weight_ih_l0"].sum(0), (4, 1)))
    near(found["lstm:hidden_l1"].outgoing[-1], model.fc.weight.detach().numpy().sum(0))  # type: ignore[index]
    assert found["x"].complete
    assert [one.name for one in found.data_dependent] == ["lstm"]
    assert found.unknown == ()


def test_both_directions_of_a_plain_recurrence_are_the_jacobians_of_its_cells() -> None:
    model = drawn(nn.RNN(2, 3, batch_first=True, bidirectional=True))
    found = strengths(model, (4, 2))
    into, state = model.weight_ih_l0_reverse.detach().numpy(), model.weight_hh_l0_reverse.detach().numpy()
    bias = (model.bias_ih_l0_reverse + model.bias_hh_l0_reverse).detach().numpy()
    backward = found["(root):hidden_l0_reverse"]
    assert backward.complete
    assert backward.incoming is not None
    assert found.data_dependent == ()
    near(backward.incoming[-1], into.sum(1) + bias)
    near(backward.incoming[:-1], np.tile(into.sum(1) + state.sum(1) + bias, (3, 1)))
    near(backward.outgoing_absolute, np.array([[1.0] * 3] + [list(1 + np.abs(state).sum(0))] * 3))


def test_projected_states_are_a_dense_layer_behind_the_gates_and_time_may_come_first() -> None:
    model = drawn(nn.LSTM(3, 4, proj_size=2))
    found = na.node_strengths(model, torch.zeros(5, 1, 3).double(), batch_axis=1)
    projection = model.weight_hr_l0.detach().numpy()
    assert [layer.shape for layer in found] == [(5, 3), (5, 16), (5, 4), (5, 2)]
    near(found["(root):outputs_l0"].outgoing, np.tile(projection.sum(0), (5, 1)))
    near(found["(root):hidden_l0"].incoming, np.tile(projection.sum(1), (5, 1)))
    assert found["(root):hidden_l0"].complete
    assert [one.op for one in na.node_strengths(model, torch.zeros(5, 1, 3).double()).unknown] == ["lstm"]


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_a_cell_is_one_step(kind: Any) -> None:
    model = drawn(kind(3, 2))
    found = strengths(model, (3,), (2,)) if kind is not nn.LSTMCell else strengths(model, (3,))
    units = found["(root):hidden" if kind is nn.RNNCell else "(root):gates"]
    expected = model.weight_ih.sum(1) + model.bias_ih + model.bias_hh
    near(units.incoming, (expected if kind is nn.LSTMCell else expected + model.weight_hh.sum(1)).detach().numpy())
    near(found[0].outgoing, model.weight_ih.sum(0).detach().numpy())
    if kind is not nn.LSTMCell:
        near(found[1].outgoing, model.weight_hh.sum(0).detach().numpy())


def test_products_gates_and_selections_are_listed_by_name_and_reason() -> None:
    found = strengths(drawn(architectures.SqueezeExcite()), (3, 8, 8))
    assert [one.name for one in found.data_dependent] == ["(root):mul"]
    assert found.data_dependent[0].reason == "it multiplies tensors that depend on the input"
    assert found["conv"].outgoing is not None
    assert "data_dependent_out" in found["conv"].flags

    def chosen(inner: nn.Module, x: Tensor) -> Tensor:
        y = inner(x)
        return torch.where(y > 0, y, 0.5 * y)

    listed = strengths(drawn(Wrap(nn.Linear(3, 2), chosen)), (3,)).data_dependent
    assert [one.op for one in listed] == ["where"]


def test_an_operation_without_a_rule_is_unknown_and_what_is_behind_it_known() -> None:
    model = drawn(Wrap(nn.Linear(9, 2), lambda inner, x: inner(torch.linalg.matrix_exp(x).flatten(1))))
    found = strengths(model, (3, 3))
    assert [one.op for one in found.unknown] == ["linalg_matrix_exp"]
    assert found[1].flags == ("unknown_in",)
    assert found[1].incoming is None
    assert found[0].outgoing is None
    assert_outgoing(found[1], model.inner.weight.detach().numpy())
