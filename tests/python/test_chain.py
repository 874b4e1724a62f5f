"""Chains: which modules are one, which names are one, and deep graph persistence of them in measure_weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from netassay import (
    CorruptCheckpoint,
    DomainError,
    LimitExceeded,
    NonFinite,
    Report,
    SelectionError,
    ShapeError,
    UnsupportedLayout,
    cli,
    measure_weights,
    plan,
)
from netassay.persistence import DeepGraphPersistence, deep_graph_persistence
from netassay.report.schema import schema
from netassay.sources import chain
from netassay.sources.chain import ELEMENTWISE
from netassay.verbs.weights import Interrupted
from python.checkpoints import write
from python.models import seeded

DATA = Path(__file__).parents[1] / "data"
NAMES = ["first", "second", "third"]  # of stored()


def same(one: DeepGraphPersistence, two: DeepGraphPersistence) -> bool:
    numbers = ("total", "normalized", "peak", "flags")
    return all(getattr(one, n) == getattr(two, n) for n in numbers) and np.array_equal(one.weights, two.weights)


def deep(report: Report) -> DeepGraphPersistence:
    result: DeepGraphPersistence = report.totals["deep_graph_persistence"]
    return result


def why(report: Report) -> str:
    """Why a report has no deep graph persistence, or of what chain it is."""
    assert list(report.totals) == ["persistence", "deep_graph_persistence"]
    (note,) = (note for note in report.coverage.notes if note.startswith("deep graph persistence: "))
    return note.removeprefix("deep graph persistence: ")


def matrices() -> dict[str, np.ndarray]:
    """12 -> 9 -> 7 -> 4, from the first layer to the last."""
    random = np.random.default_rng(5)
    sizes = [(9, 12), (7, 9), (4, 7)]
    return {name: random.standard_normal(size).astype(np.float32) for name, size in zip(NAMES, sizes, strict=True)}


def stored() -> dict[str, np.ndarray]:
    """The same in an order that is none, with a bias between them."""
    layers = matrices()
    return {
        "third.weight": layers["third"],
        "first.weight": layers["first"],
        "first.bias": np.zeros(9, np.float32),
        "second.weight": layers["second"],
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save({name: torch.from_numpy(array) for name, array in stored().items()}, tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.fixture
def result() -> DeepGraphPersistence:
    return deep_graph_persistence(list(matrices().values()))


class Mlp(nn.Module):
    """A Sequential inside, which the forward might use in any way."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


class Scaled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def patched() -> nn.Module:
    layer = nn.Linear(6, 3)
    layer.forward = lambda x: x[:, :3]
    return nn.Sequential(layer)


# ---- which modules are chains ----


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(12, 9), nn.Sequential(nn.ReLU(), nn.Dropout(0.5))),
        nn.Identity(),
        nn.Linear(9, 7, bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(7, 4),
    )


def names(model: nn.Module) -> list[str]:
    found = chain.of(model)
    assert not found.broken
    return [link.name for link in found.links]


def test_a_sequential_of_linear_and_elementwise_modules_is_a_chain_with_nested_ones_flattened() -> None:
    assert names(mlp()) == ["1.0", "3", "6"]


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile], ids=["DataParallel", "compile"])
def test_wrappers_are_looked_through(wrap: Callable[..., Any]) -> None:
    assert names(wrap(mlp())) == ["1.0", "3", "6"]


def test_a_linear_layer_alone_is_a_chain_of_one() -> None:
    assert names(nn.Linear(3, 2)) == ["(root)"]


def test_a_module_that_runs_twice_is_there_twice() -> None:
    layer = nn.Linear(5, 5)
    assert names(nn.Sequential(layer, nn.ReLU(), layer)) == ["0", "2"]


