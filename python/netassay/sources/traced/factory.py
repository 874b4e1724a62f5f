"""Text from a command line -> a model, and an example of its input."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from netassay.base.errors import DomainError

if TYPE_CHECKING:
    import torch
    from torch import nn


def made(place: str, *, meta: bool = False) -> nn.Module:
    """The model of "module:factory": what the factory makes, or the nn.Module of that name.

    Args:
        meta: on the meta device, where it takes no memory.

    Raises:
        DomainError: no such module or attribute, no nn.Module, or what the factory raised.
    """
    import torch
    from torch import nn

    name, _, attribute = place.partition(":")
    if not name or not attribute:
        raise DomainError(f"structure: got {place!r}, expected MODULE:FACTORY, such as mymodels:resnet")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(name)
        for part in attribute.split("."):
            found = getattr(found, part)
        with torch.device("meta") if meta else nullcontext():
            model = found if isinstance(found, nn.Module) else found()
    except Exception as error:
        raise DomainError(f"structure: {place!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise DomainError(f"structure: {place!r} gave {type(model).__name__}, expected a torch.nn.Module")
    return model


def example(inputs: Sequence[tuple[Sequence[int], str]]) -> tuple[Any, ...]:
    """Tensors of ones of these shapes and types.

    Raises:
        DomainError: a type that torch does not have.
    """
    import torch

    def ones(shape: Sequence[int], name: str) -> torch.Tensor:
        dtype = getattr(torch, name, None)
        if not isinstance(dtype, torch.dtype):
            raise DomainError(f"structure: got the type {name!r}, expected one of torch's, such as float32 or int64")
        return torch.ones(*shape, dtype=dtype)

    return tuple(ones(shape, name) for shape, name in inputs)
