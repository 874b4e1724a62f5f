"""Safetensors files: read as the package reads them, refused where it refuses them, and never trusted."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netassay.base.errors import CorruptCheckpoint, DomainError, NetassayError, ShapeError
from netassay.sources.checkpoint.safetensors import Entry, SafetensorsFile
from python.full import count
from python.headers import BITS, Maker, repeated_names

safetensors = pytest.importorskip("safetensors")
numpy_format = pytest.importorskip("safetensors.numpy")

Header = dict[str, Any]


def packed(header: Header | str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def described(dtype: str, shape: list[Any], begin: Any, end: Any) -> Header:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def content(file: SafetensorsFile, entry: Entry, threads: int | None = 1) -> bytes:
    out = np.empty(entry.end - entry.begin, np.uint8)
    file.read(entry, out, threads=threads)
    return out.tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


# ---- what a file says ----


def test_every_dtype_and_shape_reads_as_the_package_reads_it(path: Path) -> None:
    g = np.random.default_rng(3)
    arrays: dict[str, np.ndarray] = {
        f"{np.dtype(dtype).name}/{'x'.join(map(str, shape))}": g.integers(0, 2, shape).astype(dtype)
        for dtype in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "c8")
        for shape in [(), (1,), (0, 3), (5, 7), (2, 3, 5)]
    }
    numpy_format.save_file(arrays, path, metadata={"format": "np", "ä": "\n"})
    with SafetensorsFile(path) as file:
        assert len(file) == len(arrays)
        assert file.metadata == {"format": "np", "ä": "\n"}
        assert file.size == path.stat().st_size
        for entry in file:
            expected = arrays[entry.name]
            assert (entry.dtype, entry.shape) == (expected.dtype.name, expected.shape)
            assert content(file, entry) == expected.tobytes()


def test_formats_without_a_numpy_type_keep_their_name_or_their_tag(path: Path) -> None:
    names = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F4": "F4", "F8_E8M0": "F8_E8M0"}
    end, header = 0, {}
    for tag, bits in BITS.items():
        begin, end = end, end + bits
        header[tag] = described(tag, [2, 4], begin, end)
    path.write_bytes(packed(header, bytes(end)))
    with SafetensorsFile(path) as file:
        assert {e.name: e.dtype for e in file if e.name in names} == names
        assert {e.name: 8 * (e.end - e.begin) // 8 for e in file} == BITS


def test_tensors_come_in_storage_order_empty_ones_first_and_are_found_by_name(path: Path) -> None:
    header = {
        "z": described("U8", [2], 0, 2),
        "late": described("U8", [0], 2, 2),
        "b": described("U8", [3], 2, 5),
        "early": described("U8", [7, 0], 0, 0),
        "also early": described("U8", [0], 0, 0),
        "": described("U8", [0], 5, 5),
    }
    path.write_bytes(packed(header, b"12345"))
    with SafetensorsFile(path) as file:
        assert [e.name for e in file] == ["early", "also early", "z", "late", "b", ""]
        assert [file[i] for i in range(-6, 6)] == [*file, *file]
        assert all(file.find(e.name) == e for e in file)
        assert file.find("c") is None
        assert file.find("\ud800") is None
        for i in (6, -7):
            with pytest.raises(IndexError, match="expected one of 6"):
                file[i]


@pytest.mark.parametrize("threads", [1, 2, 3, 7, None])
@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 262_145, 3_000_001])
def test_bytes_do_not_depend_on_the_number_of_threads(path: Path, size: int, threads: int | None) -> None:
    before, data = b"123", np.random.default_rng(size).bytes(size)
    path.write_bytes(
        packed({"a": described("U8", [3], 0, 3), "b": described("U8", [size], 3, 3 + size)}, before + data)
    )
    with SafetensorsFile(path) as file:
        entry = file.find("b")
        assert entry is not None
        assert content(file, entry, threads) == data


def test_several_python_threads_read_one_file_at_once(path: Path) -> None:
    arrays = {str(i): np.full(300_000, i, np.int32) for i in range(8)}
    numpy_format.save_file(arrays, path)
    wrong: list[str] = []
    with SafetensorsFile(path) as file:

        def run(entry: Entry) -> None:
            for _ in range(5):
                if content(file, entry, 2) != arrays[entry.name].tobytes():
                    wrong.append(entry.name)

        workers = [threading.Thread(target=run, args=(entry,)) for entry in file]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert wrong == []


def test_a_million_tensors_open_without_a_python_object_for_each(path: Path) -> None:
    header = ",".join(f'"t{i}":["U8",[1],[{i},{i + 1}]]' for i in range(1_000_000))
    path.write_bytes(packed("{" + header + "}", bytes(1_000_000)))
    with SafetensorsFile(path) as file:
        assert len(file) == 1_000_000
        assert file[999_999] == Entry("t999999", "uint8", (1,), 999_999, 1_000_000)
        assert file.find("t123456") == file[123_456]


# ---- what is refused ----

ONE = described("F32", [1], 0, 4)
REFUSED: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "got 0 bytes, expected at least the 8"),
    "seven bytes": (bytes(7), "got 7 bytes"),
    "an empty header": (bytes(8), "the header ends at byte 0, expected '{'"),
    "a length bomb": (packed("{}", length=2**63), "got a header length of 9223372036854775808, expected at most 2"),
    "a length of 2^64 - 1": (packed("{}", length=2**64 - 1), "header length"),
    "a length that is right modulo 2^32": (packed("{}", length=2**32 + 2), "header length"),
    "trailing bytes": (packed({"a": ONE}, bytes(5)), "got 5 bytes of data, expected the 4"),
    "missing data": (packed({"a": ONE}, bytes(3)), "tensor 'a': ends at byte 4 of 3"),
    "a hole": (
        packed({"a": ONE, "b": described("U8", [1], 5, 6)}, bytes(6)),
        "'b': begins at byte 5.*expected 4.*hole",
    ),
    "an overlap": (packed({"a": ONE, "b": described("U8", [4], 3, 7)}, bytes(7)), "'b': begins at byte 3.*overlap"),
    "the same bytes twice": (packed({"a": ONE, "b": ONE}, bytes(4)), "'b': begins at byte 0.*overlap"),
    "an empty tensor inside a tensor": (packed({"a": ONE, "b": described("U8", [0], 2, 2)}, bytes(4)), "'b': begins"),
    "a duplicate name": (
        packed(f'{{"a":{json.dumps(ONE)},"a":{json.dumps(ONE)}}}', bytes(4)),
        "tensor 'a': occurs twice, at header bytes 1 and",
    ),
    "a duplicate name in other letters": (
        packed('{"a":["U8",[0],[0,0]],"\\u0061":["U8",[0],[0,0]]}'),
        "occurs twice",
    ),
    "a shape that disagrees": (
        packed({"a": described("F32", [2], 0, 4)}, bytes(4)),
        "'a': got offsets .0, 4., expected 8",
    ),
    "a dtype that disagrees": (
        packed({"a": described("F64", [1], 0, 4)}, bytes(4)),
        "expected 8 bytes for 1 elements of F64",
    ),
    "offsets that go back": (packed({"a": described("U8", [1], 1, 0)}, bytes(1)), "got offsets .1, 0."),
    "an unknown dtype": (packed({"a": described("F31", [1], 0, 4)}, bytes(4)), "got dtype 'F31', expected one of BOOL"),
    "half a byte": (
        packed({"a": described("F4", [3], 0, 1)}, bytes(1)),
        "3 elements of 4 bits .F4., expected whole bytes",
    ),
    "4294967295 x 4294967297": (
        packed({"a": described("U8", [4294967295, 4294967297], 0, 2**64 - 1)}, bytes(4)),
        "'a': its 18446744073709551615 elements of 8 bits pass 2.64 bits",
    ),
    "a product that wraps to the right size": (
        packed({"a": described("F32", [3, 2**32 + 1, 2**32 - 1, 2**32], 0, 12)}, bytes(12)),
        "'a': the product of its shape passes 2.64",
    ),
    "2^63 x 2": (packed({"a": described("U8", [2**63, 2], 0, 0)}), "the product of its shape passes 2.64"),
    "2^61 x 8 bytes": (packed({"a": described("F64", [2**61], 0, 0)}), "'a': its .* pass 2.64 bits"),
    "an extent of 2^64": (
        packed({"a": described("U8", [2**64, 0], 0, 0)}),
        "got 18446744073709551616, expected an extent",
    ),
    "an offset of 2^64": (packed({"a": described("U8", [0], 2**64, 2**64)}), "expected an offset"),
    "a fractional extent": (packed({"a": described("U8", [1.0], 0, 1)}, bytes(1)), "got 1.0, expected an extent"),
    "a fractional offset": (packed({"a": described("U8", [1], 0, 1.0)}, bytes(1)), "got 1.0, expected an offset"),
    "a negative extent": (packed({"a": described("U8", [-1], 0, 1)}, bytes(1)), "got -1, expected an extent"),
    "metadata that are no texts": (packed({"__metadata__": {"a": 1}}), "expected a text as a value of __metadata__"),
    "deep lists": (packed('{"a":{"x":' + "[" * 1_000_000), "more than 127 containers inside each other"),
    "deep objects": (packed('{"a":{"x":' + '{"":' * 1_000_000), "more than 127 containers inside each other"),
    "a number of a million digits": (packed('{"a":{"x":' + "9" * 1_000_000 + "}}"), "beyond the range of a double"),
    "a header that is no UTF-8": (packed(b'{"\xff":1}'), "header byte 2: got no UTF-8"),
    "a lone surrogate": (packed('{"\\ud800":1}'), "header byte 2: got a lone surrogate"),
    "a header that is no object": (packed("[]"), "expected '{' of the header"),
    "a header that is no JSON": (packed("{'a'}"), "header byte 1: got ''', expected a name"),
    "a zip file": (b"PK\x03\x04" + bytes(60), "header length"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_refused_for_its_reason_and_named(path: Path, name: str) -> None:
    raw, why = REFUSED[name]
    path.write_bytes(raw)
    with pytest.raises(CorruptCheckpoint, match=rf"^safetensors: .*model\.safetensors: .*{why}") as caught:
        SafetensorsFile(path)
    assert isinstance(caught.value, NetassayError)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 1000


def test_every_truncation_of_a_file_is_refused(path: Path) -> None:
    raw = packed({"a": ONE, "b": described("F64", [2], 4, 20)}, bytes(20))
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors"):
            SafetensorsFile(path)


def test_what_the_file_system_says_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SafetensorsFile(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        SafetensorsFile(tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorruptCheckpoint, match="got a pipe or a device, expected a file"):
        SafetensorsFile(tmp_path / "pipe")


def test_a_path_that_is_no_unicode_is_named_all_the_same(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff.safetensors"
    Path(os.fsdecode(odd)).write_bytes(packed({"a": ONE}, bytes(4)))
    with SafetensorsFile(odd) as file:
        assert content(file, file[0]) == bytes(4)
    Path(os.fsdecode(odd)).write_bytes(b"")
    with pytest.raises(CorruptCheckpoint, match=r"udcff\.safetensors: got 0 bytes"):
        SafetensorsFile(odd)


def test_a_file_truncated_after_it_was_opened_is_an_error_and_no_signal(path: Path) -> None:
    """In a process of its own: a map would end it by SIGBUS."""
    path.write_bytes(packed({"a": ONE, "b": described("U8", [4_000_000], 4, 4_000_004)}, bytes(4_000_004)))
    code = """
