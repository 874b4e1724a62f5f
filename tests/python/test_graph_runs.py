"""Following a run: what is refused and how it is said, runs recorded on values, and models left as they were."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netassay.base.errors import DTypeError, ShapeError, UnsupportedLayout
from python.architectures import DataDependent, Residual, SharedModules, TwoInputs, on_meta
from python.graphs import Branching, Cells, content, graph_of, names, ops, outputs
from python.models import ConvNet, Mlp, Recurrent, Wrap, data

DECISION = ("sum", "gt", "ne")  # how a branch on x.sum() > 1e9 looks in a recorded run


class Noisy(nn.Module):
    """Everything that a run can change: dropout and BatchNorm's statistics, a counter, the random generator."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.dropout = nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        x = self.norm(self.layer(x))
        return self.dropout(x) + torch.rand_like(x)


def branching_noise() -> nn.Module:
    return Branching(Noisy())


# ---- recorded runs ----


def test_a_branch_on_values_is_followed_on_the_example_and_said_to_be() -> None:
    positive = graph_of(DataDependent(), torch.ones(1, 6))
    negative = graph_of(DataDependent(), -torch.ones(1, 6))
    assert names(positive)[-1] == "positive"
    assert names(negative)[-1] == "negative"
    assert outputs(negative) == ["negative"]
    assert (negative.tracer, negative.input_specific) == ("recorded run", True)


ATTENTION = {"dim_feedforward": 16, "batch_first": True}


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (Mlp, (1, 6)),
        (ConvNet, (1, 2, 8, 8)),
        (Recurrent, (1, 3, 5)),
        (Cells, (1, 3, 3)),
        (SharedModules, (1, 6)),
        (lambda: nn.TransformerEncoderLayer(8, 2, **ATTENTION), (1, 4, 8)),
    ],
    ids=["mlp", "cnn", "lstm", "cell", "shared", "attention"],
)
def test_a_recorded_run_is_the_exported_one_behind_its_decision(make: Callable[[], nn.Module], shape: Any) -> None:
    plain = graph_of(Wrap(make()), data(*shape))
    recorded = graph_of(Branching(make()), data(*shape))
    assert recorded.tracer == "recorded run"
    assert plain.tracer == "torch.export"

    def kept(graph: Any) -> list[Any]:
        rest = [call for call in graph if call.op not in (*DECISION, "input", "alias", "detach")]
        return [(call.name, call.call, call.kind, call.op, call.elements) for call in rest]

    assert kept(recorded) == kept(plain)
    assert [call.name for call in recorded if call.op == "input"] == ["x"]
    assert recorded.parameters == plain.parameters


def test_a_recorded_run_takes_arguments_by_name_and_beside_numbers() -> None:
    def run(model: nn.Module, *, scale: float, x: Tensor, y: Tensor) -> Tensor:
        return model(x, y) * scale if x.sum() > 0 else model(x, y)

    example = {"scale": 2.0, "y": torch.ones(1, 4), "x": torch.ones(1, 6)}
    graph = graph_of(Wrap(TwoInputs(), run), example)
    assert sorted(call.size for call in graph if call.op == "input") == [4, 6]
    assert outputs(graph) == ["(root):mul"]


def test_two_batches_that_take_different_branches_are_said_to() -> None:
    # two samples of a half sum to 6, three to 9
    model = Wrap(DataDependent(), lambda m, x: m.positive(x) if x.sum() > 7 else m.negative(x).relu())
    graph = graph_of(model, torch.full((1, 6), 0.5))
    assert any("two batches ran different operations" in note for note in graph.notes)
    assert [call.size for call in graph if call.op == "linear"] == [3]


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m(x)[:, torch.tensor([True, False, True, False])],
        lambda m, x: m(x)[x.sum(1) < 1e9],
        lambda m, x: torch.masked_select(m(x), m(x) > 0).sum(),
    ],
    ids=["constant mask", "mask", "masked_select"],
)
def test_a_shape_that_depends_on_values_is_recorded(run: Callable[..., Any]) -> None:
    graph = graph_of(Wrap(nn.Linear(6, 4), run), data(1, 6))
    assert (graph.tracer, graph.input_specific) == ("recorded run", True)
    assert "inner" in [call.name for call in graph]


def test_strict_refuses_a_run_that_depends_on_values() -> None:
    says = r"test: DataDependent takes branches that depend on its input's values.*strict=False measures"
    with pytest.raises(UnsupportedLayout, match=says):
        graph_of(DataDependent(), torch.ones(1, 6), strict=True)
    graph_of(Mlp(), data(1, 6), strict=True)


def test_a_model_without_values_cannot_decide_and_says_so() -> None:
    with pytest.raises(UnsupportedLayout, match=r"test: got DataDependent, which torch\.export cannot follow without"):
        graph_of(on_meta(DataDependent), torch.ones(1, 6))


