"""Two groups of networks: what tells them apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base.errors import SelectionError
from netassay.network.divergence import Divergence

Float64: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Separation:
    """How well one number per network tells two groups of networks apart.

    Attributes:
        layer, quantity: of what; scalar: which number of it: "std" (of strengths: the fluctuation), "mean", "degree"
            (mean effective degree), or "value" (a number that was given as such).
        auc: probability that a network of the high group has the greater number, ties counted half: 1/2 is no
            separation, 0 and 1 are complete ones.
        p_value: two-sided, of the groups' labels dealt out anew.
        low, high: mean of the number over either group.
    """

    layer: str
    quantity: str
    scalar: str
    auc: float
    p_value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PooledDivergence:
    """How far the values of a group's networks, pooled, are from those of the other group's; see `Divergence`."""

    layer: str
    quantity: str
    divergence: Divergence


@dataclass(frozen=True, slots=True, repr=False)
class Contrast:
    """Networks of low scores against networks of high ones; prints as a table.

    Attributes:
        low, high: least and greatest score of either group. sizes: how many networks they have.
        separations: one per layer, quantity and scalar; the weights' own stand first in every layer.
        divergences: one per layer and quantity that has a distribution.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    sizes: tuple[int, int]
    separations: tuple[Separation, ...]
    divergences: tuple[PooledDivergence, ...]

    def separation(self, layer: str, quantity: str, scalar: str = "std") -> Separation:
        """The one of these. Raises SelectionError."""
        for one in self.separations:
            if (one.layer, one.quantity, one.scalar) == (layer, quantity, scalar):
                return one
        raise SelectionError(f"Contrast: got {layer!r}, {quantity!r}, {scalar!r}, expected one of its separations")

    def divergence(self, layer: str, quantity: str) -> Divergence:
        """Of these pooled values. Raises SelectionError."""
        for one in self.divergences:
            if (one.layer, one.quantity) == (layer, quantity):
                return one.divergence
        raise SelectionError(f"Contrast: got {layer!r}, {quantity!r}, expected one of its divergences")

    def __repr__(self) -> str:
        return f"<Contrast: networks {self.sizes[0]} and {self.sizes[1]}, separations {len(self.separations)}>"

    def __str__(self) -> str:
        low, high = (
            f"{n} networks of {a:.4g} to {b:.4g}" for n, (a, b) in zip(self.sizes, (self.low, self.high), strict=True)
        )
        header = ("layer", "quantity", "of it", "low", "high", "ratio", "AUC", "p", "divergence", "by chance", "p")
        return f"low: {low}; high: {high}\n\n{_grid(header, list(self._lines()))}"

    def _lines(self) -> Iterator[tuple[str, ...]]:
        pooled = {(one.layer, one.quantity): one.divergence for one in self.divergences}
        before = None
        for one in self.separations:
            key = (one.layer, one.quantity)
            ratio = f"{one.high / one.low:.2f}" if one.low > 0 < one.high else "-"
            far = pooled.get(key) if key != before else None
            apart = ("", "", "") if far is None else _apart(far)
            layer = one.layer if before is None or before[0] != one.layer else ""
            quantity = one.quantity if key != before else ""
            numbers = (f"{one.low:.4g}", f"{one.high:.4g}", ratio, f"{one.auc:.2f}", f"{one.p_value:.2g}")
            yield (_plain(layer), _plain(quantity), one.scalar, *numbers, *apart)
            before = key


def separations(
    layer: str, quantity: str, scalars: Sequence[Mapping[str, float]], size: int, drawn: NDArray[np.bool_]
) -> Iterator[Separation]:
    """One for each scalar of a quantity.

    Args:
        scalars: of each network, those of the low group first, of which there are `size`. drawn: (permutations,
            networks), who is in the low group of each permutation.
    """
    for scalar in scalars[0]:
        values = np.array([one[scalar] for one in scalars])
        low = np.arange(len(values)) < size
        ranks = _ranks(values)
        auc, null = _auc(ranks, low[None])[0], _auc(ranks, drawn)
        # a permutation that gives the same groups must count, whatever the last bits are
        reached = np.count_nonzero(np.abs(null - 0.5) >= abs(auc - 0.5) - 1e-12)
        p_value = float((1 + reached) / (1 + len(null)))
        means = float(values[low].mean()), float(values[~low].mean())
        yield Separation(layer, quantity, scalar, float(auc), p_value, *means)


def _ranks(values: Float64) -> Float64:
    """From 1, equal values sharing the mean of theirs."""
    ordered = np.sort(values)
    below, upto = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.asarray((below + upto + 1) / 2, dtype=np.float64)


def _auc(ranks: Float64, low: NDArray[np.bool_]) -> Float64:
    """Of each division, (divisions, networks): rank sum of the high ones less its least, over its range."""
    high = ~low
    n, m = high.sum(axis=1), low.sum(axis=1)
    return np.asarray(((high * ranks).sum(axis=1) - n * (n + 1) / 2) / (n * m), dtype=np.float64)


def _apart(found: Divergence) -> tuple[str, str, str]:
    chance = "-" if found.null_mean is None else f"{found.null_mean:.2g}"
    return f"{found.value:.2g}", chance, "-" if found.p_value is None else f"{found.p_value:.2g}"


def _plain(text: str) -> str:
    """A name is whatever its author wrote."""
    return text if text.isprintable() else text.encode("unicode_escape", "replace").decode("ascii")


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first three columns to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        told = [
            cell.ljust(w) if k < 3 else cell.rjust(w) for k, (cell, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "   ".join(told).rstrip()

    rule = "─" * (sum(widths) + 3 * (len(widths) - 1))
    return "\n".join([line(header), rule, *map(line, rows)])
