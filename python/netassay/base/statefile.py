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

from netassay import _core
from netassay.base import files
from netassay.base.errors import CorruptCheckpoint, DTypeError, StateError
from netassay.base.text import shown_path

__all__ = ["JSON", "load", "save"]

JSON: TypeAlias = "str | int | float | bool | Sequence[JSON] | Mapping[str, JSON] | None"
Array: TypeAlias = npt.NDArray[Any]
Path: TypeAlias = "str | os.PathLike[str]"
_Entry: TypeAlias = tuple[str, str, tuple[int, ...], int, int]

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
    shown = shown_path(path)
    with open(path, "rb") as file:
        try:
            return _read(file, shown, kind)
        except _Bad as bad:
            raise StateError(f"statefile.load: {shown}: {bad}") from None
        except CorruptCheckpoint as bad:
            raise StateError(str(bad)) from None


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


def _read(file: io.BufferedReader, shown: str, kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    header = _core.io.read_header(file.fileno(), most=_MAX_HEADER, context=f"statefile.load: {shown}")
    meta = _metadata(header.metadata(), kind)
    entries = [header.entry(i) for i in range(len(header))]
    layout = _layout(entries)
    if meta["blake2b.header"] != _header_digest(meta, _guarded(entries)):
        raise _Bad("the header does not match its digest: the file is damaged")
    file.seek(header.data_begin)
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
    return _config(meta["config"]), tensors


def _native(array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return array.reshape(shape).astype(array.dtype.newbyteorder("="), copy=False)
    except ValueError as error:  # (0, 2^62): no byte long, and yet too large for numpy
        raise _Bad(f"got shape {shape}: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(result := dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _config(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _Bad(f"the config is no JSON object ({error})") from None
    if not isinstance(value, dict):
        raise _Bad(f"got a config of type {type(value).__name__}, expected a JSON object")
    return value


def _metadata(pairs: list[tuple[str, str]], kind: str) -> dict[str, str]:
    meta = dict(pairs)
    if "netassay.state" not in meta:
        raise _Bad("got a safetensors file without netassay metadata, expected a state file")
    if (version := meta["netassay.state"]) != _VERSION:
        raise _Bad(f"got state version {version!r}, expected {_VERSION!r}")
    if set(meta) != _META or len(pairs) != len(_META):
        raise _Bad(f"got metadata {sorted(key for key, _ in pairs)}, expected {sorted(_META)}, each once")
    if meta["kind"] != kind:
        raise _Bad(f"got a state of kind {meta['kind']!r}, expected {kind!r}")
    return meta


def _guarded(entries: Sequence[_Entry]) -> dict[str, object]:
    """What the digest of the header covers, as _header wrote it."""
    return {
        name: {"dtype": tag, "shape": list(shape), "data_offsets": [begin, end]}
        for name, tag, shape, begin, end in entries
    }


def _layout(entries: Sequence[_Entry]) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """(name, dtype, shape) in file order, which is that of names; the native parser has checked the rest."""
    result: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = []
    for name, tag, shape, begin, _ in entries:
        if tag not in _DTYPES:
            raise _Bad(f"tensor {name!r}: got dtype {tag!r}, expected one of {', '.join(_DTYPES)}")
        if len(shape) > _MAX_DIMS:
            raise _Bad(f"tensor {name!r}: got {len(shape)} axes, expected at most {_MAX_DIMS}")
        if result and name < result[-1][0]:
            raise _Bad(
                f"tensor {name!r}: got offset {begin} after tensor {result[-1][0]!r}, expected data in name order"
            )
        result.append((name, _DTYPES[tag], shape))
    return result
