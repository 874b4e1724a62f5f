"""The layers of a module: which a pattern selects, and what each is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netassay.base.errors import SelectionError
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
        """See `kind_of`; a lazy module's changes when it runs."""
        return kind_of(self.module)


def checked(model: Any, function: str) -> nn.Module:
    """A model that a function was given. Raises TypeError: it is none; ImportError: torch is not installed."""
    try:
        from torch import nn
    except ImportError as error:
        raise ImportError(
            f"{function}: got no torch ({error}), expected it to be installed: pip install 'netassay[torch]'"
        ) from error
    if not isinstance(model, nn.Module):
        raise TypeError(f"{function}: got {type(model).__name__}, expected a torch.nn.Module")
    return model


def kind_of(module: nn.Module) -> str:
    """Class name of a module, without the prefix that parametrization puts on it."""
    kind = str(module.original_name) if scripted(module) else type(module).__name__
    return kind.removeprefix("Parametrized") if hasattr(module, "parametrizations") else kind


def scripted(module: nn.Module) -> bool:
    """Whether torch.jit has made the module: its class is not that of what it was made from."""
    return type(module).__module__ == "torch.jit._script" and hasattr(module, "original_name")


def quantised(module: nn.Module) -> bool:
    """Whether the module is one of those that torch puts in place of a layer to run it in integers."""
    return type(module).__module__.startswith(
        ("torch.ao.nn.quantized", "torch.nn.quantized", "torch.ao.nn.intrinsic.q")
    )


def converted(model: nn.Module) -> str:
    """What has become of a model's layers where they are torch's no longer: "quantised", "scripted" or ""."""
    if any(quantised(module) for module in model.modules()):
        return "quantised"
    return "scripted" if any(scripted(module) for module in model.modules()) else ""


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
            (linear, convolution, recurrent, embedding, attention, transformers' Conv1D); a glob that matches none of
            these stands for all it matches. A name without wildcards or a type stands for exactly what it names.

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

    try:
        keys = _patterns.choose(patterns, names, of=type(model).__name__, kind="module", matches=matches, types=True)
    except SelectionError as error:
        what = converted(model)
        why = (
            f": the model is {what}, its layers are no longer torch.nn's; watch it before it is {what}" if what else ""
        )
        raise SelectionError(f"{error}{why}") from None
    layers = [Layer(names[key][0], modules[key], tuple(names[key][1:])) for key in keys]
    return {layer.name: layer for layer in layers}


def _usual(modules: Mapping[int, nn.Module]) -> set[int]:
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    kinds = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.Embedding, nn.EmbeddingBag)
    usual = {
        key
        for key, module in modules.items()
        if isinstance(module, (*kinds, nn.MultiheadAttention)) or of_transformers(module)
    }
    # Attention reads its output projection's weight itself; that module's forward never runs.
    attention = [module for module in modules.values() if isinstance(module, nn.MultiheadAttention)]
    return usual - {id(module.out_proj) for module in attention}


def of_transformers(module: nn.Module) -> bool:
    """Whether a module is GPT-2's Conv1D: a linear layer that stores its weight as (in, out)."""
    weight = module._parameters.get("weight") if kind_of(module) == "Conv1D" else None
    return weight is not None and weight.ndim == 2 and isinstance(getattr(module, "nf", None), int)


def listing(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True, slots=True)
class Unchosen:
    """Modules of one kind that have parameters of their own and that "*" left out.

    Attributes:
        parameters: elements that no chosen layer has, each counted once.
    """

    kind: str
    names: tuple[str, ...]
    parameters: int


def unchosen(model: nn.Module, patterns: Sequence[object], chosen: Iterable[nn.Module]) -> list[Unchosen]:
    """What "*" does not stand for among the modules with parameters of their own, the most parameters first.

    Empty where no pattern is "*"; what the patterns exclude by name or kind is left out because the user said so.
    """
    if "*" not in patterns:
        return []
    modules = {id(module): (name or ROOT, module) for name, module in model.named_modules()}
    usual = _usual({key: module for key, (_, module) in modules.items()})
    chosen = list(chosen)
    known = parameters(chosen)
    left = {id(inner) for module in chosen for inner in module.modules()} | parametrizing(model)
    left |= {id(inner) for key in usual for inner in modules[key][1].modules()}
    out = [pattern[1:] for pattern in patterns if isinstance(pattern, str) and pattern.startswith("!")]
    left |= {key for key, (name, _) in modules.items() if any(_patterns.fits(pattern, name) for pattern in out)}
    found: dict[str, tuple[list[str], int]] = {}
    for key, (name, module) in modules.items():
        own, packed = dict(_own(module)), _packed(module)
        if key in left or not (own or packed):
            continue
        kind = f"quantised {kind_of(module)}" if packed else kind_of(module)
        names, count = found.get(kind, ([], 0))
        found[kind] = [*names, name], count + sum(size for which, size in own.items() if which not in known)
        known |= own
    kinds = [Unchosen(kind, tuple(names), count) for kind, (names, count) in found.items()]
    return sorted(kinds, key=lambda kind: -kind.parameters)


def _packed(module: nn.Module) -> bool:
    """Whether a quantised module holds weights, which are no parameters."""
    kind = kind_of(module)
    carrying = kind.startswith(("Linear", "Conv", "RNN", "LSTM", "GRU", "Embedding")) and "Packed" not in kind
    return carrying and quantised(module)


def _own(module: nn.Module) -> Iterator[tuple[object, int]]:
    """Identity and size of the parameters that are a module's own, also of those that a parametrization holds."""
    parametrized: Any = getattr(module, "parametrizations", None)
    held = [] if parametrized is None else list(parametrized.parameters())
    for parameter in (*module.parameters(recurse=False), *held):
        if not lazy(parameter):
            yield identity(parameter), parameter.numel()


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
