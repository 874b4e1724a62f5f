"""The JSON Schema of a report: generated from the dataclasses, frozen by its golden copy."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from netassay.report import Report
from netassay.report.encode import dumps
from netassay.report.measures import MEASURES, TOTALS
from netassay.report.schema import described, of_class, schema
from python.reports import BREAKS, broken

GOLDEN = Path(__file__).parents[2] / "data" / "report-1.schema.json"


def test_the_schema_that_ships_is_generated_and_equals_its_golden_copy() -> None:
    """A change of the golden copy is a change of the format: deliberate, and a line in CHANGELOG.

    `python -m netassay.report.schema` prints the text of both files.
    """
    made = dumps(schema())
    assert resources.files("netassay.report").joinpath("schema.json").read_bytes() == made
    assert GOLDEN.read_bytes() == made


@pytest.mark.parametrize("case", BREAKS)
def test_the_schema_refuses_what_cannot_be_read(report: Report, case: str) -> None:
    data, _ = broken(report, case)
    assert not jsonschema.Draft202012Validator(schema()).is_valid(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [("value", 1.5), ("value", -0.1), ("delta", 0), ("delta", None), ("width", -1), ("flags", ["a", "a"])],
)
def test_the_schema_holds_the_limits_of_numbers(report: Report, field: str, value: Any) -> None:
    data = copy.deepcopy(report.to_dict())
    validator = jsonschema.Draft202012Validator(schema())
    assert validator.is_valid(data)
    data["layers"][0]["saturation"][field] = value
    assert not validator.is_valid(data)


def test_every_member_of_every_result_is_described() -> None:
    defined = schema()["$defs"]
    results = [*MEASURES, *(name for name, total in TOTALS.items() if total.result is not None)]
    for name in ("layer", "coverage", "skipped", "finding", *results):
        members = {key: one for key, one in defined[name]["properties"].items() if key not in (*MEASURES, "flags")}
        assert all(one["description"] for one in members.values()), name


@dataclass(frozen=True)
class Good:
    """A result.

    Attributes:
        count: how many. share: of all, in [0, 1];
            None without any.
        low, high: bounds. kind: "a" or "b".
        table: two axes. several: by name.
        flags: what to know.
    """

    count: int
    share: float | None = field(metadata={"minimum": 0, "maximum": 1})
    low: float
    high: float = field(metadata={"finite": True})
    kind: Literal["a", "b"] | None
    table: NDArray[np.uint64] = field(metadata={"axes": 2})
    several: Mapping[str, tuple[str, ...]] = field(metadata={"optional": True})
    flags: tuple[str, ...]


def test_a_class_becomes_a_schema_by_its_annotations_docstring_and_metadata() -> None:
    assert of_class(Good) == {
        "type": "object",
        "description": "A result.",
        "properties": {
            "count": {"$ref": "#/$defs/count", "description": "how many."},
            "share": {
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": 1,
                "description": "of all, in [0, 1]; null without any.",
            },
            "low": {"type": ["number", "null"], "description": "bounds."},  # not finite: null and a flag
            "high": {"type": "number", "description": "bounds."},
            "kind": {"enum": ["a", "b", None], "description": '"a" or "b".'},
            "table": {
                "type": "array",
                "items": {"type": "array", "items": {"$ref": "#/$defs/count"}},
                "description": "two axes.",
            },
            "several": {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
                "description": "by name.",
            },
            "flags": {"$ref": "#/$defs/flags", "description": "what to know."},
        },
        "required": ["count", "share", "low", "high", "kind", "table", "flags"],
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class Undescribed:
    """A result.

    Attributes:
        value: a number.
    """

    value: float
    other: float


@dataclass(frozen=True)
class Untyped:
    """A result.

    Attributes:
        value: anything.
    """

    value: Any


@dataclass(frozen=True)
class Strange:
    """A result.

    Attributes:
        value: a pair of types.
    """

    value: complex | Path


@dataclass(frozen=True)
class Nested:
    """A result.

    Attributes:
        value: a class that the schema does not define.
    """

    value: Good


@dataclass(frozen=True)
class Misspelt:
    """A result.

    Attributes:
        value: a number.
    """

    value: float = field(metadata={"least": 0})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Undescribed, r"^schema: Undescribed\.other: got no description, expected one under Attributes in"),
        (Untyped, r"^schema: Untyped\.value: got the type typing\.Any, expected a number, text"),
        (Strange, r"^schema: Strange\.value: got <class 'complex'> \| .*, expected one type, or None beside it"),
        (Nested, r"^schema: Nested\.value: got the type <class '.*Good'>, expected a number"),
        (Misspelt, r"^schema: Misspelt\.value: got the metadata \['least'\], expected only axes, exclusiveMinimum"),
    ],
)
def test_a_field_without_a_description_or_a_type_is_refused_naming_it(kind: type, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        of_class(kind)


def test_descriptions_are_inherited_and_a_name_within_a_text_is_no_entry() -> None:
    class Base:
        """A base.

        Attributes:
            first: see second: it has more.
        """

    class Derived(Base):
        """A derived class.

        Attributes:
            second, third: likewise.

        first: no entry.
        """

    assert described(Derived, ["first", "second", "third"]) == {
        "first": "see second: it has more.",
        "second": "likewise.",
        "third": "likewise.",
    }
