"""What every mergeable state can do, whatever it counts: copy, add, pickle, and a file that keeps it exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from netassay.base import statefile
from netassay.base.errors import StateError

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


class NativeState(State):
    """A state whose content is one object of the extension, which Python only names, checks and files."""

    __slots__ = ("_native",)

    _native: Any

    @classmethod
    def _wrap(cls, native: Any) -> Self:
        self = cls.__new__(cls)
        self._native = native
        return self

    def _of(self, other: Self) -> Any:
        """The native object of a state to merge. Raises TypeError: not a state of this class."""
        name = type(self).__name__
        if not isinstance(other, type(self)):
            raise TypeError(f"{name}.merge: got {type(other).__name__}, expected {name}")
        return other._native

    def merge(self, other: Self) -> None:
        """Takes all that `other` has seen; `other` is not changed."""
        self._native.merge(self._of(other))

    def clear(self) -> None:
        """Forgets all that was seen and keeps the options."""
        self._native.clear()

    def copy(self) -> Self:
        """A state of its own with the same content."""
        return self._wrap(self._native.copy())

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return int(self._native.nbytes)

    @classmethod
    def from_tensors(cls, config: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """The state whose `config()` and `tensors()` these are. Raises StateError when they do not fit together."""
        try:
            return cls._restored(config, tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"{cls.__name__}: the tensors do not make a state ({error})") from error

    @classmethod
    @abstractmethod
    def _restored(cls, config: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """What `from_tensors` returns; raises KeyError, TypeError or ValueError when they do not fit together."""
