"""What a tensor is called: without the prefixes of wrappers, and by its layer in a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from netassay.sources.checkpoint.tensors import Found
from netassay.sources.layers import ROOT

#: What data-parallel and compile wrappers put before every name of a state_dict.
_PREFIXES = ("module.", "_orig_mod.")


def layer_of(name: str) -> str:
    """The report's name of a tensor: `a.b.weight` is layer `a.b`, any other keeps its whole name."""
    return ROOT if name == "weight" else name.removesuffix(".weight")


def strip(several: Sequence[Found]) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """The tensors without what wrappers have put before the name of every one with axes, and those prefixes.

    A tensor without axes may be a counter that stands beside a wrapped model.
    """
    prefixes: list[str] = []
    names = [found.name for found in several if found.shape]
    while names:
        start = "".join(prefixes)
        prefix = next((p for p in _PREFIXES if all(name.startswith(start + p) for name in names)), None)
        if prefix is None:
            break
        prefixes.append(prefix)
    start = "".join(prefixes)
    return tuple(replace(found, name=found.name.removeprefix(start)) for found in several), tuple(prefixes)


def layers(names: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Tensor name -> report name, given (tensor name, layer it would be); one that is taken keeps its whole name."""
    several = list(names)
    whole = {name for name, _ in several}
    return {name: name if layer != name and layer in whole else layer for name, layer in several}
