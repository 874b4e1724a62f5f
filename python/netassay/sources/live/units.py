"""Which axis of a layer's output has its units: the one whose extent is the number of units that the layer declares.

The class gives the usual axis, the weight and attributes such as `out_features` the number, the output decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from netassay.sources.layers import kind_of, lazy

if TYPE_CHECKING:
    from torch import nn


class Units(NamedTuple):
    """Where the units of an output lie.

    Attributes:
        axis: from 0; -1 where none may be taken for it, `why` says the reason.
        guessed: no axis, or several, have the extent that is declared, or nothing is declared.
    """

    axis: int
    guessed: bool = False
    why: str = ""


def units_of(module: nn.Module, shape: tuple[int, ...]) -> Units:
    """The axis of the units in an output of at least one axis.

    The usual axis of the class is taken where its extent is the declared number, otherwise the only other axis with
    that extent; the first axis, the batch, only where the class has a form without a batch.
    """
    axes = len(shape)
    usual, declared = _usual(module, axes), dict.fromkeys(_declared(module))
    ours = _forward_is_of_torch(module)
    for width in declared:
        found = _decided(shape, width, usual, ours)
        if found is not None:
            return found
    if axes == 1 and declared:
        widths = " or ".join(map(str, declared))
        return Units(-1, why=f"its output of shape {shape} has no axis for its {widths} units")
    by_count = 1 if axes in (4, 5) else axes - 1
    return Units(usual if usual and declared else by_count, guessed=True)


def declares(module: nn.Module) -> bool:
    """Whether a module says how many units it has."""
    return next(_declared(module), None) is not None


def placed_by_functions(module: nn.Module) -> bool:
    """Whether the functions that a module calls say where its units lie: torch's own layers, but for recurrent ones.

    Attention too: a hook on it would take it off its fast path.
    """
    from torch import nn

    return _forward_is_of_torch(module) and not isinstance(module, (nn.RNNBase, nn.RNNCellBase))


def _decided(shape: tuple[int, ...], width: int, usual: int | None, ours: bool) -> Units | None:
    """The axis with an extent of `width`; None where there is none.

    A class with a forward of its own may work along another axis than its base: a second axis of the same extent makes
    the usual one a guess.
    """
    axes = len(shape)
    found = [axis for axis in range(axes) if shape[axis] == width and (axis or axes == 1 or usual == 0)]
    if not found:
        return None
    if ours and usual in found:
        return Units(found[found.index(usual)])
    if found == [0] and axes > 1:
        return Units(0, guessed=True)  # a sample without its batch, or the batch
    found = [axis for axis in found if axis or axes == 1]
    if len(found) == 1:
        return Units(found[0])
    by_count = 1 if axes in (4, 5) else axes - 1
    return Units(next(axis for axis in (usual, by_count, found[-1]) if axis in found), guessed=True)


def _forward_is_of_torch(module: nn.Module) -> bool:
    forward = vars(module).get("forward", getattr(type(module), "forward", None))
    return str(getattr(forward, "__module__", "")).startswith("torch.")


def _usual(module: nn.Module, axes: int) -> int | None:
    """The axis that torch's class of this module puts units on; None for other classes."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.conv import _ConvNd

    if isinstance(module, _ConvNd):
        at = axes - len(module.kernel_size) - 1
        return at if at in (0, 1) else None
    if isinstance(module, _NormBase) and axes >= 2:
        no_batch: Any = getattr(module, "_get_no_batch_dim", None)  # of instance norms
        return 0 if no_batch is not None and axes == no_batch() else 1
    if isinstance(module, nn.GroupNorm) and axes >= 2:
        return 1
    last = (nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Embedding, nn.EmbeddingBag)
    return axes - 1 if isinstance(module, (*last, *_normalizing())) else None


def _normalizing() -> tuple[type[nn.Module], ...]:
    from torch import nn

    return nn.LayerNorm, getattr(nn, "RMSNorm", nn.LayerNorm)


def _declared(module: nn.Module) -> Iterator[int]:
    """How many units a layer says it has; first what its weight says, which runs, then its attributes, which may be
    left over from before a pruning. Of classes that are not torch's only attributes that are no container's."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

    if isinstance(module, _ConvNd):
        transposed = isinstance(module, _ConvTransposeNd)
        yield from _of_weight(module, 1 if transposed else 0, len(module.kernel_size) + 2, _groups(module, transposed))
        yield from _attributes(module, "out_channels")
    elif isinstance(module, nn.Linear):
        yield from _of_weight(module, 0, 2)
        yield from _attributes(module, "out_features")
    elif isinstance(module, nn.Bilinear):
        yield from _of_weight(module, 0, 3)
        yield from _attributes(module, "out_features")
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        yield from _of_weight(module, 1, 2)
        yield from _attributes(module, "embedding_dim")
    elif isinstance(module, (_NormBase, nn.GroupNorm)):
        yield from _of_weight(module, 0, 1)
        yield from _attributes(module, "num_features", "num_channels")
    elif isinstance(module, _normalizing()):
        yield from _of_weight(module, 0, 1)
        yield from _attributes(module, "normalized_shape")
    elif isinstance(module, nn.RNNBase):
        yield (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
    elif isinstance(module, nn.RNNCellBase):
        yield module.hidden_size
    elif isinstance(module, nn.MultiheadAttention):
        yield module.embed_dim
    else:
        yield from _attributes(module, "out_features", "out_channels", "outfeatures")
        if next(module.children(), None) is None:
            yield from _attributes(module, "num_features", "num_channels", "normalized_shape", "embedding_dim")
        if kind_of(module) == "Conv1D":
            yield from _attributes(module, "nf")


def _groups(module: Any, transposed: bool) -> int:
    return int(module.groups) if transposed else 1


def _of_weight(module: nn.Module, axis: int, axes: int, times: int = 1) -> Iterator[int]:
    """From a floating weight of the class's own number of axes; packed and computed ones say nothing."""
    weight = module._parameters.get("weight", vars(module).get("weight"))
    if weight is None or lazy(weight) or not weight.is_floating_point() or weight.ndim != axes:
        return
    yield int(weight.shape[axis]) * times


def _attributes(module: nn.Module, *names: str) -> Iterator[int]:
    for name in names:
        value = getattr(module, name, None)
        if isinstance(value, (tuple, list)) and len(value) == 1:  # of several normalized axes none is that of the units
            value = value[0]
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            yield value