def test_every_elementwise_module_is_one_of_torch_in_which_no_unit_sees_another_one() -> None:
    x = torch.rand(8, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    for kind in ELEMENTWISE:
        if kind in ("Dropout2d", "Dropout3d"):
            continue  # of maps: torch warns of matrices
        module = getattr(nn, kind)(*{"Threshold": (0.1, 20.0)}.get(kind, ())).eval()
        assert names(nn.Sequential(nn.Linear(4, 4), module)) == ["0"]
        y, changed = module(x), x.clone()
        changed[:, 2] += 1
        assert y.shape == x.shape
        assert torch.equal(module(changed)[:, [0, 1, 3]], y[:, [0, 1, 3]]), kind


def test_convolutions_of_one_group_are_links_and_a_flatten_of_their_maps_leads_to_linear_layers() -> None:
    convolutions = nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 4, 2))
    assert names(convolutions) == ["0", "2"]
    assert names(nn.Sequential(*convolutions, nn.Flatten(1, 2), nn.Linear(4, 2))) == ["0", "2", "4"]


BROKEN: list[tuple[Callable[[], nn.Module], str]] = [
    (Mlp, "the model is a Mlp, neither linear nor elementwise"),
    (lambda: nn.ModuleList([nn.Linear(3, 2)]), "the model is a ModuleList, neither"),
    (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)), "'1' is a BatchNorm1d, neither"),
    (lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5)), "'1' is a LayerNorm, neither"),
    (lambda: nn.Sequential(nn.Linear(6, 5), nn.Sequential(nn.Softmax(1))), "'1.0' is a Softmax, neither"),
    (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)), "'1' is a MaxPool2d, neither"),
    (lambda: nn.Sequential(nn.Embedding(6, 5), nn.Linear(5, 3)), "'0' is a Embedding, neither"),
    (lambda: nn.Sequential(Scaled(6, 3)), "'0' is a Scaled with a forward of its own"),
    (patched, "'0' is a Linear with a forward of its own"),
    (lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=2)), "'0' is a Conv2d of 2 groups, expected 1"),
    (lambda: nn.Sequential(nn.ConvTranspose1d(4, 8, 3, groups=4)), "'0' is a ConvTranspose1d of 4 groups"),
    (lambda: nn.Sequential(nn.Flatten(0), nn.Linear(6, 5)), "'0' is a Flatten with start_dim=0, which mixes samples"),
    (
        lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.Linear(8, 3)),
        "'1' is a Linear after '0', a Conv1d, with no Flatten",
    ),
    (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2), nn.Linear(8, 3)), "'2' is a Linear after '0', a Conv2d"),
    (lambda: nn.Sequential(nn.Linear(8, 3), nn.Conv1d(3, 8, 3)), "'1' is a Conv1d after '0', a Linear"),
    (lambda: nn.Sequential(nn.ReLU()), "Sequential has no linear layer"),
]


@pytest.mark.parametrize(("make", "says"), BROKEN, ids=[says for _, says in BROKEN])
def test_anything_else_is_none_and_the_reason_names_the_module(make: Callable[[], nn.Module], says: str) -> None:
    found = chain.of(make())
    assert found.broken.startswith(says)
    assert found.links == ()


