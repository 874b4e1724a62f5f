"""What a report finds in its rows."""

from __future__ import annotations

import pytest

from netassay.report.about.persistence import persistence_findings
from netassay.report.about.saturation import saturation_findings
from python.reports import row, weight, with_saturation


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
