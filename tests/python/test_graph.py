"""A model and an example of its input as a LayerGraph: calls, names, edges, sizes per sample."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netassay.algebra import Call, LayerGraph
from netassay.algebra import Tensor as Described
from netassay.base.errors import ShapeError
from python.architectures import (
    Branches,
    Dense,
    Depthwise,
    Residual,
    SharedModules,
    SqueezeExcite,
    TwoInputs,
    TwoOutputs,
    on_meta,
    resnet18,
)
from python.graphs import Cells, call_of, content, graph_of, into, names, ops, outputs, sizes
from python.models import ConvNet, Encoder, Recurrent, Wrap, data, tokens


def test_a_plain_cnn_is_a_chain_of_its_modules_calls() -> None:
    graph = graph_of(ConvNet(), data(1, 2, 8, 8))
    assert names(graph) == ["x", "conv1", "bn1", "relu 0", "conv2", "bn2", "relu 1", "(root):mean", "fc"]
    modules = ["Conv2d", "BatchNorm2d", "ReLU"]
    assert [call.kind for call in graph] == ["input", *modules, *modules, "mean", "Linear"]
    assert ops(graph) == ["input", *["conv2d", "batch_norm", "relu"] * 2, "mean", "linear"]
    assert [call.elements for call in graph] == [(128,), *[(384,)] * 3, *[(72,)] * 3, (8,), (3,)]
    assert [[t.call for t in call.inputs] for call in graph] == [[], *[[place] for place in range(8)]]
    assert graph.outputs == (8,)


def test_a_graph_says_what_followed_the_run_and_of_which_model() -> None:
    graph = graph_of(ConvNet(), data(1, 2, 8, 8))
    assert (graph.model, graph.tracer, graph.input_specific, graph.notes) == ("ConvNet", "torch.export", False, ())
    assert repr(graph) == "<LayerGraph of ConvNet: 9 calls>"
    assert len(graph) == 9


def test_a_call_knows_its_arguments_by_the_names_of_the_schema_with_defaults() -> None:
    call = call_of(graph_of(Depthwise(), data(1, 4, 8, 8)), "depthwise")
    assert {name: call[name] for name in ("stride", "padding", "dilation", "groups")} == {
        "stride": (2, 2),
        "padding": (1, 1),
        "dilation": (1, 1),
        "groups": 4,
    }
    assert call["weight"] == call.weight == Described((4, 1, 3, 3), 36, None, "depthwise.weight", True)
    assert call["bias"].shape == (4,)
    assert call.get("nothing", 7) == 7


def test_parameters_are_counted_by_name_and_buffers_are_no_parameters() -> None:
    model = ConvNet()
    graph = graph_of(model, data(1, 2, 8, 8))
    assert graph.parameters == {name: p.numel() for name, p in model.named_parameters()}
    assert [t.name for t in call_of(graph, "bn1").tensors if t.parameter] == ["bn1.weight", "bn1.bias"]
    assert sum(t.call is None and not t.parameter for t in call_of(graph, "bn1").tensors) == 2


def test_a_residual_sum_has_the_block_and_what_went_around_it() -> None:
    graph = graph_of(Residual(), data(1, 6))
    assert into(graph, "(root):add 0") == ["x", "blocks.0.1"]
    assert into(graph, "(root):add 2") == ["(root):add 1", "blocks.2.1"]
    assert outputs(graph) == ["(root):add 2"]


def test_a_dense_block_concatenates_everything_before_a_layer() -> None:
    graph = graph_of(Dense(), data(1, 6))
    assert into(graph, "(root):cat 1") == ["(root):cat 0", "(root):relu 1"]
    assert [sizes(graph)[f"(root):cat {i}"] for i in range(3)] == [10, 14, 18]


def test_branches_side_by_side_start_from_one_input_and_join_in_one_call() -> None:
    graph = graph_of(Branches(), data(1, 3, 8, 8))
    assert [into(graph, name)[0] for name in ("one", "three", "pool")] == ["x"] * 3
    assert into(graph, "(root):cat") == ["one", "(root):relu", "five"]
    assert [t.elements for t in call_of(graph, "(root):cat").inputs] == [128, 256, 256]


def test_a_squeeze_excite_gate_multiplies_what_it_was_made_of() -> None:
    graph = graph_of(SqueezeExcite(), data(1, 3, 8, 8))
    assert into(graph, "(root):mul") == ["conv", "(root):sigmoid"]
    assert into(graph, "pool") == ["conv"]
    assert sizes(graph)["pool"] == 8


def test_the_two_weights_of_attention_have_rows_of_their_own() -> None:
    graph = graph_of(Encoder(), tokens(1, 4))
    for layer in ("encoder.layers.0", "encoder.layers.1"):
        entering = call_of(graph, f"{layer}.self_attn.in_proj_weight")
        leaving = call_of(graph, f"{layer}.self_attn.out_proj")
        assert (entering.op, entering.weight and entering.weight.shape) == ("linear", (24, 8))
        assert (leaving.op, leaving.weight and leaving.weight.shape) == ("linear", (8, 8))
        attention = call_of(graph, f"{layer}.self_attn:scaled_dot_product_attention")
        assert [attention[name].elements for name in ("query", "key", "value")] == [32, 32, 32]


def test_a_transformer_encoder_layer_is_not_on_its_fused_path() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad():
        graph = graph_of(layer, data(1, 4, 8))
    assert "scaled_dot_product_attention" in ops(graph)
    assert not [op for op in ops(graph) if "transformer" in op]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_axis", [0, 1])
def test_a_recurrent_layer_is_one_call_with_its_sizes_per_sample(
    kind: Any, bidirectional: bool, batch_axis: int
) -> None:
    layer = kind(3, 4, num_layers=2, bidirectional=bidirectional, batch_first=batch_axis == 0)
    shape = (1, 5, 3) if batch_axis == 0 else (5, 1, 3)
    graph = graph_of(layer, data(*shape), batch_axis=batch_axis)
    call = call_of(graph, "(root)")
    directions = 2 if bidirectional else 1
    states = [2 * directions * 4] * (2 if kind is nn.LSTM else 1)
    assert call.kind == kind.__name__
    assert list(call.elements) == [5 * 4 * directions, *states]
    assert sum(t.parameter for t in call.tensors) == 2 * directions * 4
    assert graph.parameters.keys() == {t.name for t in call.tensors if t.parameter}


def test_a_projection_of_the_state_belongs_to_the_recurrent_layer() -> None:
    graph = graph_of(nn.LSTM(3, 4, proj_size=2, batch_first=True), data(1, 5, 3))
    call = call_of(graph, "(root)")
    assert call.elements == (5 * 2, 2, 4)
    assert [t.shape for t in call.tensors if t.parameter] == [(16, 3), (16, 2), (16,), (16,), (2, 4)]


def test_each_step_of_a_cell_is_a_call_that_reads_the_state_before() -> None:
    graph = graph_of(Cells(), data(1, 3, 3))
    steps = [place for place, call in enumerate(graph) if call.op == "lstm_cell"]
    assert [names(graph)[place] for place in steps] == ["cell 0", "cell 1", "cell 2"]
    for before, step in itertools.pairwise(steps):
        states = [graph.calls[t.call].inputs[0].call for t in graph.calls[step].inputs[1:] if t.call is not None]
        assert states == [before, before]


def test_a_recurrent_layer_before_another_hands_over_its_sequence_alone() -> None:
    graph = graph_of(Recurrent(), data(1, 3, 5))
    assert into(graph, "fc")[0] == "lstm:getitem 0"
    assert call_of(graph, "lstm:getitem 0").size == 21


def test_a_module_called_again_has_numbered_calls_and_parameters_once() -> None:
    graph = graph_of(SharedModules(), data(1, 6))
    assert names(graph) == ["x", "first", "relu 0", "shared 0", "relu 1", "shared 1", "relu 2", "last"]
    assert graph.parameters["shared.weight"] == 25
    assert sum(graph.parameters.values()) == 35 + 30 + 18
    assert graph.aliases == {}


class Aliased(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.again = self.first
        self.stack = nn.Sequential(self.first, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(self.again(self.first(x)))


def test_one_module_under_three_names_stands_under_the_first_and_lists_the_others() -> None:
    graph = graph_of(Aliased(), data(1, 6))
    assert names(graph) == ["x", "first 0", "first 1", "first 2", "stack.1"]
    assert graph.aliases == {"first": ("again", "stack.0")}
    assert graph.parameters == {"first.weight": 36, "first.bias": 6}


class Tied(nn.Module):
    """Two modules that share one tensor; (N, T) of numbers below 7 -> (N, T, 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.embed(x))


