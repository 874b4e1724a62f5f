"""A pass that carries, instead of sums, which unit of which node layer every element of a tensor is.

Every tensor is ones (by the number of its sample) that torch's autograd follows back to leaves, one for each node
layer: views, concatenations and writes move nodes, elementwise functions leave them where they are, and an affine call
makes a new leaf. Its links into the new nodes are f(1); T^T 1 goes back along that tape to the nodes that enter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from netassay.algebra.graph import Call
from netassay.algebra.operations.unitwise import IDENTITIES
from netassay.base.errors import NetassayError
from netassay.network import Unlinked
from netassay.sources.passes.engine import Step
from netassay.sources.passes.strengths import reasons
from netassay.sources.passes.strengths.links import POWERS, Links
from netassay.sources.passes.strengths.units import Layout, Units
from netassay.sources.passes.sums import Lost, Sums, Value, Varies
from netassay.sources.passes.weighted import Weighted
from netassay.sources.traced.graph import Traced
from netassay.sources.traced.nodes import tensors_of

if TYPE_CHECKING:
    from torch import Tensor, fx

Rule: TypeAlias = "Callable[[Strengths, Step], Value]"


class Strengths(Weighted):
    """The pass: values are `Sums` whose tensor says of each element which sample's node it is, 0 where it is none.

    Args:
        rules: operation -> what it does to nodes; one without a rule is moved, kept or unlinked, by its form.

    Attributes:
        layers: node layers so far, in the order of the run.
        data_dependent, unknown: calls whose links are not known.
        folded_sums: additions of a constant that are the bias of the layer before them.
    """

    def __init__(self, traced: Traced, function: str, rules: Mapping[str, Rule]) -> None:
        super().__init__(traced, function)
        self._rules = rules
        self.layers: list[Units] = []
        self.data_dependent: list[Unlinked] = []
        self.unknown: list[Unlinked] = []
        self.folded_sums: set[fx.Node] = set()
        self._leaves: dict[Tensor, Units] = {}
        self._constants: dict[fx.Node, Sums] = {}

    # ---- nodes ----

    def entering(self, node: fx.Node, call: Call) -> Value:
        sums, units = self.nodes(call.name, call.call, call.op, call.shape, self.layout(node, 0), flags=("input",))
        units.incoming = self.external(units)
        units.counts = not tensors_of(node)[0].is_floating_point()
        return sums

    def nodes(
        self, name: str, call: int | None, op: str, shape: Sequence[int], layout: Layout, *, flags: Sequence[str] = ()
    ) -> tuple[Sums, Units]:
        """A new node layer, without links."""
        leaf = layout.ones(shape)
        one = tuple(map(int, layout.sample(leaf.detach()).shape))
        units = Units(name, call, op, layout, one, None, flags=set(flags))
        self._leaves[leaf] = units
        self.layers.append(units)
        return Sums(leaf), units

    def external(self, units: Units) -> list[Tensor]:
        """By definition one link of weight 1 comes into each."""
        import torch

        ones = torch.ones((), dtype=torch.float64, device="cpu").expand(units.shape)
        return [ones for _ in POWERS]

    def layout(self, node: fx.Node, k: int, entering: Sequence[Sums] = ()) -> Layout:
        axis = self.traced.batch_axes[node][k]
        shape = tensors_of(node)[k].shape
        return Layout.along(axis, int(shape[axis]) if axis is not None else 0, [sums.tensor for sums in entering])

    def units_of(self, sums: Sums) -> Iterator[tuple[Tensor, Units]]:
        """The node layers that a tensor has nodes of, by their leaves."""
        tensor = sums.tensor
        if tensor.grad_fn is None:
            if tensor in self._leaves:
                yield tensor, self._leaves[tensor]
            return
        seen, waiting = set(), [tensor.grad_fn]
        while waiting:
            function = waiting.pop()
            if function in seen:
                continue
            seen.add(function)
            leaf = getattr(function, "variable", None)
            if leaf is not None and leaf in self._leaves:
                yield leaf, self._leaves[leaf]
            waiting += [before for before, _ in function.next_functions if before is not None]

    def back(self, sums: Sums, links: Tensor) -> Iterator[tuple[Units, Tensor]]:
        """What stands at the elements of a tensor, at the nodes that these are."""
        import torch

        reached = list(self.units_of(sums))
        leaves = [leaf for leaf, _ in reached]
        if not leaves:
            return
        if sums.tensor.grad_fn is None:
            yield reached[0][1], links
            return
        found = torch.autograd.grad(sums.tensor, leaves, links, retain_graph=True, allow_unused=True)
        yield from ((units, part) for (_, units), part in zip(reached, found, strict=True) if part is not None)

    def add_out(self, sums: Sums, links: Sequence[Tensor]) -> None:
        """Links, by power, go out of the nodes of a tensor."""
        for power, weights in enumerate(links):
            for units, part in self.back(sums, weights):
                units.add_out(power, part)

    def leave(self, value: Value) -> None:
        """The nodes of an output of the model."""
        import torch

        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Sums):
                for units, reached in self.back(part, torch.ones_like(part.tensor)):
                    units.add_external(reached)

    # ---- what a call does ----

    def push(self, step: Step) -> Value:
        if step.node in self.folded_norms or step.node in self.folded_sums:
            return self.read(next(n for n in step.reads if self.read(n) is not None))
        if why := reasons.of(step.op):
            return self.data_dependent_nodes(step, why)
        rule = self._rules.get(step.op)
        if rule is not None:
            return rule(self, step)
        if step.op in IDENTITIES or step.leaf.form == "unit":
            return self.kept(step)
        if step.leaf.form == "view":
            return self.moved(step)
        if step.leaf.form == "concat":
            return step.moved(self.constant_sums)
        if step.leaf.form == "sum":
            return self.placed(step)
        return self.unlinked(step, "unknown", f"{step.op} has no rule")

    def lost(self, step: Step, error: Exception) -> Value:
        if isinstance(error, NetassayError):
            raise error
        kind: Literal["data_dependent", "unknown"] = "data_dependent" if isinstance(error, Varies) else "unknown"
        return self.unlinked(step, kind, str(error) or type(error).__name__)

    def reached(self, step: Step) -> list[Sums]:
        """The tensors with nodes that enter."""
        found = [self.read(node) for node in dict.fromkeys(step.node.all_input_nodes)]
        return [sums for sums in found if sums is not None]

    def kept(self, step: Step) -> Value:
        """What acts on each unit by itself: the nodes are the same behind it."""
        reads = [sums for sums in map(self.read, step.reads) if sums is not None]
        if not reads:
            return None
        if len(reads) > 1:
            return self.data_dependent_nodes(step, reasons.COMBINES)
        return self.alone(step, reads[0].map(lambda tensor: tensor.expand(step.shape)))

    def moved(self, step: Step) -> Value:
        """Views, and selections by what is constant."""
        if len(self.reached(step)) > len([n for n in dict.fromkeys(step.reads) if self.read(n) is not None]):
            raise Varies("which units it takes depends on values that only the input gives")
        return step.moved(value=0) if "pad" in step.op else step.moved()

    def placed(self, step: Step) -> Value:
        """Choices and writes by what is constant."""
        if step.op not in reasons.PLACES or step.get("reduce") is not None or step.get("accumulate", False):
            return self.unlinked(step, "unknown", f"{step.op} has no rule")
        step.leaf = reasons.placing(step.leaf)
        return step.moved(value=0) if isinstance(step.get("value"), (int, float)) else step.moved()

    def alone(self, step: Step, sums: Sums) -> Value:
        """The first output has the nodes; the others are by-products."""
        others = len(step.call.shapes) - 1
        return (sums, *[Varies("a by-product that depends on values")] * others) if others else sums

    def affine(
        self, step: Step, links: Sequence[Links], bias: Tensor | None = None, flags: Sequence[str] = ()
    ) -> Value:
        """A new node layer: T 1 of all that enters and the bias come in; T^T 1 goes out of what enters."""
        layout = self.layout(step.node, 0, [each.entering for each in links])
        incoming, outgoing = [], []
        for power in POWERS:
            sums = [each.sums(power) for each in links]
            parts = [into for into, _ in sums] + ([] if bias is None else [power(bias)])
            total, *others = (layout.sample(part.expand(step.shape)) for part in parts)
            for part in others:
                total = total + part
            incoming.append(total)
            outgoing.append([back for _, back in sums])
        fresh, units = self.nodes(step.call.name, step.call.call, step.op, step.shape, layout, flags=flags)
        units.incoming = incoming
        for each, backs in zip(links, zip(*outgoing, strict=True), strict=True):
            self.add_out(each.entering, backs)
        return self.alone(step, fresh)

    # ---- what has no known links ----

    def data_dependent_nodes(self, step: Step, why: str) -> Value:
        return self.unlinked(step, "data_dependent", why)

    def unlinked(self, step: Step, kind: Literal["data_dependent", "unknown"], why: str) -> Value:
        """New node layers without links that come in, for each tensor of numbers that something reads."""
        entering = self.note(step, kind, why)
        values = tensors_of(step.node)
        parts: list[Sums | Lost | None] = []
        for k, (value, elements) in enumerate(zip(values, step.call.elements, strict=True)):
            if not elements or not (value.is_floating_point() or value.is_complex()) or (k and not step.uses(k)):
                parts.append(Varies("it depends on values that only the input gives"))
                continue
            name = step.call.name if k == 0 else f"{step.call.name}[{k}]"
            layout = self.layout(step.node, k, entering)
            sums, _ = self.nodes(name, step.call.call, step.op, value.shape, layout, flags=(f"{kind}_in",))
            parts.append(sums)
        return tuple(parts) if len(parts) > 1 else parts[0]

    def flag(self, sums: Sums, flag: str) -> None:
        for _, units in self.units_of(sums):
            units.flags.add(flag)

    def note(self, step: Step, kind: Literal["data_dependent", "unknown"], why: str) -> list[Sums]:
        """Lists a call, and flags the nodes that enter it; returns these."""
        entering = [sums for node in step.node.all_input_nodes if (sums := self._sums_or_none(node)) is not None]
        for sums in entering:
            self.flag(sums, f"{kind}_out")
        self.enlist(step, kind, why)
        return entering

    def enlist(self, step: Step, kind: Literal["data_dependent", "unknown"], why: str) -> None:
        listed = self.data_dependent if kind == "data_dependent" else self.unknown
        listed.append(Unlinked(step.call.name, step.call.call, step.op, why))

    def _sums_or_none(self, node: fx.Node) -> Sums | None:
        try:
            return self.read(node)
        except Lost:
            return None

    def _overwritten(self, node: fx.Node, root: fx.Node, others: Sequence[fx.Node]) -> Mapping[fx.Node, Value]:
        """If the written values are unknown, later readers of this memory are unknown too."""
        found = super()._overwritten(node, root, others)
        lost = [value for value in found.values() if isinstance(value, Lost)]
        if lost:
            for sums in filter(None, map(self._sums_or_none, (node, root))):
                self.flag(sums, "unknown_out")
            call = self.traced.graph.calls[self.traced.places[node]]
            self.unknown.append(Unlinked(call.name, call.call, call.op, str(lost[0])))
        return found

    # ---- constants ----

    def constant_sums(self, node: fx.Node) -> Sums | None:
        """A constant beside units, such as a class token, is units that a link of weight 1 reaches; zeros are none, nor
        is minus infinity, which stands where there shall be no unit."""
        import torch

        if node in self._constants:
            return self._constants[node]
        held = self.constant(node)
        if isinstance(held, torch.Tensor) and not (bool(held.any()) and bool(torch.isfinite(held).all())):
            return None
        values = self.values(node)
        name = self.names.get(node) or self._name_of(node)
        layout = self.layout(node, 0) if node in self.traced.batch_axes else Layout()
        sums, units = self.nodes(name, None, "constant", values.shape, layout, flags=("constant",))
        units.incoming = self.external(units)
        self._constants[node] = sums
        return sums

    def _name_of(self, node: fx.Node) -> str:
        """Of a parameter of which this is a view, else of the call that makes it."""
        call = self.traced.graph.calls[self.traced.places[node]]
        named = [tensor.name for tensor in call.tensors if tensor.name is not None]
        return named[0] if named else call.name

    def _stored(self, node: fx.Node) -> Tensor:
        """Parameters are checked here; what a buffer holds may be a mask."""
        import torch

        if isinstance(self.run.constants[node], torch.nn.Parameter):
            return super()._stored(node)
        return super(Weighted, self)._stored(node)
