"""plan: what measure_weights would do with a checkpoint, and what it would take, without reading the weights."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netassay.base import memory as _memory
from netassay.base import threads as _threads
from netassay.base.arrays import CARRIERS, View
from netassay.report import Skipped
from netassay.report.about import cells as _cells
from netassay.report.show import grid as _grid
from netassay.report.show import text as _text
from netassay.sources.checkpoint.checkpoint import Stored, open_checkpoint
from netassay.verbs.weighing import Weighing, places_read, weighings
from netassay.verbs.weights import selected

_CALIBRATION_S = 0.3


@dataclass(frozen=True, slots=True)
class Plan:
    """What `measure_weights` would do with the same arguments.

    Attributes:
        source: the checkpoint.
        weights: what would be measured, in order of storage.
        others: how many weights would be read for the scale alone.
        skipped: what would be left out, and why.
        parameters: a count, of the whole source; nbytes: to be read.
        measures: what would be measured of each.
        memory: bytes needed, of the largest weight and of what the file holds beside it; available: bytes that may be
            taken.
        threads: a count.
        seconds: least and most, with the file in memory; from disk, the time to read nbytes comes on top.
    """

    source: str
    weights: tuple[Stored, ...]
    others: int
    skipped: tuple[Skipped, ...]
    parameters: int
    nbytes: int
    memory: int
    available: float
    threads: int
    seconds: tuple[float, float]
    measures: tuple[str, ...] = ("persistence",)

    def __str__(self) -> str:
        return self.render()

    def render(self, width: int | None = None) -> str:
        """As text; with the width of a terminal, columns that do not fit are left out."""
        table = _grid.table(_COLUMNS, self.weights, width)
        wrapped = width or min(max(80, *map(len, table.splitlines())), 120)
        return f"{table}\n\n{_text.wrap(self._lines(), wrapped, 4)}"

    def _lines(self) -> list[str]:
        count = sum(weight.parameters for weight in self.weights)
        share = f" ({_cells.percent(count / self.parameters)})" if 0 < count < self.parameters else ""
        scale = f", {self.others:,} more to read for the scale" if self.others else ""
        fits = "" if self.memory <= self.available else ": too little"
        low, high = map(duration, self.seconds)
        took = low if low == high else f"{low} to {high}"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return [
            f"  measures: {', '.join(self.measures)}",
            f"  weights: {len(self.weights):,} to measure{scale}; "
            f"parameters: {count:,} of {self.parameters:,} to measure{share}",
            *_text.skipped_lines(self.skipped, self.parameters),
            f"  memory: {size(self.memory)} of the {size(self.available)} that may be taken{fits}",
            f"  time: {took} with {threads}; where the {size(self.nbytes)} come from disk, reading them comes on top",
        ]


_COLUMNS = (
    _cells.Column("layer", lambda weight: weight.layer),
    _cells.Column("kind", lambda weight: weight.kind or None, rank=2),
    _cells.Column("dtype", lambda weight: weight.dtype, rank=1),
    _cells.Column("shape", lambda weight: "x".join(map(str, weight.shape))),
    _cells.Column("parameters", lambda weight: weight.parameters, ",", rank=3),
    _cells.Column("size", lambda weight: size(weight.nbytes)),
)


def plan(
    source: Any,
    *,
    measures: tuple[str, ...] = ("persistence",),
    layers: object = "*",
    threads: int | None = None,
    memory: float | None = None,
) -> Plan:
    """What `measure_weights(source, ...)` would measure, skip and take; the weights are not read.

    Time comes from a calibration of a fraction of a second on matrices made up here.

    Args:
        source, measures, layers, threads, memory: as for `measure_weights`.

    Raises:
        As `measure_weights`, except for what only the data can show; LimitExceeded is not raised, the plan says it.
    """
    wanted = weighings(measures, "plan")
    count = _threads.resolve(threads)
    available = _memory.available() if memory is None else float(memory)
    with open_checkpoint(source, memory=float("inf"), function="plan") as checkpoint:
        chosen = selected(checkpoint, layers, "plan")
        weights = tuple(checkpoint.weights[place] for place in chosen)
        left_out = set(range(len(checkpoint.weights))) - set(chosen)
        skipped = [Skipped(skip.name, skip.reason, skip.parameters) for skip in checkpoint.skipped]
        for weight in (checkpoint.weights[place] for place in sorted(left_out)):
            skipped.append(Skipped(weight.layer, "not selected", weight.parameters))
        read = [checkpoint.weights[place] for place in places_read(wanted, checkpoint, chosen)]
        return Plan(
            source=checkpoint.source,
            weights=weights,
            others=len(read) - len(weights),
            skipped=tuple(skipped),
            parameters=checkpoint.parameters,
            nbytes=sum(weight.nbytes for weight in read),
            memory=checkpoint.largest,
            available=available,
            threads=count,
            seconds=_seconds(read, count, wanted),
            measures=tuple(weighing.measure for weighing in wanted),
        )


def _seconds(weights: Sequence[Stored], threads: int, wanted: Sequence[Weighing]) -> tuple[float, float]:
    """Per weight and per matrix as measured on matrices of the most common format, easy and hard ones."""
    parameters: Counter[str] = Counter()
    for weight in weights:
        parameters[weight.dtype] += weight.parameters
    dtype = parameters.most_common(1)[0][0]
    generator = np.random.default_rng(0)
    plain = generator.standard_normal((1024, 2048), dtype=np.float32)
    hard = np.abs(np.outer(plain[:, 0], plain[0]))  # rank one: the slowest kind of matrix
    call = _fastest(_as(plain[:16, :16], dtype), threads, wanted)
    rates = sorted(_fastest(_as(matrix, dtype), threads, wanted) / matrix.size for matrix in (plain, hard))
    copied = _copying()
    total, nbytes = sum(parameters.values()), sum(weight.nbytes for weight in weights)
    low = len(weights) * call + total * rates[0] + nbytes * copied
    high = len(weights) * call * 4 + total * rates[1] * 2 + nbytes * copied * 2
    return low, high


def _fastest(view: View, threads: int, wanted: Sequence[Weighing]) -> float:
    """Returns the seconds that weighing one weight takes, the least of a few."""
    until = time.monotonic() + _CALIBRATION_S / 3
    best = float("inf")
    while best == float("inf") or time.monotonic() < until:
        start = time.perf_counter()
        for weighing in wanted:
            weighing.weigh(view, groups=1, threads=threads)
        best = min(best, time.perf_counter() - start)
    return best


def _copying() -> float:
    """Seconds per byte of reading a file in memory, which is a copy."""
    source = np.ones(1 << 25, np.uint8)
    target = np.empty_like(source)
    np.copyto(target, source)
    start = time.perf_counter()
    np.copyto(target, source)
    return (time.perf_counter() - start) / source.size


def _as(matrix: np.ndarray[Any, Any], dtype: str) -> View:
    """Numbers in a format; where numpy has none such, the leading bits, of which every one is finite."""
    if dtype == "bfloat16":
        return View((np.ascontiguousarray(matrix).view(np.uint32) >> 16).astype(np.uint16), dtype)
    if dtype.startswith("float8") or dtype.endswith("int8"):
        return View((np.abs(matrix) * 20 % 120).astype(CARRIERS[dtype]), dtype)
    return View(np.ascontiguousarray(matrix, dtype=dtype), dtype)


def size(count: float) -> str:
    """Bytes for people: 1,536,000 is 1.5 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 99.5 else f"{count:.2g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float) -> str:
    """A time of which one digit is meant: 0.02 s, 3 s, 4 min, 2 h."""
    if seconds < 90:
        return f"{max(seconds, 0.01):.1g} s" if seconds < 10 else f"{round(seconds, -1):.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.0f} h"
