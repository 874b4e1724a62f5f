"""Checks of options: what each function asks of its arguments, and the one form of the error."""

from __future__ import annotations

from numbers import Integral, Real

from netassay.base.errors import DomainError


def require(function: str, holds: bool, option: str, got: object, expected: str) -> None:
    """Raises DomainError "function: got option=..., expected ..." unless `holds`."""
    if not holds:
        raise DomainError(f"{function}: got {option}={got!r}, expected {expected}")


def whole(value: object, least: int = 1) -> bool:
    """Whether a value is an integer of at least `least`; a bool is none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def real(value: object) -> bool:
    """Whether a value is a real number; a bool is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def indexes(value: object) -> bool:
    """Whether a value stands for an integer as Python's own indices do; a bool does not."""
    return not isinstance(value, bool) and hasattr(value, "__index__")
