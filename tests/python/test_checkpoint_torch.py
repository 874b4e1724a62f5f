"""Files of torch's: what is in them is read, and a hostile one is refused before torch sees it."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from netassay.base.errors import CorruptCheckpoint, LimitExceeded, UnsupportedLayout
from netassay.sources.checkpoint import pickles
from netassay.sources.checkpoint.checkpoint import open_checkpoint

ZIP_AND_LEGACY = pytest.mark.parametrize("archive", [True, False], ids=["archive", "legacy"])


def saved(path: Path, value: Any, archive: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=archive)
    return path


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5))


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.load must not be reached."""

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", load)


# ---- What is in a file ----


@ZIP_AND_LEGACY
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".bin", ".ckpt", ""])
def test_a_saved_state_dict_is_the_state_dict(tmp_path: Path, archive: bool, suffix: str) -> None:
    state = model().state_dict()
    with open_checkpoint(saved(tmp_path / f"m{suffix}", state, archive)) as found:
        assert [(w.name, w.shape, w.dtype) for w in found.weights] == [
            ("0.weight", (3, 2, 3, 3), "float32"),
            ("3.weight", (5, 12), "float32"),
        ]
        for stored in (*found.weights, *reversed(found.weights)):
            assert np.array_equal(found.read(stored).array, state[stored.name].numpy())
        expected = open_checkpoint(state)
        assert [*found.skipped] == [*expected.skipped]
        assert found.parameters == expected.parameters


@ZIP_AND_LEGACY
def test_every_dtype_of_a_weight_comes_bit_for_bit(tmp_path: Path, archive: bool) -> None:
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.uint8]
    dtypes += [torch.float8_e4m3fn, torch.float8_e5m2] if archive else []  # the older format has none of eight bits
    state = {str(dtype).removeprefix("torch."): torch.randn(3, 5).mul(9).to(dtype) for dtype in dtypes}
    with open_checkpoint(saved(tmp_path / "m.pt", state, archive)) as found:
        assert [w.dtype for w in found.weights] == list(state)
        for stored in found.weights:
            expected = state[stored.name].contiguous().view(torch.uint8).numpy()
            assert np.array_equal(np.ascontiguousarray(found.read(stored).array).view(np.uint8), expected)


@ZIP_AND_LEGACY
def test_wrappers_in_a_file_are_stripped_and_the_rest_is_noted(tmp_path: Path, archive: bool) -> None:
    inner = OrderedDict((f"module.{name}", value) for name, value in model().state_dict().items())
    optimizer = torch.optim.Adam(model().parameters()).state_dict()
    path = saved(tmp_path / "m.pt", {"epoch": 3, "state_dict": inner, "optimizer": optimizer, "seen": {1, 2}}, archive)
    found = open_checkpoint(path)
    assert found.wrappers == ("state_dict", "module.")
    assert found.weights[0].name == "0.weight"
    assert found.notes[0] == "left out beside state_dict: epoch, optimizer, seen"


@ZIP_AND_LEGACY
def test_tied_tensors_and_views_of_one_storage_are_told_apart_in_a_file(tmp_path: Path, archive: bool) -> None:
    base = torch.randn(6, 4)
    state = {"a.weight": base, "b.weight": base.detach(), "c": base.t(), "top": base[:3], "bottom": base[3:]}
    state["parameter"] = nn.Parameter(base)
    with open_checkpoint(saved(tmp_path / "m.pt", state, archive)) as found:
        names = [(w.layer, w.aliases) for w in found.weights]
        assert names == [("a", ("b", "c", "parameter")), ("top", ()), ("bottom", ())]
        assert np.array_equal(found.read(found.weights[2]).array, base[3:].numpy())


