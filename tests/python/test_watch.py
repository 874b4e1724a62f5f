"""What a watch measures: which layers, which outputs, which rows of them, in which mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netassay as na
from python.models import (
    EXACT,
    HIGH,
    ConvNet,
    Encoder,
    Mlp,
    Recurrent,
    Wrap,
    assert_is_state_of,
    data,
    equal,
    one_thread,  # noqa: F401
    recording,
    rows_of,
    same_states,
    seeded,
    tokens,
)
from reference import saturation as reference

F64 = torch.float64

LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "Linear": (lambda: nn.Linear(5, 7, dtype=F64), lambda s: data(9, 5, seed=s, dtype=F64)),
    "Linear of tokens": (lambda: nn.Linear(5, 7, dtype=F64), lambda s: data(4, 10, 5, seed=s, dtype=F64)),
    "Linear of one row": (lambda: nn.Linear(5, 7, dtype=F64), lambda s: data(5, seed=s, dtype=F64)),
    "Conv1d": (lambda: nn.Conv1d(3, 6, 3, dtype=F64), lambda s: data(4, 3, 11, seed=s, dtype=F64)),
    "Conv2d": (lambda: nn.Conv2d(3, 6, 3, dtype=F64), lambda s: data(4, 3, 8, 7, seed=s, dtype=F64)),
    "Conv2d, depthwise": (
        lambda: nn.Conv2d(6, 6, 3, groups=6, dtype=F64),
        lambda s: data(4, 6, 8, 7, seed=s, dtype=F64),
    ),
    "Conv2d without a batch": (
        lambda: nn.Conv2d(3, 6, 3, dtype=F64),
        lambda s: data(3, 8, 7, seed=s, dtype=F64),
    ),
    "Conv2d, channels_last": (
        lambda: nn.Conv2d(3, 6, 3, dtype=F64).to(memory_format=torch.channels_last),
        lambda s: data(4, 3, 8, 7, seed=s, dtype=F64).to(memory_format=torch.channels_last),
    ),
    "Conv3d": (lambda: nn.Conv3d(2, 6, 2, dtype=F64), lambda s: data(3, 2, 4, 5, 3, seed=s, dtype=F64)),
    "ConvTranspose1d": (
        lambda: nn.ConvTranspose1d(3, 6, 3, dtype=F64),
        lambda s: data(4, 3, 9, seed=s, dtype=F64),
    ),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(3, 6, 3, dtype=F64),
        lambda s: data(2, 3, 5, 4, seed=s, dtype=F64),
    ),
    "ConvTranspose3d": (
        lambda: nn.ConvTranspose3d(2, 4, 2, dtype=F64),
        lambda s: data(2, 2, 3, 3, 3, seed=s, dtype=F64),
    ),
    "Embedding": (lambda: nn.Embedding(11, 6, dtype=F64), lambda s: tokens(4, 9, seed=s)),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(11, 6, dtype=F64), lambda s: tokens(8, 5, seed=s)),
    "RNN": (lambda: nn.RNN(5, 6, dtype=F64), lambda s: data(7, 4, 5, seed=s, dtype=F64)),
    "GRU, batch first, both ways": (
        lambda: nn.GRU(5, 6, batch_first=True, bidirectional=True, dtype=F64),
        lambda s: data(4, 7, 5, seed=s, dtype=F64),
    ),
    "LSTM with a projection": (
        lambda: nn.LSTM(5, 6, proj_size=3, dtype=F64),
        lambda s: data(7, 4, 5, seed=s, dtype=F64),
    ),
    "LSTM without a batch": (lambda: nn.LSTM(5, 6, dtype=F64), lambda s: data(7, 5, seed=s, dtype=F64)),
    "LSTM, packed": (
        lambda: nn.LSTM(5, 6, dtype=F64),
        lambda s: nn.utils.rnn.pack_padded_sequence(data(7, 3, 5, seed=s, dtype=F64), torch.tensor([7, 4, 2])),
    ),
    "RNNCell": (lambda: nn.RNNCell(5, 6, dtype=F64), lambda s: data(8, 5, seed=s, dtype=F64)),
    "GRUCell": (lambda: nn.GRUCell(5, 6, dtype=F64), lambda s: data(8, 5, seed=s, dtype=F64)),
    "LSTMCell": (lambda: nn.LSTMCell(5, 6, dtype=F64), lambda s: data(8, 5, seed=s, dtype=F64)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_is_tracked_and_its_rows_are_those_of_its_output(name: str) -> None:
    make, inputs = LAYERS[name]
    model = Wrap(seeded(make)).eval()
    outputs = []
    with na.watch(model, precision="exact") as watch:
        for seed in range(3):
            outputs.append(rows_of(model.inner, model(inputs(seed))))
    assert set(watch.states) == {("inner", "eval")}
    assert_is_state_of(watch.states["inner", "eval"], np.concatenate(outputs))
    row = watch.report()["inner"]
    assert row.kind == type(model.inner).__name__
    assert row.parameters == sum(p.numel() for p in model.inner.parameters())


def test_attention_is_one_layer_whose_rows_are_its_output() -> None:
    attention = seeded(lambda: nn.MultiheadAttention(6, 2, batch_first=True, dtype=F64))
    model = Wrap(attention, lambda m, x: m(x, x, x)).eval()
    with na.watch(model, precision="exact") as watch, torch.no_grad():
        output = model(data(3, 5, 6, dtype=F64))[0]
    assert set(watch.states) == {("inner", "eval")}
    assert_is_state_of(watch.states["inner", "eval"], output.reshape(-1, 6).numpy())


def test_states_are_the_moments_of_the_layers_outputs_over_all_batches_by_mode() -> None:
    model = seeded(ConvNet)
    with recording(model) as seen, na.watch(model, precision="exact") as watch:
        for seed, size in enumerate((5, 3, 1, 7)):
            model.eval() if seed == 2 else model.train(size > 1)
            model(data(size, 2, 8, 8, seed=seed))
    names = ["conv1", "conv2", "fc"]
    assert set(watch.states) == {(name, mode) for name in names for mode in ("train", "eval")}
    for key, state in watch.states.items():
        assert_is_state_of(state, np.concatenate(seen[key]))


def test_high_precision_meets_its_bar_on_a_layers_output() -> None:
    model = seeded(Mlp).eval()
    with recording(model) as seen, na.watch(model) as watch, torch.no_grad():
        for seed in range(4):
            model(data(100, 6, seed=seed))
    for key, state in watch.states.items():
        assert state.precision == "high"
        assert_is_state_of(state, np.concatenate(seen[key]), HIGH)


def test_the_mode_is_the_roots_at_the_start_of_the_pass_not_the_layers() -> None:
    model = seeded(Mlp).train()
    model.fc1.eval()
    with na.watch(model) as watch:
        model(data(4, 6))
    assert {mode for _, mode in watch.states} == {"train"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_floating_dtype_is_measured(dtype: torch.dtype) -> None:
    model = nn.Sequential(seeded(lambda: nn.Linear(6, 5)).to(dtype))
    with recording(model) as seen, na.watch(model, precision="exact") as watch, torch.no_grad():
        model(data(50, 6, dtype=dtype))
    assert_is_state_of(watch.states["0", "train"], seen["0", "train"][0])


@pytest.mark.parametrize(
    ("make", "batch"),
    [(Mlp, data(4, 6)), (ConvNet, data(4, 2, 8, 8)), (Encoder, tokens(3, 5)), (Recurrent, data(3, 4, 5))],
)
def test_the_watched_model_returns_what_it_returned(make: Callable[[], nn.Module], batch: torch.Tensor) -> None:
    torch.manual_seed(0)
    expected = seeded(make).train()(batch)
    model = seeded(make).train()
    torch.manual_seed(0)
    with na.watch(model):
        assert torch.equal(model(batch), expected)


# --- which layers -------------------------------------------------------------------------------------


def tracked(model: nn.Module, batch: torch.Tensor, layers: Any) -> list[str]:
    with na.watch(model, layers=layers) as watch, torch.no_grad():
        model(batch)
    return [row.name for row in watch.report().layers]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("*", ["conv1", "conv2", "fc"]),
        ("conv*", ["conv1", "conv2"]),
        ("conv1", ["conv1"]),
        ("bn*", ["bn1", "bn2"]),
        ("bn1", ["bn1"]),
        (nn.Linear, ["fc"]),
        (nn.BatchNorm2d, ["bn1", "bn2"]),
        ((nn.Conv2d, "fc"), ["conv1", "conv2", "fc"]),
        (["*", "bn2"], ["conv1", "conv2", "bn2", "fc"]),
        (["*", "!conv*"], ["fc"]),
        (["*", "!conv*", "conv2"], ["conv2", "fc"]),
        (["!fc", "*"], ["conv1", "conv2", "fc"]),
        (["!fc"], ["conv1", "conv2"]),
        ("!fc", ["conv1", "conv2"]),
        ([nn.Conv2d, "!conv2"], ["conv1"]),
        ("[cf]*", ["conv1", "conv2", "fc"]),
        ("(root)", ["(root)"]),
    ],
    ids=str,
)
def test_a_pattern_or_a_type_chooses_layers_in_order_of_first_call(layers: Any, expected: list[str]) -> None:
    assert tracked(seeded(ConvNet).eval(), data(2, 2, 8, 8), layers) == expected


def test_a_star_in_a_pattern_crosses_dots() -> None:
    model = seeded(Encoder)
    expected = [f"encoder.layers.{i}.{name}" for i in range(2) for name in ("linear1", "linear2")]
    assert tracked(model, tokens(2, 3), "enc*linear?") == expected


@pytest.mark.parametrize("layers", ["nothing", "conv9*", nn.GRU, ["*", "nothing"], ["*", "!nothing"]], ids=str)
def test_a_pattern_that_matches_nothing_is_an_error_naming_it(layers: Any) -> None:
    model = seeded(ConvNet)
    with pytest.raises(na.SelectionError) as error:
        na.watch(model, layers=layers)
    assert isinstance(error.value, ValueError)
    named = layers if isinstance(layers, list) else [layers]
    assert (named[-1] if isinstance(named[-1], str) else "GRU").lstrip("!") in str(error.value)
    assert not any(layer._forward_hooks for layer in model.modules())


def test_attentions_output_projection_is_no_layer_of_its_own() -> None:
    assert tracked(seeded(Encoder).train(), tokens(2, 3), "*attn*") == [f"encoder.layers.{i}.self_attn" for i in (0, 1)]


def test_a_layer_of_a_users_own_class_derived_from_a_known_one_is_tracked() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = nn.Sequential(Scaled(6, 4), nn.ReLU())
    with na.watch(model) as watch:
        model(data(3, 6))
    assert watch.report()["0"].kind == "Scaled"


@pytest.mark.parametrize(
    "options",
    [
        {"positions": "some"},
        {"every": 0},
        {"every": 1.5},
        {"max_rows": 0},
        {"delta": 1.5},
        {"delta": float("nan")},
        {"precision": "double"},
        {"measures": ("colour",)},
        {"measures": ()},
        {"memory": -1},
        {"memory": float("nan")},
        {"mask": 3},
        {"seed": -1},
        {"seed": "a"},
    ],
    ids=str,
)
def test_a_bad_option_is_an_error_that_names_it_and_leaves_the_model_alone(options: dict[str, Any]) -> None:
    model = seeded(Mlp)
    with pytest.raises((ValueError, TypeError), match=f"watch: got {next(iter(options))}="):
        na.watch(model, **options)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match="watch: got function"):
        na.watch(lambda x: x)


# --- which rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("positions", ["all", "mean", "flatten"])
def test_positions_of_a_convolution_are_rows_or_their_mean_or_one_flat_row(
    positions: str, fmt: torch.memory_format
) -> None:
    model = nn.Sequential(seeded(lambda: nn.Conv2d(2, 4, 3, dtype=F64))).to(memory_format=fmt)
    batch = data(9, 2, 6, 5, dtype=F64).to(memory_format=fmt)
    with na.watch(model, positions=positions, precision="exact") as watch, torch.no_grad():
        output = model(batch).contiguous().numpy()
    expected = {
        "all": reference.rows(output, "channels_first"),
        "mean": output.mean(axis=(2, 3)),
        "flatten": output.reshape(9, -1),
    }
    state = watch.states["0", "train"]
    assert state.width == expected[positions].shape[1]
    assert_is_state_of(state, expected[positions])


@pytest.mark.parametrize("positions", ["mean", "flatten"])
def test_positions_are_of_convolutions_and_leave_tokens_alone(positions: str) -> None:
    model = nn.Sequential(nn.Linear(5, 4, dtype=F64))
    with na.watch(model, positions=positions, precision="exact") as watch, torch.no_grad():
        output = model(data(3, 6, 5, dtype=F64))
    assert_is_state_of(watch.states["0", "train"], output.reshape(-1, 4).numpy())


def test_flat_rows_of_another_size_are_left_out_and_said() -> None:
    model = nn.Sequential(seeded(lambda: nn.Conv2d(2, 4, 3)))
    with na.watch(model, positions="flatten") as watch, torch.no_grad():
        model(data(3, 2, 6, 6))
        model(data(2, 2, 8, 8))
        model(data(3, 2, 6, 6, seed=1))
    assert watch.states["0", "train"].count == 6
    assert any("width" in note or "shape" in note for note in watch.report().coverage.notes)


def test_convolutions_of_any_input_size_share_one_state() -> None:
    model = nn.Sequential(seeded(lambda: nn.Conv2d(2, 4, 3)))
    with na.watch(model) as watch, torch.no_grad():
        model(data(3, 2, 6, 6))
        model(data(2, 2, 8, 8))
    assert watch.states["0", "train"].count == 3 * 16 + 2 * 36


class Powers(nn.Module):
    """Passes on 40 rows, 2^0 ... 2^39: any subset of them is told by its sum."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False, dtype=F64)
        nn.init.ones_(self.layer.weight)

    def forward(self) -> torch.Tensor:
        return self.layer(2.0 ** torch.arange(40, dtype=F64)[:, None])


