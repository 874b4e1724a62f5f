"""A path -> its tensors: what kind of file it is, which files of a directory, which shards of an index.

What a file is, its first bytes say; its name counts where they say nothing.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from netassay.base.errors import CorruptCheckpoint, UnsupportedLayout
from netassay.base.text import listed
from netassay.sources.checkpoint import shards
from netassay.sources.checkpoint.safetensors import TensorFile
from netassay.sources.checkpoint.tensors import Buffer, Source
from netassay.sources.checkpoint.torchfiles import ARCHIVE, MAGIC, TorchFile

_TORCH = (".pt", ".pth", ".th", ".bin")
#: First bytes of what else is called a model.
_OTHERS = {
    b"GGUF": "a GGUF file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a numpy file",
    b"\x1f\x8b": "a gzip file",
    shards.POINTER: shards.POINTED,
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"\x80": "a pickle that torch has not written",
}
#: What training leaves beside a model.
_BESIDE = re.compile(r"(optimizer|scheduler|training_args|rng_state|scaler|trainer_state)(_\d+)?\.\w+", re.IGNORECASE)


def open_path(path: str, memory: float, function: str) -> Source:
    """The tensors behind a path; `function` begins the messages. Raises as `open_checkpoint`."""
    opener = partial(_file, memory=memory, buffer=Buffer(), function=function)
    directory = os.path.dirname(path)
    if stat.S_ISDIR(os.stat(path).st_mode):  # FileNotFoundError as the system says it
        source, directory = _directory(path, opener, function), path
    elif path.endswith(".index.json"):
        source = shards.of_index(path, opener, function)
    else:
        source = opener(path)
    source.config = _config(directory, function)
    mark = next((key for key in ("quantization_config", "compression_config") if source.config.get(key)), "")
    source.quantised = source.quantised or (f"{mark} in config.json" if mark else "")
    return source


def _config(directory: str, function: str) -> Mapping[str, Any]:
    """What the config.json beside a checkpoint says; empty where there is none to read."""
    path = os.path.join(directory, "config.json")
    try:
        config = shards.read_json(path, function) if os.path.isfile(path) else None
    except (CorruptCheckpoint, UnsupportedLayout, OSError):
        return {}
    return config if isinstance(config, dict) else {}


def _file(path: str, memory: float, buffer: Buffer, function: str) -> Source:
    what = f"{function}: {path}"
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode):
        raise UnsupportedLayout(f"{what}: got no regular file, expected a file or a directory")
    with open(path, "rb") as file:
        head = file.read(512)
    torch = head.startswith(ARCHIVE) or (head.startswith(b"\x80") and MAGIC in head[:32])
    if path.endswith(".safetensors"):
        if torch:
            raise CorruptCheckpoint(f"{what}: got a file of torch's under this name, expected a safetensors file")
        if head[8:9] != b"{" and head.startswith(tuple(_OTHERS)):
            raise _unknown(head, path, what)
        return TensorFile(path, buffer, function)
    if torch:
        return TorchFile(path, buffer, memory, function)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= info.st_size - 8:
        return TensorFile(path, buffer, function)
    raise _unknown(head, path, what)


def _unknown(head: bytes, path: str, what: str) -> Exception:
    kind = next((kind for first, kind in _OTHERS.items() if head.startswith(first)), "")
    kind = "a tar archive" if head[257:262] == b"ustar" else kind
    got = kind or (f"a file that begins with {head[:8]!r}" if head else "an empty file")
    expected = "expected a safetensors file, one that torch has written, or an index.json"
    ours = path.endswith((*_TORCH, ".safetensors")) and not kind
    return (CorruptCheckpoint if ours else UnsupportedLayout)(f"{what}: got {got}, {expected}")


def _directory(path: str, opener: shards.Open, function: str) -> Source:
    names = sorted(name for name in os.listdir(path) if not _BESIDE.fullmatch(name))
    chosen = _choose(names, f"{function}: {path}")
    indexed = chosen[0].endswith(".index.json")
    kinds = (".index.json",) if indexed else (".safetensors", ".index.json", *_TORCH)
    rest = [name for name in names if name not in chosen and name.endswith(kinds)]
    whole = [os.path.join(path, name) for name in chosen]
    source = shards.of_index(whole[0], opener, function) if indexed else shards.together(whole, opener, function)
    if rest or len(chosen) > 1:
        source.notes += (f"of the directory: {listed(chosen)}" + (f"; not {listed(rest)}" if rest else ""),)
    return source


def _choose(names: Sequence[str], what: str) -> list[str]:
    """An index, else the safetensors files, else those of torch; of each the usual name where it is there."""
    safe = [name for name in names if name.endswith(".safetensors")]
    indexes = [name for name in names if name.endswith(".index.json")]
    indexes = [name for name in indexes if "safetensors" in name] or ([] if safe else indexes)
    torch = [name for name in names if name.endswith(_TORCH)]
    for several, usual in (
        (indexes, "model.safetensors.index.json"),
        (safe, "model.safetensors"),
        (torch, "pytorch_model.bin"),
    ):
        if several:
            one = usual in several or several is indexes
            return [usual if usual in several else several[0]] if one else several
    got = (
        "a distributed checkpoint of torch's (not consolidated)" if ".metadata" in names else listed(names) or "nothing"
    )
    raise UnsupportedLayout(f"{what}: got a directory with {got}, expected a checkpoint in it")
