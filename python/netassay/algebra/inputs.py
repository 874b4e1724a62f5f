"""Edges, gains and nodes as the native functions take them, and what bad ones are told."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from netassay.base.errors import DomainError, DTypeError, ShapeError

Float64: TypeAlias = NDArray[np.float64]
Int64: TypeAlias = NDArray[np.int64]
#: Nodes by their numbers.
Nodes: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]
#: (nodes, tails, heads).
Graph: TypeAlias = tuple[int, Int64, Int64]


def graph_of(edges: ArrayLike, nodes: int | None, function: str) -> Graph:
    """(nodes, tails, heads)."""
    array = np.asarray(edges)
    if array.size == 0 and array.ndim < 3:
        array = np.empty((0, 2), np.int64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ShapeError(f"{function}: got edges of shape {array.shape}, expected (m, 2)")
    array = _integers(array, function, "edges")
    tails, heads = (np.ascontiguousarray(array[:, end]) for end in (0, 1))
    if nodes is None:
        return (1 + int(max(tails.max(), heads.max())) if len(tails) else 0), tails, heads
    return index(nodes, function, "nodes"), tails, heads


def weighted(edges: ArrayLike, capacities: ArrayLike, function: str) -> tuple[Graph, Int64]:
    array = np.asarray(capacities)
    if array.ndim != 1:
        raise ShapeError(f"{function}: got capacities of shape {array.shape}, expected (nodes,)")
    capacity = np.ascontiguousarray(_integers(array, function, "capacities"))
    return graph_of(edges, len(capacity), function), capacity


def _integers(array: NDArray[Any], function: str, what: str) -> Int64:
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{function}: got {what} of dtype {array.dtype.name}, expected integers")
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise DomainError(f"{function}: got {array.max()} among {what}, expected integers of 63 bits")
    return array.astype(np.int64, copy=False)


def index(value: int, function: str, what: str) -> int:
    try:
        index = operator.index(value)
    except TypeError:
        raise DTypeError(f"{function}: got {what} {value!r}, expected an integer") from None
    if not 0 <= index < 2**63:
        raise DomainError(f"{function}: got {what} {index}, expected 0 to 2^63 - 1")
    return index


@overload
def node_list(nodes: Nodes, function: str, what: str) -> Int64: ...
@overload
def node_list(nodes: Nodes | None, function: str, what: str) -> Int64 | None: ...
def node_list(nodes: Nodes | None, function: str, what: str) -> Int64 | None:
    if nodes is None:
        return None
    array = np.asarray(nodes)
    if array.ndim != 1:
        raise ShapeError(f"{function}: got {what} of shape {array.shape}, expected a list of nodes")
    return np.ascontiguousarray(_integers(array, function, what))


def numbers(gains: ArrayLike | None, edges: int, one: float, function: str) -> Float64:
    """(m,) float64, contiguous."""
    if gains is None:
        return np.full(edges, one)
    array = np.asarray(gains)
    if array.ndim != 1:
        raise ShapeError(f"{function}: got gains of shape {array.shape}, expected (m,)")
    return _real(array, function)


def _real(array: NDArray[Any], function: str) -> Float64:
    if array.dtype.kind not in "iuf" and array.size:
        raise DTypeError(f"{function}: got gains of dtype {array.dtype.name}, expected real numbers")
    return np.ascontiguousarray(array, dtype=np.float64)


def pairs(gains: ArrayLike | None, function: str) -> tuple[Float64, Float64]:
    """Extents and strides."""
    array = np.empty((0, 0)) if gains is None else np.asarray(gains)
    if array.size == 0 and gains is not None:
        array = np.empty((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        got = "no gains" if gains is None else f"gains of shape {array.shape}"
        raise ShapeError(f"{function}: got {got} for receptive fields, expected (m, 2): extents and strides")
    return _real(array[:, 0], function), _real(array[:, 1], function)


def whole(gains: ArrayLike | None, edges: int, kind: type[np.unsignedinteger[Any]], function: str) -> NDArray[Any]:
    """(m,) of an unsigned kind, contiguous; ones where none are given."""
    if gains is None:
        return np.ones(edges, kind)
    array = np.asarray(gains)
    if array.ndim != 1:
        raise ShapeError(f"{function}: got gains of shape {array.shape}, expected (m,)")
    if array.size == 0:
        return np.empty(0, kind)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{function}: got gains of dtype {array.dtype.name}, expected integers")
    most = np.iinfo(kind).max
    if array.min() < 0 or array.max() > most:
        raise DomainError(f"{function}: got gains from {array.min()} to {array.max()}, expected 0 to {most}")
    return np.ascontiguousarray(array, dtype=kind)


def integer(limbs: bytes) -> int:
    return int.from_bytes(limbs, "little")
