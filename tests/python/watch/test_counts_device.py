"""What a watch counts where activations lie on another device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor, nn

import netassay as na
from python.models import Mlp, Recurrent, data, reasons, seeded
from python.sums import COMPLEXITY, same

pytestmark = pytest.mark.native


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a watch count on the CPU as it does on a device."""
    monkeypatch.setattr("netassay.sources.live.probes.on_host", lambda tensor: False)
    monkeypatch.setattr("netassay.sources.live.recorder.on_host", lambda tensor: False)


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "maps": (
        lambda: nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.1, 0.2)),
        data(4, 2, 8, 8),
    ),
    "tokens": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(), nn.LayerNorm(6), nn.GELU()), data(3, 5, 4)),
    "rows": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU()), data(30, 4)),
}


@pytest.mark.parametrize("name", MODELS)
def test_counts_on_a_device_are_those_of_the_core(name: str, request: pytest.FixtureRequest) -> None:
    make, batch = MODELS[name]
    model = seeded(make).eval()
    bad = batch.clone()
    bad[0, 0] = float("nan")
    with na.watch(model, **COMPLEXITY) as core:
        for x in (batch, -batch, bad):
            model(x)
    request.getfixturevalue("on_device")
    with na.watch(model, **COMPLEXITY) as watch:
        for x in (batch, -batch, bad):
            model(x)
    assert same(core, watch)
    assert watch.report().to_dict(volatile=False)["layers"] == core.report().to_dict(volatile=False)["layers"]


def test_maps_of_many_sizes_take_no_more_on_a_device_and_are_those_of_the_core(request: pytest.FixtureRequest) -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.ReLU6())).eval()
    batches = [data(3, 2, size, size) for size in (4, 4, 9, 7, 4)]
    with na.watch(model, **COMPLEXITY) as core:
        for x in batches:
            model(x)
    request.getfixturevalue("on_device")
    with na.watch(model, **COMPLEXITY) as watch:
        for x in batches:
            model(x)
    assert same(core, watch)
    for entry in watch._recorder.entries.values():
        counts = entry.state._counts
        assert {counts.state.numel(), counts.square.numel()} <= {5, 10}


@pytest.mark.usefixtures("on_device")
def test_what_is_not_counted_on_a_device_is_said() -> None:
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.MaxPool2d(2))
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(4, 2, 8, 8))
    report = watch.report()
    assert [row.name for row in report] == ["1"]
    assert "maxpool is not counted" in reasons(report)["2"]


def test_a_nonlinearity_that_makes_weights_is_neither_a_site_nor_missed() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    nn.utils.parametrize.register_parametrization(model[0], "bias", nn.ReLU())
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(8, 6))
    report = watch.report()
    assert [row.name for row in report] == ["1"]
    assert report.coverage.skipped == ()


def test_a_recurrent_model_has_no_site_and_says_why() -> None:
    model = seeded(Recurrent)
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(3, 6, 5))
    with pytest.raises(na.NothingObserved, match="no site was observed"):
        watch.report()


def test_dropout_and_modes_of_an_mlp() -> None:
    model = seeded(Mlp)
    with na.watch(model, **COMPLEXITY, thresholds={"tanh": 0.0}) as watch:
        model.train()(data(8, 6))
        model.eval()(data(8, 6))
    report = watch.report()
    assert [(row.name, row.mode) for row in report] == [
        ("(root):relu", "train"),
        ("(root):relu", "eval"),
        ("(root):tanh", "train"),
        ("(root):tanh", "eval"),
    ]
