"""A node of a traced run: its operation, its arguments by name, its outputs."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, fx


def tensors_of(node: fx.Node) -> list[Tensor]:
    """The outputs of a node, as far as their shapes go."""
    import torch

    value = node.meta.get("val")
    several = value if isinstance(value, (list, tuple)) else [value]
    return [one for one in several if isinstance(one, torch.Tensor)]


def operation_of(node: fx.Node) -> tuple[str, bool]:
    """The operation's name, and whether it writes to its first argument."""
    import torch

    target = node.target
    if target is operator.getitem:
        return "getitem", False
    if not isinstance(target, torch._ops.OpOverload):
        return getattr(target, "__name__", str(target)), False
    space, _, name = target._schema.name.partition("::")
    mutates = bool(node.args) and any(
        a.alias_info is not None and a.alias_info.is_write for a in target._schema.arguments[:1]
    )
    plain = name.rstrip("_") if mutates and not name.startswith("__") else name
    # detach_ alone changes no number
    return plain if space == "aten" else f"{space}::{plain}", mutates and plain != "detach"


def arguments_of(node: fx.Node) -> Iterator[tuple[str, Any]]:
    """The arguments of a call by the names of its schema, defaults included."""
    import torch

    if not isinstance(node.target, torch._ops.OpOverload):
        names = ("self", "index") if node.target is operator.getitem else map(str, range(len(node.args)))
        yield from zip(names, node.args, strict=True)
        yield from node.kwargs.items()
        return
    for place, argument in enumerate(node.target._schema.arguments):
        if place < len(node.args):
            yield argument.name, node.args[place]
        elif argument.name in node.kwargs:
            yield argument.name, node.kwargs[argument.name]
        elif argument.has_default_value():
            yield argument.name, argument.default_value


def is_opaque(node: fx.Node) -> bool:
    """Whether a call is one of torch's higher-order operators, such as torch.cond."""
    import torch

    return not isinstance(node.target, torch._ops.OpOverload) and node.target is not operator.getitem


def is_view(node: fx.Node) -> bool:
    """Whether a node's output shares the memory of its first argument."""
    import torch

    if node.target is operator.getitem:
        return True
    if not isinstance(node.target, torch._ops.OpOverload) or not node.args:
        return False
    returned = [r.alias_info for r in node.target._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returned)
