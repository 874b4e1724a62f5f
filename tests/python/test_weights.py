"""measure_weights: what of a checkpoint is measured, over which scale, and what the report says of the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netassay
from netassay import DomainError, LimitExceeded, NonFinite, NothingObserved, Report, SelectionError, measure_weights
from netassay.base.arrays import View
from netassay.persistence import NeuralPersistence, network_persistence, neural_persistence
from netassay.report.schema import schema
from netassay.verbs.weights import Interrupted
from python.checkpoints import bfloat16, network, resnet20, tagged, write

pytestmark = pytest.mark.native

DATA = Path(__file__).parents[1] / "data"
SCALE = 4.0  # of network()
LAYERS = ["embed", "body.conv", "head"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors", network())


def same(one: NeuralPersistence, two: NeuralPersistence) -> bool:
    numbers = ("total", "normalized", "lower_bound", "scale", "flags")
    return all(getattr(one, n) == getattr(two, n) for n in numbers) and np.array_equal(one.weights, two.weights)


def skipped(report: Report) -> dict[str, str]:
    return {layer.name: layer.reason for layer in report.coverage.skipped}


# ---- what is measured ----


def test_every_row_is_the_neural_persistence_of_its_tensor_at_the_scale_of_the_network(path: Path) -> None:
    tensors, report = network(), measure_weights(path)
    assert [row.name for row in report] == LAYERS
    for row in report:
        assert same(row.persistence, neural_persistence(tagged(tensors[f"{row.name}.weight"]), scale=SCALE))


def test_a_row_says_what_its_weight_is_and_nothing_that_did_not_run(path: Path) -> None:
    row = measure_weights(path)["body.conv"]
    assert (row.shape, row.parameters, row.call, row.mode, row.calls) == ((8, 6, 3, 3), 432, None, None, None)
    assert len(row.persistence.weights) == 8 + 6 * 3 * 3 - 1


def test_the_totals_are_those_of_network_persistence(path: Path) -> None:
    tensors = network()
    whole = network_persistence([tagged(tensors[f"{name}.weight"]) for name in LAYERS])
    assert measure_weights(path).totals == {
        "persistence": {
            "normalized": whole.normalized,
            "total": whole.total,
            "scale": whole.scale,
            "layers": 3,
            "flags": (),
        },
        "deep_graph_persistence": None,  # a file has no order of layers
    }


FORMATS = [
    bfloat16(np.linspace(-2, 2, 60).reshape(6, 10)),
    np.linspace(-2, 2, 60).reshape(6, 10),
    np.linspace(-2, 2, 60, dtype=np.float16).reshape(6, 10),
    View(np.arange(60, dtype=np.uint8).reshape(6, 10), "float8_e4m3fn"),
    View(np.arange(60, dtype=np.uint8).reshape(6, 10), "float8_e5m2"),
]


@pytest.mark.parametrize("weight", FORMATS, ids=lambda weight: tagged(weight).dtype)
def test_every_floating_point_format_is_measured_as_it_is_stored(weight: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", {"fc.weight": weight, "b.weight": np.full((2, 3), 2.5, np.float32)})
    report = measure_weights(path)
    assert same(report["fc"].persistence, neural_persistence(tagged(weight), scale=2.5))


def test_a_transposed_convolution_is_transposed_before_it_is_a_matrix() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.ConvTranspose2d(6, 4, 3, groups=2), torch.nn.Linear(4, 2))
    weight, linear = model[0].weight.detach(), model[1].weight.detach()  # (in, out / groups, 3, 3), (out, in)
    scale = max(float(weight.abs().max()), float(linear.abs().max()))
    halves = [half.transpose(0, 1) for half in weight.split(3)]  # each (out / groups, in / groups, 3, 3)
    report = measure_weights(model)
    assert same(report["0"].persistence, neural_persistence(torch.cat(halves), scale=scale))
    assert (report["0"].kind, report["0"].shape) == ("ConvTranspose2d", (6, 2, 3, 3))
    assert not same(report["0"].persistence, neural_persistence(weight, scale=scale))


def test_a_file_its_state_dict_and_its_module_give_the_same_rows(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 5))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    sources = (model, model.state_dict(), tmp_path / "model.pt", write(tmp_path / "model.safetensors", tensors))
    reports = [measure_weights(source) for source in sources]
    assert [row.kind for row in reports[0]] == ["Conv2d", "Linear"]
    for report in reports[1:]:
        assert [row.name for row in report] == ["0", "3"]
        assert all(same(row.persistence, reports[0][row.name].persistence) for row in report)
        assert report.totals["persistence"] == reports[0].totals["persistence"]


def test_the_published_resnet_20_has_its_reference_values() -> None:
    pytest.importorskip("torch")
    expected = json.loads((DATA / "persistence_resnet20.json").read_text())["resnet20-12fca82f"]
    report = measure_weights(resnet20())
    assert {f"{row.name}.weight" for row in report} == set(expected["layers"])
    # float32 weights over a float32 scale, summed in float64: as the reference, within rounding of at most 640 terms
    for name, values in expected["layers"].items():
        result = report[name.removesuffix(".weight")].persistence
        assert result.total == pytest.approx(values["total"], rel=1e-12)
        assert result.normalized == pytest.approx(values["normalized"], rel=1e-12)
    totals = report.totals["persistence"]
    assert (totals["scale"], totals["layers"]) == (expected["scale"], len(expected["layers"]))
    assert totals["normalized"] == pytest.approx(expected["mean_normalized"], rel=1e-12)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_the_report_does_not_depend_on_the_number_of_threads(threads: int, tmp_path: Path) -> None:
    big = np.random.default_rng(1).standard_normal((300, 517)).astype(np.float32)
    path = write(tmp_path / "model.safetensors", {**network(), "big.weight": big})

    def told(count: int) -> dict[str, Any]:
        said = measure_weights(path, threads=count).to_dict(volatile=False)
        assert said["provenance"].pop("threads") == count
        return said

    assert told(threads) == told(1)


# ---- which layers ----


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("*", LAYERS),
        ("body.*", ["body.conv"]),
        ("!embed", ["body.conv", "head"]),
        (["head", "embed"], ["embed", "head"]),
        (["*", "!*e*"], ["body.conv"]),
        ("head.weight", ["head"]),
        ("b*.weight", ["body.conv"]),
    ],
)
def test_layers_chooses_by_layer_or_tensor_and_the_scale_stays_that_of_all(
    layers: Any, names: list[str], path: Path
) -> None:
    whole, report = measure_weights(path), measure_weights(path, layers=layers)
    assert [row.name for row in report] == names
    assert all(same(row.persistence, whole[row.name].persistence) for row in report)
    left_out = {name for name, reason in skipped(report).items() if reason == "not selected"}
    assert left_out == set(LAYERS) - set(names)
    assert report.totals["persistence"]["scale"] == SCALE
    assert report.totals["persistence"]["layers"] == len(names)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("haed", r"^layers: got 'haed', which matches no weight of .*model\.safetensors; the nearest name is 'head'$"),
        (["*", "!*"], r"^layers: \['\*', '!\*'\] selects no weight of .*model\.safetensors$"),
        (int, r"^layers: got <class 'int'>, expected a pattern or a sequence of them$"),
        ([], r"^layers: got \[\], expected a pattern or a sequence of them$"),
    ],
)
def test_a_pattern_that_chooses_nothing_is_an_error(layers: Any, message: str, path: Path) -> None:
    with pytest.raises(SelectionError, match=message):
        measure_weights(path, layers=layers)


# ---- what is left out ----


def test_what_is_no_weight_stands_in_coverage_with_its_reason_and_its_parameters(path: Path) -> None:
    coverage = measure_weights(path).coverage
    assert (coverage.measured, coverage.parameters_measured) == (3, 20 * 6 + 8 * 6 * 9 + 4 * 12)
    assert coverage.parameters_total == coverage.parameters_measured + 8 + 8 + 4
    assert {s.name for s in coverage.skipped} == {"body.conv.bias", "body.norm.weight", "body.steps", "head.bias"}
    assert all(s.reason for s in coverage.skipped)
    biases = sum(s.parameters or 0 for s in coverage.skipped if s.name != "body.steps")
    assert biases == 8 + 8 + 4


def test_tied_weights_are_measured_once_under_their_first_name() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9, bias=False))
    model[1].weight = model[0].weight
    report = measure_weights(model)
    assert [row.name for row in report] == ["0"]
    assert report.coverage.aliases == {"0": ("1",)}
    assert report.coverage.parameters_measured == report.coverage.parameters_total == 36
    assert [row.name for row in measure_weights(model, layers="1")] == ["0"]


def test_nothing_to_measure_is_an_error_that_says_what_was_there(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", {"norm.weight": np.ones(3, np.float32)})
    with pytest.raises(NothingObserved, match=r"^measure_weights: .*model\.safetensors: got no weight matrix \(.+\)$"):
        measure_weights(path)


@pytest.mark.parametrize("saved", [False, True], ids=["module", "file"])
def test_a_norm_of_several_axes_sets_no_scale(saved: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.LayerNorm([1, 20]), torch.nn.Conv1d(1, 4, 5), torch.nn.Conv1d(4, 4, 5))
    source: Any = model
    if saved:
        torch.save(model.state_dict(), source := tmp_path / "m.pt")
    report = measure_weights(source)
    convolutions = [model[i].weight.detach().numpy() for i in (1, 2)]
    assert report.totals["persistence"]["scale"] == max(float(np.abs(w).max()) for w in convolutions) < 1
    assert report.totals["persistence"]["normalized"] == network_persistence(convolutions).normalized
    assert "norm" in skipped(report)["0.weight"]


@pytest.mark.parametrize("factor", [1.0, 40.0])
def test_tokens_and_positions_have_rows_and_are_in_no_mean_and_no_scale(factor: float) -> None:
    tensors = {name: value for name, value in network().items() if isinstance(value, np.ndarray)}
    layers = {f"{name}.weight": tensors[f"{name}.weight"] for name in LAYERS[1:]}
    random = np.random.default_rng(1)
    tokens = {name: factor * random.standard_normal(shape) for name, shape in
              {"cls_token": (1, 1, 6), "pos_embed": (1, 9, 6), "body.positions.weight": (9, 6)}.items()}  # fmt: skip
    tokens["body.wpe.weight"] = tokens.pop("body.positions.weight")
    both = ("persistence", "network")
    plain, report = measure_weights(layers, measures=both), measure_weights({**tokens, **tensors}, measures=both)
    assert report.totals == plain.totals
    assert report.findings == plain.findings
    for name, value in tokens.items():
        row = report[name.removesuffix(".weight")]
        assert row.persistence.flags == row.network.flags[-1:] == ("not_a_layer",)
        assert row.persistence.normalized == neural_persistence(value).normalized  # over its own largest |w|
    assert not any("not_a_layer" in report[name].persistence.flags for name in LAYERS[1:])
    assert report.coverage.parameters_measured == plain.coverage.parameters_measured + sum(
        t.size for t in tokens.values()
    )
    assert any("cls_token, pos_embed, body.wpe" in note for note in report.coverage.notes)


def test_a_token_that_is_not_selected_is_not_read() -> None:
    read: list[str] = []
    tensors = {"pos_embed": np.ones((1, 9, 6)), "a.weight": np.ones((2, 2)), "head.weight": np.ones((2, 3))}
    measure_weights(tensors, layers="head", track=lambda name, *_: read.append(name))
    assert read == ["a.weight", "head.weight", ""]


def test_a_source_of_tokens_alone_has_rows_and_no_mean() -> None:
    report = measure_weights({"pos_embed": np.ones((1, 9, 6))})
    assert report.totals["persistence"] == {"normalized": None, "total": None, "scale": 0.0, "layers": 0, "flags": ()}
    assert report["pos_embed"].persistence.scale == 1


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_and_a_scripted_model_are_called_so() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())
    quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})
    with pytest.raises(NothingObserved, match="quantised by torch"):
        measure_weights(quantised)
    with pytest.raises(SelectionError, match=r"the model is quantised, .*watch it before it is quantised"):
        netassay.watch(quantised)
    scripted = torch.jit.script(model)
    with pytest.raises(SelectionError, match=r"the model is scripted, .*watch it before it is scripted"):
        netassay.watch(scripted)
    report = measure_weights(scripted)
    assert report.totals["persistence"] == measure_weights(model).totals["persistence"]
    assert any("the model is scripted" in note for note in report.coverage.notes)


# ---- NaN and infinity ----


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    tensors = network()
    tensors["body.conv.weight"][2, 1, 0, 2] = np.nan
    tensors["body.conv.weight"][7, 5, 2, 2] = np.inf
    return write(tmp_path / "broken.safetensors", tensors)


def test_a_nan_raises_naming_file_tensor_and_index_with_every_other_weight_measured(broken: Path) -> None:
    with pytest.raises(NonFinite) as caught:
        measure_weights(broken)
    message = str(caught.value)
    assert message.startswith(f"measure_weights: {broken}: tensor 'body.conv.weight': got nan at [2, 1, 0, 2]")
    assert "1 more" in message
    assert "\n" not in message
    report = caught.value.report  # type: ignore[attr-defined]
    assert [row.name for row in report] == ["embed", "head"]
    assert "nan at [2, 1, 0, 2]" in skipped(report)["body.conv"]
    assert report.totals["persistence"]["flags"] == ("nonfinite",)
    assert "the scale is the largest |w| of the weights that are finite" in report.coverage.notes


def test_skip_gives_the_same_report_without_raising(broken: Path) -> None:
    with pytest.raises(NonFinite) as caught:
        measure_weights(broken)
    report = measure_weights(broken, nonfinite="skip")
    assert report.to_dict(volatile=False) == caught.value.report.to_dict(volatile=False)  # type: ignore[attr-defined]


def test_a_nan_in_a_weight_that_was_not_selected_spoils_the_scale_and_raises_too(broken: Path) -> None:
    with pytest.raises(NonFinite, match=r"tensor 'body\.conv\.weight'"):
        measure_weights(broken, layers="head")
    assert [row.name for row in measure_weights(broken, layers="head", nonfinite="skip")] == ["head"]


def test_the_index_is_that_in_the_tensor_as_it_is_stored_also_where_it_is_transposed() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.ConvTranspose2d(6, 4, 3, groups=2), torch.nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[5, 0, 2, 1] = float("inf")
    with pytest.raises(NonFinite, match=r"tensor '0\.weight': got inf at \[5, 0, 2, 1\]"):
        measure_weights(model)


def test_where_no_weight_is_finite_the_report_has_no_value_rather_than_a_wrong_one(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {n: np.full((2, 3), np.nan, np.float32) for n in ("a", "b", "c")})
    report = measure_weights(path, nonfinite="skip")
    assert (len(report.layers), report.totals["persistence"]["normalized"]) == (0, None)
    assert str(report).startswith("no layers measured")
    with pytest.raises(NonFinite, match=r"tensor 'a': .*, and of 2 more weights"):
        measure_weights(path)


# ---- Ctrl-C, progress, budget, options ----


def test_track_is_told_every_tensor_in_order_of_storage_and_the_bytes_before_it(path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    measure_weights(path, track=lambda *told: seen.append(told))
    embed, conv, head = 20 * 6 * 2, 8 * 6 * 9 * 4, 4 * 12 * 4
    whole = embed + conv + head
    assert seen == [
        ("embed.weight", 0, whole),
        ("body.conv.weight", embed, whole),
        ("head.weight", embed + conv, whole),
        ("", whole, whole),
    ]


def test_ctrl_c_keeps_the_finished_layers_and_says_that_they_are_not_all(path: Path, tmp_path: Path) -> None:
    def interrupt(tensor: str, done: int, total: int) -> None:
        if tensor == "head.weight":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        measure_weights(path, track=interrupt)
    assert isinstance(caught.value, Interrupted)
    report = caught.value.report
    assert [row.name for row in report] == ["embed", "body.conv"]
    assert report.totals["persistence"]["flags"] == ("partial",)
    assert skipped(report)["head"] == "not reached"
    assert report.coverage.notes[-1].startswith("interrupted: 2 of 3 weights were read")
    largest = report.totals["persistence"]["scale"]
    assert largest < SCALE
    conv = neural_persistence(network()["body.conv.weight"], scale=largest)
    assert same(report["body.conv"].persistence, conv)
    report.to_json(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == report


def test_more_memory_than_the_budget_is_an_error_before_anything_is_read(path: Path) -> None:
    def never(tensor: str, done: int, total: int) -> None:
        raise AssertionError(tensor)

    with pytest.raises(LimitExceeded, match=r"model\.safetensors"):
        measure_weights(path, memory=100, track=never)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"measures": ()}, r"^measure_weights: got measures=\(\), expected one or more of \('persistence', "),
        ({"measures": "beauty"}, r"got measures=\('beauty',\)"),
        ({"nonfinite": "ignore"}, r"^measure_weights: got nonfinite='ignore', expected 'raise' or 'skip'$"),
        ({"memory": -1}, r"^measure_weights: got memory=-1, expected bytes"),
        ({"threads": 0}, r"threads: got 0"),
    ],
)
def test_options_outside_their_domain_are_refused_before_the_source_is_opened(option: Any, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        measure_weights("no such file", **option)


# ---- the report ----


def test_the_report_is_valid_loads_again_and_leaves_arrays_out_of_csv(path: Path, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    report = measure_weights(path)
    jsonschema.Draft202012Validator(schema()).validate(report.to_dict())
    report.to_json(tmp_path / "r.json")
    loaded = Report.load(tmp_path / "r.json")
    assert loaded == report
    assert same(loaded["head"].persistence, report["head"].persistence)
    report.to_csv(tmp_path / "r.csv")
    header = (tmp_path / "r.csv").read_text().splitlines()[0].split(",")
    measure = [f"persistence.{field}" for field in ("total", "normalized", "lower_bound", "scale", "flags")]
    assert header == ["name", "call", "mode", "kind", "shape", "parameters", "calls", *measure]


def test_provenance_says_where_the_numbers_come_from(path: Path) -> None:
    provenance = measure_weights(path, threads=1).provenance
    assert (provenance["source"], provenance["threads"], provenance["wrappers"]) == (str(path), 1, [])
    assert provenance["netassay"] == netassay.__version__
    other = write(path.parent / "other.safetensors", network(seed=1))
    assert provenance["fingerprint"]
    assert measure_weights(other).provenance["fingerprint"]


def test_safetensors_are_measured_without_torch(path: Path) -> None:
    code = f"import sys, netassay; netassay.measure_weights({str(path)!r}); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
