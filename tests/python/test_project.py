"""The projection behind a live model's layers: what it computes, and that the model is afterwards as it was."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import netassay as na
from python.models import ConvNet, Encoder, Mlp, Recurrent, Wrap, data, first, recording, rows_of, seeded, tokens
from reference import saturation as reference

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16

#: Unit rounding of the dtype that a result is rounded to.
ROUNDING = {F64: 2.0**-53, F32: 2.0**-24, F16: 2.0**-11, BF16: 2.0**-8}


def tolerance(dtype: torch.dtype, d: int) -> float:
    """Relative to the largest entry: one rounding of the result, and two products of d terms in the wide dtype."""
    wide = F64 if dtype == F64 else F32
    return 2 * ROUNDING[dtype] + 4 * d * ROUNDING[wide]


def projected(x: np.ndarray, rows: np.ndarray, delta: float = 0.99) -> np.ndarray:
    """x' = (x - m) E E^T + m in float64, m and E of the rows, literally."""
    _, mean, scatter = reference.moments(rows)
    values, vectors = np.linalg.eigh(scatter / len(rows))
    k = reference.dimension(np.clip(values[::-1], 0, None), delta)
    e = vectors[:, ::-1][:, :k]
    return (x - mean) @ e @ e.T + mean


def states_of(model: nn.Module, *inputs: Any, **options: Any) -> dict[tuple[str, str], na.Moments]:
    """States of one pass in the model's present mode."""
    with na.watch(model, precision="exact", **options) as watch, torch.no_grad():
        for x in inputs:
            model(x)
    return dict(watch.states)


def anatomy(model: nn.Module) -> list[Any]:
    """All that a module holds: each __dict__, with the values of parameters, buffers and hooks."""
    parts: list[Any] = []
    for module in model.modules():
        parts.append([(k, dict(v) if isinstance(v, dict) else v) for k, v in module.__dict__.items()])
    return parts


def assert_untouched(model: nn.Module, before: list[Any], values: dict[str, Tensor]) -> None:
    assert str(anatomy(model)) == str(before)
    now = model.state_dict()
    assert list(now) == list(values)
    assert all(torch.equal(now[name], values[name]) for name in now)


# --- what it computes ---------------------------------------------------------------------------------


