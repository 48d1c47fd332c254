"""Which classes are recognised, which are confused, and how far the confidence can be trusted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastcifar.evaluation.metrics import ReliabilityBin
from fastcifar.report.style import EVALUATED, FAINT, INK, TRAIN, WIDTH, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> "Figure":
    """Counts, [true class][predicted class]; what is right in blue and what is not in orange, each with its scale."""
    counts = np.array(confusion)
    right = np.eye(len(classes), dtype=bool)
    with new_figure(WIDTH * 0.86) as figure:
        axes = figure.subplots()
        for chosen, colours in ((right, "Blues"), (~right, "Oranges")):
            most = max(1, counts[chosen].max())
            axes.imshow(np.ma.masked_array(counts, ~chosen), cmap=colours, vmin=0, vmax=1.25 * most)
            for row, column in zip(*np.nonzero(chosen & (counts > 0)), strict=True):
                dark = counts[row, column] > 0.75 * most
                axes.text(
                    column, row, str(counts[row, column]), ha="center", va="center", fontsize=8,
                    color="white" if dark else INK,
                )  # fmt: skip
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(classes)), classes)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set(title="Confusion matrix: images", xlabel="predicted", ylabel="true")
        return figure


def per_class_figure(per_class: dict[str, float | None], accuracy: float) -> "Figure":
    """Percent right of each class, the best first, and of all images."""
    known = {name: percent for name, percent in per_class.items() if percent is not None}
    names = sorted(known, key=lambda name: known[name])
    with new_figure(0.28 * len(names) + 0.9) as figure:
        axes = figure.subplots()
        bars = axes.barh(names, [known[name] for name in names], color=EVALUATED, height=0.66)
        axes.bar_label(bars, fmt=" %.1f", fontsize=8.5)
        axes.axvline(accuracy, color=TRAIN, linewidth=1.2)
        axes.set_title(f"all: {accuracy:.2f}", loc="right", color=TRAIN, fontsize=9.5)
        axes.set(title="Percent right, class by class", xlim=(0, 108))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        return figure


def reliability_figure(bins: Sequence[ReliabilityBin], error: float) -> "Figure":
    """Accuracy against confidence, and how many images each bin holds."""
    width = 100 / len(bins)
    centres = [width * (place + 0.5) for place in range(len(bins))]
    used = [(centre, one) for centre, one in zip(centres, bins, strict=True) if one.images]
    with new_figure(4.4) as figure:
        axes, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        axes.bar([c for c, _ in used], [one.accuracy for _, one in used], 0.92 * width, color=EVALUATED, label="right")
        axes.plot([0, 100], [0, 100], "--", color=INK, linewidth=1, label="as sure as right")
        axes.plot([one.confidence for _, one in used], [one.accuracy for _, one in used], ".", color=TRAIN)
        axes.set(title="Calibration", ylabel="percent right", xlim=(0, 100), ylim=(0, 100))
        axes.set_title(f"expected calibration error {error:.2f} %", loc="right", fontsize=8.5, weight="normal")
        axes.legend(loc="upper left")
        below.bar([c for c, _ in used], [one.images for _, one in used], 0.92 * width, color=FAINT)
        below.set(xlabel="confidence in percent", ylabel="images")
        return figure
