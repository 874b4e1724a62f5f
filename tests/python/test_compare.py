"""netassay.compare: which layer of one network is which of the other, what differs, and what it prints and writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netassay
from netassay import Comparison, DomainError, NonFinite, Report, StateError, cli, compare, measure_weights, watch
from netassay.network import divergence
from netassay.report import Row, UnknownLayer
from netassay.report.align import side_by_side
from netassay.report.compare import Change
from netassay.saturation import Saturation
from python.checkpoints import network, write
from python.full import count

BOTH = ("persistence", "network")
LAYERS = ["embed", "body.conv", "head"]
Capture = pytest.CaptureFixture[str]


def other() -> dict[str, Any]:
    """network() with other values in body.conv under another name, embed of another shape, and the same head."""
    tensors = {name: value for name, value in network(1).items() if not name.startswith("body.conv")}
    tensors["trunk.conv.weight"] = network(1)["body.conv.weight"]
    tensors["embed.weight"] = np.ones((21, 6), np.float32)
    tensors["head.weight"] = network()["head.weight"]
    return tensors | {"new.weight": np.eye(5, dtype=np.float32)}


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return write(tmp_path / "a.safetensors", network() | {"old.weight": np.eye(3, dtype=np.float32)})


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return write(tmp_path / "b.safetensors", other())


# ---- what is compared with what ----


def test_layers_are_aligned_by_name_then_by_shape_and_every_difference_is_named(a: Path, b: Path) -> None:
    found = compare(a, b, permutations=0)
    told = [(pair.a and pair.a.name, pair.b and pair.b.name, pair.state) for pair in found]
    assert told == [
        ("embed", "embed", "reshaped"),
        ("body.conv", "trunk.conv", "renamed"),
        ("head", "head", "same"),
        ("old", None, "only_a"),
        (None, "new", "only_b"),
    ]
    assert not found.equal
    text = str(found)
    assert text.startswith(f"A  {a}\nB  {b}\n\nlayer ")
    for line in (
        "3 in both, 1 only in A, 1 only in B",
        "only in A: old",
        "only in B: new",
        "renamed, taken for the same by shape and order: body.conv -> trunk.conv",
        "another shape: embed 20x6 -> 21x6",
    ):
        assert f"  {line}\n" in f"{text}\n"


def test_every_number_of_a_measure_stands_beside_that_of_the_other_with_their_difference(a: Path, b: Path) -> None:
    found = compare(a, b, permutations=0)
    ours, theirs = (measure_weights(path, measures=BOTH) for path in (a, b))
    assert found.measures == BOTH
    changes = found["body.conv"].changes
    for measure, field in (("persistence", "normalized"), ("network", "variance"), ("network", "dead_inputs")):
        values = [getattr(getattr(report[name], measure), field)
                  for report, name in ((ours, "body.conv"), (theirs, "trunk.conv"))]  # fmt: skip
        change = changes[measure][field]
        assert [change.a, change.b, change.difference] == [*values, values[1] - values[0]]
    assert set(changes["persistence"]) == {"total", "normalized", "lower_bound", "scale"}
    assert not {"flags", "incoming", "density", "quantiles"} & set(changes["network"])
    assert found["old"].changes["network"]["count"].b is None
    total = found.totals["persistence.normalized"]
    assert total.a == ours.totals["persistence"]["normalized"]
    assert total.difference == theirs.totals["persistence"]["normalized"] - total.a
    assert found.totals["network.count"].b == theirs.totals["network"]["count"]


def test_the_weights_of_a_pair_have_the_divergence_of_their_densities(a: Path, b: Path) -> None:
    found, ours, theirs = compare(a, b), measure_weights(a, measures="network"), measure_weights(b, measures="network")
    expected = divergence(ours["body.conv"].network, theirs["trunk.conv"].network, permutations=100)
    assert found["body.conv"].divergence == expected
    assert (found["head"].divergence.value, found["head"].divergence.p_value) == (0, 1)
    assert found["embed"].divergence.p_value == 1 / 101  # ones beside normal numbers
    assert found["old"].divergence is None
    assert all(pair.divergence is None for pair in compare(a, b, measures="persistence"))
    assert compare(a, b, permutations=0)["embed"].divergence.null_mean is None


def test_a_network_is_equal_to_itself_and_says_so(a: Path) -> None:
    found = compare(a, a)
    assert found.equal
    changes = [change for pair in found for several in pair.changes.values() for change in several.values()]
    assert {change.difference for change in changes} <= {0, None}
    assert str(found).endswith("4 in both, 0 only in A, 0 only in B; no number differs")


def rows(names: list[str], shapes: list[tuple[int, int]], mode: Any = None) -> Report:
    links = netassay.network.layer_links(np.eye(2))
    return Report(tuple(Row(n, None, mode, "", s, 4, None, {"network": links})
                        for n, s in zip(names, shapes, strict=True)))  # fmt: skip


def pairs(found: Comparison) -> list[tuple[str | None, str | None]]:
    return [(pair.a and pair.a.name, pair.b and pair.b.name) for pair in found]


def test_of_several_renamed_layers_of_one_shape_order_decides_and_where_their_number_differs_nothing_does() -> None:
    ours = rows(["x", "same", "y"], [(4, 4)] * 3)
    assert pairs(side_by_side(ours, rows(["p", "q", "same"], [(4, 4)] * 3), ["network"], ("A", "B"))) == [
        ("x", "p"), ("same", "same"), ("y", "q")
    ]  # fmt: skip
    assert pairs(side_by_side(ours, rows(["p", "same"], [(4, 4)] * 2), ["network"], ("A", "B"))) == [
        ("x", None), ("same", "same"), ("y", None), (None, "p")
    ]  # fmt: skip


@settings(max_examples=count(50, 1000))
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 2)), max_size=6, unique_by=lambda t: t[0]),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 2)), max_size=6, unique_by=lambda t: t[0]),
)
def test_every_layer_stands_once_and_the_other_way_round_mirrors(ours: Any, theirs: Any) -> None:
    def report(side: Any) -> Report:
        return rows([name for name, _ in side], [(n, n) for _, n in side])

    found = pairs(side_by_side(report(ours), report(theirs), ["network"], ("A", "B")))
    assert sorted(x for x, _ in found if x) == sorted(name for name, _ in ours)
    assert sorted(y for _, y in found if y) == sorted(name for name, _ in theirs)
    shared = {name for name, _ in ours} & {name for name, _ in theirs}
    assert {(name, name) for name in shared} <= set(found)
    back = pairs(side_by_side(report(theirs), report(ours), ["network"], ("B", "A")))
    assert {(x, y) for y, x in back} == set(found)


def test_weights_measured_in_a_run_are_those_of_a_checkpoint_though_their_rows_have_a_mode() -> None:
    run, standing = rows(["fc"], [(2, 2)], "eval"), rows(["fc"], [(2, 2)])
    assert pairs(side_by_side(run, standing, ["network"], ("A", "B"))) == [("fc", "fc")]
    train = rows(["fc"], [(2, 2)], "train")
    assert [pair.state for pair in side_by_side(run, train, ["network"], ("A", "B"))] == ["only_a", "only_b"]


# ---- how far the weights moved ----


def weights(**layers: Any) -> dict[str, Any]:
    return {f"{name}.weight": value for name, value in layers.items()}


def test_how_far_a_weight_moved_is_its_relative_norm_its_cosine_and_the_rank_of_the_change() -> None:
    random = np.random.default_rng(0)
    w = random.standard_normal((60, 40)).astype(np.float32)
    low = (random.standard_normal((60, 3)) @ random.standard_normal((3, 40)) / 50).astype(np.float32)
    theirs = {
        "same": w.copy(),
        "turned": w[::-1].copy(),
        "double": 2 * w,
        "less": -w,
        "low": w + low,
        "kernel": w + low,
    }
    ours = {name: w.copy().reshape(60, 10, 2, 2) if name == "kernel" else w.copy() for name in theirs}
    theirs["kernel"] = theirs["kernel"].reshape(60, 10, 2, 2)
    found = compare(weights(**ours), weights(**theirs), permutations=0)
    for name in theirs:
        a, b = (side[name].astype(np.float64).ravel() for side in (ours, theirs))
        moved = found[name].movement
        assert moved.relative == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-12, abs=0)
        assert moved.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-12)
    ranks = {"same": 0, "turned": 30, "double": 40, "less": 40, "low": 3, "kernel": 3}
    assert {name: found[name].movement.rank for name in theirs} == ranks
    assert found["same"].movement.relative == 0
    assert not found.equal


def test_the_rank_of_a_change_is_not_that_of_its_rounding() -> None:
    torch = pytest.importorskip("torch")
    w = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    low = 3 * torch.outer(torch.linspace(-1, 1, 64), torch.linspace(1, 2, 48)).double()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        a, b = w.to(dtype), (w.to(dtype).double() + low).to(dtype)
        assert compare({"a.weight": a}, {"a.weight": b}, permutations=0)["a"].movement.rank == 1


def test_the_rank_of_a_wide_change_is_asked_for(tmp_path: Path, capsys: Capture) -> None:
    a, b = np.zeros((1025, 1026), np.float32), np.zeros((1025, 1026), np.float32)
    a[0], b[0, 0] = 1, 1
    assert compare(weights(x=a), weights(x=b), permutations=0)["x"].movement.rank is None
    files = [str(write(tmp_path / f"{name}.safetensors", weights(x=w))) for name, w in (("a", a), ("b", b))]
    assert cli.main(["compare", *files, "--rank", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["movement"]["rank"] == 1


def test_a_weight_of_zeros_has_no_direction_and_no_relative_norm() -> None:
    zeros, ones = (lambda: np.zeros((2, 3))), (lambda: np.ones((2, 3)))
    found = compare(weights(a=zeros(), b=zeros(), c=ones()), weights(a=ones(), b=zeros(), c=zeros()), permutations=0)
    told = {pair.name: (pair.movement.relative, pair.movement.cosine, pair.movement.rank) for pair in found}
    assert told == {"a": (None, None, 1), "b": (0.0, None, 0), "c": (1.0, None, 1)}


def test_both_networks_are_over_one_scale_and_what_stayed_has_not_changed() -> None:
    random = np.random.default_rng(1)
    still, grown = random.standard_normal((9, 7)), random.standard_normal((7, 9))
    found = compare(weights(still=still, grown=grown), weights(still=still, grown=5 * grown), permutations=0)
    assert found.totals["persistence.scale"].a == found.totals["persistence.scale"].b == 5 * np.abs(grown).max()
    assert all(change.a == change.b for several in found["still"].changes.values() for change in several.values())


def test_what_moved_most_stands_first() -> None:
    random = np.random.default_rng(2)
    ours = {name: random.standard_normal((6, 5)) for name in "abcd"}
    noise = dict(zip("abcd", (0.1, 0.0, 2.0, 0.5), strict=True))
    theirs = {name: w + noise[name] * random.standard_normal((6, 5)) for name, w in ours.items()}
    found = compare(weights(**ours), weights(**theirs), permutations=0)
    lines = str(found).split("\n\n")[1].splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["c", "d", "a", "b"]
    assert [pair.name for pair in found] == list("abcd")


def test_of_reports_it_is_said_that_they_hold_no_weights(a: Path, b: Path) -> None:
    reports = [measure_weights(path) for path in (a, b)]
    assert "A and B are reports, which hold no weights" in " ".join(str(compare(*reports)).split())
    assert "B is a report, which holds no weights" in compare(a, reports[1]).notes[0]
    assert compare(a, b, permutations=0).notes == ()


# ---- reports and checkpoints ----


def test_reports_their_files_and_what_they_were_made_of_give_the_same(a: Path, b: Path, tmp_path: Path) -> None:
    reports = [measure_weights(path, measures=BOTH) for path in (a, b)]
    for report, name in zip(reports, "ab", strict=True):
        report.to_json(tmp_path / f"{name}.json")
    expected = compare(a, b, permutations=0).to_dict()
    for layer in expected["layers"]:
        layer["movement"] = None  # which a report cannot give
    files = [tmp_path / f"{name}.json" for name in "ab"]
    for one, two in (reports, (a, reports[1]), (str(files[0]), b), files):
        found = compare(one, two, permutations=0).to_dict()
        assert found["layers"] == expected["layers"]
        assert found["totals"] == expected["totals"]


def test_modules_and_state_dicts_are_compared_too() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model[1].weight *= 2
    found = compare(before, model)
    assert (found.source_a, found.source_b) == ("state_dict", "Sequential")
    assert {change.difference for change in found["0"].changes["network"].values()} <= {0, None}
    assert found["1"].changes["network"]["variance"].b == pytest.approx(4 * found["1"].changes["network"]["variance"].a)


def test_only_what_both_have_is_compared_and_a_checkpoint_is_measured_for_that(a: Path, b: Path) -> None:
    links = measure_weights(a, measures="network")
    assert compare(links, b, permutations=0).measures == ("network",)
    assert compare(links, measure_weights(b, measures=BOTH), permutations=0).measures == ("network",)
    with pytest.raises(DomainError, match=r"^compare: got a report \(network\) and a report \(persistence\), expected"):
        compare(links, measure_weights(b))
    with pytest.raises(
        DomainError, match=r"^compare: got measures=\('persistence',\) for a report \(network\) and a che"
    ):
        compare(links, b, measures="persistence")
    with pytest.raises(DomainError, match=r"got measures=\('beauty',\)"):
        compare(a, b, measures="beauty")


def test_other_measures_are_compared_by_their_reports() -> None:
    def report(value: float | None) -> Report:
        layer = Saturation(value, 3, 4, 0.99, np.ones(4), 100, 100, () if value else ("too_few_rows",))
        rows = (Row("fc", 0, "train", "Linear", (4, 2), 8, 7, {"saturation": layer, "effective_dimension": None}),)
        return Report(rows, totals={"parameters": 8, "network": {"count": 4}, "name": "x", "saturation": {"mean": 0.5}})

    found = compare(report(0.75), report(0.5))
    assert found.measures == ("saturation",)
    assert found["fc"].changes["saturation"]["value"] == Change(0.75, 0.5, -0.25)
    assert set(found.totals) == {"parameters", "saturation.mean"}  # links were not compared
    assert "0.750 -> 0.500 (-0.250)" in str(found)
    assert compare(report(0.75), report(None))["fc"].changes["saturation"]["value"] == Change(0.75, None, None)


def test_what_a_watch_measures_is_in_the_table() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    torch.nn.init.eye_(model[0].weight)
    torch.nn.init.constant_(model[0].bias, -4.0)  # passed by half of the samples below, or by none

    def report(scale: float) -> Report:
        with watch(model, measures=("complexity", "network")) as watched:
            model.eval()(scale * torch.arange(12.0).reshape(4, 3))
        return watched.report()

    found = compare(report(1.0), report(-2.0))
    heading, _, linear, relu = str(found).splitlines()[3:7]
    assert " ".join(heading.split()) == "layer mode bits/channel bits/position strength std activation std"
    for measure, line in (("neuron_strength", linear), ("neuron_activation", relu)):
        pair = found[line.split()[0]]
        a, b = (row.measures[measure].std for row in (pair.a, pair.b) if row)
        assert f"{a:.3g} -> {b:.3g} ({b - a:+.3g})" in line
    assert f"{found['1'].changes['complexity']['mean_position'].a:.3f} -> " in relu


def test_a_nan_is_an_error_or_a_layer_that_only_the_other_has_with_its_reason(a: Path, tmp_path: Path) -> None:
    tensors = network()
    tensors["head.weight"][3, 7] = np.nan
    broken = write(tmp_path / "broken.safetensors", tensors)
    with pytest.raises(NonFinite, match=r"broken\.safetensors: tensor 'head\.weight': got nan at \[3, 7\]"):
        compare(a, broken)
    found = compare(a, broken, nonfinite="skip")
    assert [pair.name for pair in found.named("only_a")] == ["head", "old"]
    assert "only in A: head (in B: got nan at [3, 7]" in " ".join(str(found).split())


def test_a_json_that_is_no_report_and_a_name_that_is_none_are_errors(a: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(StateError, match=r"x\.json: schema: got None"):
        compare(a, tmp_path / "x.json")
    with pytest.raises(FileNotFoundError):
        compare(a, tmp_path / "none.json")
    with pytest.raises(UnknownLayer, match="got 'haed', expected the name of a layer in either network"):
        compare(a, a)["haed"]


# ---- what is written ----


def test_json_csv_and_frame_say_the_same(a: Path, b: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    found = compare(a, b)
    found.to_json(tmp_path / "c.json")
    read = json.loads((tmp_path / "c.json").read_text("utf-8"), parse_constant=lambda text: pytest.fail(text))
    assert read == found.to_dict()
    assert read["schema"] == "netassay.comparison/1"
    conv = read["layers"][1]
    assert (conv["name"], conv["name_b"], conv["state"]) == ("body.conv", "trunk.conv", "renamed")
    change = found["body.conv"].changes["network"]["mean"]
    assert conv["network"]["mean"] == {"a": change.a, "b": change.b, "difference": change.difference}
    assert conv["divergence"]["value"] == found["body.conv"].divergence.value
    found.to_csv(tmp_path / "c.csv")
    lines = list(csv.DictReader((tmp_path / "c.csv").read_text("utf-8").splitlines()))
    assert float(lines[1]["network.mean.difference"]) == change.difference
    assert (lines[3]["state"], lines[3]["name_b"], lines[3]["network.mean.b"]) == ("only_a", "", "")
    frame = found.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == list(lines[0])
    assert frame["network.mean.difference"][1] == change.difference


HOSTILE = ["\x1b[2Jgone", "two\nlines", "=1+1", "[red]x[/red]"]


def test_hostile_names_are_escaped_in_every_output(tmp_path: Path, capsys: Capture) -> None:
    eyes = {name: np.eye(3 + i, dtype=np.float32) for i, name in enumerate(HOSTILE)}
    one = write(tmp_path / "a.safetensors", eyes)
    two = write(tmp_path / "b.safetensors", {f"{name}!": value for name, value in eyes.items()} | {"\x07": np.eye(9)})
    assert cli.main(["compare", str(one), str(two), "--csv", str(tmp_path / "c.csv")]) == 0
    for shown in (capsys.readouterr().out, (tmp_path / "c.csv").read_text("utf-8")):
        assert all(c.isprintable() or c == "\n" for c in shown)
        assert r"\x1b[2Jgone" in shown
        assert r"two\nlines" in shown


# ---- the command ----


def test_the_command_prints_the_comparison_and_writes_files(a: Path, b: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["compare", str(a), str(b), "--json", str(tmp_path / "new" / "c.json")]
    (tmp_path / "new").mkdir()
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"{compare(a, b)}\n")
    assert json.loads((tmp_path / "new" / "c.json").read_text("utf-8")) == compare(a, b).to_dict()


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_file_on_standard_output_is_all_there_is_on_it(option: str, a: Path, b: Path, capsys: Capture) -> None:
    assert cli.main(["compare", str(a), str(b), "--measures", "network", option, "-"]) == 0
    out, err = capsys.readouterr()
    found = compare(a, b, measures="network")
    assert err == f"{found}\n"
    assert out == found.csv_text() if option == "--csv" else json.loads(out) == found.to_dict()


def test_reports_that_the_command_wrote_are_compared(a: Path, b: Path, tmp_path: Path, capsys: Capture) -> None:
    for path, name in ((a, "a.json"), (b, "b.json")):
        assert cli.main(["weights", str(path), "--measures", "network", "--json", str(tmp_path / name)]) == 0
    capsys.readouterr()
    assert cli.main(["compare", str(tmp_path / "a.json"), str(b)]) == 0
    table = capsys.readouterr().out.split("\n\n")[1]
    reports = [measure_weights(path, measures=("network",)) for path in (a, b)]
    assert table == str(compare(*reports)).split("\n\n")[1]
    assert cli.main(["compare", str(tmp_path / "a.json"), str(b), "--measures", "persistence,network"]) == 1
    assert capsys.readouterr().err.startswith("netassay: compare: got measures=('persistence', 'network') for a report")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["a"], 2, "Missing argument 'B'"),
        (["a", "b", "--json", "-", "--csv", "-"], 2, "cannot both be standard output"),
        (["a", "b", "--measures", ","], 2, "expected names separated by commas"),
        (["no such", "file"], 1, "netassay: no such: No such file or directory"),
    ],
)
def test_exit_status(words: list[str], status: int, says: str, capsys: Capture) -> None:
    assert cli.main(["compare", *words]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


def test_a_nan_is_status_1_and_one_line(a: Path, tmp_path: Path, capsys: Capture) -> None:
    tensors = network()
    tensors["head.weight"][0, 0] = np.inf
    broken = write(tmp_path / "broken.safetensors", tensors)
    assert cli.main(["compare", str(a), str(broken)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert cli.main(["compare", str(a), str(broken), "--nonfinite", "skip"]) == 0


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_in_a_terminal_columns_that_do_not_fit_are_left_out(columns: int, a: Path, b: Path) -> None:
    text = compare(a, b).render(columns)
    lines = [line for line in text.splitlines()[3:] if not line.startswith("(not shown")]
    assert max(map(len, lines)) <= columns
    assert "persistence" in text
