"""measure_structure and path_norm: what a model's architecture says, from one run followed without computing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from netassay import algebra
from netassay.base.errors import NothingObserved
from netassay.report import Coverage, Report, Row, Skipped, findings
from netassay.sources import layers as _layers
from netassay.sources.passes.counts import count_paths
from netassay.sources.passes.norm.norm import path_norm as _path_norm
from netassay.sources.traced.graph import Traced, trace
from netassay.verbs.provenance import provenance

if TYPE_CHECKING:
    from torch import nn


def measure_structure(
    model: nn.Module, example_input: Any, *, strict: bool = False, batch_axis: int = 0, exact: bool = True
) -> Report:
    """Measures what the structure of a model alone says: path complexity, intrinsic power, bounds, cost.

    One run of two samples is followed in evaluation mode, by torch.export without computing anything: a model on the
    meta device does, of any size. Where a branch depends on values, a recorded run takes those of the example, and
    the report says so. Nothing of the model changes.

    The definitions are those of `netassay.algebra.Algebra`, this project's own in the spirit of layer algebra;
    established bounds name their source.

    Args:
        model: an nn.Module.
        example_input: a tensor, a sequence of positional arguments, or a mapping of arguments by name.
        strict: an operation that is not in the table, and a run that depends on values, are errors.
        batch_axis: of the tensors of the example.
        exact: whether unit paths are also counted by a pass with every weight 1 (a forward pass or two in time).

    Returns:
        A Report with one row per call of an operation that does more than move units, `row.algebra` an Algebra;
        `report.totals` has the fields of `netassay.algebra.NetworkAlgebra` but for its calls; its flags are
        `totals["flags"]["algebra"]`, beside those of single numbers: MACs are a "lower_bound" where an operation is
        not known. Where log2_paths_exact is None, a note of the coverage says why.

    Raises:
        TypeError: no module, or no tensor in the example. ShapeError: no batch axis. UnsupportedLayout: the model
        cannot be followed; strict. NothingObserved: no operation in it.
    """
    traced = trace(model, example_input, function="measure_structure", batch_axis=batch_axis, strict=strict)
    reasons: dict[int, str] = {}
    counts = count_paths(traced, reasons=reasons) if exact else {}
    network = algebra.measure(traced.graph, strict=strict, exact=counts)
    rows = tuple(_rows(traced.graph, network))
    if not rows:
        raise NothingObserved(f"measure_structure: {traced.graph.model} runs no operation that could be measured")
    totals = {f.name: getattr(network, f.name) for f in fields(network) if f.name not in ("calls", "flags")}
    if flags := _flags(network):
        totals["flags"] = flags
    notes = (*_notes(traced.graph, network), *(_uncounted(traced.graph, network, reasons) if exact else ()))
    return Report(
        layers=rows,
        coverage=_coverage(traced, network, rows, notes),
        totals=totals,
        findings=findings(rows, totals),
        provenance=provenance(
            source=f"{traced.graph.tracer} {traced.graph.model}",
            threads=1,
            wrappers=traced.unwrapped,
            fingerprint=_layers.fingerprint(_layers.unwrap(model)[0]),
        ),
    )


def path_norm(model: nn.Module, example_input: Any, q: float = 1, *, batch_axis: int = 0) -> float:
    """The path norm of a network: (sum over all paths of prod |w|^q)^(1/q), summed over the outputs.

    Paths run from every input, and from a constant input into every bias, to every output; BatchNorm is folded into
    the layer before it, a maximum over units counts as their sum, an average's weights are 1/k. Invariant under
    rescaling of a unit, invisible to the function: incoming weights times s, outgoing ones by s.

    Args:
        model: an nn.Module of linear layers, convolutions, BatchNorm, ReLU and its like, pools, sums, concatenations.
        example_input: as for `measure_structure`; its values do not matter, its size does.
        q: above 0; 1 and 2 are usual.
        batch_axis: of the tensors of the example.

    Raises:
        UnsupportedLayout: products, attention, functions that are not positively homogeneous, naming the layer.
        NonFinite: a weight that is not finite. DomainError: q.

    Source: Neyshabur, Tomioka, Srebro 2015 (arXiv 1503.00036); for graphs, Gonon et al. 2023 (arXiv 2310.01225).
    """
    traced = trace(model, example_input, function="path_norm", batch_axis=batch_axis, strict=True)
    return _path_norm(traced, q, "path_norm")


def _rows(graph: algebra.LayerGraph, network: algebra.NetworkAlgebra) -> Iterator[Row]:
    for call, measured in zip(graph, network.calls, strict=True):
        if measured is not None:
            weight = call.weight
            shape = None if weight is None else weight.shape
            measures = {"algebra": measured}
            yield Row(call.name, call.call, None, call.kind, shape, measured.parameters, None, measures)


def _flags(network: algebra.NetworkAlgebra) -> dict[str, tuple[str, ...]]:
    """By name: flags of all calls, and of numbers that lack what unknown operations would add."""
    flags = {"algebra": network.flags, "macs": ("lower_bound",) if network.unknown else ()}
    return {name: several for name, several in flags.items() if several}


def _coverage(traced: Traced, network: algebra.NetworkAlgebra, rows: Iterable[Row], notes: tuple[str, ...]) -> Coverage:
    graph = traced.graph
    read = {tensor.name for call in graph for tensor in call.tensors if tensor.parameter}
    unread: dict[str, int] = {}
    for name, count in graph.parameters.items():
        if name not in read:
            layer = name.rpartition(".")[0] or _layers.ROOT
            unread[layer] = unread.get(layer, 0) + count
    return Coverage(
        measured=len({row.name for row in rows}),
        skipped=tuple(Skipped(name, "its parameters are not read by the run", count) for name, count in unread.items()),
        parameters_measured=sum(count for name, count in graph.parameters.items() if name in read),
        parameters_total=network.parameters,
        aliases=graph.aliases,
        notes=notes,
    )


def _notes(graph: algebra.LayerGraph, network: algebra.NetworkAlgebra) -> Iterator[str]:
    yield from graph.notes
    if graph.input_specific:
        yield "recorded on this input: where a branch depends on values, the one it took is measured"
    if network.unknown:
        several = ", ".join(f"{op} ({count})" for op, count in network.unknown_operations.items())
        yield f"not in the table, taken as elementwise: {several}; netassay.algebra.register teaches an operation"


def _uncounted(graph: algebra.LayerGraph, network: algebra.NetworkAlgebra, reasons: Mapping[int, str]) -> Iterator[str]:
    """Why there is no exact path count of the output."""
    if network.log2_paths_exact is None:
        why = next((reasons[place] for place in graph.outputs if place in reasons), "no path reaches the output")
        yield f"log2_paths_exact: the paths to the output are not counted: {why}"