def subset(watch: Any) -> list[int]:
    state = watch.states["layer", "train"]
    total = round(float(state.mean[0]) * state.count)
    return [i for i in range(40) if total >> i & 1]


def test_max_rows_takes_a_uniform_subset_of_the_rows_themselves() -> None:
    model = Powers()
    taken = np.zeros(40, dtype=int)
    for seed in range(200):
        with na.watch(model, max_rows=10, seed=seed) as watch:
            model()
        chosen = subset(watch)
        assert len(chosen) == watch.states["layer", "train"].count == 10
        taken[chosen] += 1
    # Binomial(200, 1/4): mean 50, standard deviation 6.1
    assert 20 < taken.min() <= taken.max() < 80


def test_max_rows_depends_on_the_seed_alone() -> None:
    model = Powers()
    chosen = []
    for seed in (0, 0, 1):
        torch.rand(3)
        np.random.random(3)
        with na.watch(model, max_rows=10, seed=seed) as watch:
            model()
        chosen.append(subset(watch))
    assert chosen[0] == chosen[1] != chosen[2]


def test_max_rows_draws_anew_at_every_call() -> None:
    model = Powers()
    with na.watch(model, max_rows=10) as watch:
        model()
        once = subset(watch)
        model()
    state = watch.states["layer", "train"]
    assert state.count == 20
    assert round(float(state.mean[0]) * 20) != 2 * sum(2**i for i in once)


