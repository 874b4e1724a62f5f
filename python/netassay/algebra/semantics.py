"""What each operation does to paths, regions and cost: one table, by torch's names, which users extend.

A rule reads a Call and answers a Leaf, its local transfer function. This table is the whole knowledge of operations
that the measures of structure have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from netassay.algebra.graph import Call

#: How the units that a call puts out depend on those that enter.
Form: TypeAlias = Literal[
    "unit",  # each on one, and what it is does not matter: elementwise functions, norms
    "view",  # each is one: reshaped, permuted, sliced, repeated, padded
    "sum",  # on one of each tensor that enters
    "concat",  # each is one of one tensor
    "product",  # on fan_in products of one of each tensor that enters
    "mix",  # on fan_in of them, each with a weight
    "window",  # on fan_in of them: pools, sums and means, softmax
    "recurrent",  # on all steps before it
    "source",  # paths begin here: inputs, embeddings
    "step",  # on comparisons alone: no path comes out, and where one enters, the network is not piecewise linear
    "constant",  # no path comes out
    "unknown",  # not in the table: taken as "unit"
]


class Window(NamedTuple):
    """What an output position sees along one axis, in positions that enter: how many, and how far apart two are."""

    size: float
    stride: float


@dataclass(frozen=True, slots=True)
class Leaf:
    """The local transfer function of one call.

    Attributes:
        form: how the outputs depend on the inputs.
        fan_in: g, what unit paths are multiplied by; where it differs, by argument.
        weighted: whether it is a layer in the length of a path: it mixes units by weights.
        window: per spatial axis, for the receptive field; None: every position by itself.
        planes: count of hyperplanes at which the call changes its linear piece; None: it is not piecewise linear.
        breakpoints: of one unit's piecewise linear function of one variable.
        macs: multiply-accumulates per sample.
        reads: arguments whose tensors carry paths; None: all of them.
        flags: what is approximate.
    """

    form: Form = "unit"
    fan_in: float | Mapping[str, float] = 1
    weighted: bool = False
    window: tuple[Window, ...] | None = None
    planes: int | None = 0
    breakpoints: int = 0
    macs: int = 0
    reads: tuple[str, ...] | None = None
    flags: tuple[str, ...] = ()

    @property
    def gain(self) -> float:
        """fan_in where it is one number."""
        if isinstance(self.fan_in, Mapping):
            raise TypeError(f"Leaf: got fan_in by argument, {dict(self.fan_in)}, expected one number")
        return self.fan_in


#: Sees every position of what enters.
EVERYWHERE = Window(math.inf, 1)

Rule: TypeAlias = Callable[[Call], Leaf]
_RULES: dict[str, Rule] = {}


def register(op: str, rule: Rule | Leaf) -> None:
    """Says what an operation does; what the table said of it before is replaced, for this process.

    Args:
        op: its name in a LayerGraph, as the report's coverage shows it: torch's without namespace, overload and the
            underscore of an in-place form ("conv2d", "relu"); of another library with its namespace
            ("torchvision::deform_conv2d").
        rule: rule(call) -> Leaf, or the Leaf of every call.

    Raises:
        TypeError: neither of these.

    >>> from netassay import algebra
    >>> algebra.register("mylib::swish", algebra.Leaf(planes=None))
    """
    if not isinstance(op, str) or not op:
        raise TypeError(f"register: got op={op!r}, expected the name of an operation")
    if isinstance(rule, Leaf):
        leaf = rule
        _RULES[op] = lambda call: leaf
    elif callable(rule):
        _RULES[op] = rule
    else:
        raise TypeError(f"register: got a rule of type {type(rule).__name__}, expected a function of a Call, or a Leaf")


def leaf_of(call: Call) -> Leaf:
    """The transfer function of a call; form "unknown" where the table has no rule for it.

    Raises:
        TypeError: a registered rule answers something else than a Leaf.
    """
    rule = _RULES.get(call.op)
    if rule is None:
        return Leaf("unknown", planes=None)
    leaf = rule(call)
    if not isinstance(leaf, Leaf) or leaf.form not in get_args(Form):
        raise TypeError(f"register: the rule of {call.op!r} answered {leaf!r}, expected a Leaf")
    return leaf


def rules(*ops: str) -> Callable[[Rule], Rule]:
    """Registers the function below it for every operation that is named, by spaces apart."""

    def decorate(rule: Rule) -> Rule:
        for name in ops:
            for op in name.split():
                register(op, rule)
        return rule

    return decorate


def per_axis(value: Any, axes: int, default: int = 1) -> tuple[Any, ...]:
    """An option of a convolution or a pool, which may be one number for all axes, or nothing."""
    several = tuple(value) if isinstance(value, (list, tuple)) else (default if value is None else value,)
    return several * axes if len(several) == 1 else several or (default,) * axes