@pytest.mark.parametrize("make", [Tied, lambda: on_meta(Tied)], ids=["values", "meta"])
def test_a_tied_weight_is_one_tensor_read_by_two_layers(make: Any) -> None:
    graph = graph_of(make(), torch.ones(1, 3, dtype=torch.int64))
    assert names(graph) == ["x", "embed", "out"]
    assert graph.parameters == {"embed.weight": 28}
    assert into(graph, "embed")[0] == into(graph, "out")[1] == "embed.weight"


@pytest.mark.parametrize(
    "example",
    [
        (data(1, 6), data(1, 4)),
        [data(1, 6), data(1, 4)],
        {"x": data(1, 6), "y": data(1, 4)},
        {"y": data(1, 4), "x": data(1, 6)},
    ],
    ids=["tuple", "list", "mapping", "mapping in another order"],
)
def test_two_inputs_may_come_in_order_or_by_name(example: Any) -> None:
    graph = graph_of(TwoInputs(), example)
    assert {call.name: call.size for call in graph if call.op == "input"} == {"x": 6, "y": 4}
    assert into(graph, "left")[0] == "x"
    assert into(graph, "right")[0] == "y"
    assert into(graph, "(root):add") == ["left", "right"]


def test_every_returned_tensor_is_an_output_in_its_order() -> None:
    assert outputs(graph_of(TwoOutputs(), data(1, 6))) == ["label", "score"]


