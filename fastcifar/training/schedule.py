"""The learning rate over a run, stated in examples so that it means the same at every batch size."""

from dataclasses import dataclass

from fastcifar.config import ScheduleConfig


@dataclass(frozen=True)
class OneCycle:
    """A linear rise from zero to the peak, then a linear fall (one cycle after Smith and Topin, arXiv 1708.07120).

    Attributes:
        peak: highest learning rate.
        warmup_examples: training images over which it rises.
        total_examples: training images of the whole run.
        final_share: learning rate at the end over the peak.
    """

    peak: float
    warmup_examples: float
    total_examples: int
    final_share: float

    @classmethod
    def from_config(cls, config: ScheduleConfig, peak: float, examples_per_epoch: int) -> "OneCycle":
        """The schedule of a run of `config.epochs` epochs of `examples_per_epoch` images each."""
        total = config.epochs * examples_per_epoch
        return cls(peak, config.warmup * total, total, config.final_lr)

    def learning_rate(self, examples: float) -> float:
        """Learning rate after `examples` training images (the middle of a batch stands for its step)."""
        if examples < self.warmup_examples:
            return self.peak * examples / self.warmup_examples
        left = max(0.0, self.total_examples - examples) / (self.total_examples - self.warmup_examples)
        return self.peak * (self.final_share + (1 - self.final_share) * left)


@dataclass(frozen=True)
class StepDecay:
    """The peak, multiplied by gamma each time that so many images have passed, as torch's StepLR does by epochs.

    Attributes:
        peak: learning rate at the start.
        step_examples: training images between two drops.
        gamma: what a drop multiplies it by.
    """

    peak: float
    step_examples: int
    gamma: float

    @classmethod
    def from_config(cls, config: ScheduleConfig, peak: float, examples_per_epoch: int) -> "StepDecay":
        """The schedule whose learning rate drops after every `config.step_size` epochs."""
        return cls(peak, config.step_size * examples_per_epoch, config.gamma)

    def learning_rate(self, examples: float) -> float:
        """Learning rate after `examples` training images."""
        return self.peak * self.gamma ** int(examples // self.step_examples)


def build_schedule(config: ScheduleConfig, peak: float, examples_per_epoch: int) -> OneCycle | StepDecay:
    """The schedule that `config.kind` names."""
    kind = StepDecay if config.kind == "step" else OneCycle
    return kind.from_config(config, peak, examples_per_epoch)
