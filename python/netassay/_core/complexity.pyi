from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Kernel, stride, padding, dilation, ceil_mode.
Window = tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int], bool]

class Switching:
    def __init__(
        self,
        *,
        thresholds: Sequence[float],
        window: Window | None,
        positions: bool,
        classes: int,
        patterns: bool,
        sums: bool,
    ) -> None: ...
    def update(
        self,
        x: NDArray[Any],
        dtype: str,
        *,
        layout: str,
        labels: NDArray[np.int64] | None,
        memory: float,
        pooled: bool = False,
        threads: int = 0,
    ) -> NDArray[np.float64] | None: ...
    def merge(self, other: Switching) -> None: ...
    def clear(self) -> None: ...
    def keeps_positions(self, shape: Sequence[int]) -> bool: ...
    def forget_positions(self) -> None: ...
    def copy(self) -> Switching: ...
    @property
    def samples(self) -> int: ...
    @property
    def units(self) -> int: ...
    @property
    def states(self) -> int: ...
    @property
    def nbytes(self) -> float: ...
    def channel_bits(self) -> NDArray[np.float64]: ...
    def position_bits(self) -> NDArray[np.float64]: ...
    def counts(self) -> dict[str, Any]: ...
    @staticmethod
    def from_counts(
        *,
        thresholds: Sequence[float],
        window: Window | None,
        positions: bool,
        classes: int,
        patterns: bool,
        sums: bool,
        counts: dict[str, Any],
    ) -> Switching: ...

def footprint(
    *,
    thresholds: Sequence[float],
    window: Window | None,
    positions: bool,
    classes: int,
    patterns: bool,
    sums: bool,
    units: int,
    shape: Sequence[int],
    samples: int,
) -> float: ...
