"""The JSON Schema of a report, as it ships in schema.json."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `netassay.report/1`."""
    text = resources.files(__package__).joinpath("schema.json").read_text("utf-8")
    return dict(json.loads(text))
