"""Do node strengths tell good networks from bad ones? Sixty small networks on scikit-learn's digits.

Perceptrons 64-64-64-64-10 learn the digits, each from a start and an order of its own, and are stopped after 1 to 20
epochs. Networks of the least and of the greatest third of test accuracies are told apart by the fluctuation of their
node strengths, beside the standard deviation of their plain weights, and by the divergence of pooled strengths, beside
that of pooled weights. The negative control stops all after the same number of steps and gives them training sets of
different sizes: accuracies differ as well, and whatever separates them still has to do with accuracy, not with how
long a network was trained. Each number stands beside its permutation null; the networks are what is exchanged.

    python benchmarks/network_population.py --help
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import common
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from netassay.network import Contrast, Population, strength

Array: TypeAlias = NDArray[Any]

WIDTHS = (64, 64, 64, 64, 10)
BATCH = 32
#: What measures/network.md of the design expects of the population: of fluctuation at node layers 1 and 2, AUC and
#: ratio of the means; of the divergence of pooled strengths at layers 0 to 2 over that of weights, the least.
AUC, RATIO, OVER_WEIGHTS = {1: 0.98, 2: 0.97}, {1: 1.41, 2: 1.30}, 20.0


class Networks:
    """Many perceptrons of one shape, trained at once: each tensor has an axis of networks in front."""

    def __init__(self, count: int, seed: int) -> None:
        """Weights normal, with variance 2 / (in + out); biases 0."""
        generator = torch.Generator().manual_seed(seed)
        self.weights = [
            (torch.randn(count, o, i, generator=generator) * math.sqrt(2 / (i + o))).requires_grad_()
            for i, o in pairwise(WIDTHS)
        ]
        self.biases = [torch.zeros(count, o, requires_grad=True) for o in WIDTHS[1:]]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(networks, rows, 64) -> (networks, rows, 10)."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias[:, None], torch.relu(x) if layer else x, weight.transpose(1, 2))
        return x

    def accuracies(self, images: torch.Tensor, labels: torch.Tensor) -> Array:
        """(networks,), in [0, 1]."""
        with torch.inference_mode():
            hits = self.logits(images.expand(len(self.weights[0]), -1, -1)).argmax(-1) == labels
        accuracies: Array = hits.double().mean(-1).numpy()
        return accuracies

    def parameters(self, network: int) -> tuple[list[Array], list[Array]]:
        """Weights (out, in) and biases of one, layer by layer."""
        return tuple([t[network].detach().numpy().copy() for t in several] for several in (self.weights, self.biases))  # type: ignore[return-value]


#: Layer of nodes -> the values of a network there.
Values: TypeAlias = dict[str, dict[str, Array]]


def described(weights: Sequence[Array], biases: Sequence[Array]) -> Values:
    """Strengths of every layer of nodes, beside the weights that enter it (of the inputs: that leave them)."""
    entering = [weights[0], *weights]
    return {
        f"node layer {layer}": {"weights": entering[layer], "strength": strengths}
        for layer, strengths in enumerate(strength(weights, biases))
    }


def trained(count: int, steps: Array, sizes: Array, data: Sequence[torch.Tensor], seed: int, rate: float) -> Any:
    """Networks as they are after `steps` each, on the first `sizes` images of an order of their own.

    Returns:
        Of each its values, and its accuracy on the test images.
    """
    images, labels, test_images, test_labels = data
    random = np.random.default_rng(seed)
    networks = Networks(count, seed)
    optimizer = torch.optim.SGD([*networks.weights, *networks.biases], lr=rate)
    last = int(steps.max())
    # epoch behind epoch, each in an order of its own: (networks, steps, batch)
    order = torch.tensor(np.stack([_order(random, len(images), size, last * BATCH) for size in sizes]))
    order = order.reshape(count, last, BATCH)
    found: list[Any] = [None] * count
    for step in range(1, last + 1):
        batch = order[:, step - 1]
        optimizer.zero_grad()
        logits = networks.logits(images[batch])
        # a sum over networks: each has the gradient it would have alone
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[batch].flatten(), reduction="sum").div(
            BATCH
        ).backward()
        optimizer.step()
        if (done := np.flatnonzero(steps == step)).size:
            accuracies = networks.accuracies(test_images, test_labels)
            for k in done:
                found[k] = (described(*networks.parameters(k)), float(accuracies[k]))
    values, scores = zip(*found, strict=True)
    return values, scores


def _order(random: np.random.Generator, images: int, size: int, length: int) -> Array:
    """(length,) places of a training set of `size` of the images, epoch behind epoch."""
    mine = random.permutation(images)[:size]
    return np.concatenate([random.permutation(mine) for _ in range(-(-length // size))])[:length]


def populations(options: argparse.Namespace) -> dict[str, tuple[Any, Any]]:
    """Networks and accuracies: of training stopped early, and of equally many steps on different sets."""
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16, labels, test_size=450, random_state=0, stratify=labels)
    data = [torch.tensor(part, dtype=torch.float32 if part.dtype.kind == "f" else torch.int64) for part in
            (parts[0], parts[2], parts[1], parts[3])]  # fmt: skip
    epoch = math.ceil(len(data[0]) / BATCH)
    count = options.networks
    epochs = 1 + np.arange(count) % 20
    sizes = np.geomspace(100, len(data[0]), count).astype(int)
    whole = np.full(count, len(data[0]))
    return {
        "stopped after 1 to 20 epochs": trained(count, epochs * epoch, whole, data, options.seed, options.rate),
        f"10 epochs' steps on {sizes[0]} to {sizes[-1]} images": trained(
            count, np.full(count, 10 * epoch), sizes, data, options.seed + 1, options.rate
        ),
    }


def show(title: str, contrast: Contrast) -> None:
    """A line for every layer of nodes: what a network's own numbers tell, and what pooled ones do."""
    rows = []
    for layer in dict.fromkeys(one.layer for one in contrast.separations):
        separations = [contrast.separation(layer, quantity) for quantity in ("strength", "weights")]
        far = {quantity: contrast.divergence(layer, quantity) for quantity in ("strength", "weights")}
        told = [(f"{one.auc:.2f}", f"{one.p_value:.3f}", f"{one.high / one.low:.2f}") for one in separations]
        apart = [f"{1000 * (one.excess or 0):.1f} ({one.p_value:.3f})" for one in far.values()]
        rows.append([layer, *told[0], *told[1], *apart, over(far)])
    (a, b), (c, d) = contrast.low, contrast.high
    header = (
        "",
        "fluctuation AUC",
        "p",
        "ratio",
        "weight std AUC",
        "p",
        "ratio",
        "strengths mbit (p)",
        "weights mbit (p)",
        "x",
    )
    groups = f"{contrast.sizes[0]} networks of {a:.3f} to {b:.3f} against {contrast.sizes[1]} of {c:.3f} to {d:.3f}"
    common.table(f"{title}: {groups}", header, rows)


