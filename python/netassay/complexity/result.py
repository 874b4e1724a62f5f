"""What counts say: entropies, their bias, effective samples, dead and linear units."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base.arrays import read_only
from netassay.base.errors import TooFewRows
from netassay.complexity.rules import RULES

if TYPE_CHECKING:
    from netassay._core.complexity import Switching as Native

Float64: TypeAlias = NDArray[np.float64]
Int64: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Complexity:
    """How often units switch between the linear pieces of their nonlinearity.

    With p_k the share of the numbers of a unit that are in state k of K, C = -sum p_k log2 p_k (plug-in). `channel`
    rule: a unit is one of C channels, p over samples and positions; `position` rule: a unit is a channel at a position,
    p over samples. Without position axes the two are one. (Janik, Witaszczyk, arXiv 2006.04791; of the paper only the
    abstract and its authors' related code could be consulted: that code confirms the state 1[a > 0], not how
    convolutions are averaged, so both rules are given and no table of the paper is claimed.)

    Attributes:
        channel_bits: (C,) float64, bits, in [0, log2 K]; 0 exactly where a unit never switches.
        position_bits: (C, *positions) float64, bits. None: positions were not counted, or their shape has varied; in a
            watch's report too, which keeps their mean and total alone.
        mean_channel, mean_position: bits per unit.
        total_channel, total_position: bits, sum over the units of the rule. The latter, and the former times the number
            of positions, bound the joint entropy of a sample's states from above.
        channel_miller_madow, position_miller_madow: as the bits, + (occupied states - 1) / (2 n ln 2) for the bias of
            sampling, at most log2 K; n = observations, samples.
        mean_channel_miller_madow, mean_position_miller_madow: bits per unit, means of the same sums before each is cut
            at log2 K, themselves at most log2 K: cutting every unit would leave half the bias of those near log2 K.
        shares: (K, C) float64, p by the channel rule.
        dead, dead_position: share of units that were always off, by either rule; ReLU and ReLU6 only, else None. A NaN
            is off in the bits and shares, but no unit of a channel that held one is said to be dead, or linear.
        linear, linear_position: share of units that were always in one and the same piece that is linear and not
            constant. None for rules that say nothing of pieces (gate_sign, threshold).
        hamming: mean over pairs of samples of the share of units (position rule) whose states differ,
            (1/D) sum_j (n^2 - sum_k n_jk^2) / (n (n - 1)), for two states (1/D) sum 2 k (n - k) / (n (n - 1)).
        effective_samples: (C,) float64: independent samples that would tell p as well as all positions of all samples
            do, n_eff = p (1 - p) / Var p, Var p = (q - on^2 / n) / (n (n - 1) positions^2),
            q = sum over samples of (positions that are on)^2; infinite where p is the same in every sample, NaN where
            it is undefined (one sample, a unit that never switches, positions that varied). Of several states the
            smallest.
        label_information: (C,) float64, bits: mutual information of a unit's state (channel rule) and the label,
            plug-in. None without classes.
        mean, variance: (C,) float64, of a channel's finite numbers over samples and positions, in activation units and
            these squared; the variance is that of the population, as BatchNorm normalises by. NaN where no number is
            finite. None without sums.
        samples: n. positions: of a sample; None where that varied. observations: numbers of each channel.
        zeros, nans: numbers that were zero; that were NaN (windows that held one). infinities: that were infinite, left
            out of mean and variance as NaNs are; None without sums.
        rule, thresholds: what was counted.
        flags: "single_sample", "shape_varies" (position counts stopped, channel counts went on), "nan", "always" (some
            channel never switched), "no_positions" (they were not counted).
    """

    channel_bits: Float64
    position_bits: Float64 | None = field(metadata={"axes": None})
    mean_channel: float = field(metadata={"minimum": 0, "finite": True})
    mean_position: float | None = field(metadata={"minimum": 0})
    total_channel: float = field(metadata={"minimum": 0, "finite": True})
    total_position: float | None = field(metadata={"minimum": 0})
    channel_miller_madow: Float64
    position_miller_madow: Float64 | None = field(metadata={"axes": None})
    mean_channel_miller_madow: float
    mean_position_miller_madow: float | None
    shares: Float64 = field(metadata={"minimum": 0, "maximum": 1, "finite": True, "axes": 2})
    dead: float | None
    dead_position: float | None
    linear: float | None
    linear_position: float | None
    hamming: float | None
    effective_samples: Float64
    label_information: Float64 | None
    mean: Float64 | None
    variance: Float64 | None = field(metadata={"minimum": 0})
    samples: int
    positions: int | None
    observations: int
    zeros: int
    nans: int
    infinities: int | None
    rule: str
    thresholds: tuple[float, ...]
    flags: tuple[str, ...]

    @property
    def position_information(self) -> Float64 | None:
        """(C,) float64, bits: mutual information of a channel's state and its position, C_channel minus the mean of
        C_position over positions; >= 0."""
        if self.position_bits is None:
            return None
        information: Float64 = self.channel_bits - self.position_bits.reshape(len(self.channel_bits), -1).mean(axis=1)
        return np.maximum(information, 0.0)


def complexity_of(native: Native, rule: str, thresholds: tuple[float, ...]) -> Complexity:
    """The result of a state's counts."""
    counts = native.counts()
    samples, observations = counts["samples"], counts["observations"]
    if samples == 0:
        raise TooFewRows("Switching.result: got no samples, expected at least one")
    pieces = rule != "identity"
    channel = _occupancy(counts["state"], observations, pieces)
    position = _positions(counts, channel, pieces)
    bits = entropy(channel, observations)
    most = math.log2(len(channel))
    corrected = miller_madow(bits, channel, observations)
    by_position, corrected_positions, mean_corrected = None, None, None
    if position is not None:
        shape = (len(bits), *counts["shape"])
        by_position = entropy(position, samples).reshape(shape)
        corrected_positions = miller_madow(by_position, position.reshape(-1, *shape), samples)
        mean_corrected = min(float(corrected_positions.mean()), most)
    mean, variance, infinities = _moments(counts, observations)
    varies = counts["shape_varies"]
    known = counts["nan"] == 0
    unlabelled = len(counts["class_observations"]) == 0
    flags = {
        "single_sample": samples == 1,
        "shape_varies": varies,
        "nan": bool(counts["nan"].any()),
        "always": bool((channel == observations).any()),
        "no_positions": position is None and not varies,
    }
    return Complexity(
        channel_bits=read_only(bits),
        position_bits=None if by_position is None else read_only(by_position),
        mean_channel=float(bits.mean()),
        mean_position=None if by_position is None else float(by_position.mean()),
        total_channel=float(bits.sum()),
        total_position=None if by_position is None else float(by_position.sum()),
        channel_miller_madow=read_only(np.minimum(corrected, most)),
        position_miller_madow=None if corrected_positions is None else read_only(np.minimum(corrected_positions, most)),
        mean_channel_miller_madow=min(float(corrected.mean()), most),
        mean_position_miller_madow=mean_corrected,
        shares=read_only(channel / observations),
        dead=_always(channel, observations, RULES[rule].dead, known),
        dead_position=None if position is None else _always(position, samples, RULES[rule].dead, known),
        linear=_always(channel, observations, _linear(rule, len(channel)), known),
        linear_position=(None if position is None else _always(position, samples, _linear(rule, len(channel)), known)),
        hamming=None if position is None or samples == 1 else hamming(position, samples),
        effective_samples=read_only(effective_samples(counts, pieces)),
        label_information=None if unlabelled else read_only(label_information(counts, bits, pieces)),
        mean=mean,
        variance=variance,
        samples=samples,
        positions=None if varies else math.prod(counts["shape"]),
        observations=observations,
        zeros=int(counts["zero"].sum()),
        nans=int(counts["nan"].sum()),
        infinities=infinities,
        rule=rule,
        thresholds=thresholds,
        flags=tuple(name for name, holds in flags.items() if holds),
    )


