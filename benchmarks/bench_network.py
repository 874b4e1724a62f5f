"""Link-weight statistics and sums against their floor, one read of the weights, and against plain torch.

Every answer is asserted before it is timed: against torch in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import common
from common import Case, Group, Pending

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

#: The matrix of the target.
SHAPE = (8192, 4096)
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def inputs(m: int, n: int) -> Iterator[tuple[str, str, Array]]:
    """(name, dtype, weights)."""
    import numpy as np

    random = np.random.default_rng(0)
    normal = random.standard_normal((m, n), dtype=np.float32)
    yield "normal", "float32", normal
    yield "normal", "bfloat16", (normal.view(np.uint32) >> 16).astype(np.uint16)
    yield "90 % zeros", "float32", normal * (random.random((m, n), dtype=np.float32) < 0.1)
    yield "constant", "float32", np.full((m, n), 0.1, np.float32)
    yield "normal", "int8", np.clip(normal * 32, -127, 127).astype(np.int8)
    yield "normal", "float64", normal.astype(np.float64)


def links(rounds: int) -> Iterator[Pending]:
    """Statistics, sums, and both from one read."""
    for name, dtype, weights in inputs(*SHAPE):
        row = f"{SHAPE[0]} x {SHAPE[1]} {dtype} {name}"
        yield row, partial(link, row, dtype, weights, rounds)


def link(name: str, dtype: str, weights: Array, rounds: int) -> Case:
    """One row of `links`."""
    from netassay import _core
    from netassay.base.arrays import View
    from netassay.network import link_weights, sums

    view, count = View(weights, dtype), _core.thread_count()
    tensor = torch_of(weights, dtype)
    check(name, view, tensor)
    arms: dict[str, Callable[[], object]] = {
        "statistics": lambda: link_weights(view, threads=count),
        "sums": lambda: sums(view, threads=count),
        "both": lambda: _core.network.link_survey(weights, dtype, quantiles=QUANTILES, threads=count),
        "read": lambda: _core.persistence.largest(weights, dtype, threads=count),
    }
    times = common.interleaved(arms, rounds=rounds)
    if tensor.is_floating_point():
        times.update(common.interleaved({"torch": lambda: plain(tensor)}, rounds=1, repeats=1))
    return Case("links", name, times, more={"bytes": weights.nbytes})


def torch_of(weights: Array, dtype: str) -> Any:
    """The same memory as a tensor."""
    import numpy as np
    import torch

    if dtype == "bfloat16":
        return torch.from_numpy(weights.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(weights)


def plain(w: Any) -> tuple[Any, ...]:
    """Eight statistics as one writes them in torch, in the weights' own format; its quantile takes 2^24 numbers at
    most, so these are those of a sort."""
    import torch

    d = w - w.mean()
    deviation = d.square().mean().sqrt()
    moments = w.mean(), deviation**2, (d**3).mean() / deviation**3, (d**4).mean() / deviation**4 - 3
    ordered = w.flatten().sort().values
    places = [round(q * (len(ordered) - 1)) for q in QUANTILES]
    histogram = torch.histc(w.float(), 512)
    return (*moments, w.min(), w.max(), (w == 0).sum(), ordered[places], histogram)


def check(name: str, view: Any, tensor: Any) -> None:
    """Asserts moments, zeros, extremes, quantiles and sums."""
    import numpy as np

    from netassay.network import link_weights, sums

    got, total, w = link_weights(view), sums(view), tensor.double()
    d = w - w.mean()
    assert abs(got.mean - float(w.mean())) <= 1e-12 * float(w.abs().mean()), f"{name}: mean"
    assert abs(got.variance - float(d.square().mean())) <= 1e-12 * (got.variance + 1e-15), f"{name}: variance"
    if got.variance > 0:
        fourth = float((d**4).mean()) / got.variance**2 - 3
        assert abs(got.kurtosis - fourth) <= 1e-10 * (abs(fourth) + 3), f"{name}: kurtosis"
    assert (got.minimum, got.maximum) == (float(w.min()), float(w.max())), f"{name}: extremes"
    assert got.zero_share == float((w == 0).double().mean()), f"{name}: zeros"
    expected = np.quantile(w.numpy(), got_shares(), method="nearest")
    assert (np.abs(got.quantiles - expected) <= 2.0**-7 * np.abs(expected) + 1e-3).all(), f"{name}: quantiles"
    for axis, sum_, absolute in ((1, total.row_sum, total.row_absolute), (0, total.column_sum, total.column_absolute)):
        bound = 1e-12 * (absolute + 1e-300)
        assert (np.abs(sum_ - w.sum(axis).numpy()) <= bound).all(), f"{name}: sums"


def got_shares() -> tuple[float, ...]:
    """The shares that link_weights takes by itself."""
    from netassay.network.links import QUANTILES as own

    assert own == QUANTILES
    return own


def row(case: Case) -> list[str]:
    """A row of `links`."""
    times = case.times
    read = times["read"]
    ratios = [times[arm].over(read) for arm in ("statistics", "sums", "both")]
    torch = f"{times['torch'].minimum / times['statistics'].minimum:.0f}" if "torch" in times else "-"
    rate = case.more["bytes"] / read.minimum / 1e9
    return [case.name, times["statistics"].milliseconds(), read.milliseconds(), f"{rate:.0f}", *ratios, torch]


GROUPS = {
    "links": Group(
        "Link weights",
        links,
        ("", "statistics ms", "read ms", "GB/s", "/ read", "sums / read", "both / read", "torch x"),
        row,
    ),
}
NOTES = (
    "/ read: over one max |w| read with the same threads. torch x: its statistics over ours, in the weights' format.",
)

if __name__ == "__main__":
    common.main(__doc__, GROUPS, ("netassay", "torch", "numpy"), notes=NOTES)
