"""Chains: which layers follow each other, each by itself, from the input to the output.

Of a module that is a Sequential, or of names that the caller gives; a file has its tensors in no order that means
anything.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netassay.base.errors import DomainError, SelectionError, ShapeError
from netassay.base.text import shown
from netassay.sources import layers
from netassay.sources.checkpoint.checkpoint import Checkpoint, Stored

if TYPE_CHECKING:
    from torch import nn

#: Modules of torch.nn in which no unit sees another one: activations (softmax is none of these), dropout, nothing.
ELEMENTWISE = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish"),
    *("PReLU", "ReLU", "ReLU6", "RReLU", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh"),
    *("Tanhshrink", "Threshold"),
    *("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"),
    "Identity",
)
#: Modules whose weight joins every input with every output, or every channel with every channel.
_CONVOLUTIONS = tuple(f"Conv{kind}{axes}d" for kind in ("", "Transpose") for axes in (1, 2, 3))
_LINEAR = ("Linear", *_CONVOLUTIONS)


@dataclass(frozen=True, slots=True)
class Link:
    """One layer of a chain.

    Attributes:
        name: qualified, as a report has it. plain: whether it is a linear layer and no convolution.
    """

    name: str
    module: nn.Module
    plain: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """The layers of a model in the order of its forward pass.

    Attributes:
        links: a module that runs twice is there twice; of no use where the model is no chain.
        broken: which module makes it none, and why; "" for a chain.
    """

    links: tuple[Link, ...]
    broken: str = ""


class _Broken(Exception):
    """No chain, and why."""


def of(model: nn.Module) -> Chain:
    """The chain that a model is: a Sequential (nested ones count as one) of linear layers, or convolutions of one
    group, with elementwise modules and Flatten between them; or one such layer.

    Flatten reshapes the input, or stands between the channels of a convolution and a linear layer; it must keep samples
    apart (start_dim of at least 1). What has a forward of its own is taken for none of these. Whether sizes fit is not
    looked at: see `mismatch`.
    """
    root, _ = layers.unwrap(model)
    if what := layers.converted(root):
        return Chain((), f"the model is {what}, its layers are no longer torch.nn's")
    links: list[Link] = []
    flat: nn.Module | None = None  # since the last layer
    try:
        for name, module in _parts("", root):
            if _runs_as(module, "Flatten"):
                flat = _apart(name, module)
            elif any(_runs_as(module, kind) for kind in _LINEAR):
                links.append(_link(name, module, links[-1] if links else None, flat))
                flat = None
            elif not any(_runs_as(module, kind) for kind in ELEMENTWISE):
                raise _Broken(f"{_describe(name, module)}{_own(module)}, neither linear nor elementwise")
    except _Broken as error:
        return Chain((), str(error))
    return Chain(tuple(links)) if links else Chain((), f"{type(root).__name__} has no linear layer")


def _parts(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What a module runs, one after the other."""
    if not _runs_as(module, "Sequential"):
        yield name, module
        return
    for key, child in module._modules.items():  # named_children would leave out what comes twice
        if child is not None:
            yield from _parts(f"{name}.{key}" if name else key, child)


def _link(name: str, module: nn.Module, before: Link | None, flat: nn.Module | None) -> Link:
    groups: Any = getattr(module, "groups", 1)
    if groups != 1:
        raise _Broken(f"{_describe(name, module)} of {groups} groups, expected 1")
    link = Link(name or layers.ROOT, module, _runs_as(module, "Linear"))
    if before is not None and link.plain != before.plain:
        last = len(getattr(before.module, "kernel_size", ())) + 1
        if before.plain or getattr(flat, "start_dim", None) != 1 or getattr(flat, "end_dim", None) not in (-1, last):
            between = "" if before.plain else ", with no Flatten of channels and positions between them"
            raise _Broken(f"{_describe(name, module)} after {before.name!r}, a {type(before.module).__name__}{between}")
    return link


def _apart(name: str, module: nn.Module) -> nn.Module:
    start: Any = getattr(module, "start_dim", 1)
    if start < 1:
        raise _Broken(f"{_describe(name, module)} with start_dim={start}, which mixes samples")
    return module


def _runs_as(module: nn.Module, kind: str) -> bool:
    """Whether a module's forward is that of torch.nn's `kind`, which it or its class may have replaced."""
    from torch import nn

    cls = getattr(nn, kind, None)
    own = "forward" in vars(module)
    return cls is not None and isinstance(module, cls) and type(module).forward is cls.forward and not own