def _occupancy(state: Int64, total: int, pieces: bool) -> Int64:
    """Counts of all K states, (K, ...), from those of 1 ... K - 1; all in one where a rule has no pieces."""
    if not pieces:
        return np.full((1, *state.shape[1:]), total, np.int64)
    return np.concatenate([total - state.sum(axis=0, keepdims=True), state])


def _moments(counts: dict[str, Any], observations: int) -> tuple[Float64 | None, Float64 | None, int | None]:
    """(mean, variance, infinities)."""
    finite = counts["finite"]
    if len(finite) == 0:
        return None, None, None
    some = np.where(finite > 0, finite, np.nan)
    infinities = int((observations - counts["nan"] - finite).sum())
    return read_only(counts["mean"] + 0 * some), read_only(counts["scatter"] / some), infinities


def _positions(counts: dict[str, Any], channel: Int64, pieces: bool) -> Int64 | None:
    """(K, C * positions)."""
    if counts["shape_varies"]:
        return None
    if math.prod(counts["shape"]) == 1:
        return channel
    states, units, positions = counts["position"].shape
    if units == 0:
        return None
    return _occupancy(counts["position"].reshape(states, units * positions), counts["samples"], pieces)


def entropy(states: Int64, total: int | Int64) -> Float64:
    """-sum p log2 p over the first axis, in bits; 0 log2 0 = 0."""
    p = states / total
    terms = np.zeros_like(p)
    np.log2(p, out=terms, where=p > 0)
    bits: Float64 = np.maximum(-(p * terms).sum(axis=0), 0.0)
    return bits


