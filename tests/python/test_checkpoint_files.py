"""Safetensors files, directories and shards: what is chosen, what is refused, and one tensor in memory at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from netassay.base import statefile
from netassay.base.errors import CorruptCheckpoint, LimitExceeded, UnsupportedLayout
from netassay.sources.checkpoint.checkpoint import Checkpoint, open_checkpoint

pytestmark = pytest.mark.native

PAIRS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.weight": torch.arange(20.0).reshape(4, 5)}


def names(checkpoint: Checkpoint) -> list[str]:
    return [weight.name for weight in checkpoint.weights]


def sharded(folder: Path, shards: Mapping[str, Mapping[str, torch.Tensor]], index: Any = None) -> Path:
    """Shards and their index; the index may say something else."""
    for shard, tensors in shards.items():
        save_file(dict(tensors), folder / shard)
    weights = {name: shard for shard, tensors in shards.items() for name in tensors}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weights} if index is None else index))
    return path


def two(folder: Path, index: Any = None) -> Path:
    return sharded(
        folder,
        {"m-1.safetensors": {"a.weight": PAIRS["a.weight"]}, "m-2.safetensors": {"b.weight": PAIRS["b.weight"]}},
        index,
    )


# ---- One file ----


def test_a_safetensors_file_is_its_tensors(tmp_path: Path) -> None:
    state = PAIRS | {"a.bias": torch.ones(2), "ids": torch.ones(1, 4, dtype=torch.int64), "none": torch.ones(0, 3)}
    save_file(state, tmp_path / "m.safetensors")
    with open_checkpoint(tmp_path / "m.safetensors") as found:
        assert sorted(names(found)) == ["a.weight", "b.weight"]
        assert {skip.name: (skip.reason, skip.parameters) for skip in found.skipped} == {
            "a.bias": ("bias or norm: one axis", 2),
            "ids": ("int64: not a weight", 0),
            "none": ("empty", 0),
        }
        assert found.parameters == 28
        assert (found.nbytes, found.largest) == (26 * 4, 80)
        for stored in found.weights:
            assert np.array_equal(found.read(stored, threads=2).array, PAIRS[stored.name].numpy())


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.int8,
        torch.uint8,
    ],
    ids=str,
)
def test_every_dtype_of_a_weight_comes_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    x = torch.randn(3, 5).mul(9).to(dtype)
    save_file({"w": x}, tmp_path / "m.safetensors")
    with open_checkpoint(tmp_path / "m.safetensors") as found:
        view = found.read(found.weights[0])
        assert view.dtype == str(dtype).removeprefix("torch.")
        assert np.array_equal(view.array.view(np.uint8), x.view(torch.uint8).numpy())


def test_one_buffer_is_read_into_again_and_again(tmp_path: Path) -> None:
    save_file({str(i): torch.full((64, 64), float(i)) for i in range(6)}, tmp_path / "m.safetensors")
    with open_checkpoint(tmp_path / "m.safetensors") as found:
        places = set()
        for stored in found.weights:
            view = found.read(stored)
            assert (view.array == float(stored.name)).all()
            places.add(view.array.ctypes.data)
        assert len(places) == 1


def test_safetensors_need_no_torch(tmp_path: Path) -> None:
    path = two(tmp_path)
    code = f"""
import sys
sys.modules["torch"] = None
from netassay.sources.checkpoint.checkpoint import open_checkpoint
for source in ({str(path)!r}, {str(tmp_path)!r}, {str(tmp_path / "m-1.safetensors")!r}):
    with open_checkpoint(source) as found:
        assert found.read(found.weights[0]).array.sum() == 15
import numpy
assert open_checkpoint({{"w": numpy.ones((2, 3))}}).parameters == 6
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_safetensors_file_under_another_name_is_known_by_its_content(tmp_path: Path) -> None:
    save_file(PAIRS, tmp_path / "m.bin")
    assert sorted(names(open_checkpoint(tmp_path / "m.bin"))) == ["a.weight", "b.weight"]
    torch.save(PAIRS, tmp_path / "m.safetensors")
    with pytest.raises(CorruptCheckpoint, match="a file of torch's under this name"):
        open_checkpoint(tmp_path / "m.safetensors")


def test_a_tensor_larger_than_memory_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    save_file(PAIRS, tmp_path / "m.safetensors")
    with pytest.raises(LimitExceeded, match=r"tensor 'b.weight' of shape \(4, 5\) takes 80 bytes, the limit is 79"):
        open_checkpoint(tmp_path / "m.safetensors", memory=79)
    assert open_checkpoint(tmp_path / "m.safetensors", memory=80).largest == 80


def test_a_file_that_is_truncated_while_open_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"w": torch.ones(512, 512)}, path)
    with open_checkpoint(path) as found:
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size // 2)
        with pytest.raises(CorruptCheckpoint, match="'w'"):
            found.read(found.weights[0])


