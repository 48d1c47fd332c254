"""The picture of a learning-rate range test."""

from pathlib import Path
from typing import Any

from fastcifar.atomic import written_whole
from fastcifar.training.range_curve import WINDOW, Curve, Reading

INK, GREY, FAINT, LINE, MARK = "#1f2933", "#616e7c", "#9aa5b1", "#1f5fa8", "#c2410c"
RANGE, GRID = "#eff4f9", "#dfe3e8"


def write_range_plot(curve: Curve, reading: Reading, title: str, recipe_peak: float, path: Path) -> None:
    """Write a PNG: the batches' losses, the smoothed loss, the useful range and the suggestion over the learning rate.

    Args:
        title: what was trained, in a few words.
        recipe_peak: the rate that the recipe trains with, drawn beside the suggestion.

    Raises:
        UsageError: the place cannot be written to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_xlim(curve.rates[0], curve.rates[-1])
    axes.set_ylim(*_loss_limits(curve, reading))
    axes.xaxis.set_major_formatter("{x:g}")
    if reading.lower and reading.upper:
        axes.axvspan(reading.lower, reading.upper, color=RANGE, linewidth=0, zorder=0)
        middle = (reading.lower * reading.upper) ** 0.5
        _note(axes, middle, 0.03, f"useful range\n{reading.lower:.2g} to {reading.upper:.2g}", LINE, "center", RANGE)
    axes.plot(curve.rates, curve.losses, color=FAINT, alpha=0.6, linewidth=0.9, label="each batch")
    label = "smoothed, at the mean of its rates"
    axes.plot(curve.smoothed_rates, curve.smoothed, color=LINE, linewidth=2.4, solid_capstyle="round", label=label)
    if reading.suggestion:
        peaks = [
            (reading.suggestion, f"suggested peak {reading.suggestion:.2g}", MARK, "-"),
            (recipe_peak, f"recipe {recipe_peak:g}", GREY, "--"),
        ]
        for (rate, text, colour, dashes), side in zip(sorted(peaks), ("right", "left"), strict=True):
            if curve.rates[0] < rate < curve.rates[-1]:
                axes.axvline(rate, color=colour, linewidth=1.6, linestyle=dashes)
                _note(axes, rate, 1.02, text, colour, side)
    else:
        _note(axes, curve.rates[0], 1.02, f"no suggestion: {reading.verdict}", MARK, "left")
    axes.set_xlabel("learning rate, growing from step to step", color=INK)
    axes.set_ylabel("training loss in nats", color=INK)
    axes.set_title(title, fontsize=11, fontweight="bold", color=INK, loc="left", pad=26)
    axes.grid(which="major", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    axes.legend(loc="lower left", frameon=False, labelcolor=INK, fontsize=9)
    with written_whole(path) as partial:
        FigureCanvasAgg(figure).print_png(str(partial))


def _loss_limits(curve: Curve, reading: Reading) -> tuple[float, float]:
    """From below the lowest loss to somewhat above the start, so that divergence does not flatten the curve."""
    start = max(reading.level, *curve.losses[:WINDOW])
    lowest = min(curve.losses)
    return lowest - 0.25 * (start - lowest), start + 0.5 * (start - lowest)


def _note(axes: Any, rate: float, height: float, text: str, colour: str, side: str, ground: str = "white") -> None:
    """Text at a learning rate and a height as a share of the axes."""
    box = {"facecolor": ground, "edgecolor": "none", "pad": 1.5}
    axes.text(rate, height, text, color=colour, fontsize=9, ha=side, transform=axes.get_xaxis_transform(), bbox=box)
