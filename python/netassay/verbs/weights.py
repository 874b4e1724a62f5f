"""measure_weights: the weights of a checkpoint or a model are measured as they stand, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from netassay import network as _network
from netassay import persistence as _persistence
from netassay.base import threads as _threads
from netassay.base.arrays import View
from netassay.base.errors import DomainError, NonFinite, NothingObserved
from netassay.report import Coverage, Report, Row, Skipped, findings
from netassay.sources import patterns
from netassay.sources.checkpoint.checkpoint import Checkpoint, Stored, open_checkpoint
from netassay.verbs.deep import Deep
from netassay.verbs.provenance import provenance

#: Told before each weight is read, and once at the end: track(tensor, bytes done, bytes in all).
Track: TypeAlias = Callable[[str, int, int], None]

MEASURES = ("persistence", "network")


class NonFiniteWeights(NonFinite):
    """Weights hold a NaN or an infinity; `report` has every other one."""

    report: Report


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while weights were measured; `report` has those that were finished."""

    report: Report


def measure_weights(
    source: Any,
    *,
    measures: tuple[str, ...] = ("persistence",),
    layers: object = "*",
    threads: int | None = None,
    memory: float | None = None,
    nonfinite: str = "raise",
    chain: Iterable[str] | None = None,
    track: Track | None = None,
) -> Report:
    """Measures the weights of a checkpoint or a model, with one of them in memory at a time.

    "persistence": neural persistence (`netassay.persistence`) of every weight matrix over one scale, the largest |w| of
    all of them, selected or not. "network": how the weights are distributed, and what they come to at the layer's units
    (`netassay.network.LayerLinks`), of the selected ones alone, the others not being read. Either from one read of the
    source, and both as well.

    A convolution is one (out, in / groups * kh * kw) matrix, a transposed one is transposed first; each stacked matrix
    of a recurrent layer, and an attention's in_proj_weight, is one matrix. Biases and norms have no matrix, nor do
    biases count in strengths; they stand in `report.coverage.skipped`, as does everything else that was left out, each
    with its reason. The report does not depend on the number of threads. No torch is needed for safetensors.

    With "persistence", deep graph persistence of the layers of a chain, standardized and rescaled, whose weights alone
    are in memory at once: of those that `chain` names, else of an nn.Sequential of linear layers, convolutions of one
    group and elementwise modules. A file has no order of layers, and does not say which convolutions are grouped or
    transposed.

    Args:
        source: path of a .safetensors, .pt, .pth, .th or .bin file, of a directory or an index.json of shards; a
            state_dict; an nn.Module.
        measures: one or both of "persistence" and "network".
        layers: a glob (fnmatch; * crosses dots) on names of layers, or of tensors where it matches no layer, or a
            sequence of them. "!" excludes, the last match wins.
        threads: for reading and measuring; None: see `netassay.base.threads`.
        memory: bytes that may be taken; None: what is free.
        nonfinite: what a NaN or an infinity does: "raise" once the other weights are measured, or "skip".
        chain: names of layers in the order of the forward pass, whatever `layers` selects.
        track: told how far it is: track(tensor, bytes done, bytes in all).

    Returns:
        A Report with one row per layer in order of storage, `row.persistence` a NeuralPersistence, `row.network` a
        LayerLinks; `report.totals` has the network's {normalized: mean over the layers, total: sum, scale, layers: how
        many, flags} as "persistence"; as "deep_graph_persistence" a DeepGraphPersistence, or None with the reason in
        `report.coverage.notes`; and as "network" {layers, count, mean, std, minimum, maximum, zero_share, flags} of all
        weights measured.

    Raises:
        NonFinite: a weight holds a NaN or an infinity, its message naming tensor and index; its `report` has every
            other weight, over the scale of those. OSError, CorruptCheckpoint: the file cannot be read, or is none.
            LimitExceeded: more memory is needed than there is. NothingObserved: no weight matrix in it.
            SelectionError: a pattern that matches nothing, or a name of the chain that no weight has. ShapeError:
            layers that do not chain. DomainError: an option outside its domain. KeyboardInterrupt: Ctrl-C; its `report`
            has what was finished, with the flag "partial" in its totals where weights were left.
    """
    wanted = wanted_measures(measures, "measure_weights")
    _require(
        chain is None or "persistence" in wanted, "measures", wanted, "'persistence' among them where there is a chain"
    )
    _require(nonfinite in ("raise", "skip"), "nonfinite", nonfinite, "'raise' or 'skip'")
    _require(memory is None or memory >= 0, "memory", memory, "bytes, at least 0, or None")
    count = _threads.resolve(threads)
    with open_checkpoint(source, memory=memory, function="measure_weights") as checkpoint:
        chosen = selected(checkpoint, layers, "measure_weights")
        deep = Deep.of(source, checkpoint, chain, memory) if "persistence" in wanted else Deep.none()
        weights = _Pass(checkpoint, chosen, wanted, deep, count)
        try:
            weights.run(track or (lambda tensor, done, total: None))
        except KeyboardInterrupt as interrupt:
            interrupted = Interrupted()
            interrupted.report = weights.report()
            raise interrupted from interrupt
        report = weights.report()
    if weights.nonfinite and nonfinite == "raise":
        error = NonFiniteWeights(weights.told())
        error.report = report
        raise error
    return report


