"""Models that hooks on modules cannot see: functions, writes in place, parametrizations, folded batches, wrappers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import netassay
from netassay import algebra, measure_structure
from netassay.sources.traced.graph import trace
from python.graphs import Functional, call_of, content, graph_of, into, names, ops, outputs, sizes
from python.models import ConvNet, Mlp, Wrap, data


class Function(nn.Module):
    """A function of the input, of one linear layer (6 -> 2) and of one parameter (5, 6)."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.layer, self.w, self.run = nn.Linear(6, 2), nn.Parameter(torch.randn(5, 6)), run

    def forward(self, *args: Tensor) -> Any:
        return self.run(self, *args)


def traced(run: Callable[..., Any], *shape: int) -> algebra.LayerGraph:
    return graph_of(Function(run), data(*(shape or (1, 6))))


def paths(graph: algebra.LayerGraph) -> float | None:
    return algebra.measure(graph).log2_paths


# ---- functions on parameters of one's own ----


def test_a_functional_product_is_named_after_its_weight() -> None:
    graph = graph_of(Functional(), data(1, 6))
    assert names(graph) == ["x", "w", "u", "v"]
    assert ops(graph) == ["input", "linear", "matmul", "einsum"]
    assert [call.kind for call in graph][1:] == ["linear", "matmul", "einsum"]
    assert sizes(graph) == {"x": 6, "w": 5, "u": 4, "v": 3}


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: F.linear(x, m.w),
        lambda m, x: x @ m.w.T,
        lambda m, x: (m.w @ x.T).T,
        lambda m, x: torch.einsum("ni,oi->no", x, m.w),
        lambda m, x: torch.tensordot(x, m.w, dims=([1], [1])),
        lambda m, x: torch.addmm(x.new_zeros(5), x, m.w.T),
        lambda m, x: F.conv1d(x.unsqueeze(-1), m.w.unsqueeze(-1)).squeeze(-1),
    ],
    ids=["linear", "matmul", "left", "einsum", "tensordot", "addmm", "convolution"],
)
def test_one_product_in_any_way_of_writing_has_the_same_paths_cost_and_depth(run: Callable[..., Any]) -> None:
    measured = algebra.measure(traced(run))
    assert measured.macs == 30
    assert measured.log2_paths == pytest.approx(2.584962500721156)  # log2 6
    assert measured.path_lengths == (0, 1)
    assert (measured.output_units, measured.output_cut, measured.unknown) == (5, 5, 0)


def test_a_weight_that_is_transposed_first_still_names_its_layer() -> None:
    """F.linear(x, w.T, b) would be named after its bias, the only parameter that it reads by itself."""
    model = Functional()
    model.w = nn.Parameter(torch.randn(6, 5))
    graph = graph_of(Wrap(model, lambda m, x: F.linear(x, m.w.T, m.b)), data(1, 6))
    (linear,) = (call for call in graph if call.op == "linear")
    assert linear.name == "inner.w"


# ---- writes in place ----


def test_what_is_written_in_place_is_what_everyone_reads_from_then_on() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = kept = m.layer(x)
        y += 1
        F.relu_(y)
        return kept

    graph = traced(run)
    assert outputs(graph) == ["(root):relu"]
    assert into(graph, "(root):relu") == ["(root):add"]


def test_a_slice_that_is_written_is_a_part_of_its_tensor_and_no_unknown_operation() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = torch.zeros(x.shape[0], 5)
        y[:, 1:3] = m.layer(x)
        return y

    graph = traced(run)
    assert algebra.measure(graph).unknown == 0
    # two of five units have six paths each, the zeros none: log2(12 / 5)
    assert paths(graph) == pytest.approx(1.2630344058337937)


def test_units_that_move_within_a_tensor_keep_one_path_each() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = x * 2
        y[:, 1:3] = y[:, 3:5].clone()
        return y

    assert paths(traced(run)) == pytest.approx(0, abs=1e-12)


def test_a_whole_tensor_that_is_written_through_a_view_keeps_one_path_per_unit() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = x * 2
        F.relu_(y.view(-1))
        return y

    graph = traced(run)
    assert paths(graph) == pytest.approx(0, abs=1e-12)
    assert algebra.measure(graph).layer_paths == 1


def test_a_view_sees_what_is_written_to_its_tensor_later() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = torch.zeros(x.shape[0], 2)
        part = y[:, :1]
        y += m.layer(x)
        return part

    graph = traced(run)
    assert algebra.measure(graph).path_lengths == (0, 1)


