"""Inputs on which known software is wrong or breaks, each with the right answer."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import netassay as na
from netassay.saturation import effective_dimension, saturation
from python.models import ConvNet, Mlp, Wrap, assert_is_state_of, data, recording, rows_of, same_states, seeded

pytestmark = pytest.mark.native

F64 = torch.float64


class Pass(nn.Module):
    """A linear layer that passes its input on, so that a test says what the layer's rows are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width, bias=False, dtype=F64)
        nn.init.eye_(self.layer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def passed(*batches: torch.Tensor, **options: Any) -> Any:
    """The report's row of a layer whose outputs were these batches."""
    model = Pass(batches[0].shape[-1])
    with na.watch(model, **options) as watch, torch.no_grad():
        for batch in batches:
            model(batch)
    return watch.report()["layer"]


def with_spectrum(eigenvalues: np.ndarray) -> torch.Tensor:
    """Rows with exactly this covariance: +- sqrt(d l_i) along each axis."""
    axes = np.diag(np.sqrt(len(eigenvalues) * np.asarray(eigenvalues)))
    return torch.from_numpy(np.concatenate([axes, -axes]))


def test_6400_isotropic_rows_then_a_batch_of_10_have_dimension_64() -> None:
    batches = [data(64, 64, seed=seed, dtype=F64) for seed in range(100)]
    row = passed(*batches, data(10, 64, seed=100, dtype=F64))
    assert row.saturation.rows == 6410
    assert (row.saturation.dimension, row.saturation.value) == (64, 1.0)


def test_a_last_batch_of_one_row_accumulates() -> None:
    whole = data(65, 8, dtype=F64)
    row = passed(whole[:64], whole[64:], precision="exact")
    assert row.saturation.rows == 65
    expected = np.linalg.eigvalsh(np.cov(whole.numpy().T, bias=True))[::-1]
    np.testing.assert_allclose(row.saturation.eigenvalues, expected, rtol=1e-9)


def test_rank_one_has_dimension_1() -> None:
    assert passed(data(100, 1, dtype=F64) * torch.arange(1, 9, dtype=F64)).saturation.dimension == 1


@pytest.mark.parametrize(("spectrum", "dimension"), [([0.995, 0.005], 1), ([0.985, 0.015], 2)])
def test_two_directions_are_counted_by_the_variance_they_carry(spectrum: list[float], dimension: int) -> None:
    assert passed(with_spectrum(np.array(spectrum))).saturation.dimension == dimension


@pytest.mark.parametrize(("width", "dimension"), [(10, 10), (64, 64), (100, 99), (1000, 990)])
def test_a_flat_spectrum_has_the_dimension_its_sum_gives(width: int, dimension: int) -> None:
    row = passed(with_spectrum(np.ones(width)))
    assert row.saturation.dimension == dimension
    assert row.effective_dimension.value == pytest.approx(width)


@pytest.mark.parametrize(
    ("spectrum", "dimension"),
    [(0.9 ** np.arange(64), 43), (1 / np.arange(1, 513), 479)],
    ids=["0.9^i", "1/i"],
)
def test_a_decaying_spectrum_has_the_dimension_its_sum_gives(spectrum: np.ndarray, dimension: int) -> None:
    assert passed(with_spectrum(spectrum)).saturation.dimension == dimension


def test_a_dead_layer_is_0_with_a_flag() -> None:
    row = passed(torch.zeros(20, 8, dtype=F64))
    assert (row.saturation.dimension, row.saturation.value) == (0, 0.0)
    assert "constant" in row.saturation.flags
    assert row.effective_dimension.value == 1.0
    assert "constant" in row.effective_dimension.flags


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_row_with_one_nan_or_infinity_is_left_out_and_counted(bad: float) -> None:
    batch = data(40, 8, dtype=F64)
    clean = passed(batch[torch.arange(40) != 7])
    batch[7, 3] = bad  # the identity's zeros times an infinity are NaN: the row stays bad
    row = passed(batch)
    assert row.saturation.rows == 39
    assert "nonfinite" in row.saturation.flags
    assert "nonfinite" not in clean.saturation.flags
    np.testing.assert_array_equal(row.saturation.eigenvalues, clean.saturation.eigenvalues)


def test_an_epoch_without_an_eval_pass_reports_train_and_says_that_eval_is_missing() -> None:
    model = seeded(Mlp).train()
    with na.watch(model) as watch:
        model(data(20, 6))
    report = watch.report()
    assert {row.mode for row in report.layers} == {"train"}
    assert any("eval" in note for note in report.coverage.notes)
    with pytest.raises(KeyError, match="train"):
        report["fc1", "eval"]


def test_a_model_that_is_itself_one_linear_works() -> None:
    model = seeded(lambda: nn.Linear(6, 4))
    with na.watch(model, precision="exact") as watch, torch.no_grad():
        output = model(data(20, 6))
    assert set(watch.states) == {("(root)", "train")}
    assert_is_state_of(watch.states["(root)", "train"], output.double().numpy())
    assert watch.report()["(root)"].kind == "Linear"


def test_two_models_with_equal_layer_names_have_each_its_own() -> None:
    a, b = seeded(Mlp, 1).eval(), seeded(Mlp, 2).eval()
    with na.watch(a) as of_a, na.watch(b) as of_b, torch.no_grad():
        a(data(20, 6))
        b(data(30, 6))
        a(data(20, 6, seed=1))
    assert {state.count for state in of_a.states.values()} == {40}
    assert {state.count for state in of_b.states.values()} == {30}
    assert set(of_a.states) == set(of_b.states)


def test_a_layer_used_twice_has_20_rows_of_10_in_one_state_two_calls_and_one_hook() -> None:
    model = Wrap(seeded(lambda: nn.Linear(4, 4)), lambda layer, x: layer(torch.relu(layer(x))))
    with na.watch(model) as watch:
        assert len(model.inner._forward_hooks) == 1
        model(data(10, 4))
    row = watch.report()["inner"]
    assert (row.saturation.rows, row.calls) == (20, 2)
    assert [r.name for r in watch.report().layers] == ["inner"]


@pytest.mark.parametrize(
    "parametrize",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
        pytest.param(
            nn.utils.weight_norm,
            marks=pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning"),
        ),
        nn.utils.spectral_norm,
    ],
    ids=lambda f: f"{f.__module__.rsplit('.')[-1]}.{f.__name__}",
)
def test_a_weight_normed_or_parametrized_layer_is_tracked(
    parametrize: Callable[[nn.Module], nn.Module],
) -> None:
    model = Wrap(parametrize(seeded(lambda: nn.Linear(6, 4)))).eval()
    with na.watch(model, precision="exact") as watch, torch.no_grad():
        output = model(data(20, 6))
    assert_is_state_of(watch.states["inner", "eval"], output.double().numpy())
    row = watch.report()["inner"]
    assert (row.kind, row.shape) == ("Linear", (4, 6))


