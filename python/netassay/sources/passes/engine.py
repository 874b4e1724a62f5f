"""A pass of path sums instead of activations through a traced run, node by node, by torch's own operations.

The engine knows order, memory, views and writes; its subclasses what an operation does to sums (counts, norm).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from netassay.algebra.graph import INPUT, Call
from netassay.algebra.operations.unitwise import IDENTITIES
from netassay.algebra.semantics import Leaf, leaf_of
from netassay.sources.passes.memory import Memory, first_of
from netassay.sources.passes.sums import Lost, Sums, Value, Varies, common, empty_like, nodes_in, ones, zeros_like
from netassay.sources.traced.graph import Traced
from netassay.sources.traced.nodes import arguments_of, operation_of, tensors_of

if TYPE_CHECKING:
    from torch import Tensor, fx


#: Writes that do not read what was there.
_OVERWRITES = ("fill", "zero", "copy")


class Step:
    """One call of the run, and the sums that enter it.

    Attributes:
        node, call, leaf: what it is; op: its name; arguments: by the schema's names, tensors as nodes.
    """

    def __init__(self, engine: Pass, node: fx.Node, call: Call, leaf: Leaf) -> None:
        self.engine, self.node, self.call, self.leaf = engine, node, call, leaf
        self.op = call.op
        self.arguments: dict[str, Any] = dict(arguments_of(node))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.call.shape

    @property
    def reads(self) -> list[fx.Node]:
        """The tensors that carry paths, by the table of operations."""
        names = self.leaf.reads
        return list(nodes_in([v for name, v in self.arguments.items() if names is None or name in names]))

    def get(self, name: str, default: Any = None) -> Any:
        value = self.arguments.get(name)
        return default if value is None else value

    def sums(self, name: str) -> Sums | None:
        """Of the tensor that is this argument; None: no path reaches it, or there is none."""
        (node, *_) = (*nodes_in(self.arguments.get(name)), None)
        return None if node is None else self.engine.read(node)

    def uses(self, k: int) -> bool:
        """Whether anything reads the k-th output of the call."""
        return any(user.args[1:] == (k,) and user.users for user in self.node.users)

    def rerun(self, tensors: Mapping[fx.Node, Tensor], **replaced: Any) -> Any:
        """What the operation itself makes of other tensors, and of other arguments by name."""
        return self.engine.call(self.node, tensors, replaced)

    def moved(self, absent: Callable[[fx.Node], Sums | None] | None = None, **replaced: Any) -> Value:
        """The sums where a view, or a concatenation, puts them; `absent` gives what stands where no path arrives."""
        import torch

        if self.op == "as_strided":
            raise Lost("it reads memory as it is laid out")
        entering = {node: self.engine.read(node) for node in self.reads}
        given = {n: absent(n) if s is None and absent else s for n, s in entering.items()}
        bits = common(list(given.values()))
        tensors = {n: zeros_like(n) if s is None else s.at(bits) for n, s in given.items()}
        try:
            result = self.rerun(tensors, **replaced)
        except RuntimeError:  # a view of what is laid out in another way here
            result = self.rerun({node: tensor.contiguous() for node, tensor in tensors.items()}, **replaced)
        if isinstance(result, torch.Tensor):
            return Sums(result, bits)
        return tuple(Sums(part, bits) for part in result)


class Pass(ABC):
    """Pushes sums through a run. `push` says what a call does, `lost` what an error means.

    Args:
        memory: bytes of sums alive at once, by their shapes.
    """

    def __init__(self, traced: Traced, memory: float = math.inf) -> None:
        self.traced, self.run, self._limit = traced, traced.run, memory
        self._memory = Memory(traced.run)
        self.node_at = {place: node for node, place in traced.places.items()}
        self._sums: dict[fx.Node, Value] = {}
        self._folded: dict[fx.Node, Any] = {}
        self._stale: set[fx.Node] = set()  # constants that were written to
        self._carried: set[fx.Node] = set()  # what depends on the input at all

    @abstractmethod
    def push(self, step: Step) -> Value:
        """The sums of a call's output."""

    @abstractmethod
    def lost(self, step: Step, error: Exception) -> Value:
        """The value of a call whose sums are unknown; or raises."""

    @abstractmethod
    def constant_sums(self, node: fx.Node) -> Sums | None:
        """What a tensor that no path from the input reaches adds to a sum."""

    def entering(self, node: fx.Node, call: Call) -> Value:
        """The sums of an input of the model."""
        return ones(call.shape)

    def walk(self) -> Iterator[tuple[int, Value]]:
        """The place of each call and its sums, in order; a place comes again when its tensor is written to."""
        last = self._memory.last_uses()
        for step, node in enumerate(self.run.graph.nodes):
            if node in self.traced.places:
                self._sums[node] = self._value(node)
                yield self.traced.places[node], self._sums[node]
                if self._memory.writes(node):
                    yield from self._write(node)
            elif node.op == "output":
                return
            for done in [n for n in self._sums if last[n] <= step]:
                del self._sums[done]

    def read(self, node: fx.Node) -> Sums | None:
        value = self._sums.get(node)
        if isinstance(value, Lost):
            raise value
        if isinstance(value, tuple):
            raise Lost("several tensors where one is expected")
        return value

    def carried(self, node: fx.Node) -> bool:
        """Whether it depends on the input, along whatever is read."""
        return node in self._carried

    def _value(self, node: fx.Node) -> Value:
        call = self.traced.graph.calls[self.traced.places[node]]
        if call.op == INPUT:
            self._carried.add(node)
            return self.entering(node, call)
        if not any(self.carried(n) for n in node.all_input_nodes):
            return None
        step = Step(self, node, call, Leaf("unknown"))
        try:
            step.leaf = leaf_of(call)
            if step.leaf.form in ("constant", "step"):
                return None
            self._carried.add(node)
            parts = self._sums.get(first_of(node)) if call.op == "getitem" else None
            if isinstance(parts, tuple):
                part: Value = parts[step.arguments["index"]]
                return part
            self._check_room(step)
            return _checked(step, self.push(step))
        except Exception as error:
            self._carried.add(node)
            return self.lost(step, error)

    def _check_room(self, step: Step) -> None:
        if step.leaf.form == "unit" or step.op in IDENTITIES:
            return
        values = [v for value in self._sums.values() for v in (value if isinstance(value, tuple) else (value,))]
        storages = [v.tensor.untyped_storage() for v in values if isinstance(v, Sums)]
        alive = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
        if alive + 8 * sum(map(math.prod, step.call.shapes)) > self._limit:
            raise Lost(f"its sums would exceed {self._limit:.0f} bytes")

    # ---- what is called, and constants ----

    def call(self, node: fx.Node, tensors: Mapping[fx.Node, Any], replaced: Mapping[str, Any] | None = None) -> Any:
        """Calls a node's operation; other tensors of its arguments have their constant values."""
        import torch

        replaced = replaced or {}

        def value(argument: Any) -> Any:
            if isinstance(argument, torch.fx.Node):
                return tensors[argument] if argument in tensors else self.constant(argument)
            if isinstance(argument, (list, tuple)):
                return [value(item) for item in argument]
            return torch.device("cpu") if isinstance(argument, torch.device) else argument

        if not isinstance(node.target, torch._ops.OpOverload):
            return node.target(*map(value, node.args))  # type: ignore[operator]
        arguments = dict(arguments_of(node))
        positional, named = [], {}
        for described in node.target._schema.arguments:
            if described.name in arguments:
                given = arguments[described.name]
                result = replaced[described.name] if described.name in replaced else value(given)
                if described.kwarg_only:
                    named[described.name] = result
                else:
                    positional.append(result)
        return node.target(*positional, **named)

    def constant(self, node: fx.Node) -> Any:
        """The values of what does not depend on the input, as the model computes them.

        Raises:
            Varies: it does depend on it. Lost: it was written to, is random, or the model has no values.
        """
        if node in self._folded:
            return self._folded[node]
        if node in self.run.constants:
            return self._stored(node)
        value = node.meta.get("val")
        if isinstance(value, (bool, int, float)):
            return value
        self._check_foldable(node)
        op, mutates = operation_of(node)
        given: dict[fx.Node, Any] = {n: empty_like(n) for n in node.all_input_nodes if self.carried(n)}
        if mutates:  # never the model's own tensor
            first = first_of(node)
            given[first] = empty_like(first) if op in _OVERWRITES else self.constant(first).clone()
        self._folded[node] = self.call(node, given)
        return self._folded[node]

    def _check_foldable(self, node: fx.Node) -> None:
        """Raises what keeps a call from being computed; of what depends on the input it may read shapes alone."""
        varies = "it depends on values that only the input gives"
        if node in self._stale or self.carried(node) or node.op != "call_function":
            raise Varies(varies)
        op, mutates = operation_of(node)
        if any("nondeterministic" in str(tag) for tag in getattr(node.target, "tags", ())):
            raise Lost(f"{op} is random")
        if mutates and op not in IDENTITIES and op not in _OVERWRITES:
            raise Lost(f"{op} writes to a constant")
        if any(map(self.carried, node.all_input_nodes)):
            call = self.traced.graph.calls[self.traced.places[node]]
            if leaf_of(call).form != "constant":
                raise Varies(varies)

    def _stored(self, node: fx.Node) -> Tensor:
        from torch._subclasses.fake_tensor import FakeTensor

        tensor = self.run.constants[node]
        if node in self._stale or tensor.is_meta or isinstance(tensor, FakeTensor):
            raise Lost("it has no values" if tensor.is_meta else "it is written to")
        return tensor.detach().to("cpu")

    # ---- writes ----

    def _write(self, node: fx.Node) -> Iterator[tuple[int, Value]]:
        """A call has written to its first argument: all that shares memory with it has other sums from now on."""
        root = self._memory.root(node)
        family = self._memory.families[root]
        again = self.traced.remade[node]
        remade = {n for _, n in again}
        others = [n for n in family if n in remade or (n is not node and n in self._sums)]
        if self._sums[node] is None and self._sums.get(root) is None:
            self._stale.update(n for n in family if n is not node)
            return
        values = self._overwritten(node, root, [root, *others])
        self._carried.update((node, root, *others))
        self._sums.update(values)
        self.node_at.update(again)
        yield from ((place, values[n]) for place, n in again if n in values)

    def _overwritten(self, node: fx.Node, root: fx.Node, others: Sequence[fx.Node]) -> Mapping[fx.Node, Value]:
        memory = self._memory
        try:
            fresh, before = self.read(node), self.read(root)
            fresh = self.constant_sums(node) if fresh is None else fresh
            whole = Sums(zeros_like(node)) if fresh is None else fresh
            if not memory.is_whole(node):
                before = self.constant_sums(root) if before is None else before
                bits = common([whole, before])
                flat = (zeros_like(root) if before is None else before.at(bits)).flatten().clone()
                flat[memory.positions(node, root, self.call)] = whole.at(bits)
                whole = Sums(flat.reshape(tuple(tensors_of(root)[0].shape)), bits)
            flat = whole.tensor.flatten()
            return {
                n: whole if memory.is_whole(n) else Sums(flat[memory.positions(n, root, self.call)], whole.bits)
                for n in others
            }
        except Exception as error:
            return {other: error if isinstance(error, Lost) else Lost(str(error)) for other in others}


def _checked(step: Step, value: Value) -> Value:
    """The sums, if they are as large as the tensors of the run."""
    parts: Iterable[Sums | Lost | None] = value if isinstance(value, tuple) else (value,)
    for part, shape in zip(parts, step.call.shapes, strict=True):
        if isinstance(part, Sums) and (tuple(part.tensor.shape) != shape or not part.tensor.is_floating_point()):
            raise Lost(f"sums of shape {tuple(part.tensor.shape)} for a tensor of shape {shape}")
    return value
