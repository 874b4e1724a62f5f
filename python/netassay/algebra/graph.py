"""The model as the measures of structure see it: calls of operations, what enters each, and how much leaves it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Operation of a call that stands for an input of the model.
INPUT = "input"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that enters a call.

    Attributes:
        shape: with its batch axis, as it was traced.
        elements: per sample; all of them where the tensor does not grow with the batch.
        call: place of the call that put it out; None for a parameter, a buffer or a constant.
        name: of the parameter or buffer that it is, or is a view of; of the first that has this storage.
        parameter: whether it is a parameter, or a view of one.
    """

    shape: tuple[int, ...]
    elements: int
    call: int | None = None
    name: str | None = None
    parameter: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation.

    Attributes:
        name: of its layer: the module whose only operation this is, the module of its weight, else
            "<innermost module>:<op>"; of the argument, for an input.
        op: what is called, by torch's name for it without namespace and overload ("conv2d", "add"); one of another
            library with its namespace ("torchvision::nms").
        shapes: of each tensor it puts out, with the batch axis, as traced.
        elements: of each, per sample.
        arguments: by the names of the operation's schema; a tensor as a Tensor, also within lists.
        call: 0, 1, ... where several calls have this name, else None; views, constants and inputs count for themselves.
        kind: class of the module, or the operation.
    """

    name: str
    op: str
    shapes: tuple[tuple[int, ...], ...]
    elements: tuple[int, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    call: int | None = None
    kind: str = ""

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def get(self, argument: str, default: Any = None) -> Any:
        """An argument; `default` where the operation has none of this name, or it is None."""
        value = self.arguments.get(argument)
        return default if value is None else value

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first tensor it puts out."""
        return self.shapes[0] if self.shapes else ()

    @property
    def size(self) -> int:
        """Elements put out per sample."""
        return sum(self.elements)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Every tensor that enters, in the order of the arguments."""
        return tuple(tensors_in(self.arguments.values()))

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that enter from other calls."""
        return tuple(tensor for tensor in self.tensors if tensor.call is not None)

    @property
    def weight(self) -> Tensor | None:
        """The parameter with the most axes, and the first of those."""
        parameters = [tensor for tensor in self.tensors if tensor.parameter]
        return max(parameters, key=lambda tensor: len(tensor.shape), default=None)


@dataclass(frozen=True, slots=True, eq=False)
class LayerGraph:
    """A model as a directed graph of calls, in evaluation mode.

    Attributes:
        calls: in the order of the run, so that a call's inputs stand before it.
        outputs: places of the calls whose tensors the model returns.
        parameters: name -> count of scalars, each storage once.
        aliases: name of a layer -> other names of the same module.
        model: name of the model's class.
        tracer: what followed the run: "torch.export", "torch.fx" or "recorded run".
        input_specific: whether another input might take other calls, because the run was followed on this one.
        notes: sentences about what was assumed.
    """

    calls: tuple[Call, ...]
    outputs: tuple[int, ...]
    parameters: Mapping[str, int] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    model: str = ""
    tracer: str = ""
    input_specific: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from netassay.base.errors import ShapeError

        for place, call in enumerate(self.calls):
            for tensor in call.inputs:
                if tensor.call is not None and not 0 <= tensor.call < place:
                    raise ShapeError(
                        f"LayerGraph: got call {place} ({call.name!r}) with an input from call {tensor.call},"
                        " expected one that stands before it"
                    )
        for place in self.outputs:
            if not 0 <= place < len(self.calls):
                raise ShapeError(f"LayerGraph: got the output {place}, expected one of {len(self.calls)} calls")

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self.calls)

    def __repr__(self) -> str:
        return f"<LayerGraph of {self.model or 'a model'}: {len(self.calls)} calls>"


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among arguments, in their order."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)
