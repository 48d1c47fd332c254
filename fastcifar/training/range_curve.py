"""The curve of a learning-rate range test: smoothed while it is measured, then read.

After Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv 1506.01186), section 3.3, with the batches'
losses in place of accuracies.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastcifar.errors import CheckFailedError, UsageError

DIVERGED = 4.0
"""A test ends where the smoothed loss is so many times its minimum."""
WINDOW = 10
"""Steps that the moving average spans, 1 / (1 - decay). A number of steps and no share of the test: a loss takes steps,
too, to grow once the rate is too high, and at such a rise the average runs ahead of it by about as many."""
FEWEST_STEPS = 5 * WINDOW
CLEARLY = 2.0
"""So many standard deviations of a single batch's loss make a change of the smoothed loss worth reading."""
NORMAL_MEDIAN = statistics.NormalDist().inv_cdf(0.75)
"""Median of the absolute value of a standard normal variable."""
SHARE_OF_UPPER = 0.5
"""Of a quadratic the largest stable rate is 2 / curvature, and the best one 1 / curvature."""


@dataclass
class Curve:
    """What was measured, a value a step.

    Attributes:
        rates: learning rates as SGD applies them to the weights.
        losses: of the batches, in nats, label smoothing included, each before the update at its rate; all finite.
        smoothed: bias-corrected exponential moving average of the losses.
        smoothed_rates: the same average of the rates' logarithms, as rates. Against these the smoothed loss does not
            lag behind: where the loss is a straight line over the logarithm, so is the average, and the same one.
        ended: "complete", "diverged", or "not finite" where the loss after the last one was not.
    """

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)
    smoothed_rates: list[float] = field(default_factory=list)
    ended: str = "complete"


@dataclass(frozen=True)
class Reading:
    """What a curve says, the rates being None where it does not say them.

    Attributes:
        suggestion: peak for the one-cycle schedule: half of `upper`.
        lower, upper: ends of the useful range, the rates between which the smoothed loss keeps half of its fall.
        level: the smoothed loss at these ends.
        lowest_loss, lowest_at: minimum of the smoothed loss, and where.
        verdict: why there is no suggestion, in a line; empty where there is one.
    """

    suggestion: float | None
    lower: float | None
    upper: float | None
    level: float
    lowest_loss: float
    lowest_at: float
    verdict: str = ""


def growing_rates(first: float, last: float, steps: int) -> list[float]:
    """`steps` learning rates from `first` to `last`, each the same multiple of the one before.

    Raises:
        UsageError: ends that are not positive, finite and in this order, or too few steps to read anything from.
    """
    if not 0 < first < last < math.inf:
        raise UsageError(
            f"--from {first:g} --to {last:g} is no range of learning rates", "the lower one first, above 0"
        )
    if steps < FEWEST_STEPS:
        raise UsageError(f"--steps {steps}: too few to read a curve from", f"use {FEWEST_STEPS} or more")
    return [first * (last / first) ** (step / (steps - 1)) for step in range(steps)]


class MovingAverage:
    """Exponential, and without the pull to zero at its start (the correction of Kingma and Ba, arXiv 1412.6980)."""

    def __init__(self, window: float = WINDOW) -> None:
        self.decay = 1 - 1 / window
        self._sum = self._weights = 0.0

    def __call__(self, value: float) -> float:
        """The average after one value more."""
        self._sum = self.decay * self._sum + value
        self._weights = self.decay * self._weights + 1
        return self._sum / self._weights


def record_curve(
    rates: list[float], losses: Iterable[float], on_step: Callable[[int, float, float], None] | None = None
) -> Curve:
    """Take a loss for each rate, until the smoothed loss diverges or a loss is not finite.

    Args:
        rates: from `growing_rates`.
        losses: each is asked for only once the one before has been looked at.
        on_step: told the number of steps done, the rate, and the smoothed loss.

    Raises:
        CheckFailedError: the first loss is not finite.
    """
    curve = Curve()
    average_loss, average_log_rate = MovingAverage(), MovingAverage()
    for rate, loss in zip(rates, losses, strict=False):
        if not math.isfinite(loss):
            curve.ended = "not finite"
            break
        curve.rates.append(rate)
        curve.losses.append(loss)
        curve.smoothed.append(average_loss(loss))
        curve.smoothed_rates.append(math.exp(average_log_rate(math.log(rate))))
        if on_step:
            on_step(len(curve.losses), rate, curve.smoothed[-1])
        if curve.smoothed[-1] > DIVERGED * min(curve.smoothed):
            curve.ended = "diverged"
            break
    if not curve.losses:
        raise CheckFailedError("the loss is not finite before the first update", "look at the recipe and the network")
    return curve


def batch_noise(losses: list[float]) -> float:
    """Standard deviation of a batch's loss about its trend, if the noise is normal.

    From the median difference of neighbours, to which neither trend nor divergence matters.
    """
    differences = [abs(after - before) for before, after in itertools.pairwise(losses)]
    return statistics.median(differences) / (math.sqrt(2) * NORMAL_MEDIAN) if differences else 0.0


def read_curve(curve: Curve) -> Reading:
    """The useful range of rates, and half of its upper end as the suggested peak.

    Neither the steepest descent nor the minimum is read: a falling loss is nearly straight and then flat, and the
    noise of single batches moves both along it from seed to seed. Where the loss has lost half of what it had gained
    it rises steeply, and its place is well defined. There the rate is as large as a stable one can be, and somewhat
    more, since growing needs steps; a peak must keep away from it.
    """
    smoothed, at = curve.smoothed, curve.smoothed_rates
    settled = min(WINDOW, len(smoothed)) - 1  # before it the average is of too few batches
    lowest = min(range(settled, len(smoothed)), key=smoothed.__getitem__)
    highest = max(range(settled, lowest + 1), key=smoothed.__getitem__)
    level = (smoothed[highest] + smoothed[lowest]) / 2

    def no_answer(verdict: str, lower: float | None = None) -> Reading:
        return Reading(None, lower, None, level, smoothed[lowest], at[lowest], verdict)

    clear = CLEARLY * batch_noise(curve.losses)
    if smoothed[highest] - smoothed[lowest] <= clear:
        if curve.ended != "complete" or smoothed[-1] - smoothed[lowest] > clear:
            return no_answer("the loss rises without having fallen: start lower with --from, or take more --steps")
        return no_answer("the loss does not fall beyond its noise: go higher with --to, or take more --steps")
    lower = next(rate for rate, loss in zip(at[highest:], smoothed[highest:], strict=True) if loss <= level)
    if curve.ended == "complete" and smoothed[-1] <= level:
        return no_answer("the loss never rises: go higher with --to", lower)
    upper = next(rate for rate, loss in zip(reversed(at), reversed(smoothed), strict=True) if loss <= level)
    return Reading(SHARE_OF_UPPER * upper, lower, upper, level, smoothed[lowest], at[lowest])
