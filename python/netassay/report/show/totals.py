"""Numbers of the whole network as text: in words where a measure has them, else name by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from netassay.base.text import printable
from netassay.report.show.grid import show
from netassay.report.show.tables import scalars

_MOST_DIGITS = 15  # of an integer that is shown whole


def totals_lines(totals: Mapping[str, Any]) -> Iterator[str]:
    """One line for each number of a report's totals, or sentence about it."""
    flat: dict[str, str] = {}
    for name, value in totals.items():
        if name == "deep_graph_persistence" and (value is None or hasattr(value, "peak")):
            flat.update({} if value is None else {"deep graph persistence": _deep(value)})  # the notes say why not
            continue
        if name in _ONLY_IN_FILES or (name in _OPTIONAL and not value):
            continue
        if name in _BY_MODE and (told := _by_mode(name, value)):
            flat.update(told)
            continue
        say = _SENTENCES.get(name)
        sentence = say(value) if say else None
        flat.update({name: sentence} if sentence else _flatten({name: value}))
    room = max(map(len, flat), default=0)
    for name, text in flat.items():
        yield f"  {name:<{room}}  {text}"


def _by_mode(name: str, value: Any) -> dict[str, str]:
    """A sentence for each mode, or none."""
    modes = value.items() if isinstance(value, Mapping) else ()
    told = {f"{name}.{printable(mode)}": _BY_MODE[name](numbers) for mode, numbers in modes}
    return {mode: text for mode, text in told.items() if text} if all(told.values()) else {}


def _switching(value: Any) -> str | None:
    """How often the units of a network switch, in words."""
    match value:
        case {"sites": int(sites), "mean_channel": float(channel), "total_channel": float(total), **rest}:
            parts = [f"{channel:.3f} bits per channel"]
            match rest:
                case {"mean_position": float(position), "total_position": float(total)}:
                    parts.append(f"{position:.3f} per channel at a position")
            return f"{', '.join(parts)}, {total:,.0f} in all of {sites:,} site{'s' if sites != 1 else ''}"
    return None


def _persistence(value: Any) -> str | None:
    """The network's value in words; None for what measure_weights did not make (a file may hold anything)."""
    match value:
        case {"normalized": float(mean), "total": float(total), "scale": float(scale), "layers": int(layers)}:
            flags = "".join(f"; {flag}" for flag in map(show, value.get("flags", ())))
            return f"{mean:.3f}, mean of {layers:,} layers; scale {scale:.6g}; sum of totals {total:.6g}{flags}"
    return None


def _links(value: Any) -> str | None:
    """The distribution of all weights in words."""
    match value:
        case {"count": int(count), "layers": int(layers), "mean": float(mean), "std": float(std)}:
            low, high, zeros = (show(value.get(name), ".4g") for name in ("minimum", "maximum", "zero_share"))
            flags = "".join(f"; {flag}" for flag in map(show, value.get("flags", ())))
            spread = f"mean {mean:.3g}, std {std:.4g}, from {low} to {high}, zeros {zeros}"
            return f"{count:,} weights of {layers:,} layers: {spread}{flags}"
    return None


def _lengths(value: Any) -> str | None:
    """The histogram of path lengths in words."""
    match value:
        case [*listed] if listed and None not in (counts := list(map(_whole, listed))):
            held = [k for k, count in enumerate(counts) if count]
            if not held:
                return "no path"
            most = max(held, key=lambda k: counts[k] or 0)
            if held[0] == held[-1]:
                return f"{held[0]} weighted layer{'s' if held[0] != 1 else ''}"
            return f"{held[0]} to {held[-1]} weighted layers, most often {most}"
    return None


def _integer(value: Any) -> str | None:
    """A count, as a power of two where it has many digits."""
    count = _whole(value)
    if count is None or count < 10**_MOST_DIGITS:
        return None
    bits = math.log2(count)
    return f"2^{bits:,.0f}" if count & (count - 1) == 0 else f"about 2^{bits:,.2f}"


def _whole(value: Any) -> int | None:
    """An integer, also as a report's file has large ones."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


#: Totals that are said in words, those that are nothing to look at, and those of some networks only.
_SENTENCES: dict[str, Callable[[Any], str | None]] = {
    "persistence": _persistence,
    "network": _links,
    "path_lengths": _lengths,
    "layer_paths": _integer,
    "serra_regions": _integer,
}
_BY_MODE: dict[str, Callable[[Any], str | None]] = {"complexity": _switching}
_ONLY_IN_FILES = ("unknown_operations", "flags")
_OPTIONAL = ("log2_paths_exact", "region_bits", "vc_bound", "serra_regions", "unknown")


def _deep(value: Any) -> str:
    """As measure_weights asks for it, standardized and rescaled."""
    flags = "".join(f"; {printable(flag)}" for flag in value.flags)
    return f"{show(value.normalized, '.3f')} (peak {show(value.peak, '.2f')}, standardized, rescaled){flags}"


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
