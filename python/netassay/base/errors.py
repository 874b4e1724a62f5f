"""The exceptions netassay raises; each is a NetassayError and the standard exception a caller would expect.

They are made by the extension, so that native code and Python raise the same types.
"""

from netassay._core import (
    CorruptCheckpoint,
    DomainError,
    DTypeError,
    ForkError,
    LayoutError,
    LimitExceeded,
    NetassayError,
    NonFinite,
    NothingObserved,
    SelectionError,
    ShapeError,
    StateError,
    TooFewRows,
    UnsupportedLayout,
)

__all__ = [
    "CorruptCheckpoint",
    "DTypeError",
    "DomainError",
    "ForkError",
    "LayoutError",
    "LimitExceeded",
    "NetassayError",
    "NonFinite",
    "NothingObserved",
    "SelectionError",
    "ShapeError",
    "StateError",
    "TooFewRows",
    "UnsupportedLayout",
]