class Shy(Branching):
    """A model that torch.export cannot follow, and torch.fx can."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            raise RuntimeError("not for export")
        return self.inner(x)


@pytest.mark.parametrize(
    ("make", "shape"), [(SharedModules, (1, 6)), (ConvNet, (1, 2, 8, 8)), (Recurrent, (1, 3, 5)), (Residual, (1, 6))]
)
def test_what_torch_fx_makes_of_a_model_is_followed_under_its_names(make: Callable[[], nn.Module], shape: Any) -> None:
    plain, symbolic = graph_of(Wrap(make()), data(*shape)), graph_of(Shy(make()), data(*shape))
    assert (symbolic.tracer, symbolic.input_specific, symbolic.model) == ("torch.fx", False, "Shy")
    assert content(symbolic)[1:] == content(plain)[1:]  # but for the name of the input
    assert symbolic.parameters == plain.parameters


# ---- what is returned ----


@dataclass
class Answer:
    """What models return that torch has not been told of."""

    logits: Tensor
    rest: Any = None


class Named(OrderedDict[str, Any]):
    pass


@pytest.mark.parametrize(
    "wrap", [lambda m, f: Wrap(m, f), lambda m, f: Branching(Wrap(m, f))], ids=["export", "record"]
)
@pytest.mark.parametrize(
    "answer",
    [
        lambda y, x: [y, (x, {"sum": 1.0})],
        lambda y, x: Answer(y, [x, None]),
        lambda y, x: Named(y=y, rest=Answer(x, object())),
        lambda y, x: (Answer, y, "x", Answer(Answer(x))),
    ],
)
def test_tensors_are_outputs_in_whatever_they_are_returned(wrap: Any, answer: Callable[..., Any]) -> None:
    model = wrap(Mlp(), lambda m, x: answer(m(x), x * 2))
    graph = graph_of(model, data(1, 6))
    assert [graph.calls[place].op for place in graph.outputs] == ["linear", "mul"]
    assert graph.input_specific == isinstance(model, Branching)
    assert not model._forward_hooks


# ---- what is refused ----


@pytest.mark.parametrize(
    ("model", "example", "error", "says"),
    [
        (3, torch.ones(1, 6), TypeError, "test: got int, expected a torch.nn.Module"),
        (Mlp(), 5, TypeError, "test: got an example input without a tensor"),
        (Mlp(), [], TypeError, "test: got an example input without a tensor"),
        (Mlp(), {}, TypeError, "test: got an example input without a tensor"),
        (Mlp(), "1,6", TypeError, "test: got an example input without a tensor"),
        (Mlp(), torch.ones(0, 6), ShapeError, r"example input of shape \(0, 6\), expected a batch along axis 0"),
        (Mlp(), torch.ones(()), ShapeError, r"example input of shape \(\), expected a batch along axis 0"),
        (Mlp(), torch.ones(1, 5), UnsupportedLayout, "Mlp cannot be followed on this input: mat1 and mat2 shapes"),
        (Mlp(), [torch.ones(1, 6)] * 2, UnsupportedLayout, "Mlp cannot be followed on this input: .*positional"),
        (Mlp(), {"z": torch.ones(1, 6)}, UnsupportedLayout, "Mlp cannot be followed on this input: .*'z'"),
    ],
)
def test_a_wrong_call_is_refused_in_words(model: Any, example: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        graph_of(model, example)


@pytest.mark.parametrize("axis", ["0", 0.0, None])
def test_a_batch_axis_that_is_no_integer_is_refused(axis: Any) -> None:
    with pytest.raises(DTypeError, match=f"test: got batch_axis={axis!r}, expected an integer"):
        graph_of(Mlp(), torch.ones(1, 6), batch_axis=axis)


@pytest.mark.parametrize(
    ("example", "got"),
    [
        (torch.ones(1, 6).to_sparse(), "a tensor of layout torch.sparse_coo"),
        (torch.nested.nested_tensor([torch.ones(2, 6)]), "a nested tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_example_that_is_not_strided_is_refused(example: Tensor, got: str) -> None:
    with pytest.raises(UnsupportedLayout, match=f"test: got an example input with {got}, expected strided tensors"):
        graph_of(Mlp(), example)


def test_a_batch_axis_that_the_example_lacks_is_refused_by_name() -> None:
    with pytest.raises(ShapeError, match=r"expected a batch along axis 2 \(batch_axis= says which\)"):
        graph_of(Mlp(), torch.ones(1, 6), batch_axis=2)


def test_the_models_own_words_are_in_the_error() -> None:
    def run(model: nn.Module, x: Tensor) -> Tensor:
        raise ValueError("sixteen channels, please\nnot more")

    with pytest.raises(UnsupportedLayout, match="Wrap cannot be followed on this input: sixteen channels, please") as e:
        graph_of(Wrap(Mlp(), run), data(1, 6))
    assert "\n" not in str(e.value)


def test_a_lazy_module_is_refused_and_stays_lazy() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU())
    with pytest.raises(UnsupportedLayout, match=re.compile("lazy", re.IGNORECASE)):
        graph_of(model, data(1, 6))
    assert type(model[0]) is nn.LazyLinear
    assert model[0].has_uninitialized_params()


@pytest.mark.filterwarnings("ignore")
def test_what_is_packed_in_a_quantised_layer_is_an_unknown_operation() -> None:
    graph = graph_of(torch.ao.quantization.quantize_dynamic(Mlp(), {nn.Linear}), data(1, 6))
    assert ops(graph).count("quantized::linear_dynamic") == 3


def test_a_scripted_model_is_refused_and_left_in_its_mode() -> None:
    model = torch.jit.script(nn.Linear(6, 4)).train()
    with pytest.raises(UnsupportedLayout, match="Script"):
        graph_of(model, data(1, 6))
    assert model.training


# ---- the model, and the process, as they were ----


def state_of(model: nn.Module) -> Any:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return (
        {name: module.training for name, module in model.named_modules()},
        {name: (id(t), t.detach().numpy().tobytes(), t._version, t.requires_grad) for name, t in tensors.items()},
        {name: None if p.grad is None else p.grad.numpy().tobytes() for name, p in model.named_parameters()},
        {
            name: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for name, m in model.named_modules()
        },
        {name: sorted(vars(module)) for name, module in model.named_modules()},
        torch.get_rng_state().numpy().tobytes(),
        torch.is_grad_enabled(),
    )


def without_versions(state: Any) -> Any:
    """Buffers that a recorded run changes are written back, which their counter of writes tells."""
    return (state[0], {name: (i, values, grad) for name, (i, values, _, grad) in state[1].items()}, *state[2:])


@pytest.mark.parametrize("make", [Noisy, branching_noise], ids=["exported", "recorded"])
@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_a_model_is_changed(make: Callable[[], nn.Module], training: bool) -> None:
    model = make().train(training)
    layer = next(module for module in model.modules() if isinstance(module, nn.Linear))
    model.get_submodule("inner.norm" if make is branching_noise else "norm").eval()
    layer.weight.requires_grad_(False)
    layer.bias.grad = torch.ones(4)
    model.register_forward_hook(lambda *_: None)
    before = state_of(model)
    graph = graph_of(model, data(1, 6))
    assert graph.input_specific == (make is branching_noise)
    assert without_versions(state_of(model)) == without_versions(before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", [1, 2])
def test_a_run_that_fails_leaves_all_as_it_was(error: type[BaseException], at: int) -> None:
    model, runs = branching_noise(), []

    def fail(*_: Any) -> None:
        runs.append(None)
        if len(runs) >= at:
            raise error("stop")

    model.get_submodule("inner.dropout").register_forward_hook(fail)
    before = state_of(model)
    level, filters = logging.root.manager.disable, list(warnings.filters)
    with pytest.raises(UnsupportedLayout if error is RuntimeError else error):
        graph_of(model, data(1, 6))
    assert without_versions(state_of(model)) == without_versions(before)
    assert (logging.root.manager.disable, warnings.filters) == (level, filters)


def test_an_interrupt_is_not_swallowed_by_the_way_of_export() -> None:
    def run(model: nn.Module, x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graph_of(Wrap(Mlp(), run), data(1, 6))


@pytest.mark.parametrize("make", [Mlp, DataDependent, branching_noise, lambda: nn.LazyLinear(3)])
def test_tracing_prints_logs_and_warns_nothing(
    make: Callable[[], nn.Module], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = make()
    level = logging.root.manager.disable
    capfd.readouterr()
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            graph_of(model, data(1, 6))
        except UnsupportedLayout:
            assert isinstance(model, nn.LazyLinear)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert logging.root.manager.disable == level


def test_threads_follow_one_after_the_other_and_leave_log_and_standard_error_as_they_were() -> None:
    model, x = Mlp(), data(1, 6)
    before = sys.stderr, logging.root.manager.disable, list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        graphs = list(pool.map(lambda make: graph_of(make(), x), [lambda: model, lambda: model, Mlp, Mlp]))
    assert [content(graph) for graph in graphs[1:]] == [content(graphs[0])] * 3
    assert (sys.stderr, logging.root.manager.disable, warnings.filters) == before


class Counting(nn.Module):
    """A forward that counts its calls and keeps what it has seen, as caches do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.steps, self.cache = nn.Linear(6, 4), 0, None

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        self.cache = self.layer(x)
        return self.cache * 2


@pytest.mark.parametrize("wrap", [Wrap, Branching], ids=["exported", "recorded"])
def test_attributes_that_a_forward_sets_are_put_back(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = Counting()
    graph_of(wrap(model), data(1, 6))
    assert (model.steps, model.cache) == (0, None)


def test_the_same_model_traces_to_the_same_graph_twice_and_runs_as_before() -> None:
    model = ConvNet().eval()
    x = data(2, 2, 8, 8)
    before = model(x)
    first, second = graph_of(model, x), graph_of(model, x)
    assert content(first) == content(second)
    assert ops(first) == ops(second)
    assert torch.equal(model(x), before)


def test_the_example_is_not_changed() -> None:
    x = data(2, 6)
    before = x.clone()
    for model in (Wrap(Mlp(), lambda m, x: m(x.mul_(2))), Branching(Wrap(Mlp(), lambda m, x: m(x.mul_(2))))):
        graph_of(model, x)
        assert torch.equal(x, before)
        assert x._version == 0
