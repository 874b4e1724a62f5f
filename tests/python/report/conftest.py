"""What the tests of the report share."""

from __future__ import annotations

import numpy as np
import pytest

from netassay.report import Coverage, Finding, Report, Skipped
from python.reports import row


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
        findings=(
            Finding("narrow_output", "notice", None, "the network: narrow"),
            Finding(
                "few_rows", "problem", "fc", "fc: look here", {"rows": {"eval": 7}}, "show it more", "tested", "here"
            ),
        ),
        provenance={"netassay": "0.1.0", "torch": None, "seed": 0, "created": "2024-01-01T00:00:00Z"},
    )
