"""What a watch counts of passes that fail, recompute, run at once or are not passes."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import netassay as na
from netassay.base import statefile
from netassay.complexity import Switching
from netassay.network import Distribution
from netassay.sources.live import sites
from python.models import data, reasons, seeded
from python.sums import ALL, COMPLEXITY, Sums, inputs_of, same

pytestmark = pytest.mark.native


class Raises(Sums):
    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        if len(x) == 3:
            raise self.error
        return x


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt(), SystemExit()], ids=repr)
def test_a_pass_that_raises_counts_nothing_and_the_next_is_fine(error: BaseException) -> None:
    model = seeded(Raises).eval()
    model.error = error  # type: ignore[assignment]
    with na.watch(model, **ALL) as watch, na.watch(model, **ALL) as control:
        model(data(4, 2, 8, 8))
        control.pause()
        with pytest.raises(type(error)):
            model(data(3, 2, 8, 8))
        control.resume()
        model(data(5, 2, 8, 8))
    assert same(watch, control)
    assert watch.report().to_dict(volatile=False)["layers"] == control.report().to_dict(volatile=False)["layers"]
    assert torch.overrides._get_current_function_mode_stack() == []


def test_ctrl_c_while_counts_are_joined_leaves_them_as_before_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded(Sums).eval()
    with na.watch(model, **ALL) as watch, na.watch(model, **ALL) as control:
        model(data(4, 2, 8, 8))
        control.pause()
        for place, name in ((Switching, "update"), (Switching, "merge"), (Distribution, "merge")):
            original, calls = getattr(place, name), iter(range(100))

            def interrupted(*args: Any, _f: Any = original, _n: Any = calls, **kwargs: Any) -> None:
                if next(_n) == 2:
                    raise KeyboardInterrupt
                _f(*args, **kwargs)

            monkeypatch.setattr(place, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                model(data(4, 2, 8, 8, seed=1))
            monkeypatch.undo()
            assert same(watch, control), name
        control.resume()
        model(data(4, 2, 8, 8, seed=2))
    assert same(watch, control)
    assert torch.overrides._get_current_function_mode_stack() == []


def test_a_watch_resumes_bit_for_bit_with_all_measures(tmp_path: Path) -> None:
    model = seeded(Sums).eval()
    with na.watch(model, **ALL) as whole, na.watch(model, **ALL) as half:
        for seed in range(2):
            model(data(6, 2, 8, 8, seed=seed))
        half.save(tmp_path / "state")
        half.close()
        with na.watch(model, **ALL) as rest:
            rest.restore(tmp_path / "state")
            for seed in range(2, 4):
                model(data(6, 2, 8, 8, seed=seed))
    assert same(whole, rest)
    assert whole.report().to_dict(volatile=False) == rest.report().to_dict(volatile=False)
    with (
        na.watch(model, **ALL, sites="act") as other,
        pytest.raises(na.StateError, match="sites"),
    ):
        other.restore(tmp_path / "state")


def test_every_kth_pass_is_counted() -> None:
    model = nn.Sequential(nn.ReLU())
    with na.watch(model, **COMPLEXITY, every=3) as watch:
        for _ in range(7):
            model(data(2, 5))
    assert watch.switching["0", 0, "train"].result().samples == 6


def test_two_watches_see_the_same_sites_and_the_first_may_close_first() -> None:
    model = seeded(Sums).eval()
    first, second = na.watch(model, **COMPLEXITY), na.watch(model, **COMPLEXITY)
    model(data(4, 2, 8, 8))
    assert same(first, second)
    first.close()
    model(data(4, 2, 8, 8))
    second.close()
    assert second.switching["pool", 0, "eval"].result().samples == 8
    assert torch.overrides._get_current_function_mode_stack() == []


def test_a_layer_beyond_the_memory_budget_is_left_out_with_its_size() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64 * 64, 3), nn.ReLU())
    with na.watch(model, **COMPLEXITY, memory=100_000) as watch:
        model(data(2, 1, 64, 64))
    report = watch.report()
    assert [row.name for row in report] == ["4"]
    assert "GB" in reasons(report)["1"]


def held(watch: na.Watch) -> int:
    """Bytes of all states, those of passes too."""
    recorder = watch._recorder
    states = [entry.state for entry in recorder.entries.values()] + [
        s for spare in recorder._spare.values() for s in spare
    ]
    return sum(state.nbytes for state in states)


def test_maps_of_other_sizes_are_counted_by_channel_within_the_budget() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.MaxPool2d(2))
    seen: list[Tensor] = []
    handle = inputs_of(model[1], seen)
    with na.watch(model, **COMPLEXITY, memory=10_000) as watch:
        for size in (4, 64, 32, 4):
            model(data(1, 1, size, size))
            assert held(watch) <= 10_000
    handle.remove()
    found = watch.report()["1"].complexity
    assert (found.samples, found.positions, "shape_varies" in found.flags) == (4, None, True)
    rows = torch.cat([x.movedim(1, -1).reshape(-1, 8) for x in seen])
    assert np.array_equal(found.channel_bits, na.complexity.complexity(rows, layout="rows").channel_bits)
    assert watch.report()["2"].complexity.samples == 4
    assert watch.report().coverage.notes == ("no eval pass was observed",)


def test_the_budget_holds_where_the_first_pass_has_left_nothing_and_the_next_is_larger() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU())
    failing = model.register_forward_hook(lambda *_: 1 / 0)
    with na.watch(model, **COMPLEXITY, memory=10_000) as watch:
        with pytest.raises(ZeroDivisionError):
            model(data(1, 1, 4, 4))
        failing.remove()
        model(data(1, 1, 64, 64))
        with pytest.raises(na.NothingObserved, match="beyond the budget"):
            watch.report()
        assert held(watch) <= 10_000


def test_a_compiled_model_is_refused_with_its_reason() -> None:
    model = torch.compile(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), backend="eager")
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(2, 3))
    with pytest.raises(na.NothingObserved, match="compiled"):
        watch.report()


def test_a_part_compiled_while_watched_computes_the_same() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU()))
    expected = model(data(2, 3))
    with na.watch(model, **COMPLEXITY) as watch:
        model[2].compile(backend="eager")
        assert torch.equal(model(data(2, 3)), expected)
    assert [row.name for row in watch.report()] == ["1", "3"]


def test_a_changed_width_or_rule_is_left_out_and_said() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor, top: float) -> Tensor:
            return F.hardtanh(x, 0.0, top)

    model = Model()
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(4, 5), 1.0)
        model(data(4, 6), 1.0)
        assert "units changed from 5 to 6" in watch.report().coverage.notes[-1]
        model(data(4, 5), 2.0)
        assert "rule changed" in watch.report().coverage.notes[-1]
    assert watch.report()["(root):hardtanh"].complexity.samples == 4


class Waits(Sums):
    """Waits in the middle of its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go_on = threading.Event(), threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(x)
        self.inside.set()
        self.go_on.wait(30)
        return super().forward(x)


