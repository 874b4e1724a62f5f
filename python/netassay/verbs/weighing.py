"""What each measure of weights makes of them: one small class per measure, the same interface for all.

A pass over a checkpoint shows each weight to the weighings and keeps the values that they make of it; a report of the
pass asks the weighings for rows, totals and notes. `netassay.sources.live.probes` is the twin for activations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

from netassay import network as _network
from netassay import persistence as _persistence
from netassay.base.arrays import View
from netassay.base.errors import DomainError
from netassay.base.text import listed
from netassay.sources.checkpoint.checkpoint import Checkpoint, Stored
from netassay.verbs.deep import Deep


class Weighing(ABC):
    """The way in which one measure weighs the weights of one source.

    Of a selected weight it sees the matrix, of another one the view as it is stored, and that only if it reads the
    whole source. A value that it makes of a weight is complete by itself; what several weights have in common is the
    scale, which is known once they are read.
    """

    #: Its name in a row, and among the measures that a caller names.
    measure: ClassVar[str]
    #: Whether it reads the whole source or the selected weights only.
    whole_source: ClassVar[bool] = False
    #: What the scale is, as a note begins; "" for a measure without a scale.
    scale_is: ClassVar[str] = ""

    def prepare(self, source: Any, checkpoint: Checkpoint, chain: Iterable[str] | None, memory: float | None) -> None:
        """Looks at the source before any weight is read; the arguments are those of `measure_weights`."""
        return

    def keeps(self, stored: Stored) -> bool:
        """Whether the matrix of a weight stays in memory until `finish`."""
        return False

    @abstractmethod
    def weigh(self, matrix: View, *, groups: int, threads: int) -> Any:
        """Makes a value of a selected weight, (out, in / groups, *kernel). Also what `plan` times on made-up matrices.

        Raises NonFinite.
        """

    def glance(self, view: View, *, threads: int) -> Any:
        """Makes a value of a weight that is read and not selected. Raises NonFinite."""
        return None

    def keep(self, stored: Stored, matrix: View) -> None:
        """Takes the matrix of a weight that `keeps` asked for, and that every weighing has found finite."""
        raise NotImplementedError

    def finish(self, threads: int) -> None:
        """Measures what needs several weights at once, after the last weight was read."""
        return

    def scale(self, values: Iterable[Any]) -> float:
        """Returns the scale of the values made so far, those of weights that are not selected among them."""
        return 0.0

    @abstractmethod
    def result(self, value: Any, scale: float) -> Any:
        """Returns what the row of a selected weight holds."""

    def beside(self, value: Any) -> Any:
        """Returns what the row of a weight holds that is no layer's: over a scale of its own, flagged."""
        result = self.result(value, self.scale([value]))
        return replace(result, flags=(*result.flags, "not_a_layer"))

    @abstractmethod
    def totals(self, results: Sequence[Any], scale: float, flags: tuple[str, ...]) -> dict[str, Any]:
        """Returns what the report's totals hold, by name.

        Args:
            results: those of the rows, in order. flags: of the pass: "nonfinite", "partial".
        """

    def notes(self, measured: Sequence[Stored]) -> Iterator[str]:
        """Yields what a reader of the coverage should know of this measure.

        Args:
            measured: the weights that have a row.
        """
        return iter(())


class PersistenceWeighing(Weighing):
    """Neural persistence of each weight over one scale, and deep graph persistence of a chain of them.

    A value is the spanning tree of a selected weight, the largest |w| of another one.
    """

    measure = "persistence"
    whole_source = True
    scale_is = "the scale is the largest |w|"

    def __init__(self) -> None:
        self._deep = Deep.none()

    def prepare(self, source: Any, checkpoint: Checkpoint, chain: Iterable[str] | None, memory: float | None) -> None:
        self._deep = Deep.of(source, checkpoint, chain, memory)

    def keeps(self, stored: Stored) -> bool:
        return stored in self._deep.chain

    def weigh(self, matrix: View, *, groups: int, threads: int) -> _persistence.SpanningTree:
        return _persistence.spanning_tree(matrix, threads=threads)

    def glance(self, view: View, *, threads: int) -> float:
        return _persistence.largest(view, threads=threads)

    def keep(self, stored: Stored, matrix: View) -> None:
        self._deep.views[stored] = matrix

    def finish(self, threads: int) -> None:
        self._deep.measure(threads)

    def scale(self, values: Iterable[_persistence.SpanningTree | float]) -> float:
        return max((value if isinstance(value, float) else value.maximum for value in values), default=0.0)

    def result(self, value: _persistence.SpanningTree, scale: float) -> _persistence.NeuralPersistence:
        return value.persistence(scale=scale)

    def totals(
        self, results: Sequence[_persistence.NeuralPersistence], scale: float, flags: tuple[str, ...]
    ) -> dict[str, Any]:
        network = _persistence.summarize(results) if results else None
        neural = {
            "normalized": network.normalized if network else None,
            "total": network.total if network else None,
            "scale": scale,
            "layers": len(results),
            "flags": (*(network.flags if network else ()), *flags),
        }
        return {"persistence": neural, "deep_graph_persistence": self._deep.result}

    def notes(self, measured: Sequence[Stored]) -> Iterator[str]:
        yield self._deep.note


class NetworkWeighing(Weighing):
    """How the values of each weight are distributed, and what they sum to at the units of its layer."""

    measure = "network"

    def weigh(self, matrix: View, *, groups: int, threads: int) -> _network.LayerLinks:
        return _network.layer_links(matrix, groups=groups, threads=threads)

    def result(self, value: _network.LayerLinks, scale: float) -> _network.LayerLinks:
        return value

    def totals(self, results: Sequence[_network.LayerLinks], scale: float, flags: tuple[str, ...]) -> dict[str, Any]:
        whole = asdict(_network.pool_links(results)) if results else {"layers": 0, "count": 0}
        return {"network": {**whole, "flags": flags}}

    def notes(self, measured: Sequence[Stored]) -> Iterator[str]:
        kernels = any(len(stored.shape) > 2 for stored in measured)
        yield "network: strengths are sums of weights alone, a bias is not counted" + (
            "; those of convolutions are of channels, over the taps of a kernel: no input size is known here"
            if kernels
            else ""
        )
        if guessed := [stored.layer for stored in measured if stored.guessed and stored.inputs_first]:
            yield f"network: taken for stored (in, out) by their names: {listed(guessed)}"


#: The one list of measures of weights, in the order of rows and totals.
WEIGHINGS: tuple[type[Weighing], ...] = (PersistenceWeighing, NetworkWeighing)
MEASURES = tuple(weighing.measure for weighing in WEIGHINGS)


def weighings(measures: str | Iterable[str], verb: str) -> tuple[Weighing, ...]:
    """Makes the weighings of the measures that are asked for, each once, in the order of WEIGHINGS.

    Raises DomainError.
    """
    asked = (measures,) if isinstance(measures, str) else tuple(measures)
    if not asked or not set(asked) <= set(MEASURES):
        raise DomainError(f"{verb}: got measures={asked!r}, expected one or more of {MEASURES}")
    return tuple(weighing() for weighing in WEIGHINGS if weighing.measure in asked)


def places_read(several: Iterable[Weighing], checkpoint: Checkpoint, chosen: Sequence[int]) -> Sequence[int]:
    """Returns the places in `checkpoint.weights` of the weights to read, in order: all layers if one needs them."""
    whole = any(weighing.whole_source for weighing in several)
    layers = (place for place, stored in enumerate(checkpoint.weights) if whole and not stored.aside)
    return sorted({*chosen, *layers})
