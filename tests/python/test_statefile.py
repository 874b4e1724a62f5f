"""State files: written whole or not at all, and refused when damaged.

Killing is tested twice: deterministically, at every system call of a save in turn, and at random moments.
Each child is forked by a small subprocess, so that this process (which may hold torch's threads) never forks.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netassay.base import files, statefile
from netassay.base.errors import DTypeError, NetassayError, StateError
from python.full import count

pytestmark = pytest.mark.native

Mutate = Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]

CONFIG = {
    "width": 3,
    "precision": "high",
    "delta": 0.1 + 0.2,
    "names": ["a", "ö"],
    "nested": {"none": None, "yes": True},
}


def tensors() -> dict[str, np.ndarray]:
    g = np.random.default_rng(7)
    special = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, np.pi])
    return {
        "z/scatter": g.standard_normal((3, 3)),
        "a bytes": np.arange(11, dtype=np.uint8),
        "mean": g.standard_normal(3).astype(np.float32),
        "count": np.array(2**62 + 1, dtype=np.int64),
        "empty": np.empty((0, 4)),
        "special": special,
    }


def leftovers(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir() if p.name.endswith(".netassay-tmp"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "layer.state"
    statefile.save(target, kind="moments", config=CONFIG, tensors=tensors())
    return target


def split(raw: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def forge(header: dict[str, Any], data: bytes) -> bytes:
    """A file whose digests are right, whatever else is wrong: what a hostile writer would hand over."""
    meta = header.get("__metadata__")
    if isinstance(meta, dict) and "blake2b.header" in meta:
        meta = {k: v for k, v in meta.items() if k != "blake2b.header"}
        meta["blake2b"] = hashlib.blake2b(data).hexdigest()
        entries = {k: v for k, v in header.items() if k != "__metadata__"}
        guarded = json.dumps([meta, entries], sort_keys=True, separators=(",", ":")).encode()
        header = {**entries, "__metadata__": {**meta, "blake2b.header": hashlib.blake2b(guarded).hexdigest()}}
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


# Round trips


def test_a_round_trip_gives_back_every_bit_dtype_and_shape(path: Path) -> None:
    config, loaded = statefile.load(path, kind="moments")
    assert config == CONFIG
    assert list(loaded) == sorted(tensors())
    for name, expected in tensors().items():
        assert loaded[name].dtype == expected.dtype
        assert loaded[name].shape == expected.shape
        assert loaded[name].tobytes() == expected.tobytes()
        assert loaded[name].flags.writeable
        assert loaded[name].dtype.isnative


@pytest.mark.parametrize(
    "variant", ["fortran", "strided", "negative", "read-only", "big-endian", "misaligned", "broadcast"]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_memory_order_and_byte_order_make_no_difference(tmp_path: Path, variant: str, dtype: type) -> None:
    x = (np.random.default_rng(0).standard_normal((6, 8)) * 100).astype(dtype)
    if variant == "misaligned":
        buffer = np.empty(x.nbytes + 1, np.uint8)
        y = buffer[1:].view(x.dtype).reshape(x.shape)
        y[...] = x
    else:
        y = {
            "fortran": np.asfortranarray(x),
            "strided": np.repeat(x, 2, axis=1)[:, ::2],
            "negative": x[::-1, ::-1].copy()[::-1, ::-1],
            "read-only": x.copy(),
            "big-endian": x.astype(x.dtype.newbyteorder(">")),
            "broadcast": np.broadcast_to(x[:1], (6, 8)),
        }[variant]
    y.flags.writeable = False
    x = np.ascontiguousarray(y).astype(dtype)
    statefile.save(tmp_path / "s", kind="k", config={}, tensors={"x": y})
    loaded = statefile.load(tmp_path / "s", kind="k")[1]["x"]
    assert loaded.dtype == x.dtype
    assert loaded.tobytes() == x.tobytes()


def test_the_safetensors_package_reads_a_state_file(path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    numpy = pytest.importorskip("safetensors.numpy")
    loaded = numpy.load_file(path)
    assert {k: v.tobytes() for k, v in loaded.items()} == {k: v.tobytes() for k, v in tensors().items()}
    with safetensors.safe_open(path, framework="numpy") as file:
        meta = file.metadata()
    data = split(path.read_bytes())[1]
    assert meta["netassay.state"] == "1"
    assert meta["kind"] == "moments"
    assert json.loads(meta["config"]) == CONFIG
    assert meta["blake2b"] == hashlib.blake2b(data).hexdigest()


def test_the_header_is_padded_with_spaces_to_eight_and_data_follows_in_name_order(path: Path) -> None:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = split(raw)
    assert length % 8 == 0
    assert set(raw[8 : 8 + length].rpartition(b"}")[2]) <= {0x20}
    header.pop("__metadata__")
    assert [header[name]["data_offsets"][0] for name in sorted(header)] == sorted(
        e["data_offsets"][0] for e in header.values()
    )
    assert data == b"".join(tensors()[name].tobytes() for name in sorted(tensors()))


def test_equal_states_give_equal_files(tmp_path: Path) -> None:
    forward, backward = tensors(), dict(reversed(tensors().items()))
    statefile.save(tmp_path / "a", kind="k", config={"x": 1, "y": 2}, tensors=forward)
    statefile.save(tmp_path / "b", kind="k", config={"y": 2, "x": 1}, tensors=backward)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_state_without_tensors_and_a_path_given_as_text_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    statefile.save("bare", kind="k", config={}, tensors={})
    assert statefile.load("bare", kind="k") == ({}, {})


def test_saving_through_a_link_replaces_what_it_points_at(tmp_path: Path, path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    statefile.save(link, kind="k", config={}, tensors={})
    assert link.is_symlink()
    assert statefile.load(path, kind="k") == ({}, {})


# Refused on the way in


@pytest.mark.parametrize("dtype", ["f2", "i4", "i2", "u4", "u8", "?", "c16", "O", "U3", "g", "M8[s]"])
def test_another_dtype_is_refused_by_name_and_writes_nothing(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(DTypeError, match=r"'odd'.*expected float64, float32, int64 or uint8"):
        statefile.save(tmp_path / "s", kind="k", config={}, tensors={"odd": np.zeros(2, dtype)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "__metadata__"])
def test_a_reserved_tensor_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="tensor name"):
        statefile.save(tmp_path / "s", kind="k", config={}, tensors={name: np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", [{"x": float("nan")}, {"x": float("inf")}, {"x": object()}, {"x": {1, 2}}])
def test_a_config_that_is_no_json_is_refused_and_the_old_file_stays(path: Path, config: dict[str, Any]) -> None:
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        statefile.save(path, kind="k", config=config, tensors={})
    assert path.read_bytes() == before


# Refused on the way out


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        statefile.load(tmp_path / "none", kind="k")


def test_every_truncation_is_refused_naming_the_file(path: Path) -> None:
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(StateError, match=r"layer\.state"):
            statefile.load(path, kind="moments")


def test_every_flipped_bit_is_refused(path: Path) -> None:
    """Header and data alike: a dtype, an offset or a digit of the configuration may not change unnoticed."""
    raw = path.read_bytes()
    for position in range(len(raw)):
        flipped = bytearray(raw)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        with pytest.raises(StateError, match=r"layer\.state"):
            statefile.load(path, kind="moments")


def test_another_kind_is_refused_and_both_are_named(path: Path) -> None:
    with pytest.raises(StateError, match=r"'moments'.*'counts'") as caught:
        statefile.load(path, kind="counts")
    assert isinstance(caught.value, NetassayError)
    assert isinstance(caught.value, ValueError)


def test_another_version_is_refused_and_named(path: Path) -> None:
    header, data = split(path.read_bytes())
    header["__metadata__"]["netassay.state"] = "2"
    path.write_bytes(forge(header, data))
    with pytest.raises(StateError, match="version '2'"):
        statefile.load(path, kind="moments")


def test_a_forged_file_with_right_digests_and_nothing_wrong_loads(path: Path) -> None:
    """The control of the tests below: what they refuse is refused for its content, not for its digests."""
    path.write_bytes(forge(*split(path.read_bytes())))
    assert statefile.load(path, kind="moments")[0] == CONFIG


def entry(name: str = "mean", **change: Any) -> Mutate:
    def mutate(header: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        return {**header, name: {**header[name], **change}}, data

    return mutate


def meta(**change: Any) -> Mutate:
    def mutate(header: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        return {**header, "__metadata__": {**header["__metadata__"], **change}}, data

    return mutate


HOSTILE: dict[str, Mutate] = {
    "trailing bytes": lambda h, d: (h, d + b"\0"),
    "a hole": lambda h, d: ({k: v for k, v in h.items() if k != "mean"}, d),
    "missing data": lambda h, d: (h, d[:-8]),
    "no metadata": lambda h, d: ({k: v for k, v in h.items() if k != "__metadata__"}, d),
    "metadata of another program": lambda h, d: ({**h, "__metadata__": {"format": "pt"}}, d),
    "metadata that is no mapping": lambda h, d: ({**h, "__metadata__": ["netassay.state"]}, d),
    "a surplus metadata entry": meta(more="1"),
    "a metadata value that is no text": meta(kind=1),
    "a config that is no JSON": meta(config="{"),
    "a config that is no object": meta(config="[]"),
    "an unknown dtype": entry(dtype="BF16"),
    "a dtype that is no text": entry(dtype=["F64"]),
    "another size of dtype": entry(dtype="F64"),
    "another shape": entry(shape=[4]),
    "a negative extent": entry(shape=[-3]),
    "a true extent": entry(shape=[3, True]),
    "a fractional extent": entry(shape=[3.0]),
    "a shape that is no list": entry(shape=3),
    "too many axes": entry(shape=[3] + [1] * 40),
    "a product that wraps to the right size": entry(shape=[3, 2**32 + 1, 2**32 - 1, 2**32]),
    "a length bomb of zeros": entry("empty", shape=[0, 2**62]),
    "an extent of 2^64": entry("empty", shape=[0, 2**64]),
    "overlapping offsets": entry(data_offsets=[0, 12]),
    "offsets beyond the file": entry(data_offsets=[10**12, 10**12 + 12]),
    "offsets that are no list": entry(data_offsets=None),
    "an entry that is no mapping": lambda h, d: ({**h, "mean": [1]}, d),
    "a surplus key of an entry": entry(more=1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused(path: Path, name: str) -> None:
    path.write_bytes(forge(*HOSTILE[name](*split(path.read_bytes()))))
    with pytest.raises(StateError, match=r"layer\.state"):
        statefile.load(path, kind="moments")


RAW = {
    "empty": b"",
    "text": b"not a state file at all\n",
    "zip": b"PK\x03\x04" + bytes(60),
    "a header length bomb": struct.pack("<Q", 2**63) + b"{}",
    "a header length of 2^64 - 1": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header that is no JSON": struct.pack("<Q", 8) + b"{       ",
    "a header that is no object": struct.pack("<Q", 2) + b"[]",
    "a header that is no UTF-8": struct.pack("<Q", 4) + b'{"\xff"',
    "an empty header": struct.pack("<Q", 2) + b"{}",
    "deep nesting": struct.pack("<Q", 400_000) + b'{"a":' + b"[" * 399_995,
    "a number of a million digits": struct.pack("<Q", 1_000_006) + b'{"a":' + b"9" * 1_000_000 + b"}",
    "a duplicate name": struct.pack("<Q", 15) + b'{"a":1,"a":2 } ',
}


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_state_file_is_refused(tmp_path: Path, name: str) -> None:
    target = tmp_path / "layer.state"
    target.write_bytes(RAW[name])
    with pytest.raises(StateError, match=r"layer\.state"):
        statefile.load(target, kind="moments")


def test_a_header_too_long_to_be_read_back_is_not_written(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError, match="header"):
        statefile.save(path, kind="k", config={"x": "y" * (1 << 24)}, tensors={})
    assert path.read_bytes() == before


def test_a_sparse_file_of_a_terabyte_with_a_long_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    target = tmp_path / "layer.state"
    with target.open("wb") as file:
        file.write(struct.pack("<Q", 2**39))
        try:
            file.truncate(2**40)
        except OSError:
            pytest.skip("this file system has no sparse file of a terabyte")
    with pytest.raises(StateError, match="header length"):
        statefile.load(target, kind="moments")


# Faults while saving


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace", "close"])
@pytest.mark.parametrize("number", [28, 30, 5])  # no space, read-only file system, input/output error
def test_a_failing_call_raises_and_leaves_the_old_file_and_no_temporary(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    before, real = path.read_bytes(), getattr(os, call)

    def fail(*args: Any, **kwargs: Any) -> Any:
        if call == "close":
            real(*args, **kwargs)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        statefile.save(path, kind="moments", config={}, tensors=tensors())
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []


def test_ctrl_c_while_writing_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def interrupted(fd: int, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        statefile.save(path, kind="moments", config={}, tensors=tensors())
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []


def test_short_writes_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.write, []

    def short(fd: int, data: memoryview) -> int:
        calls.append(len(data))
        return real(fd, data[:7])

    monkeypatch.setattr(os, "write", short)
    statefile.save(path, kind="moments", config=CONFIG, tensors=tensors())
    monkeypatch.undo()
    assert len(calls) > 100
    assert statefile.load(path, kind="moments")[1]["z/scatter"].tobytes() == tensors()["z/scatter"].tobytes()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes into read-only directories")
def test_a_read_only_directory_leaves_the_old_file(path: Path) -> None:
    before = path.read_bytes()
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            statefile.save(path, kind="moments", config={}, tensors={})
    finally:
        path.parent.chmod(0o700)
    assert path.read_bytes() == before


def script(body: str, *arguments: object) -> str:
    """Run a program that has imported only this module's needs, and give its standard output."""
    prelude = "import os, sys, signal, random, time\nimport numpy as np\nfrom netassay.base import files, statefile\n"
    program = prelude + "assert 'torch' not in sys.modules\n" + body
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")
def test_a_disk_that_fills_up_while_writing_leaves_the_old_file(path: Path) -> None:
    """The file size limit of the process stands in for the disk: the write across it comes back short."""
    before = path.read_bytes()
    body = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    statefile.save(sys.argv[1], kind="moments", config={}, tensors={"x": np.zeros(1 << 16)})
