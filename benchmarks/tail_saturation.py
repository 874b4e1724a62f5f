"""Does the finding "tail of low saturation" name layers that a network can do without? On scikit-learn's digits.

Plain convolutional networks of growing depth are trained; where a watch over the training images finds a tail, the
layers it names are removed, the shorter network is trained from scratch with the same budget, and both are tested on
held-out digits, which neither the training nor the finding has seen. Every seed is shown, also those where no tail was
found and those where accuracy fell.

    python benchmarks/tail_saturation.py --help
"""

from __future__ import annotations

import argparse
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import netassay
from netassay.demo import digits


@dataclass(frozen=True, slots=True)
class Trial:
    """One seed at one depth; accuracies in [0, 1].

    Attributes:
        kept: convolutions left after the removal; None where no tail was found.
        after: of the shorter network, trained anew.
        parameters: of both networks, before and after; (n, n) where no tail was found.
    """

    seed: int
    saturations: tuple[float, ...]
    kept: int | None
    before: float
    after: float | None
    parameters: tuple[int, int]


def network(depth: int, width: int) -> nn.Module:
    """3 x 3 convolutions at full resolution, each with BatchNorm and ReLU, and one linear layer; images to classes."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, depth + 1):
        layers[f"conv{i}"] = nn.Conv2d(1 if i == 1 else width, width, 3, padding=1, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm2d(width)
        layers[f"relu{i}"] = nn.ReLU()
    layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["linear"] = nn.Linear(width, 10)
    return nn.Sequential(layers)


def train(depth: int, width: int, epochs: int, seed: int) -> tuple[nn.Module, float, netassay.Report]:
    """The trained network, its accuracy on held-out digits, and its report on the training images, in evaluation."""
    torch.manual_seed(seed)
    seen, held_out = digits(seed)
    model = network(depth, width)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    # without decay the last epoch's accuracy is mostly noise: it moved by 11 points between seeds of one depth
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for images, labels in seen:
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
        decay.step()
    model.eval()
    with torch.inference_mode():
        hits = torch.cat([model(images).argmax(1) == labels for images, labels in held_out])
        with netassay.watch(model) as watch:
            for images, _ in seen:
                model(images)
    return model, float(hits.float().mean()), watch.report()


def convolutions_before_the_tail(report: netassay.Report) -> int | None:
    """How many convolutions stand before the tail that the report names; None where it names none."""
    tails = [finding.evidence for finding in report.findings if "first" in finding.evidence]
    if not tails:
        return None
    names = [row.name for row in report]
    first, last = names.index(tails[0]["first"]), names.index(tails[0]["last"])
    assert names[last + 1 :] == ["linear"], "a tail ends right before the classifier"
    return first


def trial(depth: int, width: int, epochs: int, seed: int) -> Trial:
    model, before, report = train(depth, width, epochs, seed)
    kept, after, smaller = convolutions_before_the_tail(report), None, model
    if kept is not None:
        smaller, after, _ = train(kept, width, epochs, seed)
    sizes = tuple(sum(p.numel() for p in m.parameters()) for m in (model, smaller))
    return Trial(seed, tuple(row.saturation.value for row in report), kept, before, after, (sizes[0], sizes[1]))


def told(depth: int, trials: Sequence[Trial]) -> str:
    """What came out at one depth, in a sentence."""
    found = [t for t in trials if t.after is not None]
    if not found:
        return f"depth {depth}: no tail was found with any of {len(trials)} seeds; nothing was removed"
    changes = [t.after - t.before for t in found if t.after is not None]
    fell = [str(t.seed) for t, change in zip(found, changes, strict=True) if change < 0]
    removed = [depth - t.kept for t in found if t.kept is not None]
    share = mean(1 - t.parameters[1] / t.parameters[0] for t in found)
    return (
        f"depth {depth}: a tail with {len(found)} of {len(trials)} seeds, {min(removed)} to {max(removed)} layers, "
        f"{share:.0%} of the parameters; accuracy {_spread([t.before for t in found])} before, "
        f"{_spread([t.after for t in found if t.after is not None])} after, change {100 * mean(changes):+.1f} points"
        + (f"; it FELL with seed {', '.join(fell)}" if fell else "; it fell with no seed")
    )


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.1%}" + (f" (sd {stdev(values):.1%})" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 6, 9, 12], help="convolutions")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    start = time.perf_counter()
    print(f"width {options.width}, {options.epochs} epochs; accuracy on 450 held-out digits (one digit: 0.2 points)\n")
    print("depth  seed   before    after   layers      parameters   saturation of the convolutions, in %")
    summary = []
    for depth in options.depths:
        trials = []
        for seed in range(options.seeds):
            t = trial(depth, options.width, options.epochs, seed)
            trials.append(t)
            after = "no tail" if t.after is None else f"{t.after:.1%}"
            layers = f"{depth}" if t.kept is None else f"{depth} > {t.kept}"
            sizes = f"{t.parameters[0]:,}" if t.kept is None else f"{t.parameters[0]:,} > {t.parameters[1]:,}"
            values = " ".join(f"{100 * value:.0f}" for value in t.saturations[:-1])
            print(
                f"{depth:>5}  {seed:>4}  {t.before:>7.1%}  {after:>7}  {layers:>7}  {sizes:>14}   {values}", flush=True
            )
        summary.append(told(depth, trials))
    print("\n" + "\n".join(summary))
    print(f"\n{time.perf_counter() - start:.0f} s with {options.threads} threads")


if __name__ == "__main__":
    main()