# ---- measure_weights of a module ----


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel], ids=["plain", "DataParallel"])
def test_a_sequential_has_the_deep_graph_persistence_of_its_linear_layers_in_their_order(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    model = seeded(mlp)
    report = measure_weights(wrap(model))
    weights = [model[1][0].weight, model[3].weight, model[6].weight]
    assert same(deep(report), deep_graph_persistence(weights))
    assert why(report) == "of the chain 1.0, 3, 6"
    assert len(deep(report).weights) == 12 + 4 - 1


def test_the_reference_networks_hold_through_measure_weights() -> None:
    for case in json.loads((DATA / "persistence.json").read_text())["mlp"]:
        random, sizes = np.random.default_rng(case["seed"]), case["dims"]
        linears = []
        for inputs, outputs in pairwise(sizes):
            weight = random.standard_normal((outputs, inputs)) * math.sqrt(2.0 / (inputs + outputs))
            linears.append(nn.Linear(inputs, outputs))
            linears[-1].weight = nn.Parameter(torch.from_numpy(weight.astype(case["dtype"])))
        found = deep(measure_weights(nn.Sequential(*linears)))
        tolerance = 1e-14 if case["dtype"] == "float64" else 2e-6  # the reference standardizes in float32
        assert found.total == pytest.approx(case["dgp_code"]["dnp_exact"], rel=tolerance)
        assert found.normalized == pytest.approx(case["dgp_code"]["dnp_exact_norm"], rel=tolerance)


def test_a_layer_that_runs_twice_is_measured_once_and_is_twice_in_the_chain() -> None:
    layer = nn.Linear(5, 5)
    report = measure_weights(nn.Sequential(layer, nn.ReLU(), layer))
    assert [row.name for row in report] == ["0"]
    assert same(deep(report), deep_graph_persistence([layer.weight, layer.weight]))


def test_a_weight_that_its_module_makes_is_in_the_chain_as_it_is_made() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.Linear(5, 3))
    assert same(deep(measure_weights(model)), deep_graph_persistence([model[0].weight, model[1].weight]))


def test_convolutions_are_graphs_of_channels_and_transposed_ones_have_their_axes_swapped() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 5, 2), nn.Flatten(), nn.Linear(5, 4))
    report = measure_weights(model)
    weights = [model[0].weight, model[2].weight.transpose(0, 1), model[4].weight]
    assert same(deep(report), deep_graph_persistence(weights))
    assert deep(report).flags == ("channel_graph",)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Mlp, "the model is a Mlp, neither linear nor elementwise; name the chain with chain= or --chain"),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(72, 4)),
            "'2' has 72 inputs, and '0' before it has 8 channels: positions of its maps were flattened, 9 of each"
            " channel; expected as many; name the chain",
        ),
        (
            lambda: nn.Sequential(nn.Linear(3, 2, device="meta"), nn.Linear(2, 3)),
            "the weight of '0' is not measured: meta tensor",
        ),
    ],
)
def test_a_module_that_is_no_chain_has_none_and_the_reason(make: Callable[[], nn.Module], says: str) -> None:
    report = measure_weights(make())
    assert deep(report) is None
    assert why(report).startswith(says)


def test_a_module_that_is_no_chain_has_the_chain_that_is_named() -> None:
    model = seeded(Mlp)
    report = measure_weights(model, chain=["layers.0", "layers.2"])
    assert same(deep(report), deep_graph_persistence([model.layers[0].weight, model.layers[2].weight]))


def test_a_grouped_convolution_that_is_named_is_an_error() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 1))
    with pytest.raises(ShapeError, match=r"^measure_weights: chain: '0' is a convolution of 2 groups, expected 1$"):
        measure_weights(model, chain=["0", "1"])


# ---- measure_weights of a file ----


@pytest.mark.parametrize("kind", ["file", "state_dict"])
def test_order_of_storage_is_never_taken_for_that_of_the_layers(kind: str, path: Path) -> None:
    ordered = {f"{name}.weight": torch.from_numpy(array) for name, array in matrices().items()}
    torch.save(ordered, path)  # as if it were
    report = measure_weights(path if kind == "file" else ordered)
    assert deep(report) is None
    what = "a file" if kind == "file" else "a state_dict"
    assert why(report) == f"{what} has no order of layers; name the chain with chain= or --chain"


def test_the_chain_that_is_named_is_measured_in_one_pass_whatever_layers_selects(
    path: Path, result: DeepGraphPersistence
) -> None:
    read: list[str] = []
    report = measure_weights(path, chain=NAMES, layers="third", track=lambda name, done, total: read.append(name))
    assert same(deep(report), result)
    assert why(report) == "of the chain first, second, third"
    assert [row.name for row in report] == ["third"]
    assert read == ["third.weight", "first.weight", "second.weight", ""]


