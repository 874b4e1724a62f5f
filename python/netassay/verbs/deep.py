"""Deep graph persistence within the one pass of measure_weights: the weights of a chain stay in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netassay import persistence as _persistence
from netassay.base import memory as _memory
from netassay.base.arrays import View
from netassay.base.errors import LimitExceeded
from netassay.base.text import listed
from netassay.sources import chain as _chain
from netassay.sources.checkpoint.checkpoint import Checkpoint, Stored

_NAME = "deep graph persistence"


class Deep:
    """What becomes of a chain.

    Attributes:
        chain: its weights, in the order of the forward pass; none where there is no chain.
        views: those that were read, as (out, in, *kernel), and are finite.
        result: None until `measure`, and where there is none.
        note: of what chain the result is, or why there is none.
    """

    def __init__(self, chain: tuple[Stored, ...], note: str) -> None:
        self.chain, self.note = chain, note
        self.views: dict[Stored, View] = {}
        self.result: _persistence.DeepGraphPersistence | None = None

    @classmethod
    def of(cls, source: Any, checkpoint: Checkpoint, names: Iterable[str] | None, memory: float | None) -> Deep:
        """The chain that is named, else the one that the source is. Nothing is read.

        Raises, where it is named: DomainError, SelectionError, ShapeError; LimitExceeded.
        """
        limit = _memory.available() if memory is None else memory
        if names is not None:
            chain = _chain.named(checkpoint, names, "measure_weights")
            checkpoint.afford(limit, chain)
            return cls(chain, f"{_NAME}: not reached")
        chain, why = _chain.inside(checkpoint, source)
        if why:
            return cls((), f"{_NAME}: {why}; name the chain with chain= or --chain")
        try:
            checkpoint.afford(limit, chain)
        except LimitExceeded as error:
            return cls((), f"{_NAME}: {str(error).removeprefix('measure_weights: ')}")
        return cls(chain, f"{_NAME}: not reached")

    @classmethod
    def none(cls) -> Deep:
        """Where no persistence is measured."""
        return cls((), "")

    def measure(self, threads: int) -> None:
        """Once every weight has been read."""
        if not self.chain:
            return
        if lost := [stored.layer for stored in self.chain if stored not in self.views]:
            self.note = f"{_NAME}: {listed(dict.fromkeys(lost))} of the chain is not finite"
            return
        weights = [self.views[stored] for stored in self.chain]
        self.result = _persistence.deep_graph_persistence(weights, threads=threads)
        self.note = f"{_NAME}: of the chain {listed((stored.layer for stored in self.chain), most=8)}"
        self.views.clear()
