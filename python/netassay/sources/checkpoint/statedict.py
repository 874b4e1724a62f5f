"""The tensors of a state_dict, which may lie inside what a training script has saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from netassay.base import arrays
from netassay.base.arrays import View
from netassay.base.errors import UnsupportedLayout
from netassay.base.text import listed, shown
from netassay.sources.checkpoint.claims import Claim, Other
from netassay.sources.checkpoint.tensors import Found, Source, describe

#: Under what keys training scripts save a state_dict, the most telling first; a file's other keys are not descended.
_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "params", "weights")


class StateDict(Source):
    """The tensors of a mapping."""

    def __init__(self, mapping: Mapping[Any, Any], function: str) -> None:
        self._function = function
        self.wrappers, state = unwrap(mapping, f"{function}: state_dict")
        self.found = tuple(describe(name, value) for name, value in named(state).items())
        self.notes = left_out(mapping, self.wrappers, state)

    def read(self, found: Found, threads: int | None) -> View:
        return arrays.weight_view(found.handle, f"{self._function}: {found.name}")

    def close(self) -> None:
        self.found = ()


def is_array(value: object) -> bool:
    """Whether it is a tensor, a numpy array, or what a file says of a tensor."""
    return arrays.is_tensor(value) or isinstance(value, (np.ndarray, Claim, Other))


def unwrap(value: object, what: str) -> tuple[tuple[str, ...], Mapping[Any, Any]]:
    """The state_dict in what a training script saved, and the keys that lead to it.

    Raises:
        UnsupportedLayout: there is none, or several of equal standing.
    """
    path: list[str] = []
    while isinstance(value, Mapping) and len(path) < 8:
        inner = {key: v for key, v in value.items() if isinstance(v, Mapping) and _holds(v)}
        key = next((key for key in _KEYS if key in inner), None)
        if key is None and any(is_array(v) for v in value.values()):
            return tuple(path), value
        if key is None and len(inner) > 1:
            several = listed(sorted(map(str, inner)))
            raise UnsupportedLayout(
                f"{what}: got several groups of tensors ({several}), expected one: pass one of them"
            )
        if key is None and not inner:
            break
        key = next(iter(inner)) if key is None else key
        path.append(str(key))
        value = inner[key]
    got = f"a {'tensor' if is_array(value) else getattr(value, 'kind', type(value).__name__)}" + (
        f" of {listed(map(str, value)) or 'nothing'}" if isinstance(value, Mapping) else ""
    )
    raise UnsupportedLayout(f"{what}: got {got}, expected a state_dict: names of tensors")


def _holds(value: Mapping[Any, Any], depth: int = 0) -> bool:
    if any(is_array(v) for v in value.values()):
        return True
    inner = (value.get(key) for key in _KEYS)
    return depth < 4 and any(isinstance(v, Mapping) and _holds(v, depth + 1) for v in inner)


def named(state: Mapping[Any, Any]) -> dict[str, Any]:
    """The tensors of a state_dict."""
    return {str(key): value for key, value in state.items() if is_array(value)}


def left_out(mapping: Mapping[Any, Any], keys: Iterable[str], state: Mapping[Any, Any]) -> tuple[str, ...]:
    """What of a saved mapping is no tensor of the state_dict under `keys`, in sentences."""
    notes = []
    for key in keys:
        if beside := [str(other) for other in mapping if str(other) != key]:
            notes.append(f"left out beside {shown(key)}: {listed(beside)}")
        mapping = next(value for other, value in mapping.items() if str(other) == key)
    if others := [str(key) for key, value in state.items() if not is_array(value)]:
        notes.append(f"left out, no tensors: {listed(others)}")
    return tuple(notes)