class Offset(nn.Module):
    """A linear layer that puts out its input: rows (n, d) -> (n, d)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.layer = nn.Linear(d, d)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(d))
            self.layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_a_mean_ten_times_the_spread_costs_nothing_where_forgetting_it_costs_the_signal_seven_times() -> None:
    d, n = 64, 4096
    spread = 0.9 ** torch.arange(d, dtype=F64)
    mean = data(d, seed=1, dtype=F64)
    mean *= 10 * spread.norm() / mean.norm()
    x = (data(n, d, dtype=F64) * spread + mean).to(F32)
    model = Offset(d)
    signal = float((x - x.mean(0)).norm())
    expected = projected(x.double().numpy(), x.double().numpy())
    with na.project(model, states_of(model, x)) as p, torch.no_grad():
        got = model(x).double().numpy()
    assert np.linalg.norm(got - expected) <= 1e-6 * signal

    e = np.linalg.eigh(np.cov(x.double().numpy().T))[1][:, ::-1][:, : p.layers["layer"].dimension]
    forgetful = x.double().numpy() @ e @ e.T
    assert np.linalg.norm(forgetful - expected) > 5 * signal


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "rows": (lambda: nn.Linear(6, 5), lambda: data(40, 6)),
    "one row": (lambda: nn.Linear(6, 5), lambda: data(6)),
    "tokens": (lambda: nn.Linear(6, 5), lambda: data(4, 9, 6)),
    "embedding": (lambda: nn.Embedding(11, 7), lambda: tokens(4, 9)),
    "signal (N, C, L)": (lambda: nn.Conv1d(3, 6, 3), lambda: data(5, 3, 12)),
    "map (N, C, H, W)": (lambda: nn.Conv2d(3, 6, 3), lambda: data(5, 3, 8, 9)),
    "map channels_last": (
        lambda: nn.Conv2d(3, 6, 3),
        lambda: data(5, 3, 8, 9).contiguous(memory_format=torch.channels_last),
    ),
    "map without batch": (lambda: nn.Conv2d(3, 6, 3), lambda: data(3, 8, 9)),
    "volume": (lambda: nn.Conv3d(2, 5, 3), lambda: data(3, 2, 5, 5, 6)),
    "LSTM": (lambda: nn.LSTM(5, 6, batch_first=True), lambda: data(4, 9, 5)),
    "LSTM, time first": (lambda: nn.LSTM(5, 6), lambda: data(9, 4, 5)),
    "LSTM, packed": (
        lambda: nn.LSTM(5, 6, batch_first=True),
        lambda: pack_padded_sequence(data(4, 9, 5), torch.tensor([9, 7, 4, 2]), batch_first=True),
    ),
    "LSTM cell": (lambda: nn.LSTMCell(5, 6), lambda: data(30, 5)),
    "GRU cell": (lambda: nn.GRUCell(5, 6), lambda: data(30, 5)),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_the_formula_in_the_same_place(case: str, training: bool) -> None:
    make, inputs = CASES[case]
    model = Wrap(seeded(make)).train(training)
    x = inputs()
    samples = data(200, x.shape[-1], seed=5) if case == "one row" else x
    with recording(model) as seen, torch.no_grad():
        plain = model(x)
        if samples is not x:
            seen.clear()
            model(samples)
    [rows] = [r for (name, _), found in seen.items() if name == "inner" for r in found]
    states = states_of(model, samples)
    with na.project(model, states, delta=0.8) as p, torch.no_grad():
        got = model(x)
    assert 0 < p.layers["inner"].dimension < p.layers["inner"].width
    expected = projected(rows_of(model.inner, plain), rows, delta=0.8)
    error = np.abs(rows_of(model.inner, got) - expected).max()
    assert error <= tolerance(F32, rows.shape[1]) * max(1, np.abs(expected).max())
    assert type(got) is type(plain)
    assert first(got).shape == first(plain).shape
    assert first(got).stride() == first(plain).stride()
    if isinstance(plain, tuple) and not isinstance(plain, PackedSequence):  # the hidden states are the layer's own
        torch.testing.assert_close(got[1:], plain[1:], rtol=0, atol=0)
    if isinstance(plain, tuple) and isinstance(plain[0], PackedSequence):
        assert torch.equal(got[0].batch_sizes, plain[0].batch_sizes)


@pytest.mark.parametrize("batch_first", [False, True])
def test_attention_output_is_projected_and_its_weights_are_not(batch_first: bool) -> None:
    model = Wrap(seeded(lambda: nn.MultiheadAttention(6, 2, batch_first=batch_first)), lambda m, x: m(x, x, x)).eval()
    x = data(4, 9, 6)
    with recording(model) as seen, torch.no_grad():
        plain = model(x)
    [rows] = seen["inner", "eval"]
    with na.project(model, states_of(model, x), delta=0.8), torch.no_grad():
        got = model(x)
    assert np.abs(rows_of(model.inner, got) - projected(rows, rows, 0.8)).max() <= tolerance(F32, 6)
    assert torch.equal(got[1], plain[1])


def test_a_transformer_in_evaluation_is_projected_behind_every_layer_that_was_measured() -> None:
    model = seeded(Encoder).eval()
    x = tokens(6, 9)
    states = states_of(model, x)
    probe = nn.Module.register_forward_hook
    seen: dict[str, np.ndarray] = {}
    with na.project(model, states, delta=0.5) as p, torch.no_grad():
        handles = [
            probe(m, lambda m, i, o, n=n: seen.update({n: rows_of(m, o)}))
            for n, m in model.named_modules()
            if n in p.layers
        ]
        model(x)
    for handle in handles:
        handle.remove()
    assert set(seen) == set(p.layers) == {name for name, _ in states}
    for name, rows in seen.items():
        assert np.linalg.matrix_rank(rows - rows.mean(0), tol=1e-4) <= p.layers[name].dimension


@dataclass
class Output:
    note: str
    hidden: Tensor


@pytest.mark.parametrize(
    ("wrap", "find"),
    [
        (lambda x: {"note": 1, "hidden": x}, lambda o: o["hidden"]),
        (lambda x: [None, (x, "rest")], lambda o: o[1][0]),
        (lambda x: Output("rest", x), lambda o: o.hidden),
    ],
    ids=["dict", "nested tuple", "dataclass"],
)
def test_the_measured_tensor_is_replaced_wherever_the_output_holds_it(
    wrap: Callable[[Tensor], Any], find: Callable[[Any], Tensor]
) -> None:
    model = seeded(lambda: Wrap(Wrap(nn.Linear(6, 5), lambda m, x: wrap(m(x))))).eval()
    x = data(50, 6)
    plain = model(x)
    with na.project(model, states_of(model, x, layers="inner"), delta=0.8):
        got = model(x)
    assert type(got) is type(plain)
    rows = find(plain).detach().double().numpy()
    assert np.abs(find(got).detach().double().numpy() - projected(rows, rows, 0.8)).max() <= tolerance(F32, 5)


@pytest.mark.parametrize("dtype", [F64, F32, BF16, F16])
def test_dtypes_are_kept_and_nothing_narrower_than_float32_is_computed_in(dtype: torch.dtype) -> None:
    model = seeded(lambda: Wrap(nn.Linear(24, 16))).to(dtype)
    x = data(300, 24).to(dtype)
    plain = model(x)
    with na.project(model, states_of(model, x), delta=0.9):
        got = model(x)
    assert got.dtype == dtype
    rows = plain.detach().double().numpy()
    error = np.abs(got.detach().double().numpy() - projected(rows, rows, 0.9)).max()
    assert error <= tolerance(dtype, 16) * np.abs(rows).max()


def test_under_autocast_the_projection_is_computed_in_float32() -> None:
    model = seeded(lambda: Wrap(nn.Linear(24, 16)))
    x = data(300, 24)
    with torch.autocast("cpu", BF16):
        states = states_of(model, x)
        plain = model(x)
        with na.project(model, states, delta=0.9):
            got = model(x)
    assert got.dtype == plain.dtype == BF16
    rows = plain.detach().double().numpy()
    error = np.abs(got.detach().double().numpy() - projected(rows, rows, 0.9)).max()
    assert error <= tolerance(BF16, 16) * np.abs(rows).max()


def test_projecting_twice_is_projecting_once() -> None:
    model = seeded(Mlp).eval()
    x = data(300, 6)
    states = states_of(model, x)
    head = states["head", "eval"]
    with na.project(model, {"head": head}, delta=0.9), torch.no_grad():
        once = model(x)
        with na.project(model, {"head": head}, delta=0.9):
            twice = model(x)
    assert not torch.equal(once, seeded(Mlp).eval()(x))
    torch.testing.assert_close(twice, once, rtol=0, atol=float(tolerance(F32, 4) * once.abs().max()))


@pytest.mark.parametrize("make", [Mlp, ConvNet, Recurrent])
def test_delta_1_changes_outputs_within_rounding(make: Callable[[], nn.Module]) -> None:
    model = seeded(make).eval()
    x = {Mlp: lambda: data(300, 6), ConvNet: lambda: data(20, 2, 8, 8), Recurrent: lambda: data(20, 9, 5)}[make]()
    states = states_of(model, x)
    with torch.no_grad():
        plain = model(x)
        with na.project(model, states, delta=1):
            got = model(x)
    torch.testing.assert_close(got, plain, rtol=1e-5, atol=1e-5)


def test_gradients_flow_through_and_are_those_of_the_formula() -> None:
    model = seeded(lambda: Wrap(nn.Linear(6, 5, bias=False))).double()
    x = data(50, 6, dtype=F64)
    states = states_of(model, x)
    e = np.linalg.eigh(states["inner", "train"].covariance())[1]
    with torch.inference_mode(), na.project(model, states, delta=0.8) as p:
        model(x)  # what inference has cached must serve training too
        with torch.inference_mode(False):
            model(x.clone()).square().sum().backward()
    e = torch.from_numpy(e[:, -p.layers["inner"].dimension :].copy())
    mean = torch.from_numpy(states["inner", "train"].mean)
    weight = model.inner.weight.detach().clone().requires_grad_()
    ((x @ weight.T - mean) @ e @ e.T + mean).square().sum().backward()
    torch.testing.assert_close(model.inner.weight.grad, weight.grad)


def test_recomputation_inside_backward_is_projected_too() -> None:
    model = seeded(lambda: Wrap(Mlp(dropout=0.0), lambda m, x: checkpoint(m, x, use_reentrant=False)))
    twin = Wrap(copy.deepcopy(model.inner))
    x = data(50, 6)
    states = states_of(twin, x)
    for m in (model, twin):
        with na.project(m, states, delta=0.8):
            m(x).square().sum().backward()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=0)


# --- which subspace -----------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.5, 0.9, 0.99, 1.0])
def test_dimensions_are_those_that_saturation_counts(delta: float) -> None:
    model = seeded(ConvNet).eval()
    states = states_of(model, data(20, 2, 8, 8))
    for random in (False, True):
        with na.project(model, states, delta=delta, random=random) as p:
            assert (p.delta, p.random) == (delta, random)
            for (name, mode), moments in states.items():
                expected = na.saturation.saturation(moments, delta)
                assert p.layers[name] == na.Projection(expected.dimension, expected.width, mode)
                assert p.layers[name].saturation == expected.value


def test_random_subspaces_are_seeded_of_the_same_dimension_and_another_space() -> None:
    model = seeded(ConvNet).eval()
    x = data(40, 2, 8, 8)
    states = states_of(model, x)

    def outputs(**options: Any) -> Tensor:
        with na.project(model, states, delta=0.9, **options), torch.no_grad():
            return model(x)

    def last(**options: Any) -> np.ndarray:
        with na.project(model, states, delta=0.9, layers="conv2", **options) as p, recording(model) as seen:
            model(x)
        rows = seen["conv2", "eval"][0]
        assert np.linalg.matrix_rank(rows - rows.mean(0), tol=1e-4) == p.layers["conv2"].dimension
        return rows

    assert torch.equal(outputs(random=True), outputs(random=True))
    assert not torch.equal(outputs(random=True), outputs(random=True, seed=1))
    assert np.array_equal(last(random=True), last(random=True))
    kept, random = last(), last(random=True)
    assert random.var(axis=0).sum() < 0.95 * kept.var(axis=0).sum()


def test_a_layers_random_subspace_does_not_hang_on_the_other_layers() -> None:
    model = seeded(Mlp).eval()
    x = data(100, 6)
    states = states_of(model, x)
    seen: list[np.ndarray] = []
    for layers in (None, "fc1"):
        with na.project(model, states, delta=0.8, layers=layers, random=True), recording(model) as rows:
            model(x)
        seen.append(rows["fc1", "eval"][0])
    assert np.array_equal(*seen)


def test_a_constant_layer_puts_out_its_mean() -> None:
    model = Wrap(nn.Linear(6, 5))
    nn.init.zeros_(model.inner.weight)
    states = states_of(model, data(50, 6))
    nn.init.normal_(model.inner.weight)
    with na.project(model, states) as p:
        got = model(data(9, 6))
        got.sum().backward()
    assert p.layers["inner"] == na.Projection(0, 5, "train")
    assert torch.equal(got, model.inner.bias.detach().expand(9, 5))
    assert not model.inner.weight.grad.any()


def test_evaluation_states_come_before_training_states_and_names_alone_will_do() -> None:
    model = seeded(Mlp)
    with na.watch(model) as watch:
        model.eval()(data(50, 6))
        model.train()(data(70, 6, seed=1))
    with na.project(model, watch.states) as p:
        assert {q.mode for q in p.layers.values()} == {"eval"}
    with na.project(model, {k: v for k, v in watch.states.items() if k != ("fc1", "eval")}) as p:
        assert {n: q.mode for n, q in p.layers.items()} == {"fc1": "train", "fc2": "eval", "head": "eval"}
    with na.project(model, {"fc2": watch.states["fc2", "train"]}) as p:
        assert {n: q.mode for n, q in p.layers.items()} == {"fc2": None}
    with na.project(model, watch) as p:
        assert set(p.layers) == {"fc1", "fc2", "head"}


def test_layers_are_chosen_by_patterns_and_a_shared_module_is_projected_once() -> None:
    model = seeded(Mlp).eval()
    states = states_of(model, data(50, 6))
    with na.project(model, states, layers=["*", "!head"]) as p:
        assert set(p.layers) == {"fc1", "fc2"}
    shared = nn.ModuleList([model.fc1, model.fc1])
    root = Wrap(shared, lambda m, x: m[1](x))
    with na.project(root, {"inner.1": states["fc1", "eval"]}, delta=0.8, layers="inner.0") as p:
        assert set(p.layers) == {"inner.1"}
        assert len(model.fc1._forward_hooks) == 1
    with na.project(root, {"inner.0": states["fc1", "eval"], "inner.1": states["fc1", "eval"]}) as p:
        assert len(p.layers) == len(model.fc1._forward_hooks) == 1


# --- the model stays as it was ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Mlp, ConvNet, Encoder, Recurrent])
def test_the_model_is_restored_exactly(make: Callable[[], nn.Module]) -> None:
    inputs = {Mlp: data(50, 6), ConvNet: data(9, 2, 8, 8), Encoder: tokens(9, 5), Recurrent: data(9, 6, 5)}
    model, x = seeded(make).eval(), inputs[make]
    states = states_of(model, x)
    with torch.no_grad():
        plain = model(x)
        before, values = anatomy(model), {k: v.clone() for k, v in model.state_dict().items()}
        with na.project(model, states, delta=0.8):
            assert not torch.equal(model(x), plain)
        assert_untouched(model, before, values)
        assert torch.equal(model(x), plain)
        for error in (ValueError, KeyboardInterrupt):
            with pytest.raises(error), na.project(model, states):
                model(x)
                raise error
            assert_untouched(model, before, values)
        assert torch.equal(model(x), plain)


def test_a_users_own_hook_stays_and_sees_what_follows() -> None:
    model = seeded(Mlp).eval()
    states = states_of(model, data(50, 6))
    seen: list[Tensor] = []
    model.fc1.register_forward_hook(lambda m, i, o: seen.append(o))
    hooks = dict(model.fc1._forward_hooks)
    with na.project(model, states):
        model(data(3, 6))
    assert dict(model.fc1._forward_hooks) == hooks
    assert len(seen) == 1


def copies(model: nn.Module) -> Iterator[nn.Module]:
    yield copy.deepcopy(model)
    yield pickle.loads(pickle.dumps(model))
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    yield torch.load(buffer, weights_only=False)


def test_copies_made_meanwhile_carry_no_projection() -> None:
    model = seeded(ConvNet).eval()
    x = data(9, 2, 8, 8)
    states = states_of(model, x)
    plain = model(x)
    with na.project(model, states, delta=0.5):
        for twin in copies(model):
            assert torch.equal(twin(x), plain)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripting_a_projected_model_says_what_to_do() -> None:
    model = seeded(Mlp).eval()
    with (
        na.project(model, states_of(model, data(50, 6))),
        pytest.raises(RuntimeError, match=r"leave the context of netassay\.project first"),
    ):
        torch.jit.script(model)


def test_a_watch_outside_sees_the_layers_own_outputs_and_one_inside_the_projected_ones() -> None:
    model = seeded(Mlp).eval()
    x = data(300, 6)
    states = states_of(model, x)
    with na.watch(model, precision="exact") as outside:
        with na.project(model, states, delta=0.8) as p:
            with na.watch(model, precision="exact") as inside:
                model(x)
            outside.pause()
            model(x)
            outside.resume()
        assert torch.equal(model(x), seeded(Mlp).eval()(x))
    fc1 = "fc1", "eval"
    np.testing.assert_allclose(outside.states[fc1].covariance(), states[fc1].covariance(), rtol=1e-9, atol=1e-12)
    rank = np.linalg.matrix_rank(inside.states[fc1].covariance(), tol=1e-6)
    assert rank == p.layers["fc1"].dimension < 16
    assert outside.states["head", "eval"].count == 600
    assert not model.fc1._forward_hooks


def test_a_model_is_trained_under_projection() -> None:
    model = seeded(Mlp)
    x = data(64, 6)
    states = states_of(model.eval(), x)
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)
    before = [p.detach().clone() for p in model.parameters()]
    with na.project(model, states, delta=0.9):
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_projection_is_computed_where_the_output_is() -> None:
    model = seeded(ConvNet).eval()
    x = data(40, 2, 8, 8)
    states = states_of(model, x)
    allowed = torch.backends.cuda.matmul.allow_tf32
    with na.project(model, states, delta=0.8), torch.no_grad():
        here = model(x)
        there = model.cuda()(x.cuda())
    assert there.is_cuda
    assert torch.backends.cuda.matmul.allow_tf32 == allowed
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-3)  # convolutions may run in TF32


# --- what it refuses ----------------------------------------------------------------------------------


def enter(*args: Any, **options: Any) -> None:
    with na.project(*args, **options):
        pass


def test_a_watch_serves_as_its_states_and_a_report_of_it_is_refused(tmp_path: Any) -> None:
    model = seeded(Mlp).eval()
    batch = data(50, 6)
    with na.watch(model) as watch:
        model(batch)
    report = watch.report()
    with na.project(model, watch.states, delta=0.5):
        expected = model(batch)
    with na.project(model, watch, delta=0.5):
        assert torch.equal(model(batch), expected)
    report.to_json(tmp_path / "r.json")
    copies = (na.Report.load(tmp_path / "r.json"), pickle.loads(pickle.dumps(report)), copy.deepcopy(report))
    for one in (report, *copies):
        assert one == report
        with pytest.raises(TypeError, match=r"^project: got a Report, .*expected a Watch or its states$"):
            enter(model, one)


def one(count: int = 50) -> na.Moments:
    m = na.Moments(16)
    m.update(data(count, 16))
    return m


@pytest.mark.parametrize(
    ("states", "options", "error", "text"),
    [
        (3, {}, TypeError, "project: got int for states, expected a Watch, its states or name -> Moments"),
        ({"fc1": 3}, {}, TypeError, "project: got a state 'fc1': int, expected (name, mode) or name -> Moments"),
        (
            {("fc1", "x"): one()},
            {},
            TypeError,
            "project: got a state ('fc1', 'x'): Moments, expected (name, mode) or name -> Moments",
        ),
        (
            {},
            {},
            na.NothingObserved,
            "project: got no states; expected those of a watch under which the model has run",
        ),
        ({"fc9": one()}, {}, na.SelectionError, "project: got a state of 'fc9', which Mlp does not have"),
        (
            {"fc1": one()},
            {"layers": "fc2"},
            na.SelectionError,
            "project: no state of 'fc2'; expected layers that have one",
        ),
        ({"fc1": one()}, {"delta": 0}, na.DomainError, "project: got delta=0, expected 0 < delta <= 1"),
        ({"fc1": one()}, {"seed": -1}, na.DomainError, "project: got seed=-1, expected an integer of at least 0"),
        (
            {"fc1": one(1)},
            {},
            na.TooFewRows,
            "project: layer 'fc1': saturation: got 1 row, expected at least 2; layers=['*', '!fc1'] leaves it out",
        ),
    ],
)
def test_what_cannot_be_projected_is_said_at_once(
    states: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    model = seeded(Mlp)
    with pytest.raises(error) as told:
        enter(model, states, **options)
    assert str(told.value) == text
    assert not any(module._forward_hooks for module in model.modules())


def test_what_is_no_module_and_a_compiled_one_are_refused() -> None:
    with pytest.raises(TypeError, match=r"project: got int, expected a torch\.nn\.Module"):
        enter(3, {"fc1": one()})
    with pytest.raises(na.UnsupportedLayout, match="got a compiled model"):
        enter(torch.compile(seeded(Mlp), backend="eager"), {"fc1": one()})


def test_a_layer_of_another_width_says_so_when_it_runs_and_the_model_is_restored() -> None:
    model = seeded(Mlp)
    with (
        pytest.raises(na.ShapeError, match=r"layer 'fc2': got an output of width 12, expected 16 as in its state"),
        na.project(model, {"fc2": one()}),
    ):
        model(data(3, 6))
    assert not model.fc2._forward_hooks
    model(data(3, 6))


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (lambda x: None, "no tensor in it"),
        (lambda x: x.sum(), "a scalar"),
        (lambda x: x.long(), "dtype int64"),
        (lambda x: x.to_sparse(), "sparse"),
    ],
)
def test_an_output_that_cannot_be_projected_is_an_error_not_a_silent_no(
    output: Callable[[Tensor], Any], says: str
) -> None:
    model = Wrap(Wrap(nn.Identity(), lambda m, x: output(x)))
    with pytest.raises(na.UnsupportedLayout, match=says), na.project(model, {"inner": one()}):
        model(data(3, 16))
