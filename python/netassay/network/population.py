"""Many networks, each with a score: which of their numbers tell the good ones from the bad ones?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay.base import arrays
from netassay.base.errors import DomainError, NonFinite, ShapeError, TooFewRows
from netassay.network.contrast import Contrast, PooledDivergence, Separation, separations
from netassay.network.divergence import KINDS, Divergence, dealt, density_of, histogram, judged, quantile_edges, sample

Float64: TypeAlias = NDArray[np.float64]

_WEIGHTS = "weights"
_EXCHANGED = ("networks", "values")


@dataclass(frozen=True, slots=True, eq=False)
class _Values:
    """What one network has of one quantity of a layer: numbers, and a distribution as values or as counts."""

    scalars: Mapping[str, float]
    values: Float64 | None = None
    counts: NDArray[np.int64] | None = None


_Network: TypeAlias = dict[str, dict[str, _Values]]


class Population:
    """Many networks, each with a score such as its accuracy, in groups by quantiles of the score.

    For every layer and quantity: AUC of each network's number (standard deviation, which of strengths is the
    fluctuation; mean; effective degree) for the low group against the high one, and the divergence of the values pooled
    over the networks of either group, each beside a permutation null. The standard deviation of the plain weights
    always stands beside those of strengths: per network it often tells as much.

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> scales = np.linspace(1, 2, 12)
    >>> networks = [{"fc": {"weights": scale * random.normal(size=(20, 30))}} for scale in scales]
    >>> contrast = Population(networks, scores=scales).contrast()
    >>> contrast.sizes, contrast.separation("fc", "weights").auc
    ((4, 4), 1.0)

    Args:
        networks: of each a mapping from names of layers to a result of `layer_links` (or anything with its `mean`,
            `variance`, `density`, `incoming` and `outgoing`), or to a mapping from quantities to arrays of values or
            to numbers, "weights" among them; or a report of measure_weights(measures="network"), or anything with such
            `layers`. Layers and quantities that not all have are left out; see `left_out`.
        scores: (networks,) finite numbers.
        bins: groups, between quantiles of the scores; networks of equal score are never parted.

    Raises:
        ShapeError: other than one score per network. TooFewRows: fewer than two networks in a group. NonFinite: a
        score. DomainError: a layer without weights, no layer that all networks have, fewer than two groups.
    """

    __slots__ = ("_networks", "groups", "layers", "left_out", "scores")

    scores: Float64
    #: Indices of networks, by group from low to high.
    groups: tuple[NDArray[np.intp], ...]
    #: Quantities by layer, the weights first.
    layers: dict[str, tuple[str, ...]]
    #: (layer, quantity) that some networks lack.
    left_out: tuple[tuple[str, str], ...]

    def __init__(self, networks: Sequence[Any], scores: Sequence[float], *, bins: int = 3) -> None:
        self.scores = arrays.read_only(np.array(scores, dtype=np.float64))
        if self.scores.shape != (len(networks),) or not len(networks):
            raise ShapeError(
                f"Population: got scores of shape {self.scores.shape} for {len(networks)} networks, expected one each"
            )
        if not np.isfinite(self.scores).all():
            raise NonFinite("Population: got a score that is a NaN or an infinity, expected finite scores")
        if bins < 2:
            raise DomainError(f"Population: got bins={bins}, expected at least 2")
        self._networks = [_network(given) for given in networks]
        edges = np.quantile(self.scores, np.arange(1, bins) / bins)
        group = np.searchsorted(edges, self.scores, side="left")
        self.groups = tuple(np.flatnonzero(group == k) for k in range(bins))
        if few := [k for k, members in enumerate(self.groups) if len(members) < 2]:
            raise TooFewRows(
                f"Population: got {len(self.groups[few[0]])} networks in group {few[0] + 1} of {bins} by score,"
                " expected at least 2: fewer groups, more networks, or scores that differ more"
            )
        self.layers, self.left_out = _shared(self._networks)

    def __str__(self) -> str:
        return str(self.contrast())

    def __repr__(self) -> str:
        return f"<Population: networks {len(self._networks)}, layers {len(self.layers)}, groups {len(self.groups)}>"

    def contrast(
        self,
        low: int = 0,
        high: int = -1,
        *,
        kind: str = "jensen_shannon",
        bins: int | None = None,
        exchange: str = "networks",
        permutations: int = 1000,
        seed: int = 0,
    ) -> Contrast:
        """Two groups of networks against each other.

        Args:
            low, high: places in `groups`.
            kind, bins: of divergences, as `divergence` takes them.
            exchange: what the null of divergences deals out anew: "networks", with all their values, or "values", as if
                they had nothing to do with the network they come from; the first is the stricter test.
            permutations, seed: of all nulls.

        Raises:
            DomainError: an option outside its domain. IndexError: no such group.
        """
        for option, holds, got, expected in (
            ("kind", kind in KINDS, kind, f"one of {KINDS}"),
            ("exchange", exchange in _EXCHANGED, exchange, f"one of {_EXCHANGED}"),
            ("permutations", permutations >= 1, permutations, "at least 1"),
            ("bins", bins is None or bins >= 2, bins, "at least 2"),
            ("seed", seed >= 0, seed, "at least 0"),
        ):
            if not holds:
                raise DomainError(f"Population.contrast: got {option}={got!r}, expected {expected}")
        first, second = self.groups[low], self.groups[high]
        members = np.concatenate([first, second])
        random = np.random.default_rng(seed)
        # row by row the places that a permutation puts into the low group
        drawn = np.argsort(random.random((permutations, len(members))), axis=1) < len(first)
        separated: list[Separation] = []
        divergences: list[PooledDivergence] = []
        for layer, quantity in ((layer, quantity) for layer, several in self.layers.items() for quantity in several):
            several = [self._networks[place][layer][quantity] for place in members]
            separated += separations(layer, quantity, [one.scalars for one in several], len(first), drawn)
            if (counts := _counts(several, bins)) is not None:
                null = drawn if exchange == "networks" else None
                found = _pooled(counts, len(first), null, permutations, random, kind)
                divergences.append(PooledDivergence(layer, quantity, found))
        return Contrast(
            _range(self.scores[first]), _range(self.scores[second]), (len(first), len(second)),
            tuple(separated), tuple(divergences),
        )  # fmt: skip


def _range(scores: Float64) -> tuple[float, float]:
    return float(scores.min()), float(scores.max())


def _network(given: Any) -> _Network:
    if not isinstance(given, Mapping):
        rows = getattr(given, "layers", None)
        if not isinstance(rows, Sequence) or not all(hasattr(row, "measures") for row in rows):
            raise DomainError(f"Population: got a {type(given).__name__}, expected a report or a mapping of layers")
        given = {row.name: row.measures["network"] for row in rows if row.measures.get("network") is not None}
        if not given:
            raise DomainError(
                "Population: got a report without the measure 'network', expected one of measure_weights with it"
            )
    return {str(name): _layer(str(name), layer) for name, layer in given.items()}


def _layer(name: str, given: Any) -> dict[str, _Values]:
    if isinstance(given, Mapping):
        if _WEIGHTS not in given:
            raise DomainError(f"Population: got layer {name!r} with {', '.join(map(str, given)) or 'nothing'}, expected"
                              f" {_WEIGHTS!r} too: they stand beside everything else")  # fmt: skip
        # the weights first
        return {key: _given(given[key]) for key in dict.fromkeys((_WEIGHTS, *map(str, given)))}
    density = density_of(given)
    if density is None or not hasattr(given, "incoming"):
        raise DomainError(
            f"Population: got layer {name!r} as a {type(given).__name__}, expected a result of layer_links or a mapping"
        )
    weights = {"std": float(given.variance) ** 0.5, "mean": float(given.mean)}
    found = {_WEIGHTS: _Values(weights, counts=density.astype(np.int64))}
    for side in ("incoming", "outgoing"):
        values = sample(getattr(given, side), "Population")
        scalars = {"std": float(values.std()), "mean": float(values.mean())}
        if (degree := getattr(given, f"{side}_degree", None)) is not None:
            scalars["degree"] = float(degree)
        found[side] = _Values(scalars, values)
    return found


def _given(quantity: Any) -> _Values:
    values = sample(quantity, "Population")
    if np.ndim(quantity) == 0:
        return _Values({"value": float(values[0])})
    return _Values({"std": float(values.std()), "mean": float(values.mean())}, values)


def _shared(networks: Sequence[_Network]) -> tuple[dict[str, tuple[str, ...]], tuple[tuple[str, str], ...]]:
    """Layers and quantities that all networks have, in the first one's order; and those that some lack."""

    def shape(values: _Values) -> tuple[Any, ...]:
        return tuple(values.scalars), values.values is None, None if values.counts is None else values.counts.shape

    def everywhere(layer: str, quantity: str) -> bool:
        several = [network.get(layer, {}).get(quantity) for network in networks]
        return len({None if values is None else shape(values) for values in several}) == 1 and None not in several

    every = dict.fromkeys((layer, key) for network in networks for layer, several in network.items() for key in several)
    shared = [key for key in every if everywhere(*key)]
    if not shared:
        raise DomainError(f"Population: got {len(networks)} networks without a layer that all have, expected one")
    layers: dict[str, tuple[str, ...]] = {}
    for layer, quantity in shared:
        layers[layer] = (*layers.get(layer, ()), quantity)
    return layers, tuple(key for key in every if key not in set(shared))


def _counts(several: Sequence[_Values], bins: int | None) -> NDArray[np.int64] | None:
    """(networks, bins): each network's values on a grid that all share; bins that hold none are left out."""
    if all(one.counts is not None for one in several):
        counts = np.stack([one.counts for one in several if one.counts is not None])
    elif all(one.values is not None for one in several):
        values = [one.values for one in several if one.values is not None]
        edges = quantile_edges(np.concatenate(values), bins)
        counts = np.stack([histogram(each, edges) for each in values])
    else:
        return None
    return counts[:, counts.any(axis=0)]


def _pooled(
    counts: NDArray[np.int64],
    size: int,
    drawn: NDArray[np.bool_] | None,
    permutations: int,
    random: np.random.Generator,
    kind: str,
) -> Divergence:
    low, high = counts[:size].sum(axis=0), counts[size:].sum(axis=0)
    if drawn is None:
        return judged(low, high, dealt(low, high, permutations, random), kind)
    chosen = drawn.astype(np.int64) @ counts
    return judged(low, high, (chosen, low + high - chosen), kind)
