"""Small safetensors files of every format, written here byte by byte, and the real checkpoint where it lies."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netassay.base.arrays import View

TAGS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int8": "I8",
    "uint8": "U8",
}


def tagged(value: Any) -> View:
    return value if isinstance(value, View) else View(value, value.dtype.name)


def write(path: Path, tensors: Mapping[str, Any]) -> Path:
    """A safetensors file of arrays and Views, in the order given."""
    header: dict[str, Any] = {}
    data = b""
    for name, value in tensors.items():
        array, dtype = tagged(value)
        part = np.ascontiguousarray(array).tobytes()
        offsets = [len(data), len(data) + len(part)]
        header[name] = {"dtype": TAGS[dtype], "shape": array.shape, "data_offsets": offsets}
        data += part
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def bfloat16(array: np.ndarray) -> View:
    return View((array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16), "bfloat16")


def network(seed: int = 0) -> dict[str, Any]:
    """Three layers and what surrounds them; the largest |w| is 4.0, in "head"."""
    random = np.random.default_rng(seed)

    def matrix(*shape: int) -> np.ndarray:
        return np.clip(random.standard_normal(shape), -3, 3).astype(np.float32)

    head = matrix(4, 12)
    head[1, 2] = -4.0
    return {
        "embed.weight": bfloat16(matrix(20, 6)),
        "body.conv.weight": matrix(8, 6, 3, 3),
        "body.conv.bias": matrix(8),
        "body.norm.weight": matrix(8),
        "body.steps": np.array([7], np.int64),
        "head.weight": head,
        "head.bias": matrix(4),
    }


def resnet20() -> Path:
    """The published ResNet-20 for CIFAR-10, in ../shared/data beside the repository or in NETASSAY_DATA."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    path = Path(os.environ.get("NETASSAY_DATA", beside)) / "resnet20-12fca82f.th"
    if not path.exists():
        pytest.skip(f"no {path}: set NETASSAY_DATA to the folder that holds it")
    return path
