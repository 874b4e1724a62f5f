"""What benchmarks share: pinned threads, interleaved rounds, a table, a JSON file that says where it was made."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

#: One timed call lasts at least this long (shorter work is repeated inside it), and a case about this long in all.
LEAST_SECONDS, CASE_SECONDS = 0.02, 3.0
#: The most that torch may use where netassay is capped (NETASSAY_ISA): everything but what the level lacks.
CAPS = {
    "amx": {},
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16",
    },
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "baseline": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
#: What decides speed, of all that /proc/cpuinfo lists.
_FLAGS = ("avx2", "fma", "f16c", "avx512", "amx")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call, over rounds."""

    minimum: float
    median: float
    rounds: int

    def over(self, other: Timing) -> str:
        """How many times longer than the other: of the minima (of the medians)."""
        return f"{self.minimum / other.minimum:.2f} ({self.median / other.median:.2f})"

    def milliseconds(self) -> str:
        """Minimum (median)."""
        digits = max(0, 2 - math.floor(math.log10(self.minimum * 1e3)))
        return f"{self.minimum * 1e3:.{digits}f} ({self.median * 1e3:.{digits}f})"


@dataclass(slots=True)
class Case:
    """One row: times by arm; errors of the answers, dimensionless; floors in seconds; what else there is to say."""

    group: str
    name: str
    times: dict[str, Timing]
    errors: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


def pin(threads: int | None, isa: str | None) -> int:
    """Keeps this process on `threads` processors and caps the instruction sets; to be called before any import of
    numpy, torch or netassay, which read the environment once."""
    loaded = {"numpy", "torch", "netassay"} & set(sys.modules)
    if loaded:
        raise RuntimeError(f"pin: {sorted(loaded)} are loaded already, expected to be first")
    processors = sorted(os.sched_getaffinity(0))
    count = min(threads or len(processors), len(processors))
    os.sched_setaffinity(0, processors[:count])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ["OMP_DYNAMIC"] = os.environ["MKL_DYNAMIC"] = "FALSE"
    if isa is not None:
        os.environ.update(CAPS[isa], NETASSAY_ISA=isa)
    import torch

    torch.set_num_threads(count)
    return count


def interleaved(
    arms: Mapping[str, Callable[[], object]], *, rounds: int = 5, repeats: int | None = None
) -> dict[str, Timing]:
    """Times every arm once per round, each round starting with the next arm, so that all see the same machine.

    Args:
        rounds: at least so many; more where they are short. repeats: calls per timing; None: as many as last 20 ms.
    """
    calls: dict[str, int] = {}
    for name, arm in arms.items():
        arm()
        once = _timed(arm, 1)
        calls[name] = repeats or max(1, math.ceil(LEAST_SECONDS / once))
    samples: dict[str, list[float]] = {name: [] for name in arms}
    order, begin, done = list(arms), time.perf_counter(), 0
    while done < rounds or (done < 25 and time.perf_counter() - begin < CASE_SECONDS):
        for name in order[done % len(order) :] + order[: done % len(order)]:
            samples[name].append(_timed(arms[name], calls[name]))
        done += 1
    return {name: Timing(min(times), statistics.median(times), done) for name, times in samples.items()}


def _timed(arm: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        arm()
    return (time.perf_counter() - begin) / calls


def best(work: Callable[[], object], rounds: int = 9) -> float:
    """Least seconds of a call."""
    work()
    return min(_timed(work, 1) for _ in range(rounds))


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows under a header; the first column to the left, numbers to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    print(f"\n{title}")
    for index, line in enumerate(lines):
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *cells[1:]]).rstrip())
        if index == 0:
            print("─" * (sum(widths) + 2 * (len(widths) - 1)))
    sys.stdout.flush()


#: A case yet to be run: its name, and what runs it.
Pending: TypeAlias = tuple[str, Callable[[], Case]]


@dataclass(frozen=True, slots=True)
class Group:
    """A table: title, the cases that are its rows (given the least number of rounds), header, and a case's cells."""

    title: str
    cases: Callable[[int], Iterable[Pending]]
    header: tuple[str, ...]
    row: Callable[[Case], list[str]]


def main(
    description: str | None,
    groups: Mapping[str, Group],
    packages: Sequence[str],
    *,
    notes: Sequence[str] = (),
    measure: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Command line of a benchmark: runs groups, prints their tables and then the notes.

    A case whose answer fails its assertion is shown as failed, not timed, and makes the exit status 1.

    Args:
        packages: whose versions are told; measure: what else to tell of the machine, after pinning.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", metavar="FILE", help="write all times, in seconds, with what they were made on")
    parser.add_argument("--only", default=",".join(groups), help=f"some of {','.join(groups)}")
    parser.add_argument("--threads", type=int, help="processors to keep to (default: all this process may use)")
    parser.add_argument("--isa", choices=CAPS, help="cap netassay, and torch alike, at an instruction set")
    parser.add_argument("--rounds", type=int, default=5, help="at least so many (default 5)")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if not set(chosen) <= set(groups):
        parser.error(f"--only: got {options.only}, expected some of {','.join(groups)}")
    threads = pin(options.threads, options.isa)
    where = machine(threads, packages)
    versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
    print(f"{where['cpu']}; netassay on {where['isa']}, torch on {where['torch_capability']}; {threads} threads")
    print(f"{versions}; load {where['load'][0]:.2f}")
    where.update(measure())
    cases: list[Case] = []
    failed: list[str] = []
    for name in chosen:
        group = groups[name]
        lines = []
        for row, work in group.cases(options.rounds):
            try:
                cases.append(work())
                lines.append(group.row(cases[-1]))
            except AssertionError as wrong:
                failed.append(str(wrong))
                lines.append([row, "FAILED", *["-"] * (len(group.header) - 2)])
        table(group.title, group.header, lines)
    print("\nTimes and ratios are of minima, of medians in brackets.", *notes, sep="\n")
    if options.json:
        write(options.json, {**where, "failed": failed}, cases)
    if failed:
        raise SystemExit("\n".join(["failed, and not timed:", *failed]))


def machine(threads: int, packages: Sequence[str]) -> dict[str, Any]:
    """Where and with what: processor, instruction sets, threads, versions, load."""
    import torch

    from netassay import _core

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = getattr(sys.modules.get(package), "__version__", "not installed")
    return {
        "cpu": fields.get("model name", platform.processor()),
        "isa": _core.isa(),
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "flags": [flag for flag in flags if flag.startswith(_FLAGS)],
        "caps": {name: os.environ[name] for cap in CAPS.values() for name in cap if name in os.environ},
        "threads": threads,
        "versions": versions,
        "load": list(os.getloadavg()),
    }


def write(path: str, where: Mapping[str, Any], cases: Sequence[Case]) -> None:
    """Writes everything as JSON, times in seconds."""
    content = {**where, "load_after": list(os.getloadavg()), "cases": [asdict(case) for case in cases]}
    Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
