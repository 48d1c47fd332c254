"""Curves of several runs in one figure, a colour for those that repeat each other."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fastcifar.report.record import RunRecord
from fastcifar.report.style import SERIES, new_figure
from fastcifar.training.observer import EpochRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Series = Sequence[tuple[str, Sequence[RunRecord]]]
"""Name of a group and its runs."""


def overlaid_accuracy(series: Series) -> "Figure":
    """Accuracy on the evaluated images over the epochs."""
    return _overlaid(series, "Accuracy", "epoch", "percent", lambda e: e.epoch, lambda e: e.val_accuracy)


def overlaid_accuracy_by_time(series: Series) -> "Figure":
    """The same over the seconds of training."""
    return _overlaid(
        series, "Accuracy by time", "seconds of training", "percent", lambda e: e.train_time_s, lambda e: e.val_accuracy
    )


def overlaid_loss(series: Series) -> "Figure":
    """Loss of the training batches over the epochs."""
    return _overlaid(
        series, "Training loss", "epoch", "cross-entropy in nats", lambda e: e.epoch, lambda e: e.train_loss
    )


def _overlaid(
    series: Series,
    title: str,
    x_label: str,
    y_label: str,
    x: Callable[[EpochRecord], float],
    y: Callable[[EpochRecord], float | None],
) -> "Figure":
    with new_figure(3.4) as figure:
        axes = figure.subplots()
        for number, (name, runs) in enumerate(series):
            colour = SERIES[number % len(SERIES)]
            for run in runs:
                points = [(x(epoch), value) for epoch in run.epochs if (value := y(epoch)) is not None]
                count = f" ({len(runs)} runs)" if len(runs) > 1 else ""
                label = f"{name}{count}" if run is runs[0] else None
                if points:
                    axes.plot(*zip(*points, strict=True), ".-", color=colour, linewidth=1.2, alpha=0.85, label=label)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.legend(fontsize=8)
        return figure