@ZIP_AND_LEGACY
def test_tensors_that_are_not_dense_are_skipped_in_a_file(tmp_path: Path, archive: bool) -> None:
    state = {"w": torch.ones(2, 2), "meta": torch.ones(2, 3, device="meta"), "sparse": torch.eye(3).to_sparse()}
    found = open_checkpoint(
        saved(tmp_path / "m.pt", state | {"none": torch.ones(0, 3), "one": torch.tensor(1.0)}, archive)
    )
    assert [w.layer for w in found.weights] == ["w"]
    assert {skip.name: skip.reason.split(":")[0] for skip in found.skipped} == {
        "meta": "meta tensor",
        "sparse": "sparse tensor (torch.sparse_coo)",
        "none": "empty",
        "one": "a single number",
    }


def test_an_expanded_tensor_within_memory_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.arange(3.0).expand(4, 3)})
    with open_checkpoint(path) as found:
        assert np.array_equal(found.read(found.weights[0]).array, np.tile(np.arange(3.0, dtype=np.float32), (4, 1)))


@ZIP_AND_LEGACY
def test_a_strided_tensor_is_read_from_its_first_element_to_its_last(tmp_path: Path, archive: bool) -> None:
    base = torch.arange(24.0).view(4, 6)
    state = {"columns": base[1:, 1:4], "steps": base[::2, ::3], "turned": base[:2].t()}
    with open_checkpoint(saved(tmp_path / "m.pt", state, archive)) as found:
        assert [w.layer for w in found.weights] == list(state)
        for stored in found.weights:
            assert np.array_equal(found.read(stored).array, state[stored.name].numpy())


def test_a_file_that_is_replaced_meanwhile_is_read_as_it_was_opened(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.ones(2, 3)})
    with open_checkpoint(path) as found:
        saved(tmp_path / "new.pt", {"w": torch.zeros(3, 2)}).replace(path)
        assert np.array_equal(found.read(found.weights[0]).array, np.ones((2, 3)))


@ZIP_AND_LEGACY
def test_a_file_that_is_cut_meanwhile_is_an_error_and_no_signal(tmp_path: Path, archive: bool) -> None:
    path = saved(tmp_path / "m.pt", {str(i): torch.full((64, 64), float(i)) for i in range(4)}, archive)
    with open_checkpoint(path) as found:
        os.truncate(path, path.stat().st_size // 2)
        messages = {}
        for stored in found.weights:  # the older format has its storages in an order of its own
            try:
                assert (found.read(stored).array == float(stored.name)).all()
            except CorruptCheckpoint as error:
                messages[stored.name] = str(error)
    assert 2 <= len(messages) < 4
    assert all(says.startswith(f"open_checkpoint: {path}: tensor '{name}'") for name, says in messages.items())


@ZIP_AND_LEGACY
def test_torch_loads_nothing(tmp_path: Path, archive: bool, never: None) -> None:
    with open_checkpoint(saved(tmp_path / "m.pt", {"w": torch.ones(2, 3)}, archive)) as found:
        assert (found.read(found.weights[0]).array == 1).all()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@ZIP_AND_LEGACY
def test_every_protocol_of_a_pickle_is_read(tmp_path: Path, archive: bool, protocol: int) -> None:
    state = model().state_dict()
    beside = {"seen": {1, (2, "x")}, "frozen": frozenset({1, 2}), "bytes": b"ab", "long": 1 << 70, "text": "é" * 300}
    beside |= {"array": bytearray(b"cd"), "more": [1.5, None, True, -3], "shape": torch.Size([2, 3])}
    path = tmp_path / "m.pt"
    torch.save({"model": state, **beside}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    with open_checkpoint(path) as found:
        assert [w.name for w in found.weights] == ["0.weight", "3.weight"]
        for stored in found.weights:
            assert np.array_equal(found.read(stored).array, state[stored.name].numpy())
        assert found.notes[0].startswith("left out beside model: seen, frozen, bytes, long, text and 3 more")


@ZIP_AND_LEGACY
def test_keys_of_a_file_are_those_of_the_mapping(tmp_path: Path, archive: bool) -> None:
    state: dict[Any, Any] = {0: torch.randn(3, 4), 1: torch.randn(3), None: torch.randn(2, 2), 2.5: torch.randn(2, 3)}
    with open_checkpoint(saved(tmp_path / "m.pt", state, archive)) as found:
        assert [(w.layer, w.shape) for w in found.weights] == [("0", (3, 4)), ("None", (2, 2)), ("2.5", (2, 3))]
        assert [w.layer for w in open_checkpoint(state).weights] == ["0", "None", "2.5"]
        assert np.array_equal(found.read(found.weights[0]).array, state[0].numpy())


def test_an_archive_of_the_other_byte_order_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.arange(6.0).view(2, 3)})
    swapped = {"m/byteorder": b"big", "m/data/0": np.arange(6, dtype=">f4").tobytes()}
    with open_checkpoint(rewritten(path, lambda name, old: swapped.get(name, old))) as found:
        assert np.array_equal(found.read(found.weights[0]).array, np.arange(6.0).reshape(2, 3))


