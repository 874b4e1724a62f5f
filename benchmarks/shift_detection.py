"""Does a network see that its inputs have changed? Corrupted digits, at equal false alarms.

A perceptron learns scikit-learn's digits. Held-out images are split into a reference, a pool to calibrate on and a pool
to test on; batches of the test pool, corrupted, are compared with the reference, and the table says in which share of
them each method raises an alarm. Every method's threshold is the one that 5 % of clean batches of the calibration pool
exceed; what it and the nominal one (Kolmogorov-Smirnov at 0.05, Bonferroni) do on clean batches of the test pool is
printed too. Images that the network, the class means, the reference or a threshold come from are never tested on.

    python benchmarks/shift_detection.py --help
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, stdev
from typing import Any, TypeAlias

import common
import numpy as np
import torch
from models import trained_mlp
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import kolmogorov
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import netassay
from netassay.persistence import ShiftDetector, topological_uncertainty

Array: TypeAlias = NDArray[Any]

WIDTHS = (64, 64, 32, 10)
#: Of 1797 digits: to train on and for the class means; then, of the rest, anew in every split.
TRAIN, REFERENCE, CALIBRATION = 797, 400, 300
LEVEL = 0.05
#: Pixels are in [0, 1]: deviation of Gaussian noise; of the blur, in pixels; share of pixels set to 0.
STRENGTHS = {
    "noise": (0.05, 0.1, 0.15, 0.2, 0.3, 0.4),
    "blur": (0.35, 0.4, 0.45, 0.5, 0.6, 0.7),
    "dropout": (0.02, 0.05, 0.1, 0.2, 0.3, 0.4),
}
METHODS = {
    "DGP": "bottlenecks of a sample's forward pass, sample_persistence as published; distances to class means",
    "joint": "the same, joint=True",
    "std": "the same, standardize=True",
    "approx": "the same, approximate=True",
    "TU": "topological uncertainty: each layer's tree weights, distances to class means, mean over the layers",
    "units": "hidden units and logits as one vector, distances to class means: what DGP adds to",
    "pixels": "the image itself, distances to class means: no network at all",
    "raw": "every pixel by itself, 64 two-sample tests",
    "softmax": "the ten probabilities of the classes",
    "conf": "the largest of them",
}
FORMS: dict[str, dict[str, bool]] = {
    "DGP": {},
    "joint": {"joint": True},
    "std": {"standardize": True},
    "approx": {"approximate": True},
}


def corrupted(images: Array, kind: str, strength: float, seed: int) -> Array:
    """(n, 64) float32 in [0, 1], in sixteenths as the images are, so that no pixel gives itself away by its format."""
    random = np.random.default_rng(seed)
    if kind == "noise":
        changed = np.clip(images + random.normal(0, strength, images.shape), 0, 1)
    elif kind == "blur":
        changed = gaussian_filter(images.reshape(-1, 8, 8), (0, strength, strength)).reshape(images.shape)
    else:
        changed = images * (random.random(images.shape) >= strength)
    return (np.rint(changed * 16) / 16).astype(np.float32)


def vectors(model: nn.Sequential, images: Array, threads: int) -> dict[str, tuple[Array, ...]]:
    """By method, the vectors whose distances to class means are its features: one per image, or one per layer."""
    weights = [layer.weight.detach() for layer in model if isinstance(layer, nn.Linear)]
    inputs, logits = forward(model, images)
    samples = torch.from_numpy(images)
    found = {
        name: (netassay.sample_persistence(model, samples, threads=threads, **form),) for name, form in FORMS.items()
    }
    layers = topological_uncertainty(weights, inputs, threads=threads)
    units = np.concatenate([*inputs[1:], logits], axis=1)
    return {**found, "TU": layers, "units": (units,), "pixels": (images,)}


def forward(model: nn.Sequential, images: Array) -> tuple[list[Array], Array]:
    """What enters each linear layer, and the logits."""
    inputs, x = [], torch.from_numpy(images)
    with torch.inference_mode():
        for layer in model:
            if isinstance(layer, nn.Linear):
                inputs.append(x.numpy())
            x = layer(x)
    return inputs, x.numpy()


def log_odds(logits: Array) -> Array:
    """Of each class; it orders as the probability does, and does not end at 1 - 1e-16 where that does."""
    wide = logits.astype(np.float64)
    others = [np.logaddexp.reduce(np.delete(wide, g, axis=1), axis=1) for g in range(wide.shape[1])]
    odds: Array = wide - np.stack(others, axis=1)
    return odds


@dataclass(frozen=True, slots=True)
class Network:
    """A trained network with its detectors, which know the class means of the training images."""

    model: nn.Sequential
    detectors: dict[str, tuple[ShiftDetector, ...]]
    threads: int

    @classmethod
    def fitted(cls, model: nn.Sequential, images: Array, labels: Array, threads: int) -> Network:
        found = vectors(model, images, threads)
        return cls(
            model, {name: tuple(ShiftDetector().fit(v, labels) for v in each) for name, each in found.items()}, threads
        )

    def features(self, images: Array) -> dict[str, Array]:
        """By method, (n, features) float64: what two-sample tests compare."""
        found = vectors(self.model, images, self.threads)
        odds = log_odds(forward(self.model, images)[1])
        distances = {
            name: np.mean([d.features(v) for d, v in zip(self.detectors[name], each, strict=True)], axis=0)
            for name, each in found.items()
        }
        return {**distances, "raw": images, "softmax": odds, "conf": odds.max(axis=1, keepdims=True)}


#: Of each image and feature, how many of the reference are below it, and how many are not above it.
Ranks: TypeAlias = tuple[Array, Array]


def ranks(features: Array, reference: Array) -> Ranks:
    """(images, features) each; everything that a two-sample test takes from its samples."""
    known = np.sort(reference, axis=0)
    sides = [
        [np.searchsorted(k, f, side=side) for f, k in zip(features.T, known.T, strict=True)]
        for side in ("left", "right")
    ]
    below, upto = (np.array(side, dtype=np.int16).T for side in sides)
    return below, upto


def statistics(known: Ranks, batches: Array) -> Array:
    """Largest of the features' Kolmogorov-Smirnov statistics between the reference and each batch, (batches,).

    Args:
        batches: (batches, size), indices of images.
    """
    size = batches.shape[1]
    step = np.arange(size)[:, None] / size
    below, upto = (np.sort(counts[batches], axis=1) / REFERENCE for counts in known)
    largest: Array = np.maximum(step + 1 / size - upto, below - step).max(axis=(1, 2))
    return largest


def p_values(statistic: Array, size: int, features: int) -> Array:
    """Of each batch, as `ShiftDetector.test` has it: asymptotic, times the features."""
    return np.minimum(1, features * kolmogorov(statistic * np.sqrt(REFERENCE * size / (REFERENCE + size))))


def verify(network: Network, train: Array, labels: Array, held_out: Array) -> None:
    """That the statistics above are those of `ShiftDetector.test`, on a few batches of clean images."""
    fit, found = vectors(network.model, train, network.threads), vectors(network.model, held_out, network.threads)
    features, random = network.features(held_out), np.random.default_rng(0)
    for name in ("DGP", "std", "units"):
        detector = ShiftDetector().fit(fit[name][0], labels, found[name][0][:REFERENCE])
        for size in (10, 100):
            batch = REFERENCE + random.choice(len(held_out) - REFERENCE, size, replace=False)
            theirs = detector.test(found[name][0][batch])
            ours = statistics(ranks(features[name], features[name][:REFERENCE]), batch[None])
            assert abs(ours[0] - theirs.statistics.max()) <= 1e-12, f"{name}: not the detector's statistic"
            p_value = p_values(ours, size, features[name].shape[1])[0]
            assert abs(p_value - theirs.p_value) <= 1e-9, f"{name}: not the detector's p-value"


#: Share of batches with an alarm, by batch size, what was done to the images, and method.
Shares: TypeAlias = dict[tuple[int, str, str], float]


def detected(states: dict[str, dict[str, Array]], sizes: Sequence[int], splits: int, draws: int, seed: int) -> Shares:
    """Mean over splits of the held-out images.

    Args:
        states: by what was done to the held-out images ("clean" among it), their features by method.
        draws: batches per split and state; the calibration takes four times as many.
    """
    random, shares = np.random.default_rng(seed), {}
    images = len(states["clean"]["DGP"])
    for _ in range(splits):
        reference, calibration, test = np.split(random.permutation(images), [REFERENCE, REFERENCE + CALIBRATION])
        before = {size: drawn(random, calibration, 4 * draws, size) for size in sizes}
        batches = {size: drawn(random, test, draws, size) for size in sizes}
        for method in METHODS:
            clean = states["clean"][method]
            known = {state: ranks(features[method], clean[reference]) for state, features in states.items()}
            for size in sizes:
                calm = np.sort(statistics(known["clean"], before[size]))
                threshold = calm[len(calm) - 1 - int(LEVEL * len(calm))]
                found = {state: statistics(each, batches[size]) for state, each in known.items()}
                alarms = {state: each > threshold for state, each in found.items()}
                alarms["nominal"] = p_values(found["clean"], size, clean.shape[1]) < LEVEL
                for state, each in alarms.items():
                    shares.setdefault((size, state, method), []).append(float(each.mean()))
    return {key: float(np.mean(found)) for key, found in shares.items()}


def drawn(random: np.random.Generator, pool: Array, count: int, size: int) -> Array:
    """(count, size): batches of different images; an image may be in several batches."""
    return np.stack([random.choice(pool, size, replace=False) for _ in range(count)])


def trial(seed: int, options: argparse.Namespace) -> tuple[Shares, dict[str, float]]:
    """Of one network: shares, and its accuracy on all held-out images in every state."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)
    train, held_out, known, truth = train_test_split(
        images, labels, train_size=TRAIN, random_state=seed, stratify=labels
    )
    model = trained_mlp(WIDTHS, torch.from_numpy(train), torch.from_numpy(known), seed=seed, epochs=options.epochs)
    network = Network.fitted(model, train, known, options.threads)
    verify(network, train, known, held_out)
    changed = {"clean": held_out}
    for kind, strengths in STRENGTHS.items():
        for index, strength in enumerate(strengths):
            changed[f"{kind} {strength}"] = corrupted(held_out, kind, strength, 100 * seed + index)
    accuracies = {s: float((forward(model, x)[1].argmax(1) == truth).mean()) for s, x in changed.items()}
    states = {state: network.features(x) for state, x in changed.items()}
    return detected(states, options.sizes, options.splits, options.draws, seed), accuracies


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds, in %."""
    return f"{100 * mean(values):.0f}" + (f" ({100 * stdev(values):.0f})" if len(values) > 1 else "")


def show(trials: Sequence[tuple[Shares, dict[str, float]]], sizes: Sequence[int]) -> None:
    """One table per batch size, and one of means over the strengths."""
    shares, accuracies = [t[0] for t in trials], [t[1] for t in trials]
    corruptions = [f"{kind} {strength}" for kind, strengths in STRENGTHS.items() for strength in strengths]

    def cells(size: int, state: str) -> list[str]:
        return [spread([share[size, state, method] for share in shares]) for method in METHODS]

    for size in sizes:
        rows = [["clean, nominal", spread([a["clean"] for a in accuracies]), *cells(size, "nominal")]]
        for state in ("clean", *corruptions):
            rows.append([state, spread([a[state] for a in accuracies]), *cells(size, state)])
        common.table(f"Batches of {size} with an alarm, in %", ("", "accuracy", *METHODS), rows)
    rows = []
    for kind, strengths in STRENGTHS.items():
        for size in sizes:
            names = [f"{kind} {strength}" for strength in strengths]
            means = [[mean(s[size, name, method] for name in names) for s in shares] for method in METHODS]
            rows.append([f"{kind}, {size}", *(spread(each) for each in means)])
    common.table("Mean over the six strengths, by batch size, in %", ("", *METHODS), rows)
    rows = []
    for method in METHODS:
        every = [mean(s[size, name, method] for size in sizes for name in corruptions) for s in shares]
        rows.append([f"{method}: {METHODS[method]}", spread(every)])
    common.table("Mean over everything, in %", ("", ""), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="networks")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 50, 100], help="images in a batch")
    parser.add_argument("--splits", type=int, default=10, help="of the held-out images, per network")
    parser.add_argument("--draws", type=int, default=50, help="batches per split, corruption and strength")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    start = time.perf_counter()
    parameters = sum(i * o + o for i, o in pairwise(WIDTHS))
    print(
        f"{'-'.join(map(str, WIDTHS))} with {parameters:,} parameters, {options.seeds} seeds: mean (sd) over them; "
        f"{options.splits} splits x {options.draws} batches each"
    )
    show([trial(seed, options) for seed in range(options.seeds)], options.sizes)
    print(f"\n{time.perf_counter() - start:.0f} s with {options.threads} threads")


if __name__ == "__main__":
    main()