@pytest.mark.parametrize(
    "write",
    [
        lambda y, x: y.copy_(x),
        lambda y, x: y.index_put_((torch.arange(x.shape[0]),), x),
        lambda y, x: y.masked_fill_(y > 1, 0.0),
        lambda y, x: y.scatter_(1, torch.zeros(x.shape, dtype=torch.int64), x),
        lambda y, x: y.index_add_(1, torch.arange(6), x),
        lambda y, x: y.clamp_(min=0),
    ],
    ids=["copy", "index_put", "masked_fill", "scatter", "index_add", "clamp"],
)
def test_ordinary_writes_are_in_the_table(write: Callable[..., Any]) -> None:
    graph = traced(lambda m, x: write(x * 2, x))
    assert algebra.measure(graph).unknown_operations == {}


# ---- parts ----


def test_parts_of_a_tensor_are_sized_one_by_one_and_joined_again_have_one_path_each() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        c, d = torch.split(x, [2, 4], 1)
        return torch.cat([b, a, c, d, x[:, 1:3], x[:, 0].unsqueeze(1)], 1)

    graph = traced(run)
    assert call_of(graph, "(root):chunk").elements == (3, 3)
    assert [t.elements for t in call_of(graph, "(root):cat").inputs] == [3, 3, 2, 4, 2, 1]
    assert paths(graph) == pytest.approx(0, abs=1e-12)
    assert algebra.measure(graph).layer_paths == 6


@pytest.mark.parametrize(
    ("run", "log2"),
    [
        (lambda m, x: torch.std_mean(x, 1)[0], 2),
        (lambda m, x: torch.var_mean(x, 1)[1], 2),
        (lambda m, x: x.max(1).values, 2),
        (lambda m, x: x.mean((2, 3)), 6),
        (lambda m, x: F.softmax(x, -1), 3),
        (lambda m, x: F.interpolate(x, scale_factor=2), 0),
        (lambda m, x: F.interpolate(x, size=(5, 7), mode="nearest-exact"), 0),
        (lambda m, x: F.avg_pool2d(x, 2), 2),
        (lambda m, x: F.pixel_shuffle(x, 2), 0),
    ],
)
def test_what_one_unit_depends_on_without_weights(run: Callable[..., Any], log2: int) -> None:
    """Of a map of 4 x 8 x 8, by the definition of each."""
    measured = algebra.measure(traced(run, 1, 4, 8, 8))
    assert measured.log2_paths == pytest.approx(log2, abs=1e-12)
    assert measured.unknown_operations == {}


# ---- the batch ----


def test_a_batch_that_is_folded_into_another_axis_is_found() -> None:
    graph = traced(lambda m, x: m.layer(x.reshape(-1, 6)).reshape(2 * x.shape[0], -1), 1, 7, 6)
    assert call_of(graph, "layer").shape == (14, 2)
    assert sizes(graph)["layer"] == 14
    assert algebra.measure(graph).macs == 7 * 12


def test_attention_that_folds_the_batch_into_its_heads_is_sized_per_sample() -> None:
    attention = nn.MultiheadAttention(8, 2)
    example = {name: data(5, 1, 8) for name in ("query", "key", "value")}
    graph = graph_of(attention, example, batch_axis=1)
    products = [call for call in graph if call.op == "bmm"]
    assert [call.shape for call in products] == [(4, 5, 5), (4, 5, 4)]
    assert [call.size for call in products] == [2 * 5 * 5, 2 * 5 * 4]


def test_a_tensor_that_does_not_grow_with_the_batch_is_counted_whole() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.layer(x) + torch.sin(m.w)[:2, :2].sum(0)

    graph = traced(run)
    assert sizes(graph)["(root):sin" if "(root):sin" in names(graph) else "w"] == 30


@pytest.mark.parametrize("axis", [1, -1])
def test_the_batch_may_be_along_any_axis(axis: int) -> None:
    graph = graph_of(Function(lambda m, x: m.layer(x.T)), data(6, 1), batch_axis=axis)
    assert sizes(graph)["layer"] == 2


def test_a_model_that_multiplies_its_samples_with_each_other_is_said_to_mix_them() -> None:
    (note,) = traced(lambda m, x: x @ x.T).notes
    assert note == "(root):matmul of shape (2, 2) mixes samples: its size is that of 2, divided"


def test_what_has_no_elements_mixes_no_samples() -> None:
    assert traced(lambda m, x: torch.cat([m.layer(x), x[:, :0]], 1)).notes == ()
    bags = nn.EmbeddingBag(10, 4, mode="sum")
    assert graph_of(bags, torch.ones(1, 3, dtype=torch.int64)).notes == ()


def test_a_model_that_subtracts_the_mean_of_its_batch_is_said_to_mix_samples() -> None:
    (note,) = traced(lambda m, x: x - x.mean(0)).notes
    assert "mixes samples" in note


# ---- parametrized weights, wrappers, contexts ----


