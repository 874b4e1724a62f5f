"""Moments in threads, copies, files, forks and interruptions."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import netassay as na
from python.moments import (
    DTYPES,
    PRECISIONS,
    assert_close,
    assert_same,
    bits,
    cut,
    moments,
    rows,
    run_alone,
    tolerance,
    typed,
)

pytestmark = pytest.mark.native

# Threads


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(dtype: str, precision: str) -> None:
    for n, d in ((1, 1), (5, 300), (700, 129), (5000, 37), (3000, 300)):
        x = typed(rows(n, d), dtype)[0]
        parts, results = cut(x, [n // 3, n // 2]), []
        for threads in (1, 2, 3, 7):
            m = moments(*parts, precision=precision, fourth=True, threads=threads)
            m.merge(moments(x, precision=precision, fourth=True, threads=threads), threads=threads)
            results.append(bits(m))
        assert results == results[:1] * 4


def test_threads_read_channels_first_alike() -> None:
    x = rows(4 * 600, 70).reshape(4, 70, 20, 30).astype(np.float32)
    results = [bits(moments(x, width=70, layout="channels_first", threads=t)) for t in (1, 2, 3, 7)]
    assert results == results[:1] * 4


def test_updates_from_several_threads_lose_nothing() -> None:
    batches = [rows(90, 8, seed=i) for i in range(80)]
    for batch in batches[::7]:
        batch[3, 2] = np.nan
    m = na.Moments(8)
    start = threading.Barrier(4)

    def work(mine: list[np.ndarray]) -> None:
        start.wait()
        for batch in mine:
            m.update(batch, threads=2)
            m.mean  # noqa: B018

    workers = [threading.Thread(target=work, args=(batches[i::4],)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    x = np.concatenate(batches)
    y = x[np.isfinite(x).all(axis=1)]
    z = y - y.mean(axis=0)
    assert_close(
        m,
        x,
        tolerance("float64", "exact", len(x)),
        float(np.sum(z * z)) * 2 + len(z) * float(np.max(np.sum(z * z, axis=1))),
    )


def test_merging_two_states_into_each_other_from_two_threads_does_not_deadlock() -> None:
    a, b = moments(np.ones((1, 40))), moments(np.zeros((1, 40)))
    body = [
        threading.Thread(target=lambda: [a.merge(b) for _ in range(25)], daemon=True),
        threading.Thread(target=lambda: [b.merge(a) for _ in range(25)], daemon=True),
    ]
    for thread in body:
        thread.start()
    for thread in body:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in body)
    assert a.count > 25
    assert b.count > 25


def test_another_python_thread_runs_while_an_update_computes() -> None:
    """With a switch interval of a minute the counter advances only where the interpreter lock is given up."""
    x, m, turns, stop = rows(20_000, 256), na.Moments(256), [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            turns[0] += 1
            time.sleep(0)  # gives the lock up, so that it never has to be taken away

    interval, worker = sys.getswitchinterval(), threading.Thread(target=count)
    worker.start()
    sys.setswitchinterval(60)
    try:
        gained = 0
        for _ in range(20):
            before = turns[0]
            m.update(x, threads=1)
            gained = max(gained, turns[0] - before)
            if gained >= 10:
                break
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        worker.join()
    assert gained >= 10


# Copies, files, interruption


COPIES: dict[str, Callable[[na.Moments, Path], na.Moments]] = {
    "copy": lambda m, path: m.copy(),
    "copy.copy": lambda m, path: copy.copy(m),
    "deepcopy": lambda m, path: copy.deepcopy(m),
    "pickle": lambda m, path: pickle.loads(pickle.dumps(m)),
    "pickle protocol 2": lambda m, path: pickle.loads(pickle.dumps(m, protocol=2)),
    "file": lambda m, path: (m.save(path), na.Moments.load(path))[1],
    "file by name": lambda m, path: (m.save(str(path)), na.Moments.load(str(path)))[1],
}


@pytest.mark.parametrize("fourth", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_the_state_bit_for_bit_and_goes_its_own_way(
    way: str, precision: str, fourth: bool, tmp_path: Path
) -> None:
    for dtype in ("float64", "float32"):
        for n in (0, 1, 5, 1023, 1024, 1500):
            m = na.Moments(4, precision=precision, fourth=fourth)
            if n:
                x = rows(n, 4).astype(dtype)
                x[n // 2, 1] = np.nan
                m.update(x)
            before = bits(m)
            twin = COPIES[way](m, tmp_path / "state")
            assert type(twin) is na.Moments
            assert_same(twin, m)
            twin.update(rows(9, 4))
            assert bits(m) == before
            assert twin.count == m.count + 9


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_resuming_equals_the_uninterrupted_run_bit_for_bit(dtype: str, way: str, tmp_path: Path) -> None:
    parts = cut(typed(rows(3000, 9), dtype)[0], [1, 500, 1023, 1024, 1300, 2900])
    resumed = na.Moments(9, fourth=True)
    for part in parts:
        resumed.update(part)
        resumed = COPIES[way](resumed, tmp_path / "state")
    assert_same(resumed, moments(*parts, fourth=True))


def test_a_state_file_is_read_by_the_safetensors_package(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    moments(rows(30, 4)).save(tmp_path / "state")
    with safetensors.safe_open(tmp_path / "state", framework="numpy") as file:
        assert file.metadata()["netassay.state"] == "1"
        assert [file.get_tensor(name).dtype for name in file.keys()]  # noqa: SIM118


def test_a_damaged_file_is_refused_and_a_missing_one_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "state"
    moments(rows(30, 4)).save(path)
    raw = path.read_bytes()
    for damaged in (raw[:-1], raw + b"\0", raw[:-1] + bytes([raw[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        with pytest.raises(na.StateError, match="state"):
            na.Moments.load(path)
    with pytest.raises(FileNotFoundError):
        na.Moments.load(tmp_path / "none")


def test_equality_is_identity_and_the_text_tells_what_it_holds() -> None:
    m = moments(rows(30, 4))
    assert m == m
    assert m != m.copy()
    assert len({m, m.copy()}) == 2
    assert "Moments" in repr(m)
    assert "4" in repr(m)
    assert "30" in repr(m)


INTERRUPTED = """
import signal
import numpy as np
import netassay as na