import os, sys
import numpy as np
from netassay import CorruptCheckpoint
from netassay.sources.checkpoint.safetensors import SafetensorsFile
file = SafetensorsFile(sys.argv[1])
os.truncate(sys.argv[1], 1_000_000)
try:
    file.read(file.find("b"), np.empty(4_000_000, np.uint8), threads=3)
except CorruptCheckpoint as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "model.safetensors: tensor 'b': the file ends at byte 1000000, expected it to reach byte 400" in done.stdout


def test_what_cannot_be_read_into_is_refused(path: Path) -> None:
    path.write_bytes(packed({"a": described("U8", [6], 0, 6)}, b"123456"))
    with SafetensorsFile(path) as file:
        entry = file[0]
        frozen = np.empty(6, np.uint8)
        frozen.flags.writeable = False
        for out in (np.empty(5, np.uint8), np.empty(6, np.int8), np.empty((2, 3), np.uint8)):
            with pytest.raises(ShapeError, match=r"expected uint8 \(6,\)"):
                file.read(entry, out)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="contiguous"):
            file.read(entry, np.empty(12, np.uint8)[::2])
        with pytest.raises(ValueError, match="read-only"):
            file.read(entry, frozen)
        with pytest.raises(DomainError, match="threads: got 0"):
            file.read(entry, np.empty(6, np.uint8), threads=0)
        for stranger in (Entry("x", "uint8", (6,), 1, 7), Entry("x", "uint8", (6,), -1, 5)):
            with pytest.raises(ShapeError, match="expected one of"):
                file.read(stranger, np.empty(6, np.uint8))
    with pytest.raises(ValueError, match="closed"):
        file.read(entry, np.empty(6, np.uint8))
    file.close()
    assert file[0] == entry  # what the header says stays known


