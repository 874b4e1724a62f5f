"""What every distribution of weights or values begins with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """Moments, extremes and zeros of several numbers; the results that add to it say of which, and in what units."""

    count: int
    mean: float
    variance: float = field(metadata={"minimum": 0})
    skewness: float
    kurtosis: float
    minimum: float
    maximum: float
    zero_share: float = field(metadata={"minimum": 0, "maximum": 1, "finite": True})

    @property
    def std(self) -> float:
        """Standard deviation, in the units of the numbers."""
        return math.sqrt(self.variance)