def test_max_rows_is_flagged_only_where_it_left_rows_out() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(18, 3))
    with na.watch(model, max_rows=20) as watch, torch.no_grad():
        model(data(4, 1, 3, 3))
    report = watch.report()
    assert report["0"].saturation.samples == 20
    assert "sampled" in report["0"].saturation.flags
    assert report["2"].saturation.samples == 4
    assert "sampled" not in report["2"].saturation.flags


@pytest.mark.parametrize("every", [1, 2, 3])
def test_every_kth_pass_is_taken_counted_per_mode_from_the_first(every: int) -> None:
    model = seeded(Mlp)
    modes = [True, True, False, True, False, False, True, False, True, True]
    with recording(model) as seen, na.watch(model, every=every, precision="exact") as watch, torch.no_grad():
        for seed, training in enumerate(modes):
            model.train(training)
            model(data(3 + seed, 6, seed=seed))
    for key, state in watch.states.items():
        assert_is_state_of(state, np.concatenate(seen[key][::every]))


def test_a_mask_leaves_padding_out() -> None:
    model = seeded(Encoder).train()
    batch = tokens(4, 6)
    batch[:, 4:] = 0
    keep = batch != 0
    with recording(model) as seen, na.watch(model, mask=lambda x: x != 0, precision="exact") as watch:
        model(batch)
    kept = keep.reshape(-1).numpy()
    for key, state in watch.states.items():
        assert_is_state_of(state, seen[key][0][kept])
    assert all("unmasked" not in row.saturation.flags for row in watch.report().layers)