@ZIP_AND_LEGACY
def test_a_tensor_that_ends_behind_its_storage_is_refused(tmp_path: Path, archive: bool) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.ones(8, 8)[:, :7]}, archive)
    strides = b"K\x08K\x01\x86"  # 8 and 1
    if archive:
        path = rewritten(path, lambda _, content: content.replace(strides, b"K\x09K\x01\x86"))
    else:
        path.write_bytes(path.read_bytes().replace(strides, b"K\x09K\x01\x86"))
    with pytest.raises(CorruptCheckpoint, match="a tensor that ends behind its storage"):
        open_checkpoint(path)


def data() -> Path | None:
    """The real checkpoints, where they are."""
    roots = [
        os.environ.get("NETASSAY_DATA", ""),
        *(str(p / "shared" / "data") for p in Path(__file__).resolve().parents[3:4]),
    ]
    return next((Path(root) for root in roots if root and Path(root).is_dir()), None)


def test_the_published_resnet20_opens() -> None:
    root = data()
    path = root / "resnet20-12fca82f.th" if root else Path("resnet20-12fca82f.th")
    if not path.is_file():
        pytest.skip("no resnet20-12fca82f.th: name its directory in NETASSAY_DATA")
    with open_checkpoint(path) as found:
        assert found.wrappers == ("state_dict", "module.")
        assert len(found.weights) == 20
        assert found.weights[0].layer == "conv1"
        assert found.weights[-1].shape == (10, 64)
        assert found.parameters == 269722
        assert all(np.isfinite(found.read(stored).array).all() for stored in found.weights)


# ---- What else may be under such a name ----


