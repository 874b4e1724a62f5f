"""watch(measures=("complexity", "network")): sites and layers are counted as the pass shows them, and nothing else."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable
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
from python.models import (
    ConvNet,
    Encoder,
    Mlp,
    Recurrent,
    Wrap,
    data,
    one_thread,  # noqa: F401
    reasons,
    recording,
    seeded,
    tokens,
)

COMPLEXITY = {"measures": ("complexity",)}
ALL: dict[str, Any] = {"measures": ("saturation", "complexity", "network")}


class Sums(nn.Module):
    """Calls F.relu on sums, one module three times, a max-pool, a method and ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.bn = (
            nn.Conv2d(2, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.BatchNorm2d(6),
        )
        self.act, self.six, self.pool, self.head = nn.ReLU(), nn.ReLU6(), nn.MaxPool2d(2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv1(x))
        x = F.relu(self.bn(self.conv2(x)) + x)
        x = self.pool(self.act(x - 0.1))
        x = self.act(x - 0.2)
        return self.head(self.six(4 * x).mean(dim=(2, 3)).relu())


def equal(a: Switching, b: Switching) -> bool:
    """Whether two states hold the same counts."""
    ours, theirs = a.tensors(), b.tensors()
    return a.config() == b.config() and all(np.array_equal(ours[name], theirs[name]) for name in ours | theirs)


def same(a: na.Watch, b: na.Watch) -> bool:
    """Whether two watches have counted the same."""
    ours, theirs = a.switching, b.switching
    return set(ours) == set(theirs) and all(equal(ours[key], theirs[key]) for key in ours)


def inputs_of(module: nn.Module, seen: list[Tensor]) -> Any:
    return module.register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach().clone()))


def test_sites_of_modules_functions_and_methods_stand_in_order_of_first_call() -> None:
    model = seeded(Sums).eval()
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(4, 2, 8, 8))
    report = watch.report()
    assert [(row.name, row.call, row.kind) for row in report] == [
        ("act", 0, "ReLU"),
        ("(root):relu", 0, "relu"),
        ("act", 1, "ReLU"),
        ("pool", None, "MaxPool2d"),
        ("act", 2, "ReLU"),
        ("six", None, "ReLU6"),
        ("(root):relu", 1, "relu"),
    ]
    assert report.coverage.skipped == ()


@pytest.mark.parametrize("fmt", [torch.contiguous_format, torch.channels_last], ids=str)
def test_counts_are_those_of_all_inputs_of_a_site_by_mode(fmt: torch.memory_format) -> None:
    model = nn.Sequential(seeded(lambda: nn.Conv2d(2, 5, 3)), nn.ReLU(inplace=True)).to(memory_format=fmt)
    seen: dict[str, list[Tensor]] = {"train": [], "eval": []}
    with na.watch(model, **COMPLEXITY) as watch:
        for seed in range(4):
            mode = "train" if seed % 2 else "eval"
            handle = inputs_of(model[1], seen[mode])
            model.train(mode == "train")(data(3 + seed, 2, 7, 6, seed=seed).to(memory_format=fmt))
            handle.remove()
    for mode, inputs in seen.items():
        expected = Switching(rule="relu")
        for tensor in inputs:
            expected.update(tensor.numpy())
        assert equal(watch.switching["1", 0, mode], expected)
        row = watch.report()["1", mode]
        assert row.complexity.samples == sum(map(len, inputs))
        np.testing.assert_array_equal(row.complexity.channel_bits, expected.result().channel_bits)
        assert row.calls == len(inputs)


def test_units_of_tokens_are_last_and_positions_are_their_places() -> None:
    model = seeded(Encoder).train()
    with na.watch(model, **COMPLEXITY) as watch:
        model(tokens(6, 5))
    row = watch.report()["encoder.layers.0:relu"]
    assert row.complexity.channel_bits.shape == (16,)
    assert row.complexity.positions == 5
    assert row.complexity.position_bits is None  # of a report; the state has them
    assert watch.switching["encoder.layers.0:relu", 0, "train"].result().position_bits.shape == (16, 5)
    assert "layout_guessed" not in row.complexity.flags


