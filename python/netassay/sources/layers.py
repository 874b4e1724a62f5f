"""The layers of a module: which a pattern selects, what each is, and where the units of its output lie."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netassay.sources import patterns as _patterns

if TYPE_CHECKING:
    from torch import Tensor, nn

#: The name of the watched module itself.
ROOT = "(root)"


@dataclass(frozen=True, slots=True)
class Layer:
    """One selected module.

    Attributes:
        name: qualified name; aliases: other names of the same module.
    """

    name: str
    module: nn.Module
    aliases: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Class name, without the prefix that parametrization puts on it; a lazy module's changes when it runs."""
        kind = type(self.module).__name__
        return kind.removeprefix("Parametrized") if hasattr(self.module, "parametrizations") else kind


@dataclass(frozen=True, slots=True)
class Rows:
    """The part of a layer's output that is measured.

    Attributes:
        tensor: of any number of axes; layout: "rows" (units on the last axis) or "channels_first" (on axis 1).
        time_first: the row axes are (T, N) where those of the input are (N, T).
        guessed: the unit axis is a guess from the number of axes.
    """

    tensor: Tensor
    layout: str
    time_first: bool = False
    guessed: bool = False

    @property
    def leading(self) -> tuple[int, ...]:
        """Extents of the row axes."""
        shape = tuple(self.tensor.shape)
        return shape[:1] + shape[2:] if self.layout == "channels_first" else shape[:-1]

    @property
    def width(self) -> int:
        """Units per row."""
        return int(self.tensor.shape[1 if self.layout == "channels_first" else -1])


def unwrap(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The module inside data-parallel and compile wrappers, and the wrappers' class names."""
    wrappers = []
    inner = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
    while type(model).__name__ in inner:
        wrappers.append(type(model).__name__)
        model = getattr(model, inner[type(model).__name__])
    return model, tuple(wrappers)


def named(model: nn.Module) -> dict[str, nn.Module]:
    """Every module under each of its names."""
    return {name or ROOT: module for name, module in model.named_modules(remove_duplicate=False)}


def parametrizing(model: nn.Module) -> set[int]:
    """Modules that compute parameters, by identity: what they are shown is weights."""
    from torch.nn.utils.parametrize import ParametrizationList

    lists = (module for module in model.modules() if isinstance(module, ParametrizationList))
    return {id(module) for each in lists for module in each.modules()}


def compiled(model: nn.Module) -> bool:
    """Whether the model, or a module inside it, runs compiled: hooks that are hung on it now may not run."""
    return any(
        type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def select(model: nn.Module, patterns: object) -> dict[str, Layer]:
    """The layers that patterns select, in the order of the module tree.

    Args:
        patterns: a glob on qualified names (fnmatch; * crosses dots), a module type, or a sequence of them. A leading !
            excludes; the last match wins. "*", and any glob with wildcards, stands for the layers that carry weights
            (linear, convolution, recurrent, embedding, attention); a glob that matches none of these stands for all it
            matches. A name without wildcards or a type stands for exactly what it names.

    Raises:
        SelectionError: a pattern matches nothing, or nothing is left.
    """
    names: dict[int, list[str]] = {}
    modules: dict[int, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name or ROOT)
        modules[id(module)] = module
    usual = _usual(modules)

    def matches(pattern: object, excludes: bool) -> list[int]:
        if isinstance(pattern, type):
            return [key for key, module in modules.items() if isinstance(module, pattern)]
        found = _patterns.named(str(pattern), names)
        if excludes or not _patterns.wild(str(pattern)):
            return found
        carrying = [key for key in found if key in usual]
        return carrying if pattern == "*" else carrying or found

    keys = _patterns.choose(patterns, names, of=type(model).__name__, kind="module", matches=matches, types=True)
    layers = [Layer(names[key][0], modules[key], tuple(names[key][1:])) for key in keys]
    return {layer.name: layer for layer in layers}


def _usual(modules: Mapping[int, nn.Module]) -> set[int]:
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    kinds = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.Embedding, nn.EmbeddingBag)
    usual = {key for key, module in modules.items() if isinstance(module, (*kinds, nn.MultiheadAttention))}
    # Attention reads its output projection's weight itself; that module's forward never runs.
    attention = [module for module in modules.values() if isinstance(module, nn.MultiheadAttention)]
    return usual - {id(module.out_proj) for module in attention}


def tensor_of(module: nn.Module, output: object) -> tuple[Tensor | None, bool]:
    """The tensor in a layer's output that is measured, and whether its padding is already out (a packed sequence)."""
    from torch import nn
    from torch.nn.utils.rnn import PackedSequence

    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention, nn.RNNCellBase)) and isinstance(output, tuple):
        if isinstance(output[0], PackedSequence):
            return output[0].data, True
        return _first_tensor(output[0]), False
    return _first_tensor(output), False


