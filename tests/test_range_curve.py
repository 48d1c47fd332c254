"""Smoothing and reading of a range test, on curves whose answer is known."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from fastcifar.errors import CheckFailedError, UsageError
from fastcifar.training.range_curve import (
    DIVERGED,
    Curve,
    MovingAverage,
    growing_rates,
    read_curve,
    record_curve,
)


def curve_of(losses: list[float], first: float = 1e-4, last: float = 10.0) -> Curve:
    return record_curve(growing_rates(first, last, len(losses)), losses)


def valley(steps: int = 200, noise: float = 0.0, seed: int = 0) -> list[float]:
    """2.4 at first, down on a straight line from 1e-3 on to 1.8 at 1, then steeply up."""
    generator = np.random.default_rng(seed)
    at = np.log10(growing_rates(1e-4, 10.0, steps))
    clean = 2.4 - 0.2 * np.clip(at + 3, 0, 3) + 6 * np.clip(at, 0, None) ** 2
    return (clean + generator.normal(0, noise, steps)).tolist() if noise else clean.tolist()


def test_rates_grow_by_the_same_factor() -> None:
    rates = growing_rates(1e-4, 10.0, 51)
    assert (rates[0], rates[25], rates[-1]) == (1e-4, pytest.approx(10**-1.5), pytest.approx(10.0))
    np.testing.assert_allclose(np.divide(rates[1:], rates[:-1]), 10 ** (5 / 50))


@pytest.mark.parametrize(
    ("first", "last", "steps"), [(0, 1, 100), (-1, 1, 100), (1, 1, 100), (2, 1, 100), (1, math.inf, 100), (1, 2, 49)]
)
def test_what_is_no_range_is_refused(first: float, last: float, steps: int) -> None:
    with pytest.raises(UsageError):
        growing_rates(first, last, steps)
    with pytest.raises(UsageError):
        growing_rates(math.nan, last, steps)


@pytest.mark.parametrize("window", [1.0, 2.5, 10.0])
def test_the_average_is_the_weighted_mean_of_all_values_so_far(window: float) -> None:
    values = np.random.default_rng(0).normal(3, 2, 50)
    average = MovingAverage(window)
    for count in range(1, 51):
        weights = (1 - 1 / window) ** np.arange(count)[::-1]
        assert average(values[count - 1]) == pytest.approx(np.average(values[:count], weights=weights))
    constant = MovingAverage(window)
    assert [constant(7.5) for _ in range(5)] == pytest.approx([7.5] * 5)


def test_the_smoothed_loss_does_not_lag_behind_a_straight_line() -> None:
    rates = growing_rates(1e-3, 1.0, 120)
    curve = record_curve(rates, [5 - math.log(rate) for rate in rates])
    np.testing.assert_allclose(curve.smoothed, 5 - np.log(curve.smoothed_rates))
    assert curve.ended == "complete"


def noisy_descent(rates: list[float], curvatures: list[float], momentum: float, seed: int) -> Iterator[float]:
    """Losses of SGD with Nesterov momentum, as torch defines it, on a quadratic with noise in its gradients."""
    generator = np.random.default_rng(seed)
    curvature = np.array(curvatures)
    position, velocity = np.ones(len(curvatures)), np.zeros(len(curvatures))
    for rate in rates:
        yield float(0.1 + (curvature * position**2).sum() / 2)
        gradient = curvature * position + generator.normal(0, 0.02, len(curvatures))
        velocity = momentum * velocity + gradient
        position = position - rate * (gradient + momentum * velocity)


@pytest.mark.parametrize("curvatures", [[3.0], [40.0, 5.0, 1.0]])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_a_quadratic_the_upper_end_is_the_largest_stable_rate(
    curvatures: list[float], momentum: float, seed: int
) -> None:
    """It is 2 / curvature, with Nesterov momentum m that times (1 + m) / (1 + 2 m); growing above it takes steps."""
    stable = 2 / max(curvatures) * (1 + momentum) / (1 + 2 * momentum)
    for steps, overshoot in ((200, 1.5), (2000, 1.2)):
        rates = growing_rates(stable / 1e3, stable * 1e2, steps)
        curve = record_curve(rates, noisy_descent(rates, curvatures, momentum, seed))
        reading = read_curve(curve)
        assert curve.ended == "diverged"
        assert reading.upper is not None
        assert stable * 0.95 < reading.upper < stable * overshoot
        assert reading.suggestion == reading.upper / 2


def test_the_ends_are_where_half_of_the_fall_is_left() -> None:
    reading = read_curve(curve_of(valley(2000)))
    assert reading.lower == pytest.approx(10**-1.5, rel=0.05)
    assert reading.upper == pytest.approx(10 ** math.sqrt(0.3 / 6), rel=0.15)
    assert reading.lowest_loss == pytest.approx(1.8, abs=0.03)
    assert reading.level == pytest.approx(2.1, abs=0.02)
    assert reading.verdict == ""


@pytest.mark.parametrize("seed", range(10))
def test_noise_and_a_passing_bump_hardly_move_the_suggestion(seed: int) -> None:
    """The bump moves the minimum and has the steepest descent on its far side."""
    clean = read_curve(curve_of(valley())).suggestion
    losses = valley(noise=0.05, seed=seed)
    losses[125:130] = [2.8] * 5
    found = read_curve(curve_of(losses)).suggestion
    assert clean is not None
    assert found == pytest.approx(clean, rel=0.25)


@pytest.mark.parametrize("seed", range(10))
def test_a_curve_without_an_answer_gets_none(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.05, 200)
    flat = read_curve(curve_of((2.3 + noise).tolist()))
    assert (flat.suggestion, flat.upper) == (None, None)
    assert "does not fall" in flat.verdict
    falling = read_curve(curve_of((2.3 - np.linspace(0, 1, 200) + noise).tolist()))
    assert (falling.suggestion, falling.upper) == (None, None)
    assert falling.lower is not None
    assert "never rises" in falling.verdict
    rising = read_curve(curve_of((2.3 + np.linspace(0, 3, 200) ** 2 + noise).tolist()))
    assert (rising.suggestion, rising.upper) == (None, None)
    assert "without having fallen" in rising.verdict


def test_it_stops_asking_once_the_smoothed_loss_has_diverged() -> None:
    rates = growing_rates(1e-3, 1.0, 100)
    asked, steps = [], []

    def losses() -> Iterator[float]:
        for step in itertools.count():
            asked.append(step)
            yield 1.0 if step < 50 else 2.0 ** (step - 50)

    curve = record_curve(rates, losses(), lambda *told: steps.append(told))
    assert curve.ended == "diverged"
    assert len(asked) == len(curve.losses) == len(curve.rates) < 60
    assert curve.smoothed[-1] > DIVERGED * min(curve.smoothed) >= curve.smoothed[-2]
    assert steps == list(zip(range(1, len(rates)), curve.rates, curve.smoothed, strict=False))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it_and_is_left_out(broken: float) -> None:
    losses = valley()
    losses[170:] = [broken] * 30
    curve = curve_of(losses)
    assert (curve.ended, len(curve.losses)) == ("not finite", 170)
    assert read_curve(curve).suggestion is not None
    with pytest.raises(CheckFailedError, match="first update"):
        curve_of([broken] * 50)