KINDS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3), data(5, 3, 9)),
    "Conv3d": (lambda: nn.Conv3d(2, 4, 2), data(3, 2, 4, 4, 4)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(3, 4, 3), data(5, 3, 9)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 4, 3), data(5, 3, 5, 5)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 4, 2), data(3, 2, 4, 4, 4)),
    "GRU": (lambda: nn.GRU(5, 4), data(6, 3, 5)),
    "LayerNorm": (lambda: nn.LayerNorm(5), data(6, 3, 5)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5), data(30, 5)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), data(5, 3, 4, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), data(5, 4, 3)),
    "Embedding": (lambda: nn.Embedding(7, 5), torch.arange(28).reshape(4, 7) % 7),
}


@pytest.mark.parametrize("kind", KINDS)
def test_convolutions_of_any_rank_recurrent_normalisation_and_embedding_layers_are_tracked(kind: str) -> None:
    make, batch = KINDS[kind]
    model = Wrap(seeded(make))
    with na.watch(model, layers="inner", precision="exact") as watch, torch.no_grad():
        output = model(batch)
    if "Norm" in kind and kind != "LayerNorm":  # channels in axis 1
        rows = np.moveaxis(output.double().numpy(), 1, -1).reshape(-1, output.shape[1])
    else:
        rows = rows_of(model.inner, output)
    assert_is_state_of(watch.states["inner", "train"], rows)
    assert "layout_guessed" not in watch.report()["inner"].saturation.flags


