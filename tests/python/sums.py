"""A model of many sites, and when two watches have counted the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

import netassay as na
from netassay.complexity import Switching

COMPLEXITY = {"measures": ("complexity",)}
ALL: dict[str, Any] = {"measures": ("saturation", "complexity", "network")}


class Sums(nn.Module):
    """Calls F.relu on sums, one module three times, a max-pool, a method and ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.bn = (
            nn.Conv2d(2, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.BatchNorm2d(6),
        )
        self.act, self.six, self.pool, self.head = nn.ReLU(), nn.ReLU6(), nn.MaxPool2d(2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv1(x))
        x = F.relu(self.bn(self.conv2(x)) + x)
        x = self.pool(self.act(x - 0.1))
        x = self.act(x - 0.2)
        return self.head(self.six(4 * x).mean(dim=(2, 3)).relu())


def equal(a: Switching, b: Switching) -> bool:
    """Whether two states hold the same counts."""
    ours, theirs = a.tensors(), b.tensors()
    return a.config() == b.config() and all(np.array_equal(ours[name], theirs[name]) for name in ours | theirs)


def same(a: na.Watch, b: na.Watch) -> bool:
    """Whether two watches have counted the same."""
    ours, theirs = a.switching, b.switching
    return set(ours) == set(theirs) and all(equal(ours[key], theirs[key]) for key in ours)


def inputs_of(module: nn.Module, seen: list[Tensor]) -> Any:
    return module.register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach().clone()))
