"""Numbers of the whole network as text: in words where a measure has them, else name by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from netassay.base.text import printable
from netassay.report.about import Total
from netassay.report.about.cells import show
from netassay.report.measures import TOTALS
from netassay.report.show.tables import scalars

_FLAGS = Total("flags", shown="never")
_LOWER_BOUND = "lower_bound"


def totals_lines(totals: Mapping[str, Any]) -> Iterator[str]:
    """One line for each number of a report's totals, or sentence about it."""
    known = {**TOTALS, _FLAGS.name: _FLAGS}
    flat: dict[str, str] = {}
    for name, value in totals.items():
        flat.update(_lines(known.get(name) or Total(name), value))
    flags = totals.get(_FLAGS.name)
    room = max(map(len, flat), default=0)
    for name, text in flat.items():
        yield f"  {name:<{room}}  {_flagged(text, flags.get(name, ()) if isinstance(flags, Mapping) else ())}"


def _flagged(text: str, flags: Iterable[object]) -> str:
    """A number with what is to be known of it."""
    several = list(map(str, flags))
    others = [flag for flag in several if flag != _LOWER_BOUND]
    least = "at least " if len(others) < len(several) else ""
    return f"{least}{text}" + (f" ({printable(', '.join(others))})" if others else "")


def _lines(total: Total, value: Any) -> Mapping[str, str]:
    """Names of lines and their texts."""
    if total.shown == "never" or (total.shown == "filled" and not value):
        return {}
    return _in_words(total, value) or dict(_flatten({total.name: value}))


def _in_words(total: Total, value: Any) -> dict[str, str]:
    """The sentence of a total, or one for each of its modes; none where some value has no sentence."""
    if total.say is None:
        return {}
    parts = {total.heading or total.name: value}
    if total.by_mode:
        modes = value.items() if isinstance(value, Mapping) else ()
        parts = {f"{total.name}.{printable(mode)}": numbers for mode, numbers in modes}
    sentences = {name: total.say(part) for name, part in parts.items()}
    said = {name: text for name, text in sentences.items() if text}
    return said if len(said) == len(sentences) else {}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = prefix + printable(key)
        if is_dataclass(value) and not isinstance(value, type):
            value = dict(scalars(value))
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}.")
        elif getattr(value, "ndim", 0):
            yield name, f"array of shape {value.shape}"
        else:
            number = value.item() if hasattr(value, "ndim") else value
            form = {float: ".6g", int: ","}.get(type(number), "")
            yield name, show(number, form)
