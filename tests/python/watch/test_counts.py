"""watch(measures=("complexity", "network")): sites and layers are counted as the pass shows them, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netassay as na
from netassay.complexity import Switching
from python.models import ConvNet, Encoder, Mlp, Wrap, data, reasons, recording, seeded, tokens
from python.sums import ALL, COMPLEXITY, Sums, equal, inputs_of, same

pytestmark = pytest.mark.native


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
