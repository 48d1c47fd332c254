"""How long until 85 % of CIFAR-10's test images, and how fast others' training loops go.

The whole trainings come only with `--time-to-accuracy-runs N`, N seeds, a process each, as a user starts them. The
peers are timed for a few steps, loading included; a time to 85 % is derived from that rate and their authors' epochs.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from measure import Measure, checks_itself
from peers.albumentations_dataloader import albumentations_dataloader
from peers.course_training import course_training
from peers.plain_network import NETWORKS
from peers.resident_torch import ResidentTorch
from peers.tuned_training import TunedStep, tuned_training
from record import Work
from scipy.stats import t as student_t
from trainings import train

from fastcifar.augment.requirements import require_albumentations
from fastcifar.config import Config, RuntimeConfig
from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.load import load_dataset
from fastcifar.dataset.statistics import channel_statistics
from fastcifar.errors import DataError, DeviceError
from fastcifar.loader.resident import ResidentLoader
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime
from fastcifar.settings import resolve
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.step import TrainingStep

TARGET = 85
SHORT_STEPS = 2
LEARNING_RATE = 1e-3
WHOLE = "to the end of the schedule"
COURSE, TUNED, OURS = "course pipeline", "plain PyTorch, tuned", "fastcifar"
KEPT = (
    *("val_acc", "time_to_target_s", "train_time_s", "cold_time_s", "warmup_time_s", "images_per_second"),
    *("epochs", "parameters", "used"),
)


@dataclass(frozen=True)
class Case:
    """A recipe.

    Attributes:
        steps: of a turn.
        epochs: after which the author of its network had 85 %; None: it is fastcifar's own.
    """

    recipe: str
    steps: int
    epochs: int | None = None


CASES = (Case("speed", 3), Case("assignment-151k", 2, 36), Case("assignment-98k", 2, 64))


@pytest.fixture(scope="module")
def cifar10() -> Dataset:
    try:
        return load_dataset("cifar10", None, offline=True)
    except DataError:
        pytest.skip("CIFAR-10 is nowhere (FASTCIFAR_DATA_DIR)")


def bench_time_to_85_percent(measure: Measure, request: pytest.FixtureRequest) -> None:
    """The clock runs from the first training step to the end of the evaluation that counts, evaluations inside it.

    Every seed trains to the end of the schedule, so one run tells both its accuracy there and when it had 85 %:
    stopping then (`--target`) would have changed nothing before.
    """
    runs = request.config.getoption("time_to_accuracy_runs")
    if not runs:
        pytest.skip("minutes a seed: --time-to-accuracy-runs N")
    request.getfixturevalue("cifar10")
    results: list[dict[str, Any]] = []

    def training() -> float:
        result = train("--recipe", "speed", "--amp", "--compile", "--seed", str(len(results)))
        results.append(result | {"time_to_target_s": time_to_target(result["history"])})
        return result["train_time_s"]

    record = measure(
        f"time to {TARGET} %: recipe speed",
        {WHOLE: training},
        baseline=WHOLE,
        check=checks_itself,
        work=Work("s"),
        rounds=runs,
    )
    row = record["subjects"][WHOLE]
    row["note"] = told(results)
    row["results"] = [{key: result[key] for key in KEPT} for result in results]


def time_to_target(history: list[dict[str, Any]]) -> float | None:
    """Seconds from the first step to the end of the first evaluation that reads the target; None: none does."""
    evaluated = (epoch for epoch in history if epoch["val_accuracy"] is not None)
    return next((epoch["train_time_s"] for epoch in evaluated if epoch["val_accuracy"] >= TARGET), None)


def told(results: list[dict[str, Any]]) -> str:
    """How many reached the target and when, with what accuracy they ended, and the time from the process' start."""
    reached = [result["time_to_target_s"] for result in results if result["time_to_target_s"] is not None]
    last = _interval([result["val_acc"] for result in results], 2)
    cold = _interval([result["cold_time_s"] for result in results], 1)
    when = f" after {_interval(reached, 1)} s" if reached else ""
    return f"{len(reached)} of {len(results)} had {TARGET} %{when}; last epoch {last} %; processes {cold} s"