def test_forwards_of_a_deep_copy_are_not_recorded() -> None:
    model = seeded(Mlp)
    with na.watch(model) as watch:
        model(data(10, 6))
        average = copy.deepcopy(model)
        average(data(10, 6))
        torch.optim.swa_utils.AveragedModel(model)(data(10, 6))
    assert {state.count for state in watch.states.values()} == {10}


def test_a_watched_model_can_be_saved_and_pickled() -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch:
        buffer = io.BytesIO()
        torch.save(model, buffer)
        buffer.seek(0)
        for loaded in (torch.load(buffer, weights_only=False), pickle.loads(pickle.dumps(model))):
            assert torch.equal(loaded(data(10, 6)), model(data(10, 6)))
    assert {state.count for state in watch.states.values()} == {20}


def contents(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Every module's __dict__, its containers by what they hold."""
    return {
        name: {
            key: (type(value), dict(value)) if isinstance(value, dict) else value for key, value in vars(module).items()
        }
        for name, module in model.named_modules()
    }


def test_after_close_every_modules_dict_is_as_before() -> None:
    model = seeded(ConvNet)
    model.conv1.register_forward_hook(lambda *_: None)
    before = contents(model)
    with na.watch(model, layers=["*", "bn*", "(root)"]):
        assert contents(model) != before
    assert contents(model) == before


def test_the_average_over_layers_is_their_mean() -> None:
    model = seeded(Mlp)
    with na.watch(model) as watch:
        for training in (True, False):
            model.train(training)
            model(data(100, 6))
    report = watch.report()
    for mode in ("train", "eval"):
        values = [row.saturation.value for row in report.layers if row.mode == mode]
        assert report.totals["saturation"][mode] == pytest.approx(np.mean(values))
        dimensions = [row.effective_dimension.value for row in report.layers if row.mode == mode]
        assert report.totals["effective_dimension"][mode] == pytest.approx(np.mean(dimensions))


def test_an_lstm_with_time_first_has_every_time_step_of_every_item() -> None:
    lstm = seeded(lambda: nn.LSTM(5, 6, batch_first=False))
    model = Wrap(lstm)
    with na.watch(model, precision="exact") as watch, torch.no_grad():
        output, _ = model(data(7, 4, 5))
    state = watch.states["inner", "train"]
    assert (state.count, state.width) == (28, 6)
    assert_is_state_of(state, output.reshape(28, 6).double().numpy())


def test_a_linear_on_4_10_8_to_6_has_40_rows_of_width_6() -> None:
    model = Wrap(seeded(lambda: nn.Linear(8, 6)))
    with na.watch(model) as watch:
        model(data(4, 10, 8))
    row = watch.report()["inner"]
    assert (row.saturation.rows, row.saturation.width) == (40, 6)


def test_a_one_dimensional_input_to_a_linear_is_one_row() -> None:
    model = Wrap(seeded(lambda: nn.Linear(8, 6)))
    with na.watch(model) as watch:
        model(data(8))
        row = watch.report()["inner"]
        assert row.saturation.value is None
        assert "too_few_rows" in row.saturation.flags
        model(data(8, seed=1))
    assert watch.report()["inner"].saturation.rows == 2


def test_channels_last_with_flatten_works_and_equals_the_contiguous_one() -> None:
    states = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = seeded(lambda: nn.Conv2d(2, 4, 3).double()).to(memory_format=memory_format)
        with na.watch(model, positions="flatten", precision="exact") as watch, torch.no_grad():
            output = model(data(9, 2, 6, 5, dtype=F64).to(memory_format=memory_format))
        assert_is_state_of(watch.states["(root)", "train"], output.reshape(9, -1).numpy())
        states.append(watch.states["(root)", "train"])
    assert states[0].width == states[1].width == 4 * 4 * 3


class Positions(nn.Module):
    """Passes on 20 items of 7 x 7 positions, each row one-hot by item and by position.

    The scatter of any subset of the rows tells which they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(69, 69, 1, bias=False, dtype=F64)
        nn.init.dirac_(self.layer.weight)

    def forward(self) -> torch.Tensor:
        items = torch.eye(20, dtype=F64)[:, :, None].expand(20, 20, 49)
        places = torch.eye(49, dtype=F64)[None].expand(20, 49, 49)
        return self.layer(torch.cat([items, places], dim=1).unflatten(2, (7, 7)))


def chosen(seed: int) -> np.ndarray:
    """(20, 49): how often each row of one call was taken."""
    model = Positions()
    with na.watch(model, max_rows=50, precision="exact", seed=seed) as watch, torch.no_grad():
        model()
    state = watch.states["layer", "train"]
    assert state.count == 50
    together = state.scatter + state.count * np.outer(state.mean, state.mean)
    return together[:20, 20:]


def test_max_rows_50_of_20_x_49_positions_takes_50_rows_a_seeded_uniform_sample_of_the_980() -> None:
    counts = np.zeros((20, 49))
    for seed in range(60):
        taken = chosen(seed)
        np.testing.assert_allclose(taken, np.round(taken), atol=1e-9)
        taken = np.round(taken)
        assert set(np.unique(taken)) == {0, 1}
        assert taken.sum() == 50
        counts += taken
    np.testing.assert_array_equal(chosen(0), chosen(0))
    # 3000 draws: 150 +- 12 per item, 61 +- 8 per position.
    assert 100 < counts.sum(axis=1).min() <= counts.sum(axis=1).max() < 200
    assert 30 < counts.sum(axis=0).min() <= counts.sum(axis=0).max() < 95


def test_alternating_train_and_eval_forwards_with_every_second_sampled_take_both() -> None:
    model = seeded(Mlp)
    with recording(model) as seen, na.watch(model, every=2, precision="exact") as watch, torch.no_grad():
        for seed in range(8):
            model.train(seed % 2 == 0)
            model(data(5, 6, seed=seed))
    for mode in ("train", "eval"):
        assert_is_state_of(watch.states["fc1", mode], np.concatenate(seen["fc1", mode][::2]))


@pytest.mark.parametrize("reentrant", [True, False])
def test_rows_under_activation_checkpointing_are_counted_once(reentrant: bool) -> None:
    def run(call: Callable[..., Any] | None) -> Any:
        model = nn.Sequential(nn.Linear(6, 5), Wrap(nn.Sequential(nn.Linear(5, 4), nn.ReLU()), call), nn.Linear(4, 2))
        torch.manual_seed(0)
        for p in model.parameters():
            nn.init.normal_(p)
        with na.watch(model) as watch:
            for seed in range(3):
                model(data(10, 6, seed=seed)).sum().backward()
        return watch

    plain = run(None)
    checkpointed = run(lambda inner, x: checkpoint(inner, x, use_reentrant=reentrant))
    assert {state.count for state in checkpointed.states.values()} == {30}
    assert same_states(plain, checkpointed)
    assert checkpointed.report()["1.inner.0"].calls == plain.report()["1.inner.0"].calls


def test_defaults_measure_on_the_tensors_own_device() -> None:
    model = seeded(Mlp)
    with na.watch(model) as watch:
        model(data(10, 6))
    assert all(isinstance(state, na.Moments) for state in watch.states.values())
    expected = na.saturation.from_rows(rows_of(model.fc1, model.fc1(data(10, 6))))
    result = watch.report()["fc1"]
    assert result.saturation.value == saturation(expected).value
    assert result.effective_dimension.value == pytest.approx(effective_dimension(expected).value, rel=1e-4)
