"""When two distributions are equal."""

from __future__ import annotations

from typing import Any

from netassay.network import Distribution

EPSILON = 2.0**-52


def numbers(state: Distribution) -> list[Any]:
    """What depends on nothing but the values: all but the moments."""
    tensors = state.tensors()
    tensors["moments"] = tensors["moments"][5:]
    tensors["totals"] = tensors["totals"][:4]
    return [array.tolist() for array in tensors.values()]


def near(a: Distribution, b: Distribution) -> None:
    """Equal counts; moments within the rounding of 100 N terms of their magnitude."""
    assert numbers(a) == numbers(b)
    if a.count == 0:
        return
    got, want = a.result(), b.result()
    size = max(abs(got.minimum), abs(got.maximum))
    assert abs(got.mean - want.mean) <= 100 * EPSILON * got.count * size
    assert abs(got.variance - want.variance) <= 100 * EPSILON * got.count * size**2
