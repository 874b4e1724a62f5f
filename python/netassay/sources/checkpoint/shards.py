"""Several files that are one checkpoint: the shards of an index, or what a directory has."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PureWindowsPath
from typing import Any, TypeAlias

from netassay.base.arrays import View
from netassay.base.errors import CorruptCheckpoint, UnsupportedLayout
from netassay.base.text import shown
from netassay.sources.checkpoint.tensors import Found, Source

#: path -> its tensors.
Open: TypeAlias = Callable[[str], Source]

_MOST_JSON = 1 << 27
#: How the text begins that Git leaves in place of a file that it has not fetched, and what is said of it.
POINTER = b"version https://git-lfs"
POINTED = "no checkpoint: the file itself is not there, only its Git LFS pointer (git lfs pull fetches it)"


class Files(Source):
    """The tensors of several files, in their order."""

    def __init__(self, sources: Sequence[Source], notes: Sequence[str] = ()) -> None:
        self._sources = sources
        self.found = tuple(
            replace(found, region=(i, found.region), handle=(i, found))
            for i, source in enumerate(sources)
            for found in source.found
        )
        self.wrappers = tuple(dict.fromkeys(wrapper for source in sources for wrapper in source.wrappers))
        self.notes = (*notes, *(note for source in sources for note in source.notes))
        self.sizes = tuple(size for source in sources for size in source.sizes)
        self.quantised = next((source.quantised for source in sources if source.quantised), "")

    def read(self, found: Found, threads: int | None) -> View:
        at: int = found.handle[0]
        return self._sources[at].read(found.handle[1], threads)

    def close(self) -> None:
        for source in self._sources:
            source.close()


def read_json(path: str, function: str) -> Any:
    size = os.path.getsize(path)
    if size > _MOST_JSON:
        raise CorruptCheckpoint(f"{function}: {path}: got {size} bytes of JSON, expected at most {_MOST_JSON}")
    with open(path, "rb") as file:
        text = file.read(_MOST_JSON)
    if text.startswith(POINTER):
        raise UnsupportedLayout(f"{function}: {path}: got {POINTED}")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{function}: {path}: got no JSON ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(result := dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def of_index(path: str, opener: Open, function: str) -> Source:
    """The shards of an index, each with what the index says is in it."""
    what = f"{function}: {path}"
    index = read_json(path, function)
    weights = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weights, dict) or not weights or not all(isinstance(shard, str) for shard in weights.values()):
        raise CorruptCheckpoint(f"{what}: got no weight_map from tensors to shards")
    base = os.path.realpath(os.path.dirname(path) or ".")
    shards: dict[str, set[str]] = {}
    for name, shard in weights.items():
        shards.setdefault(shard, set()).add(name)
    files = {shard: _inside(base, shard, what) for shard in sorted(shards)}
    missing = next((shard for shard, file in files.items() if not os.path.exists(file)), None)
    if missing is not None:
        raise CorruptCheckpoint(f"{what}: shard {missing!r}, which holds {min(shards[missing])!r}, is not there")
    sources: list[Source] = []
    try:
        for shard, file in files.items():
            sources.append(opener(file))
            _agree(sources[-1], shards[shard], shard, what)
        return Files(sources)
    except BaseException:
        for source in sources:
            source.close()
        raise


def _agree(source: Source, names: set[str], shard: str, what: str) -> None:
    """The shard has what the index names; what else it has is left out."""
    lacking = names - {found.name for found in source.found}
    if lacking:
        raise CorruptCheckpoint(f"{what}: shard {shard!r} lacks {min(lacking)!r}, which the index says is in it")
    stray = f"the index does not take it from {shown(shard)}"
    source.found = tuple(
        found if found.name in names else replace(found, refusal=stray, counts=False) for found in source.found
    )


def _inside(base: str, shard: str, what: str) -> str:
    """The file of a shard, which lies in the directory of its index (or is a link into the hub cache's blobs)."""
    windows = PureWindowsPath(shard)
    strange = "\0" in shard or windows.drive or windows.root or ".." in windows.parts or shard in ("", ".")
    full = os.path.join(base, shard)
    real = "" if strange else os.path.realpath(full)
    roots = [base]
    if os.path.basename(os.path.dirname(base)) == "snapshots":
        roots.append(os.path.join(os.path.dirname(os.path.dirname(base)), "blobs"))
    if strange or not any(real.startswith(os.path.join(root, "")) for root in roots):
        raise CorruptCheckpoint(f"{what}: got shard {shard!r}, expected a file in the directory of the index")
    return full


def together(files: Sequence[str], opener: Open, function: str) -> Source:
    """Files that are one checkpoint: no tensor is in two of them, and no shard is missing."""
    _complete(files, function)
    sources: list[Source] = []
    try:
        for file in files:
            sources.append(opener(file))
        owners: dict[str, str] = {}
        for file, source in zip(files, sources, strict=True):
            for found in source.found:
                if (owner := owners.setdefault(found.name, file)) != file:
                    both = f"{owner} and {os.path.basename(file)}"
                    raise UnsupportedLayout(f"{function}: got tensor {found.name!r} in {both}: pass one of them")
        return sources[0] if len(sources) == 1 else Files(sources)
    except BaseException:
        for source in sources:
            source.close()
        raise


def _complete(files: Sequence[str], function: str) -> None:
    numbered = [match for file in files if (match := re.search(r"(\d+)-of-(\d+)\.\w+$", file))]
    for match in numbered:
        present = {int(other[1]) for other in numbered if int(other[2]) == int(match[2])}
        missing = next((i for i in range(1, int(match[2]) + 1) if i not in present), None)
        if missing is not None and 0 not in present:
            raise CorruptCheckpoint(f"{function}: {match.string}: shard {missing} of {int(match[2])} is not there")
