"""Saturation against its peers and its floors: streaming covariance, convolution maps, small batches, training steps.

Every answer is asserted before it is timed; a case whose answer fails is not timed, is shown as failed, and makes the
exit status 1. Rows are activations as they come: a mean of about half a spread in every
column. Errors are max |a_ij - b_ij| / sqrt(b_ii b_jj), b the same sum in float64.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import common
import models
from common import Case, Group, Pending, Timing

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Errors allowed: ours at ROWS rows of any type, delve's (float64 sums), and those of torch's own product.
OURS, DELVE, TORCH = 1e-6, 1e-10, {"float64": 1e-12, "float32": 1e-4, "bfloat16": 2e-2, "float16": 2e-2}
ROWS = 4096


def error(got: Tensor, expected: Tensor) -> float:
    """max |a_ij - b_ij| / sqrt(b_ii b_jj)."""
    scale = expected.diagonal().sqrt()
    return float(((got.double() - expected).abs() / scale / scale[:, None]).max())


def scatter(rows: Tensor) -> Tensor:
    """Sum of (x - mean)(x - mean)^T in float64."""
    wide = rows.double()
    wide = wide - wide.mean(0)
    return wide.T @ wide


def checked(name: str, got: Tensor, expected: Tensor, most: float) -> float:
    """The error, once it is known to be allowed."""
    found = error(got, expected)
    assert found <= most, f"{name}: error {found:.1e}, expected at most {most:.0e}"
    return found


@functools.cache
def delve() -> Any:
    """The package, or None where it is not installed."""
    try:
        package = importlib.import_module("delve")
    except ImportError:
        return None
    package.logger.log.setLevel(logging.WARNING)  # it tells of each layer
    return package


@functools.cache
def peak(dtype: str) -> float:
    """Multiply-adds per second of torch's best product of two (2048, 2048) matrices."""
    import torch

    a, b = (torch.randn(2048, 2048).to(getattr(torch, dtype)) for _ in range(2))
    return float(2048**3 / common.best(lambda: a @ b))


def floors(x: Tensor, n: int, d: int) -> dict[str, float]:
    """Seconds that no implementation can beat: x read once, and half of n d^2 multiply-adds (the other half follows by
    symmetry) at the best peak the machine has for them."""
    import torch

    flat = x.contiguous().view(-1).view(torch.float32) if x.dtype != torch.float64 else x.reshape(-1)
    read = common.best(flat.sum, 25)
    fastest = peak("float64") if x.dtype == torch.float64 else max(peak("bfloat16"), peak("float32"))
    return {"read": read, "products": n * d * (d + 1) / 2 / fastest}


def ours_at(n: int) -> float:
    """The error allowed us at n rows: roundings of the rows are independent, so their mean falls as 1 / sqrt(n)."""
    return OURS * max(1.0, math.sqrt(ROWS / n))


def data(n: int, d: int, dtype: str, mean: float = 0.5) -> Tensor:
    """(n, d) normal rows, column means of `mean` spreads either way, spreads from 1/2 to 2."""
    import torch

    generator = torch.Generator().manual_seed(d)
    spread = torch.logspace(-1, 1, d, 2.0)
    shift = torch.where(torch.rand(d, generator=generator) < 0.5, -mean, mean)
    return ((torch.randn(n, d, generator=generator) + shift) * spread).to(getattr(torch, dtype))


def stream(
    group: str, name: str, batches: list[Tensor], rows: Callable[[Tensor], Tensor], layout: str, rounds: int
) -> Case:
    """Times one pass over all batches: our state, torch's product of the rows summed in place, delve's accumulator."""
    import torch

    import netassay as na

    every = torch.cat([rows(x) for x in batches])
    n, d = every.shape
    dtype = str(every.dtype).removeprefix("torch.")
    total = torch.zeros(d, d, dtype=every.dtype)
    moments, theirs = na.Moments(d, memory=1e12), delve() and delve().TorchCovarianceMatrix(device="cpu")

    def ours() -> None:
        for x in batches:
            moments.update(x, layout=layout)

    def product() -> None:
        for x in batches:
            part = rows(x)
            if len(batches) == 1:
                torch.mm(part.T, part, out=total)
            else:
                total.addmm_(part.T, part)

    def accumulator() -> None:
        for x in batches:
            if x.ndim == 4:  # as delve's own hook does
                x = x.permute([1, 0, 2, 3]).flatten(1).permute([1, 0])
            theirs.update(x, False)

    ours()
    product()
    uncentred = every.double().T @ every.double()
    errors = {
        "netassay": checked(f"{name}, netassay", torch.from_numpy(moments.scatter), scatter(every), ours_at(n)),
        "torch": checked(f"{name}, torch", total, uncentred, TORCH[dtype]),
    }
    assert moments.count == n
    arms: dict[str, Callable[[], object]] = {"netassay": ours, "torch": product}
    if theirs:
        accumulator()
        errors["delve"] = checked(f"{name}, delve", theirs._cov_mtx, uncentred, DELVE)
        arms["delve"] = accumulator
    del uncentred
    return Case(group, name, common.interleaved(arms, rounds=rounds), errors, floors(torch.cat(batches), n, d))


