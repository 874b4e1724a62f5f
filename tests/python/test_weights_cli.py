"""`netassay weights`: what it prints where, what it writes, and its exit status."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netassay import Report, cli, measure_weights
from netassay.cli import terminal
from netassay.cli.options import byte_count
from python.checkpoints import network, write

HOSTILE = ["\x1b[2Jgone", "two\nlines", "=1+1", "@SUM(A1)", "[red]x[/red]", "‮rtl", "漢字"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors", network())


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    tensors = network()
    tensors["head.weight"][3, 7] = np.nan
    return write(tmp_path / "broken.safetensors", tensors)


def weights(*words: object) -> int:
    return cli.main(["weights", *map(str, words)])


# ---- what is printed ----


def test_it_prints_the_report_and_nothing_else(path: Path, capsys: Capture) -> None:
    assert weights(path) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no bar: this is no terminal
    assert out == f"{measure_weights(path)}\n"
    header, _, first = out.splitlines()[:3]
    assert header.split() == ["layer", "shape", "parameters", "persistence", "max/scale"]
    assert first.split()[:3] == ["embed", "20x6", "120"]
    assert "\n  persistence  0." in out
    assert ", mean of 3 layers; scale 4; sum of totals " in out
    assert "parameters: 600 of 620 measured (96.8 %)" in out


def test_hostile_names_are_escaped_in_every_output(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "m.safetensors", {name: np.eye(3, dtype=np.float32) for name in HOSTILE})
    assert weights(path, "--csv", tmp_path / "r.csv", "--json", tmp_path / "r.json") == 0
    out, _ = capsys.readouterr()
    text = (tmp_path / "r.csv").read_text("utf-8")
    for shown in (out, text):
        assert all(c.isprintable() or c == "\n" for c in shown)
        assert r"\x1b[2Jgone" in shown
        assert r"two\nlines" in shown
    cells = [line["name"] for line in csv.DictReader(text.splitlines())]
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]
    assert [row.name for row in Report.load(tmp_path / "r.json")] == HOSTILE


def test_a_hostile_name_in_an_error_is_escaped_on_one_line(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "m.safetensors", {"a\n\x1b[2J.weight": np.full((2, 2), np.inf, np.float32)})
    assert weights(path) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert all(c.isprintable() for c in err.rstrip("\n"))


@pytest.mark.parametrize(("columns", "left_out"), [(120, ""), (80, "parameters"), (60, "parameters, max/scale")])
def test_in_a_terminal_columns_that_do_not_fit_are_left_out_and_named(
    columns: int, left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    names = [f"encoder.layer.{i}.attention.output.dense" for i in range(3)]
    tensors = {f"{name}.weight": np.eye(384, dtype=np.float32) for name in names}
    path = write(tmp_path / "m.safetensors", tensors)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(terminal, "columns", lambda stream: columns)
    assert weights(path) == 0
    out, _ = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= columns
    assert all(name in out for name in names)
    assert ("not shown" in out) == bool(left_out)
    assert left_out in out


# ---- files ----


def test_json_and_csv_are_written_where_they_are_asked_for(path: Path, tmp_path: Path, capsys: Capture) -> None:
    assert weights(path, "--json", tmp_path / "new" / "r.json", "--csv", tmp_path / "new" / "r.csv") == 0
    out, _ = capsys.readouterr()
    report = Report.load(tmp_path / "new" / "r.json")
    assert out.startswith(f"{report}\n")
    assert f"wrote {tmp_path / 'new' / 'r.json'}" in out
    assert (tmp_path / "new" / "r.csv").read_text().startswith("name,call,mode,kind,shape,parameters,calls,persist")


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_file_on_standard_output_is_all_there_is_on_it(option: str, path: Path, capsys: Capture) -> None:
    assert weights(path, option, "-") == 0
    out, err = capsys.readouterr()
    if option == "--json":
        assert json.loads(out)["schema"] == "netassay.report/1"
    else:
        assert [line["name"] for line in csv.DictReader(out.splitlines())] == ["embed", "body.conv", "head"]
    assert err == f"{measure_weights(path)}\n"


# ---- options and exit status ----


def test_options_are_those_of_measure_weights(path: Path, tmp_path: Path, capsys: Capture) -> None:
    layers = ["--layers", "!embed", "--layers", "!head"]
    words = ["--threads", 1, "--memory", "1.5GB", "--measures", "persistence"]
    assert weights(path, *layers, *words, "--json", tmp_path / "r.json") == 0
    expected = measure_weights(path, layers=["!embed", "!head"], threads=1)
    assert [row.name for row in expected] == ["body.conv"]
    told = Report.load(tmp_path / "r.json")
    assert told.to_dict(volatile=False) == expected.to_dict(volatile=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Missing argument 'CHECKPOINT'"),
        (["m", "--threads", "0"], "--threads"),
        (["m", "--memory", "much"], "got 'much', expected bytes"),
        (["m", "--measures", "beauty"], "beauty"),
        (["m", "--nonfinite", "ignore"], "ignore"),
        (["m", "--json", "-", "--csv", "-"], "cannot both be standard output"),
    ],
)
def test_wrong_usage_is_status_2(words: list[str], says: str, capsys: Capture) -> None:
    assert weights(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


@pytest.mark.parametrize(
    ("text", "count"),
    [("500", 500), ("2GB", 2e9), ("1.5 gb", 1.5e9), ("2GiB", 2**31), ("64M", 64e6), ("1TB", 1e12), ("8kB", 8000)],
)
def test_bytes_may_be_given_with_a_unit(text: str, count: float) -> None:
    assert byte_count(None, None, text) == count  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file or directory"),
        (b"", "model.safetensors"),
        (b"\xff" * 100, "model.safetensors"),
    ],
)
def test_a_bad_file_is_status_1_and_one_line_that_names_it(
    content: bytes | None, says: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert weights(path) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert str(path) in err
    assert says in err


def test_a_nan_is_status_1_with_the_other_layers_shown_and_written(
    broken: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert weights(broken, "--json", tmp_path / "r.json") == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"netassay: measure_weights: {broken}: tensor 'head.weight': got nan at [3, 7]")
    assert len(err.splitlines()) == 1
    report = Report.load(tmp_path / "r.json")
    assert [row.name for row in report] == ["embed", "body.conv"]
    assert out.startswith(str(report))
    assert "; nonfinite\n\ncoverage" in out.replace("\n    ", " ")


def test_skipping_a_nan_is_success(broken: Path, capsys: Capture) -> None:
    assert weights(broken, "--nonfinite", "skip") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "got nan at [3, 7]" in out


INTERRUPTED = """
import os, signal, sys
from netassay import cli, persistence
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been inherited as ignored
measure, count = persistence.spanning_tree, 0
def spanning_tree(weight, **options):
    global count
    count += 1
    if count == 20:
        os.kill(os.getpid(), signal.SIGINT)
    return measure(weight, **options)
persistence.spanning_tree = spanning_tree
sys.exit(cli.main(sys.argv[1:]))
"""


def test_ctrl_c_in_the_middle_is_status_130_with_the_finished_layers_shown_and_written(tmp_path: Path) -> None:
    eye: Any = np.eye(8, dtype=np.float32)
    path = write(tmp_path / "model.safetensors", {f"layers.{i}.weight": eye for i in range(50)})
    words = ["weights", str(path), "--json", str(tmp_path / "r.json")]
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip() == "netassay: interrupted"
    report = Report.load(tmp_path / "r.json")
    assert [row.name for row in report] == [f"layers.{i}" for i in range(19)]
    assert done.stdout.startswith(str(report))
    assert "; partial\n\ncoverage" in done.stdout
    assert "interrupted: 19 of 50 weights were read" in done.stdout
