"""The options of a Switching, decided: thresholds of the rule, a window with one number for each axis."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from netassay._core import complexity as native
from netassay.base.checks import whole
from netassay.base.errors import DomainError, LayoutError, ShapeError
from netassay.complexity.rules import Window, thresholds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_LAYOUTS = ("rows", "channels_first", "channels_last")


@dataclass(frozen=True, slots=True)
class SwitchingOptions:
    """What a state counts and how its batches lie; see `Switching`.

    Attributes:
        thresholds: ascending; () with a window.
        classes: 0: there are no labels.
        window: None unless the rule is "maxpool".

    Raises:
        LayoutError.
    """

    rule: str
    thresholds: tuple[float, ...]
    layout: str
    positions: bool
    classes: int
    patterns: bool
    sums: bool
    window: Window | None

    def __post_init__(self) -> None:
        if self.layout not in _LAYOUTS:
            raise LayoutError(f"Switching: got layout {self.layout!r}, expected one of {', '.join(_LAYOUTS)}")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SwitchingOptions:
        """The options whose `config()` this is. Raises KeyError, TypeError, ValueError: it is none."""
        window = config["window"]
        thresholds_of(config["rule"], config["thresholds"] if window is None else None)
        if (config["rule"] == "maxpool") != (window is not None):
            raise ValueError(f"window {window!r} with rule {config['rule']!r}")
        if window is not None:
            *sizes, ceil_mode = window
            kernel, stride, padding, dilation = map(tuple, sizes)
            window = kernel, stride, padding, dilation, ceil_mode
        return cls(**{**config, "thresholds": tuple(config["thresholds"]), "window": window})

    def config(self) -> dict[str, Any]:
        """The options, as JSON can hold them."""
        window = None if self.window is None else [*map(list, self.window[:4]), self.window[4]]
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**given, "thresholds": list(self.thresholds), "window": window}

    def native(self) -> dict[str, Any]:
        """What the extension takes of them."""
        names = ("thresholds", "window", "positions", "classes", "patterns", "sums")
        return {name: getattr(self, name) for name in names}

    @property
    def states(self) -> int:
        """K."""
        return native.Switching(**self.native()).states

    def footprint(self, shape: Sequence[int]) -> int:
        """Bytes that a state fed batches of this shape will use."""
        axes = tuple(int(n) for n in shape)
        first = self.layout == "channels_first"
        if len(axes) < (2 if first else 1):
            raise ShapeError(f"footprint: got shape {axes} with layout {self.layout!r}, expected samples of units")
        places = {"rows": (), "channels_first": axes[2:], "channels_last": axes[1:-1]}[self.layout]
        units = axes[1] if first else axes[-1]
        return int(native.footprint(**self.native(), units=units, shape=places, samples=axes[0]))


def classes_of(given: int | None) -> int:
    """The number of classes, 0 for None. Raises DomainError: neither None nor an integer of at least 1."""
    if given is not None and not whole(given):
        raise DomainError(f"Switching: got classes={given!r}, expected at least 1 or None")
    return int(given or 0)
