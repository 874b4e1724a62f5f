"""A checkpoint of whatever kind -> the names, shapes and dtypes of its weights, and one of them at a time.

Weights are matrices: tensors of two axes or more, of floating-point numbers or of plain 8-bit integers. Everything else
is in `skipped`, with its reason. Nothing but names and sizes is read before `Checkpoint.read`.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from netassay.base import memory as _memory
from netassay.base.arrays import View
from netassay.base.errors import LimitExceeded, UnsupportedLayout
from netassay.sources.checkpoint import judge, names
from netassay.sources.checkpoint.modules import Module
from netassay.sources.checkpoint.paths import open_path
from netassay.sources.checkpoint.statedict import StateDict
from netassay.sources.checkpoint.tensors import Found, Source


@dataclass(frozen=True, slots=True)
class Stored:
    """One weight.

    Attributes:
        name: as the source has it, wrapper prefixes stripped.
        layer: its name in a report: tensor `a.b.weight` is layer `a.b`, the top's `weight` is `(root)`, any other
            matrix keeps its whole name.
        aliases: report names of the other tensors with the same elements.
        dtype: float64, float32, bfloat16, float16, float8_e4m3fn, float8_e5m2, int8 or uint8.
        shape: as stored: (out, in, ...), or (in, out / groups, ...) where inputs come first.
        nbytes: what reading it takes.
        kind: class name of its module; "" where the source is a file or a state_dict.
        inputs_first: stored as a transposed convolution, an embedding and transformers' Conv1D are. groups: of a
            grouped convolution. Where they are known.
        guessed: its name alone says whether inputs come first.
        aside: a token, a position embedding, a table: a parameter of the network and no layer's weight.
    """

    name: str
    layer: str
    aliases: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    kind: str = ""
    inputs_first: bool = False
    groups: int = 1
    guessed: bool = False
    aside: bool = False

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Skip:
    """One tensor that is no weight, why, and how many parameters it has (none where it is a buffer)."""

    name: str
    reason: str
    parameters: int


class Checkpoint:
    """The weights of a source, read one at a time. A context manager; made by `open_checkpoint`.

    Attributes:
        source: the path as given, "state_dict", or the class name of the module.
        wrappers: keys and prefixes that were stripped.
        fingerprint: hash of names, dtypes, shapes and file sizes, never of the values.
        weights: in order of storage, each once however many names it has.
        skipped: everything else, likewise once.
        notes: sentences for the coverage of a report.
        parameters: of weights and skipped together.
        nbytes: of all weights; largest: of the largest.
    """

    def __init__(self, source: Source, name: str, function: str, *, strip: bool = True) -> None:
        found, prefixes = names.strip(source.found) if strip else (tuple(source.found), ())
        self._source: Source | None = source
        self._function = function
        self.source = name
        self.wrappers = (*source.wrappers, *prefixes)
        self.fingerprint = source.fingerprint or _fingerprint(found, source.sizes)
        self.notes = tuple(source.notes)
        groups = judge.judge(found, source.quantised, source.config)
        weights = [group for group in groups if not group.reason]
        layers = names.layers((group.found.name, names.layer_of(group.found.name)) for group in weights)
        self._found = {group.found.name: group.found for group in weights}
        self.weights: Sequence[Stored] = tuple(_stored(group, layers[group.found.name]) for group in weights)
        self.skipped: Sequence[Skip] = tuple(
            Skip(group.found.name, group.reason, group.parameters) for group in groups if group.reason
        )
        self.parameters = sum(group.parameters for group in groups)
        self.nbytes = sum(weight.nbytes for weight in self.weights)
        self.largest = max((weight.nbytes for weight in self.weights), default=0)

    def afford(self, memory: float, kept: Sequence[Stored] = ()) -> None:
        """Raises LimitExceeded, naming the tensor, where reading a weight allocates more than `memory` bytes.

        Args:
            kept: weights that are read with keep=True, which all stay beside the one that is read.
        """
        if not self._found:
            return
        copies = sum(self._copied(one) for one in dict.fromkeys(kept))
        cost, found = max(((_cost(found), found) for found in self._found.values()), key=lambda pair: pair[0])
        if cost + copies > memory:
            chain = f" beside the {copies} of the chain's {len(kept)} weights" if copies else ""
            raise LimitExceeded(
                f"{self._function}: {self.source}: tensor {found.name!r} of shape {found.shape} takes {cost} bytes"
                f"{chain}, the limit is {memory:.0f}"
            )

    def _copied(self, stored: Stored) -> int:
        """Bytes that keeping a weight takes; none where it lies in memory as it is read."""
        return stored.nbytes if _cost(self._found[stored.name]) else 0

    def read(self, stored: Stored, *, threads: int | None = None, keep: bool = False) -> View:
        """The values of a weight, of shape `stored.shape`, valid until the next read; not to be written to.

        With keep=True they stay valid: they are a copy, or the memory of the source itself.

        bfloat16 comes as its bits in uint16, 8-bit floats as theirs in uint8.

        Raises:
            CorruptCheckpoint: the file is not what it was when it was opened. ValueError: not of this checkpoint, or
            closed. OSError as the file system gives it.
        """
        found = self._found.get(stored.name)
        if self._source is None or found is None:
            why = "a closed checkpoint" if self._source is None else f"{stored.name!r}, no weight of this checkpoint"
            raise ValueError(f"Checkpoint.read: got {why}")
        view = self._source.read(found, threads)
        return View(view.array.copy(), view.dtype) if keep and self._copied(stored) else view

    def close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Checkpoint: {self.source}, weights {len(self.weights)}, parameters {self.parameters}>"


def _cost(found: Found) -> int:
    """Bytes that reading it allocates."""
    return found.nbytes if found.cost is None else found.cost


def _stored(group: judge.Group, layer: str) -> Stored:
    found = group.found
    aliases = tuple(dict.fromkeys(names.layer_of(other.name) for other in group.others))
    what = (found.dtype, found.shape, found.nbytes, found.kind, group.inputs_first, found.groups)
    others = tuple(alias for alias in aliases if alias != layer)
    return Stored(found.name, layer, others, *what, guessed=group.guessed, aside=group.aside)


def _fingerprint(several: Sequence[Found], sizes: Sequence[int]) -> str:
    lines = sorted(f"{found.name} {found.dtype} {found.shape}" for found in several)
    return hashlib.blake2b(
        "\n".join([*lines, *map(str, sorted(sizes))]).encode("utf-8", "replace"), digest_size=16
    ).hexdigest()


def open_checkpoint(source: Any, *, memory: float | None = None, function: str = "open_checkpoint") -> Checkpoint:
    """The weights of a checkpoint, a state_dict or a module, with nothing but names and sizes read yet.

    Args:
        source: path of a .safetensors, .pt, .pth, .th or .bin file, of an index.json of shards, or of a directory with
            one of these; a mapping from names to tensors or numpy arrays, or one that holds such a mapping under
            "state_dict", "model", ...; an nn.Module.
        memory: bytes that reading may allocate; None: what is free.
        function: what the caller was called as, which begins the messages.

    Raises:
        OSError: FileNotFoundError and others as the file system gives them. CorruptCheckpoint: damaged, truncated,
        dishonest, or shards that do not fit their index. UnsupportedLayout: nothing that a checkpoint is read from.
        LimitExceeded: before anything is allocated.
    """
    limit = _memory.available() if memory is None else float(memory)
    opened = _open(source, limit, function)
    try:
        opened.afford(limit)
    except BaseException:
        opened.close()
        raise
    return opened


def _open(source: Any, memory: float, function: str) -> Checkpoint:
    if isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        return Checkpoint(open_path(path, memory, function), path, function)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.nn.Module):
        return Checkpoint(Module(source, function), type(source).__name__, function, strip=False)
    if isinstance(source, Mapping):
        return Checkpoint(StateDict(source, function), "state_dict", function)
    got = type(source).__name__
    raise UnsupportedLayout(f"{function}: got {got}, expected a path, a state_dict or an nn.Module")
