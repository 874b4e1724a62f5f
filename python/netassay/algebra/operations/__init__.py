"""The rules of torch's operations; importing this fills the table of semantics."""

from netassay.algebra.operations import mixing, pooling, unitwise

__all__ = ["mixing", "pooling", "unitwise"]
