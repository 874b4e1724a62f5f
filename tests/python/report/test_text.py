"""A report as text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netassay.report import Coverage, Finding, Report, Skipped, join
from netassay.report.about.cells import percent
from netassay.report.show.text import render
from python.reports import HOSTILE, TOTALS, row, saturation, weight


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
    assert text.endswith("findings\n  problem  fc: look here\n           show it more\n  notice   the network: narrow")


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
        tuple(Finding(name, "notice", name, name, advice=name) for name in HOSTILE),
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
    text = str(Report(findings=(Finding("low_tail", "notice", None, words),)))
    assert text.split("findings")[1].split() == ["notice", *words.split()]
    assert max(len(line) for line in text.splitlines() if "x" * 200 not in line) <= 120


def test_repr_is_short(report: Report) -> None:
    assert repr(report) == "<Report: layers 2, rows 4, findings 2>"