def test_a_path_that_is_not_there_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_checkpoint(tmp_path / "nothing.pt")


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("m.pt", b"", CorruptCheckpoint, "an empty file"),
        ("m.pt", b"hello world, no model", CorruptCheckpoint, "begins with b'hello wo'"),
        ("m.pt", pickle.dumps({"w": 1}), UnsupportedLayout, "a pickle that torch has not written"),
        ("m.txt", b"hello world, no model", UnsupportedLayout, "begins with"),
        ("m.bin", b"GGUF" + bytes(60), UnsupportedLayout, "a GGUF file"),
        ("m.bin", b"version https://git-lfs.github.com/spec/v1\n", UnsupportedLayout, "only its Git LFS pointer"),
        ("m.safetensors", b"version https://git-lfs.github.com/spec/v1\n", UnsupportedLayout, "only its Git LFS"),
        ("m.safetensors", b"<!DOCTYPE html><html>", UnsupportedLayout, "a web page"),
        ("m.index.json", b"version https://git-lfs.github.com/spec/v1\n", UnsupportedLayout, "only its Git LFS"),
        ("m.h5", b"\x89HDF\r\n\x1a\n", UnsupportedLayout, "HDF5"),
    ],
)
@pytest.mark.usefixtures("never")
def test_another_file_is_refused_by_what_it_is(
    tmp_path: Path, name: str, content: bytes, error: type[Exception], says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=says) as raised:
        open_checkpoint(path)
    assert str(path) in str(raised.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
@pytest.mark.usefixtures("never")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.pt")
    with pytest.raises(UnsupportedLayout, match="no regular file"):
        open_checkpoint(tmp_path / "m.pt")


@ZIP_AND_LEGACY
@pytest.mark.usefixtures("never")
def test_a_whole_model_is_refused_by_the_class_it_would_run(tmp_path: Path, archive: bool) -> None:
    with pytest.raises(UnsupportedLayout, match=r"got torch\.nn\.modules\.\w+\.\w+ in it, expected tensors alone"):
        open_checkpoint(saved(tmp_path / "m.pt", model(), archive))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("never")
def test_torchscript_and_other_archives_are_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(UnsupportedLayout, match="TorchScript"):
        open_checkpoint(tmp_path / "script.pt")
    np.savez(tmp_path / "arrays.npz", w=np.ones((2, 2)))
    with pytest.raises(UnsupportedLayout, match=r"zip archive of w\.npy"):
        open_checkpoint(tmp_path / "arrays.npz")


@ZIP_AND_LEGACY
def test_every_truncation_is_an_error_of_ours(tmp_path: Path, archive: bool) -> None:
    whole = saved(tmp_path / "m.pt", {"w": torch.randn(8, 8)}, archive).read_bytes()
    path = tmp_path / "cut.pt"
    for length in (1, 10, 15, 40, len(whole) // 2, len(whole) - 200, len(whole) - 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises((CorruptCheckpoint, UnsupportedLayout)):
            open_checkpoint(path)


@ZIP_AND_LEGACY
def test_a_file_of_torchs_is_read_without_torch(tmp_path: Path, archive: bool) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.ones(2, 2)}, archive)
    code = f"""
import sys
sys.modules["torch"] = None
from netassay.sources.checkpoint.checkpoint import open_checkpoint
with open_checkpoint({str(path)!r}) as found:
    assert found.read(found.weights[0]).array.tolist() == [[1, 1], [1, 1]]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- Hostile files ----


def rewritten(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    target = path.with_name("hostile.pt")
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, change(name, content))
    return target


def with_pickle(path: Path, content: bytes, archive: bool) -> Path:
    """A file of torch's whose pickle is another."""
    saved(path, {}, archive)
    if archive:
        return rewritten(path, lambda name, old: content if name.endswith("data.pkl") else old)
    head = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(head + content + pickle.dumps([], 2))
    return path


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@ZIP_AND_LEGACY
@pytest.mark.usefixtures("never")
def test_code_in_a_file_is_not_executed(tmp_path: Path, archive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in ({"w": Evil()}, {"state_dict": {"w": torch.ones(2, 2)}, "more": [Evil()]}):
        with pytest.raises(UnsupportedLayout, match=r"got \w+\.mkdir in it.*nothing of it was run"):
            open_checkpoint(saved(tmp_path / "m.pt", value, archive))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "os system", "torch.hub load", "torch load", "torch.storage _load_from_bytes"]
)
@ZIP_AND_LEGACY
@pytest.mark.usefixtures("never")
def test_only_what_rebuilds_tensors_is_let_through(tmp_path: Path, archive: bool, name: str) -> None:
    module, function = name.split()
    content = b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"X\x01\x00\x00\x00a\x85R."
    with pytest.raises(UnsupportedLayout, match=f"got {module}.{function} in it"):
        open_checkpoint(with_pickle(tmp_path / "m.pt", content, archive))


@pytest.mark.usefixtures("never")
def test_a_deflated_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.zeros(1 << 20)})
    bomb = rewritten(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 16
    with pytest.raises(CorruptCheckpoint, match=r"is compressed, .* nothing is inflated"):
        open_checkpoint(bomb)


@ZIP_AND_LEGACY
def test_a_stride_0_bomb_is_over_the_limit_by_its_logical_size(tmp_path: Path, archive: bool) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.ones(1).expand(1 << 20, 1 << 24)}, archive)
    assert path.stat().st_size < 4096
    with pytest.raises(LimitExceeded, match=r"tensor 'w' takes 70368744177664 bytes, 4 of them stored"):
        open_checkpoint(path)
    hidden = saved(tmp_path / "h.pt", {"w": torch.ones(2, 2), "more": [torch.ones(1).expand(1 << 45)]}, archive)
    with pytest.raises(LimitExceeded, match="its tensors take"):
        open_checkpoint(hidden)


