"""What must never happen while a model is watched, and what happens instead."""

from __future__ import annotations

import copy
import io
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import netassay as na
from netassay.sources.live import recorder
from python.models import (
    ConvNet,
    Encoder,
    Mlp,
    Recurrent,
    Wrap,
    assert_is_state_of,
    complaints,
    data,
    equal,
    one_thread,  # noqa: F401
    reasons,
    recording,
    same_states,
    seeded,
    tokens,
)

F64 = torch.float64


def never_observed(watch: Any) -> str:
    """The message of a watch that saw nothing."""
    with pytest.raises(na.NothingObserved) as error:
        watch.report()
    return str(error.value)


def child(script: str, *arguments: str, timeout: float = 120) -> str:
    """Standard output of a fresh process; it fails where the script does."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# --- numbers ------------------------------------------------------------------------------------------


class Spoil(nn.Module):
    """Puts a value into one unit of one row of what passes."""

    def __init__(self, row: int, value: float) -> None:
        super().__init__()
        self.row, self.value = row, value

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[self.row, 1] = self.value
        return x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_a_row_with_a_nan_leaves_the_state_as_without_it_bit_for_bit(value: float, dtype: torch.dtype) -> None:
    batch = data(20, 6, dtype=dtype)
    bad, good = Spoil(7, value), nn.Identity()
    with na.watch(bad, layers="(root)") as spoiled, na.watch(good, layers="(root)") as clean:
        bad(batch)
        good(batch[torch.arange(20) != 7])
    ours, theirs = spoiled.states["(root)", "train"], clean.states["(root)", "train"]
    assert ours.nonfinite == 1
    assert ours.count == 19
    np.testing.assert_array_equal(ours.scatter, theirs.scatter)
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    row = spoiled.report()["(root)"]
    assert "nonfinite" in row.saturation.flags
    assert any("NaN" in finding.message for finding in spoiled.report().findings)


def test_a_layer_of_nothing_but_nans_keeps_its_row_without_a_value() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with na.watch(model) as watch:
        model(torch.full((10, 4), float("nan")))
    row = watch.report()["0"]
    assert row.saturation.value is None
    assert {"too_few_rows", "nonfinite"} <= set(row.saturation.flags)
    assert watch.states["0", "train"].nonfinite == 10


def test_one_row_keeps_its_place_in_the_report_with_value_none() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with na.watch(model) as watch:
        model(data(1, 4))
    row = watch.report()["0"]
    assert (row.saturation.value, row.effective_dimension.value, row.saturation.samples) == (None, None, 1)
    assert row.saturation.flags == ("too_few_rows",)
    assert "0" in str(watch.report())


def test_few_rows_for_the_width_are_flagged_and_found() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with na.watch(model) as watch:
        model(data(95, 4))
        assert "few_rows" in watch.report()["0"].saturation.flags
        assert any("32 x width" in finding.message for finding in watch.report().findings)
        model(data(1, 4))
        assert "few_rows" not in watch.report()["0"].saturation.flags


def test_an_empty_batch_is_no_row_and_no_fault() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with na.watch(model) as watch:
        model(data(0, 4))
        model(data(5, 4))
    assert {state.count for state in watch.states.values()} == {5}
    assert not watch.report().coverage.skipped


def test_a_constant_layer_is_0_flagged_and_found() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    nn.init.zeros_(model[0].weight)
    with na.watch(model) as watch:
        model(data(100, 4))
    report = watch.report()
    for row in report.layers:
        assert (row.saturation.value, row.saturation.dimension, row.effective_dimension.value) == (
            0.0,
            0,
            1.0,
        )
        assert "constant" in row.saturation.flags
    assert {finding.layer for finding in report.findings if "zero variance" in finding.message} == {"0", "1"}


def test_a_layer_of_width_one_is_measured() -> None:
    model = nn.Sequential(nn.Linear(4, 1))
    with na.watch(model) as watch:
        model(data(100, 4))
    assert watch.report()["0"].saturation.value == 1.0


# --- memory -------------------------------------------------------------------------------------------


def test_a_layer_beyond_the_memory_budget_is_not_measured_and_coverage_says_its_size_and_why() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2000), nn.Linear(2000, 5))
    with na.watch(model, memory=2e6) as watch, torch.no_grad():
        for training in (True, False):
            model.train(training)
            model(data(20, 4))
    report = watch.report()
    assert [row.name for row in report.layers] == ["0", "0", "2", "2"]
    assert report.coverage.measured == 2
    reason = reasons(report)["1"]
    assert "2000" in reason
    assert "memory" in reason
    assert "GB" in reason
    with pytest.raises(KeyError, match="was not measured"):
        report["1"]


def test_the_states_of_a_watch_stay_within_its_budget() -> None:
    budget = 3e6
    model = nn.Sequential(*[nn.Linear(100, 100) for _ in range(60)])
    with na.watch(model, memory=budget) as watch, torch.no_grad():
        for seed in range(3):
            model(data(300, 100, seed=seed))
    report = watch.report()
    assert 0 < report.coverage.measured < 60
    assert report.coverage.measured + len(report.coverage.skipped) == 60
    assert sum(state.nbytes for state in watch.states.values()) <= budget


def test_a_watch_whose_budget_holds_no_layer_observed_nothing_and_says_why() -> None:
    model = nn.Sequential(nn.Linear(4, 300))
    with na.watch(model, memory=1000) as watch:
        model(data(20, 4))
    assert "memory" in never_observed(watch)


# --- outputs of every kind ----------------------------------------------------------------------------


def with_layout(kind: str, x: Tensor) -> Tensor:
    if kind == "transposed":
        return x.t().contiguous().t()
    if kind == "strided":
        return x.repeat_interleave(2, dim=0).repeat_interleave(3, dim=1)[::2, ::3]
    if kind == "expanded":
        return x[:1].expand_as(x)
    if kind == "offset":
        return torch.cat([torch.zeros(x.numel() % 3 + 1, dtype=x.dtype), x.flatten()])[-x.numel() :].view_as(x)
    if kind == "negated view":
        return torch._neg_view(-x)
    return x


@pytest.mark.parametrize("kind", ["contiguous", "transposed", "strided", "expanded", "offset", "negated view"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_any_strides_and_dtype_measure_as_the_contiguous_copy_and_are_not_changed(
    kind: str, dtype: torch.dtype
) -> None:
    x = with_layout(kind, data(30, 6, dtype=dtype))
    assert kind != "negated view" or x.is_neg()
    before = x.clone(memory_format=torch.contiguous_format)
    model = nn.Identity()
    with na.watch(model, layers="(root)") as odd:
        model(x)
    with na.watch(model, layers="(root)") as plain:
        model(before)
    assert equal(odd.states["(root)", "train"], plain.states["(root)", "train"])
    assert torch.equal(x, before)


class Make(nn.Module):
    """Returns what it is told to, beside a layer that is measured."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.odd, self.layer = Wrap(nn.Identity(), lambda _, x: make(x)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x), self.odd(x)


