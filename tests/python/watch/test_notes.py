"""What a watch did not see is said at once, in the report, and with what to do about it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import netassay as na
from python.models import Mlp, data, seeded

pytestmark = pytest.mark.native


class Trainer(nn.Module):
    """A module whose training step calls its parts and not itself."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 6), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(6, 8)])

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.encoder(x)
        return output

    def training_step(self, x: Tensor) -> Tensor:
        return ((self.heads[0](self.encoder(x)) - x) ** 2).mean()


NEVER = "the root (Trainer) was never called: watch model.encoder, model.heads.0, whose forwards run; "


@pytest.mark.parametrize(
    ("measures", "lost"),
    [
        (("saturation",), "each call of a layer counts as a pass of its own"),
        (("saturation", "complexity"), "complexity is of passes of the root alone"),
        (("saturation", "complexity", "network"), "complexity and neuron activations are of passes of the root alone"),
    ],
    ids=str,
)
def test_a_root_that_is_never_called_is_said_once_and_in_the_report(measures: tuple[str, ...], lost: str) -> None:
    model = seeded(Trainer)
    with (
        na.watch(model, measures=measures) as watch,
        pytest.warns(UserWarning, match=r"model.encoder ran outside of any pass of the root \(Trainer\)") as told,
    ):
        [model.training_step(data(50, 8, seed=seed)) for seed in range(3)]
    assert len(told) == 1
    report = watch.report()
    assert NEVER + lost in report.coverage.notes
    (found,) = (found for found in report.findings if found.kind == "never_called")
    assert (found.level, found.layer, found.message) == ("problem", "(root)", "the root (Trainer) was never called")
    assert found.evidence == {"called": ["model.encoder", "model.heads.0"], "count": 2}


def test_a_watch_of_complexity_alone_names_the_root_that_was_never_called() -> None:
    model = seeded(Trainer)
    with na.watch(model, measures="complexity") as watch, pytest.warns(UserWarning, match="watch model.encoder"):
        model.training_step(data(50, 8))
    with pytest.raises(na.NothingObserved) as error:
        watch.report()
    assert NEVER + "complexity is of passes of the root alone" in str(error.value)


def test_a_mode_without_a_pass_of_the_root_is_said() -> None:
    model = seeded(Trainer)
    with na.watch(model, measures=("saturation", "complexity")) as watch:
        model.eval()(data(50, 8))
        with pytest.warns(UserWarning, match="in train mode"):
            model.train().training_step(data(50, 8))
        notes = watch.report().coverage.notes
    where = "where model.encoder, model.heads.0 ran outside of any"
    assert f"no pass of the root (Trainer) in train mode, {where}: complexity is of passes of the root alone" in notes
    with na.watch(model) as watch:
        model(data(50, 8))
        model.training_step(data(50, 8))
        assert not [note for note in watch.report().coverage.notes if "root" in note]


def test_a_warning_that_is_an_error_does_not_reach_the_model() -> None:
    model = seeded(Trainer)
    expected = model.training_step(data(50, 8))
    with na.watch(model, measures=("saturation", "complexity")) as watch, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(model.training_step(data(50, 8)), expected)
        notes = watch.report().coverage.notes
    assert any(note.startswith(NEVER) for note in notes)
    assert not watch._taps.faults


def test_what_ran_outside_is_kept_by_a_saved_watch(tmp_path: Path) -> None:
    model = seeded(Trainer)
    with na.watch(model) as watch, pytest.warns(UserWarning, match="outside"):
        model.training_step(data(50, 8))
    watch.save(tmp_path / "state")
    with na.watch(model) as resumed:
        resumed.restore(tmp_path / "state")
        assert resumed.report().coverage == watch.report().coverage
        assert any(note.startswith(NEVER) for note in resumed.report().coverage.notes)


def test_a_compiled_model_is_warned_of_when_it_is_watched_and_when_it_is_compiled_meanwhile() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    with pytest.warns(UserWarning, match=r"compiled.*watch it uncompiled"):
        na.watch(torch.compile(model, backend="eager")).close()
    with na.watch(model, measures=("saturation", "complexity")) as watch:
        model(data(20, 4))
        model.compile(backend="eager")
        with pytest.warns(UserWarning, match="compiled"):
            report = watch.report()
    assert any("runs compiled" in note for note in report.coverage.notes)


class Custom(nn.Module):
    """A weight of its own under a class that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(data(10, 10))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Mixed(nn.Module):
    """Linear layers, norms, modules of another kind, and a parameter of the root's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(10, 10), nn.LayerNorm(10), nn.Linear(10, 10)
        self.blocks = nn.Sequential(*(Custom() for _ in range(5)))
        self.attention = nn.MultiheadAttention(10, 2)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.norm(self.first(x)))) * self.scale


