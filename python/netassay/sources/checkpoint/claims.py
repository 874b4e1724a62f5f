"""What the machine of `pickles` builds: sizes and names, and where the bytes of tensors lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Global(NamedTuple):
    path: str


class Storage(NamedTuple):
    """Bytes of a file that a tensor is laid over: those of `key`, from `offset` on."""

    key: str
    dtype: str
    offset: int
    nbytes: int


class Claim(NamedTuple):
    """A tensor: where it begins, how many bytes it says it has, and how they are laid out.

    Attributes:
        stride: in elements. span: bytes from its first element to the end of its last.
    """

    storage: Storage
    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    span: int


class Other(NamedTuple):
    """A tensor whose values do not lie in a storage as they are, and why."""

    refusal: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Tuple:
    items: list[Any]
    weight: int  # elements that hashing it visits
    depth: int


@dataclass(eq=False, slots=True)
class Box:
    """A list, a dict, a set, or any object.

    Attributes:
        kind: "list", "dict", "set", or the path of what made it.
        table: of a dict, under its keys as texts.
    """

    kind: str
    size: int = 0
    items: list[Any] = field(default_factory=list)  # of a list
    table: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Result:
    """What a pickle builds.

    Attributes:
        root: made of the classes above.
        storages: key -> bytes it claims to have.
        beyond: bytes that tensors claim beyond their storage (an expanded tensor: many elements, one of them stored).
    """

    root: Any
    storages: dict[str, int]
    beyond: int
