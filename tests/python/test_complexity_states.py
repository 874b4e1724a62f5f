"""States of the switching counts: threads, positions, and what makes one."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from netassay.base.errors import DomainError, LimitExceeded, ShapeError, StateError
from netassay.complexity import Switching, complexity, footprint
from python.switching import bits, channels_last, fed, numbers
from reference import complexity as reference

pytestmark = pytest.mark.native

# ---- threads ----


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_threads_change_no_bit(dtype: str) -> None:
    options: list[dict[str, Any]] = [
        {"rule": "relu", "patterns": True, "classes": 3},
        {"rule": "relu6"},
        {"rule": "maxpool", "kernel_size": 2},
    ]
    for shape in ((300, 2, 10, 20), (40, 70, 8, 9), (9, 1, 100, 120), (1500, 100), (30, 3000)):
        x = numbers(shape).astype(dtype)
        labels = np.arange(len(x)) % 3
        for option in options:
            if len(shape) == 2 and "kernel_size" in option:
                continue
            for x_given in (x, channels_last(x)):
                of = labels if "classes" in option else None
                expected = bits(fed(x_given, threads=1, labels=of, **option))
                for threads in (2, 3, 7):
                    assert bits(fed(x_given, threads=threads, labels=of, **option)) == expected


def test_many_samples_do_not_overflow_narrow_counters() -> None:
    """More than 2^16 float16 samples of one unit that is always on, and of positions."""
    rows = np.ones((70_000, 3), np.float16)
    assert (complexity(rows).shares[1] == 1).all()
    maps = np.ones((70_000, 2, 3), np.float16)
    for x_given in (maps, channels_last(maps)):
        got = complexity(x_given)
        assert (got.shares[1] == 1).all()
        assert got.mean_position == 0
    one = np.ones((1, 1, 300, 300), np.float16)
    assert (complexity(one).shares[1] == 1).all()
    assert (complexity(np.ones((1, 2, 300, 300), np.float16).swapaxes(1, 3)).shares[1] == 1).all()


# ---- states ----


def test_positions_stop_and_channels_go_on_when_the_shape_varies() -> None:
    a, b = numbers((3, 4, 5, 6)), numbers((2, 4, 6, 5))
    state = fed(a, b)
    got = state.result()
    assert "shape_varies" in got.flags
    assert (got.position_bits, got.mean_position, got.hamming, got.positions) == (None, None, None, None)
    together = np.concatenate([np.moveaxis(x, 1, -1).reshape(-1, 4) for x in (a, b)])
    assert np.array_equal(got.channel_bits, complexity(together, layout="rows").channel_bits)
    assert np.isnan(got.effective_samples).all()
    # batches and merges alike, and for good
    assert bits(fed(a) + fed(b)) == bits(fed(b) + fed(a)) == bits(state)
    assert bits(fed(a, b, a)) == bits(fed(a, a) + fed(b))


def test_positions_may_be_forgotten_before_they_vary() -> None:
    a, b = numbers((3, 4, 5, 6)), numbers((2, 4, 6, 5))
    for options in ({}, {"rule": "maxpool", "kernel_size": 2}, {"patterns": True}):
        first, second = fed(a, **options), Switching(**options)
        assert (first.keeps_positions((5, 6)), first.keeps_positions((6, 5))) == (True, False)
        assert second.keeps_positions((6, 5))
        second.forget_positions()
        assert not second.keeps_positions((6, 5))
        with pytest.raises(ShapeError):
            second.update(np.ones((0, 4, 6, 5)))
        second = pickle.loads(pickle.dumps(second.copy()))
        second.update(b)
        assert "shape_varies" in second.result().flags
        assert second.nbytes < fed(b, **options).nbytes / 2
        merged, empty = fed(b, **options), Switching(**options)
        empty.forget_positions()
        empty.merge(merged)
        assert bits(empty) == bits(second)
        assert bits(first + second) == bits(second + first) == bits(fed(a, b, **options))
        second.clear()
        second.update(b)
        assert bits(second) == bits(fed(b, **options))


def test_positions_are_left_out_where_they_are_not_asked_for() -> None:
    a = numbers((6, 4, 5))
    got = complexity(a, positions=False)
    assert "no_positions" in got.flags
    assert (got.position_bits, got.hamming, got.dead_position) == (None, None, None)
    assert np.array_equal(got.channel_bits, complexity(a).channel_bits)
    assert np.array_equal(got.effective_samples, complexity(a).effective_samples, equal_nan=True)


def test_single_sample_is_flagged() -> None:
    assert "single_sample" in complexity(np.ones((1, 3, 4))).flags


def test_tensors_that_do_not_fit_together_are_refused() -> None:
    state = fed(numbers((3, 4, 5)))
    config, tensors = state.config(), state.tensors()
    more = np.full_like(tensors["state"], 16)
    wrong: list[dict[str, Any]] = [
        {"state": tensors["state"][:, :2]}, {"state": more}, {"state": -more}, {"shape": np.array([6])},
        {"position": tensors["position"][:, :3]}, {"counts": np.array([3, 14, 4, 0])}, {"zero": np.zeros(3, np.int64)},
        {"patterns": np.zeros((3, 1), np.int64)}, {"counts": np.array([3])}, {"shape": np.array([2**40, 2**40])},
        {"counts": np.array([3, 15, 2**60, 0])}, {"position": 4 * np.ones_like(tensors["position"])},
        {"square": 5 * tensors["state"] + 1},
        {"counts": np.array([3, 15, 4, 1]), "position": tensors["position"][..., :0]},  # a shape that has varied
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(StateError, match=r"the tensors do not make a state"):
            Switching.from_tensors(config, {**tensors, **change})
    for change in ({"rule": "relu7"}, {"rule": "maxpool"}, {"layout": "lines"}, {"thresholds": [1.0, 0.0]}):
        with pytest.raises(StateError):
            Switching.from_tensors({**config, **change}, tensors)
    with pytest.raises(StateError):
        Switching.from_tensors({}, tensors)
    labelled = fed(numbers((3, 4, 5)), labels=[0, 1, 1], classes=2)
    with pytest.raises(StateError):
        Switching.from_tensors(labelled.config(), {**labelled.tensors(), "class_observations": np.array([5, 11])})
    summed = fed(numbers((3, 4, 5)), sums=True)
    config, tensors = summed.config(), summed.tensors()
    for change in (
        {"finite": np.full(4, 16)}, {"scatter": -np.ones(4)}, {"mean": np.zeros(3)}, {"finite": np.zeros(3, np.int64)},
    ):  # fmt: skip
        with pytest.raises(StateError):
            Switching.from_tensors(config, {**tensors, **change})


def test_merged_counts_that_would_pass_64_bits_are_refused() -> None:
    state = Switching(positions=False)
    state.add_counts(samples=2**22, state=[2**42], square=[2**62], shape=(1024, 1024))
    before = bits(state)
    with pytest.raises(LimitExceeded, match="64 bits"):
        state.merge(state)
    assert bits(state) == before


def test_clear_forgets_all_and_keeps_the_memory() -> None:
    state = fed(numbers((3, 4, 5, 6)))
    held = state.nbytes
    state.clear()
    assert (state.samples, state.units, state.nbytes) == (0, 0, held)
    state.update(numbers((2, 3)))
    assert bits(state) == bits(fed(numbers((2, 3))))


def test_the_footprint_is_what_a_state_holds() -> None:
    cases: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((3, 4, 5, 6), {}), ((3, 4, 5, 6), {"rule": "relu6"}), ((3, 4, 5, 6), {"positions": False}),
        ((3, 4, 5, 6), {"layout": "channels_last"}), ((3, 4, 5, 6), {"rule": "maxpool", "kernel_size": 2}),
        ((30, 40), {"layout": "rows"}), ((3, 4, 5, 6), {"sums": True}),
    ]  # fmt: skip
    for shape, options in cases:
        held = fed(numbers(shape), **options).nbytes
        assert held <= footprint(shape, **options) <= held + 8 * 40 * 8, (shape, options)


def test_counts_made_elsewhere_are_those_of_an_update() -> None:
    for shape in ((5, 4), (5, 4, 3, 2), (1, 4, 3)):
        a = numbers(shape)
        axes = tuple(range(2, len(shape)))
        for rule, thresholds in (("relu", (0.0,)), ("relu6", (0.0, 6.0))):
            z = reference.states(a, thresholds)
            on = np.array([(z == k) for k in range(1, len(thresholds) + 1)])
            given = {
                "samples": len(a), "state": on.sum(axis=1), "zero": (a == 0).sum(axis=(0, *axes)),
                "nan": np.isnan(a).sum(axis=(0, *axes)),
                "square": (on.sum(axis=tuple(x + 1 for x in axes)) ** 2).sum(axis=1),
            }  # fmt: skip
            if rule == "relu":
                given |= {"state": given["state"][0], "square": given["square"][0]}
            state = Switching(rule=rule)
            state.add_counts(**given)
            assert bits(state) == bits(fed(a, rule=rule))
            state.add_counts(**given)
            assert bits(state) == bits(fed(a, a, rule=rule))
            varied = Switching(rule=rule)
            varied.forget_positions()
            varied.update(a)
            sums = Switching(rule=rule, positions=False)
            total = {**given, "state": given["state"].sum(axis=tuple(x - 1 if rule == "relu" else x for x in axes))}
            sums.add_counts(**total, shape=shape[2:])
            assert bits(sums) == bits(fed(a, rule=rule, positions=False))
            state.clear()
            state.add_counts(**total, observations=a[:, 0].size)
            assert bits(state) == bits(varied)


def test_sums_made_elsewhere_are_those_of_an_update() -> None:
    a = numbers((5, 4))
    a[0] = 1.0
    made = fed(a, sums=True)
    counts = made.counts()
    state = Switching(sums=True)
    given = {"samples": 5, "state": counts["state"][0], **{name: counts[name] for name in ("zero", "nan")}}
    state.add_counts(**given, **{name: counts[name] for name in ("finite", "mean", "scatter")})
    assert bits(state) == bits(made)
    with pytest.raises(DomainError, match=r"sums=True"):
        state.add_counts(**given)
    assert bits(state) == bits(made)


def test_counts_of_classes_made_elsewhere_are_those_of_an_update() -> None:
    a, labels = numbers((6, 4, 3)), np.array([0, 1, 1, 0, 2, 1])
    on = a > 0
    state = Switching(classes=3)
    state.add_counts(
        samples=6, state=on.sum(axis=0), square=(on.sum(axis=2) ** 2).sum(axis=0), zero=(a == 0).sum(axis=(0, 2)),
        nan=np.isnan(a).sum(axis=(0, 2)), class_state=np.array([on[labels == y].sum(axis=(0, 2)) for y in range(3)]),
        class_samples=np.bincount(labels),
    )  # fmt: skip
    assert bits(state) == bits(fed(a, labels=labels, classes=3))
