"""netassay structure: a factory by name, shapes of inputs, files, exit statuses; a decoder of 7e9 parameters."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import netassay
from netassay import Report, algebra, cli
from netassay.algebra import Call, LayerGraph, Tensor
from netassay.report.schema import schema
from python import llama

ROOT = Path(__file__).parents[2]
MODELS = """
import torch
from torch import nn

def mlp():
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))

def cnn(channels=3):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))

def words():
    return nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 3))

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 2), nn.Linear(4, 2)

    def forward(self, x, y):
        return self.left(x) + self.right(y)

class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x

class Space:
    Two = Two

def huge():
    return nn.Linear(2**20, 2**20)

def broken():
    raise ValueError("no weights here\\nat all")

def number():
    return 3

made = mlp()
needs = lambda size: nn.Linear(size, size)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in with a module of models, forgotten afterwards."""
    (tmp_path / "cli_models.py").write_text(MODELS, encoding="utf-8")
    (tmp_path / "cli_broken.py").write_text("import does_not_exist_at_all\n", encoding="utf-8")
    (tmp_path / "cli_wrong.py").write_text("def f(:\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("cli_models", "cli_broken", "cli_wrong"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def structure(*words: str) -> int:
    return cli.main(["structure", *words])


@pytest.mark.parametrize(
    ("place", "inputs", "macs"),
    [
        ("cli_models:mlp", ["1,6"], 32),
        ("cli_models:made", ["1,6"], 32),
        ("cli_models:cnn", ["1,3,8,8"], 4 * 36 * 27 + 288),
        ("cli_models:words", ["1,5:int64"], 60),
        ("cli_models:Two", ["1,6", "1,4"], 20),
        ("cli_models:Space.Two", ["1,6", "1,4"], 20),
        ("cli_models:mlp", ["3,6:float32"], 32),
    ],
)
def test_a_factory_a_class_or_a_module_is_measured(
    place: str, inputs: list[str], macs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert structure(place, *(word for shape in inputs for word in ("--input", shape))) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f" {macs:,}\n" in out.partition("totals")[2].partition("log2_paths")[0]
    assert "path bits" in out


def test_a_model_that_does_not_fit_is_made_without_values(capsys: pytest.CaptureFixture[str]) -> None:
    """2^40 parameters would take 4 TiB."""
    assert structure("cli_models:huge", "--input", "1,1048576", "--meta", "--strict") == 0
    out, _ = capsys.readouterr()
    assert f"{2**40 + 2**20:,}" in out


def test_a_branch_on_values_is_measured_or_with_strict_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert structure("cli_models:Branching", "--input", "1,6") == 0
    out, err = capsys.readouterr()
    assert "recorded on this input" in out
    assert err == ""
    assert structure("cli_models:Branching", "--input", "1,6", "--strict") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("netassay: measure_structure: Branching takes branches that depend on its input's values")
    assert structure("cli_models:Branching", "--input", "1,6", "--meta") == 1
    assert "without values" in capsys.readouterr().err


def test_json_and_csv_go_to_files_beside_the_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert structure("cli_models:mlp", "--input", "1,6", "--json", "r.json", "--csv", "r.csv") == 0
    out, _ = capsys.readouterr()
    assert "path bits" in out
    assert out.endswith("wrote r.csv\n")
    report = Report.load(here / "r.json")
    assert report.totals["macs"] == 32
    with open(here / "r.csv", encoding="utf-8", newline="") as file:
        assert [line["name"] for line in csv.DictReader(file)] == ["0", "1", "2"]


def test_json_on_standard_output_is_alone_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert structure("cli_models:mlp", "--input", "1,6", "--json", "-") == 0
    out, err = capsys.readouterr()
    jsonschema.Draft202012Validator(schema()).validate(json.loads(out))
    assert json.loads(out)["provenance"]["source"] == "torch.export Sequential"
    assert "path bits" in err


def test_csv_on_standard_output_is_alone_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert structure("cli_models:mlp", "--input", "1,6", "--csv", "-") == 0
    out, err = capsys.readouterr()
    assert [line["algebra.macs"] for line in csv.DictReader(io.StringIO(out))] == ["24", "0", "8"]
    assert "path bits" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cli_models:mlp"], "--input"),
        (["--input", "1,6"], "MODULE:FACTORY"),
        (["cli_models:mlp", "--input", "1,six"], "1,six"),
        (["cli_models:mlp", "--input", ""], "--input"),
        (["cli_models:mlp", "--input", "1,,6"], "1,,6"),
        (["cli_models:mlp", "--input", "1,-6"], "1,-6"),
        (["cli_models:mlp", "--input", "1;6"], "1;6"),
        (["cli_models:mlp", "--input", "0,6"], "0,6"),
        (["cli_models:mlp", "--input", "1.5,6"], "1.5,6"),
        (["cli_models:mlp", "--input", "1,6", "--json", "-", "--csv", "-"], "cannot both be standard output"),
        (["cli_models:mlp", "--input", "1,6", "--deep"], "--deep"),
    ],
)
def test_wrong_usage_is_status_2_on_standard_error(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert structure(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


@pytest.mark.parametrize(
    ("place", "shape", "says"),
    [
        ("cli_models", "1,6", "structure: got 'cli_models', expected MODULE:FACTORY"),
        (":mlp", "1,6", "expected MODULE:FACTORY"),
        ("no_such_module_at_all:mlp", "1,6", "No module named 'no_such_module_at_all'"),
        ("cli_models:absent", "1,6", "has no attribute 'absent'"),
        ("cli_models:number", "1,6", "'cli_models:number' gave int, expected a torch.nn.Module"),
        ("cli_models:broken", "1,6", "no weights here at all"),
        ("cli_models:needs", "1,6", "size"),
        ("cli_broken:f", "1,6", "does_not_exist_at_all"),
        ("cli_wrong:f", "1,6", "cli_wrong.py"),
        ("cli_models:mlp", "1,5", "measure_structure: Sequential cannot be followed on this input: "),
        ("cli_models:mlp", "1,6:float99", "float99"),
        ("cli_models:mlp", "1,6:nn", "'nn'"),
        ("cli_models:words", "1,5", "cannot be followed on this input"),
        ("../cli_models:mlp", "1,6", "cli_models"),
    ],
)
def test_what_cannot_be_measured_is_status_1_and_one_line(
    place: str, shape: str, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert structure(place, "--input", shape) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("netassay: ")
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize("place", ["cli_models:broken", "cli_models:needs", "cli_wrong:f", "cli_models:nn"])
def test_an_error_of_the_users_own_names_the_factory(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert structure(place, "--input", "1,6") == 1
    assert place in capsys.readouterr().err


def test_debug_shows_where_a_factory_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert structure("cli_models:broken", "--input", "1,6", "--debug") == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ValueError: no weights here" in err


def test_the_command_finds_modules_beside_it_and_prints_nothing_of_torchs(here: Path) -> None:
    words = [sys.executable, "-m", "netassay", "structure", "cli_models:Branching", "--input", "1,6"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=here)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("layer ")


def test_help_needs_no_torch(here: Path) -> None:
    code = """