def covariance(rounds: int) -> Iterator[Pending]:
    """(4096, d) rows in one update."""
    wanted = [("float32", d, 0.5) for d in (64, 256, 512, 1024, 2048, 4096)]
    wanted += [("bfloat16", d, 0.5) for d in (512, 1024, 2048, 4096)] + [("bfloat16", 2048, 4.0)]
    wanted += [("float16", d, 0.5) for d in (512, 1024, 2048, 4096)] + [("float64", 1024, 0.5)]
    for dtype, d, mean in wanted:
        name = f"{dtype} d={d}" + (f", means of {mean:.0f} spreads" if mean > 1 else "")
        yield name, partial(stream, "cov", name, [data(ROWS, d, dtype, mean)], lambda x: x, "rows", rounds)


def maps(rounds: int) -> Iterator[Pending]:
    """Convolution maps (32, C, H, W); the peers permute and copy, then multiply."""
    import torch

    for channels, side in ((64, 56), (256, 28), (512, 14)):
        rows = data(32 * side * side, channels, "float32")
        last = rows.view(32, side, side, channels).permute(0, 3, 1, 2)
        for name, x in (("NCHW", last.contiguous()), ("channels_last", last)):
            assert x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
            flatten: Callable[[Tensor], Tensor] = lambda x: x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])  # noqa: E731
            shape = f"(32, {channels}, {side}, {side}) {name}"
            yield shape, partial(stream, "maps", shape, [x], flatten, "channels_first", rounds)


def small(rounds: int) -> Iterator[Pending]:
    """4096 rows in small batches."""
    for batch, d in ((256, 2048), (256, 4096), (32, 1024)):
        batches = list(data(ROWS, d, "float32").split(batch))
        name = f"{len(batches)} x {batch} rows, d={d}"
        yield name, partial(stream, "small", name, batches, lambda x: x, "rows", rounds)


# ---- whole training steps ----

#: What is watched in each arm.
WATCHED = {"watched": ("saturation",), "both": ("saturation", "complexity"), "complexity": ("complexity",)}