def test_a_gelu_encoder_is_counted_by_the_sign_of_its_gates() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True, activation="gelu")
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).train()
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(3, 5, 8))
    row = watch.report()["layers.0:gelu"]
    assert row.kind == "gelu"
    assert row.complexity.rule == "gate_sign"


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_an_encoder_in_eval_computes_the_same_where_there_is_no_padding_and_what_padding_becomes_is_said() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    model = seeded(lambda: nn.TransformerEncoder(layer, 2)).eval()
    padding = torch.tensor([[False] * 5, [False, False, False, True, True]])
    with torch.no_grad():
        expected = model(data(2, 5, 8), src_key_padding_mask=padding)
        with na.watch(model, **COMPLEXITY) as watch:
            output = model(data(2, 5, 8), src_key_padding_mask=padding)
    torch.testing.assert_close(output[~padding], expected[~padding], rtol=1e-5, atol=1e-5)
    assert (expected[padding] == 0).all()
    assert (output[padding] != 0).any()
    assert "does not put out 0 at padding" in watch.report().coverage.notes[-1]


def test_the_networks_totals_are_sums_and_means_over_units() -> None:
    model = seeded(Sums).eval()
    with na.watch(model, **COMPLEXITY) as watch:
        for seed in range(3):
            model(data(4, 2, 8, 8, seed=seed))
    report = watch.report()
    total = report.totals["complexity"]["eval"]
    bits = np.concatenate([state.result().position_bits.ravel() for state in watch.switching.values()])
    assert total["sites"] == 7
    assert total["total_position"] == pytest.approx(bits.sum(), rel=1e-12)
    assert total["mean_position"] == pytest.approx(bits.mean(), rel=1e-12)
    channels = np.concatenate([row.complexity.channel_bits for row in report])
    assert total["mean_channel"] == pytest.approx(channels.mean(), rel=1e-12)


def test_channels_that_were_never_on_are_a_finding_of_the_mode_with_more_samples() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 10)))
    with torch.no_grad():
        model[0].bias[:3] = -100.0
    with na.watch(model, **COMPLEXITY) as watch:
        model.train()(data(40, 4))
        model.eval()(data(50, 4))
    (found,) = watch.report().findings
    assert found.layer == "1"
    assert found.message == ("1: 30 % of its channels were never on in 50 samples in eval: they let nothing through")
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(31, 4))
    assert watch.report().findings == ()


def test_the_text_says_the_networks_totals_in_a_sentence_per_mode() -> None:
    model = seeded(Sums).eval()
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(40, 2, 8, 8))
    text = str(watch.report())
    total = watch.report().totals["complexity"]["eval"]
    assert (
        f"complexity.eval  {total['mean_channel']:.3f} bits per channel, {total['mean_position']:.3f} per channel at a"
        f" position, {total['total_position']:,.0f} in all of 7 sites"
    ) in text