@pytest.mark.parametrize(
    "change", [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]
)
def test_a_parametrized_layer_is_named_and_priced_as_itself(change: Callable[..., nn.Module]) -> None:
    graph = graph_of(nn.Sequential(change(nn.Linear(6, 4)), nn.ReLU()), data(1, 6))
    call = call_of(graph, "0")
    assert (call.kind, call.op, call.size) == ("Linear", "linear", 4)
    measured = algebra.measure(graph)
    assert measured.calls[list(graph).index(call)].macs == 24  # type: ignore[union-attr]
    assert measured.path_lengths == (0, 1)
    assert measured.unknown == 0


def test_a_pruned_layer_is_named_as_itself_and_not_its_mask() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    prune.random_unstructured(model[0], "weight", 0.5)
    graph = graph_of(model, data(1, 6))
    assert (call_of(graph, "0").op, call_of(graph, "0").kind) == ("linear", "Linear")
    assert [(row.name, row.algebra.macs) for row in measure_structure(model, data(1, 6))] == [
        ("0:mul", 0),
        ("0", 24),
        ("1", 0),
    ]


def test_calls_that_have_a_row_are_numbered_among_themselves() -> None:
    """A module may be called like an input, and attention takes its weight apart into views."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.x(x)

    assert names(graph_of(Named(), data(1, 6))) == ["x", "x"]
    attention = graph_of(
        Wrap(nn.MultiheadAttention(4, 2), lambda m, x: m(x, x[:1], x[:1])), data(3, 2, 4), batch_axis=1
    )
    assert [call.call for call in attention if call.name == "inner.in_proj_weight" and call.op == "linear"] == [0, 1, 2]


def test_wrappers_are_taken_off_and_named() -> None:
    plain = graph_of(Mlp(), data(1, 6))
    for wrapper, name in ((nn.DataParallel, "DataParallel"), (torch.compile, "OptimizedModule")):
        found = trace(wrapper(Mlp()), data(1, 6), function="test")
        assert content(found.graph) == content(plain)
        assert found.graph.parameters == plain.parameters
        assert found.unwrapped == (name,)


def body_and_head(run: Callable[..., Tensor]) -> nn.Module:
    return Wrap(nn.ModuleDict({"body": Mlp(), "head": nn.Linear(4, 2)}), run)


def under(context: Callable[[], Any]) -> Callable[..., Tensor]:
    def run(m: Any, x: Tensor) -> Tensor:
        with context():
            x = m["body"](x)
        return m["head"](x.float())

    return run


@pytest.mark.parametrize(
    "run",
    [
        under(torch.no_grad),
        under(torch.enable_grad),
        under(lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
        under(lambda: torch.autocast("cpu", enabled=False)),
        lambda m, x: m["head"](torch.utils.checkpoint.checkpoint(m["body"], x, use_reentrant=False)),
    ],
    ids=["no_grad", "enable_grad", "autocast", "no autocast", "checkpoint"],
)
def test_a_part_that_runs_under_a_context_is_followed_all_the_same(run: Callable[..., Tensor]) -> None:
    graph = graph_of(body_and_head(run), data(1, 6))
    layers = [name for name, op in zip(names(graph), ops(graph), strict=True) if op == "linear"]
    assert layers == [f"inner.{name}" for name in ("body.fc1", "body.fc2", "body.head", "head")]
    measured = algebra.measure(graph)
    assert (measured.macs, measured.unknown) == (6 * 16 + 16 * 12 + 12 * 4 + 4 * 2, 0)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")])
def test_the_callers_context_changes_nothing(context: Callable[[], Any]) -> None:
    plain = graph_of(ConvNet(), data(1, 2, 8, 8))
    with context():
        assert content(graph_of(ConvNet(), data(1, 2, 8, 8))) == content(plain)


def test_an_operation_with_branches_of_its_own_is_not_named_after_one_of_them() -> None:
    model = Wrap(nn.ModuleList([nn.Linear(6, 4), nn.Linear(6, 4)]), lambda m, x: torch.cond(x.sum() > 0, *m, (x,)))
    graph = graph_of(model, data(1, 6))
    assert algebra.measure(graph).unknown_operations == {"cond": 1}
    assert [call.name for call in graph if call.op == "cond"] == ["(root):cond"]


def test_a_watched_model_is_traced_and_the_watch_sees_none_of_it() -> None:
    model = Mlp()
    plain = graph_of(model, data(1, 6))
    with netassay.watch(model) as watch:
        model(data(40, 6))
        assert content(graph_of(model, data(1, 6))) == content(plain)
        model(data(24, 6))
        report = watch.report()
    assert report["fc1"].saturation.rows == 64
    assert [row.calls for row in report] == [2, 2, 2]
