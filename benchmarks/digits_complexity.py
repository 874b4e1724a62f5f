"""How often units switch, and how many directions layers use, while a network learns digits: true or random labels.

Three seeds each of a convolutional network with BatchNorm (`netassay.demo.network`) on scikit-learn's digits, labels
as they are or shuffled once. After some epochs the training images run through the network in evaluation mode under
watch; every snapshot is of one such pass. What is expected, by measures of Janik and Witaszczyk (arXiv 2006.04791):

    complexity rises with training, with random labels as with true ones, and further;
    the last layer's effective dimension, of whole maps, shrinks with true labels;
    that of a middle layer expands with random labels.

    python benchmarks/digits_complexity.py [--epochs 60] [--seeds 3] [--json FILE] [--plot FILE.svg]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

#: Epochs after which a snapshot is taken; 0 is before training.
SNAPSHOTS = (0, 1, 2, 5, 10, 20, 40, 60, 100)
QUANTITIES = {
    "complexity": "complexity.eval.mean_position",
    "conv2": "conv2/eval/effective_dimension.value",
    "conv3": "conv3/eval/effective_dimension.value",
    "conv4": "conv4/eval/effective_dimension.value",
}


def run(seed: int, labels: str, epochs: int) -> tuple[Any, dict[int, float]]:
    """The history of one training, and its accuracy on the training images by epoch."""
    import torch
    from torch.nn.functional import cross_entropy

    import netassay
    from netassay.demo import digits, network

    torch.manual_seed(seed)
    train, _ = digits(seed)
    images, targets = train.dataset.tensors
    if labels == "random":
        targets = targets[torch.randperm(len(targets))]
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    watch = netassay.watch(
        model, layers=["conv2", "conv3", "conv4"], measures=("saturation", "complexity"), positions="flatten"
    )
    accuracy: dict[int, float] = {}
    for epoch in range(epochs + 1):
        if epoch in SNAPSHOTS or epoch == epochs:
            watch.resume()
            model.eval()
            with torch.inference_mode():
                accuracy[epoch] = float((model(images).argmax(1) == targets).float().mean())
            watch.snapshot(epoch)
        watch.pause()
        model.train()
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), targets[batch]).backward()
            optimizer.step()
    print(f"  seed {seed}, {labels} labels: accuracy {accuracy[epochs]:.1%} on the images it learned", file=sys.stderr)
    return watch.history, accuracy


def table(found: dict[str, list[tuple[Any, dict[int, float]]]]) -> Iterator[str]:
    """One line per epoch: means over the seeds, of true labels and of random ones."""
    columns = ("accuracy", *QUANTITIES)
    yield "         " + "".join(f"{name:^17}" for name in columns)
    yield "epoch    " + "".join(f"{'true':>8}{'random':>9}" for _ in columns)
    yield "─" * (9 + 17 * len(columns))
    epochs = sorted(found["true"][0][1])
    for place, epoch in enumerate(epochs):
        cells = []
        for name in columns:
            for labels in ("true", "random"):
                value = at(found[labels], name, place, epoch)
                cells.append(f"{value:{'8' if labels == 'true' else '9'}.{1 if name.startswith('conv') else 3}f}")
        yield f"{epoch:<9}" + "".join(cells)


def at(runs: list[tuple[Any, dict[int, float]]], name: str, place: int, epoch: int) -> float:
    """A quantity at one epoch, mean over the seeds."""
    if name == "accuracy":
        return mean(accuracy[epoch] for _, accuracy in runs)
    return mean(float(history[QUANTITIES[name]].values[place]) for history, _ in runs)


def shapes(found: dict[str, list[tuple[Any, dict[int, float]]]]) -> Iterator[str]:
    """Which expected shapes appeared: in how many of the seeds."""

    def ends(labels: str, name: str) -> list[tuple[float, float]]:
        series = [history[QUANTITIES[name]].values for history, _ in found[labels]]
        return [(float(values[0]), float(values[-1])) for values in series]

    def line(what: str, holds: list[bool]) -> str:
        word = "appeared" if all(holds) else "appeared in part" if any(holds) else "did not appear"
        return f"  {what}: {word} ({sum(holds)} of {len(holds)} seeds)"

    for labels in ("true", "random"):
        yield line(f"complexity rises, {labels} labels", [b > a for a, b in ends(labels, "complexity")])
    both = zip(ends("true", "complexity"), ends("random", "complexity"), strict=True)
    yield line("complexity ends higher with random labels", [r[1] > t[1] for t, r in both])
    yield line("the last layer (conv4) shrinks, true labels", [b < a for a, b in ends("true", "conv4")])
    for name in ("conv2", "conv3"):
        several = ends("random", name)
        factor = mean(b / a for a, b in several)
        yield line(f"a middle layer ({name}) expands, random labels, {factor:.1f} times", [b > a for a, b in several])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    found = {
        labels: [run(seed, labels, options.epochs) for seed in range(options.seeds)] for labels in ("true", "random")
    }
    print(f"means over {options.seeds} seeds; conv2, conv3, conv4: effective dimension of whole maps\n")
    print("\n".join(table(found)))
    print("\nexpected shapes")
    print("\n".join(shapes(found)))
    for labels in ("true", "random"):
        growth = found[labels][0][0].power_law(QUANTITIES["complexity"])
        print(f"\ncomplexity against epoch, {labels} labels, first seed: {growth.better} explains it better")
        print(f"  power law: exponent {growth.slope:.3f}, R² {growth.r_squared:.2f}")
        limit = f"limit {growth.limit:.3f}, reached at the rate of {growth.scale:.1f} epochs"
        print(f"  saturation: {limit}, R² {growth.saturation_r_squared:.2f}")
    if options.json:
        content = {
            labels: [
                {"accuracy": accuracy, **{name: history[q].values.tolist() for name, q in QUANTITIES.items()}}
                for history, accuracy in runs
            ]
            for labels, runs in found.items()
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(found, options.plot)


def plot(found: dict[str, list[tuple[Any, dict[int, float]]]], path: Path) -> None:
    """Every seed's course, true and random labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3), layout="constrained")
    for axes, (name, quantity) in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True):
        for labels, color in (("true", "C0"), ("random", "C1")):
            for history, _ in found[labels]:
                history.plot(quantity, ax=axes)
                axes.lines[-1].set_color(color)
        axes.set_title(name)
    figure.savefig(path)


if __name__ == "__main__":
    main()
