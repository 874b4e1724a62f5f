"""Switching counts, and sums, against their floor, one read of the activations, and against what one writes in torch.

Every answer is asserted before it is timed: against torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import common
from common import Case, Group, Pending

#: Name, shape, dtype, memory order; the last two are of one training step of small networks.
CASES = (
    ("maps", (32, 64, 56, 56), "float32", "contiguous"),
    ("maps", (32, 64, 56, 56), "float32", "channels_last"),
    ("maps", (32, 64, 56, 56), "bfloat16", "contiguous"),
    ("maps, deep", (64, 512, 7, 7), "float32", "contiguous"),
    ("rows", (8192, 2048), "float32", "contiguous"),
    ("rows", (8192, 2048), "bfloat16", "contiguous"),
    ("rows, batch", (256, 2048), "float32", "contiguous"),
    ("maps, small", (64, 32, 8, 8), "float32", "contiguous"),
)


def counts(rounds: int) -> Iterator[Pending]:
    """With counts of positions, without, and as torch has them."""
    for name, shape, dtype, order in CASES:
        row = f"{name} {' x '.join(map(str, shape))} {dtype}{'' if order == 'contiguous' else ' ' + order}"
        yield row, partial(count, row, shape, dtype, order, rounds)


def count(name: str, shape: tuple[int, ...], dtype: str, order: str, rounds: int) -> Case:
    """One row of `counts`."""
    import torch

    from netassay import _core
    from netassay.base.arrays import tensor_view
    from netassay.complexity import Switching

    threads = _core.thread_count()
    a = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    if order == "channels_last":
        a = a.to(memory_format=torch.channels_last)
    everything, channels = Switching(), Switching(positions=False)
    sums, channel_sums = Switching(sums=True), Switching(positions=False, sums=True)
    check(name, everything, channels, a)
    check(name, sums, channel_sums, a)
    check_moments(name, sums, a)
    # as the memory lies, in lines whose columns' largest stay in the nearest cache
    flat = tensor_view(a if order == "contiguous" else a.permute(0, 2, 3, 1), "read").array.reshape(-1, 1024)
    arms: dict[str, Callable[[], object]] = {
        "positions": lambda: everything.update(a, threads=threads),
        "channels": lambda: channels.update(a, threads=threads),
        "position sums": lambda: sums.update(a, threads=threads),
        "channel sums": lambda: channel_sums.update(a, threads=threads),
        "torch best": lambda: best(a),
        "read": lambda: _core.persistence.largest(flat, dtype, threads=threads),
    }
    times = common.interleaved(arms, rounds=rounds)
    times.update(common.interleaved({"torch": lambda: plain(a)}, rounds=3, repeats=1))
    return Case("counts", name, times, more={"bytes": a.numel() * a.element_size()})


#: Maps, dtype, memory order, kernel and stride.
POOLS = (
    ((16, 64, 56, 56), "float32", "contiguous", 2, 2),
    ((16, 64, 56, 56), "float32", "channels_last", 2, 2),
    ((16, 64, 56, 56), "float32", "channels_last", 3, 2),
    ((16, 64, 56, 56), "bfloat16", "channels_last", 2, 2),
)


def pools(rounds: int) -> Iterator[Pending]:
    """Places of maxima, counted, against torch's, which are only found."""
    for shape, dtype, order, kernel, stride in POOLS:
        row = f"{kernel} x {kernel}, maps {' x '.join(map(str, shape))} {dtype} {order}"
        yield row, partial(pool, row, shape, dtype, order, kernel, stride, rounds)


