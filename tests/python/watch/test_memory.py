"""What a watch does where its memory does not suffice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import netassay as na
from python.models import data, reasons
from python.watching import never_observed


def test_a_layer_beyond_the_memory_budget_is_not_measured_and_coverage_says_its_size_and_why() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2000), nn.Linear(2000, 5))
    with na.watch(model, memory=2e6) as watch, torch.no_grad():
        for training in (True, False):
            model.train(training)
            model(data(20, 4))
    report = watch.report()
    assert [row.name for row in report.layers] == ["0", "0", "2", "2"]
    assert report.coverage.measured == 2
    reason = reasons(report)["1"]
    assert "2000" in reason
    assert "memory" in reason
    assert "GB" in reason
    with pytest.raises(KeyError, match="was not measured"):
        report["1"]


def test_the_states_of_a_watch_stay_within_its_budget() -> None:
    budget = 3e6
    model = nn.Sequential(*[nn.Linear(100, 100) for _ in range(60)])
    with na.watch(model, memory=budget) as watch, torch.no_grad():
        for seed in range(3):
            model(data(300, 100, seed=seed))
    report = watch.report()
    assert 0 < report.coverage.measured < 60
    assert report.coverage.measured + len(report.coverage.skipped) == 60
    assert sum(state.nbytes for state in watch.states.values()) <= budget


def test_a_watch_whose_budget_holds_no_layer_observed_nothing_and_says_why() -> None:
    model = nn.Sequential(nn.Linear(4, 300))
    with na.watch(model, memory=1000) as watch:
        model(data(20, 4))
    assert "memory" in never_observed(watch)
