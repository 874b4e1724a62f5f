"""A watch changes nothing of a training: same losses, parameters and random numbers, bit for bit.

Whatever fails inside it. And what it accumulates by torch operations on a device is what it does on the CPU.
"""

from __future__ import annotations

import functools
import gc
import logging
import random
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import netassay as na
from netassay.sources.live.device import DeviceMoments
from python.models import (
    EXACT,
    HIGH,
    ConvNet,
    Encoder,
    Mlp,
    Recurrent,
    Wrap,
    assert_is_state_of,
    complaints,
    data,
    one_thread,  # noqa: F401
    reasons,
    recording,
    same_states,
    seeded,
    tokens,
)
from reference import saturation as reference

F64 = torch.float64
STEPS = 100


# --- bitwise equal training ---------------------------------------------------------------------------


class Checkpointed(nn.Module):
    """The MLP with its inside recomputed in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = Mlp(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.inner, x, use_reentrant=False))


TRAININGS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor], bool]] = {
    "MLP with dropout": (Mlp, lambda step: data(8, 6, seed=step), False),
    "convolutions, BatchNorm, in-place ReLU": (ConvNet, lambda step: data(4, 2, 8, 8, seed=step), False),
    "transformer encoder": (Encoder, lambda step: tokens(3, 5, seed=step), False),
    "LSTM": (Recurrent, lambda step: data(3, 6, 5, seed=step), False),
    "MLP, autocast to bfloat16": (Mlp, lambda step: data(8, 6, seed=step), True),
    "convolutions, autocast to bfloat16": (ConvNet, lambda step: data(4, 2, 8, 8, seed=step), True),
    "activation checkpointing": (Checkpointed, lambda step: data(8, 6, seed=step), False),
}
INVASIVE: dict[str, Any] = {"layers": nn.Module, "max_rows": 3, "positions": "mean", "every": 2}
ALL: dict[str, Any] = {"measures": ("saturation", "complexity", "network"), "thresholds": {"tanh": 0.0}}


def train(training: str, options: dict[str, Any] | None, steps: int = STEPS) -> tuple[list[Tensor], Any]:
    """Losses, final parameters and buffers, and the generators' states; options None: without a watch."""
    make, inputs, autocast = TRAININGS[training]
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    model = seeded(make).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    watch = None if options is None else na.watch(model, **options)
    losses = []
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(inputs(step)).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if watch is not None and step == steps // 2:
            watch.report()
    if watch is not None:
        assert watch.report().coverage.measured > 0
        watch.close()
    numbers = (random.getstate(), np.random.get_state()[1].tolist())
    return [*losses, *model.state_dict().values(), torch.get_rng_state()], numbers


def assert_same_training(a: tuple[list[Tensor], Any], b: tuple[list[Tensor], Any]) -> None:
    assert len(a[0]) == len(b[0])
    assert all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True))
    assert a[1] == b[1]


@functools.cache
def plain(training: str, steps: int) -> tuple[list[Tensor], Any]:
    return train(training, None, steps)


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


# --- injected faults ----------------------------------------------------------------------------------


