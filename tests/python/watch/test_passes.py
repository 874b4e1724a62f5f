"""Passes that are not passes: checkpointing, autocast, compilation and the like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import netassay as na
from python.models import ConvNet, Mlp, assert_is_state_of, complaints, data, same_states, seeded
from python.watching import counts, never_observed


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
