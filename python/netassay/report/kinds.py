"""The kinds of findings, all of them; docs/findings.md has a paragraph on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netassay.report.rows import Confidence, Finding, Level

DOCS = "docs/findings.md"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    Attributes:
        name: what `Finding.kind` holds, and the section of docs/findings.md.
        means: one sentence.
        advice: what to do, where a finding has no words of its own.
        confidence: how sure it is, where a finding rests on enough data.
    """

    name: str
    level: Level
    means: str
    advice: str
    confidence: Confidence = "counted"

    @property
    def docs(self) -> str:
        """Page and section."""
        return f"{DOCS}#{self.name}"


_LISTED = (
    Kind(
        "nonfinite_activations",
        "problem",
        "A layer put out a NaN or an infinity.",
        "look at the named layer in the named pass: its weights, its input, its numeric type",
    ),
    Kind(
        "constant",
        "problem",
        "A layer has collapsed: it puts out the same for every row, or all units of a nonlinearity are off.",
        "the layer passes nothing on: look at the layers before it (bias, scale, learning rate) or initialize it anew",
    ),
    Kind(
        "never_called",
        "problem",
        "The model, or a layer that was chosen, was never called while watched.",
        "watch the module that is called",
    ),
    Kind(
        "dead_units",
        "problem",
        "Many channels of a nonlinearity were never on.",
        "a lower learning rate or another initialization keeps units on; channels that stay off can go",
        "rule of thumb",
    ),
    Kind(
        "zero_weights",
        "problem",
        "Every weight of a layer is zero.",
        "check that the layer was initialized and loaded",
    ),
    Kind(
        "equal_weights",
        "problem",
        "Every weight of a layer has the same value, so that its units are all alike.",
        "check that the layer was initialized and loaded",
    ),
    Kind(
        "unknown_operations",
        "problem",
        "An operation is not in the table of semantics and was taken as elementwise.",
        "netassay.algebra.register teaches an operation",
    ),
    Kind(
        "too_few_rows",
        "problem",
        "A layer has shown fewer than two rows, so that there is no variance.",
        "show the model more data",
    ),
    Kind(
        "few_rows",
        "notice",
        "A layer has shown few rows for its width, so that saturation and dimension may come out low.",
        "show the model more data before layers are compared",
        "rule of thumb",
    ),
    Kind(
        "few_samples",
        "notice",
        "The rows of a layer come from few samples, and rows of one sample are alike.",
        "show the model more samples before layers are compared",
        "rule of thumb",
    ),
    Kind(
        "low_tail",
        "notice",
        "The last layers before the classifier use little of their width.",
        "candidates for removal or for a higher input resolution: confirm with netassay.project",
        "tested",
    ),
    Kind(
        "dead_links",
        "notice",
        "Units of a layer have no weight other than 0.",
        "such units can be left out",
    ),
    Kind(
        "dominated_scale",
        "notice",
        "One layer sets the scale of persistence far above all others, which then look alike.",
        "compare layers over scales of their own: netassay.persistence.neural_persistence(weight)",
        "rule of thumb",
    ),
    Kind(
        "narrow_output",
        "notice",
        "The output depends on fewer units than it has.",
        "widen the network there if the output should vary in every direction",
    ),
)
#: By name, in the order of docs/findings.md.
KINDS = {kind.name: kind for kind in _LISTED}


def finding(
    kind: str,
    layer: str | None,
    message: str,
    evidence: Mapping[str, Any],
    *,
    advice: str | None = None,
    confidence: Confidence | None = None,
) -> Finding:
    """A finding of a listed kind; advice and confidence are the kind's where none are given."""
    known = KINDS[kind]
    return Finding(
        kind=kind,
        level=known.level,
        layer=layer,
        message=message,
        evidence=evidence,
        advice=known.advice if advice is None else advice,
        confidence=confidence or known.confidence,
        docs=known.docs,
    )