def test_what_cannot_be_counted_is_in_coverage_with_its_reason() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.act, self.unused = nn.LSTM(5, 4), nn.Tanh(), nn.ReLU()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.linear(self.act(self.rnn(x)[0])))
            return torch.sigmoid(x)

    model = seeded(Model)
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(3, 2, 5))
    why = reasons(watch.report())
    assert set(why) == {"rnn", "act", "unused", "(root):sigmoid"}
    assert "one kernel" in why["rnn"]
    assert "thresholds={'tanh': ...}" in why["act"]
    assert why["unused"].startswith("never observed")
    with na.watch(model, **COMPLEXITY, thresholds={"tanh": 0.0, "sigmoid": 0.5}) as watch:
        model(data(3, 2, 5))
    assert [row.name for row in watch.report()] == ["act", "(root):relu", "(root):sigmoid"]


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ("*", ["act", "(root):relu", "pool", "six"]),
        ("act", ["act"]),
        (["*", "!*:relu"], ["act", "pool", "six"]),
        (["!pool", "!six"], ["act", "(root):relu"]),
        ("*:*", ["(root):relu"]),
    ],
)
def test_patterns_choose_sites(sites: Any, expected: list[str]) -> None:
    model = seeded(Sums).eval()
    with na.watch(model, **COMPLEXITY, sites=sites) as watch:
        model(data(4, 2, 8, 8))
    assert list(dict.fromkeys(row.name for row in watch.report())) == expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"measures": ()}, "measures"),
        ({"measures": ("entropy",)}, "measures"),
        ({"sites": 3}, "sites"),
        ({"sites": []}, "sites"),
        ({"thresholds": {"relu": 0.0}}, "thresholds"),
        ({"thresholds": {"tanh": float("nan")}}, "thresholds"),
        ({"thresholds": {"tanh": "0"}}, "thresholds"),
        ({"memory": "1 GB"}, "memory='1 GB'"),
        ({"delta": "0.9"}, "delta='0.9'"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(options: dict[str, Any], named: str) -> None:
    with pytest.raises(na.NetassayError, match=named):
        na.watch(nn.Sequential(nn.ReLU()), **{**COMPLEXITY, **options})


def test_integers_may_be_numpys(tmp_path: Path) -> None:
    options = {"every": np.int64(2), "max_rows": np.int32(3), "seed": np.uint8(4)}
    model = seeded(Mlp)
    with na.watch(model, **ALL, **options) as watch, na.watch(model, **ALL, every=2, max_rows=3, seed=4) as plain:
        model(data(8, 6))
        watch.save(tmp_path / "state")
        plain.restore(tmp_path / "state")
    assert same(watch, plain)


def test_a_mask_leaves_padding_out_and_what_is_left_are_rows_without_positions() -> None:
    keep = torch.tensor([[True, True, False], [True, False, False]])
    model = Wrap(nn.Sequential(nn.Linear(4, 6), nn.ReLU()))
    seen: list[Tensor] = []
    inputs_of(model.inner[1], seen)
    with na.watch(model, **ALL, mask=lambda x: keep) as watch:
        model(data(2, 3, 4))
    result = watch.report()["inner.1"].complexity
    rows = seen[0][keep].numpy()
    expected = Switching(rule="relu", positions=False)
    expected.update(rows)
    assert result.samples == 3
    assert result.positions == 1  # rows
    np.testing.assert_array_equal(result.channel_bits, expected.result().channel_bits)
    assert watch.report()["inner.0"].neuron_strength.count == rows.size


def test_a_pool_is_not_counted_where_padding_is_masked_and_that_is_no_fault() -> None:
    keep = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    model = nn.Sequential(nn.Conv1d(3, 4, 1), nn.ReLU(), nn.MaxPool1d(2))
    with na.watch(model, **COMPLEXITY, mask=lambda x: keep) as watch:
        for _ in range(4):
            model(data(2, 3, 6))
    assert watch.report()["1"].complexity.samples == 40
    assert "(mask)" in reasons(watch.report())["2"]
    assert watch._taps.faults == {}


def test_strengths_are_distributions_of_what_layers_put_out_and_activations_of_what_leaves_sites() -> None:
    model = seeded(ConvNet).eval()
    with recording(model) as seen, na.watch(model, measures=("network",)) as watch:
        for seed in range(3):
            model(data(4, 2, 8, 8, seed=seed))
    report = watch.report()
    outputs = np.concatenate([rows.ravel() for rows in seen["conv1", "eval"]])
    strength = report["conv1"].neuron_strength
    assert strength.count == outputs.size
    assert strength.mean == pytest.approx(outputs.mean(), rel=1e-6, abs=1e-9)
    assert (strength.minimum, strength.maximum) == (outputs.min(), outputs.max())
    activation = report["relu", 0].neuron_activation
    assert activation.minimum == 0
    assert 0 < activation.zero_share < 1
    assert set(report["relu", 0].measures) == {"neuron_activation"}
    assert set(report["conv1"].measures) == {"neuron_strength"}


def test_layers_and_sites_of_all_measures_share_their_rows() -> None:
    model = seeded(ConvNet).eval()
    with na.watch(model, layers=["*", "relu"], **ALL) as watch:
        model(data(64, 2, 8, 8))
    report = watch.report()
    assert set(report["conv1"].measures) == {"saturation", "effective_dimension", "neuron_strength"}
    assert set(report["relu", 0].measures) == {"complexity", "neuron_activation"}
    loaded = na.Report(**{name: getattr(report, name) for name in ("layers", "coverage", "totals", "findings")})
    assert loaded.to_dict()["layers"] == report.to_dict()["layers"]
    assert report.coverage.measured == 4


# --- passes -------------------------------------------------------------------------------------------


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


# --- over training ------------------------------------------------------------------------------------


def snapshots(reset: bool) -> na.History:
    model = seeded(Sums).eval()
    with na.watch(model, **COMPLEXITY) as watch:
        for step in range(1, 5):
            model(data(4, 2, 8, 8, seed=step))
            report = watch.snapshot(step, reset=reset)
            assert report["pool"].complexity.samples == (4 if reset else 4 * step)
    return watch.history


def test_a_snapshot_is_of_what_was_seen_since_the_last_one_or_since_the_beginning() -> None:
    assert len(snapshots(reset=True)) == len(snapshots(reset=False)) == 4


def test_a_history_gives_quantities_of_the_network_and_of_rows_against_the_step(tmp_path: Path) -> None:
    history = snapshots(reset=True)
    assert history.steps == (1, 2, 3, 4)
    series = history["complexity.eval.mean_position"]
    assert series.steps.tolist() == [1, 2, 3, 4]
    assert series.values[2] == [report for _, report in history][2].totals["complexity"]["eval"]["mean_position"]
    assert history["act/1/eval/complexity.mean_channel"].values.shape == (4,)
    frame = history.to_frame()
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert list(frame.columns) == list(history.quantities)
    np.testing.assert_array_equal(frame["complexity.eval.mean_position"], series.values)
    history.to_json(tmp_path / "history.json")
    loaded = na.History.load(tmp_path / "history.json")
    assert loaded.steps == history.steps
    assert loaded.quantities == history.quantities
    with pytest.raises(na.SelectionError, match=r"nearest is 'complexity\.eval\.mean_position'"):
        history["complexity.eval.mean_positions"]


def test_a_history_keeps_no_watch_and_no_model_alive() -> None:
    model = nn.Sequential(nn.ReLU())
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(4, 5))
        assert watch.snapshot(1).watch is watch
    history, gone = watch.history, weakref.ref(model)
    del model, watch
    gc.collect()
    assert gone() is None
    assert len(history) == 1


