"""Networks that the benchmarks train."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def mlp() -> nn.Module:
    """784-2048x4-10."""
    from torch import nn

    widths = (784, 2048, 2048, 2048, 2048)
    pairs = [m for i, o in itertools.pairwise(widths) for m in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*pairs, nn.Linear(2048, 10))


def resnet() -> nn.Module:
    """ResNet-18 as usual for 32 x 32 images: a 3 x 3 stem, no pooling before the four stages."""
    import torch
    from torch import nn

    def conv(i: int, o: int, side: int, stride: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(i, o, side, stride, side // 2, bias=False), nn.BatchNorm2d(o))

    class Block(nn.Module):
        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            self.one, self.two = conv(i, o, 3, stride), conv(o, o, 3, 1)
            self.short = nn.Identity() if i == o else conv(i, o, 1, stride)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.two(torch.relu(self.one(x))) + self.short(x))

    stages = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
    stages += [(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    blocks = [Block(*stage) for stage in stages]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)]
    return nn.Sequential(conv(3, 64, 3, 1), nn.ReLU(), *blocks, *head)


def trained_mlp(
    widths: Sequence[int],
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    epochs: int,
    rate: float = 2e-3,
    xavier: bool = False,
) -> nn.Sequential:
    """A perceptron of these widths with ReLU between its layers, after so many epochs of Adam (0: as it was made).

    Args:
        xavier: weights start normal, with variance 2 / (in + out); else as torch's layers do, uniform.
    """
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    layers = [m for i, o in itertools.pairwise(widths) for m in (nn.Linear(i, o), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    for layer in layers[::2] if xavier else ():
        nn.init.xavier_normal_(layer.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()