except OSError as error:
    print(error.errno)
"""
    assert script(body, path).split()[-1] == "27"  # EFBIG
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []


# Leftovers


def plant(target: Path, pid: int, host: str, age_s: float = 0.0) -> Path:
    found = target.parent / f".{target.name}.{pid}-{host}{secrets.token_hex(4)}.netassay-tmp"
    found.write_bytes(b"half a state")
    os.utime(found, (time.time() - age_s,) * 2)
    return found


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_of_dead_processes_and_old_ones_are_swept_and_others_kept(tmp_path: Path, path: Path) -> None:
    host, other, gone = files._host(), "0" * 8, dead_pid()
    swept = [plant(path, gone, host), plant(path, os.getpid(), host, 3700), plant(path, gone, other, 3700)]
    kept = [
        plant(path, os.getpid(), host),  # a living writer
        plant(path, gone, other),  # perhaps a living writer of another host
        plant(tmp_path / "other.state", gone, host),  # another target
        plant(tmp_path / "xlayer.state", gone, host),
    ]
    (tmp_path / f".layer.state.{gone}-notes.txt").write_text("mine")
    (tmp_path / ".layerXstate.1-0000000000000000.netassay-tmp").write_text("a dot is a dot")
    statefile.save(path, kind="k", config={}, tensors={})
    assert [p for p in swept if p.exists()] == []
    assert [p for p in kept if not p.exists()] == []
    assert (tmp_path / f".layer.state.{gone}-notes.txt").exists()
    assert (tmp_path / ".layerXstate.1-0000000000000000.netassay-tmp").exists()


# Kill -9

CHILD = """
target = sys.argv[1]
def state(i):
    tensors = {"x": np.full(200_000, float(i)), "n": np.array([i])}
    return dict(kind="moments", config={"i": i}, tensors=tensors)
