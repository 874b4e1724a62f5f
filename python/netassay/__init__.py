"""netassay: what is this network really doing with its layers?

Measures are nouns (`netassay.saturation`, `netassay.persistence`), verbs name the source of numbers (`netassay.watch`,
`netassay.measure_weights`). Importing this package loads neither torch nor numpy: names are found when they are first
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netassay import algebra, complexity, network, persistence, saturation
    from netassay.base.errors import (
        CorruptCheckpoint,
        DomainError,
        DTypeError,
        ForkError,
        LayoutError,
        LimitExceeded,
        NetassayError,
        NonFinite,
        NothingObserved,
        SelectionError,
        ShapeError,
        StateError,
        TooFewRows,
        UnsupportedLayout,
    )
    from netassay.report import History, Report
    from netassay.report.compare import Comparison
    from netassay.stats.moments import Moments
    from netassay.verbs.compare import compare
    from netassay.verbs.plan import Plan, plan
    from netassay.verbs.project import Projection, Projections, project
    from netassay.verbs.samples import sample_persistence
    from netassay.verbs.strengths import node_strengths
    from netassay.verbs.structure import measure_structure, path_norm
    from netassay.verbs.watch import Watch, watch
    from netassay.verbs.weights import measure_weights

__version__ = "0.1.0"

_ERRORS = (
    "CorruptCheckpoint",
    "DTypeError",
    "DomainError",
    "ForkError",
    "LayoutError",
    "LimitExceeded",
    "NetassayError",
    "NonFinite",
    "NothingObserved",
    "SelectionError",
    "ShapeError",
    "StateError",
    "TooFewRows",
    "UnsupportedLayout",
)
_HOMES = {
    **dict.fromkeys(_ERRORS, "netassay.base.errors"),
    "Comparison": "netassay.report.compare",
    "History": "netassay.report",
    "Moments": "netassay.stats.moments",
    "Plan": "netassay.verbs.plan",
    "Projection": "netassay.verbs.project",
    "Projections": "netassay.verbs.project",
    "Report": "netassay.report",
    "Watch": "netassay.verbs.watch",
    "compare": "netassay.verbs.compare",
    "measure_structure": "netassay.verbs.structure",
    "measure_weights": "netassay.verbs.weights",
    "node_strengths": "netassay.verbs.strengths",
    "path_norm": "netassay.verbs.structure",
    "plan": "netassay.verbs.plan",
    "project": "netassay.verbs.project",
    "sample_persistence": "netassay.verbs.samples",
    "watch": "netassay.verbs.watch",
}
_MODULES = ("algebra", "complexity", "network", "persistence", "saturation")

__all__ = [
    "Comparison",
    "CorruptCheckpoint",
    "DTypeError",
    "DomainError",
    "ForkError",
    "History",
    "LayoutError",
    "LimitExceeded",
    "Moments",
    "NetassayError",
    "NonFinite",
    "NothingObserved",
    "Plan",
    "Projection",
    "Projections",
    "Report",
    "SelectionError",
    "ShapeError",
    "StateError",
    "TooFewRows",
    "UnsupportedLayout",
    "Watch",
    "algebra",
    "compare",
    "complexity",
    "measure_structure",
    "measure_weights",
    "network",
    "node_strengths",
    "path_norm",
    "persistence",
    "plan",
    "project",
    "sample_persistence",
    "saturation",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"netassay.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'netassay' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