def over(far: dict[str, Any]) -> str:
    """Excess divergence of strengths over that of weights."""
    strengths, weights = (far[quantity].excess or 0 for quantity in ("strength", "weights"))
    return f"{strengths / weights:.0f}" if weights > 0 else "-"


def judge(contrast: Contrast, control: Contrast) -> list[str]:
    """Which of the expected shapes did not appear."""
    wrong = []
    for node in (1, 2):
        layer = f"node layer {node}"
        one, other = (each.separation(layer, "strength") for each in (contrast, control))
        if one.auc < AUC[node] - 0.05:
            wrong.append(f"{layer}: fluctuation AUC {one.auc:.2f}, expected about {AUC[node]}")
        if abs(one.high / one.low / RATIO[node] - 1) > 0.1:
            wrong.append(f"{layer}: fluctuation ratio {one.high / one.low:.2f}, expected about {RATIO[node]}")
        if other.p_value < 0.05:
            wrong.append(f"{layer}: in the control fluctuation separates, AUC {other.auc:.2f}, p {other.p_value:.3f}")
    for node in (0, 1, 2):
        layer = f"node layer {node}"
        strengths, weights = (contrast.divergence(layer, quantity).excess or 0 for quantity in ("strength", "weights"))
        if strengths < OVER_WEIGHTS * weights:
            wrong.append(
                f"{layer}: pooled strengths diverge {strengths / weights:.1f} times as much as weights, expected"
                f" {OVER_WEIGHTS:.0f} and more"
            )
    if min(contrast.separation(f"node layer {node}", "weights").auc for node in (1, 2)) < 0.9:
        wrong.append("weight std alone does not separate, expected AUC 0.93 and more")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--rate", type=float, default=0.02, help="of stochastic gradient descent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bins", type=int, default=32, help="of the densities")
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument(
        "--exchange", choices=("networks", "values"), default="networks", help="what the null deals out"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    contrasts = []
    for title, (values, scores) in populations(options).items():
        contrast = Population(values, scores).contrast(
            bins=options.bins, exchange=options.exchange, permutations=options.permutations, seed=options.seed
        )
        contrasts.append(contrast)
        show(title, contrast)
    print(
        "\nAUC: of a network of the high third having the greater number. Divergences are Jensen-Shannon, in\n"
        "thousandths of a bit, less what chance gives; x: of strengths over that of weights."
    )
    wrong = judge(*contrasts)
    print("\nas expected" if not wrong else "\nnot as expected:\n  " + "\n  ".join(wrong))
    print(f"\n{time.perf_counter() - start:.0f} s with {options.threads} thread(s)")


if __name__ == "__main__":
    main()
