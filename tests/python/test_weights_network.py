"""measure_weights with the measure network: one read of each weight says how its links and its units are."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import netassay
from netassay import DomainError, DTypeError, NonFinite, Report, ShapeError, cli, measure_weights
from netassay.base.arrays import View
from netassay.network import LayerLinks, layer_links, pool_links, survey
from netassay.report.schema import schema
from netassay.sources.checkpoint.checkpoint import Checkpoint
from netassay.verbs.weights import Interrupted
from python.checkpoints import network, tagged, write
from reference import network as reference

LAYERS = ["embed", "body.conv", "head"]
BOTH = ("persistence", "network")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors", network())


def close(got: Any, expected: Any, terms: int) -> None:
    """Sums of float64 that were added in another order: off by at most 2^-52 for each term."""
    np.testing.assert_allclose(got, expected, rtol=2 * terms * 2.0**-52, atol=terms * 2.0**-50)


# ---- a layer ----


def literal(w: np.ndarray, axis: int) -> tuple[list[float], float, float, float]:
    """Strengths of a side, their fluctuation, mean disparity and mean effective degree, term by term."""
    strengths, absolutes, _ = reference.sums(w, axis)
    lines = w if axis == 1 else w.T
    spread = [
        math.fsum((abs(float(v)) / total) ** 2 for v in line)
        for line, total in zip(lines, absolutes, strict=True)
        if total > 0
    ]
    mean = math.fsum(strengths) / len(strengths)
    fluctuation = math.sqrt(math.fsum((s - mean) ** 2 for s in strengths) / len(strengths))
    if not spread:
        return strengths, fluctuation, 0.0, 0.0
    return strengths, fluctuation, math.fsum(spread) / len(spread), math.fsum(1 / y for y in spread) / len(spread)


SHAPES = [(1, 1), (1, 7), (7, 1), (2, 3), (17, 33), (33, 16)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("make", ["normal", "cauchy", "pruned"])
def test_both_sides_are_those_of_the_formulas(shape: tuple[int, int], dtype: Any, make: str) -> None:
    random = np.random.default_rng(0)
    w = random.standard_cauchy(shape) if make == "cauchy" else random.standard_normal(shape)
    w = (w * (random.random(shape) < 0.3) if make == "pruned" else w).astype(dtype)
    layer = layer_links(w)
    for axis, side, units in ((1, "incoming", shape[0]), (0, "outgoing", shape[1])):
        strengths, fluctuation, disparity, degree = literal(w, axis)
        scale = float(np.abs(w).astype(np.float64).sum()) or 1.0
        assert getattr(layer, side).shape == (units,)
        close(getattr(layer, side) / scale, np.array(strengths) / scale, w.size)
        close(getattr(layer, f"{side}_fluctuation") / scale, fluctuation / scale, w.size)
        close(getattr(layer, f"{side}_disparity"), disparity, w.size)
        close(getattr(layer, f"{side}_degree"), degree, w.size)
    assert layer.dead_outputs == int((w == 0).all(axis=1).sum())
    assert layer.dead_inputs == int((w == 0).all(axis=0).sum())


def test_the_distribution_is_that_of_one_survey() -> None:
    w = np.random.default_rng(1).standard_normal((40, 30)).astype(np.float32)
    layer, links = layer_links(w), survey(w)[0]
    for name in ("count", "mean", "variance", "skewness", "kurtosis", "minimum", "maximum", "zero_share"):
        assert getattr(layer, name) == getattr(links, name)
    assert layer.std == math.sqrt(links.variance)
    np.testing.assert_array_equal(layer.quantiles, links.quantiles)
    np.testing.assert_array_equal(layer.density, links.density)


def test_independent_weights_have_a_normalized_fluctuation_of_1_and_shared_ones_more() -> None:
    w = np.random.default_rng(2).standard_normal((400, 300))
    layer = layer_links(w)
    # a standard deviation of 400 numbers is off by 1 / sqrt(800) = 3.5 %, of 300 by 4.1 %: four of these
    assert layer.incoming_normalized == pytest.approx(1, abs=0.15)
    assert layer.outgoing_normalized == pytest.approx(1, abs=0.17)
    shifted = layer_links(w + np.linspace(-1, 1, 400)[:, None])
    assert shifted.incoming_normalized > 5
    assert shifted.outgoing_normalized == pytest.approx(1, abs=0.2)


def test_disparity_runs_from_one_over_the_links_to_1() -> None:
    alike, alone = layer_links(np.full((3, 8), -0.25)), layer_links(np.eye(5))
    assert (alike.incoming_disparity, alike.incoming_degree) == (1 / 8, 8)
    assert (alike.outgoing_disparity, alike.outgoing_degree) == (1 / 3, 3)
    assert (alone.incoming_disparity, alone.outgoing_degree) == (1, 1)
    assert alike.flags == ("constant",)
    assert alike.incoming_normalized == 0  # no variance, no expectation


def test_a_layer_of_zeros_has_values_and_a_flag() -> None:
    layer = layer_links(np.zeros((3, 4), np.float32))
    assert layer.flags == ("constant", "zero")
    assert (layer.incoming_fluctuation, layer.incoming_disparity, layer.incoming_degree) == (0, 0, 0)
    assert (layer.dead_outputs, layer.dead_inputs, layer.outgoing_normalized) == (3, 4, 0)


@pytest.mark.parametrize("exponent", [-1060, -700, 700, 1010])
def test_weights_whose_squares_no_float64_holds_have_the_disparity_of_others(exponent: int) -> None:
    w = np.random.default_rng(3).integers(-8, 9, (6, 5)).astype(np.float64)
    plain, extreme = layer_links(w), layer_links(np.ldexp(w, exponent))
    with np.errstate(over="ignore"):
        assert np.square(np.ldexp(1.0, exponent)) in (0, np.inf)
    for name in ("incoming_disparity", "outgoing_disparity", "incoming_degree", "outgoing_degree", "dead_inputs"):
        assert getattr(extreme, name) == getattr(plain, name)
    np.testing.assert_array_equal(extreme.incoming, np.ldexp(plain.incoming, exponent))
    assert extreme.outgoing_fluctuation == pytest.approx(math.ldexp(plain.outgoing_fluctuation, exponent), rel=1e-12)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_a_layer_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    w = np.random.default_rng(4).standard_normal((300, 517)).astype(np.float32)
    one, several = layer_links(w, threads=1), layer_links(w, threads=threads)
    for name in LayerLinks.__slots__:
        assert np.array_equal(getattr(one, name), getattr(several, name)), name


@given(st.permutations(range(6)), st.permutations(range(5)), st.integers(-8, 8))
def test_order_of_units_permutes_strengths_and_scale_scales_them(rows: Any, columns: Any, exponent: int) -> None:
    w = np.random.default_rng(5).integers(-9, 10, (6, 5)).astype(np.float32)  # small integers: sums are exact
    layer, moved = layer_links(w), layer_links(np.ldexp(w, exponent)[rows][:, columns])
    np.testing.assert_array_equal(moved.incoming, np.ldexp(layer.incoming, exponent)[rows])
    np.testing.assert_array_equal(moved.outgoing, np.ldexp(layer.outgoing, exponent)[columns])
    assert moved.incoming_degree == pytest.approx(layer.incoming_degree, rel=1e-14)
    assert moved.outgoing_normalized == pytest.approx(layer.outgoing_normalized, rel=1e-12)
    assert math.ldexp(layer.std, exponent) == pytest.approx(moved.std, rel=1e-12)


def test_a_convolution_has_a_strength_per_channel_of_its_group() -> None:
    w = np.random.default_rng(6).standard_normal((8, 3, 2, 5)).astype(np.float32)
    for groups in (1, 2, 4, 8):
        layer = layer_links(w, groups=groups)
        expected = [part[:, channel].astype(np.float64).sum() for part in np.split(w, groups) for channel in range(3)]
        close(layer.outgoing, expected, 80)
        close(layer.incoming, w.astype(np.float64).sum(axis=(1, 2, 3)), 30)
        assert layer.flags == ("kernel_level",)
        expected_variance = 8 // groups * 10 * layer.variance * (3 * groups - 1) / (3 * groups)
        assert layer.outgoing_normalized == pytest.approx(layer.outgoing_fluctuation / math.sqrt(expected_variance))


@pytest.mark.parametrize(
    ("weight", "groups", "error", "message"),
    [
        (np.zeros(3), 1, ShapeError, r"^layer_links: got a weight of shape \(3,\), expected \(out, in, \.\.\.\)"),
        (np.zeros((0, 3)), 1, ShapeError, r"^layer_links: got a weight of shape \(0, 3\)"),
        (np.zeros((4, 3)), 3, ShapeError, r"^layer_links: got 3 groups of 4 channels, expected a divisor$"),
        (np.zeros((4, 3)), 0, DomainError, r"^layer_links: got groups 0, expected at least 1$"),
        (np.zeros((4, 3)), 2.0, DTypeError, r"^layer_links: got groups 2\.0, expected integers$"),
        (np.array([[1.0, np.nan]]), 1, NonFinite, r"^layer_links: got nan at \[0, 1\] of the weight, expected finite"),
    ],
)
def test_what_is_no_layer_is_an_error(weight: Any, groups: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        layer_links(weight, groups=groups)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_pooled_layers_are_one_layer_of_all_their_weights(sizes: list[int]) -> None:
    random = np.random.default_rng(sum(sizes))
    parts = [random.standard_normal((n, 3)) * n for n in sizes]
    pooled, whole = pool_links(map(layer_links, parts)), np.concatenate(parts)
    assert (pooled.layers, pooled.count) == (len(sizes), whole.size)
    assert pooled.mean == pytest.approx(whole.mean(), rel=1e-9, abs=1e-12)
    assert pooled.std == pytest.approx(whole.std(), rel=1e-12)
    assert (pooled.minimum, pooled.maximum) == (whole.min(), whole.max())


# ---- a checkpoint ----


def test_every_row_is_the_layer_links_of_its_tensor(path: Path) -> None:
    tensors, report = network(), measure_weights(path, measures="network")
    assert [row.name for row in report] == LAYERS
    for row in report:
        assert set(row.measures) == {"network"}
        array, dtype = tagged(tensors[f"{row.name}.weight"])
        expected = layer_links(View(array.T if row.name == "embed" else array, dtype))  # stored (in, out)
        for name in LayerLinks.__slots__:
            assert np.array_equal(getattr(row.network, name), getattr(expected, name)), name


def test_both_measures_give_what_each_gives_alone_from_one_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    reading = Checkpoint.read

    def counted(self: Checkpoint, stored: Any, **options: Any) -> Any:
        read.append(stored.layer)
        return reading(self, stored, **options)

    monkeypatch.setattr(Checkpoint, "read", counted)
    both = measure_weights(path, measures=BOTH).to_dict()
    assert read == LAYERS
    for measure in BOTH:
        alone = measure_weights(path, measures=measure).to_dict()
        assert [row[measure] for row in alone["layers"]] == [row[measure] for row in both["layers"]]
        assert alone["totals"][measure] == both["totals"][measure]
        assert set(BOTH) - {measure} not in [set(row) & set(BOTH) for row in alone["layers"]]
    assert measure_weights(path, measures=BOTH[::-1]).to_dict(volatile=False) == measure_weights(
        path, measures=BOTH
    ).to_dict(volatile=False)


def test_persistence_alone_stays_the_default(path: Path) -> None:
    report = measure_weights(path)
    assert all(set(row.measures) == {"persistence"} for row in report)
    assert "network" not in report.totals
    assert not [note for note in report.coverage.notes if note.startswith("network")]


def test_the_totals_are_of_all_weights(path: Path) -> None:
    tensors = {name: network()[f"{name}.weight"] for name in LAYERS}
    tensors["embed"] = (tensors["embed"].array.astype(np.uint32) << 16).view(np.float32)  # of bfloat16
    values = np.concatenate([tensor.ravel() for tensor in tensors.values()]).astype(float)
    totals = measure_weights(path, measures="network").totals
    assert set(totals) == {"network"}
    whole = totals["network"]
    assert (whole["layers"], whole["count"], whole["flags"]) == (3, values.size, ())
    assert whole["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert whole["std"] == pytest.approx(values.std(), rel=1e-12)
    assert (whole["minimum"], whole["maximum"]) == (values.min(), values.max())


def test_convolutions_of_a_module_have_their_groups_and_transposed_ones_are_turned() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(6, 4, 3, groups=2), torch.nn.ConvTranspose2d(4, 6, 3, groups=2))
    report = measure_weights(model, measures="network")
    plain, turned = (layer.weight.detach().double() for layer in model)
    close(report["0"].network.incoming, plain.sum((1, 2, 3)), 30)
    close(report["0"].network.outgoing, torch.cat([half.sum((0, 2, 3)) for half in plain.split(2)]), 30)
    close(report["1"].network.incoming, torch.cat([half.sum((0, 2, 3)) for half in turned.split(2)]), 30)
    close(report["1"].network.outgoing, turned.sum((1, 2, 3)), 30)
    assert any("no input size is known here" in note for note in report.coverage.notes)


def test_what_a_unit_receives_is_what_its_layer_puts_out_for_ones() -> None:
    torch = pytest.importorskip("torch")

    class Conv1D(torch.nn.Module):
        """transformers' layer of this name: y = x W + b."""

        def __init__(self, nf: int, nx: int) -> None:
            super().__init__()
            self.nf, self.bias = nf, torch.nn.Parameter(torch.zeros(nf))
            self.weight = torch.nn.Parameter(torch.randn(nx, nf))

        def forward(self, x: Any) -> Any:
            return x @ self.weight + self.bias

    model = torch.nn.ModuleDict({"c_fc": Conv1D(12, 5), "wte": torch.nn.Embedding(7, 5), "head": torch.nn.Linear(5, 3)})
    with torch.no_grad():
        model["head"].bias.zero_()
        received = {name: model[name](torch.ones(5)).double().numpy() for name in ("c_fc", "head")}
        received["wte"] = model["wte"](torch.arange(7)).sum(0).double().numpy()  # of one unit for each word
    for source in (model, model.state_dict()):
        report = measure_weights(source, measures="network")
        for name, expected in received.items():
            np.testing.assert_allclose(report[name].network.incoming, expected, rtol=0, atol=1e-5)
            assert report[name].shape == tuple(model[name].weight.shape)
        assert len(report["wte"].network.outgoing) == 7


