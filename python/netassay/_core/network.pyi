from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
#: Count, mean, variance, skewness, kurtosis, minimum, maximum, zeros, quantiles, density.
Statistics = tuple[int, float, float, float, float, float, float, int, Float64, NDArray[np.uint64]]
#: Of rows, then of columns: sums of w, |w| and w^2.
Sums = tuple[Float64, Float64, Float64, Float64, Float64, Float64]

def link_weights(
    weights: Sequence[tuple[NDArray[Any], str]], *, quantiles: Sequence[float], threads: int = 0
) -> Statistics: ...
def sums(weight: NDArray[Any], dtype: str, *, threads: int = 0) -> Sums: ...
def link_survey(
    weight: NDArray[Any], dtype: str, *, quantiles: Sequence[float], threads: int = 0
) -> tuple[Statistics, Sums]: ...
def grid() -> Float64: ...