def miller_madow(bits: Float64, states: Int64, total: int) -> Float64:
    """bits + (occupied states - 1) / (2 total ln 2)."""
    occupied = (states > 0).sum(axis=0).reshape(bits.shape)
    corrected: Float64 = bits + (occupied - 1) / (2 * total * math.log(2))
    return corrected


def hamming(states: Int64, samples: int) -> float:
    """Mean share of units whose states differ between two samples; see `Complexity`."""
    each = states.astype(np.float64)
    apart = (each * (samples - each)).sum(axis=0)  # n^2 - sum_k n_k^2 without cancellation
    return float((apart / (float(samples) * (samples - 1))).mean())


def effective_samples(counts: dict[str, Any], pieces: bool) -> Float64:
    """See `Complexity`."""
    state, square = counts["state"].astype(np.float64), counts["square"].astype(np.float64)
    n, total = counts["samples"], counts["observations"]
    undefined = np.full(state.shape[1:], np.nan)
    if n == 1 or counts["shape_varies"] or not pieces:
        return undefined
    p = state / total
    positions = total / n
    variance = np.maximum(square - state**2 / n, 0.0) / (n * (n - 1.0) * positions**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where((state > 0) & (state < total), p * (1 - p) / variance, np.nan)
    least: Float64 = np.fmin.reduce(each, axis=0, initial=np.nan)  # a window of one place has no state but 0
    return least


def label_information(counts: dict[str, Any], bits: Float64, pieces: bool) -> Float64:
    """Entropy of the state minus its mean within the classes, weighted by their shares."""
    if not pieces:
        return np.zeros_like(bits)
    within = np.zeros_like(bits)
    for state, total in zip(counts["class_state"], counts["class_observations"].tolist(), strict=True):
        if total > 0:
            within += total / counts["observations"] * entropy(_occupancy(state, total, True), total)
    return np.maximum(bits - within, 0.0)


def _linear(rule: str, states: int) -> tuple[int, ...]:
    """Of a maximum and of the identity every piece is linear."""
    return tuple(range(states)) if rule in ("maxpool", "identity") else RULES[rule].linear


def _always(states: Int64, total: int, which: tuple[int, ...], known: NDArray[np.bool_]) -> float | None:
    """Share of units that are always in one of these states; None where there is none such.

    Args:
        known: (C,), channels without a NaN; a unit of another one is in no state for certain.
    """
    if not which:
        return None
    always = (states[list(which)] == total).any(axis=0).reshape(len(known), -1)
    return float((always & known[:, None]).mean())
