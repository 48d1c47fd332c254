"""What a run tells whoever watches it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RunPlan:
    """Known before the first step.

    Attributes:
        title: the run's network, data and seed in a few words.
        epochs: planned epochs.
        first_epoch: the epoch that comes first (above 0 in a resumed run).
        steps_per_epoch: optimisation steps of each.
        evaluated_on: "test" or "holdout".
    """

    title: str
    epochs: int
    first_epoch: int
    steps_per_epoch: int
    evaluated_on: str


@dataclass(frozen=True)
class EpochRecord:
    """One line of `epochs.jsonl` and one row of `epochs.csv`.

    Attributes:
        epoch: counted from 1.
        image_size: side of the training images in pixels.
        train_loss: mean over the epoch's batches, in nats, label smoothing included.
        train_accuracy: percent, on the augmented batches as they were trained on.
        val_loss: cross-entropy on the evaluated split in nats; None where the epoch was not evaluated.
        val_accuracy: percent on the evaluated split; None likewise.
        learning_rate: of the epoch's last step.
        images_per_second: training images over the time spent in training steps.
        seconds: the epoch's share of train_time_s.
        train_time_s: from the run's first step to the end of the epoch's evaluation.
    """

    epoch: int
    image_size: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    images_per_second: float
    seconds: float
    train_time_s: float


class Observer:
    """Does nothing; subclasses override what they want to show or keep."""

    def message(self, text: str) -> None:
        """A line of explanation, such as why a device was chosen."""

    def warning(self, text: str) -> None:
        """A line about something that was asked for and is not had."""

    def run_started(self, plan: RunPlan) -> None:
        """Everything is loaded and the first step comes next."""

    def steps_done(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        """The loss was looked at after `step` steps of `epoch` (both counted from 1)."""

    def epoch_done(self, record: EpochRecord) -> None:
        """An epoch and its evaluation ended."""

    def run_ended(self) -> None:
        """The run is over, whether finished, interrupted or failed."""