def test_a_layer_whose_rows_the_mask_does_not_fit_is_measured_whole_and_flagged() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.pooled = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pooled(self.tokens(x).mean(dim=1))

    model = Pooled()
    keep = torch.tensor([[True] * 4 + [False] * 2] * 5)
    with na.watch(model, mask=lambda x: keep) as watch:
        model(data(5, 6, 3))
    report = watch.report()
    assert (report["tokens"].saturation.samples, report["pooled"].saturation.samples) == (20, 5)
    assert "unmasked" in report["pooled"].saturation.flags
    assert "unmasked" not in report["tokens"].saturation.flags


def test_a_mask_sees_the_roots_inputs_positional_and_by_name() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor, *, keep: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    model = Masked()
    keep = torch.tensor([[True, False], [True, True], [False, False]])
    with na.watch(model, mask=lambda x, keep: keep) as watch:
        model(data(3, 2, 3), keep=keep)
    assert watch.states["layer", "train"].count == 3


# --- the report ---------------------------------------------------------------------------------------


def test_a_report_has_the_reference_values_of_each_layer_and_mode() -> None:
    model = seeded(ConvNet)
    with recording(model) as seen, na.watch(model, precision="exact", delta=0.9) as watch:
        for training in (True, False):
            model.train(training)
            model(data(40, 2, 8, 8))
    report = watch.report()
    assert [(row.name, row.mode) for row in report.layers] == [
        (name, mode) for name in ("conv1", "conv2", "fc") for mode in ("train", "eval")
    ]
    for row in report.layers:
        eig = reference.eigenvalues(reference.covariance(np.concatenate(seen[row.name, row.mode])))
        assert row.saturation.delta == 0.9
        assert row.saturation.dimension == reference.dimension(eig, 0.9)
        assert row.saturation.value == reference.saturation(eig, 0.9)
        assert row.effective_dimension.value == pytest.approx(reference.effective_dimension(eig), rel=1e-8)
        assert row.effective_dimension.stable_rank == pytest.approx(reference.stable_rank(eig), rel=1e-8)
    assert report["conv1"].mode == "eval"
    assert report["conv1"].shape == (6, 2, 3, 3)
    assert report["fc"].parameters == 27


