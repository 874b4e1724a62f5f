"""Passes that fail or are interrupted leave nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

import netassay as na
from netassay.sources.live import recorder
from python.models import Mlp, data, equal, same_states, seeded
from python.watching import Fails, counts


class Stop(BaseException):
    """Not an Exception: torch calls no hook when it passes."""


ERRORS = [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), Stop(), MemoryError(), StopIteration()]


@pytest.mark.parametrize("options", [{}, {"max_rows": 5}, {"every": 1, "precision": "exact"}], ids=str)
@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_pass_that_raises_leaves_nothing_behind_and_the_next_is_fine(
    error: BaseException, options: dict[str, Any]
) -> None:
    def run(fail: bool) -> Any:
        model = seeded(Fails)
        with na.watch(model, **options) as watch:
            model(data(10, 4))
            if fail:
                model.error = error
                with pytest.raises(type(error)) as raised:
                    model(data(10, 4, seed=1))
                assert raised.value is error
                assert counts(watch) == {min(10, options.get("max_rows", 10))}
                assert watch.report()["first"].saturation.rows == watch.report()["second"].saturation.rows
            model(data(10, 4, seed=2))
        return watch

    failed, never_failed = run(True), run(False)
    assert same_states(failed, never_failed)
    ours, theirs = failed.report(), never_failed.report()
    assert ours.to_dict(volatile=False) == theirs.to_dict(volatile=False)


def test_a_pass_inside_an_except_block_counts() -> None:
    model = seeded(Fails)
    with na.watch(model) as watch:
        model.error = ValueError("mine")
        try:
            model(data(10, 4))
        except ValueError:
            model(data(7, 4))
            try:
                raise KeyError
            except KeyError:
                model(data(2, 4))
    assert counts(watch) == {9}


def test_a_pass_that_handles_its_own_exception_counts() -> None:
    class Handles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Fails()

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.inner(x)
            except ValueError:
                return x

    model = Handles()
    model.inner.error = ValueError("mine")
    with na.watch(model) as watch:
        model(data(10, 4))
        model(data(10, 4))
    assert watch.states["inner.first", "train"].count == 20
    assert watch.states["inner.second", "train"].count == 10


def test_an_interrupted_pass_is_not_in_a_file_saved_before_the_next_one(tmp_path: Path) -> None:
    model = seeded(Fails)
    with na.watch(model) as watch:
        model(data(10, 4))
        watch.save(tmp_path / "before")
        model.error = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            model(data(10, 4, seed=1))
        watch.save(tmp_path / "after")
        model(data(10, 4))
    for name in ("before", "after"):
        with na.watch(model) as restored:
            restored.restore(tmp_path / name)
        assert counts(restored) == {10}
    assert counts(watch) == {20}


def test_ctrl_c_inside_the_watch_reaches_the_user_and_leaves_the_state_as_before_the_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as watch, na.watch(model) as control:
        model(data(10, 6))
        before = {key: state.copy() for key, state in watch.states.items()}
        control.pause()
        for place, name, fatal in ((na.Moments, "update", 1), (recorder, "merge_all", 0)):
            calls = iter(range(100))
            original = getattr(place, name)

            def interrupted(
                *args: Any, _f: Any = original, _n: Any = calls, _fatal: int = fatal, **kwargs: Any
            ) -> None:
                if next(_n) == _fatal:
                    raise KeyboardInterrupt
                _f(*args, **kwargs)

            monkeypatch.setattr(place, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                model(data(10, 6, seed=1))
            monkeypatch.undo()
            assert all(equal(before[key], state) for key, state in watch.states.items()), name
        control.resume()
        model(data(10, 6, seed=2))
    assert same_states(watch, control)
