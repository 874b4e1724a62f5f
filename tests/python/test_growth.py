"""Power law beside saturation: exact data is recognised, and what is neither is not named.

Data made by a formula without noise is fitted to rounding; the one-dimensional search ends at 1e-6 of the scale.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netassay.base.errors import DomainError, ShapeError, TooFewRows
from netassay.complexity import Growth, growth
from python.full import count

LAWS = settings(max_examples=count(15, 300), deadline=None, derandomize=True)
STEPS = np.array([1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233], float)


def noisy(y: np.ndarray, size: float, seed: int = 0) -> np.ndarray:
    return y * np.exp(size * np.random.default_rng(seed).standard_normal(len(y)))


@LAWS
@given(st.floats(0.1, 2), st.booleans(), st.floats(0.01, 100))
def test_a_power_law_is_recognised_and_not_saturation(slope: float, falls: bool, prefactor: float) -> None:
    slope = -slope if falls else slope
    fit = growth(STEPS, prefactor * STEPS**slope)
    assert fit.better == "power"
    assert fit.slope == pytest.approx(slope, abs=1e-9)
    assert fit.prefactor == pytest.approx(prefactor, rel=1e-9)
    assert fit.r_squared == pytest.approx(1, abs=1e-9)
    assert (fit.points, fit.window) == (12, (1.0, 233.0))


@LAWS
@given(st.floats(3, 60), st.floats(0.2, 0.95), st.booleans())
def test_saturation_is_recognised_and_no_power_law(scale: float, share: float, falls: bool) -> None:
    gap = -share if falls else share
    fit = growth(STEPS, 1.7 * (1 - gap * np.exp(-STEPS / scale)))
    assert fit.better == "saturation"
    assert fit.limit == pytest.approx(1.7, rel=1e-5)
    assert fit.gap == pytest.approx(1.7 * gap, rel=1e-4)
    assert fit.scale == pytest.approx(scale, rel=1e-4)
    assert fit.saturation_r_squared == pytest.approx(1, abs=1e-6)


def test_a_straight_line_on_logarithmic_axes_alone_would_take_saturation_for_a_power_law() -> None:
    """A window before saturation shows: R^2 of the power law is 0.99, and the other fit explains it better."""
    steps = np.arange(5, 60.0)
    fit = growth(steps, noisy(2 - 1.8 * np.exp(-steps / 60), 1e-3))
    assert fit.r_squared > 0.99
    assert fit.better == "saturation"


@pytest.mark.parametrize(("size", "power"), [(0.01, True), (0.01, False), (0.03, True), (0.03, False)])
def test_noise_of_some_percent_changes_no_verdict(size: float, power: bool) -> None:
    y = STEPS**0.4 if power else 2 - 1.8 * np.exp(-STEPS / 20)
    for seed in range(5):
        assert growth(STEPS, noisy(y, size, seed)).better == ("power" if power else "saturation")


def test_noise_is_neither() -> None:
    fit = growth(STEPS, noisy(np.ones(12), 0.3))
    assert fit.better == "neither"
    assert "poor" in fit.flags


def test_values_that_stay_are_neither() -> None:
    fit = growth(STEPS, np.full(12, 0.7))
    assert (fit.better, fit.slope, fit.gap, fit.flags) == ("neither", 0.0, 0.0, ("constant",))
    assert fit.limit == pytest.approx(0.7)


def test_what_both_explain_alike_is_a_tie() -> None:
    """Values that rise by a thousandth over a short window: both are straight lines there."""
    steps = np.linspace(100, 101, 40)
    fit = growth(steps, noisy(1 + 0.01 * (steps - 100), 1e-4))
    assert (fit.better, "tie" in fit.flags) == ("neither", True)


@pytest.mark.parametrize("falls", [False, True])
@pytest.mark.parametrize(("curve", "flag"), [("line", "unbounded"), ("noisy line", "unbounded"),
                                             ("exponential", "accelerating"), ("noisy exponential", "accelerating"),
                                             ("parabola", "accelerating")])  # fmt: skip
def test_what_has_no_limit_is_no_saturation(curve: str, flag: str, falls: bool) -> None:
    steps = np.arange(1, 61.0)
    y = {"line": 1 + 0.01 * steps, "exponential": np.exp(0.02 * steps), "parabola": 1 + (steps / 60) ** 2}[
        curve.removeprefix("noisy ")
    ]
    for seed in range(5):
        values = noisy(8 - y if falls else y, 0.002 if "noisy" in curve else 0, seed)
        fit = growth(steps, values)
        assert fit.better == "neither"
        assert flag in fit.flags


def test_a_curve_with_a_limit_is_not_unbounded() -> None:
    assert growth(STEPS, noisy(2 - 1.8 * np.exp(-STEPS / 20), 0.03)).flags == ()


@LAWS
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 100))
def test_units_do_not_matter(steps: float, values: float, seed: int) -> None:
    y = noisy(2 - 1.5 * np.exp(-STEPS / 20), 0.02, seed)
    one, other = growth(STEPS, y), growth(steps * STEPS, values * y)
    assert other.better == one.better
    assert other.slope == pytest.approx(one.slope, rel=1e-6)
    assert other.limit == pytest.approx(values * one.limit, rel=1e-4)
    assert other.scale == pytest.approx(steps * one.scale, rel=1e-3)
    assert other.saturation_residual == pytest.approx(one.saturation_residual, rel=1e-6)


def test_the_order_of_points_does_not_matter() -> None:
    y = noisy(STEPS**0.5, 0.05)
    one, other = growth(STEPS, y), growth(STEPS[::-1], y[::-1])
    assert other.slope == pytest.approx(one.slope, rel=1e-12)
    assert other.better == one.better


def test_a_window_is_the_points_inside() -> None:
    y = noisy(STEPS**0.5, 0.05)
    assert growth(STEPS, y, window=(3, 100)) == growth(STEPS[2:10], y[2:10])


def test_what_has_no_logarithm_is_left_out_of_both_fits() -> None:
    steps, y = np.concatenate([[0], STEPS, [300, 400]]), np.concatenate([[0.1], STEPS**0.5, [np.nan, 0.0]])
    fit = growth(steps, y)
    assert (fit.points, fit.flags) == (12, ("left_out",))
    assert fit.slope == pytest.approx(0.5)


def test_steps_that_begin_late_are_fitted_as_well() -> None:
    steps = np.linspace(1e6, 1e6 + 300, 20)
    fit = growth(steps, 2 - np.exp(-(steps - 1e6) / 50))
    assert (fit.better, fit.limit) == ("saturation", pytest.approx(2, rel=1e-6))


@pytest.mark.parametrize(("error", "text", "misuse"), [
    (ShapeError, "got steps of shape (3,) and values of shape (4,)", lambda: growth([1, 2, 3], [1, 2, 3, 4])),
    (TooFewRows, "got 3 points at 3 steps", lambda: growth([1, 2, 3], [1, 2, 3])),
    (TooFewRows, "got 4 points at 2 steps", lambda: growth([1, 1, 2, 2], [1, 2, 3, 4])),
    (TooFewRows, "got 2 points", lambda: growth(STEPS, STEPS, window=(2, 3))),
    (DomainError, "got window (3,), expected (first, last)", lambda: growth(STEPS, STEPS, window=(3,))),
    (DomainError, "first < last", lambda: growth(STEPS, STEPS, window=(3, 2))),
])  # fmt: skip
def test_a_misuse_says_what_was_got_and_what_expected(error: type[Exception], text: str, misuse: Any) -> None:
    with pytest.raises(error, match=re.escape(text)):
        misuse()


def test_a_result_is_frozen() -> None:
    fit = growth(STEPS, STEPS)
    assert isinstance(fit, Growth)
    with pytest.raises(AttributeError):
        fit.slope = 0.0  # type: ignore[misc]
