"""The configuration of a run: sections of plain values, each with its range. settings.py says where they come from."""

import dataclasses
import math
import typing
from dataclasses import dataclass, field
from typing import Any

from fastcifar.augment.policy import AugmentPolicy
from fastcifar.errors import UsageError


def _require(holds: bool, key: str, value: object, allowed: str) -> None:
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(f"{key} = {value!r} is out of range", f"allowed: {allowed}")


@dataclass(frozen=True)
class DataConfig:
    """Which images are used."""

    dataset: str = "cifar10"  # cifar10 | shapes10 (built in, needs no files)
    dir: str = ""  # folder or archive with CIFAR-10; empty: ./data, then the cache
    offline: bool = False  # never touch the network
    holdout: int = 0  # train images set aside and evaluated instead of the test images

    def __post_init__(self) -> None:
        _require(self.dataset in ("cifar10", "shapes10"), "data.dataset", self.dataset, "cifar10, shapes10")
        _require(self.holdout >= 0, "data.holdout", self.holdout, "0 or more images")


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are made."""

    kind: str = "auto"  # auto | resident | dali | workers
    workers: int = 2  # processes of the workers loader
    draws: str = "fastcifar"  # whose randomness the dali loader augments with: fastcifar | dali (its own operators')

    def __post_init__(self) -> None:
        kinds = ("auto", "resident", "dali", "workers")
        _require(self.kind in kinds, "loader.kind", self.kind, ", ".join(kinds))
        _require(0 <= self.workers <= 256, "loader.workers", self.workers, "0 to 256 processes")
        _require(self.draws in ("fastcifar", "dali"), "loader.draws", self.draws, "fastcifar, dali")
        if self.draws == "dali" and self.kind != "dali":
            raise UsageError(f'loader.draws = "dali" with loader.kind = "{self.kind}"', "add --loader dali")


@dataclass(frozen=True)
class ModelConfig:
    """Which network is trained."""

    name: str = "c1c2c3c40-speed"
    whiten_stem: bool = True  # freeze the first convolution to whiten patches of the training images


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with Nesterov momentum; biases and batch-norm form a group of their own, and convolutions may take Muon."""

    learning_rate: float = 2.0  # peak of the schedule, as SGD applies it to the batch mean
    momentum: float = 0.9
    weight_decay: float = 5e-4  # of convolution and linear weights; biases and batch-norm have none
    bias_lr_scale: float = 16.0  # learning rate of biases and batch-norm over that of the weights
    muon_lr: float = 0.0  # peak learning rate of convolutions that mix channels, under Muon; 0: SGD for them too
    backend: str = "auto"  # auto | fused (one launch, the average included) | torch | apex (NVIDIA's)

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "above 0")
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "0 to below 1")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        _require(self.bias_lr_scale > 0, "optimizer.bias_lr_scale", self.bias_lr_scale, "above 0")
        _require(0 <= self.muon_lr <= 10, "optimizer.muon_lr", self.muon_lr, "0 to 10")
        kinds = ("auto", "fused", "torch", "apex")
        _require(self.backend in kinds, "optimizer.backend", self.backend, ", ".join(kinds))


@dataclass(frozen=True)
class ScheduleConfig:
    """How long a run is, and how learning rate and image size change on the way."""

    epochs: int = 10
    kind: str = "one-cycle"  # one-cycle (warmup and final_lr shape it) | step (step_size and gamma do)
    warmup: float = 0.2  # share of the run in which the learning rate rises to its peak
    final_lr: float = 0.0  # learning rate at the end, as a share of the peak
    step_size: int = 10  # epochs after which the learning rate drops, each time
    gamma: float = 0.1  # what it is multiplied by then
    image_sizes: tuple[tuple[float, int], ...] = ((0.0, 32),)  # (from this share of the epochs on, pixels)

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "schedule.epochs", self.epochs, "1 or more")
        _require(self.kind in ("one-cycle", "step"), "schedule.kind", self.kind, "one-cycle, step")
        _require(0 <= self.warmup < 1, "schedule.warmup", self.warmup, "0 to below 1")
        _require(0 <= self.final_lr <= 1, "schedule.final_lr", self.final_lr, "0 to 1")
        _require(self.step_size >= 1, "schedule.step_size", self.step_size, "1 or more epochs")
        _require(0 < self.gamma <= 1, "schedule.gamma", self.gamma, "above 0 to 1")
        starts = [start for start, _ in self.image_sizes]
        _require(
            bool(starts) and starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] < 1,
            "schedule.image_sizes",
            self.image_sizes,
            "pairs [share, pixels] whose shares start at 0 and rise to below 1",
        )
        _require(
            all(8 <= size <= 64 for _, size in self.image_sizes),
            "schedule.image_sizes",
            self.image_sizes,
            "sizes of 8 to 64 pixels",
        )

    def image_size(self, epoch: int) -> int:
        """Side in pixels of the training images in an epoch (counted from 0)."""
        share = epoch / self.epochs
        return next(size for start, size in reversed(self.image_sizes) if share >= start - 1e-9)