def test_outputs_in_a_mapping_and_returned_twice_or_straight_from_the_input() -> None:
    def run(layer: nn.Module, x: Tensor) -> Any:
        y = layer(x)
        return {"b": [y, x], "a": y, "n": 3}

    assert outputs(graph_of(Wrap(nn.Linear(6, 2), run), data(1, 6))) == ["inner", "args_0"]


def test_an_argument_may_hold_tensors_in_a_list_beside_numbers() -> None:
    def run(layer: nn.Module, pair: list[Tensor], scale: float) -> Tensor:
        return layer(pair[0]) * scale + pair[1]

    graph = graph_of(Wrap(nn.Linear(6, 6), run), ([data(1, 6), data(1, 6)], 2.0))
    assert [call.size for call in graph if call.op == "input"] == [6, 6]
    assert call_of(graph, "(root):mul")["other"] == 2.0


@pytest.mark.parametrize("batch", [2, 3, 7])
def test_the_batch_of_the_example_and_its_values_do_not_matter(batch: int) -> None:
    one = graph_of(Branches(), data(1, 3, 8, 8))
    assert content(graph_of(Branches(), data(batch, 3, 8, 8, seed=3))) == content(one)
    assert content(graph_of(Branches(), torch.full((batch, 3, 8, 8), float("nan")))) == content(one)


def test_a_model_without_values_has_the_graph_of_one_with_values() -> None:
    for make, shape in ((Branches, (1, 3, 8, 8)), (resnet18, (1, 3, 64, 64)), (Residual, (1, 6))):
        made, empty = graph_of(make(), data(*shape)), graph_of(on_meta(make), data(*shape))
        assert content(made) == content(empty)
        assert made.parameters == empty.parameters


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_type_of_the_numbers_changes_nothing(dtype: torch.dtype) -> None:
    graph = graph_of(ConvNet().to(dtype), data(1, 2, 8, 8, dtype=dtype))
    assert content(graph) == content(graph_of(ConvNet(), data(1, 2, 8, 8)))


def test_a_graph_refuses_a_call_that_reads_one_behind_it_and_an_output_that_is_none() -> None:
    late = Call("b", "relu", ((1, 2),), (2,), {"self": Described((1, 2), 2, 1)})
    with pytest.raises(ShapeError, match=r"LayerGraph: got call 0 \('b'\) with an input from call 1"):
        LayerGraph((late,), (0,))
    with pytest.raises(ShapeError, match="LayerGraph: got the output 1, expected one of 1 calls"):
        LayerGraph((Call("x", "input", ((1, 2),), (2,)),), (1,))