class Unprintable(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


FAULTS: tuple[Callable[[], Exception], ...] = (
    lambda: RuntimeError("injected"),
    lambda: ValueError("injected"),
    lambda: MemoryError(),
    lambda: ZeroDivisionError("injected\nwith %s {braces}"),
    lambda: RecursionError(),
    lambda: StopIteration(),
    lambda: UserWarning("injected"),
    lambda: na.NonFinite("injected"),
    lambda: torch.OutOfMemoryError("injected"),
    lambda: OSError(28, "No space left on device"),
)


def faults(every: Callable[[int], Exception]) -> tuple[Callable[..., None], list[int]]:
    """A function that always raises, and a list whose only element counts how often."""
    count = [0]

    def fail(*args: Any, **kwargs: Any) -> None:
        count[0] += 1
        raise every(count[0])

    return fail, count


def test_of_10000_injected_faults_none_escapes_each_is_logged_once_and_the_training_is_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def run(watches: int, watched: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = seeded(lambda: nn.Sequential(*[layer for _ in range(50) for layer in (nn.Linear(4, 4), nn.Tanh())]))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        for _ in range(watches):
            watch = na.watch(model) if watched else None
            for step in range(5):
                optimizer.zero_grad()
                loss = model(data(3, 4, seed=step)).square().mean()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            if watch is not None:
                watch.close()
                with pytest.raises(na.NothingObserved):
                    watch.report()
        return [*losses, *model.state_dict().values()]

    plain = run(67, watched=False)
    fail, count = faults(lambda i: FAULTS[i % len(FAULTS)]())
    monkeypatch.setattr(na.Moments, "update", fail)
    faulty = run(67, watched=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, faulty, strict=True))
    assert count[0] == 67 * 50 * 3 >= 10_000
    assert len(complaints(caplog)) == 67 * 50


PLACES = [
    "netassay.sources.live.recorder.Recorder.entering",
    "netassay.sources.live.recorder.Recorder.leaving",
    "netassay.sources.live.recorder.Recorder._masked",
    "netassay.complexity.Switching.update",
    "netassay.network.Distribution.update",
    "netassay.network.Distribution.merge",
    "netassay.sources.live.sites.Pass._innermost",
    "netassay.sources.live.sites.Pass._axis",
    "netassay.sources.live.sites._input",
    "netassay.sources.live.sites.hidden",
    "netassay.sources.live.sites.Watcher.mode",
    "netassay.sources.live.sites.push",
    "netassay.sources.live.recorder.Recorder.begin",
    "netassay.sources.live.recorder.Recorder.observe",
    "netassay.sources.live.recorder.Recorder.commit",
    "netassay.sources.live.recorder.Recorder.rollback",
    "netassay.stats.moments.Moments.update",
    "netassay.sources.live.recorder.merge_all",
    "netassay.sources.layers.tensor_of",
    "netassay.sources.layers.rows_of",
    "netassay.base.arrays.refusal",
    "netassay.base.threads.resolve",
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.split(".", 2)[2])
def test_a_fault_anywhere_in_the_watch_does_not_reach_the_training(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Raises(Mlp):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            if len(x) == 3:
                raise KeyError("mine")
            return x

    model = seeded(lambda: Raises(dropout=0.0))
    expected = model(data(8, 6))
    fail, count = faults(lambda i: FAULTS[i % len(FAULTS)]())
    with na.watch(model, max_rows=5, **ALL):
        model(data(8, 6))
        monkeypatch.setattr(place, fail)
        for _ in range(10):
            assert torch.equal(model(data(8, 6)), expected)
            with pytest.raises(KeyError, match="mine"):
                model(data(3, 6))
        monkeypatch.undo()
        assert torch.equal(model(data(8, 6)), expected)
    assert count[0] > 0
    assert 1 <= len(complaints(caplog)) <= 7  # three layers, two sites, start and end of the pass
    assert torch.overrides._get_current_function_mode_stack() == []


def test_an_error_that_cannot_be_shown_does_not_reach_the_training_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = seeded(Mlp)
    fail, _ = faults(lambda i: Unprintable())
    monkeypatch.setattr(na.Moments, "update", fail)
    with na.watch(model) as watch:
        for _ in range(5):
            model(data(8, 6))
        with pytest.raises(na.NothingObserved, match="Unprintable"):
            watch.report()


def failing_at_width(monkeypatch: pytest.MonkeyPatch, width: int, first: int) -> list[int]:
    """Makes updates at one width fail from the first-th on; the list's only element counts them."""
    calls = [0]
    original = na.Moments.update

    def update(self: na.Moments, x: Any, **kwargs: Any) -> None:
        if self.width == width:
            calls[0] += 1
            if calls[0] >= first:
                raise RuntimeError("injected fault")
        original(self, x, **kwargs)

    monkeypatch.setattr(na.Moments, "update", update)
    return calls


def test_after_three_faults_that_layer_alone_is_off_logged_once_and_its_reason_is_in_coverage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = failing_at_width(monkeypatch, 12, first=1)
    model = seeded(Mlp)
    with na.watch(model) as watch:
        for seed in range(10):
            model(data(8, 6, seed=seed))
    report = watch.report()
    assert calls == [3]
    assert len(complaints(caplog)) == 1
    assert "fc2" in complaints(caplog)[0]
    assert "injected fault" in reasons(report)["fc2"]
    assert [row.name for row in report.layers] == ["fc1", "head"]
    assert {state.count for state in watch.states.values()} == {80}


def test_a_layer_switched_off_on_its_way_keeps_its_rows_and_a_note_says_that_they_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = failing_at_width(monkeypatch, 12, first=3)
    model = seeded(Mlp)
    with na.watch(model) as watch:
        for seed in range(10):
            model(data(8, 6, seed=seed))
        report = watch.report()
        assert calls == [5]
        assert report["fc2"].saturation.samples == 16
        assert report["fc1"].saturation.samples == 80
        assert any("fc2" in note and "injected fault" in note and "off" in note for note in report.coverage.notes)
        monkeypatch.undo()
        watch.reset()
        model(data(8, 6))
    assert watch.report()["fc2"].saturation.samples == 8


# --- a device equals the CPU --------------------------------------------------------------------------

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
    ),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def bar(precision: str, dtype: torch.dtype) -> float:
    """float64 rows are multiplied in float64 whatever the precision."""
    return EXACT if precision == "exact" or dtype == torch.float64 else HIGH


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["high", "exact"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_a_devices_state_is_that_of_moments_within_the_bar(
    device: str, precision: str, dtype: torch.dtype, shift: float
) -> None:
    there = DeviceMoments(5, torch.device(device), precision)
    here = na.Moments(5, precision=precision)
    rows = []
    for seed, size in enumerate((7, 1, 2000, 3, 500)):
        x = (data(size, 5, seed=seed, dtype=F64) * torch.arange(1, 6) + shift).to(dtype)
        there.update(x.to(device), layout="rows", rows=None)
        here.update(x)
        rows.append(x.double().numpy())
    state = there.to_moments()
    assert state.precision == precision
    assert_is_state_of(state, np.concatenate(rows), bar(precision, dtype))
    tolerance = 2 * bar(precision, dtype)
    assert np.linalg.norm(state.scatter - here.scatter) <= tolerance * np.linalg.norm(here.scatter)


@pytest.mark.parametrize("device", DEVICES)
def test_a_devices_state_does_not_depend_on_torchs_default_dtype(device: str) -> None:
    def run() -> DeviceMoments:
        state = DeviceMoments(5, torch.device(device), "high")
        for seed in range(3):
            state.update(data(50 + seed, 5, seed=seed).to(device), layout="rows", rows=None)
        return state

    expected, before = run(), torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        state = run()
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(state.mean, expected.mean)
    assert torch.equal(state.scatter, expected.scatter)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fmt", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_device_reads_channels_first_takes_a_subset_and_leaves_out_what_is_not_finite(
    device: str, fmt: torch.memory_format
) -> None:
    x = data(6, 4, 5, 3).to(memory_format=fmt)
    x[2, 1, 4, 0], x[5, 0, 0, 2] = float("nan"), float("inf")
    there = DeviceMoments(4, torch.device(device), "exact")
    everything = reference.rows(x.double().numpy(), "channels_first")
    there.update(x.to(device), layout="channels_first", rows=None)
    some = np.arange(3, 90, 7)
    there.update(x.to(device), layout="channels_first", rows=some)
    both = np.concatenate([everything, everything[some]])
    state = there.to_moments()
    assert_is_state_of(state, both)
    assert state.nonfinite == len(both) - state.count > 0


@pytest.mark.parametrize("device", DEVICES)
def test_a_devices_empty_state_and_one_of_nothing_finite_come_back_empty(device: str) -> None:
    there = DeviceMoments(3, torch.device(device), "high")
    assert there.to_moments().count == 0
    there.update(torch.full((4, 3), float("nan"), device=device), layout="rows", rows=None)
    state = there.to_moments()
    assert (state.count, state.nonfinite) == (0, 4)
    assert not state.scatter.any()
    state.update(data(5, 3))
    assert_is_state_of(state, data(5, 3).double().numpy(), HIGH)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(5))