@ZIP_AND_LEGACY
def test_claims_beyond_the_file_are_refused(tmp_path: Path, archive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.ones(8, 8)}, archive)
    small, large = b"K@t", b"J\xff\xff\xff\x7ft"  # 64 elements of the storage; 2^31 - 1

    def change(_: str, content: bytes) -> bytes:
        return content.replace(small, large, 1)

    if archive:
        path = rewritten(path, change)
    else:
        whole = path.read_bytes()
        at = whole.index(b"cpu")
        path.write_bytes(whole[:at] + whole[at:].replace(b"K@N", b"J\xff\xff\xff\x7fN", 1))
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(CorruptCheckpoint, match=r"expected 8589934588 bytes|its tensors claim"):
        open_checkpoint(path)


def shared_lists(copies: int) -> bytes:
    """A list of 1000 numbers that a set is made of, again and again."""
    numbers = b"]q\x00(" + b"".join(b"M" + struct.pack("<H", i) for i in range(1000)) + b"e0"
    return (
        b"\x80\x02" + numbers.replace(b"e0", b"e") + b"\x85q\x01" + b"c__builtin__\nset\nq\x02h\x01R" * copies + b"]."
    )


@ZIP_AND_LEGACY
@pytest.mark.usefixtures("never")
def test_a_shared_list_bomb_is_refused(tmp_path: Path, archive: bool) -> None:
    path = with_pickle(tmp_path / "m.pt", shared_lists(1000), archive)
    with pytest.raises(CorruptCheckpoint, match="builds more than it holds"):
        open_checkpoint(path)


@ZIP_AND_LEGACY
def test_lists_within_lists_are_not_walked(tmp_path: Path, archive: bool) -> None:
    deep: list[Any] = []
    for _ in range(60):
        deep = [deep, deep]  # 2^60 paths
    found = open_checkpoint(saved(tmp_path / "m.pt", {"state_dict": {"w": torch.ones(2, 2)}, "more": deep}, archive))
    assert [w.layer for w in found.weights] == ["w"]


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        # A tuple of tuples of tuples, 2^40 elements to hash.
        (b")q\x00" + b"h\x00h\x00\x86q\x00" * 40 + b"}h\x00K\x01s.", "builds more than it holds"),
        (b")" + b"\x85" * 100 + b".", "tuples 65 deep"),
        # 2^40 bytes of nothing.
        (b"c__builtin__\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.", "a bytearray of nothing"),
        # One text, encoded again and again.
        (text("a" * 1000) + b"\x85q\x00" + b"c_codecs\nencode\nh\x00R" * 100 + b".", "builds more than it holds"),
        (b"r\xff\xff\xff\xff.", "damaged"),
        # A set of the same tuple again and again, 2^40 elements to hash.
        (b")q\x00" + b"h\x00h\x00\x86q\x00" * 40 + b"\x8f(h\x00\x90.", "builds more than it holds"),
        (b")q\x00" + b"h\x00h\x00\x86q\x00" * 40 + b"(h\x00\x91.", "builds more than it holds"),
        (b"K\x01K\x02\x93.", "damaged"),
        (b"\x8b\xff\xff\xff\x7f.", "damaged"),
        (b"(lp0\n.", "operation LIST"),
        (b"0.", "operation POP"),
        (b".", "damaged"),
        (b"h\x07.", "damaged"),
        (b"}}s.", "damaged"),
        (b"K\x01Q.", "damaged"),
        (b"N", "damaged"),
    ],
)
@ZIP_AND_LEGACY
@pytest.mark.usefixtures("never")
def test_a_pickle_that_would_take_all_time_or_memory_is_refused(
    tmp_path: Path, archive: bool, content: bytes, says: str
) -> None:
    path = with_pickle(tmp_path / "m.pt", b"\x80\x02" + content, archive)
    with pytest.raises(CorruptCheckpoint, match=says):
        open_checkpoint(path)