def _interval(values: list[float], digits: int) -> str:
    """Mean and the half width of its 95 % interval (Student's t), where there are two values."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    width = float(student_t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return f"{mean(values):.{digits}f} +- {width:.{digits}f}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.recipe)
def bench_peers(measure: Measure, cifar10: Dataset, case: Case, short: bool) -> None:
    """The course's pipeline, a tuned plain PyTorch script and our trainer on the same network: images/s of training.

    A turn is an epoch over a few batches' worth of images, loading included, so that no loader reads ahead into the
    turn of another. Optimizers are each side's own: plain SGD, and the recipe's.
    """
    config = resolve(case.recipe, environment={}).config
    images = (SHORT_STEPS if short else case.steps) * config.training.batch_size
    few = dataclasses.replace(cifar10, train=cifar10.train.take(np.arange(images)))
    subjects: dict[str, Callable[[], Any]] = {}
    left_out = {}
    for name, start in {COURSE: _course, TUNED: _tuned, OURS: _ours}.items():
        try:
            subjects[name] = _whole_epoch(start(config, few), images)
        except DeviceError as error:
            left_out[name] = str(error)
    after = f", its author's {case.epochs} epochs to {TARGET} %" if case.epochs else ""
    measure(
        f"training: cpu, {case.recipe}, 32 pixels, batch {config.training.batch_size}{after}",
        subjects,
        baseline=TUNED,
        check=lambda: _check_networks(config.model.name),
        work=Work("images/s", images),
        left_out=left_out,
    )


def _whole_epoch(start: Callable[[], Iterator[int]], images: int) -> Callable[[], None]:
    def epoch() -> None:
        trained = sum(start())
        assert trained == images, f"{trained} of {images} images"

    return epoch


def _check_networks(name: str) -> None:
    """Ours and the plain one are the same function of the same weights."""
    torch.manual_seed(0)
    model, images = build_model(name).eval(), torch.randn(4, 3, 32, 32)
    plain = _plain_network(name).eval()
    plain.load_state_dict(model.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(plain(images), model(images), rtol=1e-4, atol=1e-4)


def _plain_network(name: str) -> torch.nn.Module:
    """The assignments' networks are torch's own modules already."""
    return NETWORKS[name]() if name in NETWORKS else build_model(name)


def _course(config: Config, dataset: Dataset) -> Callable[[], Iterator[int]]:
    require_albumentations()
    loader = albumentations_dataloader(*_arrays(config, dataset), **_pictures(config, dataset), workers=2)
    model = _plain_network(config.model.name)
    return lambda: course_training(model, loader, LEARNING_RATE, config.optimizer.weight_decay)


def _tuned(config: Config, dataset: Dataset) -> Callable[[], Iterator[int]]:
    loader = ResidentTorch(*_arrays(config, dataset), **_pictures(config, dataset), device="cpu")
    step = TunedStep(
        _plain_network(config.model.name),
        LEARNING_RATE,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        label_smoothing=config.training.label_smoothing,
    )
    return lambda: tuned_training(step, loader)


def _ours(config: Config, dataset: Dataset) -> Callable[[], Iterator[int]]:
    model = build_model(config.model.name).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    own: dict[str, Any] = {"seed": 0, "device": "cpu", "dtype": torch.float32, "shuffle": True, "drop_last": True}
    loader = ResidentLoader(*_arrays(config, dataset), **_pictures(config, dataset), **own)
    optimizer = build_optimizer(model, config.optimizer, "fused")
    runtime = choose_runtime(RuntimeConfig(device="cpu"))
    step = TrainingStep(model, optimizer, None, runtime, config.training.label_smoothing)

    def steps() -> Iterator[int]:
        for images, labels in loader:
            step(images, labels, LEARNING_RATE)
            yield len(labels)

    return steps


def _arrays(config: Config, dataset: Dataset) -> tuple[Any, Any, int]:
    return dataset.train.images, dataset.train.labels, config.training.batch_size


def _pictures(config: Config, dataset: Dataset) -> dict[str, Any]:
    statistics = channel_statistics(dataset.train.images)
    return {"policy": config.augment, "mean": statistics.mean, "std": statistics.std}
