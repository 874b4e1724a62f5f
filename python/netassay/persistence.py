"""Neural persistence: how large weights are connected.

A weight matrix is a complete bipartite graph between outputs and inputs, with edges |W_ij|; its maximum spanning tree
says at which weight its vertices come together. Results: `NeuralPersistence`, `NetworkPersistence`; what one read of a
matrix gives: `SpanningTree`. Sources: Rieck et al., "Neural Persistence" (ICLR 2019, arXiv 1812.09764); Girrbach et
al., "Addressing Caveats of Neural Persistence with Deep Graph Persistence" (TMLR 2023, arXiv 2307.10865).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay import _core
from netassay.base import arrays
from netassay.base import threads as thread_counts
from netassay.base.errors import DomainError, DTypeError, NonFinite, ShapeError

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike, View

Float64: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class NeuralPersistence:
    """How large the weights are that connect a layer.

    With w the weights of the maximum spanning tree of |W| / scale, m + n - 1 of them:
    total = (1 + sum (1 - w)^p)^(1/p), the 1 only where the essential class counts;
    normalized = total / (m + n - 1)^(1/p).                        (Rieck et al. 2019; Girrbach et al. 2023, its code)

    Attributes:
        total: dimensionless, >= 0.
        normalized: near [0, 1]: 0 where every tree weight is the largest of the network. The essential class lifts it
            by up to ((m + n) / (m + n - 1))^(1/p).
        lower_bound: (sum (1 - r_i)^p + sum (1 - c_j)^p - (1 - max)^p)^(1/p) from the largest weights of rows and
            columns over the scale; never above the total without the essential class.
        weights: (m + n - 1,) float64, descending, in [0, 1]: tree weights over the scale.
        scale: the largest |w| of the network, or what was given; in units of the weights.
        flags: "zero" (every weight is zero).
    """

    total: float
    normalized: float
    lower_bound: float
    weights: Float64
    scale: float
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class NetworkPersistence:
    """Neural persistence of every layer at one scale, the largest |w| of them all.

    Attributes:
        normalized: mean of the layers' normalized values.
        total: sum of the layers' totals.
        scale: the largest |w|, in units of the weights.
        layers: in the order given.
        flags: "zero" (every weight of the network is zero).
    """

    normalized: float
    total: float
    scale: float
    layers: tuple[NeuralPersistence, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SpanningTree:
    """What one read of a weight gives: its maximum spanning tree, not divided by any scale yet.

    Attributes:
        rows, cols: m outputs and n inputs.
        weights: (m + n - 1,) float64, descending: |w| of the tree's edges.
        row_max, col_max: (m,), (n,) float64: largest |w| of each row and column.
        dtype: format the weights are stored in.
    """

    rows: int
    cols: int
    weights: Float64
    row_max: Float64
    col_max: Float64
    dtype: str

    @property
    def maximum(self) -> float:
        """The largest |w|."""
        return float(self.weights[0])

    def persistence(self, *, scale: float | None = None, p: float = 2, essential: bool = True) -> NeuralPersistence:
        """See `neural_persistence`."""
        single = self.dtype not in ("float64", "int8", "uint8")
        s = self.maximum if scale is None else _scalar(scale, "neural_persistence: got scale")
        total, normalized, lower_bound, weights, s, zero = _core.persistence.neural_persistence(
            self.weights, self.row_max, self.col_max, scale=s, p=float(p), essential=essential, single=single
        )
        flags = ("zero",) if zero else ()
        return NeuralPersistence(total, normalized, lower_bound, _read_only(weights), s, flags)


def neural_persistence(
    weight: ArrayLike,
    *,
    scale: float | None = None,
    p: float = 2,
    essential: bool = True,
    bias: ArrayLike | None = None,
    threads: int | None = None,
) -> NeuralPersistence:
    """Neural persistence of a weight; see `NeuralPersistence`.

    >>> import numpy as np
    >>> from netassay.persistence import neural_persistence
    >>> result = neural_persistence(np.array([[1.0, 0.5], [0.25, 0.75]]))
    >>> result.weights
    array([1.  , 0.75, 0.5 ])
    >>> round(result.total, 4), round(result.normalized, 4)
    (1.1456, 0.6614)

    Args:
        weight: (out, in, ...): float64, float32, bfloat16, float16, 8-bit float, int8 or uint8, in any memory order.
            More axes than two, as of a convolution, are inputs: (out, in * kh * kw). Zeros are edges of weight 0.
        scale: the largest |w| of the network, so that layers compare; None: of this weight.
        p: of the norm, above 0.
        essential: count the class that never dies, as the published code does.
        bias: (out,), one more input with these weights, as in Rieck et al.; None: left out. The weight is copied then.
        threads: None: see the README; the result is the same for any number.

    Raises:
        NonFinite: a NaN or an infinity, by its index. DomainError: scale below the largest |w|, p not above 0.
        ShapeError: fewer than two axes, or none along one. DTypeError: integers of more than 8 bits, complex numbers.
    """
    tree = _tree(weight, bias, threads, "neural_persistence")
    return tree.persistence(scale=scale, p=p, essential=essential)


def network_persistence(
    weights: Iterable[ArrayLike], *, p: float = 2, essential: bool = True, threads: int | None = None
) -> NetworkPersistence:
    """Neural persistence of a network's weights, all at the scale of the largest.

    Args:
        weights: of each layer, as `neural_persistence` takes them; of a whole network, since they share the scale.

    Raises:
        As `neural_persistence`; ShapeError also where there are no weights.
    """
    trees = [_tree(weight, None, threads, "network_persistence") for weight in weights]
    if not trees:
        raise ShapeError("network_persistence: got no weights, expected at least one")
    scale = max(tree.maximum for tree in trees)
    return summarize([tree.persistence(scale=scale, p=p, essential=essential) for tree in trees])


def summarize(layers: Iterable[NeuralPersistence]) -> NetworkPersistence:
    """The network's value from its layers' (one or more), which share a scale."""
    layers = tuple(layers)
    mean = math.fsum(layer.normalized for layer in layers) / len(layers)
    flags = ("zero",) if all("zero" in layer.flags for layer in layers) else ()
    return NetworkPersistence(mean, math.fsum(layer.total for layer in layers), layers[0].scale, layers, flags)


def spanning_tree(weight: ArrayLike, *, bias: ArrayLike | None = None, threads: int | None = None) -> SpanningTree:
    """The maximum spanning tree of |W| as a bipartite graph of outputs and inputs; see `SpanningTree`.

    For a network whose scale is known only when every layer has been read. Args, raises: as `neural_persistence`.
    """
    return _tree(weight, bias, threads, "spanning_tree")


def largest(weight: ArrayLike, *, threads: int | None = None) -> float:
    """max |w|, in one read. Args, raises: as `neural_persistence`."""
    view = _matrix(weight, None, "largest")
    try:
        return _core.persistence.largest(view.array, view.dtype, threads=thread_counts.resolve(threads))
    except NonFinite:
        raise _nonfinite(weight, "largest") from None


class EarlyStopping:
    """Stop training when the mean neural persistence of the network's layers no longer grows.

    best <- 0, waited <- 0; each evaluation: if value > best + min_delta: best <- value, waited <- 0, else
    waited <- waited + 1; stop when waited >= patience.                                   (Rieck et al. 2019, section 4)

    >>> stopping = EarlyStopping(patience=2)
    >>> [stopping.update(value) for value in (0.40, 0.45, 0.44, 0.45, 0.46)]
    [False, False, False, True, False]

    Attributes:
        best: largest value seen, dimensionless; waited: evaluations since it last grew, a count.
    """

    __slots__ = ("best", "min_delta", "patience", "waited")

    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        if patience < 1:
            raise DomainError(f"EarlyStopping: got patience={patience}, expected at least 1")
        if not (min_delta >= 0 and math.isfinite(min_delta)):
            raise DomainError(f"EarlyStopping: got min_delta={min_delta}, expected a finite number of at least 0")
        self.patience = patience
        self.min_delta = min_delta
        self.best = 0.0
        self.waited = 0

    def update(self, value: float | NetworkPersistence) -> bool:
        """Take the mean normalized persistence of an evaluation, or the result that holds it; whether to stop."""
        mean = value.normalized if isinstance(value, NetworkPersistence) else float(value)
        if math.isnan(mean):
            raise DomainError("EarlyStopping.update: got nan, expected a number")
        if mean > self.best + self.min_delta:
            self.best, self.waited = mean, 0
        else:
            self.waited += 1
        return self.waited >= self.patience


@dataclass(frozen=True, slots=True, eq=False)
class ShuffleTest:
    """Neural persistence of a weight beside that of its entries in random places.                (Girrbach et al. 2023)

    Attributes:
        normalized: of the weight as it is.
        mean: of the shuffled ones: what the distribution of the weights alone predicts.
        deviation: their standard deviation (divisor draws - 1).
        z: (normalized - mean) / deviation; 0 where both are 0, infinite where only the deviation is.
        draws: (draws,) float64, one value a shuffle.
    """

    normalized: float
    mean: float
    deviation: float
    z: float
    draws: Float64


def shuffle_test(
    weight: ArrayLike, draws: int = 10, seed: int = 0, *, scale: float | None = None, threads: int | None = None
) -> ShuffleTest:
    """Compare a weight's persistence with that of its entries shuffled; see `ShuffleTest`.

    Args:
        draws: shuffles, at least 2; seed: of numpy's default generator.

    Raises:
        As `neural_persistence`; DomainError also for fewer than two draws.
    """
    if draws < 2:
        raise DomainError(f"shuffle_test: got draws={draws}, expected at least 2")
    view = _matrix(weight, None, "shuffle_test")

    def normalized(array: NDArray[Any]) -> float:
        tree = _tree(arrays.View(array, view.dtype), None, threads, "shuffle_test")
        return tree.persistence(scale=scale).normalized

    value = normalized(view.array)
    generator = np.random.default_rng(seed)
    entries = view.array.reshape(-1)
    values = np.array([normalized(generator.permutation(entries).reshape(view.array.shape)) for _ in range(draws)])
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    difference = value - mean
    z = difference / deviation if deviation > 0 else math.copysign(math.inf, difference) if difference else 0.0
    return ShuffleTest(value, mean, deviation, z, _read_only(values))


def variance(weight: ArrayLike, *, scale: float | None = None) -> float:
    """Population variance of |W| / scale, in [0, 1/4]; scale None: the largest |w|; 0 for an all-zero weight.

    What the persistence of trained layers mostly follows (Girrbach et al. 2023). Raises: as `neural_persistence`.
    """
    magnitudes = _magnitudes(weight, "variance")
    most = float(magnitudes.max())
    s = most if scale is None else _scalar(scale, "variance: got scale")
    if not (math.isfinite(s) and s >= most):
        raise DomainError(f"variance: got scale={s}, expected a finite number not below the largest weight, {most}")
    return float((magnitudes / s).var()) if s > 0 else 0.0


def sortedness(weight: ArrayLike) -> float:
    """How far a weight's large entries lie together: 1 where |W| / max, its columns then its rows sorted by ascending
    mean, ascends along one of three paths, near 0 for entries in random places.                  (Girrbach et al. 2023)

    The largest of Kendall's tau-b between the entries and their positions along the anti-diagonals (i + j, then i),
    along the rows, and along the columns. 0 for a constant weight. O(m n log(m n)), in float32.

    Raises: as `neural_persistence`.
    """
    values = _magnitudes(weight, "sortedness")
    values = values / (values.max() or 1.0)
    values = values[:, np.argsort(values.mean(axis=0), kind="stable")]
    ordered = values[np.argsort(values.mean(axis=1), kind="stable")].astype(np.float32)
    i, j = np.indices(ordered.shape)
    diagonal = ordered.ravel()[np.lexsort((i.ravel(), (i + j).ravel()))]
    return max(_core.persistence.kendall_tau(path) for path in (diagonal, ordered.ravel(), ordered.T.ravel()))


def _tree(weight: ArrayLike, bias: ArrayLike | None, threads: int | None, function: str) -> SpanningTree:
    view = _matrix(weight, bias, function)
    count = thread_counts.resolve(threads)
    try:
        weights, _, rows, cols = _core.persistence.spanning_tree(view.array, view.dtype, threads=count)
    except NonFinite:
        raise _nonfinite(weight, function, bias) from None
    shape = view.array.shape
    return SpanningTree(shape[0], shape[1], _read_only(weights), _read_only(rows), _read_only(cols), view.dtype)


def _matrix(weight: ArrayLike, bias: ArrayLike | None, function: str) -> View:
    """(out, the rest), with the bias as one more column."""
    array, dtype = arrays.weight_view(weight, function)
    if array.ndim < 2 or array.size == 0:
        raise ShapeError(f"{function}: got a weight of shape {array.shape}, expected (out, in, ...), none of them 0")
    matrix = array.reshape(array.shape[0], -1)
    if bias is None:
        return arrays.View(matrix, dtype)
    column, kind = arrays.weight_view(bias, function)
    if column.shape != (matrix.shape[0],):
        raise ShapeError(f"{function}: got a bias of shape {column.shape}, expected ({matrix.shape[0]},)")
    if kind != dtype:
        raise DTypeError(f"{function}: got a bias of dtype {kind}, expected that of the weight, {dtype}")
    return arrays.View(np.concatenate([matrix, column[:, None]], axis=1), dtype)


def _nonfinite(weight: ArrayLike, function: str, bias: ArrayLike | None = None) -> NonFinite:
    """The error that names the first bad value by its index in the weight as it was given."""
    for what, given in (("weight", weight), ("bias", bias)):
        if given is None:
            continue
        values = _widened(arrays.weight_view(given, function))
        bad = ~np.isfinite(values)
        if bad.any():
            index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), values.shape))
            more = f" and {bad.sum() - 1} more" if bad.sum() > 1 else ""
            return NonFinite(
                f"{function}: got {values[index]} at {list(index)} of the {what}{more}, expected finite values"
            )
    return NonFinite(f"{function}: got a NaN or an infinity, expected finite values")


def _widened(view: View) -> NDArray[Any]:
    """The values of a view as float32, or as what they are where that holds more."""
    array, dtype = view
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    if dtype == "float8_e5m2":
        return (array.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    if dtype == "float8_e4m3fn":
        bits = array.astype(np.uint16)
        half = ((bits & 0x80) << 8 | (bits & 0x7F) << 7).view(np.float16).astype(np.float32) * np.float32(256)
        return np.where(bits & 0x7F == 0x7F, np.float32(np.nan), half)
    return array.astype(np.float32) if dtype == "float16" else array


def _magnitudes(weight: ArrayLike, function: str) -> Float64:
    values = _widened(_matrix(weight, None, function)).astype(np.float64)
    if not np.isfinite(values).all():
        raise _nonfinite(weight, function)
    return np.abs(values)


def _scalar(x: Any, what: str) -> float:
    try:
        return float(x)
    except (TypeError, ValueError):
        raise DomainError(f"{what} {x!r}, expected a real number") from None


def _read_only(values: Float64) -> Float64:
    values.flags.writeable = False
    return values
