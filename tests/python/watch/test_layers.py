"""Which layers a watch measures, and which of their outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netassay as na
from python.models import (
    HIGH,
    ConvNet,
    Encoder,
    Mlp,
    Recurrent,
    Wrap,
    assert_is_state_of,
    data,
    recording,
    rows_of,
    seeded,
    tokens,
)

pytestmark = pytest.mark.native

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