class Marked(torch.Tensor):
    """A tensor subclass of the user's own."""


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "meta": (lambda x: x.to("meta"), "meta"),
    "sparse": (lambda x: x.to_sparse(), "sparse"),
    "sparse rows": (lambda x: x.to_sparse_csr(), "sparse"),
    "subclass": (lambda x: x.as_subclass(Marked), "Marked"),
    "integers": (lambda x: x.long(), "int64"),
    "booleans": (lambda x: x > 0, "bool"),
    "complex": (lambda x: torch.complex(x, x), "complex64"),
    "quantised": (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantised"),
    "nested": (lambda x: torch.nested.nested_tensor([x[:3], x[3:]]), "[Nn]ested"),
    "None": (lambda x: None, "no tensor"),
    "a number": (lambda x: 3.0, "no tensor"),
    "an empty tuple": (lambda x: (), "no tensor"),
    "a scalar": (lambda x: x.sum(), "scalar"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:.*(nested tensors|CSR|quantize|Quantiz|torch.ao):UserWarning")
def test_an_output_that_cannot_be_read_is_left_out_with_its_reason(name: str) -> None:
    make, reason = REFUSED[name]
    model = Make(make)
    with na.watch(model, layers=["layer", "odd"]) as watch:
        for _ in range(5):
            model(data(8, 4))
    report = watch.report()
    assert [row.name for row in report.layers] == ["layer"]
    assert report["layer"].saturation.samples == 40
    assert re.search(reason, reasons(report)["odd"])


def test_a_shard_of_a_distributed_tensor_is_never_taken_for_the_whole() -> None:
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("torch was built without gloo")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        model = Make(lambda x: distribute_tensor(x.detach(), mesh, [Shard(0)]))
        with na.watch(model, layers=["layer", "odd"]) as watch:
            model(data(8, 4))
    finally:
        distributed.destroy_process_group()
    assert "DTensor" in reasons(watch.report())["odd"]


def test_a_model_on_the_meta_device_shows_nothing_and_the_error_says_why() -> None:
    model = Mlp().to("meta")
    with na.watch(model) as watch:
        model(torch.empty(8, 6, device="meta"))
    assert "meta" in never_observed(watch)


def test_fake_tensors_are_left_out() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = Mlp()
        with na.watch(model) as watch:
            model(torch.empty(8, 6))
    assert "FakeTensor" in never_observed(watch)


def test_a_lazy_layer_is_measured_as_the_layer_it_becomes() -> None:
    model = nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyConv1d(3, 1))
    with na.watch(model) as watch:
        model[:2](data(8, 4))
        model[2](data(8, 4, 6))
    report = watch.report()
    assert (report["0"].kind, report["0"].shape, report["0"].saturation.samples) == ("Linear", (5, 4), 8)
    assert (report["2"].kind, report["2"].saturation.samples) == ("Conv1d", 48)
    assert report.coverage.parameters_total == 25 + 15


@dataclass
class Output:
    loss: float
    hidden: Tensor


STRUCTURES: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda x: (x, x + 1),
    "list": lambda x: [x],
    "dict": lambda x: {"hidden": x, "other": None},
    "dataclass": lambda x: Output(0.0, x),
    "None first": lambda x: (None, x),
    "nested": lambda x: {"a": (None, {"b": [x]})},
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_of_a_structure_the_first_tensor_is_measured_and_the_user_gets_the_structure(name: str) -> None:
    model = Make(STRUCTURES[name])
    batch = data(8, 4)
    expected = model(batch)[1]
    with na.watch(model, layers=["layer", "odd"], precision="exact") as watch:
        output = model(batch)[1]
    assert type(output) is type(expected)
    assert_is_state_of(watch.states["odd", "train"], batch.double().numpy())
    assert "layout_guessed" in watch.report()["odd"].saturation.flags


def test_a_layer_whose_width_changes_keeps_its_rows_and_notes_those_left_out() -> None:
    model = nn.Identity()
    with na.watch(model, layers="(root)") as watch:
        model(data(8, 4))
        model(data(8, 5))
        model(data(8, 4, seed=1))
    state = watch.states["(root)", "train"]
    assert (state.count, state.width) == (16, 4)
    assert any("width" in note for note in watch.report().coverage.notes)


# --- names and sharing --------------------------------------------------------------------------------


def test_tied_weights_are_counted_once_by_storage_and_both_layers_are_measured() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.embed(x))

    model = Tied()
    with na.watch(model) as watch:
        model(tokens(4, 5))
    report = watch.report()
    assert [row.name for row in report.layers] == ["embed", "out"]
    assert report.coverage.parameters_total == report.coverage.parameters_measured == 66


