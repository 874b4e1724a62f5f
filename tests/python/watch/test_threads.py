"""A watched model in several threads and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netassay as na
from python.models import Mlp, assert_is_state_of, complaints, data, recording, seeded
from python.watching import Fails, counts


def test_two_threads_running_the_model_at_once_give_the_rows_of_both(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = seeded(Mlp).eval()
    batches = [data(20, 6, seed=seed) for seed in range(40)]
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    def work(part: list[Tensor]) -> None:
        try:
            barrier.wait(30)
            for batch in part:
                model(batch)
        except BaseException as error:
            failures.append(error)

    with recording(model) as seen, torch.no_grad():
        for batch in batches:
            model(batch)
    with na.watch(model, precision="exact") as watch:
        threads = [threading.Thread(target=work, args=(batches[i::2],)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not failures
    assert not complaints(caplog)
    for key, state in watch.states.items():
        assert_is_state_of(state, np.concatenate(seen[key]))


def test_a_failure_in_one_thread_drops_that_threads_pass_alone() -> None:
    model = seeded(Fails)
    inside, go = threading.Event(), threading.Event()

    def stall(_m: nn.Module, _i: Any, out: Tensor) -> None:
        if threading.current_thread() is worker:
            inside.set()
            assert go.wait(30)
            raise ValueError("mine")

    def work() -> None:
        with pytest.raises(ValueError, match="mine"):
            model(data(10, 4))

    worker = threading.Thread(target=work)
    with na.watch(model) as watch:
        model.first.register_forward_hook(stall)
        worker.start()
        assert inside.wait(30)
        model(data(7, 4))
        go.set()
        worker.join(30)
        assert not worker.is_alive()
    assert counts(watch) == {7}


FORK = """
import faulthandler, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
import netassay as na

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))

class Through(Dataset):
    "Items that have gone through the watched model inside the worker."
    def __len__(self):
        return 64
    def __getitem__(self, i):
        with torch.no_grad():
            return model(torch.full((600, 64), float(i))).mean(0)

if __name__ == "__main__":
    with na.watch(model) as watch:
        model(torch.randn(5000, 64))  # the parent's threads are up
        faulthandler.dump_traceback_later(8, exit=True)
        for batch in DataLoader(Through(), batch_size=8, num_workers=2, multiprocessing_context="fork"):
            model(batch)
        faulthandler.cancel_dump_traceback_later()
        print({state.count for state in watch.states.values()}, watch.report().coverage.measured)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_data_loader_workers_forked_while_a_model_is_watched_neither_hang_nor_add_rows(
    tmp_path: Path,
) -> None:
    script = tmp_path / "fork.py"
    script.write_text(FORK)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[-2] == "{5064} 2"
