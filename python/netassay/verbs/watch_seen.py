"""Seen: what a watch has behind its report: the model, what was chosen of it, and what took notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netassay.sources import layers as _layers

if TYPE_CHECKING:
    from torch import nn

    from netassay.sources.live.hooks import Taps
    from netassay.sources.live.recorder import Recorder
    from netassay.sources.patterns import Matcher

_NEVER = (
    "never observed: its forward did not run as a module call while watched (a functional call such as F.linear,"
    " .forward(), a compiled or scripted module, or an attention fast path)"
)
NEVER_COMPILED = "never observed: the model runs compiled; watch it uncompiled"


@dataclass(frozen=True, slots=True)
class Seen:
    """Where the states of a watch come from.

    Attributes:
        layers: those that were chosen, by patterns. wanted: of sites, None where none are looked for.
    """

    root: nn.Module
    layers: Mapping[str, _layers.Layer]
    wanted: Matcher | None
    recorder: Recorder
    taps: Taps
    compiled: bool
    patterns: Sequence[object] = ()

    def modules(self) -> dict[str, nn.Module]:
        """Every module of the model by its first name."""
        return {name or _layers.ROOT: module for name, module in self.root.named_modules()}

    def reason(self, name: str, never: str = _NEVER) -> str:
        """Why a layer or a site has no result."""
        if faults := self.taps.faults.get(name):
            return f"failed: {faults[0]}"
        return self.recorder.left_out.get(name) or (NEVER_COMPILED if self.compiled else never)
