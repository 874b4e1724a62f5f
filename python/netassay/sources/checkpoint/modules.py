"""The tensors of a module, which also says what each of them is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from netassay.base import arrays
from netassay.base.arrays import View
from netassay.base.errors import UnsupportedLayout
from netassay.base.text import shown
from netassay.sources import layers
from netassay.sources.checkpoint import tensors
from netassay.sources.checkpoint.packed import holds_packed
from netassay.sources.checkpoint.tensors import Found, Source

if TYPE_CHECKING:
    from torch import Tensor, nn


class Module(Source):
    """The tensors of a module. What it makes of them when it runs (weight norm, pruning) is made one at a time."""

    def __init__(self, model: nn.Module, function: str) -> None:
        self._function = function
        root, self.wrappers = layers.unwrap(model)
        self.fingerprint = layers.fingerprint(root)
        self.found = tuple(_walk(root))

    def read(self, found: Found, threads: int | None) -> View:
        if arrays.is_tensor(found.handle):
            return arrays.weight_view(found.handle, f"{self._function}: {found.name}")
        try:
            made = found.handle()
        except Exception as error:
            raise UnsupportedLayout(f"{self._function}: {found.name}: its module cannot make it ({error})") from error
        return arrays.weight_view(made, f"{self._function}: {found.name}")

    def close(self) -> None:
        self.found = ()


def _walk(root: nn.Module) -> Iterator[Found]:
    made: dict[int, list[Found]] = {}  # what a module makes, once for all its names
    for prefix, module in root.named_modules(remove_duplicate=False):
        start = f"{prefix}." if prefix else ""
        recipes = _recipes(module)
        kind = layers.kind_of(module)
        if id(module) not in made:
            made[id(module)] = [_compose(module, name, make) for name, make in recipes.items()]
        for one in made[id(module)]:
            yield replace(one, name=start + one.name, kind=kind, **_use(module, one.name))
        for name, value in module._parameters.items():
            if value is None:
                continue
            one = replace(tensors.describe(start + name, value), kind=kind, **_use(module, name))
            of = _ingredient(prefix, name, recipes)
            yield (replace(one, refusal=f"composed into {shown(of)}", counts=False) if of and not one.refusal else one)
        for name, value in module._buffers.items():
            if value is not None:
                one = replace(tensors.describe(start + name, value), kind=kind)
                yield one if holds_packed(name) else replace(one, refusal="buffer", counts=False)
        yield from _quantised(start, module, kind)


def _quantised(start: str, module: nn.Module, kind: str) -> Iterator[Found]:
    """The weight of a layer that torch has quantised, which is packed and no parameter."""
    if layers.quantised(module) and callable(weight := getattr(module, "weight", None)):
        try:
            shape = tuple(map(int, weight().shape))
        except Exception:  # whatever a packed weight raises
            shape = ()
        yield Found(f"{start}weight", "qint8", shape, (id(module), "weight"), kind=kind, refusal="quantised by torch")


def _use(module: nn.Module, name: str) -> dict[str, Any]:
    """What a module does with one of its tensors."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

    if isinstance(module, (_NormBase, nn.LayerNorm, nn.GroupNorm, getattr(nn, "RMSNorm", nn.LayerNorm))):
        return {"refusal": "norm"} if len(_plain_shape(module, name)) > 1 else {}
    if isinstance(module, _ConvNd) or _scripted(module, "Conv"):
        transposed = isinstance(module, _ConvTransposeNd) or _scripted(module, "ConvTranspose")
        groups = int(getattr(module, "groups", 1))
        return {"layer": True, "inputs_first": transposed, "groups": groups} if name == "weight" else {}
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or _scripted(module, "Embedding"):
        return {"inputs_first": True}
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # transformers': y = x W + b
        return {"layer": True, "inputs_first": True} if name == "weight" else {}
    kinds = (nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
    layer = isinstance(module, kinds) or _scripted(module, "Linear")
    return {"layer": True, "inputs_first": False} if layer and "weight" in name else {}


def _scripted(module: nn.Module, start: str) -> bool:
    """Whether torch.jit.script has made a module of torch.nn's whose class begins so."""
    return layers.scripted(module) and str(module.original_name).startswith(start)


def _plain_shape(module: nn.Module, name: str) -> tuple[int, ...]:
    value = module._parameters.get(name)
    return () if value is None or tensors.refusal_of(value) else tuple(value.shape)


def _recipes(module: nn.Module) -> dict[str, Callable[[], Tensor]]:
    """What a module makes of its parameters when it runs: name -> how. Nothing that is stored changes."""
    from torch.nn.utils.prune import BasePruningMethod
    from torch.nn.utils.spectral_norm import SpectralNorm
    from torch.nn.utils.weight_norm import WeightNorm

    recipes: dict[str, Callable[[], Tensor]] = {}
    for name, steps in getattr(module, "parametrizations", {}).items():
        recipes[name] = lambda steps=steps: _still(steps)  # type: ignore[misc]
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            recipes[hook.name] = lambda hook=hook: hook.compute_weight(module)  # type: ignore[misc]
        elif isinstance(hook, SpectralNorm):
            recipes[hook.name] = lambda hook=hook: hook.compute_weight(module, do_power_iteration=False)  # type: ignore[misc]
        elif isinstance(hook, BasePruningMethod):
            recipes[hook._tensor_name] = lambda hook=hook: hook.apply_mask(module)  # type: ignore[misc]
    return recipes


def _still(steps: nn.Module) -> Tensor:
    """A parametrization's result, with what it would do in training only (a power iteration, a draw) left out."""
    training = [module for module in steps.modules() if module.training]
    try:
        for module in training:
            module.training = False
        result: Tensor = steps()
        return result
    finally:
        for module in training:
            module.training = True


def _compose(module: nn.Module, name: str, make: Callable[[], Tensor]) -> Found:
    def composed() -> Tensor:
        import torch

        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # a parametrization of the user's may draw
            return make().detach()

    try:
        one = tensors.describe(name, composed(), fresh=True)
    except Exception as error:  # whatever the user's parametrization raises
        reason = f"parametrized: its module cannot make it ({type(error).__name__})"
        return Found(name, "float32", (0,), (id(module), name), refusal=reason)
    return replace(one, region=(id(module), name), handle=composed)


def _ingredient(prefix: str, name: str, recipes: Mapping[str, object]) -> str:
    """The tensor that a parameter is composed into, or ""."""
    if ".parametrizations." in f".{prefix}.":
        owner, _, rest = f".{prefix}.".rpartition(".parametrizations.")
        return f"{owner[1:]}.{rest.split('.')[0]}".lstrip(".")
    start = f"{prefix}." if prefix else ""
    return next((start + of for of in recipes if name in (f"{of}_g", f"{of}_v", f"{of}_orig")), "")
