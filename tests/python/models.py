"""Small models and the oracle of the watch's tests: what a plain forward hook records, as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netassay import Moments
from reference import saturation as reference

States = dict[tuple[str, str], list[np.ndarray]]

#: Relative Frobenius error of a scatter with precision="exact": the bar of the measure's accuracy tests.
EXACT = 1e-10
#: The same with precision="high".
HIGH = 2e-6


class Mlp(nn.Module):
    """Three linear layers with dropout: 6 -> 16 -> 12 -> 4."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 4)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(torch.tanh(self.fc2(self.dropout(torch.relu(self.fc1(x)))))))


class ConvNet(nn.Module):
    """Two convolutions with BatchNorm and in-place ReLU, and a linear layer; (N, 2, 8, 8) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean(dim=(2, 3)))


class Encoder(nn.Module):
    """Tokens -> embedding -> two transformer layers -> linear; (N, T) -> (N, T, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(8, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.encoder(self.embed(tokens)))


class Recurrent(nn.Module):
    """A two-layer LSTM and a linear layer on every step; (N, T, 5) -> (N, T, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 7, num_layers=2, batch_first=True, dropout=0.1)
        self.fc = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0])


class Wrap(nn.Module):
    """One inner module, or a function of it, under a root of its own."""

    def __init__(self, inner: nn.Module, call: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.call = call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs) if self.call is None else self.call(self.inner, *args, **kwargs)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The model with parameters drawn from this seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def data(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 11, shape, generator=torch.Generator().manual_seed(seed))


def first(output: Any) -> Tensor:
    """The tensor of a layer's output: recurrent layers and attention return it first, packed or not."""
    output = output[0] if isinstance(output, tuple) and not hasattr(output, "batch_sizes") else output
    return output.data if hasattr(output, "batch_sizes") else output


def rows_of(layer: nn.Module, output: Any) -> np.ndarray:
    """(n, d) rows of one output, as float64."""
    tensor = first(output).detach().to(torch.float64, copy=True)
    convolution = isinstance(layer, nn.modules.conv._ConvNd)
    if convolution and tensor.ndim == layer.weight.ndim - 1:
        tensor = tensor.unsqueeze(0)
    return reference.rows(tensor.numpy(), "channels_first" if convolution else "rows")


@contextmanager
def recording(model: nn.Module) -> Iterator[States]:
    """What a plain hook sees of every submodule without children, by name and mode of the root."""
    seen: States = {}
    handles = []
    for name, layer in model.named_modules():

        def hook(layer: nn.Module, inputs: Any, output: Any, name: str = name or "(root)") -> None:
            mode = "train" if model.training else "eval"
            seen.setdefault((name, mode), []).append(rows_of(layer, output))

        if not list(layer.children()) or isinstance(layer, nn.MultiheadAttention):
            handles.append(layer.register_forward_hook(hook))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def assert_is_state_of(state: Moments, rows: np.ndarray, tolerance: float = EXACT) -> None:
    """Count, mean and scatter are those of the rows, by the literal formula."""
    count, mean, scatter = reference.moments(np.asarray(rows, dtype=np.float64))
    assert state.count == count
    scale = np.sqrt(np.trace(scatter) / max(count, 1))
    assert np.linalg.norm(state.mean - mean) <= tolerance * (np.linalg.norm(mean) + scale)
    assert np.linalg.norm(state.scatter - scatter) <= tolerance * np.linalg.norm(scatter)


def equal(a: Moments, b: Moments) -> bool:
    """Whether two states hold the same, bit for bit."""
    ours, theirs = a.tensors(), b.tensors()
    return all(np.array_equal(ours[name], theirs[name], equal_nan=True) for name in ours | theirs)


def same_states(a: Any, b: Any) -> bool:
    """Whether the states of two watches hold the same, bit for bit."""
    return set(a.states) == set(b.states) and all(equal(a.states[key], b.states[key]) for key in a.states)


def reasons(report: Any) -> dict[str, str]:
    """Layer -> why it has no result."""
    return {skipped.name: skipped.reason for skipped in report.coverage.skipped}


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What netassay has logged."""
    return [record.getMessage() for record in caplog.records if record.name.split(".")[0] == "netassay"]
