"""Rows of a report, and how they are found."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from netassay.base.errors import SelectionError
from netassay.report import History, Report, UnknownLayer
from python.reports import row, saturation, site


def test_measures_are_attributes_of_a_row_and_an_unknown_one_lists_them() -> None:
    one = row()
    assert one.saturation is one.measures["saturation"]
    assert one.complexity is None
    assert copy.copy(one).algebra is None
    with pytest.raises(AttributeError, match=r"'beauty'.*\(saturation, .*, algebra\)"):
        _ = one.beauty


def test_the_rows_of_a_measure_are_those_that_have_it() -> None:
    report = Report((row("a"), row("b", measures={"saturation": None}), row("c", measures={})))
    assert [one.name for one in report.rows("saturation")] == ["a"]
    assert report.rows("algebra") == ()
    with pytest.raises(SelectionError, match=r"Report.rows: got 'beauty', expected one of saturation, "):
        report.rows("beauty")


def test_scalars_are_flat_finite_and_named_as_in_a_history() -> None:
    totals = {"saturation": {"eval": 0.5, "train": None}, "layer_paths": 10**400, "lost": math.nan, "name": "x"}
    report = Report((row("fc", measures={"saturation": saturation(0.25)}), site("relu", call=1)), totals=totals)
    flat = report.scalars()
    assert flat["saturation.eval"] == 0.5
    assert flat["fc/eval/saturation.value"] == 0.25
    assert flat["fc/eval/saturation.width"] == 64.0
    assert "relu/1/eval/complexity.mean_channel" in flat
    assert not {"saturation.train", "layer_paths", "lost", "name"} & flat.keys()
    assert {type(value) for value in flat.values()} == {float}
    history = History()
    history.append(0, report)
    assert history.quantities == tuple(flat)


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
