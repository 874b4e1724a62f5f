"""Quantised tensors: which ones, in which layout, and how many weights are packed in each.

A tensor of eight bits, or of packed integers, is quantised where a scale or a zero point stands beside it. Its weights
count as parameters, unpacked; scales, zero points and tables of indices count nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from netassay.base.arrays import WEIGHTS
from netassay.base.text import shown
from netassay.sources.checkpoint.tensors import Found

#: Eight bits wide: a weight as it stands only where nothing says that a scale belongs to it.
_NARROW = ("int8", "uint8", "float8_e4m3fn", "float8_e5m2")
#: Last parts of names under which the formats in use keep scales and zero points.
_SCALE = re.compile(r"(.*_)?(scales?(_inv|_\d)?|absmax|quant_map|q?zeros?|zero_points?|scb|g_idx)", re.IGNORECASE)
#: The same of packed integers.
_PACKED = re.compile(r"qweight|.*_packed|.*_blocks")


class Layout(NamedTuple):
    """How weights are packed in a tensor.

    Attributes:
        name: of the layout, "" where it is none of those known. weights: a count.
    """

    name: str
    weights: int


def holds_packed(name: str) -> bool:
    """Whether a module's buffer of this name holds packed weights."""
    return name == "qweight" or name.endswith("_packed")


class Packed:
    """Which tensors of a source are quantised.

    Args:
        whole: what says that the source is quantised as a whole, or "". config: that of config.json.
    """

    def __init__(self, tensors: Iterable[Found], whole: str, config: Mapping[str, Any]) -> None:
        self._whole, self._bits = whole, _bits(config)
        self._found = {found.name: found for found in tensors}
        self._scales: dict[str, list[str]] = {}
        self._narrow: set[str] = set()
        for found in self._found.values():
            parent, _, leaf = found.name.rpartition(".")
            if _SCALE.fullmatch(leaf):
                self._scales.setdefault(parent, []).append(found.name)
            elif self.concerns(found):
                self._narrow |= {parent, found.name}

    def concerns(self, found: Found) -> bool:
        """Whether a tensor is quantised if a scale stands beside it."""
        whole = found.dtype.startswith(("int", "uint"))
        return found.dtype in _NARROW or (whole and _PACKED.fullmatch(found.name.rpartition(".")[2]) is not None)

    def scale(self, found: Found) -> bool:
        """Whether a tensor is a scale, a zero point or a table of indices of a quantised one."""
        parent, _, leaf = found.name.rpartition(".")
        if ".quant_state." in found.name:
            return True
        return _SCALE.fullmatch(leaf) is not None and (bool(self._whole) or parent in self._narrow)

    def reason(self, found: Found) -> str:
        """Why a tensor is no plain weight, naming its layout, or ""."""
        if self.scale(found):
            return "quantised: a scale or a zero point"
        if not self.concerns(found) or _SCALE.fullmatch(found.name.rpartition(".")[2]):
            return ""
        beside = self._beside(found)
        layout = self._layout(found).name if beside else ""
        how = f", {layout}" if layout else ""
        if beside:
            return f"quantised{how}: {shown(beside[0])} stands beside it"
        if self._whole:
            return f"quantised: {self._whole} says so"
        return f"{found.dtype}: not a weight" if found.dtype not in WEIGHTS else ""

    def parameters(self, found: Found) -> int | None:
        """How many parameters a quantised tensor stands for; None where it is not quantised."""
        if self.scale(found):
            return 0
        if found.kind.startswith("Linear") and found.kind.endswith(("4bit", "NF4", "FP4")) and found.dtype == "uint8":
            return 2 * found.elements
        if not self.concerns(found) or not (self._beside(found) or self._whole):
            return None
        return self._layout(found).weights

    def _beside(self, found: Found) -> list[str]:
        parent = found.name.rpartition(".")[0]
        return [*self._scales.get(parent, ()), *self._scales.get(found.name, ())]

    def _layout(self, found: Found) -> Layout:
        stem, _, leaf = found.name.rpartition(".")

        def near(name: str) -> Found | None:
            return self._found.get(f"{stem}.{name}".lstrip("."))

        if leaf == "qweight":
            return self._integers(found, near("scales"), near("qzeros"))
        if leaf.endswith("_packed") and found.dtype != "uint8":
            bits = self._bits or 4
            said = "" if self._bits else "taken as "
            return Layout(f"pack-quantized, {said}{bits} bits", found.elements * 32 // bits)
        scale, inverse = near(f"{leaf}_scale"), near(f"{leaf}_scale_inv")
        if leaf.endswith(("_packed", "_blocks")):
            return Layout("two of 4 bits a byte", 2 * found.elements)
        blocks = near(f"{leaf}.quant_map") or (near(f"{leaf}.absmax") and found.shape[1:] == (1,))
        if found.dtype == "uint8" and blocks:
            return Layout("bitsandbytes, 4 bits", 2 * found.elements)
        if found.dtype == "uint8" and scale is not None and scale.dtype == "float8_e4m3fn":
            return Layout("NVFP4", 2 * found.elements)
        if (
            found.dtype == "int8"
            and inverse is not None
            and inverse.shape
            and (16 * inverse.shape[-1],) == found.shape[-1:]
        ):
            return Layout("two of 4 bits a byte", 2 * found.elements)
        kind = "fp8" if found.dtype.startswith("float8") else "bitsandbytes, int8" if near("SCB") else found.dtype
        return Layout(kind, found.elements)

    def _integers(self, found: Found, scales: Found | None, zeros: Found | None) -> Layout:
        """GPTQ packs inputs, (in bits / 32, out), AWQ outputs, (in, out bits / 32); scales are (groups, out)."""
        columns = scales.shape[-1] if scales is not None and len(scales.shape) == 2 else 0
        held, width = found.elements, found.shape[-1] if found.shape else 0
        if columns > width > 0:
            return Layout(f"AWQ, {32 * width // columns} bits", held // width * columns)
        bits = self._bits or (32 * zeros.shape[-1] // width if zeros is not None and zeros.shape and width else 4)
        return Layout(f"GPTQ, {bits or 4} bits", held * 32 // (bits or 4))


def _bits(config: Mapping[str, Any]) -> int:
    """The bits of a weight that a configuration names; 0 where it names none."""
    said = config.get("quantization_config") or config.get("compression_config") or config
    if not isinstance(said, Mapping):
        return 0
    groups = said.get("config_groups")
    several = groups.values() if isinstance(groups, Mapping) else ()
    inner = [group.get("weights") for group in several if isinstance(group, Mapping)]
    named = [said.get("bits"), said.get("w_bit"), *(one.get("num_bits") for one in inner if isinstance(one, Mapping))]
    return next((bits for bits in named if type(bits) is int and 1 <= bits <= 8), 0)
