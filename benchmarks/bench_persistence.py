"""Neural persistence against its peers and its floor, one read of the weights; deep graph persistence likewise.

Every answer is asserted before it is timed: the tree's weights against those of scipy's minimum spanning tree at sizes
where scipy can be waited for, and against our own Boruvka, which filters nothing, at the others; those of deep graph
persistence against the tree of S itself by numpy's max-min products, but for the largest network.
"""

from __future__ import annotations

import functools
import importlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import common
from common import Case, Group, Pending

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

#: The matrices of the targets: a square one, and that of a transformer's feed-forward layer.
LARGE = ((4096, 4096), (4096, 11008))


def inputs(m: int, n: int) -> Iterator[tuple[str, str, Array]]:
    """(name, dtype, weights): as they come, and as they are hardest."""
    import numpy as np

    random = np.random.default_rng(0)
    normal = random.standard_normal((m, n), dtype=np.float32)
    yield "normal", "float32", normal
    yield "normal", "bfloat16", (normal.view(np.uint32) >> 16).astype(np.uint16)
    yield "normal", "int8", np.clip(normal * 32, -127, 127).astype(np.int8)
    yield "rank one", "float32", normal[:, :1] @ normal[:1]
    yield "30 % dead rows", "float32", normal * (random.random((m, 1)) > 0.3).astype(np.float32)
    yield "30 % dead columns", "float32", normal * (random.random((1, n)) > 0.3).astype(np.float32)
    yield "0.1 % dense", "float32", normal * (random.random((m, n), dtype=np.float32) < 0.001)
    yield "15 values", "float32", random.integers(-7, 8, (m, n)).astype(np.float32)
    yield "constant", "float32", np.full((m, n), 1.5, np.float32)


def trees(rounds: int) -> Iterator[Pending]:
    """The whole tree over one max |w| read, threads as given."""
    for m, n in LARGE:
        for name, dtype, weights in inputs(m, n):
            yield f"{m} x {n} {dtype} {name}", partial(tree, f"{m} x {n} {dtype} {name}", dtype, weights, rounds)


def tree(name: str, dtype: str, weights: Array, rounds: int) -> Case:
    """One row of `trees`."""
    from netassay import _core, persistence
    from netassay.base.arrays import View

    native, view = _core.persistence, View(weights, dtype)
    count = pinned()
    got = native.spanning_tree(weights, dtype, threads=count)[0]
    assert (got == native.spanning_tree(weights, dtype, method="boruvka", threads=count)[0]).all(), (
        f"{name}: not the tree"
    )
    arms: dict[str, Callable[[], object]] = {
        "netassay": lambda: persistence.neural_persistence(view, threads=count),
        "read": lambda: persistence.largest(view, threads=count),
    }
    return Case("tree", name, common.interleaved(arms, rounds=rounds), more={"bytes": weights.nbytes})


def peers(rounds: int) -> Iterator[Pending]:
    """Square float32 matrices that the peers can be waited for."""
    for size in (128, 512, 1024):
        yield f"{size} x {size}", partial(peer, size, rounds)


def peer(size: int, rounds: int) -> Case:
    """One row of `peers`."""
    import numpy as np

    from netassay.persistence import largest, neural_persistence

    weights = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    count = pinned()
    arms: dict[str, Callable[[], object]] = {
        "netassay": lambda: neural_persistence(weights, threads=count),
        "read": lambda: largest(weights, threads=count),
    }
    expected = neural_persistence(weights).weights
    for name, most, arm in (("scipy", 1024, scipy_tree), ("gudhi", 512, gudhi_tree), ("ripser", 512, ripser_tree)):
        if size > most or package(name) is None:
            continue
        error = float(np.abs(arm(weights) - expected).max())
        assert error <= 1e-6, f"{name} at {size}: weights differ by {error:.1e}"
        arms[name] = partial(arm, weights)
    times = common.interleaved(arms, rounds=rounds, repeats=None if size < 512 else 1)
    return Case("peers", f"{size} x {size}", times)


#: Widths of the networks, and how often the plain products run there: as there are rounds (None), once, or never.
DEEP = {(784, 100, 100, 10): None, (784, 650, 650, 10): 1, (4096, 4096, 4096, 4096): 0}


def networks(rounds: int) -> Iterator[Pending]:
    """Deep graph persistence of whole networks, float32, over three reads of every weight."""
    for widths, most in DEEP.items():
        yield "-".join(map(str, widths)), partial(deep, widths, rounds if most is None else most)


def deep(widths: tuple[int, ...], rounds: int) -> Case:
    """One row of `networks`; the plain products are timed where they have rounds."""
    import numpy as np

    from netassay.persistence import deep_graph_persistence, largest

    random = np.random.default_rng(0)
    weights = [random.standard_normal((o, i), dtype=np.float32) for i, o in pairwise(widths)]
    name, count = "-".join(map(str, widths)), pinned()
    arms: dict[str, Callable[[], object]] = {
        "netassay": lambda: deep_graph_persistence(weights, threads=count),
        "reads": lambda: [largest(weight, threads=count) for weight in weights * 3],
    }
    found = deep_graph_persistence(weights).weights
    times: dict[str, common.Timing] = {}
    for product, multiply in PRODUCTS.items() if rounds else ():
        samples = []
        for _ in range(rounds):
            begin = time.perf_counter()
            expected = explicit(weights, multiply)
            samples.append(time.perf_counter() - begin)
            error = float(np.abs(expected - found).max())
            assert error <= 2e-6, f"{name}: tree weights differ from those by the {product} product by {error:.1e}"
        times[product] = common.Timing(min(samples), statistics.median(samples), rounds)
    times.update(common.interleaved(arms, rounds=5))
    return Case("deep", name, times, more={"bytes": sum(weight.nbytes for weight in weights)})


