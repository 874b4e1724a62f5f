"""Report: indexing, printing, and the same content in JSON, CSV and pandas."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netassay.algebra import Algebra
from netassay.base.errors import NetassayError, StateError
from netassay.complexity import complexity
from netassay.network import Distribution, layer_links
from netassay.persistence import NeuralPersistence
from netassay.report import (
    Coverage,
    Finding,
    Report,
    Row,
    Skipped,
    UnknownLayer,
    join,
    persistence_findings,
    saturation_findings,
)
from netassay.report import decode as parse
from netassay.report.encode import EXACT, FLAG, MEASURES, schema
from netassay.report.show.text import percent, render
from netassay.saturation import EffectiveDimension, RankMe, Saturation

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "[red]markup[/red]",
    ":smile:",
    "<script>alert(1)</script>",
    "two\nlines\r\n",
    "tab\tbell\x07",
    "=1+1",
    '@SUM(A1)","x',
    "-2+3|cmd",
    "\u202eright to left",
    "\ud800 lone surrogate",
    "\u2028 line separator",
    "漢字",
    " spaces ",
    "",
]


def saturation(value: float | None = 0.5, *, width: int = 64, n: int = 4096, **other: Any) -> Saturation:
    fields: dict[str, Any] = {
        "value": value,
        "dimension": None if value is None else 32,
        "width": width,
        "delta": 0.99,
        "eigenvalues": np.linspace(1.0, 0.1, width),
        "samples": n,
        "flags": (),
    }
    return Saturation(**(fields | other))


def dimension(value: float = 12.25, *, n: int = 4096, **other: Any) -> EffectiveDimension:
    fields: dict[str, Any] = {
        "value": value,
        "participation_ratio": 9.0,
        "participation_ratio_corrected": None,
        "stable_rank": 3.0,
        "effective_rank": 20.0,
        "samples": n,
        "flags": (),
    }
    return EffectiveDimension(**(fields | other))


def row(name: str = "fc", mode: Any = "eval", *, call: int | None = None, **other: Any) -> Row:
    fields: dict[str, Any] = {
        "kind": "Linear",
        "shape": (64, 32),
        "parameters": 2112,
        "calls": 7,
        "measures": {"saturation": saturation(), "effective_dimension": dimension()},
    }
    return Row(name=name, call=call, mode=mode, **(fields | other))


def persistence(largest: float = 1.0, **other: Any) -> NeuralPersistence:
    fields: dict[str, Any] = {
        "total": 3.25,
        "normalized": 0.8125,
        "lower_bound": 2.5,
        "weights": np.linspace(largest, 0.0, 16),
        "scale": 2.0,
        "flags": (),
    }
    return NeuralPersistence(**(fields | other))


def weight(name: str = "fc", largest: float = 1.0, **other: Any) -> Row:
    """A row as measure_weights makes it."""
    fields: dict[str, Any] = {"kind": "", "shape": (9, 8), "parameters": 72, "calls": None}
    return row(name, None, measures={"persistence": persistence(largest, **other)}, **fields)


def algebra(**other: Any) -> Algebra:
    fields: dict[str, Any] = {
        "log2_paths": 12.5,
        "log2_paths_exact": 12.25,
        "path_share": 1.0,
        "region_bits": 64.0,
        "cut": 16,
        "intrinsic_power": 2.0,
        "local_power": 1.0,
        "bottleneck": 32,
        "receptive_field": (7, 5),
        "stride": (2.0, 0.5),
        "macs": 2**60,
        "parameters": 72,
        "flags": (),
    }
    return Algebra(**(fields | other))


def call(name: str = "fc", site: int | None = None, **other: Any) -> Row:
    """A row as measure_structure makes it."""
    return row(name, None, call=site, calls=None, measures={"algebra": algebra(**other)})


def site(name: str = "relu", **other: Any) -> Row:
    """A row as a watch makes it of a nonlinearity."""
    values = Distribution()
    values.update(np.linspace(-1.0, 2.0, 24))
    measures = {
        "complexity": complexity(np.linspace(-1.0, 2.0, 24).reshape(4, 3, 2), sums=True),
        "neuron_strength": values.result(),
        "neuron_activation": values.result(),
    }
    return row(name, kind="ReLU", shape=None, parameters=0, measures=measures, **other)


TOTALS = {"persistence": {"normalized": 0.8125, "total": 6.5, "scale": 2.0, "layers": 2, "flags": ()}}


def with_saturation(name: str, value: float | None, mode: Any = "eval", **other: Any) -> Row:
    return row(name, mode, measures={"saturation": saturation(value, **other)})


@pytest.fixture
def report() -> Report:
    return Report(
        layers=(row("conv", "train"), row("fc", "train"), row("conv", "eval"), row("fc", "eval")),
        coverage=Coverage(
            measured=2,
            skipped=(Skipped("head", "never called"), Skipped("big", "needs 4.3 GB, the budget is 1.0 GB")),
            parameters_measured=4224,
            parameters_total=5000,
            aliases={"fc": ("tied",)},
            notes=("attached after 3 passes",),
        ),
        totals={
            "saturation": {"train": 0.5, "eval": 0.25},
            "accuracy": 0.98,
            "images": 1797,
            "curve": np.arange(3),
        },
        findings=(Finding("warning", "fc", "fc: look here", {"rows": {"eval": 7}}),),
        provenance={"netassay": "0.1.0", "torch": None, "seed": 0, "created": "2024-01-01T00:00:00Z"},
    )


# ---- rows and indexing ----


def test_measures_are_attributes_of_a_row_and_an_unknown_one_lists_them() -> None:
    one = row()
    assert one.saturation is one.measures["saturation"]
    assert not hasattr(one, "complexity")
    with pytest.raises(AttributeError, match=r"'complexity'.*\(saturation, effective_dimension\)"):
        _ = one.complexity


def test_rows_stand_in_order_of_first_call_with_train_before_eval() -> None:
    rows = [row("b", "eval"), row("a", None), row("a", "train"), row("b", "train"), row("a", "eval")]
    kept = [(r.name, r.mode) for r in Report(tuple(rows))]
    assert kept == [("b", "train"), ("b", "eval"), ("a", "train"), ("a", "eval"), ("a", None)]


def test_call_sites_of_one_name_keep_their_own_places() -> None:
    rows = (row("a", "train", call=0), row("b", "train"), row("a", "train", call=1), row("a", "eval", call=0))
    kept = [(r.name, r.call, r.mode) for r in Report(rows)]
    assert kept == [("a", 0, "train"), ("a", 0, "eval"), ("b", None, "train"), ("a", 1, "train")]


@pytest.mark.parametrize(
    ("modes", "expected"), [(("train", "eval", None), "eval"), (("train", None), "train"), ((None,), None)]
)
def test_a_bare_name_is_the_eval_row_else_train_else_the_one_without_mode(modes: Any, expected: Any) -> None:
    assert Report(tuple(row("fc", mode) for mode in modes))["fc"].mode == expected


def test_keys_choose_mode_and_call_site() -> None:
    report = Report(tuple(row("fc", mode, call=call) for call in (0, 1) for mode in ("train", "eval")))
    assert (report["fc", 1].call, report["fc", 1].mode) == (1, "eval")
    assert (report["fc", 0, "train"].call, report["fc", 0, "train"].mode) == (0, "train")
    assert Report((row("fc", None), row("fc", "eval")))["fc", None].mode is None


@pytest.mark.parametrize("key", ["fc", ("fc", "eval")])
def test_a_key_of_several_call_sites_raises_and_lists_them(key: Any) -> None:
    report = Report((row("fc", "eval", call=0), row("fc", "eval", call=1)))
    with pytest.raises(KeyError) as caught:
        report[key]
    assert str(caught.value) == (
        "Report: 'fc' has several call sites, expected one of ['fc', 0, 'eval'], ['fc', 1, 'eval']"
    )


def test_an_unknown_name_suggests_the_nearest(report: Report) -> None:
    with pytest.raises(UnknownLayer) as caught:
        report["cnov"]
    assert str(caught.value) == "Report: got 'cnov', expected one of 2 layers; the nearest is 'conv'"


def test_a_skipped_layer_says_why_and_an_alias_says_under_which_name_it_stands(report: Report) -> None:
    with pytest.raises(KeyError, match=r"^Report: layer 'head' was not measured: never called$"):
        report["head"]
    with pytest.raises(KeyError, match=r"^Report: layer 'tied' is the same as 'fc'"):
        report["tied"]


def test_a_mode_or_call_that_is_not_there_lists_what_is() -> None:
    with pytest.raises(KeyError, match=r"^Report: got \['fc', 'eval'\], expected one of \['fc', 'train'\]$"):
        Report((row("fc", "train"),))["fc", "eval"]


@pytest.mark.parametrize("key", [0, None, (), ("fc", 1.5), ("fc", True), ("fc", "test"), ("fc", "eval", 0), b"fc"])
def test_a_key_of_another_form_says_which_forms_there_are(report: Report, key: Any) -> None:
    with pytest.raises(KeyError, match=r"expected name, \(name, mode\)"):
        report[key]


def test_membership_agrees_with_indexing(report: Report) -> None:
    assert "fc" in report
    assert ("fc", "eval") in report
    assert "head" not in report
    assert ("fc", None) not in report


def test_an_empty_report_prints_indexes_and_round_trips(tmp_path: Path) -> None:
    empty = Report()
    with pytest.raises(KeyError, match="the report has no layers"):
        empty["fc"]
    assert str(empty).startswith("no layers measured\n")
    empty.to_json(tmp_path / "r.json")
    empty.to_csv(tmp_path / "r.csv")
    assert Report.load(tmp_path / "r.json") == empty
    assert (tmp_path / "r.csv").read_text() == "name,call,mode,kind,shape,parameters,calls\n"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles_are_equal(report: Report, copied: Any) -> None:
    assert copied(report) == report


# ---- JSON ----


def test_a_loaded_report_equals_the_saved_one_and_holds_real_results(report: Report, tmp_path: Path) -> None:
    report.to_json(tmp_path / "r.json")
    loaded = Report.load(tmp_path / "r.json")
    assert loaded == report
    assert json.loads((tmp_path / "r.json").read_text("utf-8")) == report.to_dict()
    got, expected = loaded["fc"].saturation, report["fc"].saturation
    assert type(got) is Saturation
    assert type(loaded["fc"].effective_dimension) is EffectiveDimension
    assert got.eigenvalues.dtype == np.float64
    assert not got.eigenvalues.flags.writeable
    np.testing.assert_array_equal(got.eigenvalues, expected.eigenvalues)
    assert (got.value, got.dimension, got.flags) == (expected.value, expected.dimension, expected.flags)
    assert loaded["fc"].effective_dimension.participation_ratio_corrected is None
    assert loaded["fc"].shape == (64, 32)
    assert loaded.coverage == report.coverage


@pytest.mark.parametrize(
    "other",
    [
        {"layers": ()},
        {"totals": {}},
        {"findings": ()},
        {"coverage": Coverage()},
        {"provenance": {"seed": 1}},
        {"layers": (row(measures={"saturation": saturation(eigenvalues=np.full(64, 0.1))}),)},
    ],
)
def test_reports_that_say_something_else_are_not_equal(report: Report, other: dict[str, Any]) -> None:
    assert replace(report, **other) != report
    assert report != "report"


def test_rows_and_findings_compare_by_what_they_say() -> None:
    assert row() == row()
    assert row() != row("other")
    assert Finding("info", None, "a", {"x": np.float64(1)}) == Finding("info", None, "a", {"x": 1.0})


def test_non_finite_numbers_become_null_and_a_flag_and_round_trip(tmp_path: Path) -> None:
    eigenvalues = np.array([math.inf, 1.0, math.nan])
    measures = {
        "saturation": saturation(0.5, width=3, eigenvalues=eigenvalues, flags=("nonfinite",)),
        "effective_dimension": dimension(math.nan),
    }
    report = Report((row(measures=measures),), totals={"mean": math.nan, "deep": {"max": -math.inf, "min": 0.0}})
    data = report.to_dict()
    layer = data["layers"][0]
    assert layer["saturation"]["eigenvalues"] == [None, 1.0, None]
    assert layer["saturation"]["flags"] == ["nonfinite", FLAG]
    assert (layer["effective_dimension"]["value"], layer["effective_dimension"]["flags"]) == (None, [FLAG])
    assert data["totals"] == {
        "mean": None,
        "deep": {"max": None, "min": 0.0, "flags": [FLAG]},
        "flags": [FLAG],
    }
    report.to_json(tmp_path / "r.json")
    loaded = Report.load(tmp_path / "r.json")
    assert loaded == report
    assert loaded.to_dict() == data
    np.testing.assert_array_equal(np.isnan(loaded["fc"].saturation.eigenvalues), [True, False, True])


def test_a_value_of_none_stays_none_and_adds_no_flag(tmp_path: Path) -> None:
    few = saturation(None, n=1, eigenvalues=None, flags=("too_few_rows",))
    report = Report((row(measures={"saturation": few, "effective_dimension": None}),))
    report.to_json(tmp_path / "r.json")
    loaded = Report.load(tmp_path / "r.json")
    assert loaded == report
    assert loaded["fc"].effective_dimension is None
    assert loaded["fc"].saturation.value is None
    assert loaded["fc"].saturation.flags == ("too_few_rows",)


@pytest.mark.parametrize(("count", "text"), [(EXACT, EXACT), (EXACT + 1, str(EXACT + 1)), (2**70, str(2**70))])
def test_integers_beyond_two_to_the_53_are_decimal_strings_and_come_back(tmp_path: Path, count: int, text: Any) -> None:
    report = Report((row(parameters=count, measures={"saturation": saturation(n=count)}),), totals={"n": count})
    data = report.to_dict()
    assert data["layers"][0]["parameters"] == data["layers"][0]["saturation"]["samples"] == text
    assert data["totals"]["n"] == text
    report.to_json(tmp_path / "r.json")
    loaded = Report.load(tmp_path / "r.json")
    assert loaded == report
    assert (loaded["fc"].parameters, loaded["fc"].saturation.samples) == (count, count)


def test_numpy_values_become_plain_json_values() -> None:
    totals = {
        "f64": np.float64(0.5),
        "f16": np.float16(0.5),
        "i": np.int32(3),
        "b": np.bool_(True),
        "s": np.str_("x"),
        "zero-d": np.array(2.0),
        "matrix": np.arange(4, dtype=np.uint8).reshape(2, 2),
        "big": np.array([2**60]),
        "empty": np.array([]),
    }
    data = Report(totals=totals).to_dict()["totals"]
    assert data == {
        "f64": 0.5,
        "f16": 0.5,
        "i": 3,
        "b": True,
        "s": "x",
        "zero-d": 2.0,
        "matrix": [[0, 1], [2, 3]],
        "big": [str(2**60)],
        "empty": [],
    }
    assert {type(data[key]) for key in ("f64", "f16", "i", "b", "s")} == {float, int, bool, str}


@pytest.mark.parametrize("value", [object(), 1j, b"x", {1: 2}])
def test_what_json_cannot_say_is_refused_and_no_file_is_left(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^report: got "):
        Report(totals={"x": value}).to_json(tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_without_volatile_only_created_is_left_out_and_equal_runs_give_equal_files(
    report: Report, tmp_path: Path
) -> None:
    later = replace(report, provenance={**report.provenance, "created": "2025-01-01T00:00:00Z"})
    for name, one in (("a", report), ("b", later)):
        one.to_json(tmp_path / name, volatile=False)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "created" not in report.to_dict(volatile=False)["provenance"]
    assert report.to_dict(volatile=False)["provenance"].keys() == report.provenance.keys() - {"created"}


def test_the_schema_is_valid_and_accepts_what_reports_write(report: Report) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    nonfinite = row("x", None, measures={"saturation": saturation(math.nan), "effective_dimension": None})
    few = row("y", None, measures={"saturation": saturation(None, eigenvalues=None, flags=("too_few_rows",))})
    odd = row("z", None, call=0, shape=None, calls=None, parameters=2**60, measures={})
    weights = Report(
        (weight(), weight("b", normalized=math.nan)), Coverage(skipped=(Skipped("c", "d", 2**60),)), TOTALS
    )
    structure = Report(
        (
            call(),
            call("b", 0, receptive_field=None, stride=None, region_bits=None, flags=("covers_input",)),
            call("b", 1),
        ),
        totals={"layer_paths": 2**200, "path_lengths": (0, 1, 2**70), "vc_bound": None, "unknown_operations": {}},
    )
    sites = Report((site(call=0), site(call=1), row("empty", measures={"neuron_strength": None})))
    for one in (report, Report(), Report((nonfinite, few, odd), totals={"x": math.inf}), weights, structure, sites):
        for volatile in (True, False):
            validator.validate(one.to_dict(volatile=volatile))


def test_the_schema_names_exactly_the_fields_of_the_results_and_rows() -> None:
    links = {"network": layer_links(np.eye(3))}
    both = row(measures={**row().measures, **weight().measures, **site().measures, **links, **call().measures})
    defined, layer = schema()["$defs"], Report((both,)).to_dict()["layers"][0]
    assert list(defined["layer"]["properties"]) == list(layer)
    for measure in MEASURES:
        assert list(defined[measure]["properties"]) == list(layer[measure])


BREAKS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "other schema": (
        ("schema",),
        "netassay.report/2",
        r"schema: got 'netassay.report/2', expected 'netassay",
    ),
    "missing layers": (("layers",), ..., "report: expected the field 'layers', which is missing"),
    "layers no list": (("layers",), {}, "layers: got {}, expected a list"),
    "row no object": (("layers", 1), 3, r"layers\[1\]: got 3, expected an object"),
    "mode": (("layers", 0, "mode"), "test", r"layers\[0\].mode: got 'test', expected one of"),
    "name": (("layers", 0, "name"), None, r"layers\[0\].name: got None, expected text"),
    "float for int": (("layers", 0, "parameters"), 1.5, r"parameters: got 1.5, expected an integer"),
    "bool for int": (("layers", 0, "calls"), True, r"calls: got True, expected an integer"),
    "no digits": (("layers", 0, "parameters"), "12e3", r"parameters: got '12e3', expected an integer"),
    "text for number": (("layers", 0, "saturation", "value"), "x", r"layers\[0\].saturation.value: got 'x'"),
    "array item": (
        ("layers", 0, "saturation", "eigenvalues", 2),
        "x",
        r"eigenvalues\[2\]: got 'x', expected a",
    ),
    "no array": (("layers", 0, "saturation", "eigenvalues"), 1.0, r"eigenvalues: got 1.0, expected a list"),
    "missing field": (("layers", 0, "saturation", "delta"), ..., r"saturation: expected the field 'delta'"),
    "unknown field": (
        ("layers", 0, "saturation", "more"),
        1,
        r"saturation: got the field 'more', expected only",
    ),
    "unknown measure": (("layers", 0, "beauty"), {}, r"layers\[0\]: got the field 'beauty', expected only"),
    "skipped": (
        ("coverage", "skipped", 0, "reason"),
        1,
        r"coverage.skipped\[0\].reason: got 1, expected text",
    ),
    "finding level": (
        ("findings", 0, "level"),
        "panic",
        r"findings\[0\].level: got 'panic', expected one of",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_damaged_report_is_refused_naming_path_and_field(report: Report, tmp_path: Path, case: str) -> None:
    steps, value, message = BREAKS[case]
    data: Any = report.to_dict()
    place = data
    for step in steps[:-1]:
        place = place[step]
    if value is ...:
        del place[steps[-1]]
    else:
        place[steps[-1]] = value
    path = tmp_path / "r.json"
    path.write_text(json.dumps(data))
    with pytest.raises(StateError, match=rf"^Report\.load: .*r\.json: .*{message}"):
        Report.load(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"schema": NaN}',
        b'{"schema": 1e999}',
        b'{"schema": "netassay.report/1", "schema": "netassay.report/1"}',
        b"[" * 100_000,
        b'{"schema": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_file_that_is_no_report_is_refused_naming_it(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "r.json").write_bytes(text)
    with pytest.raises(StateError, match=r"^Report\.load: .*r\.json: ") as caught:
        Report.load(tmp_path / "r.json")
    assert isinstance(caught.value, NetassayError)
    assert isinstance(caught.value, ValueError)


def test_a_missing_file_raises_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path / "none.json")


def test_null_is_nan_where_a_number_must_be_and_none_where_it_may_be_absent() -> None:
    values = {"value": None, "samples": 3, "flags": [FLAG]}
    assert math.isnan(parse.decode(RankMe, values, "here").value)
    fields = {f.name: None for f in dataclasses.fields(EffectiveDimension)} | {"flags": [FLAG]}
    assert parse.decode(EffectiveDimension, fields, "here").participation_ratio_corrected is None


@pytest.mark.parametrize("measure", MEASURES)
def test_the_fields_of_every_result_class_are_of_kinds_that_can_be_read(measure: str) -> None:
    module, name = MEASURES[measure]
    hints = get_type_hints(getattr(import_module(module), name))
    assert all(kind in (int, float, str, bool) or get_origin(kind) for kind in hints.values())


@given(names=st.lists(st.text(st.characters(), max_size=8), max_size=4, unique=True))
def test_any_names_round_trip_through_json(tmp_path_factory: Any, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("names") / "r.json"
    report = Report(tuple(row(name, measures={}) for name in names), totals=dict.fromkeys(names, 1))
    report.to_json(path)
    assert Report.load(path) == report


def test_hostile_names_round_trip_through_json_in_utf8(tmp_path: Path) -> None:
    report = Report(tuple(row(name, measures={}) for name in HOSTILE))
    report.to_json(tmp_path / "r.json")
    data = (tmp_path / "r.json").read_bytes()
    assert "漢字".encode() in data
    assert rb"\ud800" in data
    assert b"\x1b" not in data
    assert [r.name for r in Report.load(tmp_path / "r.json")] == HOSTILE


# ---- files ----


def test_a_failed_write_leaves_the_old_file_and_no_temporary(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        report.to_json(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_follows_links_and_never_replaces_a_device(report: Report, tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    report.to_json(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert Report.load(tmp_path / "real.json") == report
    (tmp_path / "null").symlink_to(os.devnull)
    report.to_json(tmp_path / "null")
    assert not Path(os.devnull).is_file()
    with pytest.raises(IsADirectoryError):
        report.to_csv(tmp_path)


# ---- CSV and pandas ----


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_one_line_a_row_of_exact_scalars_without_arrays(report: Report, tmp_path: Path) -> None:
    value = 0.1 + 0.2
    rows = (
        row("a", measures={"saturation": saturation(value, flags=("few_rows", "sampled"))}),
        *report.layers,
    )
    Report(rows).to_csv(tmp_path / "r.csv")
    lines = read_csv(tmp_path / "r.csv")
    assert len(lines) == 5 == len((tmp_path / "r.csv").read_text().splitlines()) - 1
    first, second = lines[:2]
    assert float(first["saturation.value"]) == value
    assert first["saturation.flags"] == "few_rows sampled"
    assert first["shape"] == "64 32"
    assert first["effective_dimension.value"] == ""
    assert second["effective_dimension.value"] == "12.25"
    assert not any("eigenvalues" in name for name in first)


def test_csv_cells_are_no_formulas_and_hold_no_control_characters(tmp_path: Path) -> None:
    names = [*HOSTILE, "+1", "\t=1", "  =1", "\uff1d1"]
    Report(tuple(row(name, measures={}) for name in names)).to_csv(tmp_path / "r.csv")
    text = (tmp_path / "r.csv").read_text("utf-8")
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(text.splitlines()) == len(names) + 1
    cells = [line["name"] for line in read_csv(tmp_path / "r.csv")]
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))]
    assert cells[HOSTILE.index("=1+1")] == "'=1+1"
    assert cells[HOSTILE.index("two\nlines\r\n")] == r"two\nlines\r\n"


def test_frame_has_the_columns_of_csv_with_typed_values(report: Report, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    rows = (row("a", measures={"saturation": saturation(n=2**60 + 1)}), row("b", measures={}))
    table = Report(rows).to_frame()
    assert table["saturation.samples"].tolist()[0] == 2**60 + 1
    assert table["saturation.value"].tolist()[0] == 0.5
    assert table["shape"].tolist() == [(64, 32), (64, 32)]
    report.to_csv(tmp_path / "r.csv")
    assert list(report.to_frame().columns) == list(read_csv(tmp_path / "r.csv")[0])
    assert len(Report().to_frame()) == 0


def test_frame_without_pandas_says_what_to_install(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"^Report.to_frame: expected pandas"):
        report.to_frame()


# ---- text ----


def test_print_shows_table_totals_coverage_and_findings(report: Report) -> None:
    text = str(report)
    header, _, first = text.splitlines()[:3]
    headings = "layer kind mode width rows dimension saturation effective dimension"
    assert header.split() == headings.split()
    assert first.split() == ["conv", "Linear", "train", "64", "4,096", "32", "0.500", "12.25"]
    assert "saturation.train  0.5" in text
    assert "images            1,797" in text
    assert "curve             array of shape (3,)" in text
    assert "layers: 2 measured, 2 skipped; parameters: 4,224 of 5,000 measured" in text
    assert "skipped, never called: head" in text
    assert "fc is also tied" in text
    assert "attached after 3 passes" in text
    assert "warning  fc: look here" in text


def test_a_report_of_weights_has_the_columns_of_weights_and_no_empty_ones() -> None:
    text = str(Report((weight("fc"), weight("head", 0.25)), totals=TOTALS))
    header, _, first, second = text.splitlines()[:4]
    assert header.split() == ["layer", "shape", "parameters", "persistence", "max/scale"]
    assert first.split() == ["fc", "9x8", "72", "0.812", "1.000"]
    assert second.split() == ["head", "9x8", "72", "0.812", "0.250"]
    assert "totals\n  persistence  0.812, mean of 2 layers; scale 2; sum of totals 6.5\n" in text


def test_activations_and_weights_stand_in_one_table_with_persistence_on_the_eval_row(report: Report) -> None:
    both = join(report, Report((weight("fc"), weight("new")), totals=TOTALS))
    header, _, *lines = str(both).split("\n\n")[0].splitlines()
    activations = "layer kind mode shape parameters width rows dimension saturation effective dimension"
    assert header.split() == [*activations.split(), "persistence", "max/scale"]
    cells = [line.split() for line in lines]
    assert cells[2][:3] == ["fc", "Linear", "train"]
    assert cells[2][-2:] == ["-", "-"]
    assert cells[3][-3:] == ["12.25", "0.812", "-"]
    assert cells[4] == ["new", "9x8", "72", *"-----", "0.812", "1.000"]


@pytest.mark.parametrize("value", [None, "much", {"normalized": None}, {"normalized": 1.0, "scale": 2}])
def test_totals_that_measure_weights_did_not_make_are_shown_as_they_are(value: Any) -> None:
    assert "persistence" in str(Report(totals={"persistence": value})).split("totals")[1]


def test_with_a_width_the_least_columns_are_left_out_and_named_and_names_never() -> None:
    name = "a.rather.long.name.of.a.layer"
    report = Report((replace(weight(name), kind="Linear"),), totals=TOTALS)
    missing = {85: "", 84: "parameters", 71: "kind, parameters", 51: "kind, parameters, max/scale"}
    for width, headings in {**missing, 9: "kind, shape, parameters, max/scale"}.items():
        header, _, line, *rest = render(report, width).split("\n\n")[0].splitlines()
        assert line.startswith(name)
        assert len(header) <= width or width == 9
        assert rest == ([f"(not shown in {width} columns: {headings})"] if headings else [])


def test_skipped_tensors_are_counted_by_reason_with_their_share_and_the_first_names() -> None:
    skipped = [Skipped(f"norm{i}", "one axis", 10) for i in range(20)] + [Skipped("steps", "int64", 0)]
    text = " ".join(str(Report(coverage=Coverage(3, tuple(skipped), 99_800, 100_000))).split())
    assert "layers: 3 measured, 21 skipped; parameters: 99,800 of 100,000 measured (99.8 %)" in text
    first = ", ".join(f"norm{i}" for i in range(3))
    assert text.endswith(f"skipped 20, one axis (0.2 % of parameters): {first} and 17 more skipped, int64: steps")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1e-9, "< 0.001 %"),
        (0.00012, "0.012 %"),
        (0.00999, "1 %"),
        (0.12345, "12.3 %"),
        (0.5, "50 %"),
        (0.99999, "99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_a_percentage_shows_small_shares_and_is_100_only_for_the_whole(share: float, text: str) -> None:
    assert percent(share) == text


def test_call_and_flags_are_columns_only_where_something_stands_in_them() -> None:
    flagged = row(call=3, measures={"saturation": saturation(flags=("few_rows",))})
    header, _, line = str(Report((flagged,))).splitlines()[:3]
    assert "call" in header.split()
    assert "flags" in header.split()
    assert "effective" not in header
    assert "few_rows" in line


def test_absent_numbers_are_shown_as_absent() -> None:
    few = saturation(None, n=1, eigenvalues=None, flags=("too_few_rows",))
    rows = (row("a", measures={"saturation": few}), row("b", measures={"saturation": None}), row("c"))
    lines = str(Report(rows)).splitlines()[2:5]
    assert lines[0].split() == ["a", "Linear", "eval", "64", "1", "-", "-", "-", "too_few_rows"]
    assert lines[1].split() == ["b", "Linear", "eval", *"-----"]


def test_hostile_text_is_shown_escaped_on_one_line_each() -> None:
    skipped = tuple(Skipped(name, name) for name in HOSTILE)
    report = Report(
        tuple(row(name, kind=name, measures={}) for name in HOSTILE),
        Coverage(skipped=skipped, aliases={name: (name,) for name in HOSTILE}, notes=(*HOSTILE,)),
        dict.fromkeys(HOSTILE, "\x1b[2J"),
        tuple(Finding("info", name, name) for name in HOSTILE),
    )
    text = str(report)
    assert all(c.isprintable() or c == "\n" for c in text)
    table = text.split("\n\n")[0].splitlines()
    assert len(table) == 2 + len(HOSTILE)
    for shown in (
        r"\x1b[31mred\x1b[0m",
        "[red]markup[/red]",
        ":smile:",
        "<script>",
        r"two\nlines\r\n",
        r"\ud800",
    ):
        assert any(shown in line for line in table)
    text.encode("utf-8")


def test_print_is_plain_in_any_environment(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(report)
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "20", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    assert str(report) == here
    assert "\x1b" not in here


def test_long_names_and_many_layers_are_shown_whole() -> None:
    names = [f"encoder.layers.{i}." + "deep." * (i % 40) + "attention.output.dense" for i in range(300)]
    rows = tuple(row(name, mode, parameters=10**12) for name in names for mode in ("train", "eval"))
    lines = str(Report(rows)).split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines[2:]] == [name for name in names for _ in range(2)]
    assert all(line.split()[-1] == "12.25" for line in lines[2:])


def test_prose_is_wrapped_without_losing_a_word() -> None:
    words = " ".join(f"word{i}" for i in range(100)) + " " + "x" * 200
    text = str(Report(findings=(Finding("info", None, words),)))
    assert text.split("findings")[1].split() == ["info", *words.split()]
    assert max(len(line) for line in text.splitlines() if "x" * 200 not in line) <= 120


def test_repr_is_short(report: Report) -> None:
    assert repr(report) == "<Report: layers 2, rows 4, findings 1>"


# ---- findings ----


def test_layers_that_use_their_width_give_no_finding() -> None:
    rows = [with_saturation(f"l{i}", value) for i, value in enumerate([0.5, 0.6, 0.4, 0.5, 0.1])]
    assert saturation_findings(rows) == ()
    assert saturation_findings([]) == ()
    assert saturation_findings([row(measures={"saturation": None}), row(measures={})]) == ()


def test_a_tail_of_low_saturation_is_found_with_its_evidence() -> None:
    values = [0.3, 0.8, 0.5, 0.2, 0.125, 0.9]
    rows = [with_saturation(f"l{i}", value, delta=0.999) for i, value in enumerate(values)]
    (tail,) = saturation_findings(rows)
    assert (tail.level, tail.layer) == ("info", None)
    assert tail.message == (
        "layers l3..l4 carry 99.9 % of their variance in 20 % of their width or less "
        "(a layer before them: 80 %): "
        "candidates for removal or for a higher input resolution; confirm with project"
    )
    assert tail.evidence == {
        "first": "l3",
        "last": "l4",
        "mode": "eval",
        "values": [0.2, 0.125],
        "reference": 0.8,
        "threshold": 0.4,
    }


@pytest.mark.parametrize(
    ("values", "first"),
    [
        ([0.8, 0.3, 0.3, 0.3, 0.9], "l1"),  # the longest run
        ([0.8, 0.4, 0.4, 0.9], None),  # half is not below half
        ([0.8, 0.8, 0.3, 0.9], None),  # one layer is no tail
        ([0.8, 0.3, 0.3, 0.5, 0.9], None),  # not trailing
        ([0.3, 0.3, 0.9], None),  # nothing before
        ([0.8, 0.3, 0.3], None),  # the classifier does not count
        ([0.4, 0.1, 0.8, 0.3, 0.3, 0.1], "l3"),  # the largest before the run, wherever it stands
        ([0.8, None, 0.3, 0.3, 0.9], "l2"),  # a layer without a value is passed over
        ([0.8], None),
    ],
)
def test_the_tail_is_the_longest_trailing_run_below_half(values: list[float | None], first: str | None) -> None:
    rows = [with_saturation(f"l{i}", value) for i, value in enumerate(values)]
    assert [finding.evidence["first"] for finding in saturation_findings(rows)] == ([first] if first else [])


def test_the_tail_is_judged_on_eval_rows_where_there_are_any_else_on_train() -> None:
    low = [with_saturation(f"l{i}", v, "train") for i, v in enumerate([0.8, 0.1, 0.1, 0.1])]
    high = [with_saturation(f"l{i}", 0.8, "eval") for i in range(4)]
    assert [f.evidence["mode"] for f in saturation_findings(low)] == ["train"]
    assert saturation_findings([*low, *high]) == ()


def test_constant_layers_are_found_once_for_both_modes() -> None:
    rows = [with_saturation("dead", 0.0, mode, flags=("constant",)) for mode in ("train", "eval")]
    (found,) = saturation_findings(rows)
    assert found.message == "dead: constant in train and eval: its activations have zero variance"
    assert (found.level, found.layer, found.evidence["rows"]) == (
        "warning",
        "dead",
        {"train": 4096, "eval": 4096},
    )


def test_too_few_rows_say_how_many_and_how_many_are_needed() -> None:
    rows = [
        with_saturation("fc", 0.2, "train", n=1437, flags=("few_rows",)),
        with_saturation("fc", 0.2, "eval", n=360, flags=("few_rows",)),
    ]
    (found,) = saturation_findings(rows)
    assert found.message == (
        "fc: 1,437 rows in train and 360 rows in eval for width 64: below 32 x width = 2,048, "
        "saturation and dimension may come out low"
    )
    assert found.evidence == {"rows": {"train": 1437, "eval": 360}, "width": 64, "needed": 2048}


def test_fewer_than_two_rows_and_rows_left_out_are_said() -> None:
    one = with_saturation("a", None, n=1, eigenvalues=None, flags=("few_rows", "too_few_rows"))
    nan = with_saturation("b", 0.5, None, flags=("nonfinite",))
    messages = [finding.message for finding in saturation_findings([one, nan])]
    assert messages == [
        "a: fewer than two rows in eval: no variance to measure",
        "b: rows with a NaN or an infinity were left out",
    ]


def test_layers_whose_weights_are_all_zero_are_found() -> None:
    (found,) = persistence_findings([weight("a"), weight("dead", 0.0, flags=("zero",))])
    assert (found.level, found.layer, found.message) == ("warning", "dead", "dead: every weight is zero")
    assert persistence_findings([row(), row("b", measures={"persistence": None})]) == ()


@pytest.mark.parametrize(
    ("shares", "layer", "who"),
    [
        ([1.0, 0.02, 0.0999], "l0", "in l0"),
        ([0.05, 0.02, 0.01], None, "of a layer that is not shown here"),
    ],
)
def test_a_scale_that_one_weight_sets_far_above_all_other_layers_is_found(
    shares: list[float], layer: str | None, who: str
) -> None:
    (found,) = persistence_findings([weight(f"l{i}", share) for i, share in enumerate(shares)])
    assert (found.level, found.layer) == ("info", None)
    assert found.message.startswith(f"the scale 2 is a weight {who}; no other layer reaches a tenth of it")
    assert found.evidence == {"scale": 2.0, "layer": layer, "others": max(s for s in shares if s < 0.1)}


@pytest.mark.parametrize("shares", [[1.0, 0.1, 0.01], [1.0, 0.01], [0.0, 0.0, 0.0], []])
def test_a_scale_that_two_layers_reach_or_that_few_layers_share_is_no_finding(shares: list[float]) -> None:
    assert persistence_findings([weight(f"l{i}", share) for i, share in enumerate(shares)]) == ()


# ---- two reports in one ----


def test_joined_rows_carry_weights_where_the_bare_name_leads(report: Report) -> None:
    both = join(report, Report((weight("conv"), weight("fc"), weight("new")), totals=TOTALS))
    assert [(r.name, r.mode) for r in both] == [
        *(("conv", "train"), ("conv", "eval"), ("fc", "train"), ("fc", "eval"), ("new", None)),
    ]
    assert set(both["fc"].measures) == {"saturation", "effective_dimension", "persistence"}
    assert "persistence" not in both["fc", "train"].measures
    assert both["fc"].kind == "Linear"
    assert both.totals == {**report.totals, **TOTALS}
    assert both.provenance == report.provenance


def test_a_layer_with_several_call_sites_keeps_its_weight_in_a_row_of_its_own() -> None:
    sites = Report((row("fc", "eval", call=0), row("fc", "eval", call=1)))
    both = join(sites, Report((weight("fc"),)))
    assert [(r.name, r.call, r.mode) for r in both] == [("fc", 0, "eval"), ("fc", 1, "eval"), ("fc", None, None)]
    assert both["fc", None, None].persistence.total == 3.25


def test_joined_coverage_skips_only_what_neither_measured(report: Report) -> None:
    skipped = (Skipped("fc", "one axis", 9), Skipped("norm", "one axis", 9))
    other = Coverage(3, skipped, 5000, 6000, {"a": ("b",)}, ("n",))
    coverage = join(report, Report((weight("head"),), other)).coverage
    assert [skipped.name for skipped in coverage.skipped] == ["big", "norm"]
    assert (coverage.measured, coverage.parameters_measured, coverage.parameters_total) == (3, 5000, 6000)
    assert (coverage.aliases, coverage.notes) == ({"a": ("b",), "fc": ("tied",)}, ("attached after 3 passes", "n"))


def test_sites_and_distributions_read_back_as_they_were_written_and_have_tables_of_their_own(tmp_path: Path) -> None:
    report = Report((site(), site("relu", mode="train"), site("gelu", call=1)))
    report.to_json(tmp_path / "report.json")
    loaded = Report.load(tmp_path / "report.json")
    assert loaded == report
    assert loaded["relu"].complexity.position_bits.shape == (3, 2)
    assert str(report).count("bits/position") == 1
    assert str(report).count("strength") == str(report).count("activation") == 3


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import netassay.report; "
        "print(sorted({'torch', 'numpy', 'pandas', 'rich', 'netassay._core'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