def test_a_module_with_two_names_is_one_layer_and_its_alias_is_listed() -> None:
    class Aliased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    model = Aliased()
    for layers in ("*", "second", ["first", "second"]):
        with na.watch(model, layers=layers) as watch:
            model(data(10, 4))
        report = watch.report()
        assert [row.name for row in report.layers] == ["first"]
        assert report["first"].saturation.samples == 20
        assert "several_calls" in report["first"].saturation.flags
        assert dict(report.coverage.aliases) == {"first": ("second",)}
        with pytest.raises(KeyError, match="same as 'first'"):
            report["second"]
        assert report.coverage.parameters_total == 20


def test_two_watches_on_one_model_are_independent() -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as alone:
        model(data(10, 6))
        model(data(10, 6, seed=1))
    with na.watch(model) as outer, na.watch(model, layers="fc1") as inner:
        model(data(10, 6))
        inner.pause()
        model(data(10, 6, seed=1))
    assert same_states(alone, outer)
    assert inner.states["fc1", "eval"].count == 10


def test_a_watch_on_a_part_and_one_on_the_whole_have_each_their_passes() -> None:
    model = nn.Sequential(seeded(Mlp), nn.Linear(4, 2))
    with na.watch(model) as whole, na.watch(model[0]) as part:
        model(data(10, 6))
        model[0](data(5, 6))
    assert part.states["fc1", "train"].count == 15
    assert whole.states["0.fc1", "train"].count == 15
    assert whole.states["1", "train"].count == 10


