"""Tensors of a safetensors file: what its header says, and their bytes when they are asked for.

File = header length n (8 bytes, little-endian) | header, n bytes of JSON | data. The header is checked as a whole by
the native parser, which accepts what the safetensors package accepts, except that a tensor name may occur only once;
Python objects are made one by one, when asked for. Bytes are read by position, never mapped: a file that is shortened
meanwhile is an error, not a signal that ends the process.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import operator
import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from netassay import _core
from netassay.base import arrays, files
from netassay.base import threads as thread_counts
from netassay.base.arrays import View
from netassay.base.errors import CorruptCheckpoint, ShapeError, UnsupportedLayout
from netassay.base.text import shown, shown_path
from netassay.sources.checkpoint.tensors import Buffer, Found, Source

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

#: The format's tags that have a common name; any other stands for itself (F4, F6_E2M3, F8_E8M0, ...).
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor as the header describes it.

    Attributes:
        name: any text, the empty one included.
        dtype: "float32", "bfloat16", "float8_e4m3fn", "int8", ...; a tag without such a name as it stands ("F4").
        shape: extents, outermost first; () for a scalar.
        begin, end: its bytes within the data section, row-major and little-endian.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """A safetensors file, open for reading: a sequence of its tensors in storage order, and a context manager.

    Storage order is by first byte, empty tensors before the one that begins there, else as the header lists them.
    Opening reads and checks the header and nothing else. Reading may happen on several Python threads; closing may not
    happen meanwhile.

    Raises:
        CorruptCheckpoint: naming the file and, where there is one, the tensor; OSError: as the file system gives it.
    """

    _file = -1  # closed

    def __init__(self, path: files.Path) -> None:
        self.path = os.fsdecode(path)
        self._context = f"safetensors: {shown_path(path)}"
        # Without the flag, opening a pipe waits until somebody writes to it.
        self._file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            self._header = _core.io.read_header(self._file, context=self._context)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._header.data_begin + self._header.data_bytes

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The texts of __metadata__; empty where there are none."""
        return dict(self._header.metadata())

    def __len__(self) -> int:
        return len(self._header)

    def __getitem__(self, i: int) -> Entry:
        """The i-th tensor in storage order; negative i counts from the end."""
        at = operator.index(i)
        count = len(self)
        if not -count <= at < count:
            raise IndexError(f"SafetensorsFile: got tensor {at}, expected one of {count}")
        name, tag, shape, begin, end = self._header.entry(at % count)
        return Entry(name, _DTYPES.get(tag, tag), shape, begin, end)

    def __iter__(self) -> Iterator[Entry]:
        return map(self.__getitem__, range(len(self)))

    def find(self, name: str) -> Entry | None:
        """The tensor of this name, or None."""
        try:
            name.encode()
        except UnicodeEncodeError:  # a lone surrogate: no header has one
            return None
        at = self._header.find(name)
        return None if at < 0 else self[at]

    def read(self, entry: Entry, out: NDArray[np.uint8], *, threads: int | None = None) -> None:
        """Read the bytes of a tensor of this file into `out`.

        out: (end - begin,) uint8, contiguous and writable. threads: as everywhere; they share blocks of 256 KiB.

        Raises:
            ShapeError: `out` has another size. CorruptCheckpoint: the file has become shorter. ValueError: the file is
            closed. OSError: as the file system gives it. `out` then holds some of the bytes.
        """
        if self._file < 0:
            raise ValueError(f"SafetensorsFile.read: {shown_path(self.path)} is closed")
        size = entry.end - entry.begin
        if entry.begin < 0 or size < 0 or entry.end > self._header.data_bytes:
            raise ShapeError(
                f"SafetensorsFile.read: got tensor {entry.name[:96]!r}, expected one of {shown_path(self.path)}"
            )
        if out.dtype != "uint8" or out.shape != (size,):
            raise ShapeError(f"SafetensorsFile.read: got {out.dtype} of shape {out.shape}, expected uint8 ({size},)")
        count = thread_counts.resolve(threads)
        context = f"{self._context}: tensor {entry.name[:96]!r}"
        _core.io.read_into(self._file, self._header.data_begin + entry.begin, out, threads=count, context=context)

    def close(self) -> None:
        """Close the file; what the header says stays known."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SafetensorsFile({self.path!r}): {len(self)} tensors, {self.size} bytes"


class TensorFile(Source):
    """The tensors of a safetensors file."""

    def __init__(self, path: str, buffer: Buffer, function: str) -> None:
        self._function, self._buffer = function, buffer
        with self._named_errors():
            self._file = SafetensorsFile(path)
        try:
            if "netassay.state" in self._file.metadata:
                raise UnsupportedLayout(f"{function}: {path}: got a state file of netassay's, expected a checkpoint")
            with self._named_errors():
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
        with self._named_errors():
            self._file.read(entry, out, threads=threads)
        array = out.view(np.dtype(arrays.CARRIERS[found.dtype]).newbyteorder("<")).reshape(found.shape)
        return arrays.weight_view(View(array, found.dtype), f"{self._function}: {found.name}")

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Errors begin with the function that was called."""
        try:
            yield
        except CorruptCheckpoint as error:
            raise CorruptCheckpoint(f"{self._function}: {str(error).removeprefix('safetensors: ')}") from error


def _found(entry: Entry) -> Found:
    region: Hashable = (entry.begin, entry.end) if entry.end > entry.begin else entry.name
    return Found(entry.name, entry.dtype, tuple(entry.shape), region, entry)
