"""Which sample a row is of: how many samples there are, and which half of them each is in."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base import arrays
from netassay.base.errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike

Identities: TypeAlias = NDArray[np.uint64]


def identities(samples: ArrayLike, axes: tuple[int, ...], function: str) -> Identities:
    """(N,) numbers that are equal where the caller's identities are, and as good as random otherwise.

    The same on every machine and in every process.

    Args:
        samples: (N,) integers or strings, one for each item of the leading axis. axes: extents of the row axes.

    Raises:
        ShapeError: not one for each item. DTypeError: neither integers nor strings.
    """
    given = np.asarray(samples.detach().cpu() if arrays.is_tensor(samples) else samples)
    if given.shape != (_items(axes),):
        raise ShapeError(f"{function}: got samples of shape {given.shape}, expected ({_items(axes)},)")
    if given.dtype.kind in "iu":
        return _mixed(given)
    if given.dtype.kind not in "US":
        raise DTypeError(f"{function}: got samples of dtype {given.dtype.name}, expected integers or strings")
    return _hashes([one if isinstance(one, bytes) else one.encode() for one in given.tolist()])


def counted(axes: tuple[int, ...], kept: NDArray[np.bool_] | None, ids: Identities | None) -> int:
    """How many samples keep a row; -1: as many as there are rows that are taken.

    Args:
        axes: extents of the row axes. kept: which rows are, in a line; None: all. ids: None: every item is a sample.
    """
    if ids is None and len(axes) < 2:
        return -1
    items = _items(axes)
    some = np.ones(items, bool) if kept is None else kept.reshape(items, -1).any(axis=1)
    return int(some.sum()) if ids is None else len(np.unique(ids[some]))


def sides(x: NDArray[Any], axes: tuple[int, ...], ids: Identities | None) -> NDArray[np.bool_]:
    """(N,) whether each item is in the second half: a bit of its identity, or of a hash of its bytes."""
    if ids is None:
        items = x.reshape(1, -1) if len(axes) == 0 else x
        ids = _hashes([np.ascontiguousarray(item).tobytes() for item in items])
    second: NDArray[np.bool_] = ids >> np.uint64(63) == 1
    return second


def _items(axes: tuple[int, ...]) -> int:
    return math.prod(axes[:1])


def _hashes(contents: list[bytes]) -> Identities:
    return np.frombuffer(b"".join(blake2b(one, digest_size=8).digest() for one in contents), "<u8").astype(np.uint64)


def _mixed(numbers: NDArray[Any]) -> Identities:
    """SplitMix64 (Steele, Lea, Flood 2014): neighbours come out unrelated."""
    z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
