from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

def spanning_tree(
    weight: NDArray[Any], dtype: str, *, method: str = "automatic", threads: int = 0
) -> tuple[Float64, NDArray[np.uint32], Float64, Float64]: ...
def largest(weight: NDArray[Any], dtype: str, *, threads: int = 0) -> float: ...
def neural_persistence(
    tree: Float64, row_max: Float64, col_max: Float64, *, scale: float, p: float, essential: bool, single: bool
) -> tuple[float, float, float, Float64, float, bool]: ...
def kendall_tau(values: NDArray[np.float32]) -> float: ...
def smirnov(furthest: int, n: int, m: int) -> float: ...
def deep_graph_persistence(
    weights: Sequence[tuple[NDArray[Any], str]], *, p: float, standardize: bool, rescale: bool, threads: int = 0
) -> tuple[float, float, float, Float64, list[int], bool]: ...
def sample_persistence(
    weights: Sequence[tuple[NDArray[Any], str]],
    activations: Sequence[NDArray[np.float32]],
    *,
    standardize: bool,
    joint: bool,
    approximate: bool,
    threads: int = 0,
) -> Float64: ...