def wanted_measures(measures: str | Iterable[str], verb: str) -> tuple[str, ...]:
    """The measures that are asked for, each once, in the order of MEASURES. Raises DomainError."""
    asked = (measures,) if isinstance(measures, str) else tuple(measures)
    if not asked or not set(asked) <= set(MEASURES):
        raise DomainError(f"{verb}: got measures={asked!r}, expected one or more of {MEASURES}")
    return tuple(measure for measure in MEASURES if measure in asked)


def selected(checkpoint: Checkpoint, layers: object, verb: str) -> Sequence[int]:
    """Places in `checkpoint.weights` of those that patterns select.

    Raises NothingObserved (there are none), SelectionError.
    """
    weights = checkpoint.weights
    if not weights:
        reasons = ", ".join(dict.fromkeys(skip.reason for skip in checkpoint.skipped)) or "it holds no tensors"
        raise NothingObserved(f"{verb}: {checkpoint.source}: got no weight matrix ({reasons})")
    names = {place: (weight.layer, *weight.aliases) for place, weight in enumerate(weights)}
    tensors = {place: (weight.name,) for place, weight in enumerate(weights)}

    def matches(pattern: str, excludes: bool) -> list[int]:
        # not both at once: "*e*" would match every tensor that is called weight
        return patterns.named(pattern, names) or patterns.named(pattern, tensors)

    return patterns.choose(layers, names, of=checkpoint.source, kind="weight", matches=matches)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What one weight came to: its largest |w|, where persistence is measured, and what was asked of it."""

    maximum: float = 0.0
    tree: _persistence.SpanningTree | None = None
    links: _network.LayerLinks | None = None


class _Pass:
    """One pass over the weights of a checkpoint: what has been read so far, and the report of it at any time.

    Each weight is noted by one assignment once it is finished, so that an interruption leaves only whole ones.
    """

    def __init__(
        self, checkpoint: Checkpoint, chosen: Sequence[int], measures: tuple[str, ...], deep: Deep, threads: int
    ) -> None:
        self._checkpoint, self._chosen, self._deep, self._threads = checkpoint, frozenset(chosen), deep, threads
        self._measures = measures
        # the scale of persistence is the largest |w| of all weights
        self._read = range(len(checkpoint.weights)) if "persistence" in measures else sorted(chosen)
        self._measured: dict[int, _Measured] = {}
        self.nonfinite: dict[int, str] = {}

    def run(self, track: Track) -> None:
        """Reads and measures every weight."""
        several = [(place, self._checkpoint.weights[place]) for place in self._read]
        done, total = 0, sum(stored.nbytes for _, stored in several)
        for place, stored in several:
            track(stored.name, done, total)
            self._measure(place, stored)
            done += stored.nbytes
        self._deep.measure(self._threads)
        track("", total, total)

    def _measure(self, place: int, stored: Stored) -> None:
        kept = stored in self._deep.chain
        view = self._checkpoint.read(stored, threads=self._threads, keep=kept)
        try:
            self._measured[place] = self._values(place, stored, view)
            if kept:
                self._deep.views[stored] = _matrix(stored, view)
        except NonFinite:
            self.nonfinite[place] = _wrong(view)

    def _values(self, place: int, stored: Stored, view: View) -> _Measured:
        if place not in self._chosen:
            return _Measured(_persistence.largest(view, threads=self._threads))
        matrix = _matrix(stored, view)
        tree = links = None
        if "persistence" in self._measures:
            tree = _persistence.spanning_tree(matrix, threads=self._threads)
        if "network" in self._measures:
            links = _network.layer_links(matrix, groups=stored.groups, threads=self._threads)
        return _Measured(tree.maximum if tree else 0.0, tree, links)

    def told(self) -> str:
        """What is wrong with the first weight that is not finite, and how many others there are."""
        place, what = next(iter(self.nonfinite.items()))
        others = len(self.nonfinite) - 1
        more = f", and of {others} more weights" if others > 1 else ", and of one more weight" if others else ""
        name = self._checkpoint.weights[place].name
        return f"measure_weights: {self._checkpoint.source}: tensor {name!r}: {what}{more}; nonfinite='skip' allows it"

    def report(self) -> Report:
        """Of what has been read so far."""
        scale = max((found.maximum for found in self._measured.values()), default=0.0)
        rows = tuple(self._row(place, scale) for place in sorted(self._chosen & self._measured.keys()))
        left = len(self._read) - len(self._measured) - len(self.nonfinite)
        flags = (("nonfinite",) if self.nonfinite else ()) + (("partial",) if left else ())
        totals: dict[str, Any] = {}
        if "persistence" in self._measures:
            totals["persistence"] = _totals([row.measures["persistence"] for row in rows], scale, flags)
            totals["deep_graph_persistence"] = self._deep.result
        if "network" in self._measures:
            totals["network"] = _link_totals([row.measures["network"] for row in rows], flags)
        return Report(
            layers=rows,
            coverage=self._coverage(left),
            totals=totals,
            findings=findings(rows),
            provenance=self._provenance(),
        )

    def _row(self, place: int, scale: float) -> Row:
        stored, found = self._checkpoint.weights[place], self._measured[place]
        measures: dict[str, Any] = {}
        if found.tree is not None:
            measures["persistence"] = found.tree.persistence(scale=scale)
        if found.links is not None:
            measures["network"] = found.links
        return Row(stored.layer, None, None, stored.kind, stored.shape, stored.parameters, None, measures)

    def _coverage(self, left: int) -> Coverage:
        weights = self._checkpoint.weights
        skipped = [Skipped(skip.name, skip.reason, skip.parameters) for skip in self._checkpoint.skipped]
        reached = self._chosen & self._measured.keys()
        for place, stored in enumerate(weights):
            if place not in reached:
                skipped.append(Skipped(stored.layer, self._reason(place), stored.parameters))
        measured = [weights[place] for place in sorted(reached)]
        return Coverage(
            measured=len({stored.layer for stored in measured}),
            skipped=tuple(skipped),
            parameters_measured=sum(stored.parameters for stored in measured),
            parameters_total=self._checkpoint.parameters,
            aliases={stored.layer: stored.aliases for stored in weights if stored.aliases},
            notes=tuple(self._notes(left, any(len(stored.shape) > 2 for stored in measured))),
        )

    def _notes(self, left: int, kernels: bool) -> Iterator[str]:
        scaled = "persistence" in self._measures
        yield from self._checkpoint.notes
        if scaled:
            yield self._deep.note
        if "network" in self._measures:
            yield "network: strengths are sums of weights alone, a bias is not counted" + (
                "; those of convolutions are of channels, over the taps of a kernel: no input size is known here"
                if kernels
                else ""
            )
        if left:
            read = len(self._read) - left
            what = f"interrupted: {read:,} of {len(self._read):,} weights were read"
            yield f"{what}, and the scale is the largest |w| of those" if scaled else what
        elif self.nonfinite and scaled:
            yield "the scale is the largest |w| of the weights that are finite"

    def _reason(self, place: int) -> str:
        if place in self.nonfinite:
            return self.nonfinite[place]
        return "not selected" if place not in self._chosen else "not reached"

    def _provenance(self) -> dict[str, Any]:
        return provenance(
            source=self._checkpoint.source,
            threads=self._threads,
            wrappers=self._checkpoint.wrappers,
            fingerprint=self._checkpoint.fingerprint,
        )


def _totals(results: Sequence[_persistence.NeuralPersistence], scale: float, flags: tuple[str, ...]) -> dict[str, Any]:
    network = _persistence.summarize(results) if results else None
    return {
        "normalized": network.normalized if network else None,
        "total": network.total if network else None,
        "scale": scale,
        "layers": len(results),
        "flags": (*(network.flags if network else ()), *flags),
    }


def _link_totals(layers: Sequence[_network.LayerLinks], flags: tuple[str, ...]) -> dict[str, Any]:
    whole = asdict(_network.pool_links(layers)) if layers else {"layers": 0, "count": 0}
    return {**whole, "flags": flags}


def _matrix(stored: Stored, view: View) -> View:
    """The weight as (out, in / groups, *kernel).

    A transposed convolution keeps (in, out / groups, *kernel), the inputs of each group together.
    """
    if not stored.transposed:
        return view
    inputs, outputs, *kernel = view.array.shape
    groups = stored.groups
    grouped = view.array.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    return View(grouped.reshape(groups * outputs, inputs // groups, *kernel), view.dtype)


def _wrong(view: View) -> str:
    """What is not finite, by its index in the weight as it is stored."""
    try:
        _persistence.largest(view)
    except NonFinite as error:
        return str(error).removeprefix("largest: ")
    raise AssertionError("finite after all")


def _require(holds: bool, option: str, got: object, expected: str) -> None:
    if not holds:
        raise DomainError(f"measure_weights: got {option}={got!r}, expected {expected}")
