"""Node strengths of every affine operation, against its Jacobian."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from python.jacobians import (
    assert_external,
    assert_incoming,
    assert_outgoing,
    conv,
    drawn,
    function,
    jacobian,
    names,
    near,
    strengths,
)


class Padded(nn.Module):
    """Zero padding on two sides only, before a convolution of a part of the channels and a linear layer of the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(F.pad(x[:, :2], (2, 0, 0, 1)))
        return torch.cat([y.flatten(1), self.fc(x[:, 2]).flatten(1)], 1)


class Matmul(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w + self.b


class Addmm(Matmul):
    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.b, x, self.w, beta=0.5, alpha=-2)


class Einsum(Matmul):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bti,io->bto", x, self.w)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "linear at positions": (lambda: nn.Linear(4, 3), (5, 4)),
    "conv1d": (lambda: conv(3, 4, 3, axes=1, padding=1), (3, 7)),
    "conv3d": (lambda: conv(2, 3, 2, axes=3, stride=2), (2, 3, 4, 5)),
    "conv of the page": (lambda: conv(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (4, 9, 8)),
    "conv of even kernel, same": (lambda: conv(2, 3, (2, 4), padding="same"), (2, 5, 6)),
    "conv of patches": (lambda: conv(3, 5, 4, stride=4), (3, 8, 12)),
    "conv of a long kernel": (lambda: conv(2, 3, 9, axes=1, stride=2, padding=5), (2, 12)),
    "conv along one axis": (lambda: conv(2, 3, (1, 3), padding=(0, 2), dilation=2), (2, 4, 9)),
    "conv, unread border": (lambda: conv(2, 2, 2, stride=3, bias=False), (2, 7, 7)),
    "conv, circular": (lambda: conv(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
    "depthwise": (lambda: conv(4, 8, 3, groups=4, padding=1), (4, 5, 6)),
    "transposed": (
        lambda: conv(4, 6, 3, transposed=True, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
        (4, 4, 3),
    ),
    "transposed, along one axis": (lambda: conv(4, 2, 5, transposed=True, axes=1, stride=3), (4, 6)),
    "batch norm": (lambda: nn.BatchNorm2d(3), (3, 2, 2)),
    "average pool": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 6, 7)),
    "average pool, padding counts": (lambda: nn.AvgPool1d(3, 2, 1), (2, 6)),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d((3, 2)), (2, 7, 5)),
    "mean": (lambda: function(lambda x: x.mean((2, 3))), (3, 4, 5)),
    "sum": (lambda: function(lambda x: x.sum(1)), (3, 4)),
    "cumsum": (lambda: function(lambda x: x.cumsum(1)), (5,)),
    "nearest": (lambda: nn.Upsample(scale_factor=2), (2, 3, 3)),
    "bilinear": (lambda: nn.Upsample(size=(5, 7), mode="bilinear"), (2, 3, 4)),
    "bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True), (1, 4, 4)),
    "fold": (lambda: nn.Fold((4, 4), 3), (9, 4)),
    "scaled": (lambda: function(lambda x: -(x * 3 - 1) / 2), (4,)),
    "scaled in place": (lambda: function(lambda x: x.clone().mul_(3).sub_(1).neg_().div_(2)), (4,)),
    "subtracted from": (lambda: function(lambda x: 2 - x), (4,)),
    "matmul and bias": (Matmul, (4,)),
    "addmm": (Addmm, (4,)),
    "einsum": (Einsum, (5, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_an_affine_call_has_the_sums_of_its_jacobian(case: str) -> None:
    make, shape = CASES[case]
    model = drawn(make())
    found = strengths(model, shape)
    first, last = found[0], found[-1]
    assert_external(first, "incoming")
    assert_external(last, "outgoing")
    matrix, b = jacobian(model, *shape)
    if case.startswith("scaled"):  # four layers of one link a node
        assert len(found) == 5
        near(first.outgoing, np.full(4, 3.0))
        near(last.incoming, np.full(4, 0.5))
        return
    assert len(found) == 2
    if case == "conv, circular":  # a node that a window reads twice has two links
        near(last.incoming, matrix.sum(1) + b)
        near(first.outgoing, matrix.sum(0))
        return
    assert_incoming(last, (matrix, b))
    assert_outgoing(first, matrix)
    assert last.shape == tuple(model(torch.zeros(1, *shape).double()).shape[1:])


def test_nodes_that_padding_or_another_branch_takes_have_no_links_there() -> None:
    model = drawn(Padded())
    found = strengths(model, (3, 4, 5))
    matrix, b = jacobian(model, 3, 4, 5)
    assert names(found) == ["x", "conv", "fc"]
    assert_outgoing(found["x"], matrix)
    near(found["conv"].incoming, (matrix.sum(1) + b)[: found["conv"].nodes])
    near(found["fc"].incoming, (matrix.sum(1) + b)[found["conv"].nodes :])
