"""Node strengths of models against the Jacobians of their affine calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import netassay as na
from netassay.network import NodeLayer, NodeStrengths
from python.models import Wrap

Affine = Callable[[Tensor], Tensor]
SIDES = ("", "_absolute", "_squared")


def jacobian(f: Affine, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Literally: T (outputs, inputs) and b of one sample, f(x) = T x + b."""
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(f, zero)
    b = f(zero).detach().flatten()
    return matrix.reshape(len(b), -1).detach().numpy(), b.numpy()


def powers(values: np.ndarray) -> list[np.ndarray]:
    return [values, np.abs(values), values**2]


def near(found: np.ndarray | None, expected: np.ndarray) -> None:
    assert found is not None
    np.testing.assert_allclose(
        found.ravel(), expected.ravel(), rtol=1e-10, atol=1e-12 * max(1.0, np.abs(expected).max())
    )


def assert_incoming(layer: NodeLayer, *terms: tuple[np.ndarray, np.ndarray]) -> None:
    """The sums over rows of every T, and of the biases."""
    for k, side in enumerate(SIDES):
        near(getattr(layer, f"incoming{side}"), sum(powers(t)[k].sum(1) + powers(b)[k] for t, b in terms))


def assert_outgoing(layer: NodeLayer, *matrices: np.ndarray) -> None:
    for k, side in enumerate(SIDES):
        near(getattr(layer, f"outgoing{side}"), sum(powers(t)[k].sum(0) for t in matrices))


def assert_external(layer: NodeLayer, side: str) -> None:
    for power in SIDES:
        values = getattr(layer, side + power)
        assert values is not None
        assert (values == 1).all()
        assert values.shape == layer.shape


def drawn(model: nn.Module, seed: int = 3) -> nn.Module:
    """In float64 and evaluation, with statistics of BatchNorm and norms' parameters that are not those of new ones."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
                module.running_var.uniform_(0.5, 2, generator=generator)
    return model


def strengths(model: nn.Module, *shapes: Sequence[int]) -> NodeStrengths:
    return na.node_strengths(model, tuple(torch.zeros(1, *shape, dtype=torch.float64) for shape in shapes))


def names(found: NodeStrengths) -> list[str]:
    return [layer.name for layer in found]


def mlp(*widths: int, bias: bool = True) -> nn.Sequential:
    layers = [part for i, o in pairwise(widths) for part in (nn.Linear(i, o, bias=bias), nn.ReLU(), nn.Dropout())]
    model = drawn(nn.Sequential(*layers[:-2]))
    assert isinstance(model, nn.Sequential)
    return model


def conv(*args: Any, transposed: bool = False, axes: int = 2, **kwargs: Any) -> nn.Module:
    return getattr(nn, f"Conv{'Transpose' if transposed else ''}{axes}d")(*args, **kwargs)


def function(f: Affine) -> nn.Module:
    return Wrap(nn.Identity(), lambda inner, x: f(inner(x)))
