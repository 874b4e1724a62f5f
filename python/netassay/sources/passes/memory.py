"""What shares memory in a traced run: views, and what writes to its first argument and returns it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from netassay.algebra.operations.unitwise import IDENTITIES
from netassay.sources.passes.sums import Lost
from netassay.sources.traced.nodes import is_view, operation_of, tensors_of
from netassay.sources.traced.tracing import Run

if TYPE_CHECKING:
    import torch
    from torch import Tensor, fx


class Memory:
    """Who is part of whose memory.

    Attributes:
        families: root -> it and all that shares its memory, in order.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._bases = {n: first_of(n) for n in run.graph.nodes if n.op == "call_function" and _aliases(n)}
        self.families: dict[fx.Node, list[fx.Node]] = {}
        for node in run.graph.nodes:
            self.families.setdefault(self.root(node), []).append(node)

    def root(self, node: fx.Node) -> fx.Node:
        """The tensor whose memory it is."""
        while node in self._bases:
            node = self._bases[node]
        return node

    def writes(self, node: fx.Node) -> bool:
        """Whether a call writes to its first argument."""
        return node.op == "call_function" and operation_of(node)[1]

    def is_whole(self, node: fx.Node) -> bool:
        """Whether a node is all of its root, as it stands: the root, or what writes to it have returned."""
        while node in self._bases:
            if not self.writes(node):
                return False
            node = self._bases[node]
        return True

    def last_uses(self) -> Mapping[fx.Node, int]:
        """Node -> the step of its last use; of a tensor that is written to, that of all that shares its memory."""
        order = {node: step for step, node in enumerate(self._run.graph.nodes)}
        last = {node: max([order[node], *(order[user] for user in node.users)]) for node in order}
        for root, family in self.families.items():
            if any(map(self.writes, family)):
                last[root] = max(last[n] for n in family)
        return last

    def positions(self, node: fx.Node, root: fx.Node, call: Callable[..., Any]) -> Tensor:
        """Which elements of its root a view has."""
        import torch

        value = tensors_of(root)[0]
        chain = [node]
        while chain[-1] is not root:
            chain.append(self._bases[chain[-1]])
        found: Any = torch.empty_strided(tuple(value.shape), value.stride(), dtype=torch.int64, device="cpu")
        found.copy_(torch.arange(value.numel()).reshape(tuple(value.shape)))
        memory = found.untyped_storage().data_ptr()
        for view, base in zip(chain[-2::-1], chain[:0:-1], strict=True):
            if self.writes(view) or (operation_of(view)[0] in IDENTITIES and _dtype(view) == _dtype(base)):
                continue
            found = call(view, {base: found})
        if found.untyped_storage().data_ptr() != memory:
            raise Lost("a copy is taken for a view")
        tensor: Tensor = found
        return tensor


def first_of(node: fx.Node) -> fx.Node:
    """The first argument of a node that is part of its memory, or writes to it."""
    first: Any = node.args[0]
    base: fx.Node = first
    return base


def _dtype(node: fx.Node) -> torch.dtype:
    return tensors_of(node)[0].dtype


def _aliases(node: fx.Node) -> bool:
    """Whether a node's tensor is part of its first argument's memory."""
    import torch

    first = node.args[0] if node.args else None
    if not isinstance(first, torch.fx.Node) or not tensors_of(node):
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return operation_of(node)[0] == "getitem" and first.op == "call_function" and _aliases(first)
    return operation_of(node)[1] or is_view(node)