def test_names_in_a_file_are_escaped_in_what_is_said_about_it(tmp_path: Path) -> None:
    escape, state = "\x1b[2J\n", {"a.weight": torch.ones(2, 2, dtype=torch.int8), "a.\x1b_scale": torch.ones(2)}
    found = open_checkpoint(saved(tmp_path / "m.pt", {"state_dict": state, escape: 1, "y" * 500: 2}))
    assert found.notes[0] == "left out beside state_dict: \\x1b[2J\\n, " + "y" * 96 + "..."
    assert found.skipped[0].reason == "quantised, int8: a.\\x1b_scale stands beside it"
    content = b"\x80\x02c\x1b[2J\neval\n."
    with pytest.raises(UnsupportedLayout) as raised:
        open_checkpoint(with_pickle(tmp_path / "m.pt", content, True))
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("function", ["FloatTensor", "Tensor", "UntypedStorage"])
@pytest.mark.usefixtures("never")
def test_what_would_allocate_by_a_number_is_refused(tmp_path: Path, function: str) -> None:
    content = b"\x80\x02ctorch\n" + function.encode() + b"\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."
    with pytest.raises(UnsupportedLayout, match=f"got torch.{function} in it"):
        open_checkpoint(with_pickle(tmp_path / "m.pt", content, True))


@pytest.mark.usefixtures("never")
def test_an_archive_with_two_faces_is_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "m.pt", {"w": torch.ones(2, 2)}).read_bytes()
    path = tmp_path / "n.pt"
    other = saved(tmp_path / "o.pt", {"v": torch.ones(3, 3)}).read_bytes()
    for content in (whole[:-2] + struct.pack("<H", 22) + whole[-22:], whole + other):
        path.write_bytes(content)
        with pytest.raises(CorruptCheckpoint, match=r"archive that torch has not written|damaged"):
            open_checkpoint(path)


@pytest.mark.usefixtures("never")
def test_a_record_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.ones(2, 2)})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("m/data.pkl", b"N.")
    with pytest.raises(CorruptCheckpoint, match="occur twice"):
        open_checkpoint(path)


@ZIP_AND_LEGACY
def test_a_huge_pickle_is_over_the_limit(tmp_path: Path, archive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "m.pt", {f"{i}.weight": torch.ones(1) for i in range(100)}, archive)
    monkeypatch.setattr(pickles, "MOST", 1000)
    with pytest.raises((LimitExceeded, CorruptCheckpoint), match="its pickle"):
        open_checkpoint(path)


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_byte_of_a_pickle_is_an_error_of_ours_or_another_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path / "m.pt", model().state_dict())
    with zipfile.ZipFile(tmp_path / "m.pt") as archive:
        content = archive.read("m/data.pkl")
    g = np.random.default_rng(5)
    for _ in range(200):
        at, new = int(g.integers(len(content))), int(g.integers(256))
        changed = content[:at] + bytes([new]) + content[at + 1 :]
        path = rewritten(tmp_path / "m.pt", lambda name, old, new=changed: new if name.endswith("data.pkl") else old)
        try:
            with open_checkpoint(path) as found:
                for stored in found.weights:
                    found.read(stored)
        except (CorruptCheckpoint, UnsupportedLayout, LimitExceeded):
            pass


def test_the_machine_knows_what_tensors_claim() -> None:
    buffer = io.BytesIO()
    base = torch.randn(6, 4)
    torch.save({"a": base[2:], "b": nn.Parameter(torch.ones(3).expand(5, 3))}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        content = archive.read("archive/data.pkl")
    result = pickles.scan(io.BytesIO(content), "test")
    assert result.storages == {"0": 96, "1": 12}
    assert result.beyond == 60 - 12
    a, b = result.root.table["a"], result.root.table["b"]
    assert (a.storage.key, a.offset, a.nbytes) == ("0", 32, 64)
    assert (b.storage.key, b.offset, b.nbytes) == ("1", 0, 60)
