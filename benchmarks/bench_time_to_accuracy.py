"""How long until 85 % of CIFAR-10's test images, and what the course's own pipeline would take there.

The whole trainings come first, a process each, as a user starts them; `--time-to-accuracy-runs N` sets how many seeds.
The peers are timed for a few dozen steps, in turn; their time to 85 % is that rate times their authors' epochs.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from statistics import mean, median, stdev
from typing import Any

import pytest
import torch
from peers.albumentations_dataloader import albumentations_dataloader
from peers.course_training import course_training
from scipy.stats import t as student_t
from trainings import train

from fastcifar.config import Config
from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.load import load_dataset
from fastcifar.dataset.statistics import channel_statistics
from fastcifar.errors import DataError
from fastcifar.loader.resident import ResidentLoader
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime
from fastcifar.settings import resolve
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.step import TrainingStep

TARGET = 85
TRAINING_IMAGES = 50_000
ROUNDS, STEPS = 3, 6


@dataclass(frozen=True)
class Published:
    """A published answer to the assignment: its recipe here, and the epochs after which its author had 85 %."""

    recipe: str
    epochs: int


PUBLISHED = (Published("assignment-151k", 36), Published("assignment-98k", 64))


@pytest.fixture(scope="module")
def cifar10() -> Dataset:
    try:
        return load_dataset("cifar10", None, offline=True)
    except DataError:
        pytest.skip("CIFAR-10 is nowhere (FASTCIFAR_DATA_DIR)")


@pytest.mark.parametrize("end", ["at the target", "at the end of the schedule"])
def bench_time_to_85_percent(benchmark: Any, request: pytest.FixtureRequest, cifar10: Dataset, end: str) -> None:
    """The clock runs from the first training step to the end of the evaluation that counts, evaluations inside it."""
    runs = request.config.getoption("time_to_accuracy_runs")
    target = ["--target", str(TARGET)] if end == "at the target" else []
    seeds = itertools.count()
    results = []

    def run() -> None:
        flags = ["--recipe", "speed", "--amp", "--compile", "--seed", str(next(seeds)), *target]
        results.append(train(*flags))

    benchmark.pedantic(run, rounds=runs)
    benchmark.extra_info["time_to_accuracy"] = _summary(results, end)


def _summary(results: list[dict[str, Any]], end: str) -> dict[str, Any]:
    accuracies = [result["val_acc"] for result in results]
    if end == "at the target":
        seconds = [result["time_to_target_s"] for result in results if result["target_reached"]]
    else:
        seconds = [result["train_time_s"] for result in results]
    keys = (
        "val_acc",
        "train_time_s",
        "time_to_target_s",
        "cold_time_s",
        "warmup_time_s",
        "images_per_second",
        "epochs",
    )
    return {
        "end": end,
        "runs": len(results),
        f"at_least_{TARGET}": sum(accuracy >= TARGET for accuracy in accuracies),
        "accuracy": _interval(accuracies),
        "seconds": _interval(seconds),
        "cold_seconds": _interval([result["cold_time_s"] for result in results]),
        "used": results[0]["used"],
        "results": [{key: result[key] for key in keys} for result in results],
    }


def _interval(values: list[float]) -> dict[str, float | None]:
    """Mean and the half width of its 95 % interval (Student's t); None where there are too few values."""
    if not values:
        return {"mean": None, "half_width": None}
    width = None
    if len(values) > 1:
        width = float(student_t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return {"mean": mean(values), "half_width": width}


def bench_peers(benchmark: Any, cifar10: Dataset) -> None:
    """The course's pipeline and our trainer on the same networks, and our recipe: images/s of training steps."""
    entries: dict[str, Callable[[], Iterator[int]]] = {"fastcifar, recipe speed, 32 pixels": _ours("speed", cifar10)}
    for published in PUBLISHED:
        entries[f"course pipeline, {published.recipe}"] = _course(published.recipe, cifar10)
        entries[f"fastcifar, {published.recipe}"] = _ours(published.recipe, cifar10)
    rates: dict[str, list[float]] = {name: [] for name in entries}

    def measure() -> None:
        for name, start in entries.items():
            steps = start()
            for _ in range(2):
                next(steps)
            began = time.perf_counter()
            images = sum(itertools.islice(steps, STEPS))
            rates[name].append(images / (time.perf_counter() - began))

    benchmark.pedantic(measure, rounds=ROUNDS)
    rows = {}
    for name, found in rates.items():
        epochs = next((published.epochs for published in PUBLISHED if published.recipe in name), None)
        rows[name] = {
            "images_per_second": found,
            "epochs_of_its_author": epochs,
            "seconds_to_85_derived": epochs * TRAINING_IMAGES / median(found) if epochs else None,
        }
    benchmark.extra_info["peers"] = rows


def _course(recipe: str, dataset: Dataset) -> Callable[[], Iterator[int]]:
    config = resolve(recipe, environment={}).config
    statistics = channel_statistics(dataset.train.images)
    model = build_model(config.model.name)
    loader = albumentations_dataloader(
        dataset.train.images,
        dataset.train.labels,
        config.training.batch_size,
        policy=config.augment,
        mean=statistics.mean,
        std=statistics.std,
        workers=2,
    )
    return lambda: course_training(model, loader, 1e-3, config.optimizer.weight_decay)


def _ours(recipe: str, dataset: Dataset) -> Callable[[], Iterator[int]]:
    config = resolve(recipe, environment={}).config
    statistics = channel_statistics(dataset.train.images)
    model = build_model(config.model.name).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    loader = ResidentLoader(
        dataset.train.images,
        dataset.train.labels,
        config.training.batch_size,
        policy=config.augment,
        mean=statistics.mean,
        std=statistics.std,
        seed=0,
        device="cpu",
        dtype=torch.float32,
        shuffle=True,
        drop_last=True,
    )
    step = _step(model, config)

    def steps() -> Iterator[int]:
        for images, labels in loader:
            loss, _ = step(images, labels, 1e-3)
            loss.item()
            yield len(labels)

    return steps


def _step(model: torch.nn.Module, config: Config) -> TrainingStep:
    optimizer = build_optimizer(model, config.optimizer, "fused")
    runtime = choose_runtime(config.runtime)
    return TrainingStep(model, optimizer, None, runtime, config.training.label_smoothing)