def rows_of(module: nn.Module, tensor: Tensor) -> Rows:
    """Where a layer's output has its rows and units."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.conv import _ConvNd

    axes = tensor.ndim
    if isinstance(module, _ConvNd):
        unbatched = axes == len(module.kernel_size) + 1
        return Rows(tensor.unsqueeze(0) if unbatched else tensor, "channels_first")
    if isinstance(module, _NormBase) and axes >= 2:
        no_batch: Any = getattr(module, "_get_no_batch_dim", None)  # of instance norms
        unbatched = no_batch is not None and axes == no_batch()
        return Rows(tensor.unsqueeze(0) if unbatched else tensor, "channels_first")
    if isinstance(module, nn.GroupNorm) and axes >= 2:
        return Rows(tensor, "channels_first")
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return Rows(tensor, "rows", time_first=not module.batch_first)
    known = (nn.Linear, nn.Bilinear, nn.RNNCellBase, nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)
    if isinstance(module, (*known, getattr(nn, "RMSNorm", nn.LayerNorm))):
        return Rows(tensor, "rows")
    return Rows(tensor, "channels_first" if axes in (4, 5) else "rows", guessed=True)


def _first_tensor(output: object) -> Tensor | None:
    import torch

    if isinstance(output, torch.Tensor):
        return output
    parts: Iterable[object] = ()
    if isinstance(output, Mapping):
        parts = output.values()
    elif isinstance(output, (tuple, list)):
        parts = output
    elif dataclasses.is_dataclass(output):
        parts = (getattr(output, field.name) for field in dataclasses.fields(output))
    return next((found for part in parts if (found := _first_tensor(part)) is not None), None)


def with_tensor(output: Any, tensor: Tensor) -> Any:
    """A layer's output with `tensor` in the place of the one that `tensor_of` finds; the output is not changed."""
    import torch

    if isinstance(output, torch.Tensor):
        return tensor
    if isinstance(output, Mapping):
        key = next(key for key, part in output.items() if _first_tensor(part) is not None)
        replaced: Any = copy.copy(output)
        replaced[key] = with_tensor(output[key], tensor)
        return replaced
    if isinstance(output, (tuple, list)):  # a packed sequence too: its data come first
        at = next(i for i, part in enumerate(output) if _first_tensor(part) is not None)
        parts = [*output[:at], with_tensor(output[at], tensor), *output[at + 1 :]]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    names = [field.name for field in dataclasses.fields(output)]
    name = next(name for name in names if _first_tensor(getattr(output, name)) is not None)
    return dataclasses.replace(output, **{name: with_tensor(getattr(output, name), tensor)})


def weight_shape(module: nn.Module) -> tuple[int, ...] | None:
    """Shape of the layer's weight, without computing a parametrized one."""
    parametrized = getattr(module, "parametrizations", None)
    if parametrized is not None and "weight" in parametrized:
        originals = [p for p in parametrized["weight"].parameters(recurse=False) if not lazy(p)]
        return tuple(max(originals, key=lambda p: p.numel()).shape) if originals else None
    weight = module._parameters.get("weight", vars(module).get("weight"))
    return None if weight is None or lazy(weight) else tuple(weight.shape)


def parameters(modules: Iterable[nn.Module]) -> dict[object, int]:
    """Identity of each parameter -> number of elements; a tensor that several layers share is there once."""
    found: dict[object, int] = {}
    for module in modules:
        for parameter in module.parameters():
            if not lazy(parameter):
                found[identity(parameter)] = parameter.numel()
    return found


def identity(parameter: Tensor) -> object:
    """Equal for two parameters that are the same numbers in memory."""
    import torch

    if type(parameter) is not torch.nn.Parameter or parameter.is_meta or parameter.layout != torch.strided:
        return id(parameter)
    address = parameter.untyped_storage().data_ptr()
    return (address, parameter.storage_offset(), tuple(parameter.shape)) if address else id(parameter)


def lazy(parameter: Tensor) -> bool:
    """Whether its shape is not known before the first run."""
    from torch.nn.parameter import is_lazy

    return bool(is_lazy(parameter))


def fingerprint(model: nn.Module) -> str:
    """Hash of the names, dtypes and shapes of a model's parameters, never of their values."""
    lines = sorted(
        f"{name} {parameter.dtype} {'lazy' if lazy(parameter) else tuple(parameter.shape)}"
        for name, parameter in model.named_parameters(remove_duplicate=False)
    )
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()