def _describe(name: str, module: nn.Module) -> str:
    kind = layers.kind_of(module)
    return f"{name!r} is a {kind}" if name else f"the model is a {kind}"


def _own(module: nn.Module) -> str:
    from torch import nn

    known = [getattr(nn, kind) for kind in ("Sequential", *_LINEAR, *ELEMENTWISE) if hasattr(nn, kind)]
    return " with a forward of its own" if isinstance(module, tuple(known)) else ""


def named(checkpoint: Checkpoint, names: object, function: str) -> tuple[Stored, ...]:
    """The weights of layers that are a chain, by their names.

    Args:
        names: of layers as a report has them, or of tensors, in the order of the forward pass.

    Raises:
        DomainError: no sequence of names. SelectionError: a name that no weight has. ShapeError: sizes that do not
        chain, or a convolution of several groups.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise DomainError(f"{function}: got chain={names!r}, expected a sequence of names of layers")
    several = tuple(names)
    if not several or not all(isinstance(name, str) for name in several):
        raise DomainError(f"{function}: got chain={several!r}, expected names of layers, at least one")
    known = _known(checkpoint)
    chain = tuple(known[name] if name in known else _missing(checkpoint, name, known, function) for name in several)
    if wrong := mismatch(chain, several):
        raise ShapeError(f"{function}: chain: {wrong}")
    return chain


def _known(checkpoint: Checkpoint) -> dict[str, Stored]:
    known: dict[str, Stored] = {}
    for stored in checkpoint.weights:
        known.setdefault(stored.layer, stored)
    for stored in checkpoint.weights:
        for other in (*stored.aliases, stored.name):
            known.setdefault(other, stored)
    return known


def _missing(checkpoint: Checkpoint, name: str, known: Iterable[str], function: str) -> Stored:
    for skip in checkpoint.skipped:
        if name in (skip.name, skip.name.removesuffix(".weight")):
            raise SelectionError(f"{function}: chain: {shown(skip.name)!r} is no weight to measure: {skip.reason}")
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; the nearest name is {near[0]!r}" if near else ""
    raise SelectionError(f"{function}: chain: got {name!r}, which no weight of {checkpoint.source} has{hint}")


def inside(checkpoint: Checkpoint, source: Any) -> tuple[tuple[Stored, ...], str]:
    """The weights of the chain that a source is by itself, or none and the reason."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(source, torch.nn.Module):
        what = "a state_dict" if checkpoint.source == "state_dict" else "a file"
        return (), f"{what} has no order of layers"
    chain = of(source)
    if chain.broken:
        return (), chain.broken
    known = _known(checkpoint)
    names = [link.name for link in chain.links]
    for name in names:
        if name not in known:
            why = (skip.reason for skip in checkpoint.skipped if skip.name in (f"{name}.weight", "weight"))
            return (), f"the weight of {name!r} is not measured: {next(why, 'not there')}"
    weights = tuple(known[name] for name in names)
    wrong = mismatch(weights, names)
    return ((), wrong) if wrong else (weights, "")


def mismatch(chain: Sequence[Stored], names: Sequence[str]) -> str:
    """Which two layers do not follow each other, or which one cannot be in a chain; "" where all is well."""
    for name, stored in zip(names, chain, strict=True):
        if stored.groups != 1:
            return f"{name!r} is a convolution of {stored.groups} groups, expected 1"
    for i in range(1, len(chain)):
        (outputs, _), (_, inputs) = _sizes(chain[i - 1]), _sizes(chain[i])
        if outputs != inputs:
            flat = len(chain[i - 1].shape) > 2 == len(chain[i].shape) and inputs % outputs == 0
            what = "channels" if len(chain[i - 1].shape) > 2 else "outputs"
            hint = f": positions of its maps were flattened, {inputs // outputs} of each channel" if flat else ""
            if len(chain[i].shape) > 2 and outputs % inputs == 0:
                hint = f": one of {outputs // inputs} groups has so many, and is no link of a chain"
            return (
                f"{names[i]!r} has {inputs} inputs, and {names[i - 1]!r} before it has {outputs} {what}{hint};"
                " expected as many"
            )
    return ""


def _sizes(stored: Stored) -> tuple[int, int]:
    """Outputs and inputs; of a convolution, channels."""
    first, second = stored.shape[:2]
    return (second, first) if stored.inputs_first else (first, second)
