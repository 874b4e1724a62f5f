"""A module and an example of its input -> the LayerGraph that netassay.algebra measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from netassay.algebra.graph import INPUT, Call, LayerGraph, Tensor
from netassay.algebra.semantics import leaf_of
from netassay.base.errors import UnsupportedLayout
from netassay.sources import layers as _layers
from netassay.sources.traced.example import BATCHES, batch
from netassay.sources.traced.names import Names
from netassay.sources.traced.nodes import arguments_of, is_opaque, is_view, operation_of, tensors_of
from netassay.sources.traced.tracing import Run, alone, follow

if TYPE_CHECKING:
    import torch
    from torch import fx, nn


@dataclass(frozen=True, slots=True)
class Traced:
    """A graph, and the run of two samples that it was made of.

    Attributes:
        places: node of the run -> place of its call in the graph.
        remade: node that writes to its first argument -> (place, node) of the calls behind its own, by which what
            shares that memory has what was written.
        batch_axes: node -> for each of its outputs the axis along which it grows with the batch, or None; of a view
            that puts samples and other things on one axis, that axis.
        unwrapped: names of the wrappers that were taken off the model.
    """

    graph: LayerGraph
    run: Run
    places: Mapping[fx.Node, int]
    remade: Mapping[fx.Node, Sequence[tuple[int, fx.Node]]]
    batch_axes: Mapping[fx.Node, tuple[int | None, ...]]
    unwrapped: tuple[str, ...]


def trace(model: nn.Module, example: Any, *, function: str, batch_axis: int = 0, strict: bool = False) -> Traced:
    """Traces a model in evaluation mode, with two and with three copies of the example's first sample.

    The model is not changed, and on the way of torch.export nothing is computed: it may be on the meta device.

    Args:
        example: a tensor, a sequence of positional arguments, or a mapping of arguments by name; of tensors, those as
            long along `batch_axis` as the first have a batch.
        strict: a run that depends on the values of the input is refused.

    Raises:
        TypeError: no module, or no tensor in the example. DTypeError: an axis that is no integer. ShapeError: no such
        axis. UnsupportedLayout: a sparse or nested example; the model cannot be followed.
    """
    _layers.checked(model, function)
    with alone():
        root, unwrapped = _layers.unwrap(model)
        runs = [follow(root, *batch(root, example, batch_axis, size, function), function) for size in BATCHES]
        if strict and runs[0].input_specific:
            got = f"{type(root).__name__} takes branches that depend on its input's values"
            raise UnsupportedLayout(
                f"{function}: {got}, expected operations that do not; strict=False measures the branches that this"
                " example takes"
            )
        builder = _Builder(root, runs)
        return Traced(builder.graph(), runs[0], builder.places, builder.remade, builder.batch_axes(), tuple(unwrapped))


class _Builder:
    """Makes the calls of a graph from two runs of different batches."""

    def __init__(self, model: nn.Module, runs: Sequence[Run]) -> None:
        self._model, (self._run, other) = model, runs
        self._names = Names(model)
        self._calls: list[Call] = []
        self._notes: list[str] = []
        self._dependent: set[fx.Node] = set()  # what depends on an input
        self.places: dict[fx.Node, int] = {}
        self._written: dict[fx.Node, int] = {}  # of a tensor that was written to, the last call that did
        self._views: dict[fx.Node, list[fx.Node]] = {}
        self.remade: dict[fx.Node, list[tuple[int, fx.Node]]] = {}
        self._larger = self._paired(other)

    def graph(self) -> LayerGraph:
        for node in self._run.graph.nodes:
            if node in self._run.inputs:
                self._dependent.add(node)
                if tensors_of(node):
                    self._add(node, Call(self._run.inputs[node], INPUT, *self._sizes(node), kind=INPUT))
            elif node.op == "call_function" and tensors_of(node):  # else an assertion, or a number out of a tensor
                self._call(node)
        outputs = dict.fromkeys(self._place(node) for node in self._run.outputs if node in self.places)
        return LayerGraph(
            calls=tuple(_numbered(self._calls)),
            outputs=tuple(outputs),
            parameters=self._names.parameters,
            aliases=self._names.aliases,
            model=type(self._model).__name__,
            tracer=self._run.tracer,
            input_specific=self._run.input_specific,
            notes=tuple(dict.fromkeys(self._notes)),
        )

    def batch_axes(self) -> Mapping[fx.Node, tuple[int | None, ...]]:
        """Of every node with a call; where there is no other run to compare, the first axis, if it is as long."""
        return {node: tuple(self._batch_axis(node, k) for k in range(len(tensors_of(node)))) for node in self.places}

    def _batch_axis(self, node: fx.Node, k: int) -> int | None:
        value = tensors_of(node)[k]
        if node not in self._larger:
            return 0 if value.ndim and value.shape[0] == BATCHES[0] else None
        more = tensors_of(self._larger[node])[k]
        return next((axis for axis in range(value.ndim) if value.shape[axis] != more.shape[axis]), None)

    def _paired(self, other: Run) -> Mapping[fx.Node, fx.Node]:
        """Node of the smaller batch -> the same of the larger."""
        ours, theirs = list(self._run.graph.nodes), list(other.graph.nodes)
        if [(node.op, str(node.target)) for node in ours] == [(node.op, str(node.target)) for node in theirs]:
            return dict(zip(ours, theirs, strict=True))
        self._notes.append("two batches ran different operations: the first axis of a tensor is taken for its batch")
        return {}

    def _sizes(self, node: fx.Node) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
        """Shape of each output of a node, and its elements per sample; 0 for the indices beside values."""
        values = tensors_of(node)
        larger = tensors_of(self._larger[node]) if node in self._larger else [None] * len(values)
        real = [value.is_floating_point() or value.is_complex() for value in values]
        elements = [
            self._per_sample(node, value, more) if counts or not any(real) else 0
            for value, more, counts in zip(values, larger, real, strict=True)
        ]
        return tuple(tuple(map(int, value.shape)) for value in values), tuple(elements)

    def _per_sample(self, node: fx.Node, value: torch.Tensor, more: torch.Tensor | None) -> int:
        small, large = BATCHES
        two = int(value.numel())
        if more is None:
            return two // small if value.ndim and value.shape[0] == small else two
        three = int(more.numel())
        if three != two and two * large != three * small:
            shape = tuple(map(int, value.shape))
            self._notes.append(
                f"{self._label(node)} of shape {shape} mixes samples: its size is that of {small}, divided"
            )
            return two // small
        return three - two if three != two else two

    def _call(self, node: fx.Node) -> None:
        op, mutates = operation_of(node)
        arguments = {name: self._argument(value) for name, value in arguments_of(node)}
        call = Call("", op, *self._sizes(node), arguments)
        depends = not self._dependent.isdisjoint(node.all_input_nodes)
        if depends:
            self._dependent.add(node)
        name, kind = self._names.of(self._run.sites.get(node), call, depends=depends, opaque=is_opaque(node))
        self._add(node, replace(call, name=name, kind=kind))
        self._watch_samples(node, call)
        if mutates:
            self.remade[node] = []
            self._write(node.args[0], self.places[node], self.remade[node])
        elif is_view(node):
            base: Any = node.args[0]
            self._views.setdefault(base, []).append(node)

    def _watch_samples(self, node: fx.Node, call: Call) -> None:
        """Notes where samples are put together: all that enters grows with the batch, and what leaves does not."""
        entering = [before for before in node.all_input_nodes if before in self.places]
        if not call.size or leaf_of(call).form == "constant":
            return
        if entering and all(map(self._grows, entering)) and not self._grows(node):
            self._notes.append(f"{self._label(node)} mixes samples: what it puts out does not grow with the batch")

    def _label(self, node: fx.Node) -> str:
        """Where a node stands, and what it does."""
        path, _ = self._run.sites.get(node, ("", ""))
        return f"{path or _layers.ROOT}:{operation_of(node)[0]}"

    def _grows(self, node: fx.Node) -> bool:
        larger = tensors_of(self._larger[node]) if node in self._larger else []
        return any(a.numel() != b.numel() for a, b in zip(tensors_of(node), larger, strict=False))

    def _write(
        self, target: Any, place: int, remade: list[tuple[int, fx.Node]], through: fx.Node | None = None
    ) -> None:
        """Records a write: `target` now refers to the call's output, its base combines old and new contents, and all
        other views are rebuilt."""
        if target not in self.places:
            return
        self._written[target] = place
        for view in self._views.get(target, []):
            if view is not through:
                self._again(view, place, remade)
        base = target.args[0] if is_view(target) else None
        if base is None or base not in self.places:
            return
        part, whole = self._tensor(place), self._calls[self._place(base)]
        kept = replace(self._tensor(self._place(base)), elements=max(whole.size - part.elements, 0))
        arguments = {"self": kept, "source": part} if kept.elements else {"source": part}
        name = self._calls[place].name.partition(":")[0] + ":assign"
        remade.append((len(self._calls), base))
        self._calls.append(Call(name, "assign", whole.shapes, whole.elements, arguments, kind="assign"))
        self._write(base, len(self._calls) - 1, remade, target)

    def _again(self, view: fx.Node, place: int, remade: list[tuple[int, fx.Node]]) -> None:
        """A view of a tensor that was written to after the view was taken."""
        before = self._calls[self.places[view]]
        first = next(iter(before.arguments))
        remade.append((len(self._calls), view))
        self._calls.append(replace(before, arguments={**before.arguments, first: self._tensor(place)}))
        self._written[view] = len(self._calls) - 1
        for further in self._views.get(view, []):
            self._again(further, self._written[view], remade)

    def _add(self, node: fx.Node, call: Call) -> None:
        self.places[node] = len(self._calls)
        self._calls.append(call)

    def _place(self, node: fx.Node) -> int:
        return self._written.get(node, self.places[node])

    def _tensor(self, place: int) -> Tensor:
        """The output of a call; a view of a parameter is still the parameter's."""
        call = self._calls[place]
        if call.op != INPUT and len(call.tensors) == 1 and leaf_of(call).form == "view":
            (whole,) = call.tensors
            return Tensor(call.shape, call.size, place, whole.name, whole.parameter)
        return Tensor(call.shape, call.size, place)

    def _argument(self, value: Any) -> Any:
        """An argument as the graph keeps it: tensors described, numbers and text as they stand, the rest left out."""
        from torch import fx

        if isinstance(value, fx.Node):
            if value in self.places:
                return self._tensor(self._place(value))
            return self._names.constant(self._run.constants[value]) if value in self._run.constants else None
        if isinstance(value, (list, tuple)):
            return tuple(self._argument(item) for item in value)
        return value if isinstance(value, bool | int | float | str) else None


def _numbered(calls: Sequence[Call]) -> Iterator[Call]:
    """The calls, those that share a name numbered 0, 1, ...: what has a row, and apart from it the rest."""
    keys = [(call.name, call.op == INPUT or leaf_of(call).form in ("view", "constant")) for call in calls]
    counts, given = Counter(keys), Counter[tuple[str, bool]]()
    for key, call in zip(keys, calls, strict=True):
        yield replace(call, call=given[key]) if counts[key] > 1 else call
        given[key] += 1
