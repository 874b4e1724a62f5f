"""What a watch accumulates by torch operations on a device is what it does on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netassay as na
from netassay.sources.live.device import DeviceMoments
from python.models import (
    EXACT,
    HIGH,
    ConvNet,
    Wrap,
    assert_is_state_of,
    complaints,
    data,
    recording,
    same_states,
    seeded,
)
from python.trainings import TRAININGS, assert_same_training, plain, train
from reference import saturation as reference

F64 = torch.float64


PLACES = [
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


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("precision", ["high", "exact"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_a_devices_state_is_that_of_moments_within_the_bar(
    place: str, precision: str, dtype: torch.dtype, shift: float
) -> None:
    there = DeviceMoments(5, torch.device(place), precision)
    here = na.Moments(5, precision=precision)
    rows = []
    for seed, size in enumerate((7, 1, 2000, 3, 500)):
        x = (data(size, 5, seed=seed, dtype=F64) * torch.arange(1, 6) + shift).to(dtype)
        there.update(x.to(place), layout="rows", rows=None)
        here.update(x)
        rows.append(x.double().numpy())
    state = there.to_moments()
    assert state.precision == precision
    assert_is_state_of(state, np.concatenate(rows), bar(precision, dtype))
    tolerance = 2 * bar(precision, dtype)
    assert np.linalg.norm(state.scatter - here.scatter) <= tolerance * np.linalg.norm(here.scatter)


@pytest.mark.parametrize("place", PLACES)
def test_a_devices_state_does_not_depend_on_torchs_default_dtype(place: str) -> None:
    def run() -> DeviceMoments:
        state = DeviceMoments(5, torch.device(place), "high")
        for seed in range(3):
            state.update(data(50 + seed, 5, seed=seed).to(place), layout="rows", rows=None)
        return state

    expected, before = run(), torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        state = run()
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(state.mean, expected.mean)
    assert torch.equal(state.scatter, expected.scatter)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fmt", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_device_reads_channels_first_takes_a_subset_and_leaves_out_what_is_not_finite(
    place: str, fmt: torch.memory_format
) -> None:
    x = data(6, 4, 5, 3).to(memory_format=fmt)
    x[2, 1, 4, 0], x[5, 0, 0, 2] = float("nan"), float("inf")
    there = DeviceMoments(4, torch.device(place), "exact")
    everything = reference.rows(x.double().numpy(), "channels_first")
    there.update(x.to(place), layout="channels_first", rows=None)
    some = np.arange(3, 90, 7)
    there.update(x.to(place), layout="channels_first", rows=some)
    both = np.concatenate([everything, everything[some]])
    state = there.to_moments()
    assert_is_state_of(state, both)
    assert state.nonfinite == len(both) - state.count > 0


@pytest.mark.parametrize("place", PLACES)
def test_a_devices_empty_state_and_one_of_nothing_finite_come_back_empty(place: str) -> None:
    there = DeviceMoments(3, torch.device(place), "high")
    assert there.to_moments().count == 0
    there.update(torch.full((4, 3), float("nan"), device=place), layout="rows", rows=None)
    state = there.to_moments()
    assert (state.count, state.nonfinite) == (0, 4)
    assert not state.scatter.any()
    state.update(data(5, 3))
    assert_is_state_of(state, data(5, 3).double().numpy(), HIGH)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("seed", range(5))
def test_devices_states_merge_in_any_order(place: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = data(1000, 4, seed=seed, dtype=F64) * torch.tensor([1.0, 2, 3, 4]) + 1e3
    cuts = np.sort(generator.integers(0, 1001, 9))
    parts = []
    for part in torch.tensor_split(rows, torch.from_numpy(cuts)):
        state = DeviceMoments(4, torch.device(place), "exact")
        state.update(part.to(place), layout="rows", rows=None)
        parts.append(state)
    while len(parts) > 1:
        other = parts.pop(int(generator.integers(len(parts))))
        parts[int(generator.integers(len(parts)))].merge(other)
    assert_is_state_of(parts[0].to_moments(), rows.numpy())


@pytest.mark.parametrize("place", PLACES)
def test_a_devices_state_goes_to_the_host_and_back_and_continues_bit_for_bit(place: str) -> None:
    straight, there = (DeviceMoments(4, torch.device(place), "high") for _ in range(2))
    for seed in range(4):
        x = data(50, 4, seed=seed).to(place)
        straight.update(x, layout="rows", rows=None)
        there.update(x, layout="rows", rows=None)
        there = DeviceMoments.like(there.to_moments(), torch.device(place))
    for a, b in (
        (straight.mean, there.mean),
        (straight.scatter, there.scatter),
        (straight.count, there.count),
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("place", PLACES)
def test_a_device_counts_more_rows_than_float32_holds(place: str) -> None:
    there = DeviceMoments(1, torch.device(place), "exact")
    there.update(torch.tensor([[-1.0], [1.0]], device=place), layout="rows", rows=None)
    for _ in range(25):  # doubled: 2^26 rows
        there.merge(there)
    there.update(torch.tensor([[3.0]], device=place, dtype=F64), layout="rows", rows=None)
    n = 2**26
    state = there.to_moments()
    assert state.count == n + 1
    assert state.mean[0] == pytest.approx(3 / (n + 1), rel=1e-12, abs=0)
    assert state.scatter[0, 0] == pytest.approx(n + 9 * n / (n + 1), rel=1e-12, abs=0)


@pytest.mark.parametrize("place", PLACES)
def test_a_devices_statistics_ignore_autocast_grad_and_inference_mode(place: str) -> None:
    x = data(64, 5).to(place)
    plain = DeviceMoments(5, torch.device(place), "high")
    plain.update(x, layout="rows", rows=None)
    with torch.inference_mode():
        odd = DeviceMoments(5, torch.device(place), "high")
    with torch.autocast(place, torch.bfloat16):
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
    assert watch.report()["0"].saturation.rows == len(rows[positions])


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
