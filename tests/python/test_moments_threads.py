"""Moments by any number of threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import netassay as na
from python.moments import (
    DTYPES,
    PRECISIONS,
    assert_close,
    bits,
    cut,
    moments,
    rows,
    tolerance,
    typed,
)

pytestmark = pytest.mark.native


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(dtype: str, precision: str) -> None:
    for n, d in ((1, 1), (5, 300), (700, 129), (5000, 37), (3000, 300)):
        x = typed(rows(n, d), dtype)[0]
        parts, results = cut(x, [n // 3, n // 2]), []
        for threads in (1, 2, 3, 7):
            m = moments(*parts, precision=precision, fourth=True, threads=threads)
            m.merge(moments(x, precision=precision, fourth=True, threads=threads), threads=threads)
            results.append(bits(m))
        assert results == results[:1] * 4


def test_threads_read_channels_first_alike() -> None:
    x = rows(4 * 600, 70).reshape(4, 70, 20, 30).astype(np.float32)
    results = [bits(moments(x, width=70, layout="channels_first", threads=t)) for t in (1, 2, 3, 7)]
    assert results == results[:1] * 4


def test_updates_from_several_threads_lose_nothing() -> None:
    batches = [rows(90, 8, seed=i) for i in range(80)]
    for batch in batches[::7]:
        batch[3, 2] = np.nan
    m = na.Moments(8)
    start = threading.Barrier(4)

    def work(mine: list[np.ndarray]) -> None:
        start.wait()
        for batch in mine:
            m.update(batch, threads=2)
            m.mean  # noqa: B018

    workers = [threading.Thread(target=work, args=(batches[i::4],)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    x = np.concatenate(batches)
    y = x[np.isfinite(x).all(axis=1)]
    z = y - y.mean(axis=0)
    assert_close(
        m,
        x,
        tolerance("float64", "exact", len(x)),
        float(np.sum(z * z)) * 2 + len(z) * float(np.max(np.sum(z * z, axis=1))),
    )