def test_a_step_that_does_not_rise_is_an_error_and_forgets_nothing() -> None:
    model = nn.Sequential(nn.ReLU())
    with na.watch(model, **COMPLEXITY) as watch:
        model(data(4, 5))
        watch.snapshot(2)
        model(data(4, 5))
        for step in (2, 1.5, float("nan"), True, "3"):
            with pytest.raises(na.DomainError, match="above the last one, 2"):
                watch.snapshot(step)  # type: ignore[arg-type]
        assert watch.report()["0"].complexity.samples == 4
        assert watch.snapshot(3)["0"].complexity.samples == 4
        with pytest.raises(na.NothingObserved):
            watch.snapshot(4)
    assert watch.history.steps == (2, 3)


def test_a_step_may_be_a_number_of_numpys_and_an_int_stays_one(tmp_path: Path) -> None:
    report = snapshots(reset=True)._reports[0]
    history = na.History()
    for step in (np.int64(1), np.float32(1.5), 2):
        history.append(step, report)
    assert [(type(step), step) for step in history.steps] == [(int, 1), (float, 1.5), (int, 2)]
    history.to_json(tmp_path / "history.json")
    assert na.History.load(tmp_path / "history.json").steps == history.steps
    with pytest.raises(na.DomainError, match="expected a number above"):
        history.append(10**400, report)
    with pytest.raises(TypeError, match="got dict, expected a Report"):
        history.append(3, report.to_dict())  # type: ignore[arg-type]
    assert len(history) == 3


def test_the_first_call_keeps_its_name_whether_or_not_there_were_others() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.linear = nn.ReLU(), nn.Linear(5, 5)

        def forward(self, x: Tensor, calls: int) -> Tensor:
            for _ in range(calls):
                x = self.linear(self.act(x))
            return x

    model = seeded(Model)
    with na.watch(model, layers=["*", "act"], **ALL) as watch:
        for step, calls in enumerate((1, 2, 1, 3), start=1):
            model(data(4, 5), calls)
            watch.snapshot(step)
    history = watch.history
    for measure in ("complexity.mean_channel", "neuron_activation.mean"):
        found = {name: history[name].steps.tolist() for name in history.quantities if name.endswith(measure)}
        found = {name: steps for name, steps in found.items() if "/" in name}
        assert found == {
            f"act/0/train/{measure}": [1, 2, 3, 4],
            f"act/1/train/{measure}": [2, 4],
            f"act/2/train/{measure}": [4],
        }
    assert history["act/train/saturation.value"].steps.tolist() == [1, 2, 3, 4]
    with pytest.raises(
        na.SelectionError, match=r"got 'nothing like it', expected one of the \d+ in history\.quantities$"
    ):
        history["nothing like it"]


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"schema": "netassay.report/1"}', b"no"])
def test_what_is_no_history_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(na.StateError, match=r"History\.load"):
        na.History.load(tmp_path / "file")


def test_a_history_plots_a_line_per_quantity() -> None:
    pytest.importorskip("matplotlib")
    history = snapshots(reset=True)
    axes = history.plot("complexity.eval.mean_position", "complexity.eval.mean_channel")
    assert [line.get_label() for line in axes.lines] == [
        "complexity.eval.mean_position",
        "complexity.eval.mean_channel",
    ]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2, 3, 4])
    assert len(history.plot().lines) == len([name for name in history.quantities if "/" not in name])


def test_a_power_law_is_fitted_to_a_quantity_in_a_window() -> None:
    growth = snapshots(reset=True).power_law("complexity.eval.total_position", window=(1, 4))
    assert growth.points == 4


# --- where activations lie on another device ----------------------------------------------------------


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
