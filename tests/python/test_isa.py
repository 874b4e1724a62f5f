"""The same claims at every instruction set that this processor offers, each in a process capped by NETASSAY_ISA.

This file is also the program of those processes: `test_isa.py measure FOLDER` and `test_isa.py load FOLDER` print one
JSON object {claim: what is wrong, or ""} (of "digest" and "switching" what they are). Tolerances and bars are those of
the tests of Moments.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LEVELS = ["baseline", "avx2", "avx512", "amx"]
TESTS = Path(__file__).resolve().parent.parent
BAR_ROWS, BAR_WIDTH = 30_000, 64
RATIOS = [0.0, 1.0, 1e2, 1e4, 1e6]  # mean / top standard deviation
HALF, WIDTH = 2500, 70  # a state that is saved holds folded blocks and rows that wait


# In the process of a level


def bars() -> Iterator[str]:
    import netassay as na
    from python.moments import PRECISIONS, within
    from reference import saturation as reference

    g = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(g.standard_normal((BAR_WIDTH, BAR_WIDTH)))
    direction = g.standard_normal(BAR_WIDTH)
    direction /= np.linalg.norm(direction)
    spread = g.standard_normal((BAR_ROWS, BAR_WIDTH)) / np.arange(1, BAR_WIDTH + 1) @ rotation.T
    for ratio in RATIOS:
        x = (spread + ratio * direction).astype(np.float32)
        expected = reference.covariance(x)
        k = reference.dimension(reference.eigenvalues(expected))
        for precision in PRECISIONS:
            m = na.Moments(BAR_WIDTH, precision=precision)
            for batch in np.array_split(x, 7):
                m.update(batch)
            if not within(precision, m.covariance(), expected):
                yield f"{precision}, ratio {ratio:g}: outside the bars"
            if na.saturation.saturation(m).dimension != k:
                yield f"{precision}, ratio {ratio:g}: another dimension than {k}"


def parity() -> Iterator[str]:
    from python.moments import DTYPES, PRECISIONS, assert_close, moments, rows, tolerance, typed

    for dtype in DTYPES:
        for n, distribution in ((3, "normal"), (129, "lognormal"), (1500, "normal")):
            given, x = typed(rows(n, 300, distribution), dtype)
            for precision in PRECISIONS:
                try:
                    assert_close(moments(given, precision=precision), x, tolerance(dtype, precision, n))
                except AssertionError as error:
                    yield f"{dtype}, {precision}, {distribution}, n {n}: {error}"


def exact_data() -> Iterator[str]:
    """Small integers: every product and sum is exact in any precision, whatever the order."""
    from python.moments import DTYPES, PRECISIONS, moments, typed

    half = np.random.default_rng(4).integers(-7, 8, (512, 130)).astype(np.float64)
    x = np.concatenate([half, -half])  # of mean zero
    for dtype in DTYPES:
        for precision in PRECISIONS:
            if not np.array_equal(moments(typed(x, dtype)[0], precision=precision).scatter, x.T @ x):
                yield f"{dtype}, {precision}"


def threads_and_batches() -> Iterator[str]:
    from python.moments import DTYPES, PRECISIONS, bits, cut, moments, rows, typed

    for dtype in DTYPES:
        for precision in PRECISIONS:
            for n, d in ((5, 300), (700, 129), (2300, 300)):
                x = typed(rows(n, d), dtype)[0]
                expected = bits(moments(x, precision=precision, threads=1))
                every_so_often = list(range(0, n, 97))
                for threads, points in ((1, every_so_often), (2, []), (3, [n // 3, n // 2]), (7, [1, 2, n - 1])):
                    if bits(moments(*cut(x, points), precision=precision, threads=threads)) != expected:
                        yield f"{dtype}, {precision}, {n} x {d}, {threads} threads, {len(points)} cuts"


def saved_rows() -> np.ndarray:
    from python.moments import rows

    x = rows(2 * HALF, WIDTH, "lognormal").astype(np.float32)
    x[7, 3] = np.nan
    return x


def save(folder: Path, level: str) -> Iterator[str]:
    from python.moments import PRECISIONS, moments

    for precision in PRECISIONS:
        moments(saved_rows()[:HALF], precision=precision, fourth=True).save(folder / f"{level}.{precision}")
    yield from ()


def load(folder: Path, level: str) -> Iterator[str]:
    """A state of any level, loaded here and fed the rest, agrees with the reference; one of this level, bit for bit."""
    import netassay as na
    from python.moments import assert_close, bits, moments, tolerance

    x = saved_rows()
    for path in sorted(folder.iterdir()):
        wrote, precision = path.name.split(".")
        own = moments(x[:HALF], precision=precision, fourth=True)
        loaded = na.Moments.load(path)
        if (loaded.count, loaded.nonfinite) != (HALF - 1, 1):
            yield f"{path.name}: count {loaded.count}, nonfinite {loaded.nonfinite}"
        for part in (x[:HALF], x):
            if part is x:
                own.update(x[HALF:])
                loaded.update(x[HALF:])
            try:
                assert_close(loaded, part, tolerance("float32", precision, len(part)))
            except AssertionError as error:
                yield f"{path.name}, {len(part)} rows: {error}"
            if wrote == level and bits(loaded) != bits(own):
                yield f"{path.name}, {len(part)} rows: other bits"


def weights() -> Iterator[tuple[str, Any, np.ndarray]]:
    from python.matrices import DTYPES, make, typed

    for dtype in DTYPES:
        for kind in ("normal", "half zero", "many blocks, faintly joined", "levels"):
            for m, n in ((1, 1), (3, 70), (97, 33), (130, 257)):
                given, values = typed(make(kind, m, n) * (9 if dtype.endswith("int8") else 1), dtype)
                yield f"{dtype}, {kind}, {m} x {n}", given, values


def trees() -> Iterator[str]:
    from netassay import _core
    from netassay.base.arrays import weight_view
    from netassay.persistence import largest
    from python.matrices import assert_spans, scipy_tree

    for name, given, values in weights():
        expected = scipy_tree(values)
        array, dtype = weight_view(given, "test")
        for method in ("filter", "boruvka", "prim"):
            for threads in (1, 3):
                found, ends, _, _ = _core.persistence.spanning_tree(array, dtype, method=method, threads=threads)
                if not np.array_equal(found, expected):
                    yield f"{name}, {method}, {threads} threads: another tree"
                assert_spans(values, found, ends)
        if largest(given) != expected[0]:
            yield f"{name}: another largest"


def digest() -> str:
    """Of every number that persistence gives."""
    from netassay.persistence import neural_persistence

    total = sha256()
    for _, given, _ in weights():
        for essential in (True, False):
            r = neural_persistence(given, p=3, essential=essential)
            total.update(np.r_[r.total, r.normalized, r.lower_bound, r.scale, r.weights].tobytes())
    return total.hexdigest()


def switching_digest() -> str:
    """Of every number that complexity counts."""
    from python.switching import DTYPES, bits, channels_last, fed, numbers, typed

    total = sha256()
    options: tuple[dict[str, Any], ...] = (
        {"rule": "relu", "patterns": True, "classes": 3},
        {"rule": "threshold", "threshold": (-0.5, 0.5)},
        {"rule": "maxpool", "kernel_size": 2},
    )
    for dtype in DTYPES:
        for shape in ((7, 5, 9, 11), (3, 70, 2, 3), (2, 3, 40, 33), (300, 97)):
            x = typed(numbers(shape), dtype)[0]
            for option in options:
                if len(shape) == 4 or "kernel_size" not in option:
                    for given in (x, channels_last(x)):
                        labels = np.arange(len(x)) % 3 if "classes" in option else None
                        total.update(bits(fed(given, labels=labels, **option)))
    return total.hexdigest()


def main(task: str, folder: Path) -> None:
    from netassay import _core

    level = _core.isa()
    claims: dict[str, Callable[[], Iterator[str]]] = {
        "bars": bars,
        "parity": parity,
        "exact data": exact_data,
        "threads and batches": threads_and_batches,
        "save": lambda: save(folder, level),
        "trees": trees,
        "digest": lambda: iter([digest()]),
        "switching": lambda: iter([switching_digest()]),
    }
    if task == "load":
        claims = {"load": lambda: load(folder, level)}
    print(json.dumps({"isa": level} | {claim: "\n".join(check()) for claim, check in claims.items()}))


# In pytest's


def run(level: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, capped at a level; with no level, at what the processor offers."""
    environment = {name: value for name, value in os.environ.items() if name != "NETASSAY_ISA"}
    if level is not None:
        environment["NETASSAY_ISA"] = level
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@cache
def offered() -> str:
    done = run(None, "-c", "from netassay import _core; print(_core.isa())")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def skip_above(level: str) -> None:
    if LEVELS.index(level) > LEVELS.index(offered()):
        pytest.skip(f"{level}: the processor and the system offer {offered()} at most")