def explicit(weights: Sequence[Array], multiply: Callable[[Array, Array], Array]) -> Array:
    """Tree weights of deep graph persistence as it is defined: by S itself, layer after layer, as the authors do."""
    import numpy as np

    from netassay.persistence import neural_persistence

    layers = [np.abs((w.T - w.mean()) / w.std()) for w in weights]
    most = max(layer.max() for layer in layers)
    tree: Array = neural_persistence(functools.reduce(multiply, [layer / most for layer in layers])).weights
    return tree


def broadcast(a: Array, b: Array) -> Array:
    """max_k min(a_ik, b_kj) by broadcasting, as the authors' code has it: every min at once, in memory."""
    import numpy as np

    product: Array = np.minimum(a[:, :, None], b[None]).max(axis=1)
    return product


def chunks(a: Array, b: Array) -> Array:
    """The same for so many rows at a time as take a megabyte."""
    import numpy as np

    rows = max(1, 2**20 // b.nbytes)
    return np.concatenate([broadcast(a[i : i + rows], b) for i in range(0, len(a), rows)])


def loop(a: Array, b: Array) -> Array:
    """The same, one k after the other, in place."""
    import numpy as np

    product = np.zeros((len(a), b.shape[1]), a.dtype)
    smaller = np.empty_like(product)
    for k in range(len(b)):
        np.minimum(a[:, k, None], b[k], out=smaller)
        np.maximum(product, smaller, out=product)
    return product


PRODUCTS = {"broadcast": broadcast, "chunks": chunks, "loop": loop}


def scipy_tree(weights: Array) -> Array:
    """By scipy's Kruskal, on 2 - w: scipy takes zero for no edge."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    distance = bipartite(weights)
    found = minimum_spanning_tree(csr_matrix(np.where(np.isfinite(distance), distance + 1, 0)))
    tree: Array = np.sort(2 - found.data)[::-1]
    return tree


def gudhi_tree(weights: Array) -> Array:
    """By the persistence of the one-dimensional Rips complex of distances 1 - w."""
    complex_ = package("gudhi").RipsComplex(distance_matrix=bipartite(weights), max_edge_length=1.0)
    simplices = complex_.create_simplex_tree(max_dimension=1)
    simplices.compute_persistence(persistence_dim_max=False)
    return from_deaths(simplices.persistence_intervals_in_dimension(0)[:, 1], weights)


def ripser_tree(weights: Array) -> Array:
    """By ripser on the distance matrix, where rows are far from rows."""
    import numpy as np

    distance = bipartite(weights)
    deaths = package("ripser").ripser(np.where(np.isfinite(distance), distance, 3), maxdim=0, distance_matrix=True)
    return from_deaths(deaths["dgms"][0][:, 1], weights)


def from_deaths(deaths: Array, weights: Array) -> Array:
    """Tree weights from the times of death; what dies at birth, of distance 0, the peers leave out."""
    import numpy as np

    tree = np.ones(sum(weights.shape) - 1)
    found = np.sort(deaths[np.isfinite(deaths)])
    tree[len(tree) - len(found) :] = 1 - found
    return tree


def bipartite(weights: Array) -> Array:
    """Distances 1 - |w| / max between rows and columns, infinite among themselves, as the peers want them."""
    import numpy as np

    m, n = weights.shape
    distance = np.full((m + n, m + n), np.inf)
    np.fill_diagonal(distance, 0)
    distance[:m, m:] = 1 - np.abs(weights.astype(np.float64)) / np.abs(weights).max()
    distance[m:, :m] = distance[:m, m:].T
    return distance


@functools.cache
def package(name: str) -> Any:
    """The package, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def pinned() -> int:
    """What the process was pinned to."""
    from netassay import _core

    return _core.thread_count()


def tree_row(case: Case) -> list[str]:
    """A row of `trees`."""
    ours, read = case.times["netassay"], case.times["read"]
    rate = case.more["bytes"] / read.minimum / 1e9
    return [case.name, ours.milliseconds(), read.milliseconds(), f"{rate:.0f}", ours.over(read)]


def peer_row(case: Case) -> list[str]:
    """A row of `peers`."""
    ours = case.times["netassay"]
    ratios = [f"{case.times[p].minimum / ours.minimum:.0f}" if p in case.times else "-" for p in PEERS]
    return [case.name, ours.milliseconds(), ours.over(case.times["read"]), *ratios]


def deep_row(case: Case) -> list[str]:
    """A row of `networks`."""
    ours = case.times["netassay"]
    ratios = [f"{case.times[p].minimum / ours.minimum:.0f}" if p in case.times else "-" for p in PRODUCTS]
    return [case.name, ours.milliseconds(), ours.over(case.times["reads"]), *ratios]


PEERS = ("scipy", "gudhi", "ripser")
GROUPS = {
    "tree": Group("Neural persistence", trees, ("", "netassay ms", "read ms", "GB/s", "/ read"), tree_row),
    "peers": Group(
        "Beside the peers, float32", peers, ("", "netassay ms", "/ read", *(f"{p} x" for p in PEERS)), peer_row
    ),
    "deep": Group(
        "Deep graph persistence of a network, float32",
        networks,
        ("", "netassay ms", "/ 3 reads", *(f"{p} x" for p in PRODUCTS)),
        deep_row,
    ),
}
NOTES = (
    "/ read: over one max |w| read with the same threads; / 3 reads: over three of every weight.",
    "scipy x, ...: their time over ours. broadcast x, ...: those of S itself by numpy.",
)

if __name__ == "__main__":
    common.main(__doc__, GROUPS, ("netassay", "torch", "numpy", *PEERS), notes=NOTES)
