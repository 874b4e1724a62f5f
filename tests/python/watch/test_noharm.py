"""A watch changes nothing of a training: same losses, parameters and random numbers, bit for bit."""

from __future__ import annotations

import gc
import logging
import warnings
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netassay as na
from python.models import (
    ConvNet,
    Encoder,
    Mlp,
    Recurrent,
    assert_is_state_of,
    complaints,
    data,
    recording,
    seeded,
    tokens,
)
from python.trainings import ALL, INVASIVE, STEPS, TRAININGS, assert_same_training, plain, train

# --- bitwise equal training ---------------------------------------------------------------------------


@pytest.mark.parametrize("training", TRAININGS)
def test_100_steps_of_training_are_bitwise_the_same_with_and_without_a_watch(
    training: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert_same_training(plain(training, STEPS), train(training, {}))
    assert not complaints(caplog)


@pytest.mark.parametrize("training", TRAININGS)
def test_100_steps_of_training_are_bitwise_the_same_with_all_measures(
    training: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert_same_training(plain(training, STEPS), train(training, ALL))
    assert not complaints(caplog)
    assert torch.overrides._get_current_function_mode_stack() == []


@pytest.mark.parametrize("training", TRAININGS)
def test_training_is_bitwise_the_same_with_every_module_watched_and_rows_sampled(
    training: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert_same_training(plain(training, 20), train(training, INVASIVE, steps=20))
    assert not complaints(caplog)


def test_training_is_bitwise_the_same_with_several_threads() -> None:
    torch.set_num_threads(2)
    assert_same_training(train("MLP with dropout", None, steps=20), train("MLP with dropout", {}, steps=20))


def test_the_comparison_notices_a_watch_that_draws_one_random_number(monkeypatch: pytest.MonkeyPatch) -> None:
    original = na.Moments.update

    def drawing(self: na.Moments, *args: Any, **kwargs: Any) -> None:
        torch.rand(1)
        original(self, *args, **kwargs)

    monkeypatch.setattr(na.Moments, "update", drawing)
    with pytest.raises(AssertionError):
        assert_same_training(plain("MLP with dropout", 3), train("MLP with dropout", {}, steps=3))


def test_evaluation_between_training_steps_is_bitwise_the_same() -> None:
    def run(watched: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = seeded(ConvNet)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        watch = na.watch(model) if watched else None
        outputs = []
        for step in range(20):
            model.train()
            optimizer.zero_grad()
            model(data(4, 2, 8, 8, seed=step)).square().mean().backward()
            optimizer.step()
            model.eval()
            with torch.inference_mode():
                outputs.append(model(data(4, 2, 8, 8, seed=-1 - step)).clone())
        if watch is not None:
            assert {mode for _, mode in watch.states} == {"train", "eval"}
        return outputs

    assert all(torch.equal(a, b) for a, b in zip(run(False), run(True), strict=True))


def test_what_a_later_in_place_operation_writes_is_not_what_was_measured() -> None:
    model = nn.Sequential(seeded(lambda: nn.Linear(6, 5)), nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True))
    with recording(model) as seen, na.watch(model, precision="exact") as watch:
        for seed in range(3):
            model(data(10, 6, seed=seed))
    rows = np.concatenate(seen["0", "train"])
    assert rows.min() < 0
    assert_is_state_of(watch.states["0", "train"], rows)


# --- nothing kept, nothing changed --------------------------------------------------------------------


def test_no_output_and_no_graph_is_kept_alive() -> None:
    class Saved:
        """What the graph keeps for backward."""

        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor.detach()  # the tensor itself would make a cycle through the graph
            seen.append(weakref.ref(self))

    model = seeded(ConvNet)
    seen: list[weakref.ref[Any]] = []
    for layer in model.modules():
        layer.register_forward_hook(lambda _m, args, out: seen.extend(weakref.ref(t) for t in (*args, out)))
    with na.watch(model, layers=nn.Module, max_rows=3) as watch:
        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            output = model(data(4, 2, 8, 8).requires_grad_())
        gc.collect()
        assert {type(kept()) for kept in seen} >= {Saved, Tensor}
        del output
        gc.collect()
        assert all(gone() is None for gone in seen)
        assert watch.states


def test_the_model_does_not_keep_a_closed_watch_alive_nor_a_dropped_watch_the_model() -> None:
    model = seeded(Mlp)
    watch = na.watch(model)
    model(data(4, 6))
    watch.close()
    dead = weakref.ref(watch)
    del watch
    gc.collect()
    assert dead() is None
    watch = na.watch(model)
    dead_model = weakref.ref(model)
    watch.close()
    del model, watch
    gc.collect()
    assert dead_model() is None


def test_outputs_are_the_same_objects_with_no_version_counted() -> None:
    model = seeded(ConvNet)
    made: list[Tensor] = []
    versions: list[int] = []
    layer = model.conv1
    layer.register_forward_hook(lambda _m, _i, out: made.append(out))
    with na.watch(model, layers=["*", "conv1"], positions="mean"):
        layer.register_forward_hook(lambda _m, _i, out: versions.append(out._version) or made.append(out))
        model(data(4, 2, 8, 8))
    assert made[0] is made[1]
    assert versions == [0]


def test_torchs_own_settings_are_untouched() -> None:
    def settings() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_dtype(),
            torch.backends.cuda.matmul.allow_tf32,
            torch.are_deterministic_algorithms_enabled(),
            torch.get_rng_state().tolist(),
            len(torch.overrides._get_current_function_mode_stack()),
            logging.root.handlers[:],
            warnings.filters[:],
        )

    model = seeded(ConvNet)
    before = settings()
    with na.watch(model, max_rows=3, **ALL) as watch, torch.no_grad():
        model(data(4, 2, 8, 8))
        watch.report()
    assert settings() == before


def test_a_pass_under_warnings_as_errors_raises_none_and_has_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    models: list[tuple[nn.Module, Any]] = [
        (seeded(ConvNet), data(4, 2, 8, 8)),
        (seeded(Encoder), tokens(3, 5)),
        (seeded(Recurrent), data(3, 4, 5)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model, batch in models:
            for options in ({}, INVASIVE, ALL):
                with na.watch(model, **options) as watch:
                    model(batch)
                    model.to(torch.bfloat16)(batch.bfloat16() if batch.is_floating_point() else batch)
                    model.to(torch.float32)
                watch.report()
    assert not complaints(caplog)
