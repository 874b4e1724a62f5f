"""A report in JSON, both ways, and in files."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netassay.base.errors import NetassayError, StateError
from netassay.network import layer_links
from netassay.report import Coverage, Finding, Report, Skipped
from netassay.report import decode as parse
from netassay.report.encode import EXACT, FLAG
from netassay.report.measures import MEASURES
from netassay.report.schema import schema
from netassay.saturation import EffectiveDimension, RankMe, Saturation
from python.reports import BREAKS, HOSTILE, TOTALS, broken, call, dimension, row, saturation, site, weight

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
    assert Finding("constant", "notice", None, "a", {"x": np.float64(1)}) == Finding(
        "constant", "notice", None, "a", {"x": 1.0}
    )


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
        "flags": {"mean": [FLAG]},
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
    assert data["layers"][0]["parameters"] == data["layers"][0]["saturation"]["rows"] == text
    assert data["totals"]["n"] == text
    report.to_json(tmp_path / "r.json")
    loaded = Report.load(tmp_path / "r.json")
    assert loaded == report
    assert (loaded["fc"].parameters, loaded["fc"].saturation.rows) == (count, count)


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
    both = row(measures={**row().measures, **site().measures, **weight().measures, **links, **call().measures})
    defined, layer = schema()["$defs"], Report((both,)).to_dict()["layers"][0]
    assert list(defined["layer"]["properties"]) == list(layer)
    for measure in MEASURES:
        assert list(defined[measure]["properties"]) == list(layer[measure])


@pytest.mark.parametrize("case", BREAKS)
def test_a_damaged_report_is_refused_naming_path_and_field(report: Report, tmp_path: Path, case: str) -> None:
    data, message = broken(report, case)
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
    values = {"value": None, "rows": 3, "samples": 3, "flags": [FLAG]}
    assert math.isnan(parse.decode(RankMe, values, "here").value)
    fields = {f.name: None for f in dataclasses.fields(EffectiveDimension)} | {"flags": [FLAG]}
    assert parse.decode(EffectiveDimension, fields, "here").participation_ratio_corrected is None


@pytest.mark.parametrize("measure", MEASURES)
def test_the_fields_of_every_result_class_are_of_kinds_that_can_be_read(measure: str) -> None:
    hints = get_type_hints(MEASURES[measure].result.load())
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