@dataclass(frozen=True)
class TrainingConfig:
    """What a run optimises, how often, and when it ends."""

    batch_size: int = 512
    seed: int = 0
    runs: int = 1  # seeds seed, seed + 1, ...
    label_smoothing: float = 0.1
    ema_decay: float = 0.98  # of the weights' moving average, a step; 0: evaluate the raw weights
    target: float = 0.0  # percent; a run stops at the first evaluation that reaches it; 0: none
    evaluate_from: float = 0.0  # share of the epochs before which nothing is evaluated
    log_every: int = 20  # steps between two looks at the loss (each waits for the device); with graphs, an epoch

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, "training.batch_size", self.batch_size, "1 or more")
        _require(0 <= self.seed < 2**63, "training.seed", self.seed, "0 to 2^63 - 1")
        _require(self.runs >= 1, "training.runs", self.runs, "1 or more")
        _require(0 <= self.label_smoothing < 1, "training.label_smoothing", self.label_smoothing, "0 to below 1")
        _require(0 <= self.ema_decay < 1, "training.ema_decay", self.ema_decay, "0 to below 1")
        _require(0 <= self.target <= 100, "training.target", self.target, "0 to 100 percent")
        _require(0 <= self.evaluate_from <= 1, "training.evaluate_from", self.evaluate_from, "0 to 1")
        _require(self.log_every >= 1, "training.log_every", self.log_every, "1 or more steps")


@dataclass(frozen=True)
class RuntimeConfig:
    """On what and how the arithmetic runs; runtime.py says what is used of it, and why."""

    device: str = "auto"  # auto | cpu | cuda | cuda:N
    amp: bool = True  # mixed precision where it pays
    amp_dtype: str = "auto"  # auto (bf16) | bf16 | fp16 (with a gradient scaler)
    compile: bool = False  # torch.compile
    graph: bool = True  # steps and evaluation captured in CUDA graphs where that can be done
    threads: int = 0  # CPU threads; 0: as many as the process may use
    deterministic: bool = False  # algorithms that repeat to the bit, where torch has them
    profile: bool = False  # trace a few steps of the run: what takes the time
    strict: bool = False  # what was asked for and cannot be had is an error

    def __post_init__(self) -> None:
        kinds = ("auto", "bf16", "fp16")
        _require(self.amp_dtype in kinds, "runtime.amp_dtype", self.amp_dtype, ", ".join(kinds))
        _require(0 <= self.threads <= 1024, "runtime.threads", self.threads, "0 to 1024")


@dataclass(frozen=True)
class LogConfig:
    """Where else a run is written besides its folder."""

    tensorboard: bool = False  # event files in the run folder
    wandb: bool = False  # Weights & Biases, which WANDB_MODE=offline keeps off the network


@dataclass(frozen=True)
class Config:
    """A whole run. Every section is frozen; `to_dict` and `config_from_dict` round-trip."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentPolicy = field(default_factory=AugmentPolicy)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Sections of plain values, ready for JSON."""
        return dataclasses.asdict(self)


SECTIONS: dict[str, type] = {f.name: typing.get_type_hints(Config)[f.name] for f in dataclasses.fields(Config)}
KEY_TYPES: dict[str, Any] = {
    f"{section}.{key}": hint for section, cls in SECTIONS.items() for key, hint in typing.get_type_hints(cls).items()
}