def test_an_orientation_that_a_name_alone_says_is_noted(path: Path) -> None:
    notes = measure_weights(path, measures="network").coverage.notes
    assert "network: taken for stored (in, out) by their names: embed" in notes


def test_a_transposed_convolution_of_a_file_is_the_one_of_its_module(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 6, 3), torch.nn.Conv2d(6, 2, 3))
    torch.save(model.state_dict(), tmp_path / "m.pt")
    ours, theirs = (measure_weights(source, measures=BOTH) for source in (model, tmp_path / "m.pt"))
    for row in ours:
        assert row.persistence.normalized == theirs[row.name].persistence.normalized
        np.testing.assert_array_equal(row.network.incoming, theirs[row.name].network.incoming)
    assert len(theirs["0"].network.incoming) == 6


def test_weights_that_are_not_selected_are_not_read(path: Path, tmp_path: Path) -> None:
    tensors = network()
    tensors["embed.weight"].array[0, 0] = 0x7FC0  # NaN
    broken = write(tmp_path / "broken.safetensors", tensors)
    seen: list[str] = []
    report = measure_weights(broken, measures="network", layers="head", track=lambda tensor, *_: seen.append(tensor))
    assert seen == ["head.weight", ""]
    assert {s.name for s in report.coverage.skipped if s.reason == "not selected"} == {"embed", "body.conv"}
    with pytest.raises(NonFinite, match=r"tensor 'embed\.weight'"):
        measure_weights(broken, measures=BOTH, layers="head")  # the scale is of all of them


