"""A small convolutional network that learns scikit-learn's digits under watch; `netassay demo` runs it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING, Any, TypeAlias

from netassay.base.errors import NetassayError

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader

    from netassay.report import History, Report

#: Passes a loop's items on and may show how far it is: track(items, label).
Track: TypeAlias = Callable[[Iterable[Any], str], Iterable[Any]]

#: Shares of each layer's variance that the projections keep.
DELTAS = (0.9, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Projected:
    """The trained network with every layer's outputs projected (`netassay.project`).

    Attributes:
        delta: share of each layer's variance kept.
        saturation: share of a layer's width kept for that, mean over the layers.
        accuracy: on held-out digits, in [0, 1]; random: with random subspaces of the same dimensions.
    """

    delta: float
    saturation: float
    accuracy: float
    random: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo shows.

    Attributes:
        accuracy: on held-out digits, in [0, 1].
        report: of the whole training, and of the trained network.
        projected: one for each delta.
        history: complexity on the held-out digits before training and after each epoch; accuracies: the same of
            accuracy.
    """

    accuracy: float
    report: Report
    projected: tuple[Projected, ...]
    history: History
    accuracies: tuple[float, ...]

    def __str__(self) -> str:
        rows = "\n".join(
            f"{p.delta:>5}   {p.saturation:>15.3f}   {p.accuracy:>18.1%}   {p.random:>16.1%}" for p in self.projected
        )
        return (
            f"accuracy on held-out digits: {self.accuracy:.1%}\n\n{self.report}\n\n"
            "accuracy when every layer is projected onto the directions that carry delta of its variance\n"
            f"delta   mean saturation   leading directions   random subspaces\n{rows}\n\n"
            "complexity on held-out digits over training: bits per unit, and per unit at each position\n"
            f"epoch   accuracy   channels   positions\n{self._course()}"
        )

    def _course(self) -> str:
        channel, position = (self.history[f"complexity.eval.mean_{rule}"].values for rule in ("channel", "position"))
        lines = zip(self.history.steps, self.accuracies, channel, position, strict=True)
        return "\n".join(f"{epoch:>5g}   {hit:>8.1%}   {c:>8.3f}   {p:>9.3f}" for epoch, hit, c, p in lines)


def run(*, epochs: int = 5, seed: int = 0, track: Track = lambda items, label: items) -> Outcome:
    """Trains the network under watch, evaluates it, evaluates it again with its layers projected, measures its weights
    and its structure.

    Raises:
        NetassayError: torch or scikit-learn is not installed.
    """
    _require_packages()
    import torch
    from torch.nn.functional import cross_entropy

    import netassay
    from netassay.report import join

    torch.manual_seed(seed)
    train, test = digits(seed)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def accuracy() -> float:
        model.eval()
        with torch.inference_mode():
            hits = torch.cat([model(images).argmax(1) == labels for images, labels in test])
        return float(hits.float().mean())

    accuracies: list[float] = []

    def follow(epoch: int) -> None:
        """One evaluation that is the course's alone: the report is of the training and of the trained network."""
        watch.pause()
        course.resume()
        accuracies.append(accuracy())
        course.snapshot(epoch)
        course.pause()
        watch.resume()

    with (
        netassay.watch(model, measures=("saturation", "complexity"), delta=0.99) as watch,
        netassay.watch(model, measures=("complexity",)) as course,
    ):
        follow(0)
        for epoch in range(1, epochs + 1):
            model.train()
            for images, labels in track(train, f"epoch {epoch} of {epochs}"):
                optimizer.zero_grad()
                cross_entropy(model(images), labels).backward()
                optimizer.step()
            follow(epoch)
        plain = accuracy()

    projected = []
    for delta in track(DELTAS, "projection"):
        with netassay.project(model, watch, delta=delta) as projections:
            leading = accuracy()
        with netassay.project(model, watch, delta=delta, random=True, seed=seed):
            random = accuracy()
        saturation = mean(layer.saturation for layer in projections.layers.values())
        projected.append(Projected(delta, saturation, leading, random))

    structure = netassay.measure_structure(model, torch.zeros(1, 1, 8, 8))
    report = join(join(watch.report(), netassay.measure_weights(model, measures=("persistence", "network"))), structure)
    return Outcome(plain, report, tuple(projected), course.history, tuple(accuracies))


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