def test_a_state_file_is_no_checkpoint(tmp_path: Path) -> None:
    statefile.save(tmp_path / "s.safetensors", kind="moments", config={}, tensors={"scatter": np.ones((2, 2))})
    with pytest.raises(UnsupportedLayout, match="a state file of netassay's"):
        open_checkpoint(tmp_path / "s.safetensors")


def test_a_damaged_header_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CorruptCheckpoint, match=r"m\.safetensors"):
        open_checkpoint(tmp_path / "m.safetensors")


def test_what_a_configuration_beside_the_file_says_is_quantised_is_not_measured(tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(2, 3, dtype=torch.int8), "b.weight": torch.ones(2, 3)}
    save_file(state, tmp_path / "model.safetensors")
    assert sorted(names(open_checkpoint(tmp_path))) == ["a.weight", "b.weight"]
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "x"}}))
    for source in (tmp_path, tmp_path / "model.safetensors"):
        found = open_checkpoint(source)
        assert names(found) == ["b.weight"]
        assert found.skipped[0].reason == "quantised: quantization_config in config.json says so"
    (tmp_path / "config.json").write_text("{broken")
    assert len(names(open_checkpoint(tmp_path))) == 2


def test_scales_in_another_shard_count(tmp_path: Path) -> None:
    shards = {"1.safetensors": {"a.weight": torch.ones(2, 3).to(torch.float8_e4m3fn)}}
    shards["2.safetensors"] = {"a.weight_scale_inv": torch.ones(1, 1), "b.weight": torch.ones(2, 2)}
    assert names(open_checkpoint(sharded(tmp_path, shards))) == ["b.weight"]


def test_the_fingerprint_is_of_the_file_size_too(tmp_path: Path) -> None:
    prints = []
    for metadata in ({"x": "1"}, {"x": "2"}, {"x": "11111111"}):
        save_file(PAIRS, tmp_path / "m.safetensors", metadata)
        prints.append(open_checkpoint(tmp_path / "m.safetensors").fingerprint)
    assert prints[0] == prints[1] != prints[2]


# ---- Shards ----


def test_an_index_is_its_shards(tmp_path: Path) -> None:
    for source in (two(tmp_path), tmp_path):
        with open_checkpoint(source) as found:
            assert names(found) == ["a.weight", "b.weight"]
            for stored in (*found.weights, *reversed(found.weights)):
                assert np.array_equal(found.read(stored).array, PAIRS[stored.name].numpy())
            assert found.source == str(source)


@pytest.mark.parametrize("archive", [True, False])
def test_shards_may_be_files_of_torchs(tmp_path: Path, archive: bool) -> None:
    for i, (name, value) in enumerate(PAIRS.items()):
        torch.save({name: value}, tmp_path / f"{i}.bin", _use_new_zipfile_serialization=archive)
    index = {"weight_map": {"a.weight": "0.bin", "b.weight": "1.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with open_checkpoint(tmp_path) as found:
        for stored in (*found.weights, *found.weights):
            assert np.array_equal(found.read(stored).array, PAIRS[stored.name].numpy())


def test_wrappers_are_what_all_shards_have_in_common(tmp_path: Path) -> None:
    shards = {"1.safetensors": {"module.a.weight": torch.ones(2, 3)}, "2.safetensors": {"module.b": torch.ones(2, 2)}}
    found = open_checkpoint(sharded(tmp_path, shards))
    assert names(found) == ["a.weight", "b"]
    assert found.wrappers == ("module.",)


@pytest.mark.parametrize(
    "shard",
    [
        "/etc/passwd",
        "../m-1.safetensors",
        "a/../../m-1.safetensors",
        "..\\m",
        "C:\\m",
        "\\m",
        "m\0",
        "",
        ".",
        "out.safetensors",
        "in/m",
    ],
)
def test_a_shard_outside_the_directory_of_its_index_is_refused(tmp_path: Path, shard: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(PAIRS, tmp_path / "m-1.safetensors")
    (folder / "out.safetensors").symlink_to(tmp_path / "m-1.safetensors")
    (folder / "in").symlink_to(tmp_path)
    path = two(folder, {"weight_map": {"a.weight": shard}})
    with pytest.raises(CorruptCheckpoint, match="expected a file in the directory of the index"):
        open_checkpoint(path)


def test_links_of_the_hub_cache_into_its_blobs_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    two(blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    assert names(open_checkpoint(snapshot)) == ["a.weight", "b.weight"]
    assert names(open_checkpoint(snapshot / "model.safetensors.index.json")) == ["a.weight", "b.weight"]


def test_a_link_within_the_directory_is_followed(tmp_path: Path) -> None:
    path = two(tmp_path)
    (tmp_path / "m-1.safetensors").rename(tmp_path / "real.safetensors")
    (tmp_path / "m-1.safetensors").symlink_to("real.safetensors")
    assert names(open_checkpoint(path)) == ["a.weight", "b.weight"]


def test_a_missing_shard_is_named_with_a_tensor_it_should_hold(tmp_path: Path) -> None:
    path = two(tmp_path)
    (tmp_path / "m-2.safetensors").unlink()
    with pytest.raises(
        CorruptCheckpoint, match=r"shard 'm-2.safetensors', which holds 'b.weight', is not there"
    ) as raised:
        open_checkpoint(path)
    assert str(path) in str(raised.value)


def test_a_shard_that_lacks_a_tensor_is_named_with_it(tmp_path: Path) -> None:
    index = {"weight_map": {"a.weight": "m-1.safetensors", "b.weight": "m-1.safetensors"}}
    with pytest.raises(
        CorruptCheckpoint, match=r"shard 'm-1.safetensors' lacks 'b.weight', which the index says is in it"
    ):
        open_checkpoint(two(tmp_path, index))


def test_what_the_index_does_not_name_is_left_out_and_said(tmp_path: Path) -> None:
    shards = {"1.safetensors": {"a.weight": torch.ones(2, 2), "stray": torch.ones(3, 3)}}
    found = open_checkpoint(sharded(tmp_path, shards, {"weight_map": {"a.weight": "1.safetensors"}}))
    assert names(found) == ["a.weight"]
    assert [(skip.name, skip.reason) for skip in found.skipped] == [
        ("stray", "the index does not take it from 1.safetensors")
    ]
    assert found.parameters == 4


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}', "[" * 100000, "\xff",
     '{"weight_map": {"a.weight": "m-1.safetensors", "a.weight": "m-2.safetensors"}}'],
    ids=range(10),
)  # fmt: skip
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = two(tmp_path)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CorruptCheckpoint, match=r"index\.json: got no (JSON|weight_map)"):
        open_checkpoint(path)