def test_a_root_that_calls_itself_shows_every_row_once() -> None:
    class Recursive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor, depth: int = 2) -> Tensor:
            x = self.before(x)
            if depth:
                x = self(x, depth - 1)
            return self.after(x)

    model = Recursive()
    with recording(model) as seen, na.watch(model, precision="exact") as watch:
        model(data(10, 4))
    for key, state in watch.states.items():
        assert_is_state_of(state, np.concatenate(seen[key]))


# --- hooks that cannot fire ---------------------------------------------------------------------------


class Unseen(nn.Module):
    """Layers used in ways that call no hook, beside one that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.functional, self.direct, self.idle, self.called = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.linear(x, self.functional.weight, self.functional.bias)
        return self.called(self.direct.forward(x))


def test_layers_whose_hooks_cannot_fire_are_never_observed_in_coverage() -> None:
    model = Unseen()
    with na.watch(model) as watch:
        model(data(10, 4))
    report = watch.report()
    assert [row.name for row in report.layers] == ["called"]
    assert set(reasons(report)) == {"functional", "direct", "idle"}
    for reason in reasons(report).values():
        assert "never observed" in reason
        assert "F.linear" in reason
        assert "forward()" in reason


def test_when_nothing_was_observed_the_error_names_why() -> None:
    model = Unseen()
    with na.watch(model, layers=["functional", "direct"]) as watch:
        model(data(10, 4))
        message = never_observed(watch)
    assert "1 pass" in message
    assert "F.linear" in message


def test_calling_the_roots_forward_itself_still_shows_its_layers() -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch:
        model.forward(data(10, 6))
    assert watch.states["fc1", "eval"].count == 10


def test_attention_layers_in_eval_are_observed_and_the_report_says_what_that_does_to_their_fast_path() -> None:
    model = seeded(Encoder).eval()
    batch = tokens(4, 6)
    with torch.no_grad():
        expected = model(batch)
        with na.watch(model) as watch:
            output = model(batch)
    report = watch.report()
    names = ["self_attn", "linear1", "linear2"]
    expected_names = ["embed", *(f"encoder.layers.{i}.{name}" for i in (0, 1) for name in names), "out"]
    assert [row.name for row in report.layers] == expected_names
    assert not report.coverage.skipped
    assert any("fast path" in note for note in report.coverage.notes)
    # The two paths differ by float32 rounding: sums of 8 to 16 terms of size 1.
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(model(batch), expected)


def test_a_compiled_model_runs_as_before_and_the_report_says_that_it_was_not_observed() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh())).eval()
    batch = data(10, 4)
    expected = model(batch)
    with na.watch(model) as before:
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert torch.equal(compiled(batch), expected)
        with na.watch(compiled) as after:
            assert torch.equal(compiled(batch), expected)
    assert "compile" in never_observed(before)
    assert "compile" in never_observed(after)


# --- passes that are not passes -----------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_root_is_one_pass_and_its_rows_are_counted_once(reentrant: bool) -> None:
    def run(checkpointed: bool) -> Any:
        model = seeded(lambda: Mlp(dropout=0.5))
        torch.manual_seed(0)
        with na.watch(model, every=2) as watch:
            for seed in range(5):
                batch = data(10, 6, seed=seed).requires_grad_()
                out = checkpoint(model, batch, use_reentrant=reentrant) if checkpointed else model(batch)
                out.square().sum().backward()
        return watch

    plain, checkpointed = run(False), run(True)
    assert same_states(plain, checkpointed)
    assert {state.count for state in checkpointed.states.values()} == {30}


@pytest.mark.parametrize("positions", ["all", "mean"])
def test_statistics_of_autocast_outputs_are_computed_outside_it(positions: str) -> None:
    model = seeded(ConvNet)
    outputs: dict[str, Tensor] = {}
    for name in ("conv1", "fc"):
        getattr(model, name).register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out.detach()}))
    with (
        na.watch(model, positions=positions, precision="exact") as watch,
        torch.autocast("cpu", torch.bfloat16),
    ):
        model(data(16, 2, 8, 8))
    assert outputs["fc"].dtype == outputs["conv1"].dtype == torch.bfloat16
    assert_is_state_of(watch.states["fc", "train"], outputs["fc"].double().numpy())
    maps = outputs["conv1"].double()
    rows = maps.mean((2, 3)) if positions == "mean" else maps.movedim(1, -1).reshape(-1, 6)
    # A spatial mean is formed in float32.
    assert_is_state_of(watch.states["conv1", "train"], rows.numpy(), 1e-6 if positions == "mean" else 1e-10)


def counts(watch: Any) -> set[int]:
    return {state.count for state in watch.states.values()}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_tracing_exporting_and_function_transforms_give_what_they_gave_and_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = seeded(lambda: Mlp(dropout=0.0)).eval()
    batch = data(10, 6)
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    uses: dict[str, Callable[[], Any]] = {
        # With check_trace torch runs the model once more, untraced: a pass as any other.
        "jit.trace": lambda: torch.jit.trace(model, batch, check_trace=False)(batch),
        "export": lambda: torch.export.export(model, (batch,), strict=False).module()(batch),
        "fx": lambda: len(torch.fx.symbolic_trace(model).graph.nodes),
        "vmap": lambda: torch.func.vmap(model)(batch),
        "grad": lambda: torch.func.grad(loss)(parameters, batch),
        "vmap of grad": lambda: torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, batch),
        "jvp": lambda: torch.func.jvp(model, (batch,), (batch,)),
        "jacrev": lambda: torch.func.jacrev(model)(batch[:2]),
        "functionalize": lambda: torch.func.functionalize(model)(batch),
    }
    for name, use in uses.items():
        expected = use()
        with na.watch(model) as watch:
            model(batch)
            output = use()
            assert counts(watch) == {10}, name
            torch.testing.assert_close(output, expected, rtol=0, atol=0, msg=name)
            model(batch)
            assert counts(watch) == {20}, name
            assert not complaints(caplog), name


def test_what_function_transforms_hide_is_said_in_coverage() -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch:
        torch.func.vmap(model)(data(10, 6))
        assert "vmap" in never_observed(watch)
        model(data(10, 6))
    assert any("vmap" in note for note in watch.report().coverage.notes)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_scripting_a_watched_model_says_to_pause_the_watch_and_works_when_it_is_paused() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU())).eval()
    batch = data(10, 6)
    with na.watch(model) as watch:
        model(batch)
        with pytest.raises(RuntimeError, match=r"pause\(\)"):
            torch.jit.script(model)
        watch.pause()
        scripted = torch.jit.script(model)
        watch.resume()
        assert torch.equal(scripted(batch), model(batch))
    assert counts(watch) == {20}


# --- copies -------------------------------------------------------------------------------------------


def hooks(model: nn.Module) -> list[Any]:
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    return [hook for module in model.modules() for kind in kinds for hook in getattr(module, kind).values()]


@pytest.mark.parametrize("make", [Mlp, ConvNet, Encoder, Recurrent])
def test_copies_of_a_watched_model_carry_no_live_hook_and_compute_the_same(
    make: Callable[[], nn.Module],
) -> None:
    model = seeded(make).eval()
    batch = {Mlp: data(3, 6), ConvNet: data(3, 2, 8, 8), Encoder: tokens(3, 4), Recurrent: data(3, 4, 5)}[make]
    buffer = io.BytesIO()
    with na.watch(model) as watch:
        expected = model(batch)
        before = counts(watch)
        torch.save(model, buffer)
        buffer.seek(0)
        copies = [
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
            torch.load(buffer, weights_only=False),
            copy.deepcopy(copy.deepcopy(model)),
        ]
        for other in copies:
            torch.testing.assert_close(other(batch), expected, rtol=1e-4, atol=1e-5)
            other.train()(batch)
            assert not any(type(hook).__module__.startswith("netassay") for hook in hooks(other))
        assert counts(watch) == before
        model(batch)
        assert counts(watch) != before


def test_a_copy_of_a_watched_model_can_be_watched_and_copied_in_its_turn() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU())).eval()
    with na.watch(model):
        other = copy.deepcopy(model)
    with na.watch(other) as watch:
        other(data(10, 6))
        pickle.loads(pickle.dumps(other))(data(10, 6))
    assert counts(watch) == {10}


def test_a_model_saved_while_watched_loads_where_netassay_is_not_installed(tmp_path: Path) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)))
    batch = data(10, 6)
    with na.watch(model, layers=["*", "(root)"]):
        torch.save(model, tmp_path / "model.pt")
        (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
        torch.save(model(batch), tmp_path / "expected.pt")
    torch.save(batch, tmp_path / "batch.pt")
    script = """