@pytest.mark.parametrize("measures", ["network", BOTH])
def test_a_nan_names_its_place_in_the_tensor_and_leaves_the_others(measures: Any, tmp_path: Path) -> None:
    tensors = network()
    tensors["body.conv.weight"][2, 1, 0, 2] = np.nan
    path = write(tmp_path / "m.safetensors", tensors)
    with pytest.raises(NonFinite, match=r"tensor 'body\.conv\.weight': got nan at \[2, 1, 0, 2\]") as caught:
        measure_weights(path, measures=measures)
    report = measure_weights(path, measures=measures, nonfinite="skip")
    assert [row.name for row in report] == ["embed", "head"]
    assert report.totals["network"]["flags"] == ("nonfinite",)
    assert report.to_dict(volatile=False) == caught.value.report.to_dict(volatile=False)  # type: ignore[attr-defined]


def test_ctrl_c_keeps_the_finished_layers(path: Path) -> None:
    def interrupt(tensor: str, done: int, total: int) -> None:
        if tensor == "head.weight":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        measure_weights(path, measures="network", track=interrupt)
    report = caught.value.report
    assert [row.name for row in report] == ["embed", "body.conv"]
    assert report.totals["network"]["flags"] == ("partial",)
    assert report.coverage.notes[-1] == "interrupted: 2 of 3 weights were read"