def test_modules_that_a_star_does_not_choose_are_named_by_kind_with_their_share() -> None:
    model = seeded(Mixed)
    with na.watch(model) as watch:
        model(data(30, 10))
    whole = 2 * 110 + 20 + 500 + 440 + 1
    of_kinds = [note for note in watch.report().coverage.notes if "not chosen" in note]
    assert whole == sum(p.numel() for p in model.parameters())
    assert of_kinds == [
        f"Custom: 5 modules not chosen by '*' ({100 * 500 / whole:.0f} % of parameters): blocks.0, blocks.1, blocks.2"
        " and 2 more; name them in layers=",
        "LayerNorm: 1 module not chosen by '*' (1.7 % of parameters): norm; name them in layers=",
        "Mixed: 1 module not chosen by '*' (0.085 % of parameters): (root); name them in layers=",
    ]


@pytest.mark.parametrize(
    ("layers", "kinds"),
    [
        ("first", set()),
        (["*", Custom], {"LayerNorm", "Mixed"}),
        (["*", "!norm"], {"Custom", "Mixed"}),
        ("!blocks.*", {"LayerNorm", "Mixed"}),
        (["*", "!last", "norm"], {"Custom", "Mixed"}),
    ],
    ids=["first", "type", "not norm", "not blocks", "not last"],  # a set is shown in another order by every process
)
def test_what_the_user_chose_or_excluded_is_no_news(layers: object, kinds: set[str]) -> None:
    model = seeded(Mixed)
    with na.watch(model, layers=layers) as watch:
        model(data(30, 10))
    notes = watch.report().coverage.notes
    assert {note.partition(":")[0] for note in notes if "not chosen" in note} == kinds


class Conv1D(nn.Module):
    """A linear layer that stores (in, out), as GPT-2's."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(data(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], self.nf)


def test_a_star_chooses_the_linear_layers_of_gpt2() -> None:
    model = nn.Sequential(nn.Embedding(11, 6), Conv1D(12, 6), Conv1D(6, 12)).eval()
    with na.watch(model) as watch:
        model(torch.arange(10).view(2, 5))
    report = watch.report()
    assert [(row.name, row.saturation.width, row.saturation.flags) for row in report.layers] == [
        ("0", 6, ("few_rows", "few_samples")),
        ("1", 12, ("few_rows", "few_samples")),
        ("2", 6, ("few_rows", "few_samples")),
    ]
    assert report.coverage.parameters_measured == report.coverage.parameters_total


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_a_quantised_model_says_so_and_its_layers_can_be_named() -> None:
    from torch.ao.quantization import quantize_dynamic

    plain = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 4)))
    model = quantize_dynamic(plain, {nn.Linear})
    with pytest.raises(na.SelectionError, match="the model is quantised"):
        na.watch(model)
    with na.watch(model, layers=["0", "2.0"]) as watch:
        model(data(100, 8))
    assert {name: state.width for (name, _), state in watch.states.items()} == {"0": 6, "2.0": 4}
    mixed = nn.Sequential(model, nn.Linear(4, 3))
    with na.watch(mixed) as watch:
        mixed(data(100, 8))
    packed = "quantised Linear: 2 modules not chosen by '*' (packed, not counted): 0.0, 0.2.0; name them in layers="
    assert packed in watch.report().coverage.notes


VERBS = {
    "watch": "na.watch(object())",
    "project": "na.project(object(), {}).__enter__()",
    "measure_structure": "na.measure_structure(object(), object())",
    "path_norm": "na.path_norm(object(), object())",
    "node_strengths": "na.node_strengths(object(), object())",
    "sample_persistence": "na.sample_persistence(object(), object())",
}


def test_without_torch_every_verb_of_models_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; import netassay as na"
    for verb, call in VERBS.items():
        code += f"""
try:
    {call}
except ImportError as error:
    message = str(error)
    assert message.startswith("{verb}: ") and message.endswith("pip install 'netassay[torch]'"), message
else:
    raise AssertionError("{verb}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_said_of_a_model_that_was_seen_whole() -> None:
    model = seeded(Mlp)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with na.watch(model, measures=("saturation", "complexity")) as watch:
            model.train()(data(100, 6))
            model.eval()(data(100, 6))
        report = watch.report()
    assert not [note for note in report.coverage.notes if "root" in note or "compiled" in note]
