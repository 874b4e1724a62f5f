"""What a report finds in its rows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netassay as na
from netassay.complexity import complexity
from netassay.report import Row, findings
from netassay.report.about.persistence import persistence_findings
from netassay.report.about.saturation import UNSURE, saturation_findings
from netassay.report.kinds import KINDS
from python.reports import call, row, weight, with_saturation


def test_layers_that_use_their_width_give_no_finding() -> None:
    rows = [with_saturation(f"l{i}", value) for i, value in enumerate([0.5, 0.6, 0.4, 0.5, 0.1])]
    assert saturation_findings(rows) == ()
    assert saturation_findings([]) == ()
    assert saturation_findings([row(measures={"saturation": None}), row(measures={})]) == ()


def test_a_tail_of_low_saturation_is_found_with_its_evidence() -> None:
    values = [0.3, 0.8, 0.5, 0.2, 0.125, 0.9]
    rows = [with_saturation(f"l{i}", value, delta=0.999) for i, value in enumerate(values)]
    (tail,) = saturation_findings(rows)
    assert (tail.level, tail.layer) == ("notice", None)
    assert (tail.kind, tail.confidence, tail.docs) == ("low_tail", "tested", "docs/findings.md#low_tail")
    assert tail.message == (
        "layers l3..l4 carry 99.9 % of their variance in 20 % of their width or less (a layer before them: 80 %)"
    )
    assert tail.advice == "candidates for removal or for a higher input resolution: confirm with netassay.project"
    assert tail.evidence == {
        "count": 2,
        "layers": ["l3", "l4"],
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
    (found,) = findings(rows)
    assert found.message == ("dead has collapsed in train and eval: its activations have zero variance over 4,096 rows")
    assert (found.kind, found.level, found.layer, found.confidence) == ("constant", "problem", "dead", "counted")
    assert found.evidence == {"count": 1, "layers": ["dead"], "rows": 4096}


def test_collapsed_layers_are_one_problem_that_begins_with_the_first_and_never_a_tail() -> None:
    values = [0.8, 0.7, 0.0, 0.0, 0.0, 0.1]
    rows = [with_saturation(f"l{i}", v, flags=("constant",) if v == 0.0 else ()) for i, v in enumerate(values)]
    (found,) = findings(rows)
    assert (found.kind, found.layer, found.evidence["count"]) == ("constant", "l2", 3)
    assert found.message.endswith("; 2 more like it: l3, l4")


def test_a_site_that_is_off_as_a_whole_has_collapsed_and_has_no_dead_units() -> None:
    off = row("relu", kind="ReLU", measures={"complexity": complexity(np.full((40, 3), -1.0), layout="rows")})
    (found,) = findings([off])
    assert found.message == "relu has collapsed in eval: none of its units was ever on over 40 samples"
    few = row("relu", kind="ReLU", measures={"complexity": complexity(np.full((4, 3), -1.0), layout="rows")})
    assert [(one.kind, one.confidence) for one in findings([few])] == [("constant", "needs data")]


def test_a_finding_of_many_layers_counts_them_all_and_lists_twenty() -> None:
    rows = [with_saturation(f"l{i}", 0.5, n=100 + (i != 7), flags=("few_rows",)) for i in range(30)]
    (found,) = findings(rows)
    assert (found.kind, found.layer, found.evidence["count"]) == ("few_rows", "l7", 30)
    assert found.evidence["layers"] == [f"l{i}" for i in range(20)]
    assert found.message.endswith("; 29 more like it: l0, l1, l2 and 26 more")


@pytest.mark.parametrize("flag", sorted(UNSURE))
def test_a_tail_rests_on_no_layer_whose_saturation_is_unsure(flag: str) -> None:
    """Each of three low layers before the classifier, and each of two before them, flagged in turn."""
    values = [0.8, 0.6, 0.2, 0.2, 0.2, 0.9]

    def first(*flagged: int) -> list[str]:
        rows = [with_saturation(f"l{i}", v, flags=(flag,) if i in flagged else ()) for i, v in enumerate(values)]
        return [finding.evidence["first"] for finding in saturation_findings(rows) if finding.kind == "low_tail"]

    assert first() == ["l2"]
    assert first(5) == ["l2"]  # the classifier never counts
    assert first(0) == ["l2"]
    assert first(0, 1) == []  # no layer before the run is left
    assert first(2) == ["l3"]
    assert first(3) == first(4) == []  # a run of one layer; none that trails


def test_problems_come_first() -> None:
    rows = [with_saturation("a", 0.5, flags=("few_rows",)), with_saturation("b", 0.0, flags=("constant",))]
    assert [finding.level for finding in findings(rows)] == ["problem", "notice"]


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
    assert found.evidence == {
        "count": 1,
        "layers": ["fc"],
        "rows": {"train": 1437, "eval": 360},
        "width": 64,
        "needed": 2048,
    }


def test_fewer_than_two_rows_and_rows_left_out_are_said() -> None:
    one = with_saturation("a", None, n=1, eigenvalues=None, flags=("few_rows", "too_few_rows"))
    nan = with_saturation("b", 0.5, None, flags=("nonfinite",))
    messages = [finding.message for finding in findings([one, nan])]
    assert messages == [
        "b: rows with a NaN or an infinity were left out",
        "a: fewer than two rows in eval: no variance to measure",
    ]


def test_a_layer_of_nothing_but_nans_has_no_few_rows() -> None:
    rows = [with_saturation("a", None, n=0, flags=("too_few_rows", "nonfinite"))]
    first = {"eval": {"layer": "a", "call": None, "pass": 1204, "share": 1.0, "of": "rows"}}
    (found,) = findings(rows, {"first_nonfinite": first})
    assert found.message == "a: 100 % of its rows hold a NaN or an infinity, first in pass 1,204 (eval)"
    assert (found.kind, found.level, found.layer) == ("nonfinite_activations", "problem", "a")
    assert {"count": 1, "layers": ["a"], "mode": "eval", "pass": 1204}.items() <= found.evidence.items()


def test_layers_whose_weights_are_all_zero_are_found() -> None:
    (found,) = persistence_findings([weight("a"), weight("dead", 0.0, flags=("zero",))])
    assert (found.kind, found.level, found.layer, found.message) == (
        "zero_weights",
        "problem",
        "dead",
        "dead: every weight is zero",
    )
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
    assert (found.kind, found.level, found.layer) == ("dominated_scale", "notice", layer)
    assert found.message.startswith(f"the scale 2 is a weight {who}; no other layer reaches a tenth of it")
    below = [f"l{i}" for i, share in enumerate(shares) if share < 0.1]
    assert found.evidence == {
        "count": len(below),
        "layers": below,
        "scale": 2.0,
        "scale_of": layer,
        "others": max(share for share in shares if share < 0.1),
    }


@pytest.mark.parametrize("shares", [[1.0, 0.1, 0.01], [1.0, 0.01], [0.0, 0.0, 0.0], []])
def test_a_scale_that_two_layers_reach_or_that_few_layers_share_is_no_finding(shares: list[float]) -> None:
    assert persistence_findings([weight(f"l{i}", share) for i, share in enumerate(shares)]) == ()


def test_a_scale_is_not_said_to_dwarf_layers_without_any_weight() -> None:
    rows = [weight("a", 1.0), *(weight(f"z{i}", 0.0, flags=("zero",)) for i in range(2))]
    assert [found.kind for found in persistence_findings(rows)] == ["zero_weights"]


# ---- kinds and flags: what is listed is what there is ----

ROOT = Path(__file__).parents[3]


def _links(name: str, values: Any) -> Row:
    layer = na.network.layer_links(np.asarray(values, dtype=np.float64))
    return row(name, None, calls=None, measures={"network": layer})


def _every_kind() -> Iterator[tuple[str, list[Row], dict[str, Any]]]:
    """A report that makes one kind of finding, for each kind that rows and totals make."""
    some = np.where(np.arange(40)[:, None] % 2 == 0, [[1.0, -1.0]], [[-1.0, -1.0]])
    yield "nonfinite_activations", [with_saturation("a", 0.5, flags=("nonfinite",))], {}
    yield "constant", [with_saturation("a", 0.0, flags=("constant",))], {}
    yield "dead_units", [row(measures={"complexity": complexity(some, layout="rows")})], {}
    yield "zero_weights", [weight("a", 0.0, flags=("zero",))], {}
    yield "equal_weights", [_links("a", np.full((3, 2), 0.5))], {}
    yield "dead_links", [_links("a", [[0.0, 0.0], [1.0, 2.0]])], {}
    yield "dominated_scale", [weight("a"), weight("b", 0.01), weight("c", 0.02)], {}
    yield "too_few_rows", [with_saturation("a", None, n=1, flags=("too_few_rows",))], {}
    yield "few_rows", [with_saturation("a", 0.5, n=100, flags=("few_rows",))], {}
    yield "few_samples", [with_saturation("a", 0.5, n=3, flags=("few_samples",))], {}
    yield "low_tail", [with_saturation(f"l{i}", v) for i, v in enumerate([0.8, 0.1, 0.1, 0.9])], {}
    yield "unknown_operations", [call("a", flags=("unknown",))], {}
    yield "narrow_output", [call("a", cut=2)], {"output_cut": 2, "output_units": 12, "input_units": 16}


@pytest.mark.parametrize(
    ("kind", "rows", "totals"), list(_every_kind()), ids=lambda value: value if type(value) is str else ""
)
def test_every_kind_is_made_as_it_is_listed(kind: str, rows: list[Row], totals: dict[str, Any]) -> None:
    (found,) = findings(rows, totals)
    known = KINDS[kind]
    assert (found.kind, found.level, found.advice, found.docs) == (kind, known.level, known.advice, known.docs)
    assert found.confidence == known.confidence


def test_every_kind_has_its_paragraph_and_its_maker() -> None:
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == list(KINDS)
    for paragraph in page.split("\n## ")[1:]:
        name, _, text = paragraph.partition("\n")
        assert text.strip().startswith(KINDS[name].level.capitalize() + "."), name
    assert {kind for kind, _, _ in _every_kind()} | {"never_called"} == set(KINDS)  # which a watch alone makes


def _documented(doc: str) -> list[str]:
    """The quoted names under "flags:" in a docstring, to its end or the next entry."""
    entry = re.search(r"flags: ((?:.|\n)*?)(?:\n\n|\n {4,8}\w+(?:, \w+)*: |\Z)", doc)
    return re.findall(r'"([a-z_]+)"', entry[1]) if entry else []


def _flags_of(tree: ast.AST) -> Iterator[str]:
    """What code puts into flags: docstrings, assignments, arguments and additions."""
    for node in ast.walk(tree):
        several: list[ast.expr] = []
        if isinstance(node, ast.ClassDef):
            yield from _documented(ast.get_docstring(node) or "")
        elif isinstance(node, ast.Assign):
            several = [node.value] if ast.unparse(node.targets[0]) in ("flags", "self.flags", "FLAGS") else []
        elif isinstance(node, ast.keyword):
            several = [node.value] if node.arg == "flags" else []
        elif isinstance(node, ast.Call) and re.search(r"\b_flags$|flags\.add$", ast.unparse(node.func)):
            several = node.args
        for value in several:
            texts = [one.value for one in ast.walk(value) if isinstance(one, ast.Constant)]
            yield from (text for text in texts if isinstance(text, str) and re.fullmatch("[a-z][a-z_]{2,}", text))


def test_every_flag_is_on_the_page_of_flags() -> None:
    page = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")))
    package = ROOT / "python" / "netassay"
    found = {
        flag: path.name
        for room in (package, package / "verbs", package / "sources", *map(package.joinpath, MEASURES))
        for path in (room.glob("*.py") if room in (package, package / "verbs") else room.rglob("*.py"))
        for flag in _flags_of(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert {"few_rows", "too_few_rows", "several_calls", "nan", "channel_graph", "unread", "partial"} <= found.keys()
    assert {flag: where for flag, where in found.items() if flag not in page | NO_FLAGS} == {}


#: Texts beside flags that are none.
NO_FLAGS = {"algebra", "macs", "gru_cell", "lstm_cell", "flags"}
MEASURES = ("complexity", "persistence", "network", "algebra")
