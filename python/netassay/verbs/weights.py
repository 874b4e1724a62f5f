"""measure_weights: the weights of a checkpoint or a model are measured as they stand, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

from netassay import persistence as _persistence
from netassay.base import threads as _threads
from netassay.base.arrays import View
from netassay.base.checks import require
from netassay.base.errors import NonFinite, NothingObserved
from netassay.base.text import listed
from netassay.report import Coverage, Report, Row, Skipped, findings
from netassay.sources import patterns
from netassay.sources.checkpoint.checkpoint import Checkpoint, Stored, open_checkpoint
from netassay.verbs.provenance import provenance
from netassay.verbs.weighing import Weighing, places_read, weighings

#: Told before each weight is read, and once at the end: track(tensor, bytes done, bytes in all).
Track: TypeAlias = Callable[[str, int, int], None]

_require = partial(require, "measure_weights")


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

    A convolution is one (out, in / groups * kh * kw) matrix, a transposed one is transposed first, and so are an
    embedding (its D units receive from V words) and transformers' Conv1D; each stacked matrix of a recurrent layer, and
    an attention's in_proj_weight, is one matrix. Biases and norms have no matrix, nor do biases count in strengths;
    they stand in `report.coverage.skipped`, as does everything else that was left out, each with its reason. Tokens,
    position embeddings and tables of relative positions have a row, over a scale of its own and with the flag
    "not_a_layer", and are in none of the totals. The report does not depend on the number of threads. No torch is
    needed for files.

    With "persistence", deep graph persistence of the layers of a chain, standardized and rescaled, whose weights alone
    are in memory at once: of those that `chain` names, else of an nn.Sequential of linear layers, convolutions of one
    group and elementwise modules. A file has no order of layers, and does not say which convolutions are grouped; the
    length of its bias says whether a weight is stored (in, out, ...).

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
    return read_weights(
        source,
        measures=measures,
        layers=layers,
        threads=threads,
        memory=memory,
        nonfinite=nonfinite,
        chain=chain,
        track=track,
    ).report()


def read_weights(
    source: Any,
    *,
    measures: tuple[str, ...],
    layers: object = "*",
    threads: int | None = None,
    memory: float | None = None,
    nonfinite: str = "raise",
    chain: Iterable[str] | None = None,
    track: Track | None = None,
) -> Pass:
    """Reads what `measure_weights` measures, once; `report` of what it returns is its report. Raises as it does."""
    wanted = weighings(measures, "measure_weights")
    names = tuple(weighing.measure for weighing in wanted)
    _require(
        chain is None or "persistence" in names, "measures", names, "'persistence' among them where there is a chain"
    )
    _require(nonfinite in ("raise", "skip"), "nonfinite", nonfinite, "'raise' or 'skip'")
    _require(memory is None or memory >= 0, "memory", memory, "bytes, at least 0, or None")
    count = _threads.resolve(threads)
    with open_checkpoint(source, memory=memory, function="measure_weights") as checkpoint:
        chosen = selected(checkpoint, layers, "measure_weights")
        for weighing in wanted:
            weighing.prepare(source, checkpoint, chain, memory)
        weights = Pass(checkpoint, chosen, wanted, count)
        try:
            weights.run(track or (lambda tensor, done, total: None))
        except KeyboardInterrupt as interrupt:
            interrupted = Interrupted()
            interrupted.report = weights.report()
            raise interrupted from interrupt
    if weights.nonfinite and nonfinite == "raise":
        error = NonFiniteWeights(weights.told())
        error.report = weights.report()
        raise error
    return weights


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


class Pass:
    """One pass over the weights of a checkpoint: what has been read so far, and the report of it at any time.

    Each weight is noted by one assignment once it is finished, so that an interruption leaves only whole ones.
    """

    def __init__(
        self, checkpoint: Checkpoint, chosen: Sequence[int], weighings: Sequence[Weighing], threads: int
    ) -> None:
        self._checkpoint, self._chosen, self._threads = checkpoint, frozenset(chosen), threads
        self._weighings = weighings
        self._read = places_read(weighings, checkpoint, chosen)
        self._values: dict[int, dict[str, Any]] = {}  # by place and measure
        self.nonfinite: dict[int, str] = {}

    def run(self, track: Track) -> None:
        """Reads and measures every weight."""
        several = [(place, self._checkpoint.weights[place]) for place in self._read]
        done, total = 0, sum(stored.nbytes for _, stored in several)
        for place, stored in several:
            track(stored.name, done, total)
            self._measure(place, stored)
            done += stored.nbytes
        for weighing in self._weighings:
            weighing.finish(self._threads)
        track("", total, total)

    def _measure(self, place: int, stored: Stored) -> None:
        keepers = [weighing for weighing in self._weighings if weighing.keeps(stored)]
        view = self._checkpoint.read(stored, threads=self._threads, keep=bool(keepers))
        try:
            self._values[place] = self._weighed(place, stored, view)
            for weighing in keepers:
                weighing.keep(stored, _matrix(stored, view))
        except NonFinite:
            self.nonfinite[place] = _wrong(view)

    def _weighed(self, place: int, stored: Stored, view: View) -> dict[str, Any]:
        if place not in self._chosen:
            return {weighing.measure: weighing.glance(view, threads=self._threads) for weighing in self._weighings}
        matrix = _matrix(stored, view)
        return {
            weighing.measure: weighing.weigh(matrix, groups=stored.groups, threads=self._threads)
            for weighing in self._weighings
        }

    def told(self) -> str:
        """What is wrong with the first weight that is not finite, and how many others there are."""
        place, what = next(iter(self.nonfinite.items()))
        others = len(self.nonfinite) - 1
        more = f", and of {others} more weights" if others > 1 else ", and of one more weight" if others else ""
        name = self._checkpoint.weights[place].name
        return f"measure_weights: {self._checkpoint.source}: tensor {name!r}: {what}{more}; nonfinite='skip' allows it"

    @property
    def scale(self) -> float:
        """The scale of the measure that has one, of the layers read so far."""
        return max((self._scale(weighing) for weighing in self._weighings if weighing.scale_is), default=0.0)

    def _scale(self, weighing: Weighing) -> float:
        name = weighing.measure
        return weighing.scale(values[name] for place, values in self._values.items() if not self._aside(place))

    def report(self, at_least: float = 0.0) -> Report:
        """Makes the report of what has been read so far.

        Args:
            at_least: the scale of another network that this one is compared with.
        """
        places = sorted(self._chosen & self._values.keys())
        left = len(self._read) - len(self._values) - len(self.nonfinite)
        flags = (("nonfinite",) if self.nonfinite else ()) + (("partial",) if left else ())
        measures: dict[int, dict[str, Any]] = {place: {} for place in places}
        totals: dict[str, Any] = {}
        layers = [place for place in places if not self._aside(place)]
        for weighing in self._weighings:
            name = weighing.measure
            scale = max(self._scale(weighing), at_least)
            for place in layers:
                measures[place][name] = weighing.result(self._values[place][name], scale)
            totals |= weighing.totals([measures[place][name] for place in layers], scale, flags)
            for place in set(places).difference(layers):
                measures[place][name] = weighing.beside(self._values[place][name])
        rows = tuple(self._row(place, measures[place]) for place in places)
        return Report(
            layers=rows,
            coverage=self._coverage(places, left),
            totals=totals,
            findings=findings(rows),
            provenance=self._provenance(),
        )

    def _aside(self, place: int) -> bool:
        return self._checkpoint.weights[place].aside

    def _row(self, place: int, measures: dict[str, Any]) -> Row:
        stored = self._checkpoint.weights[place]
        return Row(stored.layer, None, None, stored.kind, stored.shape, stored.parameters, None, measures)

    def _coverage(self, reached: Sequence[int], left: int) -> Coverage:
        weights = self._checkpoint.weights
        skipped = [Skipped(skip.name, skip.reason, skip.parameters) for skip in self._checkpoint.skipped]
        have_rows = set(reached)
        for place, stored in enumerate(weights):
            if place not in have_rows:
                skipped.append(Skipped(stored.layer, self._reason(place), stored.parameters))
        measured = [weights[place] for place in reached]
        return Coverage(
            measured=len({stored.layer for stored in measured}),
            skipped=tuple(skipped),
            parameters_measured=sum(stored.parameters for stored in measured),
            parameters_total=self._checkpoint.parameters,
            aliases={stored.layer: stored.aliases for stored in weights if stored.aliases},
            notes=tuple(self._notes(measured, left)),
        )

    def _notes(self, measured: Sequence[Stored], left: int) -> Iterator[str]:
        yield from self._checkpoint.notes
        if aside := [stored.layer for stored in measured if stored.aside]:
            yield (
                f"no layers, so neither in the network's means nor in its scale: {listed(aside)} (tokens, position"
                " embeddings, tables and such)"
            )
        for weighing in self._weighings:
            yield from weighing.notes(measured)
        scales = [weighing.scale_is for weighing in self._weighings if weighing.scale_is]
        if left:
            read = len(self._read) - left
            what = f"interrupted: {read:,} of {len(self._read):,} weights were read"
            yield ", and ".join([what, *(f"{scale} of those" for scale in scales)])
        elif self.nonfinite:
            yield from (f"{scale} of the weights that are finite" for scale in scales)

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


def _matrix(stored: Stored, view: View) -> View:
    """The weight as (out, in / groups, *kernel).

    A transposed convolution keeps (in, out / groups, *kernel), the inputs of each group together.
    """
    if not stored.inputs_first:
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
