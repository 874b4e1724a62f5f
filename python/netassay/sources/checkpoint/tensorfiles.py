"""Safetensors files, read by position into one buffer: no torch, no map, no copy."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from netassay.base import arrays
from netassay.base.arrays import View
from netassay.base.errors import CorruptCheckpoint, UnsupportedLayout
from netassay.sources.checkpoint.tensors import Found, Source, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Buffer:
    """The one place that tensors are read into."""

    def __init__(self) -> None:
        self._bytes: NDArray[np.uint8] = np.empty(0, np.uint8)

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        if self._bytes.size < nbytes:
            self._bytes = np.empty(0, np.uint8)  # the old one goes before the new one comes
            self._bytes = np.empty(nbytes, np.uint8)
        return self._bytes[:nbytes]


class TensorFile(Source):
    """The tensors of a safetensors file."""

    def __init__(self, path: str, buffer: Buffer, function: str) -> None:
        from netassay.sources.checkpoint.safetensors import SafetensorsFile

        self._function, self._buffer = function, buffer
        with self._told():
            self._file = SafetensorsFile(path)
        try:
            if "netassay.state" in self._file.metadata:
                raise UnsupportedLayout(f"{function}: {path}: got a state file of netassay's, expected a checkpoint")
            with self._told():
                self.found = tuple(_found(entry) for entry in self._file)
        except BaseException:
            self._file.close()
            raise
        self.sizes = (self._file.size,)
        marked = [key for key in self._file.metadata if "quant" in key.lower()]
        self.quantised = f"its metadata ({shown(marked[0])})" if marked else ""

    def read(self, found: Found, threads: int | None) -> View:
        entry = found.handle
        out = self._buffer.take(entry.end - entry.begin)
        with self._told():
            self._file.read(entry, out, threads=threads)
        array = out.view(np.dtype(arrays.CARRIERS[found.dtype]).newbyteorder("<")).reshape(found.shape)
        return arrays.weight_view(View(array, found.dtype), f"{self._function}: {found.name}")

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What is wrong with the file, begun by the function that was called."""
        try:
            yield
        except CorruptCheckpoint as error:
            raise CorruptCheckpoint(f"{self._function}: {str(error).removeprefix('safetensors: ')}") from error


def _found(entry: Any) -> Found:
    region: Hashable = (entry.begin, entry.end) if entry.end > entry.begin else entry.name
    return Found(entry.name, entry.dtype, tuple(entry.shape), region, entry)
