"""Where the time of a run went."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastcifar.report.record import RunRecord
from fastcifar.report.style import EVALUATED, FAINT, INK, TRAIN, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, EVALUATION, COMPILATION, REST = "training steps", "evaluation, checkpoints", "compilation", "start, data, result"
COLOURS = {STEPS: EVALUATED, EVALUATION: TRAIN, COMPILATION: "#2f8f6b", REST: FAINT}


@dataclass(frozen=True)
class EpochTime:
    """Seconds of one epoch."""

    epoch: int
    steps: float
    evaluation: float


def epoch_times(record: RunRecord, examples_an_epoch: int) -> list[EpochTime]:
    """Each epoch's time in training steps, and the rest of it."""
    times = []
    for epoch in record.epochs:
        steps = examples_an_epoch / epoch.images_per_second
        times.append(EpochTime(epoch.epoch, steps, max(0.0, epoch.seconds - steps)))
    return times


def shares(record: RunRecord, times: list[EpochTime]) -> dict[str, float]:
    """Seconds of each kind of work; what happened outside the training clock where one process did the whole run."""
    found = {STEPS: sum(time.steps for time in times), EVALUATION: sum(time.evaluation for time in times)}
    metrics = record.metrics
    if metrics and metrics["warmup_time_s"]:
        found[COMPILATION] = metrics["warmup_time_s"]
    if metrics and metrics["cold_time_s"]:
        found[REST] = max(0.0, metrics["cold_time_s"] - metrics["train_time_s"] - metrics["warmup_time_s"])
    return found


def clock_figure(record: RunRecord, examples_an_epoch: int) -> "Figure":
    """The whole run as one bar, and its epochs."""
    times = epoch_times(record, examples_an_epoch)
    found = shares(record, times)
    total = sum(found.values())
    with new_figure(3.6) as figure:
        whole, axes = figure.subplots(2, height_ratios=(1, 4))
        left = 0.0
        for name, seconds in found.items():
            whole.barh([0], [seconds], left=left, color=COLOURS[name], label=f"{name} {seconds:.1f} s")
            left += seconds
        whole.set(title=f"Where the time went: {total:.1f} s", xlim=(0, total), yticks=[])
        whole.grid(False)
        whole.spines[:].set_visible(False)
        whole.tick_params(length=0)
        whole.set_xticks([])
        whole.legend(loc="upper left", bbox_to_anchor=(-0.01, 0.1), ncols=len(found), fontsize=7.8, columnspacing=1.2)
        epochs = [time.epoch for time in times]
        axes.bar(epochs, [time.steps for time in times], color=COLOURS[STEPS])
        axes.bar(
            epochs,
            [time.evaluation for time in times],
            bottom=[time.steps for time in times],
            color=COLOURS[EVALUATION],
        )
        axes.set(xlabel="epoch", ylabel="seconds")
        axes.locator_params(axis="x", integer=True)
        axes.grid(visible=False, axis="x")
        for time, epoch in zip(times, record.epochs, strict=True):
            if len(times) <= 20:
                axes.annotate(
                    f"{epoch.image_size} px", (time.epoch, time.steps + time.evaluation), (0, 2),
                    textcoords="offset points", ha="center", fontsize=7, color=INK,
                )  # fmt: skip
        axes.margins(y=0.12)
        return figure
