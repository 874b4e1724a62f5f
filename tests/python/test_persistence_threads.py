"""Neural persistence by any number of threads, at once, and interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import netassay as na
from netassay import persistence as stem
from python.matrices import DTYPES, make, typed
from python.trees import same

pytestmark = pytest.mark.native


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(dtype: str) -> None:
    for kind, m, n in (("normal", 1, 9), ("normal", 900, 700), ("many blocks, faintly joined", 800, 600)):
        w = typed(make(kind, m, n), dtype).given
        one = stem.neural_persistence(w, threads=1)
        for threads in (2, 3, 7, None):
            assert same(stem.neural_persistence(w, threads=threads), one)
            assert stem.largest(w, threads=threads) == one.scale
            network = stem.network_persistence([w, w], threads=threads)
            assert all(same(layer, one) for layer in network.layers)


def test_another_python_thread_runs_while_a_tree_grows() -> None:
    """With a switch interval of a minute the counter advances only where the interpreter lock is given up."""
    x = np.broadcast_to(make("normal", 1, 1000), (50_000, 1000))  # one row in memory, long to read
    turns, stop = [0], threading.Event()
    tasks = {
        "tree": lambda: stem.spanning_tree(x, threads=1),
        "largest": lambda: stem.largest(x, threads=1),
        "tau": lambda: na._core.persistence.kendall_tau(x[:1000].ravel().astype(np.float32)),
    }

    def count() -> None:
        while not stop.is_set():
            turns[0] += 1
            time.sleep(0)  # gives the lock up, so that it never has to be taken away

    interval, worker = sys.getswitchinterval(), threading.Thread(target=count)
    worker.start()
    sys.setswitchinterval(60)
    gained = dict.fromkeys(tasks, 0)
    try:
        for name, task in tasks.items():
            for _ in range(200):
                before = turns[0]
                task()
                gained[name] = max(gained[name], turns[0] - before)
                if gained[name] >= 10:
                    break
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        worker.join()
    assert min(gained.values()) >= 10, gained


INTERRUPTED = """
import signal, sys
import numpy as np
from netassay import _core

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
row = np.random.default_rng(0).standard_normal((1, 1000)).astype(np.float32)
huge = np.broadcast_to(row, (20_000_000, 1000))  # one row in memory, seconds of work
for function in (_core.persistence.largest, _core.persistence.spanning_tree):
    for threads in (1, 2):
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            function(huge, "float32", threads=threads)
        except KeyboardInterrupt:
            print("interrupted")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX timers")
def test_ctrl_c_stops_a_read() -> None:
    command = [sys.executable, "-W", "ignore", "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["interrupted"] * 4
