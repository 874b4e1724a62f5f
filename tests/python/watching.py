"""What the tests of a watch's reliability share."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from torch import Tensor, nn

import netassay as na


def never_observed(watch: Any) -> str:
    """The message of a watch that saw nothing."""
    with pytest.raises(na.NothingObserved) as error:
        watch.report()
    return str(error.value)


def child(script: str, *arguments: str, timeout: float = 120) -> str:
    """Standard output of a fresh process; it fails where the script does."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def counts(watch: Any) -> set[int]:
    return {state.count for state in watch.states.values()}


class Fails(nn.Module):
    """Two layers; between them it raises what it is told to, once."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.error: BaseException | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.second(x)