def test_safetensors_have_the_same(tmp_path: Path, result: DeepGraphPersistence) -> None:
    path = write(tmp_path / "model.safetensors", stored())
    assert same(deep(measure_weights(path, chain=NAMES)), result)


def test_a_layer_may_be_named_by_its_tensor_or_by_another_of_its_names(result: DeepGraphPersistence) -> None:
    state = {name: torch.from_numpy(array) for name, array in stored().items()}
    state["head.weight"] = state["third.weight"]
    report = measure_weights(state, chain=("first.weight", "second", "head"))
    assert same(deep(report), result)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (
            ["first", "secnd"],
            SelectionError,
            "got 'secnd', which no weight of .*model.pt has; the nearest .* 'second'$",
        ),
        (["first.bias", "second"], SelectionError, "'first.bias' is no weight to measure: bias or norm: one axis$"),
        (
            ["third", "first"],
            ShapeError,
            "'first' has 12 inputs, and 'third' before it has 4 outputs; expected as many$",
        ),
        ("first", DomainError, None),
        ([], DomainError, None),
        ([1, 2], DomainError, None),
        (3, DomainError, None),
    ],
)
def test_names_that_are_no_chain_are_an_error_before_anything_is_read(
    names: Any, error: type[Exception], message: str | None, path: Path
) -> None:
    def never(tensor: str, done: int, total: int) -> None:
        raise AssertionError(tensor)

    start = "^measure_weights: chain: " if message else r"^measure_weights: got chain=.*, expected .*names of layers"
    with pytest.raises(error, match=start + (message or "")):
        measure_weights(path, chain=names, track=never)


def test_in_a_file_a_convolution_of_several_groups_and_flattened_maps_are_told_by_their_sizes() -> None:
    state = {"a.weight": np.ones((8, 3, 3, 3)), "b.weight": np.ones((8, 2, 3, 3)), "c.weight": np.ones((5, 72))}
    with pytest.raises(ShapeError, match=r"'b' has 2 inputs, and 'a' before it has 8 channels: one of 4 groups has so"):
        measure_weights(state, chain=["a", "b"])
    with pytest.raises(ShapeError, match=r"'c' has 72 inputs, .* 8 channels: positions .* flattened, 9 of each"):
        measure_weights(state, chain=["a", "c"])


# ---- memory, NaN, Ctrl-C ----


def test_the_weights_of_the_chain_must_fit_at_once_beside_the_one_that_is_read(path: Path) -> None:
    kept, largest = 4 * (9 * 12 + 7 * 9 + 4 * 7), 4 * 9 * 12
    with pytest.raises(
        LimitExceeded, match=rf"^measure_weights: .* {largest} bytes beside the {kept} of the chain's 3"
    ):
        measure_weights(path, chain=NAMES, memory=kept + largest - 1)
    assert deep(measure_weights(path, chain=NAMES, memory=kept + largest)) is not None
    assert deep(measure_weights(path, memory=largest)) is None  # nobody asked for more


def test_what_lies_in_memory_anyway_is_not_copied_and_a_chain_nobody_asked_for_costs_no_error() -> None:
    plain = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    assert deep(measure_weights(plain, memory=0)) is not None
    made = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.Linear(5, 3))
    report = measure_weights(made, memory=4 * 6 * 5)
    assert deep(report) is None
    assert "120 bytes beside the 120 of the chain's 2 weights, the limit is 120" in why(report)


def test_a_nan_in_the_chain_leaves_it_without_a_value_and_raises_as_ever(path: Path) -> None:
    state = {name: torch.from_numpy(array.copy()) for name, array in stored().items()}
    state["second.weight"][2, 3] = math.nan
    with pytest.raises(NonFinite, match=r"tensor 'second\.weight': got nan at \[2, 3\]") as caught:
        measure_weights(state, chain=NAMES)
    report = measure_weights(state, chain=NAMES, nonfinite="skip")
    assert report.to_dict(volatile=False) == caught.value.report.to_dict(volatile=False)  # type: ignore[attr-defined]
    assert deep(report) is None
    assert why(report) == "second of the chain is not finite"
    state["other.weight"] = torch.full((2, 2), math.inf)
    state["second.weight"][2, 3] = 0
    assert deep(measure_weights(state, chain=NAMES, nonfinite="skip")) is not None


