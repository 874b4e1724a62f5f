"""Files that torch.save has written: .pt, .pth, .th, .bin. They are read without torch.

An archive must hold its records as they are (what is deflated could be of any size), the pickle must build no more
than it holds (`pickles`), and the storages that it claims must be there; the older format is pickles with the storages
behind them. What the pickle says of a tensor is where its bytes lie: they are read by position when they are asked
for, never mapped, so a file that is shortened meanwhile is an error, not a signal that ends the process.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Hashable, Mapping
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from netassay import _core
from netassay.base import arrays
from netassay.base import threads as thread_counts
from netassay.base.arrays import View
from netassay.base.errors import CorruptCheckpoint, LimitExceeded, UnsupportedLayout
from netassay.base.text import listed
from netassay.sources.checkpoint import pickles, statedict, tensors
from netassay.sources.checkpoint.claims import Box, Claim, Other, Result
from netassay.sources.checkpoint.tensors import Buffer, Found, Source

#: The number that begins the older format, as a pickle of any protocol has it.
MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
ARCHIVE = b"PK\x03\x04"


class Scanned(NamedTuple):
    """What the pickle of a file builds, and where each of its storages begins."""

    result: Result
    places: dict[str, int]
    order: Literal["<", ">"] = "<"


class TorchFile(Source):
    """The tensors of a file of torch's."""

    def __init__(self, path: str, buffer: Buffer, memory: float, function: str) -> None:
        self.path, self._what, self._buffer = path, f"{function}: {path}", buffer
        self._file = os.open(path, os.O_RDONLY)
        try:
            with open(self._file, "rb", closefd=False) as file:
                self._open(file, memory)
        except BaseException:
            self.close()
            raise

    def _open(self, file: BinaryIO, memory: float) -> None:
        self.sizes = (os.fstat(self._file).st_size,)
        archive = file.read(4) == ARCHIVE
        scanned, self._places, self._order = (_archive if archive else _legacy)(file, self._what, memory)
        loaded = _plain(scanned.root)
        self.wrappers, state = statedict.unwrap(loaded, self._what)
        named = statedict.named(state)
        self._afford(scanned, named, memory)
        self.found = tuple(_found(name, value) for name, value in named.items())
        self.notes = statedict.left_out(loaded, self.wrappers, state)

    def _afford(self, scanned: Result, named: Mapping[str, Any], memory: float) -> None:
        """Nothing has been allocated yet."""
        for name, claim in named.items():
            if isinstance(claim, Claim) and claim.nbytes > max(memory, claim.storage.nbytes):
                took = f"tensor {name!r} takes {claim.nbytes} bytes, {claim.storage.nbytes} of them stored"
                raise LimitExceeded(f"{self._what}: {took}; the limit is {memory:.0f}")
        if scanned.beyond > memory:
            raise LimitExceeded(f"{self._what}: its tensors take {scanned.beyond} bytes, the limit is {memory:.0f}")

    def read(self, found: Found, threads: int | None) -> View:
        claim: Claim = found.handle
        out = self._buffer.take(claim.span)
        count, context = thread_counts.resolve(threads), f"{self._what}: tensor {found.name[:96]!r}"
        start = self._places[claim.storage.key] + claim.offset
        _core.io.read_into(self._file, start, out, threads=count, context=context)
        values = out.view(np.dtype(arrays.CARRIERS[found.dtype]).newbyteorder(self._order))
        strides = [values.itemsize * step for step in claim.stride]
        array = np.lib.stride_tricks.as_strided(values, claim.shape, strides, writeable=False)
        return arrays.weight_view(View(array, found.dtype), f"{self._what}: {found.name}")

    def close(self) -> None:
        """Closes the file."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def _plain(root: Any) -> Any:
    """What a pickle builds, its dicts as dicts of texts to values; each once, however often it occurs."""
    boxes = _boxes(root)
    made: dict[int, dict[str, Any]] = {id(box): {} for box in boxes}
    for box in boxes:
        made[id(box)].update((key, made.get(id(value), value)) for key, value in box.table.items())
    return made.get(id(root), root)


def _boxes(root: Any) -> list[Box]:
    """The dicts that can be reached through dicts."""
    seen: dict[int, Box] = {}
    waiting = [root]
    while waiting:
        box = waiting.pop()
        if isinstance(box, Box) and box.kind == "dict" and id(box) not in seen:
            seen[id(box)] = box
            waiting += box.table.values()
    return list(seen.values())


def _found(name: str, value: Claim | Other) -> Found:
    """A tensor, and where it lies in the file, which decides what is the same."""
    if isinstance(value, Other):
        return Found(name, value.dtype, value.shape, id(value), refusal=value.refusal)
    region: Hashable = id(value)
    if value.nbytes:
        elements = tensors.layout(value.shape, value.stride)
        region = (value.storage.key, value.offset, elements, value.dtype)
    return Found(name, value.dtype, value.shape, region, value, cost=value.span)


def _most(memory: float) -> int:
    """Bytes of a pickle that may be looked through: the machine takes that much memory for each."""
    return int(min(pickles.MOST, max(1 << 20, memory / 256)))


def _archive(file: BinaryIO, what: str, memory: float) -> Scanned:
    """A zip archive: every record as it is, and as long as the storage that it is for."""
    root, records = _records(file, what)
    scanned = pickles.scan(io.BytesIO(_record(file, records[f"{root}/data.pkl"], what, memory)), what)
    places = {}
    for key, claimed in scanned.storages.items():
        record = records.get(f"{root}/data/{key}")
        if record is None or record.file_size < claimed:
            got = "none" if record is None else f"{record.file_size} bytes"
            raise CorruptCheckpoint(f"{what}: got {got} for storage {key!r}, expected {claimed} bytes")
        places[key] = _begin(file, record, what)
    order = records.get(f"{root}/byteorder")
    big = order is not None and _record(file, order, what, memory) == b"big"
    return Scanned(scanned, places, ">" if big else "<")


def _records(file: BinaryIO, what: str) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """The folder and the records of an archive that torch may have written: none compressed, none over another."""
    try:
        with zipfile.ZipFile(file) as archive:
            records, comment = archive.infolist(), archive.comment
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OverflowError, struct.error) as error:
        raise CorruptCheckpoint(f"{what}: a damaged or truncated archive ({error})") from None
    root = _root([record.filename for record in records], what)
    deflated = next(
        (r for r in records if r.compress_type != zipfile.ZIP_STORED or r.compress_size != r.file_size), None
    )
    if deflated is not None:
        raise CorruptCheckpoint(
            f"{what}: record {deflated.filename!r} is compressed, {deflated.compress_size} bytes for"
            f" {deflated.file_size}; torch stores records as they are, and nothing is inflated here"
        )
    by_name = {record.filename: record for record in records}
    total, first = sum(record.file_size for record in records), min(record.header_offset for record in records)
    if comment or first != 0 or len(by_name) != len(records) or total > os.fstat(file.fileno()).st_size:
        raise CorruptCheckpoint(f"{what}: an archive that torch has not written: records overlap, or occur twice")
    return root, by_name


def _root(names: list[str], what: str) -> str:
    top, *others = sorted({name.partition("/")[0] for name in names}) or [""]
    if f"{top}/constants.pkl" in names:
        raise UnsupportedLayout(f"{what}: got a TorchScript archive, expected a state_dict: save model.state_dict()")
    if others or f"{top}/data.pkl" not in names:
        raise UnsupportedLayout(f"{what}: got a zip archive of {listed(names)}, expected one that torch has written")
    return top


def _record(file: BinaryIO, record: zipfile.ZipInfo, what: str, memory: float) -> bytes:
    if record.file_size > (most := _most(memory)):
        raise LimitExceeded(f"{what}: its pickle has {record.file_size} bytes, the limit is {most}")
    file.seek(_begin(file, record, what))
    return file.read(record.file_size)


def _begin(file: BinaryIO, record: zipfile.ZipInfo, what: str) -> int:
    """Where the bytes of a record begin."""
    file.seek(record.header_offset)
    header = file.read(30)
    if len(header) != 30 or not header.startswith(ARCHIVE):
        raise CorruptCheckpoint(f"{what}: a damaged or truncated archive (record {record.filename!r} is not there)")
    name, extra = struct.unpack("<HH", header[26:])
    return int(record.header_offset) + 30 + int(name) + int(extra)


def _legacy(file: BinaryIO, what: str, memory: float) -> Scanned:
    """The format before archives: pickles, the last of them a list of storages, then each one's length and bytes."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    stream = io.BytesIO(file.read(_most(memory)))
    for _ in ("magic number", "version"):
        pickles.scan(stream, what)
    machine = pickles.scan(stream, what).root
    scanned, keys = pickles.scan(stream, what), pickles.scan(stream, what).root
    if not isinstance(keys, Box) or sorted(map(str, keys.items)) != sorted(scanned.storages):
        raise CorruptCheckpoint(f"{what}: its list of storages is not that of its tensors")
    end = stream.tell() + sum(8 + claimed for claimed in scanned.storages.values())
    if end > size:
        raise CorruptCheckpoint(
            f"{what}: its tensors claim {end} bytes, the file has {size}: truncated, or no honest file"
        )
    big = isinstance(machine, Box) and machine.table.get("little_endian") is False
    places, at = {}, stream.tell()
    for key in map(str, keys.items):
        places[key] = at + 8
        at += 8 + scanned.storages[key]
    return Scanned(scanned, places, ">" if big else "<")