import sys
sys.modules["torch"] = None
from netassay import cli
status = cli.main(["structure", "--help"])
assert sys.modules["torch"] is None
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("MODULE:FACTORY", "--input", "--meta", "--strict", "--json", "--csv"):
        assert word in done.stdout


def test_without_torch_the_command_says_what_is_missing(here: Path) -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom netassay import cli\n"
    code += "sys.exit(cli.main(['structure', 'cli_models:mlp', '--input', '1,6']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here)
    assert done.returncode == 1
    assert "torch" in done.stderr
    assert done.stderr.count("\n") == 1


DECODER = """
import json, resource, sys
sys.path.insert(0, {tests!r})
import torch
from python import llama
from netassay import measure_structure
with torch.device("meta"):
    model = llama.Llama()
report = measure_structure(model, torch.ones(1, 64, dtype=torch.int64), strict=True)
report.to_json("decoder.json")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak * (1 if sys.platform == "darwin" else 1024))
"""


def test_a_decoder_of_seven_billion_parameters_is_measured_within_two_gigabytes(here: Path) -> None:
    code = DECODER.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * 10**9
    report = Report.load(here / "decoder.json")
    assert report.totals["parameters"] == llama.PARAMETERS
    assert report.totals["macs"] == llama.macs(64)
    assert report.totals["unknown"] == 0
    assert (report.coverage.parameters_measured, report.coverage.skipped) == (llama.PARAMETERS, ())
    products = [row for row in report if row.algebra.macs]
    assert len(products) == 32 * 8 + 1  # seven linear layers and attention, and the head
    assert all(row.algebra.log2_paths is not None for row in report)


def test_the_version_is_in_every_report_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert structure("cli_models:mlp", "--input", "1,6", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["netassay"] == netassay.__version__


def test_the_readmes_table_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("### A structure") :]
    command = re.search(r"^netassay (structure [^#\n]*)", section, re.MULTILINE)
    shown = re.search(r"```\n(layer .*?)```", section, re.DOTALL)
    assert command is not None
    assert shown is not None
    assert cli.main(command[1].split()) == 0
    assert capsys.readouterr().out.startswith(shown[1].rstrip())


def test_the_docs_own_operations_are_measured_as_they_say() -> None:
    text = (ROOT / "docs" / "algebra.md").read_text(encoding="utf-8")
    example = text[text.index("## Operations of your own") :]
    exec(re.findall(r"```python\n(.*?)```", example, re.DOTALL)[0], {})
    calls = [
        Call("x", "input", ((2, 5),), (5,)),
        Call("mix", "mylib::mix", ((2, 3),), (3,), {"x": Tensor((2, 5), 5, 0), "weight": Tensor((3, 5), 15)}),
        Call("swish", "mylib::swish", ((2, 3),), (3,), {"x": Tensor((2, 3), 3, 1)}),
    ]
    network = algebra.measure(LayerGraph(tuple(calls), (2,)), strict=True)
    assert (network.macs, network.path_lengths, network.region_bits) == (15, (0, 1), None)
    assert network.log2_paths == pytest.approx(math.log2(5))