import pickle, sys
from pathlib import Path
sys.modules["netassay"] = None  # importing it raises ImportError
import torch
folder = Path(sys.argv[1])
batch, expected = torch.load(folder / "batch.pt"), torch.load(folder / "expected.pt")
for model in (
    torch.load(folder / "model.pt", weights_only=False),
    pickle.loads((folder / "model.pickle").read_bytes()),
):
    assert torch.equal(model(batch), expected)
    model.train()(batch).sum().backward()
assert sys.modules["netassay"] is None and not [name for name in sys.modules if name.startswith("netassay.")]
print("loaded")
"""
    assert child(script, str(tmp_path)).split() == ["loaded"]


# --- failures and interruptions -----------------------------------------------------------------------


class Fails(nn.Module):
    """Two layers; between them it raises what it is told to, once."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.error: BaseException | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.second(x)


class Stop(BaseException):
    """Not an Exception: torch calls no hook when it passes."""


ERRORS = [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), Stop(), MemoryError(), StopIteration()]


@pytest.mark.parametrize("options", [{}, {"max_rows": 5}, {"every": 1, "precision": "exact"}], ids=str)
@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_pass_that_raises_leaves_nothing_behind_and_the_next_is_fine(
    error: BaseException, options: dict[str, Any]
) -> None:
    def run(fail: bool) -> Any:
        model = seeded(Fails)
        with na.watch(model, **options) as watch:
            model(data(10, 4))
            if fail:
                model.error = error
                with pytest.raises(type(error)) as raised:
                    model(data(10, 4, seed=1))
                assert raised.value is error
                assert counts(watch) == {min(10, options.get("max_rows", 10))}
                assert watch.report()["first"].saturation.samples == watch.report()["second"].saturation.samples
            model(data(10, 4, seed=2))
        return watch

    failed, never_failed = run(True), run(False)
    assert same_states(failed, never_failed)
    ours, theirs = failed.report(), never_failed.report()
    assert ours.to_dict(volatile=False) == theirs.to_dict(volatile=False)


