"""What every mergeable state can do, whatever it counts: copy, add, pickle, and a file that keeps it exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from netassay.base import statefile

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from typing_extensions import Self


class State(ABC):
    """A value that takes data by `update` and other states by `merge`, in whatever order.

    Merging the empty state changes nothing; merge is associative and commutative (integers: bit for bit);
    update(a ++ b) = merge(update a, update b).
    """

    __slots__ = ("__weakref__",)

    #: What its files are called.
    kind: ClassVar[str]

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Takes all that `other` has seen; `other` is not changed."""

    @abstractmethod
    def clear(self) -> None:
        """Forgets all that was seen."""

    @abstractmethod
    def copy(self) -> Self:
        """A state of its own with the same content."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The options, as JSON can hold them."""

    @abstractmethod
    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """The content as named arrays, for a state file."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, config: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """The state whose `config()` and `tensors()` these are. Raises StateError when they do not fit together."""

    def __add__(self, other: Self) -> Self:
        if not isinstance(other, type(self)):
            return NotImplemented
        total = self.copy()
        total.merge(other)
        return total

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_tensors, (self.config(), self.tensors())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the state to a file (safetensors), whole or not at all."""
        statefile.save(path, kind=self.kind, config=self.config(), tensors=self.tensors())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The state that `save` wrote; it continues bit for bit. Raises StateError for a file that is not one."""
        return cls.from_tensors(*statefile.load(path, kind=cls.kind))