@pytest.mark.parametrize("at", ["second.weight", ""])
def test_ctrl_c_leaves_a_chain_whose_weights_were_not_all_read_without_a_value(
    at: str, path: Path, result: DeepGraphPersistence
) -> None:
    def interrupt(tensor: str, done: int, total: int) -> None:
        if tensor == at:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        measure_weights(path, chain=NAMES, track=interrupt)
    found = deep(caught.value.report)
    if at:
        assert found is None
        assert why(caught.value.report) == "not reached"
    else:
        assert same(found, result)


# ---- reports and the command ----


@pytest.mark.parametrize("names", [NAMES, None])
def test_json_is_valid_and_loads_as_the_result_it_was(names: list[str] | None, path: Path, tmp_path: Path) -> None:
    report = measure_weights(path, chain=names)
    data = report.to_dict()
    pytest.importorskip("jsonschema").Draft202012Validator(schema()).validate(data)
    assert set(data["totals"]["deep_graph_persistence"] or {}) == (
        {"total", "normalized", "peak", "weights", "flags"} if names else set()
    )
    report.to_json(tmp_path / "r.json")
    loaded = Report.load(tmp_path / "r.json")
    assert loaded == report
    assert str(loaded) == str(report)
    assert deep(loaded) is None if names is None else same(deep(loaded), deep(report))


def test_text_has_one_line_for_it_and_none_where_there_is_no_value(path: Path, result: DeepGraphPersistence) -> None:
    text = str(measure_weights(path, chain=NAMES))
    value = f"{result.normalized:.3f} (peak {result.peak:.2f}, standardized, rescaled)"
    assert f"\n  deep graph persistence  {value}\n" in text
    assert "  deep graph persistence: of the chain first, second, third" in text
    assert "deep graph persistence  " not in str(measure_weights(path))


def test_csv_is_of_the_layers_as_before(path: Path, tmp_path: Path) -> None:
    measure_weights(path).to_csv(tmp_path / "without.csv")
    measure_weights(path, chain=NAMES).to_csv(tmp_path / "with.csv")
    assert (tmp_path / "with.csv").read_bytes() == (tmp_path / "without.csv").read_bytes()


@pytest.mark.parametrize("words", [["--chain", "first,second, third"], ["--chain", "first,second", "--chain", "third"]])
def test_the_command_takes_names_with_commas_or_repeated(
    words: list[str], path: Path, result: DeepGraphPersistence, tmp_path: Path
) -> None:
    assert cli.main(["weights", str(path), *words, "--json", str(tmp_path / "r.json")]) == 0
    assert same(deep(Report.load(tmp_path / "r.json")), result)


def test_names_that_are_no_chain_are_status_1_and_an_empty_name_is_usage(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["weights", str(path), "--chain", "third,first"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("netassay: measure_weights: chain: 'first' has 12 inputs, and 'third' before it has 4")
    assert len(err.splitlines()) == 1
    assert cli.main(["weights", str(path), "--chain", "first,,third"]) == 2


# ---- messages begin with what was called ----


@pytest.mark.parametrize("verb", [measure_weights, plan])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".index.json"])
def test_an_error_of_a_file_begins_with_the_function_that_was_called(verb: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(CorruptCheckpoint, match=rf"^{verb.__name__}: \S*bad{suffix}: "):
        verb(path)


@pytest.mark.parametrize("verb", [measure_weights, plan])
def test_an_error_of_anything_else_begins_with_the_function_that_was_called(verb: Any, tmp_path: Path) -> None:
    for source in (3, {"a": 1}, tmp_path):
        with pytest.raises(UnsupportedLayout, match=rf"^{verb.__name__}: .*expected a "):
            verb(source)
