"""Bad input of the switching counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import netassay as na
from netassay.base.errors import DomainError, DTypeError, LayoutError, LimitExceeded, ShapeError, TooFewRows
from netassay.complexity import Complexity, Switching, complexity, footprint
from python.switching import bits, fed, numbers

pytestmark = pytest.mark.native

MISUSES: list[tuple[type[Exception], str, Any]] = [
    (DomainError, "got rule 'softsign', expected one of relu", lambda: Switching(rule="softsign")),
    (DomainError, "without a threshold", lambda: Switching(rule="threshold")),
    (DomainError, "got 2 thresholds for rule 'relu', expected 1", lambda: Switching(threshold=(0.0, 1.0))),
    (DomainError, "that ascend", lambda: Switching(rule="hardtanh", threshold=(1.0, -1.0))),
    (DomainError, "expected finite numbers", lambda: Switching(threshold=math.nan)),
    (DomainError, "kernel_size=None with rule 'maxpool'", lambda: Switching(rule="maxpool")),
    (DomainError, "kernel_size=2 with rule 'relu'", lambda: Switching(kernel_size=2)),
    (DomainError, "at most half the kernel", lambda: Switching(rule="maxpool", kernel_size=2, padding=2)),
    (DomainError, "expected at most 4096", lambda: Switching(rule="maxpool", kernel_size=(2**33, 2**33), stride=1)),
    (DomainError, "dilation 4611686018427387904", lambda: Switching(rule="maxpool", kernel_size=5, dilation=2**62)),
    (DomainError, "one for each axis", lambda: Switching(rule="maxpool", kernel_size=2, stride=(1, 2, 3))),
    (DomainError, "got patterns of 3 states, expected 2", lambda: Switching(rule="relu6", patterns=True)),
    (DomainError, "got threshold='high', expected numbers", lambda: Switching(threshold="high")),  # type: ignore[arg-type]
    (DomainError, "kernel_size=2.5, expected an integer", lambda: Switching(rule="maxpool", kernel_size=2.5)),  # type: ignore[arg-type]
    (DomainError, "padding=None, expected", lambda: Switching(rule="maxpool", kernel_size=2, padding=None)),  # type: ignore[arg-type]
    (DomainError, "classes=0", lambda: Switching(classes=0)),
    (LayoutError, "got layout 'lines'", lambda: Switching(layout="lines")),
    (LayoutError, "expected (n, channels, ...)", lambda: Switching().update(np.ones(3))),
    (ShapeError, "Switching.update: got 0 samples", lambda: Switching().update(np.ones((0, 3)))),
    (ShapeError, "got 2 samples of 0 units", lambda: Switching().update(np.ones((2, 0)))),
    (ShapeError, "and 0 positions", lambda: Switching().update(np.ones((2, 3, 0)))),
    (ShapeError, "got 4 units, expected 3", lambda: fed(np.ones((2, 3)), np.ones((2, 4)))),
    (ShapeError, "got 3 units, expected 4", lambda: fed(np.ones((2, 4))).merge(fed(np.ones((2, 3))))),
    (ShapeError, "2, those of the window", lambda: fed(np.ones((2, 3, 4)), rule="maxpool", kernel_size=2)),
    (ShapeError, "that a window of 5 fits into", lambda: fed(np.ones((2, 3, 4, 4)), rule="maxpool", kernel_size=5)),
    (DTypeError, "got dtype int64", lambda: Switching().update(np.ones((2, 3), int))),
    (DomainError, "got no labels with 2 classes", lambda: fed(np.ones((2, 3)), classes=2)),
    (DomainError, "got labels with 0 classes", lambda: fed(np.ones((2, 3)), labels=[0, 1])),
    (DomainError, "got label 2, expected 0 to 1", lambda: fed(np.ones((2, 3)), labels=[0, 2], classes=2)),
    (ShapeError, "got 3 labels, expected 2", lambda: fed(np.ones((2, 3)), labels=[0, 1, 1], classes=2)),
    (DTypeError, "labels of dtype float64", lambda: fed(np.ones((2, 3)), labels=[0.0, 1.0], classes=2)),
    (DomainError, "(of tanh or sigmoid: 'threshold'", lambda: Switching(rule="tanh")),
    (DomainError, "another rule", lambda: Switching(threshold=1.0).merge(Switching())),
    (DomainError, "got rule 'relu', expected 'prelu'", lambda: Switching(rule="prelu").merge(Switching())),
    (DomainError, "got positions=0", lambda: Switching().merge(Switching(positions=False))),
    (TypeError, "got int, expected Switching", lambda: Switching().merge(3)),  # type: ignore[arg-type]
    (TooFewRows, "got no samples", lambda: Switching().result()),
    (LimitExceeded, "expected at most 1e-07 GB (memory)", lambda: fed(np.ones((2, 3, 9, 9)), memory=100)),
    (ShapeError, "expected samples of units", lambda: footprint((3,))),
    (DomainError, "got no square", lambda: Switching().add_counts(samples=2, state=np.ones((3, 4), int))),
    (ShapeError, "expected (1, units, ...)", lambda: Switching().add_counts(samples=2, state=3)),
    (ShapeError, "expected counts of each", lambda: Switching().add_counts(samples=1, state=[3, 4], shape=(5,))),
    (DTypeError, "state of dtype float64", lambda: Switching().add_counts(samples=2, state=np.ones(3))),
    (DomainError, "got no square", lambda: Switching().add_counts(samples=2, state=[3, 4], observations=9)),
    (DomainError, "expected sums alone", lambda: Switching().add_counts(samples=1, state=[[3]], observations=9)),
    (DomainError, "larger than", lambda: Switching().add_counts(samples=2, state=[3, 4])),
    (DomainError, "got sums with a window", lambda: Switching(rule="maxpool", kernel_size=2, sums=True)),
    (DomainError, "expected Switching(sums=True)", lambda: Switching().update(np.ones((2, 3)), pooled=True)),
    (DomainError, "sums=1, expected", lambda: Switching().merge(Switching(sums=True))),
    (DomainError, "of finite, mean and scatter", lambda: Switching().add_counts(samples=1, state=[1], mean=[0.0])),
    (DomainError, "with patterns", lambda: Switching(patterns=True).add_counts(samples=2, state=[1, 1])),
]  # fmt: skip


@pytest.mark.parametrize(("error", "text", "misuse"), MISUSES, ids=[text for _, text, _ in MISUSES])
def test_a_misuse_says_what_was_got_and_what_expected(error: type[Exception], text: str, misuse: Any) -> None:
    import re

    with pytest.raises(error, match=re.escape(text)):
        misuse()


def test_a_state_is_unchanged_by_an_update_that_raises() -> None:
    state = fed(numbers((3, 4, 5)), labels=[0, 1, 1], classes=2)
    before = bits(state)
    for a, labels in ((np.ones((3, 5, 5)), [0, 1, 1]), (np.ones((3, 4, 5)), [0, 1, 2]), (np.ones((3, 4, 5)), None)):
        with pytest.raises(na.NetassayError):
            state.update(a, labels)
        assert bits(state) == before
    kept = Switching(memory=400, patterns=True)
    kept.update(numbers((3, 4, 5)))
    held = bits(kept)
    with pytest.raises(LimitExceeded):
        kept.update(np.concatenate([numbers((3, 4, 5))] * 9))
    assert bits(kept) == held
    empty = Switching(memory=10)
    with pytest.raises(LimitExceeded):
        empty.update(numbers((3, 4, 5)))
    assert (empty.samples, empty.units) == (0, 0)


def test_results_are_frozen_and_their_arrays_read_only() -> None:
    got = complexity(numbers((3, 4, 5)), sums=True)
    with pytest.raises(AttributeError):
        got.mean_channel = 0.0  # type: ignore[misc]
    arrays = [value for name in Complexity.__slots__ if isinstance(value := getattr(got, name), np.ndarray)]
    assert len(arrays) == 8
    assert not any(array.flags.writeable for array in arrays)