def test_a_pass_inside_an_except_block_counts() -> None:
    model = seeded(Fails)
    with na.watch(model) as watch:
        model.error = ValueError("mine")
        try:
            model(data(10, 4))
        except ValueError:
            model(data(7, 4))
            try:
                raise KeyError
            except KeyError:
                model(data(2, 4))
    assert counts(watch) == {9}


def test_a_pass_that_handles_its_own_exception_counts() -> None:
    class Handles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Fails()

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.inner(x)
            except ValueError:
                return x

    model = Handles()
    model.inner.error = ValueError("mine")
    with na.watch(model) as watch:
        model(data(10, 4))
        model(data(10, 4))
    assert watch.states["inner.first", "train"].count == 20
    assert watch.states["inner.second", "train"].count == 10


def test_an_interrupted_pass_is_not_in_a_file_saved_before_the_next_one(tmp_path: Path) -> None:
    model = seeded(Fails)
    with na.watch(model) as watch:
        model(data(10, 4))
        watch.save(tmp_path / "before")
        model.error = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            model(data(10, 4, seed=1))
        watch.save(tmp_path / "after")
        model(data(10, 4))
    for name in ("before", "after"):
        with na.watch(model) as restored:
            restored.restore(tmp_path / name)
        assert counts(restored) == {10}
    assert counts(watch) == {20}