def test_coverage_counts_layers_and_parameters() -> None:
    model = seeded(ConvNet)
    with na.watch(model, layers=["*", "!conv2"]) as watch:
        model(data(4, 2, 8, 8))
    coverage = watch.report().coverage
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in model.named_children()}
    assert coverage.measured == 2
    assert coverage.parameters_measured == counts["conv1"] + counts["fc"]
    assert coverage.parameters_total == sum(counts.values())


def test_a_report_changes_nothing_and_can_be_had_at_any_time() -> None:
    def run(reports: bool) -> Any:
        model = seeded(Mlp)
        watch = na.watch(model)
        for seed in range(4):
            model(data(5, 6, seed=seed))
            if reports:
                first_time, again = watch.report(), watch.report()
                assert first_time.to_dict(volatile=False) == again.to_dict(volatile=False)
        watch.close()
        return watch

    torch.manual_seed(0)
    asked = run(reports=True)
    torch.manual_seed(0)
    silent = run(reports=False)
    assert same_states(asked, silent)


def test_equal_runs_write_equal_files(tmp_path: Any) -> None:
    for name in ("a.json", "b.json"):
        torch.manual_seed(0)
        model = seeded(ConvNet)
        with na.watch(model, max_rows=7) as watch:
            model(data(4, 2, 8, 8))
        watch.report().to_json(tmp_path / name, volatile=False)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["schema"] == "netassay.report/1"
    assert na.Report.load(tmp_path / "a.json")["fc"].saturation.width == 3


def test_a_report_prints_every_layer() -> None:
    model = seeded(ConvNet)
    with na.watch(model) as watch:
        model(data(4, 2, 8, 8))
    text = str(watch.report())
    assert all(name in text for name in ("conv1", "conv2", "fc"))


