"""Weights of many kinds and formats, and their spanning trees by scipy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from netassay.base.arrays import View

DTYPES = ["float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int8", "uint8"]
FLOATS = [dtype for dtype in DTYPES if "float" in dtype]


# ---- formats ----


@cache
def eight_bits(dtype: str) -> np.ndarray:
    """The value of each byte, from the definition of the format (OCP 8-bit floating point, 2023)."""
    exponent_bits, bias = (4, 7) if dtype == "float8_e4m3fn" else (5, 15)
    fraction_bits = 7 - exponent_bits
    values = []
    for byte in range(256):
        exponent = byte >> fraction_bits & (1 << exponent_bits) - 1
        fraction = (byte & (1 << fraction_bits) - 1) / (1 << fraction_bits)
        value = 2.0 ** (exponent - bias) * (1 + fraction) if exponent else 2.0 ** (1 - bias) * fraction
        if dtype == "float8_e4m3fn" and byte & 0x7F == 0x7F:
            value = np.nan
        if dtype == "float8_e5m2" and exponent == 31:
            value = np.nan if fraction else np.inf
        values.append(-value if byte & 0x80 else value)
    return np.array(values)


class Typed(NamedTuple):
    """A weight as it is given to a function, and its values: float32 where the format is narrower, else float64."""

    given: Any
    values: np.ndarray


def typed(x: np.ndarray, dtype: str) -> Typed:
    """x in another format; what lies outside its range becomes its largest value."""
    if dtype in ("int8", "uint8"):
        limits = np.iinfo(dtype)
        y = np.clip(np.rint(x), limits.min, limits.max).astype(dtype)
        return Typed(y, y.astype(np.float64))
    if dtype == "bfloat16":
        bits = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return Typed(View(bits, dtype), (bits.astype(np.uint32) << 16).view(np.float32))
    if dtype.startswith("float8"):
        table = eight_bits(dtype)
        positive = table[:128][np.isfinite(table[:128])]
        nearest = np.searchsorted((positive[1:] + positive[:-1]) / 2, np.abs(x)).astype(np.uint8)
        bits = nearest | np.where(x < 0, 0x80, 0).astype(np.uint8)
        return Typed(View(bits, dtype), table[bits].astype(np.float32))
    limit = float(np.finfo(dtype).max)
    y = np.clip(x, -limit, limit).astype(dtype)
    return Typed(y, y if dtype == "float64" else y.astype(np.float32))


# ---- kinds ----


def _sparse(g: np.random.Generator, m: int, n: int, density: float) -> np.ndarray:
    return g.standard_normal((m, n)) * (g.random((m, n)) < density)


def _without(g: np.random.Generator, m: int, n: int, rows: bool, cols: bool) -> np.ndarray:
    """A third of the rows, or of the columns, or of both, are zero."""
    x = g.standard_normal((m, n))
    if rows:
        x[g.random(m) < 1 / 3] = 0
    if cols:
        x[:, g.random(n) < 1 / 3] = 0
    return x


def _blocks(g: np.random.Generator, m: int, n: int, count: int, between: float) -> np.ndarray:
    """Blocks on the diagonal, rows and columns then permuted; weights between blocks are `between` times smaller."""
    row, col = g.permutation(m) % count, g.permutation(n) % count
    return g.standard_normal((m, n)) * np.where(row[:, None] == col, 1.0, between)


def _one_hot(g: np.random.Generator, m: int, n: int) -> np.ndarray:
    x = np.zeros((m, n))
    x[np.arange(m), g.integers(0, n, m)] = 1
    return x


def _levels(g: np.random.Generator, m: int, n: int) -> np.ndarray:
    """Each row and each column at a scale of its own: they join one by one."""
    return g.standard_normal((m, n)) * np.exp2(-g.permutation(m)[:, None] / m * 8 - g.permutation(n) / n * 8)


def _between(g: np.random.Generator, m: int, n: int) -> np.ndarray:
    """Three strong blocks that few entries join, and a weak one whose rows and columns are tied to two of them: it may
    join one only."""
    row, col = ((np.arange(size) * 10 // size + 2) // 3 for size in (m, n))
    row = row[:, None]
    x = np.where(row == col, np.where(row == 0, 1.0, 9.0), 0.0)
    one, other = 1 + g.permutation(3)[:2]
    x[((row == 0) & (col == one)) | ((row == other) & (col == 0))] = 1
    for _ in range(8):
        i, j = g.integers(m), g.integers(n)
        if x[i, j] == 0 and row[i, 0] and col[j]:
            x[i, j] = g.integers(2, 6)
    return x


KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "normal": lambda g, m, n: g.standard_normal((m, n)),
    "uniform": lambda g, m, n: g.uniform(-1, 1, (m, n)),
    "lognormal": lambda g, m, n: g.lognormal(0, 1.5, (m, n)),
    "cauchy": lambda g, m, n: g.standard_cauchy((m, n)),
    "constant": lambda g, m, n: np.full((m, n), -0.7),
    "all zero": lambda g, m, n: np.zeros((m, n)),
    "one-hot": _one_hot,
    "integers, many ties": lambda g, m, n: g.integers(-7, 8, (m, n)).astype(float),
    "three values": lambda g, m, n: g.choice([0.0, -0.5, 1.0], (m, n), p=[0.6, 0.3, 0.1]),
    "half zero": lambda g, m, n: _sparse(g, m, n, 0.5),
    "2 % dense": lambda g, m, n: _sparse(g, m, n, 0.02),
    "0.1 % dense": lambda g, m, n: _sparse(g, m, n, 0.001),
    "one entry": lambda g, m, n: 3.0 * (np.arange(m * n).reshape(m, n) == g.integers(m * n)),
    "dead rows": lambda g, m, n: _without(g, m, n, True, False),
    "dead columns": lambda g, m, n: _without(g, m, n, False, True),
    "dead rows and columns": lambda g, m, n: _without(g, m, n, True, True),
    "rank one": lambda g, m, n: np.outer(g.standard_normal(m), g.standard_normal(n)),
    "two blocks": lambda g, m, n: _blocks(g, m, n, 2, 0.0),
    "two blocks, faintly joined": lambda g, m, n: _blocks(g, m, n, 2, 1e-3),
    "many blocks": lambda g, m, n: _blocks(g, m, n, max(1, min(m, n) // 6), 0.0),
    "many blocks, faintly joined": lambda g, m, n: _blocks(g, m, n, max(1, min(m, n) // 6), 1e-3),
    "blocks of ties": lambda g, m, n: np.rint(2 * _blocks(g, m, n, max(1, min(m, n) // 20), 0.4)),
    "a weak block between strong ones": _between,
    "levels": _levels,
    "one large row": lambda g, m, n: g.uniform(-1, 1, (m, n)) + 100 * (np.arange(m) == m // 2)[:, None],
}


def make(kind: str, m: int, n: int, seed: int = 0) -> np.ndarray:
    return KINDS[kind](np.random.default_rng([seed, m, n]), m, n)


# ---- trees ----


def scipy_tree(x: np.ndarray) -> np.ndarray:
    """Weights of the maximum spanning tree, descending, as float64.

    scipy takes the least tree and drops edges of weight zero, so each entry is given as how many distinct magnitudes
    reach its own: exact integers, the largest magnitude being 1.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    m, n = x.shape
    magnitudes, rank = np.unique(np.abs(x.astype(np.float64)), return_inverse=True)
    costs = (len(magnitudes) - rank).astype(np.float64)
    indices = np.tile(np.arange(m, m + n), m)
    starts = np.concatenate([np.arange(0, m * n + 1, n), np.full(n, m * n)])
    tree = minimum_spanning_tree(csr_array((costs.ravel(), indices, starts), shape=(m + n, m + n)))
    assert tree.nnz == m + n - 1
    return np.sort(magnitudes[len(magnitudes) - tree.data.astype(int)])[::-1]


def assert_spans(x: np.ndarray, weights: np.ndarray, ends: np.ndarray) -> None:
    """The edges are a spanning tree of rows and columns, descending, each with the weight of the entry it names."""
    m, n = x.shape
    assert ends.shape == (m + n - 1, 2)
    assert np.array_equal(weights, np.abs(x.astype(np.float64))[ends[:, 0], ends[:, 1]])
    assert (np.diff(weights) <= 0).all()
    parent = list(range(m + n))

    def find(v: int) -> int:
        while parent[v] != v:
            parent[v] = parent[parent[v]]
            v = parent[v]
        return v

    for i, j in ends.tolist():
        u, v = find(i), find(m + j)
        assert u != v, f"the edge ({i}, {j}) closes a cycle"
        parent[u] = v
