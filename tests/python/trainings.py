"""Trainings of a hundred steps, with and without a watch, and what must be equal of two."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import netassay as na
from python.models import ConvNet, Encoder, Mlp, Recurrent, data, seeded, tokens

STEPS = 100


class Checkpointed(nn.Module):
    """The MLP with its inside recomputed in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = Mlp(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.inner, x, use_reentrant=False))


TRAININGS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor], bool]] = {
    "MLP with dropout": (Mlp, lambda step: data(8, 6, seed=step), False),
    "convolutions, BatchNorm, in-place ReLU": (ConvNet, lambda step: data(4, 2, 8, 8, seed=step), False),
    "transformer encoder": (Encoder, lambda step: tokens(3, 5, seed=step), False),
    "LSTM": (Recurrent, lambda step: data(3, 6, 5, seed=step), False),
    "MLP, autocast to bfloat16": (Mlp, lambda step: data(8, 6, seed=step), True),
    "convolutions, autocast to bfloat16": (ConvNet, lambda step: data(4, 2, 8, 8, seed=step), True),
    "activation checkpointing": (Checkpointed, lambda step: data(8, 6, seed=step), False),
}
INVASIVE: dict[str, Any] = {"layers": nn.Module, "max_rows": 3, "positions": "mean", "every": 2}
ALL: dict[str, Any] = {"measures": ("saturation", "complexity", "network"), "thresholds": {"tanh": 0.0}}


def train(training: str, options: dict[str, Any] | None, steps: int = STEPS) -> tuple[list[Tensor], Any]:
    """Losses, final parameters and buffers, and the generators' states; options None: without a watch."""
    make, inputs, autocast = TRAININGS[training]
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    model = seeded(make).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    watch = None if options is None else na.watch(model, **options)
    losses = []
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(inputs(step)).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if watch is not None and step == steps // 2:
            watch.report()
    if watch is not None:
        assert watch.report().coverage.measured > 0
        watch.close()
    numbers = (random.getstate(), np.random.get_state()[1].tolist())
    return [*losses, *model.state_dict().values(), torch.get_rng_state()], numbers


def assert_same_training(a: tuple[list[Tensor], Any], b: tuple[list[Tensor], Any]) -> None:
    assert len(a[0]) == len(b[0])
    assert all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True))
    assert a[1] == b[1]


@functools.cache
def plain(training: str, steps: int) -> tuple[list[Tensor], Any]:
    return train(training, None, steps)
