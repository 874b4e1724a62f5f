"""What does a layer's neural persistence rest on? The shuffle test of the second paper, on digits.

Perceptrons learn scikit-learn's digits. Each layer's persistence is set beside that of its own entries in random
places: where the two agree, persistence says nothing that the distribution of the weights does not. The paper found
that later layers' persistence barely moves, and the first one's does (Girrbach et al. 2023, arXiv 2307.10865). The
untrained network, whose entries are in random places to begin with, is the control.

    python benchmarks/shuffle_persistence.py --help
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import common
import torch
from models import trained_mlp
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from netassay.persistence import ShuffleTest, largest, shuffle_test, sortedness, variance

HEADER = ("layer", "persistence", "shuffled", "change, %", "z", "variance", "sortedness", "shuffled")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of one network; everything at the network's largest weight.

    Attributes:
        change: of the normalized persistence when entries are shuffled, over the persistence as it is.
        variance: of |W|; sortedness: of the layer and, random_sortedness, of one shuffle of it.
    """

    shape: str
    test: ShuffleTest
    change: float
    variance: float
    sortedness: float
    random_sortedness: float


def layers(model: nn.Sequential, draws: int, seed: int) -> list[Layer]:
    weights = [layer.weight.detach() for layer in model if isinstance(layer, nn.Linear)]
    scale = max(largest(weight) for weight in weights)
    found = []
    for weight in weights:
        test = shuffle_test(weight, draws, seed, scale=scale)
        order = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(seed))
        shuffled = weight.reshape(-1)[order].reshape(weight.shape)
        found.append(
            Layer(
                f"{weight.shape[1]} to {weight.shape[0]}",
                test,
                test.mean / test.normalized - 1,
                variance(weight, scale=scale),
                sortedness(weight),
                sortedness(shuffled),
            )
        )
    return found


def networks(widths: Sequence[int], epochs: int, options: argparse.Namespace) -> tuple[list[list[Layer]], list[float]]:
    """Each seed's layers, and accuracies on held-out digits."""
    found, accuracies = [], []
    for seed in range(options.seeds):
        train, test, known, truth = digits(seed)
        model = trained_mlp(widths, train, known, seed=seed, epochs=epochs)
        with torch.inference_mode():
            accuracies.append(float((model(test).argmax(1) == truth).float().mean()))
        found.append(layers(model, options.draws, seed))
    return found, accuracies


def digits(seed: int) -> tuple[Tensor, ...]:
    """Images to train on and held out, (n, 64) in [0, 1], then the labels of both."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32)
    parts: list[Tensor] = train_test_split(
        images, torch.tensor(labels), test_size=0.25, random_state=seed, stratify=labels
    )
    return tuple(parts)


def row(name: str, seeds: Sequence[Layer]) -> list[str]:
    """Means over the seeds; of change and z, also their standard deviation."""
    return [
        name,
        f"{mean(layer.test.normalized for layer in seeds):.4f}",
        f"{mean(layer.test.mean for layer in seeds):.4f}",
        spread([100 * layer.change for layer in seeds], 2),
        spread([layer.test.z for layer in seeds], 1),
        f"{mean(layer.variance for layer in seeds):.4f}",
        f"{mean(layer.sortedness for layer in seeds):.2f}",
        f"{mean(layer.random_sortedness for layer in seeds):.2f}",
    ]


def spread(values: Sequence[float], digits: int) -> str:
    return f"{mean(values):+.{digits}f}" + (f" ({stdev(values):.{digits}f})" if len(values) > 1 else "")


def verdict(found: Sequence[Sequence[Layer]]) -> str:
    """The paper's claim beside the numbers: |change| of the first layer, and of the later one that moves most."""
    seeds = []
    for network in found:
        first, *later = (abs(layer.change) for layer in network)
        seeds.append((first, max(later)))
    holds = sum(first > most for first, most in seeds)
    numbers = ", ".join(f"{first:.2%} against {most:.2%}" for first, most in seeds)
    return (
        f"first layer moves most in {holds} of {len(seeds)} seeds: "
        f"{numbers} of the later layer that moves most (|change|)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", nargs="+", default=["64-32", "100-100-100", "300-300-300"], help="hidden widths")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--draws", type=int, default=20, help="shuffles of each layer")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    start = time.perf_counter()
    print(f"{options.seeds} seeds: means, in brackets standard deviations over them; {options.draws} shuffles a layer")
    for hidden in options.hidden:
        widths = (64, *map(int, hidden.split("-")), 10)
        for epochs in (0, options.epochs):
            found, accuracies = networks(widths, epochs, options)
            title = "untrained" if epochs == 0 else f"{epochs} epochs, accuracy {mean(accuracies):.1%}"
            rows = [row(f"{i + 1}: {each[0].shape}", each) for i, each in enumerate(zip(*found, strict=True))]
            common.table(f"{'-'.join(map(str, widths))}, {title}", HEADER, rows)
            print(verdict(found))
    print(f"\n{time.perf_counter() - start:.0f} s with {options.threads} threads")


if __name__ == "__main__":
    main()