def test_a_report_outlives_the_watch_and_does_not_follow_it() -> None:
    model = seeded(Mlp)
    with na.watch(model) as watch:
        model(data(4, 6))
        report = watch.report()
        model(data(4, 6, seed=1))
    assert report["fc1"].saturation.samples == 4
    assert watch.report()["fc1"].saturation.samples == 8


# --- the life of a watch ------------------------------------------------------------------------------


def test_nothing_is_recorded_while_paused_and_after_closing() -> None:
    model = seeded(Mlp)
    watch = na.watch(model)
    model(data(4, 6))
    watch.pause()
    model(data(5, 6))
    watch.resume()
    model(data(6, 6))
    watch.close()
    model(data(7, 6))
    assert {state.count for state in watch.states.values()} == {10}
    watch.close()
    assert watch.report()["fc1"].saturation.samples == 10
    with pytest.raises(RuntimeError, match="closed"):
        watch.resume()


def test_reset_forgets_everything() -> None:
    torch.manual_seed(0)
    model = seeded(lambda: Mlp(dropout=0.0))
    with na.watch(model, max_rows=3) as watch, na.watch(model, max_rows=3) as other:
        model(data(4, 6))
        watch.reset()
        with pytest.raises(na.NothingObserved):
            watch.report()
        model(data(5, 6, seed=1))
    assert watch.states["fc1", "train"].count == 3
    assert other.states["fc1", "train"].count == 6


def test_a_watch_is_attached_from_construction_and_closed_by_the_with_block_even_on_an_error() -> None:
    model = seeded(Mlp)
    watch = na.watch(model)
    model(data(4, 6))
    with pytest.raises(ZeroDivisionError), watch:
        model(data(4, 6))
        _ = 1 / 0
    model(data(4, 6))
    assert watch.states["fc1", "train"].count == 8


def test_states_can_be_merged_and_used_on_their_own() -> None:
    model = seeded(Mlp).eval()
    with na.watch(model, precision="exact") as first_half:
        model(data(30, 6))
    with na.watch(model, precision="exact") as second_half:
        model(data(50, 6, seed=1))
    with na.watch(model, precision="exact") as whole:
        model(data(30, 6))
        model(data(50, 6, seed=1))
    both = first_half.states["fc1", "eval"] + second_half.states["fc1", "eval"]
    expected = whole.states["fc1", "eval"].scatter
    assert np.linalg.norm(both.scatter - expected) <= EXACT * np.linalg.norm(expected)
    assert na.saturation.saturation(both).samples == 80


def test_a_state_handed_out_does_not_disturb_the_watch() -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch, na.watch(model) as other:
        model(data(4, 6))
        kept = watch.states["fc1", "eval"].copy()
        model(data(4, 6, seed=1))
    assert kept.count == 4
    assert equal(watch.states["fc1", "eval"], other.states["fc1", "eval"])


def test_measuring_under_no_grad_and_inference_mode_gives_the_same() -> None:
    model = seeded(Mlp).eval()
    watches = []
    for context in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with na.watch(model) as watch, context:
            model(data(20, 6))
        watches.append(watch)
    assert same_states(watches[0], watches[1])
    assert same_states(watches[0], watches[2])


def test_calls_are_counted_over_the_passes_measured_and_several_in_one_pass_are_flagged() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.once, self.twice = nn.Linear(4, 4, dtype=F64), nn.Linear(4, 4, dtype=F64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.twice(torch.tanh(self.twice(self.once(x))))

    model = Twice()
    with recording(model) as seen, na.watch(model, precision="exact") as watch, torch.no_grad():
        for seed in range(3):
            model(data(10, 4, dtype=F64, seed=seed))
    assert_is_state_of(watch.states["twice", "train"], np.concatenate(seen["twice", "train"]))
    report = watch.report()
    assert (report["once"].calls, report["twice"].calls) == (3, 6)
    assert "several_calls" in report["twice"].saturation.flags
    assert "several_calls" not in report["once"].saturation.flags


def test_before_the_first_pass_there_is_nothing_to_report_and_the_error_says_so() -> None:
    with na.watch(seeded(Mlp)) as watch, pytest.raises(na.NothingObserved, match="no forward pass"):
        watch.report()
    assert not watch.states
