from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

def path_sums(
    nodes: int,
    tails: Int64,
    heads: Int64,
    gains: Float64,
    *,
    semiring: str,
    sources: Int64 | None,
    products: Int64,
) -> Float64: ...
def path_shares(
    nodes: int,
    tails: Int64,
    heads: Int64,
    gains: Float64,
    *,
    sources: Int64 | None,
    products: Int64,
    targets: Int64 | None,
) -> Float64: ...
def path_counts(
    nodes: int,
    tails: Int64,
    heads: Int64,
    gains: NDArray[np.uint64],
    *,
    sources: Int64 | None,
    targets: Int64 | None,
) -> list[bytes]: ...
def path_lengths(
    nodes: int,
    tails: Int64,
    heads: Int64,
    gains: NDArray[np.uint32],
    *,
    sources: Int64 | None,
    targets: Int64 | None,
) -> list[list[bytes]]: ...
def receptive_fields(
    nodes: int,
    tails: Int64,
    heads: Int64,
    extents: Float64,
    strides: Float64,
    *,
    sources: Int64 | None,
) -> tuple[Float64, Float64, NDArray[np.uint8]]: ...
def minimum_vertex_cut(
    nodes: int,
    tails: Int64,
    heads: Int64,
    capacities: Int64,
    target: int,
    *,
    sources: Int64 | None,
) -> tuple[int, Int64]: ...
def minimum_vertex_cuts(
    nodes: int, tails: Int64, heads: Int64, capacities: Int64, *, sources: Int64 | None
) -> Int64: ...
def log2_binomial_sum(n: int, k: int) -> float: ...
def log2_montufar_bound(widths: Sequence[int]) -> float: ...