def test_a_chain_without_persistence_is_refused(path: Path) -> None:
    with pytest.raises(DomainError, match=r"^measure_weights: got measures=\('network',\), expected 'persistence'"):
        measure_weights(path, measures="network", chain=["embed", "head"])


# ---- the report ----


def test_the_report_is_valid_loads_again_and_leaves_arrays_out_of_csv(path: Path, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    report = measure_weights(path, measures=BOTH)
    jsonschema.Draft202012Validator(schema()).validate(report.to_dict())
    report.to_json(tmp_path / "r.json")
    loaded = Report.load(tmp_path / "r.json")
    assert loaded == report
    assert isinstance(loaded["head"].network, LayerLinks)
    assert loaded["head"].network.density.dtype == np.uint64
    np.testing.assert_array_equal(loaded["head"].network.incoming, report["head"].network.incoming)
    assert str(loaded) == str(report)
    report.to_csv(tmp_path / "r.csv")
    first = next(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert float(first["network.variance"]) == report["embed"].network.variance
    assert not {"network.density", "network.incoming", "network.quantiles"} & set(first)


def test_links_have_a_table_of_their_own_behind_that_of_persistence(path: Path) -> None:
    alone, both = (str(measure_weights(path, measures=measures)) for measures in ("network", BOTH))
    expected = ["layer", "shape", "mean", "std", "skew", "kurtosis", "zeros", "fluct", "in", "norm", "in"]
    assert alone.splitlines()[0].split()[: len(expected)] == expected
    assert "persistence" not in alone
    assert both.splitlines()[0].split() == ["layer", "shape", "parameters", "persistence", "max/scale"]
    assert alone.split("\n\n")[0] == both.split("\n\n")[1]
    assert "  network  600 weights of 3 layers: mean " in alone
    assert "kernel_level" not in alone.split("\n\n")[0]  # a note says it once


def test_dead_units_and_layers_whose_weights_are_all_alike_are_findings(tmp_path: Path) -> None:
    dead, flat = np.ones((4, 6), np.float32), np.full((3, 3), 0.5, np.float32)
    dead[1], dead[:, (0, 5)] = 0, 0
    tensors = {"dead.weight": dead, "flat.weight": flat, "zero.weight": 0 * flat, "fine.weight": np.eye(2) + 1}
    path = write(tmp_path / "m.safetensors", tensors)
    report = measure_weights(path, measures="network")
    assert [(f.level, f.message) for f in report.findings] == [
        ("problem", "zero: every weight is zero"),
        ("problem", "flat: every weight is 0.5, so its units are all alike"),
        ("notice", "dead: 1 of 4 output units and 2 of 6 input units have no weight other than 0"),
    ]
    assert report.findings[2].evidence == {"count": 1, "layers": ["dead"], "dead_outputs": 1, "dead_inputs": 2}
    both = measure_weights(path, measures=BOTH)
    assert [f.message for f in both.findings].count("zero: every weight is zero") == 1


# ---- the command line ----


@pytest.mark.parametrize(
    ("words", "measures"),
    [
        (["--measures", "network"], "network"),
        (["--measures", "persistence,network"], BOTH),
        (["--measures", "network", "--measures", "persistence"], BOTH),
        ([], "persistence"),
    ],
)
def test_measures_are_named_with_commas_or_one_by_one(
    words: list[str], measures: Any, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["weights", str(path), *words]) == 0
    assert capsys.readouterr().out == f"{measure_weights(path, measures=measures)}\n"


def test_a_measure_that_is_none_is_usage(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["network,beauty"], ["saturation"], [""]):
        assert cli.main(["weights", str(path), "--measures", *words]) == 2
        assert "expected persistence or network, or both" in " ".join(capsys.readouterr().err.split())


def test_plan_says_what_would_be_measured_and_reads_only_that(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned = netassay.plan(path, measures="network", layers="head")
    assert (planned.measures, planned.others, planned.nbytes) == (("network",), 0, 4 * 12 * 4)
    assert netassay.plan(path, layers="head").others == 2
    assert cli.main(["plan", str(path), "--measures", "network,persistence"]) == 0
    assert "\n  measures: persistence, network\n  weights: 3 to measure" in capsys.readouterr().out


def test_safetensors_are_measured_without_torch(path: Path) -> None:
    code = f"import sys, netassay; netassay.measure_weights({str(path)!r}, measures='network')"
    done = subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], capture_output=True)
    assert done.returncode == 0, done.stderr
