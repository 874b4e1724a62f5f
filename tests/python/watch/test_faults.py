"""Whatever fails inside a watch, the training goes on as without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netassay as na
from python.models import Mlp, complaints, data, reasons, seeded
from python.trainings import ALL


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
    "netassay.sources.live.rows.tensor_of",
    "netassay.sources.live.rows.rows_of",
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
        assert report["fc2"].saturation.rows == 16
        assert report["fc1"].saturation.rows == 80
        assert any("fc2" in note and "injected fault" in note and "off" in note for note in report.coverage.notes)
        monkeypatch.undo()
        watch.reset()
        model(data(8, 6))
    assert watch.report()["fc2"].saturation.rows == 8