def test_a_watch_closed_while_another_thread_is_in_a_pass_keeps_nothing_of_it_nor_of_later_ones() -> None:
    model = seeded(Waits).eval()
    watch = na.watch(model, **ALL)

    def passes() -> None:
        for _ in range(3):
            model(data(4, 2, 8, 8))

    thread = threading.Thread(target=passes)
    thread.start()
    assert model.inside.wait(30)
    watch.close()
    reserved = dict(watch._recorder._reserved)
    model.go_on.set()
    thread.join()
    assert watch._recorder._reserved == reserved
    assert {key.name for key in reserved} == {"act"}
    with pytest.raises(na.NothingObserved):
        watch.report()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["push", "pop"])
def test_ctrl_c_while_the_mode_is_put_on_or_taken_off_leaves_none_behind(
    name: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = seeded(Sums).eval()
    with na.watch(model, **ALL) as watch, na.watch(model, **ALL) as control:
        model(data(4, 2, 8, 8))
        control.pause()
        original = getattr(sites, name)

        def interrupted(mode: Any) -> None:
            if when == "after":
                original(mode)
            raise KeyboardInterrupt

        monkeypatch.setattr(sites, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            model(data(4, 2, 8, 8, seed=1))
        monkeypatch.undo()
        assert same(watch, control)
        control.resume()
        model(data(4, 2, 8, 8, seed=2))
        assert same(watch, control)
        monkeypatch.setattr(sites, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            model(data(4, 2, 8, 8, seed=3))
        monkeypatch.undo()
    assert torch.overrides._get_current_function_mode_stack() == []


def test_what_is_free_is_not_asked_for_with_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded(Sums).eval()
    with na.watch(model, **COMPLEXITY) as watch:
        monkeypatch.setattr("netassay.base.memory.available", lambda: pytest.fail("asked for"))
        model(data(4, 2, 8, 8))
        model(data(4, 2, 8, 8))
    assert watch._taps.faults == {}


def test_a_log_handler_that_raises_does_not_reach_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(record.getMessage())

    def fails(*args: Any, **kwargs: Any) -> None:
        raise ValueError("mine")

    handler, logger = Raises(), logging.getLogger("netassay")
    model = seeded(Sums).eval()
    expected = model(data(4, 2, 8, 8))
    monkeypatch.setattr(Switching, "update", fails)
    logger.addHandler(handler)
    try:
        with na.watch(model, **ALL) as watch:
            assert torch.equal(model(data(4, 2, 8, 8)), expected)
    finally:
        logger.removeHandler(handler)
    assert watch._taps.faults["pool"] == ["ValueError: mine"]


def test_thresholds_that_change_with_every_call_take_no_memory() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor, top: float) -> Tensor:
            return F.hardtanh(x, 0.0, top)

    model = Model()
    with na.watch(model, **COMPLEXITY) as watch:
        for call in range(1, 400):
            model(data(2, 3), float(call))
    (probe,) = watch._recorder.of_inputs
    assert len(probe._configs) <= probe.MOST < 400  # type: ignore[attr-defined]


def test_the_measure_that_is_beyond_the_budget_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with na.watch(model, measures=("complexity", "network"), memory=20_000) as watch:
        model(data(8, 4))
    (note,) = [note for note in watch.report().coverage.notes if note.startswith("1:")]
    assert note.startswith("1: calls left out: neuron_activation of width 4 needs")


def test_what_runs_inside_a_script_is_said_once() -> None:
    script = torch.jit.script(nn.Sequential(nn.Linear(5, 5), nn.Sequential(nn.ReLU())))
    with na.watch(nn.Sequential(nn.ReLU(), script), **COMPLEXITY) as watch:
        watch._taps.root(data(2, 5))
    assert reasons(watch.report()) == {"1": "it runs inside jit.script, where nonlinearities are not seen"}
    with na.watch(nn.Sequential(script), **COMPLEXITY) as watch:
        watch._taps.root(data(2, 5))
    with pytest.raises(na.NothingObserved, match=r"0: it runs inside jit\.script"):
        watch.report()


def test_a_pattern_that_matches_no_site_is_said() -> None:
    model = nn.Sequential(nn.ReLU())
    with na.watch(model, **COMPLEXITY, sites=["*", "!act*", "0"]) as watch:
        model(data(2, 5))
    assert watch.report().coverage.notes[-1] == "sites: got '!act*', which matches no site that was called"
    with na.watch(model, **COMPLEXITY, sites="1") as watch:
        model(data(2, 5))
    with pytest.raises(na.NothingObserved, match="sites: got '1', which matches no site"):
        watch.report()


@pytest.mark.parametrize("part", ["draws", "kinds", "passes", "entries", "measure", "call", "flags"])
def test_a_file_without_a_part_of_a_watchs_state_is_refused_and_nothing_changes(part: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.ReLU())
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(2, 5))
        watch.save(tmp_path / "state")
        config, tensors = statefile.load(tmp_path / "state", kind="watch")
        progress = config["progress"]
        del (progress if part in progress else progress["entries"][0])[part]
        statefile.save(tmp_path / "state", kind="watch", config=config, tensors=tensors)
        before = watch.report().to_dict(volatile=False)
        with pytest.raises(na.StateError, match=f"no state of a watch.*{part}"):
            watch.restore(tmp_path / "state")
        assert watch.report().to_dict(volatile=False) == before


def test_a_module_replaced_while_watched_is_a_site_still_and_no_layer_and_both_are_said() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    with na.watch(model, **ALL) as watch:
        model(data(4, 4))
        model[0], model[1] = nn.Linear(4, 4), nn.LeakyReLU()
        model(data(4, 4))
    report = watch.report()
    assert (report["0"].calls, report["1"].complexity.samples) == (1, 4)
    assert report.coverage.notes[-2:] == (
        "1: calls left out: its rule changed between calls",
        "0: no longer in the model; what stands in its place is not watched as a layer",
    )