def check():
    config, tensors = statefile.load(target, kind="moments")
    assert tensors["x"].size == 200_000 and tensors["n"] == [config["i"]]
    assert (tensors["x"] == config["i"]).all()
    return config["i"]
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def child(run):
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return pid
"""

AT_EVERY_CALL = """
files._CHUNK = 1 << 19
statefile.save(target, **state(0))
seen = set()
for k in range(100):
    def run():
        left = [k]
        def wrap(name):
            real = getattr(os, name)
            def call(*args, **kwargs):
                if left[0] == 0 and name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                if left[0] == 0:
                    die()
                left[0] -= 1
                return real(*args, **kwargs)
            setattr(os, name, call)
        for name in ("open", "write", "fsync", "close", "replace"):
            wrap(name)
        statefile.save(target, **state(k + 1))
    before = check()
    status = os.waitpid(child(run), 0)[1]
    now = check()
    assert now in (before, k + 1), (before, now, k)
    seen.add("old" if now == before else "new")
    if not os.WIFSIGNALED(status):
        break
else:
    raise AssertionError("never got to the end of a save")
assert now == k + 1 and seen == {"old", "new"} and k >= 8, (now, k, seen)
print(k)
"""

AT_RANDOM = """
statefile.save(target, **state(0))
random.seed(0)
leftovers = 0
for k in range(int(sys.argv[2])):
    def run():
        i = 1000 * k
        while True:
            i += 1
            statefile.save(target, **state(i))
    pid = child(run)
    time.sleep(random.uniform(0.001, 0.02))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    check()
    leftovers += sum(name.endswith(".netassay-tmp") for name in os.listdir(os.path.dirname(target)))
statefile.save(target, **state(1))
print(leftovers)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_system_call_of_a_save_leaves_the_old_file_or_the_new_one(path: Path) -> None:
    script(CHILD + AT_EVERY_CALL, path)
    statefile.save(path, kind="moments", config={}, tensors={})
    assert leftovers(path.parent) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_at_random_moments_leave_a_whole_file_and_the_next_save_sweeps(path: Path) -> None:
    script(CHILD + AT_RANDOM, path, str(count(40, 200)))
    assert leftovers(path.parent) == []


def test_writers_of_one_path_at_the_same_time_leave_one_of_their_states(path: Path) -> None:
    def write(i: int) -> None:
        for _ in range(10):
            statefile.save(path, kind="moments", config={"i": i}, tensors={"x": np.full(5000, float(i))})

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        config, loaded = statefile.load(path, kind="moments")
        assert config == CONFIG or (loaded["x"] == config["i"]).all()
    for thread in threads:
        thread.join()
    assert leftovers(path.parent) == []
