"""Which tensors are weights: matrices of plain numbers; and why the others are not."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from netassay.base.arrays import WEIGHTS
from netassay.base.text import shown
from netassay.sources.checkpoint.tensors import Found

#: Eight bits wide: a weight as it stands only where nothing says that a scale belongs to it.
_NARROW = ("int8", "uint8", "float8_e4m3fn", "float8_e5m2")
#: Last parts of names under which the formats in use keep scales and zero points.
_SCALE = re.compile(r"(.*_)?(scales?(_inv|_\d)?|absmax|quant_map|q?zeros?|zero_points?|scb|g_idx)", re.IGNORECASE)
#: The same of packed integers.
_PACKED = re.compile(r"qweight|.*_packed|.*_blocks")
#: What a weight is made from when the module runs: the recipe is no weight, and a file does not say the whole of it.
_RECIPE = re.compile(r"((?:.*\.)?weight[^.]*)(_g|_v|_orig|_mask)|(?:.*\.)?parametrizations\..*")
_PARTNERS = {"_g": ("_v",), "_v": ("_g",), "_orig": ("_mask", "_u"), "_mask": ("_orig",)}
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Group(NamedTuple):
    """One tensor under all its names: the one it is known by, and why it is no weight ("" where it is one)."""

    found: Found
    others: tuple[Found, ...]
    reason: str


def judge(tensors: Sequence[Found], quantised: str = "") -> list[Group]:
    """The tensors, each region once, in order.

    Args:
        quantised: what says that the source is quantised as a whole, or "".
    """
    regions: dict[Hashable, list[Found]] = {}
    for found in tensors:
        regions.setdefault(found.region, []).append(found)
    scaled = _Scaled(tensors, quantised)
    names = {found.name for found in tensors}
    groups = []
    for several in regions.values():
        reasons = [_reason(found, names) or scaled.reason(found) for found in several]
        at = next((i for i, reason in enumerate(reasons) if not reason), 0)
        groups.append(Group(several[at], tuple(several[:at] + several[at + 1 :]), reasons[at]))
    return groups


def parameters(group: Group) -> int:
    """How many parameters a tensor has: none where it is a buffer, or integers that nobody calls quantised."""
    found = group.found
    leaf = found.name.rpartition(".")[2]
    if not found.counts or leaf in _STATISTICS:
        return 0
    if _integer(found) and found.dtype not in WEIGHTS and not found.kind and not group.reason.startswith("quantised"):
        return 0
    return found.elements


def _integer(found: Found) -> bool:
    return found.dtype.startswith(("int", "uint", "bool"))


def _packed(found: Found) -> bool:
    return _integer(found) and _PACKED.fullmatch(found.name.rpartition(".")[2]) is not None


def _reason(found: Found, names: set[str]) -> str:
    """Why a tensor is no weight by itself."""
    leaf = found.name.rpartition(".")[2]
    if found.refusal:
        return found.refusal
    if leaf in _STATISTICS:
        return "buffer: running statistics"
    if found.dtype not in WEIGHTS and not _packed(found):
        return f"{found.dtype}: not a weight"
    if len(found.shape) < 2:
        return "bias or norm: one axis" if found.shape else "a single number"
    if not found.elements:
        return "empty"
    if leaf == "bias" or leaf.startswith("bias_"):
        return "bias"
    return _recipe(found, names)


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


class _Scaled:
    """Which tensors are quantised: those of eight bits, or packed, with a scale or a zero point beside them."""

    def __init__(self, tensors: Iterable[Found], whole: str) -> None:
        self.whole = whole
        self.scales: dict[str, list[str]] = {}
        self.narrow: set[str] = set()
        for found in tensors:
            parent, _, leaf = found.name.rpartition(".")
            if _SCALE.fullmatch(leaf):
                self.scales.setdefault(parent, []).append(found.name)
            elif found.dtype in _NARROW or _packed(found):
                self.narrow |= {parent, found.name}

    def reason(self, found: Found) -> str:
        parent, _, leaf = found.name.rpartition(".")
        if _SCALE.fullmatch(leaf):
            return "quantised: a scale or a zero point" if self.whole or parent in self.narrow else ""
        if found.dtype not in _NARROW and not _packed(found):
            return ""
        beside = [*self.scales.get(parent, ()), *self.scales.get(found.name, ())]
        if beside:
            return f"quantised: {shown(beside[0])} stands beside it"
        if self.whole:
            return f"quantised: {self.whole} says so"
        return f"{found.dtype}: not a weight" if found.dtype not in WEIGHTS else ""