def bits(m):
    return m.count, m.nonfinite, m.mean.tobytes(), m.scatter.tobytes()

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
small = np.random.default_rng(0).standard_normal((1500, 256)).astype(np.float32)
m, other = na.Moments(256, precision="exact"), na.Moments(256, precision="exact")
m.update(small)
other.update(small)
huge = np.broadcast_to(small[:1], (3_000_000, 256))  # one row in memory, seconds of work
before = bits(m)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    m.update(huge)
except KeyboardInterrupt:
    print("interrupted")
assert bits(m) == before, "the state changed"
m.update(small[:77])
other.update(small[:77])
assert bits(m) == bits(other), "the state goes on differently"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX timers")
def test_ctrl_c_in_an_update_leaves_the_state_as_before() -> None:
    assert run_alone(INTERRUPTED).split()[-1] == "interrupted"


FORKED = """
import os, signal, sys, time
import numpy as np
import netassay as na

x = np.random.default_rng(0).standard_normal((5000, 200)).astype(np.float32)
first = na.Moments(200)
first.update(x, threads=2)
pid = os.fork()
if pid == 0:
    code = 3
    try:
        m = na.Moments(200)
        m.update(x)
        first.merge(m)
        same = m.count == 5000 and first.count == 10000
        try:
            m.update(x, threads=2)
        except na.ForkError as error:
            refused = isinstance(error, RuntimeError) and "threads" in str(error) and m.count == 5000
        m.update(x, threads=1)
        code = 0 if same and refused and m.count == 10000 else 4
    finally:
        os._exit(code)
for _ in range(800):  # the watchdog: 8 s
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
    time.sleep(0.01)
else:
    os.kill(pid, signal.SIGKILL)
    sys.exit("the child hangs")
first.update(x, threads=2)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_updates_with_one_thread_and_refuses_more() -> None:
    assert run_alone(FORKED).split()[-1] == "0"
