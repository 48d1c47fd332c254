"""Small, quick training runs for the tests of the loop."""

from pathlib import Path
from typing import Any

import torch

from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.statistics import channel_statistics
from fastcifar.loader.choose import LoaderChoice
from fastcifar.runtime import choose_runtime
from fastcifar.settings import resolve
from fastcifar.training.checkpoint import load_weights
from fastcifar.training.material import Material
from fastcifar.training.observer import EpochRecord, Observer
from fastcifar.training.optimizer_choice import with_optimizer
from fastcifar.training.runs import train_runs

SETTINGS = [
    "schedule.epochs=3",
    "schedule.image_sizes=[[0.0, 16], [0.6, 32]]",
    "training.batch_size=50",
    "training.log_every=3",
    "optimizer.learning_rate=0.2",
    "optimizer.bias_lr_scale=2.0",
    "runtime.device=cpu",
    "runtime.amp=false",
    "runtime.compile=false",
    "runtime.threads=1",
]


def make_material(dataset: Dataset, *settings: str) -> Material:
    resolved = resolve("demo", settings=[*SETTINGS, *settings], environment={})
    statistics = channel_statistics(dataset.train.images)
    choice = LoaderChoice(resolved.config.loader.kind.replace("auto", "resident"), "test")
    runtime = with_optimizer(choose_runtime(resolved.config.runtime), resolved.config.optimizer)
    return Material(resolved, runtime, dataset, statistics, choice)


class Recorder(Observer):
    def __init__(self) -> None:
        self.records: list[EpochRecord] = []
        self.looks: list[tuple[int, int, float]] = []
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def steps_done(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        self.looks.append((epoch, step, loss))

    def epoch_done(self, record: EpochRecord) -> None:
        self.records.append(record)


def run(material: Material, folder: Path, observer: Observer | None = None, **arguments: Any) -> dict[str, Any]:
    return train_runs(material, observer or Observer(), folder, process_started=0.0, **arguments)


def weights(folder: str | Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_weights(Path(folder) / f"{name}.safetensors")[0]


def assert_same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")
