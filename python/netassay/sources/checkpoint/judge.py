"""Which tensors are weights: matrices of plain numbers; and why the others are not."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from netassay.base.arrays import WEIGHTS
from netassay.sources.checkpoint.packed import Packed
from netassay.sources.checkpoint.roles import Roles
from netassay.sources.checkpoint.tensors import Found

#: A bias, whatever its axes: also of attention by relative positions.
_BIAS = re.compile(r"(?:.*_)?bias(?:_(?!.*table).*)?")
#: numpy has no more.
_AXES = 64
#: What a weight is made from when the module runs: the recipe is no weight, and a file does not say the whole of it.
_RECIPE = re.compile(r"((?:.*\.)?weight[^.]*)(_g|_v|_orig|_mask)|(?:.*\.)?parametrizations\..*")
_PARTNERS = {"_g": ("_v",), "_v": ("_g",), "_orig": ("_mask", "_u"), "_mask": ("_orig",)}
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Group(NamedTuple):
    """One tensor under all its names.

    Attributes:
        found: the one it is known by. reason: why it is no weight, "" where it is one. parameters: a count, unpacked.
        aside: no layer's weight; inputs_first: stored (in, out, ...); guessed: the latter is taken from its name.
    """

    found: Found
    others: tuple[Found, ...]
    reason: str
    parameters: int
    aside: bool = False
    inputs_first: bool = False
    guessed: bool = False


def judge(tensors: Sequence[Found], quantised: str, config: Mapping[str, Any]) -> list[Group]:
    """The tensors, each region once, in order.

    Args:
        quantised: what says that the source is quantised as a whole, or "". config: that of config.json.
    """
    regions: dict[Hashable, list[Found]] = {}
    for found in tensors:
        regions.setdefault(found.region, []).append(found)
    packed, roles = Packed(tensors, quantised, config), Roles(tensors, config)
    names = {found.name for found in tensors}
    groups = []
    for several in regions.values():
        reasons = [_reason(found, names, packed, roles) for found in several]
        at = next((i for i, reason in enumerate(reasons) if not reason), 0)
        found, others = several[at], tuple(several[:at] + several[at + 1 :])
        group = Group(found, others, reasons[at], _parameters(found, packed))
        if not group.reason:
            first, why = roles.inputs_first(found)
            group = group._replace(aside=roles.aside(found), inputs_first=first, guessed=why == "name")
        groups.append(group)
    return groups


def _parameters(found: Found, packed: Packed) -> int:
    """How many parameters a tensor has: none where it is a buffer, or integers that nobody calls quantised."""
    if not found.counts or found.name.rpartition(".")[2] in _STATISTICS:
        return 0
    if (unpacked := packed.parameters(found)) is not None:
        return unpacked
    whole = found.dtype.startswith(("int", "uint", "bool")) and found.dtype not in WEIGHTS and not found.kind
    return 0 if whole else found.elements


def _reason(found: Found, names: set[str], packed: Packed, roles: Roles) -> str:
    """Why a tensor is no weight, or ""."""
    return _plainly(found, packed) or _recipe(found, names) or packed.reason(found) or roles.norm(found)


def _plainly(found: Found, packed: Packed) -> str:
    """Why a tensor is no weight whatever stands beside it."""
    leaf = found.name.rpartition(".")[2]
    if found.refusal:
        return found.refusal
    if leaf in _STATISTICS:
        return "buffer: running statistics"
    if packed.scale(found):
        return packed.reason(found)
    if found.dtype not in WEIGHTS and not packed.concerns(found):
        return f"{found.dtype}: not a weight"
    if len(found.shape) < 2:
        return "bias or norm: one axis" if found.shape else "a single number"
    if not found.elements:
        return "empty"
    if _BIAS.fullmatch(leaf):
        return "bias"
    return "" if len(found.shape) <= _AXES else f"{len(found.shape)} axes: more than {_AXES}"


def _recipe(found: Found, names: set[str]) -> str:
    match = _RECIPE.fullmatch(found.name)
    if match is None or found.kind:
        return ""
    stem, part = match[1], match[2]
    if stem is None:
        what = "parametrized"
    elif any(stem + partner in names for partner in _PARTNERS[part]):
        what = "weight norm" if part in ("_g", "_v") else "pruned or spectrally normed"
    else:
        return ""
    return f"{what}: the weight is made by its module; pass the module to have it measured"
