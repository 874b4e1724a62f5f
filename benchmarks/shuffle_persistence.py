"""What does a layer's neural persistence rest on? The shuffle test of the second paper, on digits.

Perceptrons learn scikit-learn's digits. Each layer's persistence is set beside that of its own entries in random
places: where the two agree, persistence says nothing that the distribution of the weights does not. The paper found
that later layers' persistence barely moves, and the first one's does (Girrbach et al. 2023, arXiv 2307.10865). It
trained on MNIST from Xavier's normal initialization. Here the images are as they come, 8 x 8, or framed as MNIST's are,
and the initialization is Xavier's or torch's own: every combination is shown. The untrained networks, whose entries are
in random places to begin with, are the control.

    python benchmarks/shuffle_persistence.py --help
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean, stdev

import common
import numpy as np
import torch
from models import trained_mlp
from scipy.ndimage import zoom
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


def networks(
    hidden: Sequence[int], framed: bool, xavier: bool, epochs: int, options: argparse.Namespace
) -> tuple[list[list[Layer]], list[float]]:
    """Each seed's layers, and accuracies on held-out digits."""
    found, accuracies = [], []
    for seed in range(options.seeds):
        train, test, known, truth = digits(seed, framed)
        widths = (train.shape[1], *hidden, 10)
        model = trained_mlp(widths, train, known, seed=seed, epochs=epochs, rate=options.rate, xavier=xavier)
        with torch.inference_mode():
            accuracies.append(float((model(test).argmax(1) == truth).float().mean()))
        found.append(layers(model, options.draws, seed))
    return found, accuracies


def digits(seed: int, framed: bool) -> tuple[Tensor, ...]:
    """Images to train on and held out, (n, pixels) in [0, 1], then the labels of both.

    Args:
        framed: enlarged to 20 x 20 in the middle of 28 x 28, as MNIST's digits are.
    """
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8) / 16
    if framed:
        images = np.pad(np.clip(zoom(images, (1, 2.5, 2.5), order=1), 0, 1), ((0, 0), (4, 4), (4, 4)))
    pixels = torch.tensor(images.reshape(len(images), -1), dtype=torch.float32)
    parts: list[Tensor] = train_test_split(
        pixels, torch.tensor(labels), test_size=0.25, random_state=seed, stratify=labels
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
    """The paper's claim beside the numbers: how far the first layer moves, and the later one that moves most."""
    moves = [[abs(layer.change) for layer in network] for network in found]
    holds = sum(first > max(later) for first, *later in moves)
    numbers = ", ".join(f"{first:.1%} and {max(later):.1%}" for first, *later in moves)
    return f"first layer, and the later one that moves most: {numbers}; the first moves most in {holds} of {len(moves)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[100, 100, 100], help="widths of the hidden layers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate of Adam")
    parser.add_argument("--draws", type=int, default=20, help="shuffles of each layer")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    start = time.perf_counter()
    print(f"{options.seeds} seeds: means, in brackets standard deviations over them; {options.draws} shuffles a layer")
    for framed, xavier, epochs in product((True, False), (True, False), (0, options.epochs)):
        found, accuracies = networks(options.hidden, framed, xavier, epochs, options)
        images, start_values = "28 x 28, framed" if framed else "8 x 8", "Xavier's" if xavier else "torch's"
        trained = f"after {epochs} epochs, accuracy {mean(accuracies):.1%}" if epochs else "untrained"
        rows = [row(f"{i + 1}: {each[0].shape}", each) for i, each in enumerate(zip(*found, strict=True))]
        common.table(f"{images}; {start_values} initialization; {trained}", HEADER, rows)
        print(verdict(found))
    print(f"\n{time.perf_counter() - start:.0f} s with {options.threads} threads")


if __name__ == "__main__":
    main()