def test_ctrl_c_inside_the_watch_reaches_the_user_and_leaves_the_state_as_before_the_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch, na.watch(model) as control:
        model(data(10, 6))
        before = {key: state.copy() for key, state in watch.states.items()}
        control.pause()
        for place, name, fatal in ((na.Moments, "update", 1), (recorder, "merge_all", 0)):
            calls = iter(range(100))
            original = getattr(place, name)

            def interrupted(
                *args: Any, _f: Any = original, _n: Any = calls, _fatal: int = fatal, **kwargs: Any
            ) -> None:
                if next(_n) == _fatal:
                    raise KeyboardInterrupt
                _f(*args, **kwargs)

            monkeypatch.setattr(place, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                model(data(10, 6, seed=1))
            monkeypatch.undo()
            assert all(equal(before[key], state) for key, state in watch.states.items()), name
        control.resume()
        model(data(10, 6, seed=2))
    assert same_states(watch, control)


# --- the user's own hooks -----------------------------------------------------------------------------


def test_an_output_that_the_users_hook_replaced_is_measured_as_the_next_layer_gets_it() -> None:
    model = nn.Sequential(seeded(lambda: nn.Linear(4, 3)), nn.Linear(3, 2))
    model[0].register_forward_hook(lambda _m, _i, out: 2 * out + 1)
    batch = data(10, 4)
    expected = model(batch)
    with na.watch(model, precision="exact") as watch:
        assert torch.equal(model(batch), expected)
        rows = model[0](batch)
    assert_is_state_of(watch.states["0", "train"], torch.cat([rows, rows]).detach().double().numpy())


@pytest.mark.filterwarnings("ignore:Full backward hook:UserWarning")
def test_the_users_own_hooks_of_every_kind_see_the_same_with_and_without_a_watch() -> None:
    def run(watched: bool) -> list[Any]:
        model = seeded(lambda: Mlp(dropout=0.0))
        seen: list[Any] = []
        model.fc1.register_forward_pre_hook(lambda _m, args: (args[0] * 2,))
        model.fc1.register_forward_hook(lambda _m, _i, out: seen.append(out.detach().clone()))
        model.fc2.register_full_backward_hook(lambda _m, gin, gout: seen.extend(g.clone() for g in (*gin, *gout)))
        model.fc2.register_full_backward_pre_hook(lambda _m, gout: seen.extend(g.clone() for g in gout))
        model.register_forward_hook(lambda _m, _a, _k, out: seen.append(out.detach()), with_kwargs=True)
        watch = na.watch(model) if watched else None
        model.head.register_forward_hook(lambda _m, _i, out: out.clamp(min=0))
        for seed in range(3):
            loss = model(data(10, 6, seed=seed)).square().sum()
            loss.backward()
            seen.append(loss.detach())
        seen.extend(p.grad.clone() for p in model.parameters())
        if watch is not None:
            watch.close()
            assert counts(watch) == {30}
        return seen

    plain, watched = run(False), run(True)
    assert len(plain) == len(watched)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_a_mask_that_fails_or_is_no_mask_does_not_reach_the_training_and_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = nn.Sequential(nn.Linear(4, 3))

    def broken(x: Tensor) -> Tensor:
        raise ZeroDivisionError("mine")

    masks: list[tuple[Callable[..., Any], str]] = [
        (broken, "mine"),
        (lambda x: 3, "mask: got"),
        (lambda x: x > 0, "mask: got"),
        (lambda: None, "argument"),
    ]
    for mask, why in masks:
        with na.watch(model, mask=mask) as watch:
            for _ in range(5):
                model(data(2, 5, 4))
        assert why in never_observed(watch)
    assert len(complaints(caplog)) == len(masks)


def test_a_layer_called_outside_a_pass_of_the_root_under_a_mask_is_flagged_as_unmasked() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with na.watch(model, mask=lambda x: torch.ones(2, 5, dtype=torch.bool)) as watch:
        model[0](data(2, 5, 4))
    assert "unmasked" in watch.report()["0"].saturation.flags


# --- threads and processes ----------------------------------------------------------------------------


def test_two_threads_running_the_model_at_once_give_the_rows_of_both(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = seeded(Mlp).eval()
    batches = [data(20, 6, seed=seed) for seed in range(40)]
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    def work(part: list[Tensor]) -> None:
        try:
            barrier.wait(30)
            for batch in part:
                model(batch)
        except BaseException as error:
            failures.append(error)

    with recording(model) as seen, torch.no_grad():
        for batch in batches:
            model(batch)
    with na.watch(model, precision="exact") as watch:
        threads = [threading.Thread(target=work, args=(batches[i::2],)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not failures
    assert not complaints(caplog)
    for key, state in watch.states.items():
        assert_is_state_of(state, np.concatenate(seen[key]))


def test_a_failure_in_one_thread_drops_that_threads_pass_alone() -> None:
    model = seeded(Fails)
    inside, go = threading.Event(), threading.Event()

    def stall(_m: nn.Module, _i: Any, out: Tensor) -> None:
        if threading.current_thread() is worker:
            inside.set()
            assert go.wait(30)
            raise ValueError("mine")

    def work() -> None:
        with pytest.raises(ValueError, match="mine"):
            model(data(10, 4))

    worker = threading.Thread(target=work)
    with na.watch(model) as watch:
        model.first.register_forward_hook(stall)
        worker.start()
        assert inside.wait(30)
        model(data(7, 4))
        go.set()
        worker.join(30)
        assert not worker.is_alive()
    assert counts(watch) == {7}


FORK = """
import faulthandler, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
import netassay as na

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))

class Through(Dataset):
    "Items that have gone through the watched model inside the worker."
    def __len__(self):
        return 64
    def __getitem__(self, i):
        with torch.no_grad():
            return model(torch.full((600, 64), float(i))).mean(0)

if __name__ == "__main__":
    with na.watch(model) as watch:
        model(torch.randn(5000, 64))  # the parent's threads are up
        faulthandler.dump_traceback_later(8, exit=True)
        for batch in DataLoader(Through(), batch_size=8, num_workers=2, multiprocessing_context="fork"):
            model(batch)
        faulthandler.cancel_dump_traceback_later()
        print({state.count for state in watch.states.values()}, watch.report().coverage.measured)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_data_loader_workers_forked_while_a_model_is_watched_neither_hang_nor_add_rows(
    tmp_path: Path,
) -> None:
    script = tmp_path / "fork.py"
    script.write_text(FORK)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[-2] == "{5064} 2"


# --- resuming -----------------------------------------------------------------------------------------


def passes(model: nn.Module, seeds: range) -> None:
    for seed in seeds:
        model.train(seed % 3 != 0)
        torch.manual_seed(seed)
        model(data(5 + seed % 4, 2, 8, 8, seed=seed))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"precision": "exact", "every": 2},
    {"max_rows": 11, "seed": 3},
    {"positions": "flatten", "layers": ["conv*", "bn1"]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_resumed_watch_equals_the_uninterrupted_one_bit_for_bit(options: dict[str, Any], tmp_path: Path) -> None:
    model = seeded(ConvNet)
    with na.watch(model, **options) as whole:
        passes(model, range(10))
    model = seeded(ConvNet)
    with na.watch(model, **options) as half:
        passes(model, range(4))
        half.save(tmp_path / "state")
        assert same_states(half, half)
    with na.watch(model, **options) as rest:
        rest.restore(tmp_path / "state")
        assert same_states(half, rest)
        assert rest.report().to_dict(volatile=False) == half.report().to_dict(volatile=False)
        passes(model, range(4, 10))
    assert same_states(whole, rest)
    assert rest.report().to_dict(volatile=False) == whole.report().to_dict(volatile=False)


def test_restoring_replaces_what_the_watch_had_seen(tmp_path: Path) -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch:
        model(data(10, 6))
        watch.save(tmp_path / "state")
        kept = {key: state.copy() for key, state in watch.states.items()}
        model(data(9, 6, seed=1))
        watch.restore(tmp_path / "state")
        assert all(equal(kept[key], state) for key, state in watch.states.items())


CHANGES: dict[str, dict[str, Any]] = {
    "layers": {"layers": "fc*"},
    "positions": {"positions": "mean"},
    "max_rows": {"max_rows": 4},
    "every": {"every": 2},
    "precision": {"precision": "exact"},
    "seed": {"seed": 1},
    "mask": {"mask": lambda x: x},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_configuration_is_refused_by_name_and_nothing_changes(name: str, tmp_path: Path) -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch:
        model(data(10, 6))
        watch.save(tmp_path / "state")
    with na.watch(model, **CHANGES[name]) as other:
        with pytest.raises(na.StateError, match=name):
            other.restore(tmp_path / "state")
        assert not other.states


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    for make, other in ((lambda: nn.Linear(4, 3), lambda: nn.Linear(5, 3)), (Mlp, ConvNet)):
        with na.watch(make()) as watch:
            watch.save(tmp_path / "state")
        with na.watch(other()) as another, pytest.raises(na.StateError, match="model"):
            another.restore(tmp_path / "state")


def test_a_file_that_is_no_watchs_state_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch:
        model(data(10, 6))
        kept = {key: state.copy() for key, state in watch.states.items()}
        watch.save(tmp_path / "whole")
        content = (tmp_path / "whole").read_bytes()
        (tmp_path / "cut").write_bytes(content[:-8])
        (tmp_path / "flipped").write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])
        (tmp_path / "text").write_text("not a state")
        watch.states["fc1", "eval"].save(tmp_path / "moments")
        for name in ("cut", "flipped", "text", "moments"):
            with pytest.raises(na.StateError, match=name):
                watch.restore(tmp_path / name)
        with pytest.raises(FileNotFoundError):
            watch.restore(tmp_path / "missing")
        assert all(equal(kept[key], state) for key, state in watch.states.items())
