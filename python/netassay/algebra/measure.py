"""Path complexity, intrinsic power, region bits and the rest, of every call of a layer graph and of the whole."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from netassay import _core
from netassay.algebra.chains import serra_of, vc_bound_of
from netassay.algebra.graph import INPUT, Call, LayerGraph
from netassay.algebra.paths import Paths, paths_of
from netassay.algebra.receptive import ReceptiveField, fields_of
from netassay.algebra.semantics import Leaf
from netassay.base.errors import UnsupportedLayout


@dataclass(frozen=True, slots=True, eq=False)
class Algebra:
    """What the structure alone says of one call.

    Definitions are this project's, in the spirit of Badias and Banerjee, "Neural Network Layer Algebra"
    (arXiv 2107.01081), of which the abstract was the source; no number claims to be that paper's.

    Attributes:
        log2_paths: path complexity: log2 of the unit paths from the input to an output unit, mean over the units, by
            local transfer functions, which leave borders out; None where no path arrives.
        log2_paths_exact: the same by one pass through the network with every weight 1; None where it was not made.
        path_share: d log2 (paths of the network) / d log2 (fan-in of this call): 1 for a call that every path runs
            through once, above 1 before a product; None where no path arrives.
        region_bits: log2 of the linear pieces that this call can at most cut its input into; 0 for an affine call, None
            for one that is not piecewise linear.
        cut: least number of units that separate the call's output from the input: no more can be told apart behind it.
        intrinsic_power: log2(n_0 / cut), bits: how much the network has compressed by here; negative never.
        local_power: log2(units that enter / units that leave), of this call alone.
        bottleneck: units of the narrowest call on the widest path from the input to here.
        receptive_field: positions of the input that one position depends on, per spatial axis, larger than the input
            where it may be; None without spatial axes, or where it depends on all (flag covers_input).
        stride: positions of the input between two neighbours, per spatial axis.
        macs: multiply-accumulates per sample of convolutions, linear layers and matrix products; of nothing else, not
            of products of weights alone, which do not grow with the batch.
        parameters: a count of the scalars that this call reads.
        flags: "approximate", "gated" (a gated cell counted as a plain recurrence), "steps_unknown",
            "batch_statistics" (a norm that uses the batch's), "unknown" (an operation that is not in the table),
            "not_piecewise_linear", "covers_input" (the receptive field is at least the input), "stride_mismatch"
            (branches of different strides have joined), "no_input_path".
    """

    log2_paths: float | None
    log2_paths_exact: float | None
    path_share: float | None
    region_bits: float | None = field(metadata={"minimum": 0})
    cut: int | None
    intrinsic_power: float | None
    local_power: float | None
    bottleneck: int | None
    receptive_field: tuple[int, ...] | None
    stride: tuple[float, ...] | None
    macs: int
    parameters: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class NetworkAlgebra:
    """What the structure alone says of a network.

    Attributes:
        calls: of each call, by its place in the graph; None for a view, a constant and an input.
        parameters: a count of scalars, each storage once.
        macs: multiply-accumulates per sample.
        log2_paths, log2_paths_exact: of the output, as of a call; mean over the units of all outputs.
        layer_paths: paths from the input to the output, calls counted as points; exact.
        path_lengths: at index k, how many of them run through k weighted layers.
        region_bits: sum over the calls: log2 of a bound on the linear regions of the whole network, for this project's
            reading of Montufar's (see docs/algebra.md); None where a call is not piecewise linear.
        intrinsic_power: of the output, log2(input_units / output_cut).
        input_units: n_0, elements per sample at which paths begin. output_units: elements that leave, of all outputs.
        output_cut: least number of units that separate the output from the input.
        vc_bound: upper bound of the VC dimension of one output unit; None where the theorem does not apply.
        serra_regions: upper bound of the linear regions of a plain chain of linear layers and ReLU; None for others.
        unknown: calls on paths whose operations are not in the table, taken as elementwise.
        unknown_operations: which, and how often.
        flags: of all calls.
    """

    calls: tuple[Algebra | None, ...]
    parameters: int
    macs: int
    log2_paths: float | None
    log2_paths_exact: float | None
    layer_paths: int
    path_lengths: tuple[int, ...]
    region_bits: float | None = field(metadata={"minimum": 0})
    intrinsic_power: float | None
    input_units: int
    output_units: int
    output_cut: int | None
    vc_bound: float | None = field(metadata={"minimum": 0})
    serra_regions: int | None
    unknown: int
    unknown_operations: Mapping[str, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def measure(graph: LayerGraph, *, strict: bool = False, exact: Mapping[int, float] | None = None) -> NetworkAlgebra:
    """Measures a layer graph.

    t(v) = g(v) * join of t(u) over the calls u that feed v, in one semiring after the other (`aggregate`), with g from
    the table of operations (`register`).

    Args:
        strict: an unknown operation is an error.
        exact: log2 of the mean path count by place of the call, where it was counted (measure_structure does).

    Raises:
        UnsupportedLayout: strict, and an operation that is not in the table.

    Source: see Algebra.
    """
    paths = paths_of(graph)
    unknown = _unknown(paths, strict)
    each = _Each(paths, exact or {})
    return _totals(paths, each, tuple(each.call(place) for place in range(len(graph))), unknown)


def _unknown(paths: Paths, strict: bool) -> Counter[str]:
    """How often each operation that is not in the table is on a path. Raises UnsupportedLayout: strict, and one is."""
    calls = paths.graph.calls
    places = [place for place, leaf in enumerate(paths.leaves) if leaf.form == "unknown" and paths.reached[place]]
    if places and strict:
        first = calls[places[0]]
        raise UnsupportedLayout(
            f"algebra.measure: got the operation {first.op!r} in {first.name!r}, expected one of the table;"
            " netassay.algebra.register says what it does"
        )
    return Counter(calls[place].op for place in places)


def _totals(paths: Paths, each: _Each, calls: tuple[Algebra | None, ...], unknown: Counter[str]) -> NetworkAlgebra:
    graph = paths.graph
    measured = [algebra for algebra in calls if algebra is not None]
    regions = [algebra.region_bits for algebra in measured if "no_input_path" not in algebra.flags]
    return NetworkAlgebra(
        calls=calls,
        parameters=sum(graph.parameters.values()),
        macs=sum(algebra.macs for algebra in measured),
        log2_paths=each.bits(paths.end),
        log2_paths_exact=each.exact_output(),
        layer_paths=paths.layer_paths(),
        path_lengths=paths.lengths(),
        region_bits=None if None in regions else math.fsum(bits for bits in regions if bits is not None),
        intrinsic_power=each.power(paths.end),
        input_units=paths.source_size,
        output_units=sum(graph.calls[place].size for place in graph.outputs),
        output_cut=int(paths.cuts[paths.end]) if paths.cuts[paths.end] >= 0 else None,
        vc_bound=vc_bound_of(paths),
        serra_regions=serra_of(paths),
        unknown=unknown.total(),
        unknown_operations=dict(unknown),
        flags=tuple(dict.fromkeys(f for a in measured for f in a.flags if f not in ("covers_input", "no_input_path"))),
    )


class _Each:
    """The numbers of every call, aggregated once, then read call by call."""

    def __init__(self, paths: Paths, exact: Mapping[int, float]) -> None:
        self._paths, self._exact = paths, exact
        self._bits = paths.log2_paths()
        self._shares = paths.shares()
        self._bottlenecks = paths.bottlenecks()
        self._fields = fields_of(paths)

    def bits(self, node: int) -> float | None:
        return float(self._bits[node]) if np.isfinite(self._bits[node]) else None

    def power(self, node: int) -> float | None:
        cut = int(self._paths.cuts[node])
        return math.log2(self._paths.source_size / cut) if cut > 0 else None

    def exact_output(self) -> float | None:
        """log2 of the mean over the units of all outputs."""
        outputs = [place for place in self._paths.graph.outputs if self._paths.reached[place]]
        if not outputs or any(place not in self._exact for place in outputs):
            return None
        sizes = [self._paths.graph.calls[place].size for place in outputs]
        largest = max(self._exact[place] for place in outputs)
        total = math.fsum(n * 2.0 ** (self._exact[p] - largest) for n, p in zip(sizes, outputs, strict=True))
        return largest + math.log2(total / sum(sizes))

    def call(self, place: int) -> Algebra | None:
        call, leaf = self._paths.graph.calls[place], self._paths.leaves[place]
        reached = bool(self._paths.reached[place])
        has_weight = any(tensor.parameter for tensor in call.tensors)
        if call.op == INPUT or leaf.form in ("view", "constant") or not (reached or has_weight):
            return None
        field = self._fields.get(place)
        return Algebra(
            log2_paths=self.bits(place) if reached else None,
            log2_paths_exact=self._exact.get(place),
            path_share=float(self._shares[place]) if reached else None,
            region_bits=self._region_bits(place) if reached else None,
            cut=int(self._paths.cuts[place]) if reached else None,
            intrinsic_power=self.power(place) if reached else None,
            local_power=self._local_power(call, place),
            bottleneck=int(self._bottlenecks[place]) if reached else None,
            receptive_field=_sizes(field),
            stride=field.stride if field else None,
            macs=leaf.macs if reached else 0,
            parameters=sum({t.name: math.prod(t.shape) for t in call.tensors if t.parameter}.values()),
            flags=self._flags(place, leaf, field),
        )

    def _region_bits(self, place: int) -> float | None:
        planes = self._planes(place)
        if not planes:
            return None if planes is None else 0.0
        return float(_core.algebra.log2_binomial_sum(planes, self._paths.rank(place)))

    def _planes(self, place: int) -> int | None:
        """A product of two factors that paths reach is not piecewise linear, whatever the table says."""
        leaf = self._paths.leaves[place]
        return None if place in self._paths.products else leaf.planes

    def _local_power(self, call: Call, place: int) -> float | None:
        entering = sum(tensor.elements for tensor in self._paths.entering[place])
        return math.log2(entering / call.size) if entering and call.size else None

    def _flags(self, place: int, leaf: Leaf, field: ReceptiveField | None) -> tuple[str, ...]:
        reached = bool(self._paths.reached[place])
        told = {
            "unknown": reached and leaf.form == "unknown",
            "no_input_path": not reached,
            "not_piecewise_linear": reached and self._planes(place) is None,
            "covers_input": field is not None and field.covers_input,
            "stride_mismatch": field is not None and not field.aligned,
        }
        return (*leaf.flags, *(flag for flag, holds in told.items() if holds))


def _sizes(field: ReceptiveField | None) -> tuple[int, ...] | None:
    if field is None or any(math.isinf(r) for r in field.size):
        return None
    return tuple(int(r) for r in field.size)