def assert_states(model: nn.Module, x: Tensor) -> float:
    """A watched pass against float64 moments of the outputs that hooks of our own catch; the largest error."""
    import torch
    from torch import nn

    import netassay as na

    model, caught = copy.deepcopy(model), {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.register_forward_hook(lambda _, __, y, name=name: caught.update({name: y.detach().movedim(1, -1)}))
    with na.watch(model) as watch:
        model(x)
    states = {name: moments for (name, _), moments in watch.states.items()}
    assert states.keys() == caught.keys()
    worst = 0.0
    for name, y in caught.items():
        rows = y.reshape(-1, y.shape[-1])
        assert states[name].count == rows.shape[0]
        worst = max(worst, checked(name, torch.from_numpy(states[name].scatter), scatter(rows), ours_at(len(rows))))
    return worst


def step(name: str, model: nn.Module, x: Tensor, optimiser: Callable[[Any], Any], repeats: int, rounds: int) -> Case:
    """Times training steps of copies of one model: bare, watched, watched with complexity too, or with it alone, under
    delve, and bare again, which shows the noise.

    Args:
        repeats: steps per timing; so many that the rows of a timing fill whole blocks of 1024.
    """
    import torch
    from torch.nn.functional import cross_entropy

    import netassay as na

    worst, target = assert_states(model, x), torch.arange(len(x)) % 10
    copies = {arm: copy.deepcopy(model) for arm in ("bare", *WATCHED, "delve", "bare again")}
    if not delve():
        del copies["delve"]

    def training(model: nn.Module) -> Callable[[], object]:
        optimizer = optimiser(model.parameters())

        def one() -> None:
            optimizer.zero_grad()
            cross_entropy(model(x), target).backward()
            optimizer.step()

        return one

    steps = {arm: training(model) for arm, model in copies.items()}
    more: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        watches = {
            arm: stack.enter_context(na.watch(copies[arm], measures=measures, memory=1e12))
            for arm, measures in WATCHED.items()
        }
        watch, tracker = watches["watched"], None
        if delve():
            options = {"save_to": "csv", "stats": ["lsat"], "device": "cpu"}
            tracker = delve().SaturationTracker(folder, modules=copies["delve"], **options)
            assert len(tracker.layers) == len(watch._layers)
        times = common.interleaved(steps, rounds=rounds, repeats=repeats)
        for arm, each in watches.items():
            taken = times[arm].rounds * repeats + 2
            assert all(row.calls == taken for row in each.report().layers)
            for bare, watched in zip(copies["bare"].parameters(), copies[arm].parameters(), strict=True):
                assert torch.equal(bare, watched), "the watch changed the training"
        reports: dict[str, Callable[[], object]] = {"report": watch.report}
        if tracker:
            logs = tracker.logs["train-covariance-matrix"]
            kept = {layer: state._cov_mtx for layer, state in logs.items()}

            def statistics() -> None:
                for layer, state in logs.items():  # which asking for the statistics forgets
                    state._cov_mtx = kept[layer]
                tracker.add_saturations(save=False)

            reports["delve's"] = statistics
        more["layers"] = len(watch.states)
        for which, work in reports.items():
            seconds = [common._timed(work, 1) for _ in range(2)]
            times[which] = Timing(min(seconds), max(seconds), 2)
    return Case("step", name, times, {"netassay": worst}, more=more)


def steps(rounds: int) -> Iterator[Pending]:
    """Forward, loss, backward and optimiser, every layer watched at every position."""
    import torch

    torch.manual_seed(0)
    digits, images = torch.rand(256, 784), torch.rand(64, 3, 32, 32)
    sgd = partial(torch.optim.SGD, lr=0.01)
    adam = partial(torch.optim.Adam, lr=1e-4)
    for name, model, x, optimiser, repeats in (
        ("MLP 784-2048x4-10, batch 256, SGD", models.mlp(), digits, sgd, 4),
        ("MLP 784-2048x4-10, batch 256, Adam", models.mlp(), digits, adam, 4),
        ("ResNet-18, (64, 3, 32, 32), SGD", models.resnet(), images, sgd, 1),
    ):
        yield name, partial(step, name, model, x, optimiser, repeats, rounds)


# ---- tables ----


def stream_row(case: Case) -> list[str]:
    """A row of the first three tables."""
    ours, peers = case.times["netassay"], [case.times.get(peer) for peer in ("torch", "delve")]
    ratios = [peer.over(ours) if peer else "-" for peer in peers]
    bounds = [f"{ours.minimum / case.floors[floor]:.1f}" for floor in ("read", "products")]
    found = [f"{case.errors[arm]:.0e}" for arm in ("netassay", "torch")]
    return [case.name, ours.milliseconds(), *ratios, *bounds, *found]


def step_row(case: Case) -> list[str]:
    """A row of the last table."""
    times, bare = case.times, case.times["bare"]
    ratios = [times[arm].over(bare) if arm in times else "-" for arm in (*WATCHED, "delve", "bare again")]
    seconds = [f"{times[arm].minimum:.2f}" if arm in times else "-" for arm in ("report", "delve's")]
    return [case.name, bare.milliseconds(), *ratios, *seconds, f"{case.errors['netassay']:.0e}"]


STREAM = ("", "netassay ms", "torch x", "delve x", "/ read", "/ products", "error", "torch's")
STEP = (
    "",
    "bare ms",
    "watched / bare",
    "both / bare",
    "complexity / bare",
    "delve / bare",
    "bare / bare",
    "report s",
    "delve's s",
    "error",
)
GROUPS = {
    "cov": Group(f"Streaming covariance of ({ROWS}, d) rows", covariance, STREAM, stream_row),
    "maps": Group("Convolution maps, float32, every position a row", maps, STREAM, stream_row),
    "small": Group(f"{ROWS} float32 rows in small batches", small, STREAM, stream_row),
    "step": Group("Whole training steps", steps, STEP, step_row),
}
NOTES = (
    "torch x, delve x: their time over ours. / read: ours over one read of x.",
    "/ products: ours over n d^2/2 multiply-adds at the best peak.",
)


def peaks() -> dict[str, Any]:
    """Tells and returns the multiply-adds per second at peak."""
    rates = {dtype: peak(dtype) for dtype in ("bfloat16", "float32")}
    told = ", ".join(f"{rate / 1e9:.0f} ({dtype})" for dtype, rate in rates.items())
    print(f"products at peak: {told} GMAC/s")
    return {"peak": rates}


if __name__ == "__main__":
    common.main(__doc__, GROUPS, ("netassay", "torch", "numpy", "delve"), notes=NOTES, measure=peaks)
