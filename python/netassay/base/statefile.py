"""State files: named arrays and a configuration in one safetensors file, written whole or not at all.

File = header length (8 bytes, little-endian) | JSON header, padded with spaces to 8 | data, in name order.
Metadata (strings): netassay.state "1"; kind; config (canonical JSON); blake2b (hex digest of the data);
blake2b.header (hex digest of the canonical header without this entry: safetensors itself guards none of it).
Nothing in a file is executed, and nothing is allocated that its size has not been checked against the file's.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from netassay.base import files
from netassay.base.errors import DTypeError, StateError

__all__ = ["JSON", "load", "save"]

JSON: TypeAlias = "str | int | float | bool | Sequence[JSON] | Mapping[str, JSON] | None"
Array: TypeAlias = npt.NDArray[Any]
Path: TypeAlias = "str | os.PathLike[str]"

_VERSION = "1"
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_TAGS = {dtype: tag for tag, dtype in _DTYPES.items()}
_META = {"netassay.state", "kind", "config", "blake2b", "blake2b.header"}
_MAX_HEADER = 1 << 24  # a parsed header takes some 30 times its bytes; 16 MiB holds 100,000 tensors
_MAX_DIMS = 32


def save(path: Path, *, kind: str, config: Mapping[str, JSON], tensors: Mapping[str, Array]) -> None:
    """Write a state file: afterwards `path` holds the old file or the new one, never part of either.

    tensors: name -> float64, float32, int64 or uint8 array, any shape, strides and byte order.
    Raises: DTypeError (another dtype), ValueError or TypeError (a bad name, or a config that is no JSON),
    OSError (the file system's; the old file is untouched and the temporary is gone).
    """
    arrays = {name: _array(name, tensors[name]) for name in sorted(tensors)}
    files.write(path, (_header(kind, config, arrays), *map(_bytes, arrays.values())))


def load(path: Path, *, kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a state file: (config, tensors), each tensor an array of its own, in the native byte order.

    Raises: StateError, naming the file and the reason, for a file that is no state file, is damaged, or is of
    another version or kind than `kind`; FileNotFoundError and other OSError as the file system gives them.
    """
    shown = os.fspath(path)
    with open(shown, "rb") as file:
        try:
            return _read(file, kind)
        except _Bad as bad:
            raise StateError(f"statefile.load: {shown}: {bad}") from None


class _Bad(Exception):
    """Why a file is refused; load adds the file's name."""


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _array(name: str, value: Array) -> Array:
    if not isinstance(name, str) or not name or name == "__metadata__":
        raise ValueError(f"statefile.save: got tensor name {name!r}, expected text other than '' and '__metadata__'")
    array = np.asarray(value)
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _TAGS:
        expected = "float64, float32, int64 or uint8"
        raise DTypeError(f"statefile.save: got {array.dtype} for tensor {name!r}, expected {expected}")
    return np.asarray(array, dtype=dtype, order="C")


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _header(kind: str, config: Mapping[str, JSON], arrays: Mapping[str, Array]) -> bytes:
    digest, entries, end = hashlib.blake2b(), {}, 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        tag, shape = _TAGS[array.dtype], list(array.shape)
        entries[name] = {"dtype": tag, "shape": shape, "data_offsets": [begin, end]}
        digest.update(_bytes(array))
    meta = {"netassay.state": _VERSION, "kind": kind, "config": _canonical(config)}
    meta["blake2b"] = digest.hexdigest()
    meta["blake2b.header"] = _header_digest(meta, entries)
    text = _canonical({"__metadata__": meta, **entries}).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise ValueError(f"statefile.save: got a header of {len(text)} bytes, expected at most {_MAX_HEADER}")
    return struct.pack("<Q", len(text)) + text


def _header_digest(meta: Mapping[str, str], entries: Mapping[str, object]) -> str:
    guarded = {name: value for name, value in meta.items() if name != "blake2b.header"}
    return hashlib.blake2b(_canonical([guarded, entries]).encode()).hexdigest()


# Reading


def _read(file: io.BufferedReader, kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise _Bad(f"got {size} bytes, expected at least the 8 of a safetensors file")
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    if length > (most := min(size - 8, _MAX_HEADER)):
        raise _Bad(f"got a header length of {length}, expected at most {most}: truncated, or no state file")
    header = _parse(_exactly(file, length), "header")
    meta = _metadata(header.pop("__metadata__", None), kind)
    layout = _layout(header, size - 8 - length)
    if meta["blake2b.header"] != _header_digest(meta, header):
        raise _Bad("the header does not match its digest: the file is damaged")
    digest, tensors = hashlib.blake2b(), {}
    for name, dtype, shape in layout:
        array = np.empty(math.prod(shape), dtype)
        view = _bytes(array)
        if file.readinto(view) != len(view):
            raise _Bad(f"the file ends inside tensor {name!r}")
        digest.update(view)
        tensors[name] = _native(array, shape)
    if meta["blake2b"] != digest.hexdigest():
        raise _Bad("the data does not match its digest: the file is damaged")
    return _parse(meta["config"].encode(), "config"), tensors


def _native(array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return array.reshape(shape).astype(array.dtype.newbyteorder("="), copy=False)
    except ValueError as error:  # (0, 2^62): no byte long, and yet too large for numpy
        raise _Bad(f"got shape {shape}: {error}") from None


def _exactly(file: io.BufferedReader, count: int) -> bytes:
    got = file.read(count)
    if len(got) != count:
        raise _Bad(f"got {len(got)} bytes, expected {count}: the file is truncated")
    return got


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(result := dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _parse(text: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _Bad(f"the {what} is no JSON object ({error})") from None
    if not isinstance(value, dict):
        raise _Bad(f"got a {what} of type {type(value).__name__}, expected a JSON object")
    return value


def _metadata(meta: object, kind: str) -> dict[str, str]:
    if not isinstance(meta, dict) or "netassay.state" not in meta:
        raise _Bad("got a safetensors file without netassay metadata, expected a state file")
    if (version := meta["netassay.state"]) != _VERSION:
        raise _Bad(f"got state version {version!r}, expected {_VERSION!r}")
    if set(meta) != _META or not all(isinstance(value, str) for value in meta.values()):
        raise _Bad(f"got metadata {sorted(map(str, meta))}, expected the strings {sorted(_META)}")
    if meta["kind"] != kind:
        raise _Bad(f"got a state of kind {meta['kind']!r}, expected {kind!r}")
    return meta


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _layout(header: Mapping[str, Any], data: int) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """(name, dtype, shape) in file order, once they are known to cover the data section exactly."""
    result, end = [], 0
    for name in sorted(header):
        entry = header[name]
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise _Bad(f"tensor {name!r}: got no entry of dtype, shape and data_offsets")
        shape, offsets, tag = entry["shape"], entry["data_offsets"], entry["dtype"]
        if not isinstance(tag, str) or tag not in _DTYPES:
            raise _Bad(f"tensor {name!r}: got dtype {tag!r}, expected one of {', '.join(_DTYPES)}")
        if not isinstance(shape, list) or len(shape) > _MAX_DIMS or not all(map(_count, shape)):
            raise _Bad(f"tensor {name!r}: got no shape of at most {_MAX_DIMS} counts")
        begin, end = end, end + math.prod(shape) * _DTYPES[tag].itemsize
        if offsets != [begin, end]:
            raise _Bad(f"tensor {name!r}: got offsets {offsets!r}, expected {[begin, end]} for its shape")
        if end > data:
            raise _Bad(f"tensor {name!r}: ends at {end} of {data} bytes of data: the file is truncated")
        result.append((name, _DTYPES[tag], tuple(shape)))
    if end != data:
        raise _Bad(f"got {data} bytes of data, expected {end}")
    return result