def pool(name: str, shape: tuple[int, ...], dtype: str, order: str, kernel: int, stride: int, rounds: int) -> Case:
    """One row of `pools`."""
    import torch

    from netassay import _core
    from netassay.complexity import Switching

    a = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    if order == "channels_last":
        a = a.to(memory_format=torch.channels_last)
    state = Switching(rule="maxpool", kernel_size=kernel, stride=stride)
    threads = _core.thread_count()

    def theirs() -> Any:
        return torch.nn.functional.max_pool2d(a, kernel, stride, return_indices=True)[1]

    state.update(a)
    at, wide = theirs(), shape[3]
    row, column = (torch.arange(n) * stride for n in at.shape[2:])
    place = (at // wide - row[:, None]) * kernel + at % wide - column
    expected = torch.stack([(place == k).sum((0, 2, 3)) for k in range(1, kernel**2)])
    assert state.counts()["state"].tolist() == expected.tolist(), name
    arms = {"counts": lambda: state.update(a, threads=threads), "torch": theirs}
    return Case("pools", name, common.interleaved(arms, rounds=rounds))


def axes_of(a: Any) -> list[int]:
    """All but the units'."""
    return [axis for axis in range(a.ndim) if axis != 1]


def plain(a: Any) -> Any:
    """Channels' counts as one writes them."""
    return (a > 0).sum(axes_of(a))


def best(a: Any) -> Any:
    """The fastest of torch's forms that was found: bytes summed over samples, which are counts of positions (up to 255
    samples), then over the rest."""
    import torch

    on = torch.gt(a, 0).view(torch.uint8)
    if a.ndim == 2:
        return on.sum(0, dtype=torch.int32)
    return on.sum(0, dtype=torch.int32).flatten(1).sum(1)


def check(name: str, everything: Any, channels: Any, a: Any) -> None:
    """Asserts counts of channels and of positions."""
    everything.update(a)
    channels.update(a)
    expected = plain(a).tolist()
    assert best(a).tolist() == expected, f"{name}: torch"
    for state in (everything, channels):
        assert state.counts()["state"][0].tolist() == expected, f"{name}: channels"
    if a.ndim > 2:
        by_position = (a > 0).sum(0).flatten().tolist()
        assert everything.counts()["position"].ravel().tolist() == by_position, f"{name}: positions"


def check_moments(name: str, state: Any, a: Any) -> None:
    """Asserts means, in standard deviations, and variances, against torch's in float64."""
    import torch

    result = state.result()
    variance, mean = (x.numpy() for x in torch.var_mean(a.double(), axes_of(a), correction=0))
    assert abs(result.mean - mean).max() < 1e-12, f"{name}: means"
    assert abs(result.variance / variance - 1).max() < 1e-12, f"{name}: variances"


def row(case: Case) -> list[str]:
    """A row of `counts`."""
    times = case.times
    read = times["read"]
    arms = ("channels", "channel sums", "positions", "position sums")
    ratios = [times[arm].over(read) for arm in arms]
    torch = [f"{times[arm].minimum / times['positions'].minimum:.1f}" for arm in ("torch best", "torch")]
    rate = case.more["bytes"] / read.minimum / 1e9
    return [case.name, times["positions"].milliseconds(), read.milliseconds(), f"{rate:.0f}", *ratios, *torch]


def pool_row(case: Case) -> list[str]:
    """A row of `pools`."""
    ours, theirs = case.times["counts"], case.times["torch"]
    return [case.name, ours.milliseconds(), theirs.milliseconds(), theirs.over(ours)]


GROUPS = {
    "counts": Group(
        "Switching counts",
        counts,
        (
            "",
            "positions ms",
            "read ms",
            "GB/s",
            "channels / read",
            "with sums",
            "positions / read",
            "with sums",
            "torch best x",
            "torch x",
        ),
        row,
    ),
    "pools": Group(
        "Max-pooling: places of maxima",
        pools,
        ("", "counts ms", "torch ms", "torch x"),
        pool_row,
    ),
}
NOTES = (
    "/ read: over one max |a| read with the same threads. With sums: mean and variance of channels in float64 as well.",
    "torch x: (a > 0).sum, and torch's best form, over ours with counts of positions, zeros, NaNs and the effective",
    "samples' squares, which torch's forms have not. Max-pooling: torch's max_pool2d with indices over ours.",
)

if __name__ == "__main__":
    common.main(__doc__, GROUPS, ("netassay", "torch", "numpy"), notes=NOTES)
