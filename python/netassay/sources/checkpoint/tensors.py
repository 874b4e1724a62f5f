"""One tensor as its source describes it, and which elements are whose."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from netassay.base import arrays
from netassay.base.arrays import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bytes of one element; what is not here is never read.
ITEMSIZE = {
    "complex128": 16,
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("bfloat16", "float16", "int16", "uint16"), 2),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "int8", "uint8", "bool"), 1),
}


class Buffer:
    """The one place that tensors are read into."""

    def __init__(self) -> None:
        self._bytes: NDArray[np.uint8] = np.empty(0, np.uint8)

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        if self._bytes.size < nbytes:
            self._bytes = np.empty(0, np.uint8)  # the old one goes before the new one comes
            self._bytes = np.empty(nbytes, np.uint8)
        return self._bytes[:nbytes]


@dataclass(frozen=True, slots=True)
class Found:
    """One tensor, under one of its names.

    Attributes:
        region: equal for two tensors that have the same elements, in whatever order of axes.
        handle: what the source reads it by.
        kind: class name of its module, "" where unknown.
        layer: its module is a layer of torch's and this one of its weights.
        inputs_first: stored (in, out, ...); None where its module does not say.
        refusal: why it cannot be a weight, whatever it looks like; "" where nothing speaks against it.
        counts: its elements are parameters.
        cost: bytes that reading it allocates; None: all of its own.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    region: Hashable
    handle: Any = None
    kind: str = ""
    layer: bool = False
    inputs_first: bool | None = None
    groups: int = 1
    refusal: str = ""
    counts: bool = True
    cost: int | None = None

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * ITEMSIZE.get(self.dtype, 0)


class Source(ABC):
    """Where a checkpoint's tensors are.

    Attributes:
        found: every tensor under every name, in order of storage.
        wrappers: what was stripped; notes: sentences for the coverage.
        sizes: bytes of each file, none where there are none.
        quantised: what says that the source is quantised as a whole, or "".
        config: of the config.json beside it.
        fingerprint: of the source, where it has one of its own; else "".
    """

    found: tuple[Found, ...] = ()
    wrappers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    quantised = ""
    config: Mapping[str, Any] = {}
    fingerprint = ""

    @abstractmethod
    def read(self, found: Found, threads: int | None) -> View:
        """The values of one tensor, valid until the next read."""

    def close(self) -> None:  # noqa: B027 - most hold none
        """Lets go of files."""


def layout(shape: Sequence[int], strides: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The elements that shape and strides reach, in whatever order of axes: (stride, extent), longest stride first.

    Transposing and reshaping change nothing; what is contiguous is one pair.
    """
    pairs: list[tuple[int, int]] = []
    for stride, extent in sorted(zip(strides, shape, strict=True), reverse=True):
        if extent == 1:
            continue
        if pairs and stride > 0 and pairs[-1][0] == stride * extent:
            pairs[-1] = (stride, extent * pairs[-1][1])
        else:
            pairs.append((stride, extent))
    return tuple(pairs)


def describe(name: str, value: Any, *, fresh: bool = False) -> Found:
    """A tensor or numpy array in memory.

    Args:
        fresh: its values are made anew when it is read.
    """
    if not arrays.is_tensor(value):
        shape, dtype = tuple(map(int, value.shape)), value.dtype.name
        region: Hashable = (value.ctypes.data, layout(shape, value.strides), dtype) if value.size else id(value)
        refusal = "a masked array" if hasattr(value, "mask") else ""
        cost = 0 if value.flags.c_contiguous else value.nbytes
        return Found(name, dtype, shape, region, value, refusal=refusal, cost=cost)
    refusal = refusal_of(value)
    if refusal.startswith("lazy"):
        return Found(name, _dtype(value), (0,), id(value), refusal=refusal)
    shape, dtype = _shape(value), _dtype(value)
    if refusal or not value.numel():
        return Found(name, dtype, shape, id(value), value, refusal=refusal)
    start = value.untyped_storage().data_ptr() + value.storage_offset() * value.element_size()
    region = (str(value.device), start, layout(shape, value.stride()), dtype)
    here = value.device.type == "cpu" and value.is_contiguous() and not fresh
    return Found(name, dtype, shape, region, value, cost=0 if here else value.numel() * value.element_size())


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: Any) -> tuple[int, ...]:
    try:
        return tuple(map(int, tensor.shape))
    except (RuntimeError, TypeError, AttributeError):  # nested tensors and some wrappers have none
        return (0,)


def refusal_of(tensor: Any) -> str:
    """Why a torch tensor cannot be read as a dense array of whatever dtype, or ""."""
    from torch.nn.parameter import is_lazy

    if is_lazy(tensor):
        return "lazy: it has no shape before the model has run"
    why = arrays.refusal(tensor, arrays.WEIGHTS)
    return "" if why is None or why.startswith("dtype ") else why