@cache
def outcome(task: str, level: str, folder: Path) -> dict[str, str]:
    done = run(level, __file__, task, str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states")


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    skip_above(request.param)
    return str(request.param)


def test_a_cap_at_what_is_offered_is_what_is_used(level: str, states: Path) -> None:
    assert outcome("measure", level, states)["isa"] == level


def test_the_accuracy_bars_hold_at_every_level(level: str, states: Path) -> None:
    assert outcome("measure", level, states)["bars"] == ""


def test_every_dtype_agrees_with_the_reference_at_every_level(level: str, states: Path) -> None:
    assert outcome("measure", level, states)["parity"] == ""


def test_small_integers_have_their_exact_scatter_at_every_level(level: str, states: Path) -> None:
    assert outcome("measure", level, states)["exact data"] == ""


def test_threads_and_batches_do_not_change_a_bit_at_any_level(level: str, states: Path) -> None:
    assert outcome("measure", level, states)["threads and batches"] == ""


def test_a_state_saved_at_one_level_goes_on_at_any_other(level: str, states: Path) -> None:
    for wrote in LEVELS[: LEVELS.index(offered()) + 1]:
        outcome("measure", wrote, states)
    assert outcome("load", level, states)["load"] == ""


def test_trees_are_scipys_at_every_level(level: str, states: Path) -> None:
    pytest.importorskip("scipy")
    assert outcome("measure", level, states)["trees"] == ""


def test_persistence_has_the_same_bits_at_every_level(level: str, states: Path) -> None:
    assert outcome("measure", level, states)["digest"] == outcome("measure", "baseline", states)["digest"]


def test_switching_counts_are_the_same_at_every_level(level: str, states: Path) -> None:
    assert outcome("measure", level, states)["switching"] == outcome("measure", "baseline", states)["switching"]


def test_a_cap_above_what_is_offered_and_an_empty_one_ask_for_nothing() -> None:
    for cap in ("amx", ""):
        assert run(cap, "-c", "from netassay import _core; print(_core.isa())").stdout.strip() == offered()


UNKNOWN = """
import numpy as np, netassay as na
m = na.Moments(4)
for use in (na._core.isa, lambda: m.update(np.ones((3000, 4), np.float32))) * 2:
    try:
        use()
    except ValueError as error:
        print(error)
assert m.count == 0
"""


def test_an_unknown_level_is_an_error_where_it_is_first_needed_and_every_time() -> None:
    done = run("sse9", "-c", UNKNOWN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["NETASSAY_ISA: got 'sse9', expected baseline, avx2, avx512 or amx"] * 4


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
