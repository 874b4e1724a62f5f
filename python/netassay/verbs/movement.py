"""How far the weights themselves have moved between two checkpoints, one pair of them in memory at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netassay.base.arrays import View, widened
from netassay.report.compare import Comparison, Movement, Pair
from netassay.sources.checkpoint.checkpoint import Checkpoint, Stored

#: The rank of a change is of its singular values: up to this width unless it is asked for.
WIDTH = 1024
#: Spacing of the numbers beside 1 in each format; of whole numbers none is lost.
_EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
_EPS |= {"float8_e4m3fn": 2.0**-3, "float8_e5m2": 2.0**-2}
_BLOCK = 1 << 22


def movements(found: Comparison, a: Checkpoint, b: Checkpoint, *, rank: bool, threads: int) -> dict[int, Movement]:
    """The movement of every pair whose weights have one shape, by its place among the layers."""
    ours, theirs = ({stored.layer: stored for stored in side.weights} for side in (a, b))
    made = {}
    for place, pair in enumerate(found.layers):
        one, other = _of(pair.a, ours), _of(pair.b, theirs)
        if one is not None and other is not None and one.shape == other.shape:
            made[place] = movement(a.read(one, threads=threads), b.read(other, threads=threads), rank=rank)
    return made


def _of(row: Any, several: dict[str, Stored]) -> Stored | None:
    return None if row is None else several.get(row.name)


def movement(a: View, b: View, *, rank: bool) -> Movement:
    """How far a weight has moved. `rank`: also of a difference wider than `WIDTH`."""
    first, second = (view.array.reshape(view.array.shape[0], -1) for view in (a, b))
    norm_a = norm_b = product = moved = largest = 0.0
    rows = max(1, _BLOCK // first.shape[1])
    for start in range(0, first.shape[0], rows):
        x, y = (_double(View(m[start : start + rows], v.dtype)) for m, v in ((first, a), (second, b)))
        largest = max(largest, float(np.abs(x).max()), float(np.abs(y).max()))
        moved += float(np.square(y - x).sum())
        norm_a += float(np.square(x).sum())
        norm_b += float(np.square(y).sum())
        product += float((x * y).sum())
    if not math.isfinite(moved + norm_a + norm_b):
        return Movement(None, None, None)
    lengths = math.sqrt(norm_a) * math.sqrt(norm_b)
    relative = math.sqrt(moved / norm_a) if norm_a else None if moved else 0.0
    cosine = max(-1.0, min(1.0, product / lengths)) if lengths else None
    counted = rank or min(first.shape) <= WIDTH
    eps = max(_EPS.get(view.dtype, 2.0**-52) for view in (a, b))
    return Movement(relative, cosine, _rank(first, second, a, b, eps * largest) if counted else None)


def _rank(first: NDArray[Any], second: NDArray[Any], a: View, b: View, rounding: float) -> int:
    difference = _double(View(second, b.dtype)) - _double(View(first, a.dtype))
    if not difference.any():
        return 0
    floor = rounding * sum(map(math.sqrt, difference.shape))
    return int(np.count_nonzero(np.linalg.svd(difference, compute_uv=False) > floor))


def _double(view: View) -> NDArray[np.float64]:
    return widened(view).astype(np.float64)


def moved(found: Comparison, by_place: dict[int, Movement]) -> tuple[Pair, ...]:
    """The pairs of a comparison, with the movement of each."""
    return tuple(replace(pair, movement=by_place.get(place)) for place, pair in enumerate(found.layers))
