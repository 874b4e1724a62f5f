"""Files that torch.save has written: .pt, .pth, .th, .bin.

Read by torch, with weights_only=True, once the file has been looked through: an archive must hold its records as they
are (what is deflated could be of any size), its pickle must build no more than it holds (`pickles`), and the storages
that it claims must be there. Names and sizes come from a first pass that allocates nothing. Then an archive is mapped;
the older format cannot be, and is in memory as a whole. A map that torch has made dies with its file (SIGBUS).
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from netassay.base import arrays
from netassay.base.arrays import View
from netassay.base.errors import CorruptCheckpoint, LimitExceeded, UnsupportedLayout
from netassay.base.text import listed, shown
from netassay.sources.checkpoint import pickles, statedict, tensors
from netassay.sources.checkpoint.tensors import Found, Source

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
ARCHIVE = b"PK\x03\x04"
#: Bytes of a map that are touched before it is made anew: pages that were read count as taken until then.
_TOUCHED = 1 << 27


class TorchFile(Source):
    """The tensors of a file of torch's."""

    def __init__(self, path: str, memory: float, function: str) -> None:
        self.path, self._what, self._torch = path, f"{function}: {path}", _torch(path, function)
        self.sizes = (os.path.getsize(path),)
        with open(path, "rb") as file:
            self._mapped = file.read(4) == ARCHIVE
            scanned = (_archive if self._mapped else _legacy)(file, self._what, memory)
        self._state: Mapping[str, Any] | None = None
        self._touched = 0
        loaded = self._load("meta")
        self.wrappers, state = statedict.unwrap(loaded, self._what)
        claims = _claims(scanned.root, self.wrappers)
        self.found = tuple(_place(name, value, claims.get(name)) for name, value in statedict.named(state).items())
        self.notes = statedict.left_out(loaded, self.wrappers, state)
        self.resident = 0 if self._mapped else sum(scanned.storages.values())
        if self.resident:
            self.notes += (f"{os.path.basename(path)} has the older format of torch: all of it is in memory at once",)
        self._afford(scanned, claims, memory)

    def _afford(self, scanned: pickles.Result, claims: Mapping[str, pickles.Claim], memory: float) -> None:
        """Nothing has been allocated yet."""
        for name, claim in claims.items():
            if claim.nbytes > max(memory, claim.storage.nbytes):
                took = f"tensor {name!r} takes {claim.nbytes} bytes, {claim.storage.nbytes} of them stored"
                raise LimitExceeded(f"{self._what}: {took}; the limit is {memory:.0f}")
        if (taken := scanned.beyond + self.resident) > memory:
            raise LimitExceeded(f"{self._what}: its tensors take {taken} bytes, the limit is {memory:.0f}")

    def _load(self, device: str) -> Any:
        try:
            return self._torch.load(self.path, map_location=device, weights_only=True, mmap=self._mapped)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # of many types, for a damaged file
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise CorruptCheckpoint(f"{self._what}: torch cannot load it ({shown(reason, 200)})") from error

    def read(self, found: Found, threads: int | None) -> View:
        if self._state is None or (self._mapped and self._touched > _TOUCHED):
            self._state = None  # the old map goes before the new one comes
            self._state = statedict.named(statedict.unwrap(self._load("cpu"), self._what)[1])
            self._touched = 0
        self._touched += found.nbytes
        tensor = self._state.get(found.handle)
        now = None if tensor is None else (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        if now != (found.shape, found.dtype):
            raise CorruptCheckpoint(f"{self._what}: tensor {found.name!r} has changed since the file was opened")
        return arrays.weight_view(tensor, f"{self._what}: {found.name}")

    def close(self) -> None:
        """Lets go of the file; the next read takes it up again."""
        self._state = None


def _torch(path: str, function: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{function}: {path} is a file of torch's, and torch cannot be imported ({error}): install netassay[torch]"
        ) from error
    return torch


def _claims(root: Any, keys: Iterable[str]) -> dict[str, pickles.Claim]:
    """What the tensors of the state_dict under `keys` claim."""
    for key in keys:
        root = root.table.get(key) if isinstance(root, pickles.Box) else None
    table = root.table if isinstance(root, pickles.Box) else {}
    return {name: claim for name, claim in table.items() if isinstance(claim, pickles.Claim)}


def _place(name: str, tensor: Any, claim: pickles.Claim | None) -> Found:
    """A tensor of the pass without values, and where it lies in the file, which decides what is the same."""
    found = tensors.describe(name, tensor)
    refusal = "" if claim is not None and found.refusal.startswith("meta tensor") else found.refusal
    region: Hashable = id(tensor)
    if claim is not None and found.elements and not refusal:
        elements = tensors.layout(found.shape, tensor.stride())
        region = (claim.storage.key, claim.offset, elements, found.dtype)
    return replace(found, refusal=refusal, region=region, handle=name, cost=None)


def _most(memory: float) -> int:
    """Bytes of a pickle that may be looked through: the machine takes that much memory for each."""
    return int(min(pickles.MOST, max(1 << 20, memory / 256)))


def _archive(file: BinaryIO, what: str, memory: float) -> pickles.Result:
    """A zip archive: every record as it is, and as long as the storage that it is for."""
    root, records = _records(file, what)
    scanned = pickles.scan(io.BytesIO(_record(file, records[f"{root}/data.pkl"], what, memory)), what)
    for key, claimed in scanned.storages.items():
        record = records.get(f"{root}/data/{key}")
        if record is None or record.file_size < claimed:
            got = "none" if record is None else f"{record.file_size} bytes"
            raise CorruptCheckpoint(f"{what}: got {got} for storage {key!r}, expected {claimed} bytes")
    return scanned


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
    file.seek(record.header_offset)
    header = file.read(30)
    if len(header) == 30:
        name, extra = struct.unpack("<HH", header[26:])
        file.seek(name + extra, os.SEEK_CUR)
    return file.read(record.file_size)


def _legacy(file: BinaryIO, what: str, memory: float) -> pickles.Result:
    """The format before archives: pickles, the last of them a list of storages, then each one's length and bytes."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    stream = io.BytesIO(file.read(_most(memory)))
    for _ in ("magic number", "version", "machine"):
        pickles.scan(stream, what)
    scanned, keys = pickles.scan(stream, what), pickles.scan(stream, what).root
    if not isinstance(keys, pickles.Box) or sorted(map(str, keys.items)) != sorted(scanned.storages):
        raise CorruptCheckpoint(f"{what}: its list of storages is not that of its tensors")
    end = stream.tell() + sum(8 + claimed for claimed in scanned.storages.values())
    if end > size:
        raise CorruptCheckpoint(
            f"{what}: its tensors claim {end} bytes, the file has {size}: truncated, or no honest file"
        )
    return scanned
