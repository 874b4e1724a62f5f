"""A small convolutional network that learns scikit-learn's digits under watch; `netassay demo` runs it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from netassay.base.errors import NetassayError

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader

    from netassay.report import Report

#: Passes a loop's items on and may show how far it is: track(items, label).
Track: TypeAlias = Callable[[Iterable[Any], str], Iterable[Any]]


def run(*, epochs: int = 5, seed: int = 0, track: Track = lambda items, label: items) -> tuple[float, Report]:
    """Trains and evaluates the network; its accuracy on held-out digits in [0, 1], and the report.

    Raises:
        NetassayError: torch or scikit-learn is not installed.
    """
    _require_packages()
    import torch
    from torch.nn.functional import cross_entropy

    import netassay

    torch.manual_seed(seed)
    train, test = digits(seed)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    with netassay.watch(model, delta=0.99) as watch:
        model.train()
        for epoch in range(epochs):
            for images, labels in track(train, f"epoch {epoch + 1} of {epochs}"):
                optimizer.zero_grad()
                cross_entropy(model(images), labels).backward()
                optimizer.step()

        model.eval()
        with torch.inference_mode():
            hits = torch.cat([model(images).argmax(1) == labels for images, labels in test])

    return float(hits.float().mean()), watch.report()


def network() -> nn.Module:
    """Four convolutions, each with BatchNorm and ReLU, and one linear layer: (N, 1, 8, 8) -> (N, 10)."""
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (inputs, outputs) in enumerate(pairwise((1, 16, 32, 64, 64)), start=1):
        layers[f"conv{i}"] = nn.Conv2d(inputs, outputs, 3, padding=1, stride=2 if i == 3 else 1, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm2d(outputs)
        layers[f"relu{i}"] = nn.ReLU()
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(64, 10)
    return nn.Sequential(layers)


def digits(seed: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Batches to train on and batches held out: images (N, 1, 8, 8) in [0, 1], and labels."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch.utils.data import DataLoader, TensorDataset

    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    parts = train_test_split(images, torch.tensor(labels), test_size=0.25, random_state=seed, stratify=labels)
    train, test = TensorDataset(*parts[::2]), TensorDataset(*parts[1::2])
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(test, batch_size=256)


def _require_packages() -> None:
    try:
        import sklearn  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise NetassayError(f"demo: {error.name} is not installed; pip install 'netassay[demo]'") from error