def test_devices_states_merge_in_any_order(device: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = data(1000, 4, seed=seed, dtype=F64) * torch.tensor([1.0, 2, 3, 4]) + 1e3
    cuts = np.sort(generator.integers(0, 1001, 9))
    parts = []
    for part in torch.tensor_split(rows, torch.from_numpy(cuts)):
        state = DeviceMoments(4, torch.device(device), "exact")
        state.update(part.to(device), layout="rows", rows=None)
        parts.append(state)
    while len(parts) > 1:
        other = parts.pop(int(generator.integers(len(parts))))
        parts[int(generator.integers(len(parts)))].merge(other)
    assert_is_state_of(parts[0].to_moments(), rows.numpy())


@pytest.mark.parametrize("device", DEVICES)
def test_a_devices_state_goes_to_the_host_and_back_and_continues_bit_for_bit(device: str) -> None:
    straight, there = (DeviceMoments(4, torch.device(device), "high") for _ in range(2))
    for seed in range(4):
        x = data(50, 4, seed=seed).to(device)
        straight.update(x, layout="rows", rows=None)
        there.update(x, layout="rows", rows=None)
        there = DeviceMoments.like(there.to_moments(), torch.device(device))
    for a, b in (
        (straight.mean, there.mean),
        (straight.scatter, there.scatter),
        (straight.count, there.count),
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_counts_more_rows_than_float32_holds(device: str) -> None:
    there = DeviceMoments(1, torch.device(device), "exact")
    there.update(torch.tensor([[-1.0], [1.0]], device=device), layout="rows", rows=None)
    for _ in range(25):  # doubled: 2^26 rows
        there.merge(there)
    there.update(torch.tensor([[3.0]], device=device, dtype=F64), layout="rows", rows=None)
    n = 2**26
    state = there.to_moments()
    assert state.count == n + 1
    assert state.mean[0] == pytest.approx(3 / (n + 1), rel=1e-12, abs=0)
    assert state.scatter[0, 0] == pytest.approx(n + 9 * n / (n + 1), rel=1e-12, abs=0)


@pytest.mark.parametrize("device", DEVICES)
def test_a_devices_statistics_ignore_autocast_grad_and_inference_mode(device: str) -> None:
    x = data(64, 5).to(device)
    plain = DeviceMoments(5, torch.device(device), "high")
    plain.update(x, layout="rows", rows=None)
    with torch.inference_mode():
        odd = DeviceMoments(5, torch.device(device), "high")
    with torch.autocast(device, torch.bfloat16):
        odd.update(x.clone().requires_grad_(), layout="rows", rows=None)
    assert torch.equal(plain.scatter, odd.scatter)
    assert not odd.scatter.requires_grad
    odd.update(x, layout="rows", rows=None)
    assert odd.to_moments().count == 128


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a watch accumulate outputs of the CPU as it does those of a device."""

    monkeypatch.setattr("netassay.sources.live.probes.on_host", lambda tensor: False)
    monkeypatch.setattr("netassay.sources.live.recorder.on_host", lambda tensor: False)


@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("training", TRAININGS)
def test_a_watch_that_accumulates_on_a_device_changes_no_bit_of_a_training(
    training: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert_same_training(plain(training, 20), train(training, {"max_rows": 7}, steps=20))
    assert not complaints(caplog)


@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("positions", ["all", "mean", "flatten"])
def test_a_watch_on_a_device_measures_what_the_layers_put_out(positions: str) -> None:
    model = nn.Sequential(seeded(lambda: nn.Conv2d(2, 4, 3, dtype=F64)))
    outputs = []
    with na.watch(model, precision="exact", positions=positions) as watch, torch.no_grad():
        for seed in range(3):
            outputs.append(model(data(9, 2, 6, 5, seed=seed, dtype=F64)).numpy())
    maps = np.concatenate(outputs)
    rows = {
        "all": reference.rows(maps, "channels_first"),
        "mean": maps.mean(axis=(2, 3)),
        "flatten": maps.reshape(len(maps), -1),
    }
    assert_is_state_of(watch.states["0", "train"], rows[positions])
    assert watch.report()["0"].saturation.samples == len(rows[positions])


@pytest.mark.usefixtures("on_device")
def test_a_mask_and_a_sample_choose_the_same_rows_on_a_device_as_on_the_cpu() -> None:
    keep = torch.tensor([[True] * 4 + [False] * 2] * 5)
    model = Wrap(nn.Linear(3, 4, dtype=F64))
    with recording(model) as seen, na.watch(model, mask=lambda x: keep, precision="exact") as watch:
        model(data(5, 6, 3, dtype=F64))
    assert_is_state_of(watch.states["inner", "train"], seen["inner", "train"][0][keep.reshape(-1).numpy()])
    with na.watch(model, max_rows=9) as watch:
        model(data(5, 6, 3, dtype=F64))
    assert watch.states["inner", "train"].count == 9


@pytest.mark.usefixtures("on_device")
def test_a_watch_on_a_device_resumes_bit_for_bit(tmp_path: Any) -> None:
    model = seeded(ConvNet).eval()
    with na.watch(model) as whole, na.watch(model) as half:
        for seed in range(3):
            model(data(6, 2, 8, 8, seed=seed))
        half.save(tmp_path / "state")
        half.close()
        with na.watch(model) as rest:
            rest.restore(tmp_path / "state")
            for seed in range(3, 6):
                model(data(6, 2, 8, 8, seed=seed))
    assert same_states(whole, rest)
