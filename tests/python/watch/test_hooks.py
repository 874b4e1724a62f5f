"""Hooks that cannot fire, and the user's own beside those of a watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netassay as na
from python.models import Encoder, Mlp, assert_is_state_of, complaints, data, reasons, seeded, tokens
from python.watching import counts, never_observed

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