# ---- Directories ----


def test_a_directory_is_its_index_before_its_files_and_says_so(tmp_path: Path) -> None:
    two(tmp_path)
    save_file({"other": torch.ones(2, 2)}, tmp_path / "consolidated.safetensors")
    (tmp_path / "pytorch_model.bin.index.json").write_text("{}")
    found = open_checkpoint(tmp_path)
    assert names(found) == ["a.weight", "b.weight"]
    assert found.notes == ("of the directory: model.safetensors.index.json; not pytorch_model.bin.index.json",)


def test_a_directory_is_its_safetensors_before_its_torch_files(tmp_path: Path) -> None:
    torch.save(PAIRS, tmp_path / "pytorch_model.bin")
    save_file({"a.weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    save_file({"b.weight": torch.ones(2, 2)}, tmp_path / "adapter.safetensors")
    found = open_checkpoint(tmp_path)
    assert names(found) == ["a.weight"]
    assert found.notes == ("of the directory: model.safetensors; not adapter.safetensors, pytorch_model.bin",)


def test_files_of_a_directory_are_one_checkpoint_where_they_share_no_name(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    save_file({"b.weight": torch.ones(2, 2)}, tmp_path / "y.safetensors")
    found = open_checkpoint(tmp_path)
    assert names(found) == ["a.weight", "b.weight"]
    assert found.notes == ("of the directory: x.safetensors, y.safetensors",)
    save_file({"b.weight": torch.ones(2, 2)}, tmp_path / "z.safetensors")
    with pytest.raises(UnsupportedLayout, match=r"'b.weight' in .*y.safetensors and z.safetensors: pass one of them"):
        open_checkpoint(tmp_path)


def test_numbered_shards_without_an_index_must_all_be_there(tmp_path: Path) -> None:
    for i, (name, value) in enumerate(PAIRS.items(), 1):
        save_file({name: value}, tmp_path / f"model-0000{i}-of-00003.safetensors")
    with pytest.raises(CorruptCheckpoint, match="shard 3 of 3 is not there"):
        open_checkpoint(tmp_path)
    save_file({"c": torch.ones(2, 2)}, tmp_path / "model-00003-of-00003.safetensors")
    assert names(open_checkpoint(tmp_path)) == ["a.weight", "b.weight", "c"]


def test_what_training_leaves_beside_a_model_is_not_the_model(tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save(PAIRS if name == "pytorch_model.bin" else {"x": torch.ones(9, 9)}, tmp_path / name)
    found = open_checkpoint(tmp_path)
    assert names(found) == ["a.weight", "b.weight"]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [([], "nothing"), (["readme.txt"], "readme.txt"), ([".metadata", "__0_0.distcp"], "not consolidated")],
)
def test_a_directory_without_a_checkpoint_says_what_it_has(tmp_path: Path, content: list[str], says: str) -> None:
    for name in content:
        (tmp_path / name).write_text("x")
    with pytest.raises(UnsupportedLayout, match=f"got a directory with .*{says}.*expected a checkpoint in it"):
        open_checkpoint(tmp_path)