def test_ctrl_c_ends_a_long_read(path: Path, request: pytest.FixtureRequest) -> None:
    # a process that was started in the background may have inherited that it ignores it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    size = 1 << 29
    path.write_bytes(packed({"a": described("U8", [size], 0, size)}))
    os.truncate(path, path.stat().st_size + size)  # sparse: nothing of it lies on the disk
    with SafetensorsFile(path) as file:
        out = np.empty(size, np.uint8)  # touched only as far as the read gets
        timer = threading.Timer(0.03, signal.raise_signal, [signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            while True:
                file.read(file[0], out, threads=2)
        timer.join()


def test_an_open_file_is_closed_when_its_header_is_refused(path: Path) -> None:
    path.write_bytes(b"")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(CorruptCheckpoint):
            SafetensorsFile(path)
    assert len(os.listdir("/proc/self/fd")) == before


# ---- the limits ----

BIG = """
import resource, sys
from netassay import CorruptCheckpoint
from netassay.sources.checkpoint.safetensors import SafetensorsFile
SafetensorsFile(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(len(SafetensorsFile(sys.argv[1])))
except CorruptCheckpoint as error:
    print(str(error)[-60:])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""


def big(kind: str) -> tuple[str, int]:
    """A header of nearly 100 MB that takes as much as there can be of something, and its bytes of data."""
    most, letters = 100_000_000, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:"
    order = [(i * 7_368_787) % (1 << 22) for i in range(1 << 22)]  # 2^22 and an odd number: every name once, shuffled
    name = lambda i: letters[i & 63] + letters[i >> 6 & 63] + letters[i >> 12 & 63] + letters[i >> 18]  # noqa: E731
    if kind == "overlaps":
        return "{" + ",".join(['"":["U8",[],[0,1]]'] * (most // 19)) + "}", 1
    if kind == "deep":
        return '{"a":{"x":' + "[" * (most - 10), 0
    if kind == "escapes":
        return '{"' + "\\u00e4" * (most // 6 - 2) + '":1}', 0
    entries = [f'"{name(i)}":["U8",[0],[{i % 10},{i % 10}]]' for i in order[: most // 24 - 20]]
    entries += [f'"{i}":["U8",[],[{i},{i + 1}]]' for i in range(9)]
    if kind == "duplicate":
        entries.append(entries[0])
    return "{" + ",".join(entries) + "}", 9


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("tensors", "4166"),
        ("duplicate", "twice"),
        ("overlaps", "twice"),
        ("deep", "containers"),
        ("escapes", "offsets"),
    ],
)
def test_a_header_of_100_mb_takes_less_than_300_mb_whatever_it_says(path: Path, kind: str, expected: str) -> None:
    header, size = big(kind)
    assert 99_000_000 < len(header) <= 100_000_000
    path.write_bytes(packed(header, bytes(size)))
    del header
    small = path.with_name("small")
    small.write_bytes(packed("{}"))
    done = subprocess.run([sys.executable, "-c", BIG, path, small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, megabytes = done.stdout.splitlines()
    assert expected in said
    assert int(megabytes) < 300


def test_a_header_beyond_100_mb_is_refused_before_it_is_read(path: Path) -> None:
    path.write_bytes(packed("{}", length=100_000_001))
    os.truncate(path, 2**31)
    with pytest.raises(CorruptCheckpoint, match="header length of 100000001, expected at most 100000000"):
        SafetensorsFile(path)


# ---- the package as the oracle ----

Answer = tuple[dict[str, tuple[str, list[int], bytes]], dict[str, str]]


def of_the_package(path: str) -> Answer | None:
    try:
        with open(path, "rb") as file:
            tensors = safetensors.deserialize(file.read())
        with safetensors.safe_open(path, "np") as opened:
            metadata = opened.metadata()
    except safetensors.SafetensorError:
        return None
    return {name: (t["dtype"], t["shape"], bytes(t["data"])) for name, t in tensors}, metadata or {}


def of_ours(path: str) -> Answer | str:
    try:
        with SafetensorsFile(path) as file:
            tags = [file._header.entry(i)[1] for i in range(len(file))]
            tensors = {e.name: (tag, list(e.shape), content(file, e)) for e, tag in zip(file, tags, strict=True)}
            assert len(tensors) == len(file)
            return tensors, file.metadata
    except CorruptCheckpoint as error:
        return str(error)


def test_generated_files_are_accepted_read_and_refused_as_by_the_package_but_for_duplicates() -> None:
    seen: Counter[str] = Counter()
    files = count(400, 20_000)
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:

        @settings(max_examples=files, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.randoms(use_true_random=False))
        def compare(random: Random) -> None:
            raw = Maker(random).file()
            file.seek(0)
            file.truncate()
            file.write(raw)
            file.flush()
            theirs, ours = of_the_package(file.name), of_ours(file.name)
            if isinstance(ours, str):
                twice = (theirs is not None or "occurs twice, at header bytes" in ours) and repeated_names(raw)
                seen["duplicate" if twice else "refused"] += 1
                assert theirs is None or twice, (raw, ours)
            else:
                seen["accepted"] += 1
                assert theirs == ours, raw

        compare()
    assert min(seen["accepted"], seen["refused"]) > sum(seen.values()) / 10, seen
