"""Loss, accuracy and learning rate over the epochs of a run."""

from typing import TYPE_CHECKING

import numpy as np

from fastcifar.config import Config
from fastcifar.report.record import RunRecord
from fastcifar.report.style import EVALUATED, FAINT, INK, TRAIN, new_figure
from fastcifar.training.schedule import build_schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS_AN_EPOCH = 50


def loss_curve(record: RunRecord, evaluated_on: str) -> "Figure":
    """Cross-entropy of training batches and of the evaluated images."""
    with new_figure(3.1) as figure:
        axes = figure.subplots()
        smoothing = record.resolved.config.training.label_smoothing
        smoothed = f", label smoothing {smoothing:g}" if smoothing else ""
        epochs = [epoch.epoch for epoch in record.epochs]
        axes.plot(epochs, [epoch.train_loss for epoch in record.epochs], ".-", color=TRAIN, label=f"training{smoothed}")
        evaluated = [(epoch.epoch, epoch.val_loss) for epoch in record.epochs if epoch.val_loss is not None]
        _plot_evaluated(axes, evaluated, evaluated_on)
        axes.set(title="Loss", xlabel="epoch", ylabel="cross-entropy in nats")
        _mark_image_sizes(axes, record)
        axes.legend()
        return figure


def accuracy_curve(record: RunRecord, evaluated_on: str) -> "Figure":
    """Accuracy on the augmented training batches and on the evaluated images."""
    with new_figure(3.1) as figure:
        axes = figure.subplots()
        epochs = [epoch.epoch for epoch in record.epochs]
        axes.plot(
            epochs, [epoch.train_accuracy for epoch in record.epochs], ".-", color=TRAIN, label="training, augmented"
        )
        evaluated = [(epoch.epoch, epoch.val_accuracy) for epoch in record.epochs if epoch.val_accuracy is not None]
        _plot_evaluated(axes, evaluated, evaluated_on)
        if evaluated:
            axes.set_title(f"{evaluated[-1][1]:.2f} % in the end", loc="right", color=EVALUATED, fontsize=9.5)
        if target := record.resolved.config.training.target:
            axes.axhline(target, color=INK, linewidth=0.8, linestyle="--")
        axes.set(title="Accuracy", xlabel="epoch", ylabel="percent")
        _mark_image_sizes(axes, record)
        axes.legend(loc="lower right")
        return figure


def learning_rate_curve(config: Config, examples_an_epoch: int) -> "Figure":
    """The schedule, step by step, as SGD applies it to the weights."""
    schedule = build_schedule(config.schedule, config.optimizer.learning_rate, examples_an_epoch)
    epochs = np.linspace(0, config.schedule.epochs, config.schedule.epochs * POINTS_AN_EPOCH, endpoint=False)
    with new_figure(2.4) as figure:
        axes = figure.subplots()
        axes.plot(epochs, [schedule.learning_rate(epoch * examples_an_epoch) for epoch in epochs], color=INK)
        axes.set(title="Learning rate", xlabel="epochs", ylabel="of the weights", ylim=(0, None))
        scale = config.optimizer.bias_lr_scale
        if scale != 1:
            axes.set_title(
                f"biases and batch-norm: {scale:g} times as much", loc="right", fontsize=8.5, weight="normal"
            )
        return figure


def _plot_evaluated(axes: "Axes", points: list[tuple[int, float]], evaluated_on: str) -> None:
    """A line through the epochs that were evaluated, if any was."""
    if points:
        label = "held-out images" if evaluated_on == "holdout" else "test images"
        axes.plot(*zip(*points, strict=True), ".-", color=EVALUATED, label=label)


def _mark_image_sizes(axes: "Axes", record: RunRecord) -> None:
    """Where the training images grow: a line between the epochs, and the size above."""
    epochs = record.epochs
    axes.margins(y=0.14)
    sizes = {epoch.image_size for epoch in epochs}
    axes.locator_params(axis="x", integer=True)
    if len(sizes) == 1:
        return
    begins = [
        e for before, e in zip([None, *epochs], epochs, strict=False) if not before or before.image_size != e.image_size
    ]
    for epoch in begins:
        if epoch is not epochs[0]:
            axes.axvline(epoch.epoch - 0.5, color=FAINT, linewidth=0.8, linestyle=":")
        axes.annotate(
            f"{epoch.image_size} px",
            (max(epoch.epoch - 0.5, epochs[0].epoch), 1.0),
            (2, -1),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=7.5,
            color="#6b7a88",
        )
